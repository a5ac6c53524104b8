//! What a process that leads takes in, and what it leaves alone.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{NAMESPACES, POOLS, SERVICES, SYSTEM, address, pool, rest, until};

use std::collections::BTreeSet;
use std::time::Duration;

use ferrolb_cluster::store::store;
use ferrolb_cluster::{Changes, EventPublisher, Leadership};
use ferrolb_operator::decide::Decider;
use ferrolb_operator::metrics::Metrics;
use ferrolb_operator::project::observe;
use ferrolb_operator::run::{Run, Stores};
use ferrolb_rules::{Configuration, Objects};
use ferrolb_testing::{ApiServer, objects};
use k8s_openapi::jiff::Timestamp;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio_util::sync::CancellationToken;

const PEERS: &str = "apis/metallb.io/v1beta2/bgppeers";
const OLD: &str = "2026-01-01T00:00:00Z";
const YOUNG: &str = "2026-02-01T00:00:00Z";

struct Running {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<bool>,
    registry: Registry,
    stores: Stores,
}

impl Running {
    async fn end(self) {
        self.stop.cancel();
        let _ = self.task.await.unwrap();
    }

    fn updates(&self) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let line = text
            .lines()
            .find(|line| !line.starts_with('#') && line.contains("k8s_client_updates_total"));
        line.unwrap_or_else(|| panic!("{text}"))
            .split_whitespace()
            .last()
            .unwrap()
            .parse()
            .unwrap()
    }
}

fn start(server: &ApiServer) -> Running {
    start_with(server, Stores::watch(&server.client(), SYSTEM, None))
}

fn start_with(server: &ApiServer, stores: Stores) -> Running {
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}});
    if server.get(NAMESPACES, "", "default").is_none() {
        server.put(NAMESPACES, namespace);
    }
    let client = server.client();
    let stop = CancellationToken::new();
    let mut registry = Registry::default();
    let run = Run::new(
        &client,
        stores.clone(),
        EventPublisher::start(client.clone(), "metallb-controller", "operator-1"),
        Leadership::alone(),
        Metrics::register(&mut registry),
        false,
    );
    Running {
        task: tokio::spawn(run.run(stop.clone())),
        stop,
        registry,
        stores,
    }
}

/// Puts the pool as it was edited among what is in use, then starts anew: a has what it had.
async fn keeps_its_address(server: &ApiServer, edited: serde_json::Value) {
    let first = start(server);
    until("a has an address", || address(server, "a").is_some()).await;
    let before = address(server, "a");
    server.put(POOLS, edited);
    rest().await;
    assert_eq!(address(server, "a"), before, "before the restart");
    first.end().await;
    let _second = start(server);
    rest().await;
    assert_eq!(address(server, "a"), before, "after the restart");
}

#[tokio::test(start_paused = true)]
async fn a_restart_takes_no_address_because_of_a_pool_that_was_broken_before() {
    let server = ApiServer::default();
    server.put(POOLS, pool("p", &["10.0.0.1-10.0.0.9"], OLD));
    server.put(SERVICES, objects::service("default", "a"));
    let broken = pool("p", &["10.0.0.1-10.0.0.9", "10.0.1.0-10.0.1.300"], OLD);
    keeps_its_address(&server, broken).await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_takes_no_address_because_of_a_mistake_in_another_pool() {
    let server = ApiServer::default();
    server.put(POOLS, pool("older", &["10.0.5.1-10.0.5.9"], OLD));
    server.put(POOLS, pool("younger", &["10.0.0.1-10.0.0.9"], YOUNG));
    let mut service = objects::service("default", "a");
    service["metadata"]["annotations"] = json!({"metallb.io/address-pool": "younger"});
    server.put(SERVICES, service);
    keeps_its_address(&server, pool("older", &["10.0.0.0/16"], OLD)).await;
}

/// A feed that is far behind says "all" and names nobody.
#[tokio::test(start_paused = true)]
async fn many_namespaces_at_once_are_taken_in() {
    let server = ApiServer::default();
    let namespace = |n: usize, limit: &str| {
        let name = if n == 0 {
            "default".to_owned()
        } else {
            format!("n{n}")
        };
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "annotations": {"ferrolb.io/max-addresses": limit}}})
    };
    for n in 0..=20_000 {
        server.put(NAMESPACES, namespace(n, "0"));
    }
    server.put(POOLS, pool("p", &["10.0.0.1-10.0.0.9"], OLD));
    server.put(SERVICES, objects::service("default", "a"));
    let running = start(&server);
    rest().await;
    assert_eq!(address(&server, "a"), None, "the limit is 0");
    // The watch hangs, every namespace gets another limit, and the store reads everything again.
    server.hang_watches();
    for n in 0..=20_000 {
        server.put(NAMESPACES, namespace(n, "5"));
    }
    running.stores.relist().await;
    rest().await;
    assert_eq!(
        address(&server, "a").as_deref(),
        Some("10.0.0.1"),
        "the limit is 5"
    );
}

#[test]
fn a_new_service_does_not_overtake_those_that_wait() {
    let object = objects::object(objects::pool(SYSTEM, "p", &["10.0.0.1/32"]));
    let (configuration, _) = Configuration::from_objects(&Objects {
        pools: &[&object],
        ..Objects::default()
    });
    let mut decider = Decider::default();
    decider.use_pools(&configuration.pools, BTreeSet::new());
    decider.use_namespace("default", Some(Default::default()));
    let (mut writer, services) = store("Service");
    let feed = services.subscribe();
    let mut put = |name: &str, created: &str, ip: Option<&str>| {
        let mut service = objects::service("default", name);
        service["metadata"]["creationTimestamp"] = json!(created);
        if let Some(ip) = ip {
            service["status"] = json!({"loadBalancer": {"ingress": [{"ip": ip}]}});
            service["metadata"]["annotations"] = json!({"metallb.io/ip-allocated-from-pool": "p"});
        }
        let observed = observe(&objects::object(service), None).unwrap();
        let key = observed.service.key.clone();
        writer.applied(key.clone(), created, Some(observed));
        key
    };
    let holder = put("holder", "2026-01-01T00:00:00Z", Some("10.0.0.1"));
    put("waiting", "2026-01-02T00:00:00Z", None);
    let mut given = Vec::new();
    let mut look = |decider: &mut Decider, changes: Changes| {
        decider.decide_changes(&changes, &services, Timestamp::now(), |key, _, effects| {
            for effect in effects {
                if let ferrolb_operator::effects::Effect::WriteStatus { addresses, .. } = effect
                    && !addresses.is_empty()
                {
                    given.push(key.name().to_owned());
                }
            }
            Vec::new()
        });
    };
    look(&mut decider, feed.take());
    put("new", "2026-03-01T00:00:00Z", None);
    writer.deleted(&holder);
    let changes = feed.take();
    assert_eq!(
        changes
            .keys
            .iter()
            .map(|key| key.name())
            .collect::<BTreeSet<_>>(),
        BTreeSet::from(["holder", "new"])
    );
    look(&mut decider, changes);
    assert_eq!(given, ["waiting"]);
}

/// What speakers do is no reason to decide about every Service again.
#[tokio::test(start_paused = true)]
async fn a_peer_is_no_reason_to_look_at_services() {
    let server = ApiServer::default();
    server.put(POOLS, pool("p", &["10.0.0.0/24"], OLD));
    for n in 0..50 {
        server.put(SERVICES, objects::service("default", &format!("s{n}")));
    }
    let running = start(&server);
    rest().await;
    let before = running.updates();
    server.put(PEERS, json!({
        "apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer", "metadata": {"namespace": SYSTEM, "name": "router", "uid": "r"},
        "spec": {"myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1"},
    }));
    rest().await;
    assert_eq!(
        running.updates() - before,
        0,
        "decisions because of a BGPPeer"
    );
}

/// A process that begins to lead while the API server is down waits, ends when told, and serves when it is back.
#[tokio::test(start_paused = true)]
async fn without_an_api_server_it_waits_and_ends_when_told() {
    let server = ApiServer::default();
    server.put(POOLS, pool("p", &["10.0.0.0/24"], OLD));
    server.put(SERVICES, objects::service("default", "a"));
    let stores = Stores::watch(&server.client(), SYSTEM, None);
    until("the stores are complete", || stores.is_ready()).await;
    server.set_down(true);
    let first = start_with(&server, stores.clone());
    rest().await;
    tokio::time::timeout(Duration::from_secs(20), first.end())
        .await
        .expect("it ends");
    let _second = start_with(&server, stores);
    rest().await;
    server.set_down(false);
    until("a is served", || address(&server, "a").is_some()).await;
}

/// Holds outlive the process, and end by time alone. Real time: holds are a matter of the clock on the wall.
#[tokio::test]
async fn what_is_held_back_is_so_after_a_restart_and_is_given_when_the_time_is_over() {
    let server = ApiServer::default();
    let mut held = pool("p", &["10.0.0.1/32"], OLD);
    held["metadata"]["annotations"] = json!({"ferrolb.io/reuse-hold": "4s"});
    server.put(POOLS, held);
    server.put(SERVICES, objects::service("default", "a"));
    let first = start(&server);
    until("a has the address", || address(&server, "a").is_some()).await;
    server.delete(SERVICES, "default", "a");
    let recorded = || server.get(POOLS, SYSTEM, "p").unwrap()["status"]["heldAddresses"].clone();
    until("the pool says so", || recorded().is_array()).await;
    let before = recorded();
    assert_eq!(before[0]["addresses"], "10.0.0.1");
    assert_eq!(before[0]["service"], "default/a");
    first.end().await;
    server.put(SERVICES, objects::service("default", "b"));
    let _second = start(&server);
    until("b is looked at", || {
        let b = server.get(SERVICES, "default", "b").unwrap();
        b["status"]["conditions"][0]["reason"] == "PoolExhausted"
    })
    .await;
    assert_eq!(recorded(), before, "a restart writes nothing of it anew");
    let until_text = before[0]["until"].as_str().unwrap().to_owned();
    until("b has the address", || address(&server, "b").is_some()).await;
    let end: Timestamp = until_text.parse().unwrap();
    assert!(Timestamp::now() >= end, "it was held until {until_text}");
    until("the pool says nothing", || recorded().is_null()).await;
}
