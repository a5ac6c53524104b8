//! What a BGPPeer says by its annotations, over whole objects.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Duration;

use ferrolb_api::v1beta2::BGPPeer;
use ferrolb_rules::{AllObjects, Configuration, LastGood, Peer};
use serde_json::{Value, json};

fn peer(annotations: Value, more: &Value) -> BGPPeer {
    let mut spec = json!({"myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1"});
    json_patch::merge(&mut spec, more);
    let metadata = json!({"name": "tor", "uid": "1", "annotations": annotations});
    serde_json::from_value(json!({
        "apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer", "metadata": metadata, "spec": spec,
    }))
    .unwrap()
}

fn read(object: BGPPeer) -> (Configuration, Vec<(String, String)>) {
    let (configuration, refusals) = LastGood::default().read(&AllObjects {
        peers: vec![Arc::new(object)],
        ..AllObjects::default()
    });
    let refusals = refusals
        .into_iter()
        .map(|refusal| (refusal.field, refusal.reason));
    (configuration, refusals.collect())
}

fn said(annotations: Value) -> Peer {
    let (configuration, refusals) = read(peer(annotations, &json!({})));
    assert_eq!(refusals, []);
    configuration.peers["tor"].clone()
}

#[test]
fn annotations_say_who_connects_and_from_how_far() {
    let plain = said(json!({}));
    assert_eq!(
        (plain.passive, plain.ttl_security, plain.graceful_shutdown),
        (false, None, None)
    );
    for (text, passive) in [("true", true), ("false", false)] {
        assert_eq!(said(json!({"ferrolb.io/passive": text})).passive, passive);
    }
    for (text, hops) in [("1", 1), ("254", 254)] {
        let read = said(json!({"ferrolb.io/ttl-security": text}));
        assert_eq!(read.ttl_security, Some(hops));
    }
    for (text, seconds) in [
        ("0", None),
        ("0s", None),
        ("5s", Some(5)),
        ("10m", Some(600)),
    ] {
        let read = said(json!({"ferrolb.io/graceful-shutdown": text}));
        assert_eq!(
            read.graceful_shutdown,
            seconds.map(Duration::from_secs),
            "{text}"
        );
    }
}

#[test]
fn an_annotation_that_means_nothing_is_refused_with_the_remedy() {
    let hops = |text: &str| {
        format!(
            "{text:?} is no number of hops; write a whole number from 1, for a router on the same link, to 254, or remove the annotation"
        )
    };
    let leaving = "write a duration from 0s to 10m such as 5s, or remove the annotation";
    for (key, text, more, reason) in [
        ("passive", "yes", json!({}), "\"yes\" is neither true nor false; write one of them, or remove the annotation for false".to_owned()),
        ("passive", "true", json!({"vrf": "red"}), "no router can connect to the nodes over spec.vrf; remove one of the two".to_owned()),
        ("passive", "true", json!({"interface": "eth1", "peerAddress": null}), "no router can connect to the nodes over spec.interface; remove one of the two".to_owned()),
        ("ttl-security", "0", json!({}), hops("0")),
        ("ttl-security", "255", json!({}), hops("255")),
        ("ttl-security", "one", json!({}), hops("one")),
        ("ttl-security", "1", json!({"ebgpMultiHop": true}), "says over how many hops the router may be, and so does spec.ebgpMultiHop; remove one of the two".to_owned()),
        ("graceful-shutdown", "10m1s", json!({}), format!("\"10m1s\" is longer than 10m; {leaving}")),
        ("graceful-shutdown", "5", json!({}), format!("\"5\" is not a duration: each number needs one of the units ns, us, ms, s, m, h; {leaving}")),
    ] {
        let key = format!("ferrolb.io/{key}");
        let (configuration, refusals) = read(peer(json!({&key: text}), &more));
        assert_eq!(refusals, [(format!("metadata.annotations[{key}]"), reason)], "{key}: {text}");
        assert!(configuration.peers.is_empty());
    }
}
