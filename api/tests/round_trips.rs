//! What is read is what is written.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use ferrolb_api::v1beta1::{
    BGPAdvertisement, ConfigurationState, IPAddressPool, L2Advertisement, ServiceL2Status,
};
use ferrolb_api::{annotations, v1beta1, v1beta2};
use serde_json::{Value, json};
use validator::Validate;

fn reads_back<K: serde::de::DeserializeOwned + serde::Serialize>(object: Value) {
    let read: K = serde_json::from_value(object.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), object);
}

#[test]
fn a_full_pool_keeps_every_field_under_its_name() {
    reads_back::<IPAddressPool>(json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
        "metadata": { "name": "first", "namespace": "metallb-system" },
        "spec": {
            "addresses": ["192.0.2.0/24", "2001:db8::1-2001:db8::ff"],
            "autoAssign": false, "avoidBuggyIPs": true,
            "serviceAllocation": {
                "priority": 10, "namespaces": ["shop"],
                "namespaceSelectors": [{ "matchLabels": { "team": "a" } }],
                "serviceSelectors": [{ "matchExpressions": [{ "key": "app", "operator": "In", "values": ["web"] }] }]
            }
        },
        "status": {
            "assignedIPv4": 1, "assignedIPv6": 2, "availableIPv4": 255, "availableIPv6": 253,
            "heldAddresses": [
                { "addresses": "192.0.2.1-192.0.2.9", "until": "2026-01-01T00:00:00Z" },
                { "addresses": "2001:db8::7", "until": "2026-01-01T00:00:00Z", "service": "shop/web" }
            ]
        }
    }));
    let nothing_held =
        json!({ "assignedIPv4": 0, "assignedIPv6": 0, "availableIPv4": 1, "availableIPv6": 0 });
    reads_back::<v1beta1::IPAddressPoolStatus>(nothing_held);
}

#[test]
fn a_full_peer_keeps_every_field_under_metallbs_names() {
    reads_back::<v1beta2::BGPPeer>(json!({
        "apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer", "metadata": { "name": "router" },
        "spec": {
            "myASN": 4_294_967_295_i64, "peerASN": 64513, "dynamicASN": "external", "localASN": 64999,
            "peerAddress": "192.0.2.1", "interface": "eth1", "sourceAddress": "192.0.2.2", "peerPort": 1179,
            "holdTime": "1m30s", "keepaliveTime": "30s", "connectTime": "5s", "routerID": "192.0.2.2",
            "nodeSelectors": [{ "matchLabels": { "rack": "1" } }],
            "password": "secret", "passwordSecret": { "name": "router", "namespace": "metallb-system" },
            "bfdProfile": "fast", "enableGracefulRestart": false, "ebgpMultiHop": true, "vrf": "red",
            "disableMP": false, "dualStackAddressFamily": true
        }
    }));
    reads_back::<v1beta1::BGPPeer>(json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "BGPPeer", "metadata": { "name": "router" },
        "spec": {
            "myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1", "sourceAddress": "192.0.2.2",
            "peerPort": 0, "holdTime": "90s", "keepaliveTime": "30s", "routerID": "192.0.2.2",
            "nodeSelectors": [{
                "matchLabels": { "rack": "1" },
                "matchExpressions": [{ "key": "zone", "operator": "In", "values": ["a"] }]
            }],
            "password": "secret", "bfdProfile": "fast", "ebgpMultiHop": false
        }
    }));
}

#[test]
fn an_advertisement_without_a_spec_covers_everything() {
    let bare = |kind: &str| json!({ "apiVersion": "metallb.io/v1beta1", "kind": kind, "metadata": { "name": "all" } });
    let l2: L2Advertisement = serde_json::from_value(bare("L2Advertisement")).unwrap();
    assert_eq!(l2.spec, v1beta1::L2AdvertisementSpec::default());
    let bgp: BGPAdvertisement = serde_json::from_value(bare("BGPAdvertisement")).unwrap();
    assert_eq!(
        (bgp.spec.aggregation_length, bgp.spec.aggregation_length_v6),
        (32, 128)
    );
    let yaml: L2Advertisement = serde_saphyr::from_str(
        "apiVersion: metallb.io/v1beta1\nkind: L2Advertisement\nmetadata:\n  name: all\nspec:\n  interfaces: [eth0]\n",
    )
    .unwrap();
    assert_eq!(yaml.spec.interfaces, ["eth0"]);
}

#[test]
fn an_advertisement_with_a_wrong_type_is_told_which_type_was_expected() {
    let error = serde_json::from_value::<L2Advertisement>(
        json!({ "apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement", "metadata": {}, "spec": { "interfaces": 7 } }),
    )
    .unwrap_err();
    assert!(error.to_string().contains("sequence"), "{error}");
}

#[test]
fn kinds_of_only_a_status_need_no_spec() {
    let state: ConfigurationState = serde_json::from_value(json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "ConfigurationState", "metadata": { "name": "controller" },
        "status": { "result": "Valid" }
    }))
    .unwrap();
    assert_eq!(
        state.status.unwrap().result,
        Some(v1beta1::ConfigurationResult::Valid)
    );
    let l2: ServiceL2Status = serde_json::from_value(json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "ServiceL2Status", "metadata": { "name": "l2-x" },
        "status": { "node": "node-1", "interfaces": [{ "name": "eth0" }] }
    }))
    .unwrap();
    assert_eq!(l2.status.unwrap().interfaces[0].name, "eth0");
}

#[test]
fn defaults_are_the_ones_of_the_schema() {
    let pool: IPAddressPool = serde_json::from_value(json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": {}, "spec": { "addresses": [] }, "status": {}
    }))
    .unwrap();
    assert_eq!(pool.spec, v1beta1::IPAddressPoolSpec::default());
    assert!(pool.spec.auto_assign);
    let peer: v1beta2::BGPPeer = serde_json::from_value(
        json!({ "apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer", "metadata": {}, "spec": { "myASN": 0 } }),
    )
    .unwrap();
    assert_eq!(peer.spec, v1beta2::BGPPeerSpec::default());
    assert_eq!(peer.spec.peer_port, 179);
}

#[test]
fn a_field_that_decides_alone_is_refused_with_its_name() {
    let mut peer = v1beta2::BGPPeerSpec {
        my_asn: 64512,
        ..Default::default()
    };
    assert!(peer.validate().is_ok());
    peer.peer_port = 0;
    peer.local_asn = Some(4_294_967_296);
    let errors = peer.validate().unwrap_err();
    let fields: Vec<_> = errors
        .field_errors()
        .into_keys()
        .map(String::from)
        .collect();
    for field in ["peer_port", "local_asn"] {
        assert!(
            fields.iter().any(|name| name == field),
            "{field} is missing in {fields:?}"
        );
    }
    let advertisement = v1beta1::BGPAdvertisementSpec {
        local_pref: Some(-1),
        ..Default::default()
    };
    assert!(advertisement.validate().is_err());
}

#[test]
fn the_present_annotation_prefix_wins_even_when_empty() {
    let both = [
        (annotations::ADDRESS_POOL.current.to_owned(), String::new()),
        (
            annotations::ADDRESS_POOL.deprecated.to_owned(),
            "old".to_owned(),
        ),
    ]
    .into();
    assert_eq!(
        annotations::ADDRESS_POOL.find(&both),
        Some(("", "metallb.io/address-pool"))
    );
    let old = [(
        annotations::ADDRESS_POOL.deprecated.to_owned(),
        "old".to_owned(),
    )]
    .into();
    assert_eq!(
        annotations::ADDRESS_POOL.find(&old),
        Some(("old", "metallb.universe.tf/address-pool"))
    );
}
