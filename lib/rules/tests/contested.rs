//! What is said of an object that is one of two which keep another out. Random histories hardly ever come to this.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use ferrolb_rules::{AllObjects, Known, LastGood};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// An object that was created in this second.
fn object<K: DeserializeOwned>(name: &str, created: u32, spec: &Value) -> Arc<K> {
    let object = json!({
        "metadata": {
            "name": name, "namespace": "metallb-system", "uid": name,
            "creationTimestamp": format!("2026-01-01T00:00:{created:02}Z"),
        },
        "spec": spec,
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

/// Three objects of which the oldest, `c`, then becomes `edited`, past every check.
fn known(list: impl Fn([Value; 3]) -> AllObjects, [c, a, b]: [Value; 3], edited: Value) -> Known {
    let mut last_good = LastGood::default();
    Known::new(list([c, a.clone(), b.clone()]), &mut last_good, None);
    Known::new(list([edited, a, b]), &mut last_good, None)
}

#[test]
fn a_pool_that_another_keeps_out_besides_stays_out_when_the_first_makes_room() {
    let addresses = |addresses: &[&str]| json!({"addresses": addresses});
    let list = |[c, a, b]: [Value; 3]| AllObjects {
        pools: vec![object("c", 1, &c), object("a", 2, &a), object("b", 3, &b)],
        ..AllObjects::default()
    };
    let all = [
        addresses(&["10.2.0.0/24"]),
        addresses(&["10.0.0.0/25"]),
        addresses(&["10.0.0.128/25"]),
    ];
    let known = known(list, all, addresses(&["10.0.0.0/24", "10.1.0.0/24"]));
    let judged = |name: &str, created, entry| {
        let verdict = known.pool(&object(name, created, &addresses(&[entry])));
        verdict.refusals.len()
    };
    // `b` still keeps `c` from 10.1.0.0/24, and `a` from `c`'s former addresses.
    assert_eq!(judged("a", 2, "10.1.0.0/28"), 0);
    assert_eq!(judged("b", 3, "10.1.0.0/28"), 0);
    assert_eq!(judged("a", 2, "10.2.0.0/28"), 1);
    assert_eq!(judged("a", 2, "10.0.0.0/24"), 1);
}

#[test]
fn a_peer_that_another_keeps_out_besides_stays_out_and_the_first_that_is_read_is_named() {
    let peer = |address: &str, racks: &[&str]| {
        let selectors = racks
            .iter()
            .map(|rack| json!({"matchLabels": {"rack": rack}}));
        let selectors: Vec<Value> = selectors.collect();
        json!({"myASN": 1, "peerASN": 2, "peerAddress": address, "nodeSelectors": selectors})
    };
    let list = |[c, a, b]: [Value; 3]| AllObjects {
        peers: vec![
            object("c", 1, &c),
            object("a", 2, &a),
            object("b", 3, &b),
            object("late", 9, &peer("10.9.0.3", &["red"])),
            object("old", 4, &peer("10.9.0.3", &["green"])),
        ],
        ..AllObjects::default()
    };
    let all = [
        peer("10.9.0.2", &[]),
        peer("10.9.0.1", &["red"]),
        peer("10.9.0.1", &["green"]),
    ];
    let known = known(list, all, peer("10.9.0.1", &["red", "green", "blue"]));
    let judged = |name: &str, created, racks: &[&str]| {
        let verdict = known.peer(&object(name, created, &peer("10.9.0.1", racks)));
        verdict.refusals.len()
    };
    assert_eq!(judged("a", 2, &["blue"]), 0);
    assert_eq!(judged("b", 3, &["blue"]), 0);
    assert_eq!(judged("a", 2, &["green"]), 1);

    // Of two that it contradicts, the one that is read first is named, as at a reading.
    let verdict = known.peer(&object("new", 59, &peer("10.9.0.3", &[])));
    assert!(verdict.refusals[0].reason.contains("BGPPeer \"old\""));
}
