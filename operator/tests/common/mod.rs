//! The operator's loop against an API server in memory.
#![allow(dead_code)]

use std::time::Duration;

use ferrolb_cluster::{EventPublisher, Leadership};
use ferrolb_operator::metrics::Metrics;
use ferrolb_operator::run::{Run, Stores};
use ferrolb_testing::{ApiServer, objects};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub const SERVICES: &str = "api/v1/services";
pub const NAMESPACES: &str = "api/v1/namespaces";
pub const POOLS: &str = "apis/metallb.io/v1beta1/ipaddresspools";
pub const SYSTEM: &str = "metallb-system";

pub fn start(server: &ApiServer) -> CancellationToken {
    let stores = Stores::watch(&server.client(), SYSTEM, None);
    start_with(server, stores)
}

/// A process that begins to lead after its watches heard the last.
pub async fn start_stale(server: &ApiServer, meanwhile: impl FnOnce()) -> CancellationToken {
    let stores = Stores::watch(&server.client(), SYSTEM, None);
    until("the stores are complete", || stores.is_ready()).await;
    // The first event may still be on its way.
    rest().await;
    server.hang_watches();
    meanwhile();
    start_with(server, stores)
}

pub fn start_with(server: &ApiServer, stores: Stores) -> CancellationToken {
    for name in ["default", "other"] {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        if server.get(NAMESPACES, "", name).is_none() {
            server.put(NAMESPACES, namespace);
        }
    }
    let client = server.client();
    let stop = CancellationToken::new();
    let run = Run::new(
        &client,
        stores,
        EventPublisher::start(client.clone(), "metallb-controller", "operator-1"),
        Leadership::alone(),
        Metrics::register(&mut Registry::default()),
        false,
    );
    tokio::spawn(run.run(stop.clone()));
    stop
}

pub fn pool(name: &str, addresses: &[&str], created: &str) -> Value {
    let mut pool = objects::pool(SYSTEM, name, addresses);
    pool["metadata"]["creationTimestamp"] = json!(created);
    pool["metadata"]["uid"] = json!(name);
    pool
}

pub fn address(server: &ApiServer, service: &str) -> Option<String> {
    let service = server.get(SERVICES, "default", service)?;
    let ip = &service["status"]["loadBalancer"]["ingress"][0]["ip"];
    ip.as_str().map(str::to_owned)
}

pub fn with_address(name: &str, address: &str) -> Value {
    let mut service = objects::service("default", name);
    service["status"] = json!({"loadBalancer": {"ingress": [{"ip": address}]}});
    service
}

/// Waits until it holds. The clock of these tests stands still while anything has something to do, so the minute is one of
/// nothing but waiting.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..12_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never came true: {what}");
}

/// Lets everything happen that is going to.
pub async fn rest() {
    tokio::time::sleep(Duration::from_secs(10)).await;
}
