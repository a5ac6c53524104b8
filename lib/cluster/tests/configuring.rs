//! What people configured, from an API server in memory to what is in force.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Duration;

use ferrolb_cluster::{ConfigurationFeed, ConfigurationStores, Status, WatchConfig};
use ferrolb_rules::LastGood;
use ferrolb_testing::{ApiServer, objects};
use serde_json::{Value, json};
use tokio::sync::Notify;

const SYSTEM: &str = "metallb-system";
const POOLS: &str = "apis/metallb.io/v1beta1/ipaddresspools";

fn pool(annotations: Value) -> Value {
    let mut pool = objects::pool(SYSTEM, "p", &["10.0.0.0/24"]);
    pool["metadata"]["annotations"] = annotations;
    pool
}

async fn changed(feed: &ConfigurationFeed, notify: &Notify) {
    let change = async {
        while !feed.take() {
            notify.notified().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), change)
        .await
        .expect("a change within a minute");
}

#[tokio::test(start_paused = true)]
async fn an_annotation_that_rules_read_wakes_and_any_other_does_not() {
    for status in [Status::Kept, Status::Dropped] {
        let server = ApiServer::default();
        server.put(POOLS, pool(json!({})));
        let config = WatchConfig::most_recent();
        let stores = ConfigurationStores::watch(&server.client(), SYSTEM, &config, status);
        stores.ready().await;
        let notify = Arc::new(Notify::new());
        let feed = stores.subscribe_with(&notify);
        let _ = feed.take();
        server.put(POOLS, pool(json!({"example.com/owner": "me"})));
        server.put(
            POOLS,
            pool(json!({"example.com/owner": "me", "ferrolb.io/reuse-hold": "10m"})),
        );
        changed(&feed, &notify).await;
        let (configuration, refusals) = stores.read(&mut LastGood::default());
        assert!(refusals.is_empty());
        assert_eq!(configuration.pools["p"].reuse_hold, 600);
        let stored = stores.pools.snapshot();
        let annotations = stored.values().next().unwrap().metadata.annotations.clone();
        assert_eq!(
            annotations.unwrap().len(),
            1,
            "what nobody reads is not kept"
        );

        server.put(POOLS, pool(json!({"example.com/owner": "you"})));
        changed(&feed, &notify).await;
        let (configuration, _) = stores.read(&mut LastGood::default());
        assert_eq!(configuration.pools["p"].reuse_hold, 0);
        server.put(POOLS, pool(json!({"example.com/owner": "nobody"})));
        // The clock stands still while anything has something to do: all that is going to happen has happened then.
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(!feed.take());
    }
}
