//! Stores against an API server in memory: lists, relists, faults, objects that do not parse.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use ferrolb_api::ObjectKey;
use ferrolb_api::v1beta1::IPAddressPool;
use ferrolb_cluster::{ChangeFeed, Changes, Store, WatchConfig, watch, watch_part};
use ferrolb_testing::{ApiServer, objects};
use k8s_openapi::api::core::v1::Service;
use serde_json::json;

const SERVICES: &str = "api/v1/services";
const POOLS: &str = "apis/metallb.io/v1beta1/ipaddresspools";

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

/// The label `v` is all that this projection reads.
fn label(service: &Service) -> Option<String> {
    let labels = service.metadata.labels.clone().unwrap_or_default();
    Some(labels.get("v").cloned().unwrap_or_default())
}

fn labelled(name: &str, v: &str) -> serde_json::Value {
    let mut service = objects::service("default", name);
    service["metadata"]["labels"] = json!({ "v": v });
    service
}

fn watch_services(server: &ApiServer, config: WatchConfig) -> Store<String> {
    watch(&server.client(), config, label)
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what)
        .await
        .expect("it happens within a minute")
}

fn names(changes: Changes) -> Vec<String> {
    changes
        .keys
        .into_iter()
        .map(|key| key.name().to_owned())
        .collect()
}

/// Collects changes until this key is among them, since each event may be its own wake-up.
async fn until_touched(feed: &ChangeFeed, name: &str) -> Vec<String> {
    let mut seen = Vec::new();
    while !seen.iter().any(|seen| seen == name) {
        seen.extend(names(soon(feed.next()).await));
    }
    seen
}

#[tokio::test]
async fn an_object_that_loses_the_label_of_the_selection_is_gone() {
    for config in [
        WatchConfig::most_recent(),
        WatchConfig::streamed().with_versions(),
    ] {
        let server = ApiServer::default();
        server.put(SERVICES, labelled("a", "1"));
        server.put(SERVICES, labelled("b", "2"));
        let store = watch_services(&server, config.labels("v=1"));
        soon(store.ready()).await;
        assert_eq!((store.len(), store.get(&key("b")).is_some()), (1, false));
        let version = store.get(&key("a")).unwrap().resource_version().to_owned();
        assert_ne!(version, "");
        let feed = store.subscribe();
        feed.take();
        server.put(SERVICES, labelled("a", "2"));
        until_touched(&feed, "a").await;
        assert!(store.is_empty());
    }
}

#[tokio::test]
async fn a_store_lists_in_pages_then_follows_events() {
    let server = ApiServer::default();
    for n in 0..1234 {
        server.put(SERVICES, labelled(&format!("svc-{n}"), "1"));
    }
    let store = watch_services(&server, WatchConfig::most_recent());
    let feed = store.subscribe();
    soon(store.ready()).await;
    assert!(soon(feed.next()).await.all);
    assert_eq!(store.len(), 1234);
    let lists = server
        .seen()
        .iter()
        .filter(|seen| seen.query.contains("limit=500"))
        .count();
    assert_eq!(lists, 3, "1234 objects come in three pages");

    server.put(SERVICES, labelled("svc-7", "2"));
    assert_eq!(until_touched(&feed, "svc-7").await, ["svc-7"]);
    assert_eq!(*store.get(&key("svc-7")).unwrap(), "2");
    assert!(store.is_connected());
    server.delete(SERVICES, "default", "svc-7");
    assert_eq!(until_touched(&feed, "svc-7").await, ["svc-7"]);
    assert_eq!(store.len(), 1233);
}

#[tokio::test]
async fn objects_that_vanished_before_a_relist_are_reported_and_unchanged_ones_are_not() {
    let server = ApiServer::default();
    for name in ["stays", "vanishes", "changes"] {
        server.put(SERVICES, labelled(name, "1"));
    }
    for config in [WatchConfig::most_recent(), WatchConfig::streamed()] {
        server.put(SERVICES, labelled("vanishes", "1"));
        let store = watch_services(&server, config);
        soon(store.ready()).await;
        let feed = store.subscribe();
        feed.take();
        server.compact(|server| {
            server.delete(SERVICES, "default", "vanishes");
            server.put(
                SERVICES,
                labelled("changes", &format!("{}", server.seen().len())),
            );
        });
        let mut seen = until_touched(&feed, "vanishes").await;
        seen.sort();
        assert_eq!(seen, ["changes", "vanishes"]);
        assert!(store.get(&key("vanishes")).is_none());
        assert!(store.get(&key("stays")).is_some());
    }
}

#[tokio::test]
async fn a_store_that_is_asked_to_reads_again_whatever_its_watch_says() {
    let server = ApiServer::default();
    server.put(SERVICES, labelled("a", "1"));
    for config in [WatchConfig::most_recent(), WatchConfig::streamed()] {
        let store = watch_services(&server, config);
        soon(store.ready()).await;
        let feed = store.subscribe();
        feed.take();
        server.hang_watches();
        let value = format!("{}", server.seen().len());
        server.put(SERVICES, labelled("a", &value));
        server.put(SERVICES, labelled("b", "1"));
        soon(store.relist()).await;
        assert_eq!(*store.get(&key("a")).unwrap(), value.as_str());
        assert!(store.get(&key("b")).is_some());
        assert!(feed.take().touches(&key("a")));
        // And it goes on from there.
        server.put(SERVICES, labelled("c", &value));
        until_touched(&feed, "c").await;
        server.delete(SERVICES, "default", "b");
        until_touched(&feed, "b").await;
    }
}

#[tokio::test]
async fn a_server_that_streams_no_lists_is_read_in_pages() {
    let server = ApiServer::default();
    server.refuse_streamed_lists();
    server.put(SERVICES, labelled("a", "1"));
    let store = watch_services(&server, WatchConfig::streamed());
    soon(store.ready()).await;
    assert_eq!(store.len(), 1);
}

#[tokio::test]
async fn a_streamed_list_asks_for_one_watch_and_no_list() {
    let server = ApiServer::default();
    server.put(SERVICES, labelled("a", "1"));
    let store = watch_services(&server, WatchConfig::streamed());
    soon(store.ready()).await;
    assert_eq!(store.len(), 1);
    assert!(
        server
            .seen()
            .iter()
            .all(|seen| seen.query.contains("watch=true"))
    );
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_server_is_retried_for_ever_but_not_in_a_busy_loop_and_what_is_known_stays()
{
    let server = ApiServer::default();
    server.put(SERVICES, labelled("a", "1"));
    let store = watch_services(&server, WatchConfig::most_recent());
    soon(store.ready()).await;
    let before = server.seen().len();
    server.set_down(true);
    tokio::time::sleep(Duration::from_secs(600)).await;
    let attempts = server.seen().len() - before;
    assert!(
        (115..260).contains(&attempts),
        "{attempts} attempts in ten minutes"
    );
    assert!(!store.is_connected() && store.is_ready() && store.len() == 1);

    let feed = store.subscribe();
    feed.take();
    server.set_down(false);
    server.put(SERVICES, labelled("b", "1"));
    assert_eq!(until_touched(&feed, "b").await, ["b"]);
    assert!(store.is_connected());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_stands_again_counts_as_connected_although_nothing_happens() {
    let server = ApiServer::default();
    let store = watch_services(&server, WatchConfig::most_recent());
    soon(store.ready()).await;
    server.set_down(true);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!store.is_connected());
    server.set_down(false);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(store.is_connected());
}

#[tokio::test]
async fn one_object_that_does_not_parse_stops_no_other() {
    let server = ApiServer::default();
    server.put(POOLS, objects::pool("default", "good", &["192.0.2.0/24"]));
    let mut broken = objects::pool("default", "broken", &[]);
    broken["spec"]["addresses"] = json!("192.0.2.0/24");
    server.put(POOLS, broken);
    let store = watch(
        &server.client(),
        WatchConfig::most_recent().in_namespace("default"),
        |pool: &IPAddressPool| Some(pool.spec.addresses.clone()),
    );
    soon(store.ready()).await;
    let feed = store.subscribe();
    feed.take();
    assert_eq!(store.len(), 1);
    let complaints = store.broken();
    let error = &complaints[&key("broken")].error;
    assert!(error.contains("sequence"), "{error}");

    server.put(
        POOLS,
        objects::pool("default", "broken", &["198.51.100.0/24"]),
    );
    assert_eq!(until_touched(&feed, "broken").await, ["broken"]);
    assert!(store.broken().is_empty() && store.len() == 2);
}

/// A time that Kubernetes takes and that is later than any known here.
const NEVER: &str = "9999-12-31T23:59:59Z";

#[tokio::test]
async fn an_object_of_kubernetes_that_does_not_parse_stops_no_other_over_lists_either() {
    for config in [WatchConfig::most_recent(), WatchConfig::streamed()] {
        let server = ApiServer::default();
        server.put(SERVICES, labelled("good", "1"));
        server.put(SERVICES, labelled("turns", "1"));
        let store = watch_services(&server, config);
        soon(store.ready()).await;
        let feed = store.subscribe();
        feed.take();
        let mut late = labelled("turns", "2");
        late["status"]["conditions"] =
            json!([{"type": "X", "status": "True", "lastTransitionTime": NEVER}]);
        server.put(SERVICES, late.clone());
        assert_eq!(until_touched(&feed, "turns").await, ["turns"]);
        late["metadata"]["name"] = json!("late");
        server.put(SERVICES, late);
        until_touched(&feed, "late").await;
        soon(store.relist()).await;
        let broken: Vec<_> = store.broken().into_keys().collect();
        assert_eq!(broken, [key("late"), key("turns")]);
        // The last good form stays, and who never had one is not there.
        assert_eq!(*store.get(&key("turns")).unwrap(), "1");
        assert_eq!(store.len(), 2);
        server.put(SERVICES, labelled("good", "3"));
        until_touched(&feed, "good").await;
        assert_eq!(*store.get(&key("good")).unwrap(), "3");
    }
}

#[tokio::test]
async fn who_reads_a_part_needs_no_more_to_parse_and_nobody_reads_who_manages_an_object() {
    #[derive(serde::Deserialize)]
    struct Spec {
        spec: serde_json::Value,
    }
    let server = ApiServer::default();
    let mut object = labelled("web", "1");
    object["spec"]["ports"] = json!("none of Kubernetes'");
    object["metadata"]["managedFields"] = json!([{"time": NEVER}]);
    server.put(SERVICES, object);
    let mut managed = labelled("managed", "1");
    managed["metadata"]["managedFields"] = json!([{"time": NEVER}]);
    server.put(SERVICES, managed);
    let part =
        watch_part::<Service, _, _>(&server.client(), WatchConfig::streamed(), |part: &Spec| {
            part.spec["ports"].as_str().map(str::to_owned)
        });
    let whole = watch_services(&server, WatchConfig::streamed());
    soon(async { tokio::join!(part.ready(), whole.ready()) }).await;
    assert!(part.broken().is_empty() && part.len() == 1);
    assert_eq!(*part.get(&key("web")).unwrap(), "none of Kubernetes'");
    assert_eq!(whole.broken().into_keys().collect::<Vec<_>>(), [key("web")]);
    assert_eq!(*whole.get(&key("managed")).unwrap(), "1");
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_with_its_last_handle() {
    let server = ApiServer::default();
    let store = watch_services(&server, WatchConfig::most_recent());
    soon(store.ready()).await;
    drop(store);
    tokio::task::yield_now().await;
    let before = server.seen().len();
    server.compact(|_| ());
    // The clock stands still while anything has something to do, so a watch that goes on would be seen.
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(server.seen().len(), before);
}
