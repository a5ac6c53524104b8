//! The whole loop against an API server in memory: what changes, what is written.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{
    NAMESPACES, POOLS, SERVICES, SYSTEM, address, pool, rest, start, start_stale, until,
    with_address,
};
use ferrolb_cluster::Leadership;
use ferrolb_testing::{ApiServer, objects};
use serde_json::json;
use tokio_util::sync::CancellationToken;

const EVENTS: &str = "api/v1/events";

#[tokio::test(start_paused = true)]
async fn a_service_that_is_deleted_while_everything_is_decided_again_gives_its_address_back() {
    let server = ApiServer::default();
    server.put(POOLS, pool("p", &["10.0.0.1/32"], "2026-01-01T00:00:00Z"));
    server.put(SERVICES, objects::service("default", "a"));
    let _stop = start(&server);
    until("a has the address", || address(&server, "a").is_some()).await;
    // Both are seen in one look.
    server.delete(SERVICES, "default", "a");
    server.put(
        NAMESPACES,
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "new"}}),
    );
    rest().await;
    server.put(SERVICES, objects::service("default", "b"));
    until("b gets it", || address(&server, "b").is_some()).await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_deleted_while_the_leader_changes_gives_its_address_back() {
    let server = ApiServer::default();
    server.put(POOLS, pool("p", &["10.0.0.1/32"], "2026-01-01T00:00:00Z"));
    server.put(SERVICES, with_address("gone", "10.0.0.1"));
    let _stop = start_stale(&server, || {
        server.delete(SERVICES, "default", "gone");
    })
    .await;
    rest().await;
    server.put(SERVICES, objects::service("default", "b"));
    until("b gets it", || address(&server, "b").is_some()).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_leader_before_gave_last_is_not_given_again() {
    let server = ApiServer::default();
    server.put(
        POOLS,
        pool("p", &["10.0.0.1-10.0.0.2"], "2026-01-01T00:00:00Z"),
    );
    server.put(SERVICES, objects::service("default", "a"));
    let _stop = start_stale(&server, || {
        server.put(SERVICES, with_address("new", "10.0.0.1"));
    })
    .await;
    until("a has an address", || address(&server, "a").is_some()).await;
    assert_eq!(address(&server, "a").as_deref(), Some("10.0.0.2"));
    assert_eq!(address(&server, "new").as_deref(), Some("10.0.0.1"));
}

#[tokio::test(start_paused = true)]
async fn a_pool_in_use_that_is_broken_by_an_edit_keeps_its_services() {
    let server = ApiServer::default();
    let good = ["10.0.0.1-10.0.0.9"];
    server.put(POOLS, pool("p", &good, "2026-01-01T00:00:00Z"));
    server.put(SERVICES, objects::service("default", "a"));
    let _stop = start(&server);
    until("a has an address", || address(&server, "a").is_some()).await;
    let broken = ["10.0.0.1-10.0.0.9", "10.0.1.0-10.0.1.300"];
    server.put(POOLS, pool("p", &broken, "2026-01-01T00:00:00Z"));
    let accepted = || {
        let pool = server.get(POOLS, SYSTEM, "p").unwrap();
        pool["status"]["conditions"][0].clone()
    };
    until("the pool is not accepted", || {
        accepted()["status"] == "False"
    })
    .await;
    let message = accepted()["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("spec.addresses[1]") && message.contains("stays in force"),
        "{message}"
    );
    rest().await;
    assert_eq!(address(&server, "a").as_deref(), Some("10.0.0.1"));
    // And new Services are served from what is in force.
    server.put(SERVICES, objects::service("default", "b"));
    until("b has an address", || address(&server, "b").is_some()).await;
}

#[tokio::test(start_paused = true)]
async fn a_mistake_in_an_older_pool_takes_nothing_from_a_younger_one() {
    let server = ApiServer::default();
    let (old, young) = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    server.put(POOLS, pool("older", &["10.0.5.1-10.0.5.9"], old));
    server.put(POOLS, pool("younger", &["10.0.0.1-10.0.0.9"], young));
    let mut service = objects::service("default", "a");
    service["metadata"]["annotations"] = json!({"metallb.io/address-pool": "younger"});
    server.put(SERVICES, service);
    let _stop = start(&server);
    until("a has an address", || address(&server, "a").is_some()).await;
    server.put(POOLS, pool("older", &["10.0.0.0/16"], old));
    until("the older pool is not accepted", || {
        let pool = server.get(POOLS, SYSTEM, "older").unwrap();
        pool["status"]["conditions"][0]["status"] == "False"
    })
    .await;
    rest().await;
    assert_eq!(address(&server, "a").as_deref(), Some("10.0.0.1"));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_could_not_be_written_is_written_later() {
    let server = ApiServer::default();
    server.put(POOLS, pool("p", &["10.0.0.1/32"], "2026-01-01T00:00:00Z"));
    let _stop = start(&server);
    rest().await;
    server.fail(3, 500, |seen| {
        seen.writes() && seen.path.contains("/events")
    });
    let mut service = objects::service("default", "a");
    service["metadata"]["annotations"] = json!({"metallb.io/loadBalancerIPs": "192.0.2.1"});
    server.put(SERVICES, service);
    until("the event is there", || !server.all(EVENTS).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn the_speakers_key_is_made_and_made_again_as_it_was() {
    const SECRETS: &str = "api/v1/secrets";
    let server = ApiServer::default();
    let stop = CancellationToken::new();
    tokio::spawn(ferrolb_operator::membership_secret::keep(
        server.client(),
        SYSTEM.to_owned(),
        "memberlist".to_owned(),
        Leadership::alone(),
        stop,
    ));
    let key = || {
        let secret = server.get(SECRETS, SYSTEM, "memberlist")?;
        Some(secret["data"]["secretkey"].as_str()?.to_owned())
    };
    until("there is a key", || key().is_some()).await;
    let first = key();
    rest().await;
    server.delete(SECRETS, SYSTEM, "memberlist");
    until("it is there again", || key().is_some()).await;
    assert_eq!(key(), first);
}
