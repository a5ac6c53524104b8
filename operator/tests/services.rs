//! What a Service is told, against an API server in memory: conditions, events, and what stays untouched.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::time::Duration;

use common::{
    NAMESPACES, POOLS, SERVICES, SYSTEM, address, pool, rest, start, until, with_address,
};
use ferrolb_testing::{ApiServer, objects};
use serde_json::{Value, json};

const EVENTS: &str = "api/v1/events";

fn conditions(server: &ApiServer, service: &str) -> Vec<Value> {
    let service = server.get(SERVICES, "default", service).unwrap();
    let conditions = service["status"]["conditions"].as_array();
    conditions.cloned().unwrap_or_default()
}

fn condition(server: &ApiServer, service: &str, type_: &str) -> Option<Value> {
    let mut all = conditions(server, service).into_iter();
    all.find(|condition| condition["type"] == type_)
}

fn reason(server: &ApiServer, service: &str) -> Option<String> {
    let condition = condition(server, service, "ferrolb.io/AddressesAllocated")?;
    assert_eq!(condition["status"], "False");
    Some(condition["reason"].as_str()?.to_owned())
}

fn events(server: &ApiServer, service: &str, reason: &str) -> usize {
    let of =
        |event: &Value| event["involvedObject"]["name"] == service && event["reason"] == reason;
    server.all(EVENTS).iter().filter(|event| of(event)).count()
}

fn written(server: &ApiServer, service: &str) -> usize {
    let path = format!("/services/{service}/status");
    let wrote = |seen: &&ferrolb_testing::Seen| seen.writes() && seen.path.ends_with(&path);
    server.seen().iter().filter(wrote).count()
}

#[tokio::test(start_paused = true)]
async fn a_service_without_an_address_says_why_once_and_no_more_when_it_has_one() {
    let server = ApiServer::default();
    server.put(POOLS, pool("p", &["10.0.0.1/32"], "2026-01-01T00:00:00Z"));
    server.put(SERVICES, objects::service("default", "first"));
    let stop = start(&server);
    until("first has an address", || {
        address(&server, "first").is_some()
    })
    .await;
    assert!(conditions(&server, "first").is_empty());
    // Another controller has a condition there too.
    let mut late = objects::service("default", "late");
    let foreign = json!({"type": "example.org/Ready", "status": "True", "reason": "Fine", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    late["status"]["conditions"] = json!([foreign]);
    server.put(SERVICES, late);
    until("late says why", || reason(&server, "late").is_some()).await;
    assert_eq!(reason(&server, "late").as_deref(), Some("PoolExhausted"));
    assert_eq!(conditions(&server, "late")[0], foreign);
    rest().await;
    assert_eq!(events(&server, "late", "AllocationFailed"), 1);
    assert_eq!(written(&server, "late"), 1);
    // A process that starts anew has nothing to add.
    stop.cancel();
    rest().await;
    let _stop = start(&server);
    rest().await;
    assert_eq!(events(&server, "late", "AllocationFailed"), 1);
    assert_eq!(written(&server, "late"), 1);
    server.delete(SERVICES, "default", "first");
    until("late has an address", || address(&server, "late").is_some()).await;
    assert_eq!(conditions(&server, "late"), [foreign]);
    assert_eq!(
        written(&server, "late"),
        2,
        "address and condition are one write"
    );
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_no_load_balancer_any_more_keeps_no_mark_of_ours() {
    let server = ApiServer::default();
    server.put(POOLS, pool("p", &["fd00::/120"], "2026-01-01T00:00:00Z"));
    server.put(SERVICES, objects::service("default", "a"));
    let _stop = start(&server);
    until("it says why", || reason(&server, "a").is_some()).await;
    assert_eq!(reason(&server, "a").as_deref(), Some("NoPoolMatches"));
    let mut former = server.get(SERVICES, "default", "a").unwrap();
    former["spec"]["type"] = json!("ClusterIP");
    server.put(SERVICES, former);
    until("it says nothing", || conditions(&server, "a").is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn of_two_statuses_with_one_address_the_younger_moves_and_says_so() {
    let server = ApiServer::default();
    server.put(
        POOLS,
        pool("p", &["10.0.0.1-10.0.0.9"], "2026-01-01T00:00:00Z"),
    );
    let mut old = with_address("z-old", "10.0.0.1");
    old["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    let mut young = with_address("a-young", "10.0.0.1");
    young["metadata"]["creationTimestamp"] = json!("2026-02-01T00:00:00Z");
    server.put(SERVICES, old);
    server.put(SERVICES, young);
    let stop = start(&server);
    until("the younger has another", || {
        address(&server, "a-young").as_deref() == Some("10.0.0.2")
    })
    .await;
    assert_eq!(address(&server, "z-old").as_deref(), Some("10.0.0.1"));
    let said = || condition(&server, "a-young", "ferrolb.io/AddressConflict").unwrap();
    assert_eq!(said()["status"], "True");
    assert_eq!(said()["reason"], "OlderServiceKeepsAddress");
    let message = said()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("10.0.0.1") && message.contains("default/z-old"));
    rest().await;
    assert_eq!(events(&server, "a-young", "ClearAssignment"), 1);
    assert!(conditions(&server, "z-old").is_empty());
    // It is told for as long as the Service has what it got instead, also by the next process.
    stop.cancel();
    rest().await;
    let _stop = start(&server);
    rest().await;
    assert_eq!(said()["message"], message.as_str());
    let mut moved = server.get(SERVICES, "default", "a-young").unwrap();
    moved["metadata"]["annotations"]["metallb.io/loadBalancerIPs"] = json!("10.0.0.7");
    server.put(SERVICES, moved);
    until("it moves", || {
        address(&server, "a-young").as_deref() == Some("10.0.0.7")
    })
    .await;
    assert!(conditions(&server, "a-young").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_read_leaves_the_service_what_it_has() {
    let server = ApiServer::default();
    server.put(
        POOLS,
        pool("p", &["10.0.0.1-10.0.0.9"], "2026-01-01T00:00:00Z"),
    );
    server.put(SERVICES, objects::service("default", "a"));
    let _stop = start(&server);
    until("a has an address", || address(&server, "a").is_some()).await;
    let mut spoilt = server.get(SERVICES, "default", "a").unwrap();
    spoilt["metadata"]["annotations"]["metallb.io/loadBalancerIPs"] = json!("here");
    server.put(SERVICES, spoilt.clone());
    until("it says why", || reason(&server, "a").is_some()).await;
    assert_eq!(reason(&server, "a").as_deref(), Some("InvalidRequest"));
    assert_eq!(address(&server, "a").as_deref(), Some("10.0.0.1"));
    rest().await;
    assert_eq!(events(&server, "a", "LoadBalancerFailed"), 1);
    // An annotation as long as the API server lets one be is quoted in part.
    spoilt["metadata"]["annotations"]["metallb.io/loadBalancerIPs"] = json!("x".repeat(200_000));
    server.put(SERVICES, spoilt);
    rest().await;
    let told = condition(&server, "a", "ferrolb.io/AddressesAllocated").unwrap();
    assert!(told["message"].as_str().unwrap().len() < 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_label_or_limit_of_a_namespace_concerns_its_services_only() {
    let server = ApiServer::default();
    let mut fronts = pool("p", &["10.0.0.1-10.0.0.9"], "2026-01-01T00:00:00Z");
    fronts["spec"]["serviceAllocation"] =
        json!({"namespaceSelectors": [{"matchLabels": {"tier": "front"}}]});
    server.put(POOLS, fronts);
    let namespace = |name: &str, labels: Value, limit: &str| {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": name, "labels": labels, "annotations": {"ferrolb.io/max-addresses": limit}}})
    };
    server.put(NAMESPACES, namespace("default", json!({}), "1"));
    server.put(SERVICES, objects::service("default", "a"));
    server.put(SERVICES, objects::service("default", "b"));
    server.put(SERVICES, objects::service("other", "c"));
    let _stop = start(&server);
    until("a says why", || reason(&server, "a").is_some()).await;
    assert_eq!(reason(&server, "a").as_deref(), Some("NoPoolMatches"));
    rest().await;
    let others = written(&server, "c");
    server.put(
        NAMESPACES,
        namespace("default", json!({"tier": "front"}), "1"),
    );
    until("a has an address", || address(&server, "a").is_some()).await;
    until("b is beyond the limit", || {
        reason(&server, "b").as_deref() == Some("LimitReached")
    })
    .await;
    server.put(
        NAMESPACES,
        namespace("default", json!({"tier": "front"}), "one"),
    );
    until("b is told of the limit", || {
        let told = condition(&server, "b", "ferrolb.io/AddressesAllocated").unwrap();
        told["message"].as_str().unwrap().contains("\"one\"")
    })
    .await;
    assert!(address(&server, "a").is_some());
    server.put(
        NAMESPACES,
        namespace("default", json!({"tier": "front"}), "2"),
    );
    until("b has an address", || address(&server, "b").is_some()).await;
    assert_eq!(written(&server, "c"), others);
}

#[tokio::test(start_paused = true)]
async fn whoever_gets_an_address_is_written_before_those_who_are_only_told_something() {
    let server = ApiServer::default();
    server.put(POOLS, pool("p", &["10.0.0.1/32"], "2026-01-01T00:00:00Z"));
    for n in 0..100 {
        let mut hopeless = objects::service("default", &format!("a-{n:02}"));
        hopeless["metadata"]["annotations"] = json!({"metallb.io/loadBalancerIPs": "192.0.2.1"});
        server.put(SERVICES, hopeless);
    }
    server.put(SERVICES, objects::service("default", "served"));
    let _stop = start(&server);
    until("everybody is written", || reason(&server, "a-99").is_some()).await;
    let writes: Vec<String> = server
        .seen()
        .iter()
        .filter(|seen| seen.writes() && seen.path.contains("/services/"))
        .map(|seen| seen.path.clone())
        .collect();
    let served = writes.iter().position(|path| path.contains("/served/"));
    assert!(
        served.is_some_and(|at| at <= 32),
        "at place {served:?} of {}",
        writes.len()
    );
}

/// What `kubectl describe` shows after a pool was made and deleted again and again.
#[tokio::test(start_paused = true)]
async fn what_happens_to_a_service_again_is_counted() {
    let server = ApiServer::default();
    server.put(POOLS, pool("p", &["10.0.9.0/24"], "2026-01-01T00:00:00Z"));
    let mut asking = objects::service("default", "a");
    asking["metadata"]["annotations"] = json!({"metallb.io/address-pool": "rp"});
    server.put(SERVICES, asking);
    let _stop = start(&server);
    until("a says why", || reason(&server, "a").is_some()).await;
    for _ in 0..3 {
        server.put(POOLS, pool("rp", &["10.0.0.1/32"], "2026-01-01T00:00:00Z"));
        until("a has an address", || address(&server, "a").is_some()).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        server.delete(POOLS, SYSTEM, "rp");
        until("a has none", || address(&server, "a").is_none()).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    rest().await;
    let counts = |reason: &str| -> Vec<Value> {
        let all = server.all(EVENTS).into_iter();
        let of = all.filter(|event| event["reason"] == reason);
        of.map(|event| event["count"].clone()).collect()
    };
    assert_eq!(counts("IPAllocated"), [3]);
    assert_eq!(counts("ClearAssignment"), [3]);
    assert_eq!(counts("AllocationFailed"), [4]);
}
