//! What a pool's status says, by the whole loop against an API server in memory.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{POOLS, SERVICES, SYSTEM, pool, rest, start, until};
use ferrolb_testing::{ApiServer, objects};
use serde_json::{Value, json};

/// Writes the addresses anew and leaves the status to the operator, as an edit does.
fn edit(server: &ApiServer, name: &str, addresses: &[&str]) {
    let mut pool = server.get(POOLS, SYSTEM, name).unwrap();
    pool["spec"]["addresses"] = json!(addresses);
    server.put(POOLS, pool);
}

fn annotate(server: &ApiServer, name: &str, annotations: Value) {
    let mut pool = server.get(POOLS, SYSTEM, name).unwrap();
    pool["metadata"]["annotations"] = annotations;
    server.put(POOLS, pool);
}

/// Status and reason of a condition, as `True/Accepted`; empty while there is none.
fn answer(server: &ApiServer, pool: &str, type_: &str) -> String {
    let condition = condition(server, pool, type_);
    match (condition["status"].as_str(), condition["reason"].as_str()) {
        (Some(status), Some(reason)) => format!("{status}/{reason}"),
        _ => String::new(),
    }
}

fn condition(server: &ApiServer, pool: &str, type_: &str) -> Value {
    let pool = server.get(POOLS, SYSTEM, pool).unwrap();
    let conditions = pool["status"]["conditions"].as_array().cloned();
    conditions
        .unwrap_or_default()
        .into_iter()
        .find(|condition| condition["type"] == type_)
        .unwrap_or_default()
}

fn message(server: &ApiServer, pool: &str, type_: &str) -> String {
    let condition = condition(server, pool, type_);
    condition["message"].as_str().unwrap().to_owned()
}

fn has_an_address(server: &ApiServer, service: &str) -> bool {
    let service = server.get(SERVICES, "default", service).unwrap();
    service["status"]["loadBalancer"]["ingress"][0]["ip"].is_string()
}

/// How often anything was written to a pool.
fn writes(server: &ApiServer) -> usize {
    let seen = server.seen();
    let to_pools = |path: &str| path.contains("ipaddresspools");
    seen.iter()
        .filter(|seen| seen.writes() && to_pools(&seen.path))
        .count()
}

#[tokio::test(start_paused = true)]
async fn both_pools_of_an_overlap_say_so_until_it_is_mended() {
    let server = ApiServer::default();
    server.put(POOLS, pool("old", &["10.0.0.0/24"], "2026-01-01T00:00:00Z"));
    let addresses = ["10.0.0.128-10.0.0.140", "10.1.0.0/24"];
    server.put(POOLS, pool("new", &addresses, "2026-02-01T00:00:00Z"));
    server.put(POOLS, pool("far", &["10.2.0.0/24"], "2026-02-01T00:00:00Z"));
    let _stop = start(&server);
    until("both say so", || {
        ["old", "new"]
            .iter()
            .all(|pool| answer(&server, pool, "Overlapping") == "True/Overlaps")
    })
    .await;
    assert_eq!(
        message(&server, "old", "Overlapping"),
        "10.0.0.0/24 has addresses in common with 10.0.0.128-10.0.0.140 of pool \"new\"; \
         this pool is in force with them, \"new\" is not. Remove them from one of the two."
    );
    assert_eq!(
        message(&server, "new", "Overlapping"),
        "10.0.0.128-10.0.0.140 has addresses in common with 10.0.0.0/24 of pool \"old\"; \
         \"old\" is in force with them, this pool is not. Remove them from one of the two."
    );
    let answers = |pool: &str| {
        ["Accepted", "Exhausted", "Overlapping"].map(|type_| answer(&server, pool, type_))
    };
    assert_eq!(
        answers("old"),
        ["True/Accepted", "False/AddressesAvailable", "True/Overlaps"]
    );
    assert_eq!(
        answers("new"),
        ["False/Conflicted", "False/NotInForce", "True/Overlaps"]
    );
    rest().await;
    let good = [
        "True/Accepted",
        "False/AddressesAvailable",
        "False/NoOverlap",
    ];
    assert_eq!(answers("far"), good);
    let before = writes(&server);
    assert_eq!(before, 3, "each status once, and then nothing more");
    rest().await;
    assert_eq!(writes(&server), before);

    edit(&server, "new", &["10.1.0.0/24"]);
    until("neither says so any more", || {
        answers("old") == good && answers("new") == good
    })
    .await;
    rest().await;
    assert_eq!(writes(&server), before + 2);
}

#[tokio::test(start_paused = true)]
async fn a_pool_is_exhausted_until_an_address_comes_back() {
    let server = ApiServer::default();
    let addresses = ["10.0.0.1-10.0.0.2", "fd00::/120"];
    server.put(POOLS, pool("p", &addresses, "2026-01-01T00:00:00Z"));
    server.put(SERVICES, objects::service("default", "a"));
    let _stop = start(&server);
    until("a has an address", || has_an_address(&server, "a")).await;
    rest().await;
    let exhausted = || answer(&server, "p", "Exhausted");
    assert_eq!(exhausted(), "False/AddressesAvailable");

    server.put(SERVICES, objects::service("default", "b"));
    until("nothing is left", || exhausted() == "True/NoAddressLeft").await;
    assert_eq!(
        message(&server, "p", "Exhausted"),
        "No IPv4 address is left in the pool: \
         add addresses to spec.addresses or delete Services that need none."
    );
    rest().await;
    let before = writes(&server);
    // One that gets none changes nothing of it.
    server.put(SERVICES, objects::service("default", "c"));
    rest().await;
    assert!(!has_an_address(&server, "c"));
    assert_eq!(writes(&server), before);

    server.delete(SERVICES, "default", "b");
    until("c has the address of b", || has_an_address(&server, "c")).await;
    rest().await;
    assert_eq!(exhausted(), "True/NoAddressLeft");
    server.delete(SERVICES, "default", "c");
    until("one is left", || exhausted() == "False/AddressesAvailable").await;
    edit(&server, "p", &["10.0.0.1-10.0.0.1"]);
    until("the one that there is is in use", || {
        exhausted() == "True/NoAddressLeft"
    })
    .await;
    edit(&server, "p", &["10.0.0.1-10.0.0.9"]);
    until("more are there", || {
        exhausted() == "False/AddressesAvailable"
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_starts_goes_on_with_what_a_broken_pool_said_before() {
    let server = ApiServer::default();
    let form = || {
        let pool = server.get(POOLS, SYSTEM, "p").unwrap();
        let form = pool["status"]["inForce"]["form"]
            .as_str()
            .map(str::to_owned);
        form.map(|form| serde_json::from_str::<Value>(&form).unwrap())
    };
    let first = start(&server);
    server.put(POOLS, pool("p", &["10.0.0.0/24"], "2026-01-01T00:00:00Z"));
    let accepted = || answer(&server, "p", "Accepted");
    until("it is accepted", || accepted() == "True/Accepted").await;
    let in_force = form().unwrap();
    assert_eq!(in_force["spec"]["addresses"], json!(["10.0.0.0/24"]));
    // Nobody sees the edit that breaks it.
    first.cancel();
    rest().await;
    edit(&server, "p", &["10.0.0.0/24", "nonsense"]);
    server.put(SERVICES, objects::service("default", "a"));
    let _stop = start(&server);
    until("it is not accepted", || accepted() == "False/Invalid").await;
    assert!(message(&server, "p", "Accepted").ends_with("stays in force (status.inForce)."));
    until("a is served by it", || has_an_address(&server, "a")).await;
    rest().await;
    assert_eq!(form().unwrap(), in_force);
    // A pool that never was in force has no such form.
    server.put(POOLS, pool("q", &["nonsense"], "2026-01-01T00:00:00Z"));
    until("q is not accepted", || {
        answer(&server, "q", "Accepted") == "False/Invalid"
    })
    .await;
    let status = server.get(POOLS, SYSTEM, "q").unwrap()["status"].clone();
    assert!(status["inForce"]["observed"].is_string(), "{status}");
    assert_eq!(status["inForce"].get("form"), None, "{status}");
    edit(&server, "p", &["10.0.0.0/25"]);
    until("it is accepted again", || accepted() == "True/Accepted").await;
    assert_eq!(form().unwrap()["spec"]["addresses"], json!(["10.0.0.0/25"]));
}

#[tokio::test(start_paused = true)]
async fn a_form_that_is_in_force_no_more_leaves_the_status_and_writes_end() {
    let server = ApiServer::default();
    let mut broken = pool("p", &["nonsense"], "2026-01-01T00:00:00Z");
    broken["status"] = json!({
        "assignedIPv4": 0, "assignedIPv6": 0, "availableIPv4": 0, "availableIPv6": 0,
        "inForce": {"observed": "of another version", "form": "that nobody reads"},
    });
    server.put(POOLS, broken);
    let _stop = start(&server);
    until("it is not accepted", || {
        answer(&server, "p", "Accepted") == "False/Invalid"
    })
    .await;
    rest().await;
    let status = server.get(POOLS, SYSTEM, "p").unwrap()["status"].clone();
    assert!(status["inForce"].get("form").is_none(), "{status}");
    let before = writes(&server);
    server.put(SERVICES, objects::service("default", "a"));
    rest().await;
    assert_eq!(writes(&server), before, "the status is what it should be");
}

#[tokio::test(start_paused = true)]
async fn a_definition_from_before_costs_one_write_and_no_rest() {
    let server = ApiServer::default();
    server.prune("inForce");
    server.put(POOLS, pool("p", &["10.0.0.0/24"], "2026-01-01T00:00:00Z"));
    let _stop = start(&server);
    until("it is accepted", || {
        answer(&server, "p", "Accepted") == "True/Accepted"
    })
    .await;
    rest().await;
    // Every Service is an occasion to look at the statuses.
    let before = writes(&server);
    for name in ["a", "b", "c"] {
        server.put(SERVICES, objects::service("default", name));
        until("it is served", || has_an_address(&server, name)).await;
        rest().await;
    }
    assert_eq!(
        writes(&server),
        before + 3,
        "the counters, and nothing besides"
    );
    let mut other = pool("q", &["10.0.1.0/24"], "2026-01-01T00:00:00Z");
    other["spec"]["autoAssign"] = json!(false);
    server.put(POOLS, other);
    rest().await;
    let before = writes(&server);
    for name in ["d", "e"] {
        server.put(SERVICES, objects::service("default", name));
        until("it is served", || has_an_address(&server, name)).await;
        rest().await;
    }
    let of_p = writes(&server) - before;
    assert_eq!(of_p, 2, "q is left alone");
}

#[tokio::test(start_paused = true)]
async fn a_bad_annotation_is_told_on_the_pool_and_leaves_it_in_force() {
    let server = ApiServer::default();
    server.put(POOLS, pool("p", &["10.0.0.0/24"], "2026-01-01T00:00:00Z"));
    let _stop = start(&server);
    let accepted = || answer(&server, "p", "Accepted");
    until("it is accepted", || accepted() == "True/Accepted").await;
    annotate(&server, "p", json!({"ferrolb.io/exclude": "10.0.1.1"}));
    until("it is not accepted", || accepted() == "False/Invalid").await;
    assert_eq!(
        message(&server, "p", "Accepted"),
        "metadata.annotations[ferrolb.io/exclude]: \"10.0.1.1\" has no address in common with spec.addresses; \
         remove it, or write addresses of this pool\n\
         What it said before it broke a rule stays in force (status.inForce)."
    );
    assert_eq!(
        answer(&server, "p", "Exhausted"),
        "False/AddressesAvailable"
    );
    annotate(&server, "p", json!({"ferrolb.io/exclude": "10.0.0.1"}));
    until("it is accepted again", || accepted() == "True/Accepted").await;
}

#[tokio::test(start_paused = true)]
async fn what_is_held_no_more_leaves_the_status() {
    let server = ApiServer::default();
    let mut held = pool("p", &["10.0.0.0/24"], "2026-01-01T00:00:00Z");
    held["status"] = json!({
        "assignedIPv4": 0, "assignedIPv6": 0, "availableIPv4": 0, "availableIPv6": 0,
        "heldAddresses": [{"addresses": "10.0.0.1", "until": "2026-01-01T00:00:00Z", "service": "default/gone"}],
    });
    server.put(POOLS, held);
    let _stop = start(&server);
    until("it is gone", || {
        let pool = server.get(POOLS, SYSTEM, "p").unwrap();
        pool["status"].get("heldAddresses").is_none()
    })
    .await;
    rest().await;
    assert_eq!(writes(&server), 1);
}
