//! A BGPPeer survives a detour through its other version.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use ferrolb_api::annotations::BGP_PEER_V1BETA2;
use ferrolb_api::conversion::{ConversionError, convert_bgp_peer};
use ferrolb_api::{v1beta1, v1beta2};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const V1BETA1: &str = "metallb.io/v1beta1";
const V1BETA2: &str = "metallb.io/v1beta2";

fn peer(version: &str, spec: Value) -> Value {
    json!({
        "apiVersion": version, "kind": "BGPPeer",
        "metadata": {
            "name": "router", "namespace": "metallb-system", "uid": "7", "resourceVersion": "12",
            "labels": { "rack": "1" }, "annotations": { "team": "network" }, "finalizers": ["a/b"]
        },
        "spec": spec,
        "status": { "conditions": [{ "type": "Accepted", "status": "True" }] }
    })
}

fn to(version: &str, object: &Value) -> Value {
    convert_bgp_peer(object.clone(), version).unwrap()
}

fn luggage(object: &Value) -> Option<Value> {
    let text = object["metadata"]["annotations"].get(BGP_PEER_V1BETA2)?;
    Some(serde_json::from_str(text.as_str().unwrap()).unwrap())
}

/// The v1beta1 form of this v1beta2 spec, edited, in v1beta2 again.
fn edited(spec: Value, edit: impl FnOnce(&mut Map<String, Value>)) -> Value {
    let mut older = to(V1BETA1, &peer(V1BETA2, spec));
    edit(older["spec"].as_object_mut().unwrap());
    to(V1BETA2, &older)["spec"].take()
}

#[test]
fn what_both_versions_have_stays_where_it_is_and_needs_no_annotation() {
    let spec = json!({
        "myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1", "sourceAddress": "192.0.2.2", "peerPort": 1179,
        "holdTime": "90s", "keepaliveTime": "30s", "routerID": "192.0.2.2", "password": "secret", "bfdProfile": "fast",
        "ebgpMultiHop": true,
        "nodeSelectors": [{ "matchExpressions": [{ "key": "rack", "operator": "Exists" }] }]
    });
    let (newer, older) = (peer(V1BETA2, spec.clone()), peer(V1BETA1, spec));
    assert_eq!(to(V1BETA1, &newer), older);
    assert_eq!(to(V1BETA2, &older), newer);
    assert_eq!(
        (to(V1BETA2, &newer), to(V1BETA1, &older)),
        (newer.clone(), older.clone())
    );
}

#[test]
fn what_only_the_newer_version_has_travels_in_one_annotation() {
    let newer = peer(
        V1BETA2,
        json!({ "myASN": 64512, "dynamicASN": "external", "interface": "eth1", "vrf": "red", "connectTime": "5s" }),
    );
    let older = to(V1BETA1, &newer);
    assert_eq!(
        older["spec"],
        json!({ "myASN": 64512, "peerASN": 0, "peerAddress": "" })
    );
    assert_eq!(
        luggage(&older),
        Some(json!({
            "spec": { "dynamicASN": "external", "interface": "eth1", "vrf": "red", "connectTime": "5s" },
            "absent": ["peerASN", "peerAddress"]
        }))
    );
    assert_eq!(older["status"], newer["status"]);
    assert_eq!(to(V1BETA2, &older), newer);
}

#[test]
fn an_edit_of_the_older_form_wins_over_the_alternative_that_travelled() {
    let unnumbered =
        json!({ "myASN": 64512, "dynamicASN": "external", "interface": "eth1", "vrf": "red" });
    assert_eq!(
        edited(unnumbered, |spec| {
            spec.insert("peerASN".to_owned(), json!(64513));
            spec.insert("peerAddress".to_owned(), json!("192.0.2.1"));
        }),
        json!({ "myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1", "vrf": "red" })
    );
    let secret = json!({ "myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1", "passwordSecret": { "name": "a" } });
    assert_eq!(
        edited(secret.clone(), |spec| {
            spec.insert("password".to_owned(), json!("plain"));
        }),
        json!({ "myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1", "password": "plain" })
    );
    assert_eq!(
        edited(secret.clone(), |spec| {
            spec.insert("password".to_owned(), json!(""));
        })["passwordSecret"],
        secret["passwordSecret"],
        "an empty password is none"
    );
}

#[test]
fn an_object_that_breaks_a_rule_is_not_mended_by_a_detour() {
    let both = json!({
        "myASN": 64512, "peerASN": 64513, "dynamicASN": "external", "peerAddress": "192.0.2.1", "interface": "eth1",
        "password": "plain", "passwordSecret": { "name": "a" }
    });
    assert_eq!(edited(both.clone(), |_| {}), both);
    // Who removes one of the two keeps the other.
    let only_secret = edited(both, |spec| {
        spec.remove("password");
    });
    assert_eq!(only_secret["passwordSecret"], json!({ "name": "a" }));
}

/// MetalLB's own types write an empty passwordSecret beside a password.
#[test]
fn no_password_travels_in_the_annotation() {
    for secret in [json!({}), json!({ "name": "a" })] {
        let both = json!({
            "myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1", "password": "hunter2", "passwordSecret": secret
        });
        let older = to(V1BETA1, &peer(V1BETA2, both.clone()));
        assert_eq!(
            luggage(&older),
            Some(json!({ "spec": { "passwordSecret": secret }, "beside": { "password": true } }))
        );
        assert_eq!(to(V1BETA2, &older)["spec"], both);
        let changed = edited(both, |spec| {
            spec.insert("password".to_owned(), json!("other"));
        });
        assert_eq!(
            (&changed["password"], &changed["passwordSecret"]),
            (&json!("other"), &secret)
        );
    }
}

#[test]
fn zeros_of_the_older_version_are_unset_timers() {
    let written_by_metallb = json!({
        "myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1", "holdTime": "0s", "keepaliveTime": "0s", "peerPort": 0
    });
    assert_eq!(
        to(V1BETA2, &peer(V1BETA1, written_by_metallb))["spec"],
        json!({ "myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1" })
    );
}

#[test]
fn a_zero_that_the_newer_version_says_is_still_meant_after_a_detour() {
    let off = json!({ "myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1", "holdTime": "0", "keepaliveTime": "0s" });
    let older = to(V1BETA1, &peer(V1BETA2, off.clone()));
    assert_eq!(older["spec"], off);
    assert_eq!(to(V1BETA2, &older)["spec"], off);
    // A typed client writes the zero in its own way.
    let rewritten = edited(off.clone(), |spec| {
        spec.insert("holdTime".to_owned(), json!("0s"));
    });
    assert_eq!(rewritten, off);
    let changed = edited(off.clone(), |spec| {
        spec.insert("holdTime".to_owned(), json!("9s"));
        spec.remove("keepaliveTime");
    });
    assert_eq!(changed["holdTime"], "9s");
    assert_eq!(changed.get("keepaliveTime"), None);
}

#[test]
fn an_annotation_of_somebody_else_means_nothing_and_stays() {
    let spec = json!({ "myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1" });
    for text in [
        "",
        "{",
        "7",
        "[]",
        "{}",
        "{\"spec\":7}",
        "{\"absent\":[7]}",
        "{\"other\":{}}",
        "{\"spec\":{}}",
    ] {
        let mut older = peer(V1BETA1, spec.clone());
        older["metadata"]["annotations"][BGP_PEER_V1BETA2] = json!(text);
        let mut newer = older.clone();
        newer["apiVersion"] = json!(V1BETA2);
        assert_eq!(to(V1BETA2, &older), newer, "{text}");
        assert_eq!(to(V1BETA1, &newer), older, "{text}");
    }
}

#[test]
fn luggage_that_stands_on_a_newer_object_is_not_unpacked_there() {
    for text in ["{\"spec\":{\"vrf\":\"red\"}}", "foreign"] {
        for more in [json!({}), json!({ "vrf": "blue" })] {
            let mut newer = peer(
                V1BETA2,
                json!({ "myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1" }),
            );
            newer["spec"]
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            newer["metadata"]["annotations"][BGP_PEER_V1BETA2] = json!(text);
            assert_eq!(to(V1BETA2, &to(V1BETA1, &newer)), newer, "{text}");
        }
    }
}

#[test]
fn luggage_cannot_overwrite_what_the_older_form_says() {
    let mut older = peer(
        V1BETA1,
        json!({ "myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1" }),
    );
    older["metadata"]["annotations"][BGP_PEER_V1BETA2] = json!(
        "{\"spec\":{\"peerAddress\":\"192.0.2.9\",\"routerID\":\"1.1.1.1\"},\"absent\":[\"myASN\",\"peerAddress\"]}"
    );
    assert_eq!(to(V1BETA2, &older)["spec"], older["spec"]);
}

#[test]
fn what_is_no_peer_of_a_known_version_is_not_converted() {
    let good = peer(V1BETA1, json!({}));
    let with = |key: &str, value: Value| {
        let mut object = good.clone();
        object[key] = value;
        object
    };
    for (object, desired, error) in [
        (
            json!(7),
            V1BETA2,
            ConversionError::NotAnObject("the object"),
        ),
        (
            with("metadata", json!(7)),
            V1BETA2,
            ConversionError::NotAnObject("metadata"),
        ),
        (
            with("metadata", json!({ "annotations": [] })),
            V1BETA2,
            ConversionError::NotAnObject("metadata.annotations"),
        ),
        (
            with("kind", json!("Community")),
            V1BETA2,
            ConversionError::OtherKind("Community".to_owned()),
        ),
        (
            with("apiVersion", json!("v1")),
            V1BETA2,
            ConversionError::UnknownVersion("v1".to_owned()),
        ),
        (
            good.clone(),
            "metallb.io/v1",
            ConversionError::UnknownVersion("metallb.io/v1".to_owned()),
        ),
    ] {
        assert_eq!(convert_bgp_peer(object, desired), Err(error));
    }
}

/// A field that may be missing.
fn maybe(
    name: &'static str,
    value: impl Strategy<Value = Value> + 'static,
) -> BoxedStrategy<Option<(String, Value)>> {
    prop::option::of(value.prop_map(move |value| (name.to_owned(), value))).boxed()
}

fn one_of(values: &'static [&'static str]) -> impl Strategy<Value = Value> {
    prop::sample::select(values).prop_map(|text| json!(text))
}

fn selectors() -> impl Strategy<Value = Value> {
    let labels = prop::collection::btree_map("[a-z]{1,3}", "[a-z]{0,3}", 0..3);
    let expression = (
        "[a-z]{1,3}",
        0..4usize,
        prop::collection::vec("[a-z]{1,2}", 1..3),
    )
        .prop_map(|(key, kind, values)| {
            let operator = ["In", "NotIn", "Exists", "DoesNotExist"][kind];
            match kind {
                0 | 1 => json!({ "key": key, "operator": operator, "values": values }),
                2 => json!({ "key": key, "operator": operator }),
                _ => json!({ "key": key, "operator": operator, "values": [] }),
            }
        });
    let expressions = prop::collection::vec(expression, 0..3);
    let selector = (labels, expressions).prop_map(
        |(labels, expressions)| json!({ "matchLabels": labels, "matchExpressions": expressions }),
    );
    prop::collection::vec(selector, 0..3).prop_map(|list| json!(list))
}

fn shared() -> Vec<BoxedStrategy<Option<(String, Value)>>> {
    vec![
        maybe("sourceAddress", one_of(&["192.0.2.2", "fd00::2", ""])),
        maybe("routerID", one_of(&["192.0.2.2", ""])),
        maybe("nodeSelectors", selectors()),
        maybe("password", one_of(&["secret", ""])),
        maybe("bfdProfile", one_of(&["fast", ""])),
        maybe("ebgpMultiHop", any::<bool>().prop_map(|flag| json!(flag))),
    ]
}

const TIMES: &[&str] = &["90s", "1m30s", "0s", "0", "-0s", "3s", "soon", ""];

fn newer_spec() -> impl Strategy<Value = Value> {
    let mut fields = shared();
    fields.extend([
        maybe("myASN", (0..4_294_967_296i64).prop_map(|n| json!(n))),
        maybe("peerASN", prop_oneof![Just(json!(0)), Just(json!(64513))]),
        maybe("dynamicASN", one_of(&["internal", "external"])),
        maybe("localASN", Just(json!(64999))),
        maybe("peerAddress", one_of(&["192.0.2.1", "fd00::1", ""])),
        maybe("interface", one_of(&["eth1", ""])),
        maybe("peerPort", (1..16385).prop_map(|n| json!(n))),
        maybe("holdTime", one_of(TIMES)),
        maybe("keepaliveTime", one_of(TIMES)),
        maybe("connectTime", one_of(TIMES)),
        maybe(
            "passwordSecret",
            Just(json!({ "name": "a", "namespace": "b" })),
        ),
        maybe(
            "enableGracefulRestart",
            any::<bool>().prop_map(|flag| json!(flag)),
        ),
        maybe("vrf", one_of(&["red", "", "\"\\"])),
        maybe("disableMP", any::<bool>().prop_map(|flag| json!(flag))),
        maybe(
            "dualStackAddressFamily",
            any::<bool>().prop_map(|flag| json!(flag)),
        ),
        maybe("ofALaterVersion", Just(json!({ "a": [1, null, "x"] }))),
    ]);
    fields.prop_map(|fields| Value::Object(fields.into_iter().flatten().collect()))
}

fn older_spec() -> impl Strategy<Value = Value> {
    let mut fields = shared();
    fields.extend([
        maybe("peerPort", (0..16385).prop_map(|n| json!(n))),
        maybe("holdTime", one_of(TIMES)),
        maybe("keepaliveTime", one_of(TIMES)),
    ]);
    let required = (
        0..4_294_967_296i64,
        0..3i64,
        prop::sample::select(vec!["192.0.2.1", ""]),
    );
    (fields, required).prop_map(|(fields, (my_asn, peer_asn, address))| {
        let mut spec: Map<String, Value> = fields.into_iter().flatten().collect();
        spec.extend(
            [
                ("myASN", json!(my_asn)),
                ("peerASN", json!(peer_asn)),
                ("peerAddress", json!(address)),
            ]
            .map(|(key, value)| (key.to_owned(), value)),
        );
        Value::Object(spec)
    })
}

/// The v1beta1 object without what means the same there as its absence.
fn without_zeros(mut object: Value) -> Value {
    let spec = object["spec"].as_object_mut().unwrap();
    for time in ["holdTime", "keepaliveTime"] {
        if spec
            .get(time)
            .is_some_and(|text| ["0", "0s", "-0s"].map(Value::from).contains(text))
        {
            spec.remove(time);
        }
    }
    if spec.get("peerPort") == Some(&json!(0)) {
        spec.remove("peerPort");
    }
    object
}

/// Any JSON at all.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        one_of(&[
            "BGPPeer",
            V1BETA1,
            V1BETA2,
            "{\"spec\":{\"vrf\":1},\"beside\":{},\"absent\":[\"peerASN\"]}",
            "0s"
        ]),
    ];
    let keys = prop::sample::select(vec![
        "apiVersion",
        "kind",
        "metadata",
        "annotations",
        BGP_PEER_V1BETA2,
        "spec",
        "peerASN",
        "holdTime",
        "vrf",
        "status",
    ]);
    leaf.prop_recursive(4, 40, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(keys.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_newer_object_comes_back_as_it_went(spec in newer_spec()) {
        let newer = peer(V1BETA2, spec);
        let older = to(V1BETA1, &newer);
        prop_assert!(["peerASN", "peerAddress"].iter().all(|field| older["spec"].get(field).is_some()));
        prop_assert_eq!(to(V1BETA2, &older), newer);
    }

    #[test]
    fn an_older_object_comes_back_as_it_went_but_for_zeros_that_mean_nothing(spec in older_spec()) {
        let older = peer(V1BETA1, spec);
        let newer = to(V1BETA2, &older);
        prop_assert_eq!(luggage(&newer), None);
        prop_assert_eq!(to(V1BETA1, &newer), without_zeros(older));
    }

    #[test]
    fn both_forms_can_be_read(spec in newer_spec()) {
        let mut newer = peer(V1BETA2, spec);
        newer["spec"]["myASN"] = json!(64512);
        newer["status"] = json!({});
        let older = to(V1BETA1, &newer);
        prop_assert!(serde_json::from_value::<v1beta1::BGPPeer>(older).is_ok());
        prop_assert!(serde_json::from_value::<v1beta2::BGPPeer>(newer).is_ok());
    }

    #[test]
    fn nothing_makes_a_conversion_panic(mut object in json(), version in prop::sample::select(vec![V1BETA1, V1BETA2, "v1"])) {
        if let Value::Object(fields) = &mut object {
            fields.entry("kind").or_insert(json!("BGPPeer"));
            fields.entry("apiVersion").or_insert(json!(V1BETA1));
        }
        let _ = convert_bgp_peer(object, version);
    }
}
