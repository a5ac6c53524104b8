//! What is legal and probably wrong, of whole objects.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use ferrolb_rules::{Known, Verdict};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn object<K: DeserializeOwned>(annotations: Value, spec: Value) -> K {
    let kind = std::any::type_name::<K>().rsplit("::").next().unwrap();
    let version = match kind {
        "BGPPeer" => "v1beta2",
        _ => "v1beta1",
    };
    let object = json!({
        "apiVersion": format!("metallb.io/{version}"), "kind": kind, "metadata": {"name": "x", "annotations": annotations},
        "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

fn said(verdict: &Verdict) -> Vec<String> {
    assert_eq!(verdict.refusals, []);
    let warnings: Vec<String> = verdict.warnings.iter().map(ToString::to_string).collect();
    assert!(
        warnings.iter().all(|text| !text.ends_with('…')),
        "{warnings:?}"
    );
    warnings
}

fn of_a_peer(annotations: Value, spec: Value) -> Vec<String> {
    let mut whole = json!({"myASN": 1, "peerASN": 2, "peerAddress": "10.0.0.1"});
    for (field, value) in spec.as_object().unwrap() {
        whole[field] = value.clone();
    }
    said(&Known::default().peer(&object(annotations, whole)))
}

#[test]
fn what_keepalives_make_of_the_hold_time_is_told() {
    let told = |spec: Value| of_a_peer(json!({}), spec);
    assert_eq!(
        told(json!({"holdTime": "90s", "keepaliveTime": "30s"})),
        [""; 0]
    );
    assert_eq!(told(json!({"holdTime": "90s"})), [""; 0]);
    for (spec, text) in [
        (
            json!({"keepaliveTime": "1500ms"}),
            "without holdTime \"1500ms\" makes the hold time 4.5s, three times as long; set holdTime to say so, or another",
        ),
        (
            json!({"keepaliveTime": "0s"}),
            "without holdTime \"0s\" makes the hold time 0s, and a router that went silent is never noticed; set holdTime, or \
             remove keepaliveTime",
        ),
        (
            json!({"holdTime": "9s", "keepaliveTime": "4s"}),
            "\"4s\" is longer than a third of holdTime, so keepalives are sent every 3s; lower it to that, or raise holdTime",
        ),
    ] {
        assert_eq!(told(spec), [format!("spec.keepaliveTime: {text}")]);
    }
}

#[test]
fn an_address_that_needs_an_interface_is_told_so() {
    let told = of_a_peer(json!({}), json!({"peerAddress": "fe80::1"}));
    let text = "spec.peerAddress: fe80::1 is link-local, and behind which interface the router is cannot be said beside it; write an \
                address of the router that is not of fe80::/10";
    assert_eq!(told, [text]);
    let told = of_a_peer(json!({}), json!({"peerAddress": "127.0.0.1"}));
    assert!(told[0].contains("of 127.0.0.0/8 (loopback)"), "{told:?}");
}

#[test]
fn what_a_peer_of_v1beta1_carries_is_told_where_it_is_left_over() {
    let key = "ferrolb.io/bgppeer-v1beta2";
    let told = |text: &str| of_a_peer(json!({key: text}), json!({}));
    let damaged = told("{\"spec\":{\"dynamicASN\":\"exter");
    assert!(
        damaged[0].starts_with(&format!(
            "metadata.annotations[{key}]: cannot be read, so what"
        )),
        "{damaged:?}"
    );
    let whole = told("{\"spec\":{\"dynamicASN\":\"external\"}}");
    assert!(
        whole[0].starts_with(&format!(
            "metadata.annotations[{key}]: is read on a BGPPeer of v1beta1 only"
        )),
        "{whole:?}"
    );
    assert_eq!((damaged.len(), whole.len()), (1, 1));
}

#[test]
fn names_that_nothing_can_have_are_told() {
    let interface = "no interface can be called \"eth0/1\", so";
    let peer = of_a_peer(
        json!({}),
        json!({"peerAddress": null, "interface": "eth0/1", "vrf": "red 1"}),
    );
    assert!(
        peer.iter()
            .any(|text| text.starts_with(&format!("spec.interface: {interface} no session"))),
        "{peer:?}"
    );
    assert!(
        peer.iter()
            .any(|text| text.starts_with("spec.vrf: no interface can be called \"red 1\"")),
        "{peer:?}"
    );
    let l2 = json!({"interfaces": ["eth0", "eth0/1"], "preferredNodeSelectors": [
        {"weight": 1, "preference": {"matchLabels": {"a b": "c"}}},
    ]});
    let l2 = said(&Known::default().l2_advertisement(&object(json!({}), l2)));
    assert!(
        l2[0].starts_with(&format!("spec.interfaces[1]: {interface} nothing")),
        "{l2:?}"
    );
    assert!(
        l2[1].starts_with(
            "spec.preferredNodeSelectors[0].preference.matchLabels: no label has the key"
        ),
        "{l2:?}"
    );
    let l2 = json!({"interfaces": ["/eth[0-9]+/", "eth.*", "eth0.5"]});
    let l2 = said(&Known::default().l2_advertisement(&object(json!({}), l2)));
    assert_eq!(l2.len(), 1, "{l2:?}");
    assert!(
        l2[0].starts_with("spec.interfaces[1]: \"eth.*\" is taken for the whole name"),
        "{l2:?}"
    );
    let bgp = json!({"nodeSelectors": [{"matchLabels": {"rack": "a/b"}}]});
    let bgp = said(&Known::default().bgp_advertisement(&object(json!({}), bgp)));
    assert!(
        bgp[0].starts_with("spec.nodeSelectors[0].matchLabels: no label has the value \"a/b\""),
        "{bgp:?}"
    );
    let pool = json!({"addresses": ["10.0.0.1/32"], "serviceAllocation": {"namespaces": ["shop", "Shop"]}});
    let pool = said(&Known::default().pool(&object(json!({}), pool)));
    assert!(
        pool[0].starts_with(
            "spec.serviceAllocation.namespaces[1]: no Namespace can be called \"Shop\""
        ),
        "{pool:?}"
    );
    let aliases = json!({"communities": [{"value": "1:2"}, {"name": "1:3", "value": "1:3"}, {"name": "a", "value": "1:4"}]});
    let aliases = said(&Known::default().community(&object(json!({}), aliases)));
    assert!(
        aliases[0].starts_with("spec.communities[0].name: is empty"),
        "{aliases:?}"
    );
    assert!(
        aliases[1].starts_with("spec.communities[1].name: \"1:3\" has a colon"),
        "{aliases:?}"
    );
    assert_eq!(aliases.len(), 2);
}

#[test]
fn keys_that_nobody_reads_are_told_on_every_kind() {
    let keys = json!({"metallb.io/foo": "", "ferrolb.io/bar": ""});
    let profile = said(&Known::default().bfd_profile(&object(keys.clone(), json!({}))));
    let community = said(&Known::default().community(&object(keys.clone(), json!({}))));
    let pool = said(&Known::default().pool(&object(keys, json!({"addresses": ["10.0.0.1/32"]}))));
    for told in [profile, community, pool] {
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].contains("[ferrolb.io/bar]: is read by nobody"),
            "{told:?}"
        );
        assert!(
            told[1].contains("[metallb.io/foo]: is read by nobody"),
            "{told:?}"
        );
    }
}
