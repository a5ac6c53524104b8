//! What is in force and what is set aside, over whole objects.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use ferrolb_api::v1beta1::{BGPAdvertisement, Community, IPAddressPool, L2Advertisement};
use ferrolb_api::v1beta2::BGPPeer;
use ferrolb_rules::{
    AllObjects, Configuration, Known, LastGood, Objects, Password, PeerAsn, Refusal,
};
use serde_json::{Value, json};

fn object<T: serde::de::DeserializeOwned>(name: &str, created: &str, spec: Value) -> T {
    let kind = std::any::type_name::<T>().rsplit("::").next().unwrap();
    let version = if kind == "BGPPeer" {
        "v1beta2"
    } else {
        "v1beta1"
    };
    serde_json::from_value(json!({
        "apiVersion": format!("metallb.io/{version}"), "kind": kind,
        "metadata": {"name": name, "namespace": "metallb-system", "creationTimestamp": created, "labels": {"name": name}},
        "spec": spec,
    }))
    .unwrap()
}

fn pool(name: &str, created: &str, addresses: &[&str]) -> IPAddressPool {
    object(name, created, json!({"addresses": addresses}))
}

fn known(objects: AllObjects) -> Known {
    Known::new(objects, &mut LastGood::default(), None)
}

fn check_pool<'a>(
    candidate: &IPAddressPool,
    others: impl IntoIterator<Item = &'a IPAddressPool>,
) -> Vec<Refusal> {
    let others = others.into_iter().cloned().map(Arc::new).collect();
    let beside = AllObjects {
        pools: others,
        ..AllObjects::default()
    };
    known(beside).pool(candidate).refusals
}

const OLD: &str = "2026-01-01T00:00:00Z";
const NEW: &str = "2026-02-01T00:00:00Z";

#[test]
fn of_two_pools_that_overlap_the_older_stays_in_force() {
    let old = pool("z-old", OLD, &["10.0.0.0/24"]);
    let new = pool("a-new", NEW, &["10.0.0.200-10.0.1.5", "10.0.9.0/24"]);
    let apart = pool("apart", NEW, &["10.0.2.0/24", "fd00::/112"]);
    let (configuration, refusals) = Configuration::from_objects(&Objects {
        pools: &[&new, &old, &apart],
        ..Objects::default()
    });
    assert_eq!(
        configuration.pools.keys().collect::<Vec<_>>(),
        ["apart", "z-old"]
    );
    assert_eq!(refusals.len(), 1);
    let text = refusals[0].to_string();
    assert!(
        text.starts_with("IPAddressPool \"a-new\", spec.addresses[0]: CIDR \"10.0.0.200-10.0.1.5\" in pool \"a-new\" overlaps with already defined CIDR \"10.0.0.0/24\""),
        "{text}"
    );
    assert_eq!(
        configuration
            .pool_of(&["10.0.2.1".parse().unwrap(), "fd00::1".parse().unwrap()])
            .unwrap()
            .name,
        "apart"
    );
    assert!(
        configuration
            .pool_of(&["10.0.2.1".parse().unwrap(), "10.0.0.1".parse().unwrap()])
            .is_none()
    );
}

#[test]
fn a_pool_is_checked_beside_the_others_but_not_beside_its_former_self() {
    let before = pool("a", OLD, &["10.0.0.0/24"]);
    let other = pool("b", OLD, &["10.1.0.0/16", "10.2.5.0/24"]);
    assert!(check_pool(&pool("a", OLD, &["10.0.0.0/25"]), [&before, &other]).is_empty());
    assert_eq!(
        check_pool(&pool("c", NEW, &["10.1.200.0/24"]), [&before, &other]).len(),
        1,
        "within a wider range"
    );
    assert_eq!(
        check_pool(&pool("c", NEW, &["10.9.0.0/24", "10.9.0.7/32"]), [&before]).len(),
        1,
        "within itself"
    );
    let all_wrong = check_pool(
        &pool("c", NEW, &["nonsense", "10.0.0.9-10.0.0.1", "10.1.2.0/24"]),
        [&other],
    );
    assert_eq!(all_wrong.len(), 3, "every problem at once: {all_wrong:?}");
    assert_eq!(
        check_pool(&pool("c", NEW, &[]), []).len(),
        1,
        "said once, not by two rules"
    );
}

#[test]
fn every_annotation_of_a_pool_is_checked_at_once() {
    let mut wrong = pool("a", OLD, &["10.0.0.0/24"]);
    let annotation = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    wrong.metadata.annotations = Some(
        [
            annotation("ferrolb.io/exclude", "10.0.0.0/24"),
            annotation("ferrolb.io/reuse-hold", "721h"),
            annotation("ferrolb.io/max-addresses-per-namespace", "many"),
            annotation("ferrolb.io/max-addresses", "many"),
        ]
        .into(),
    );
    let refusals = check_pool(&wrong, []);
    let texts: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 3, "the last is none of a pool's: {texts:?}");
    assert_eq!(
        texts[0],
        "IPAddressPool \"a\", metadata.annotations[ferrolb.io/exclude]: \
         every address of the pool is excluded; exclude fewer, or delete the pool"
    );
    assert!(refusals.iter().all(|refusal| !refusal.conflict));
}

#[test]
fn one_bad_object_stops_nothing_else() {
    let good = pool("good", OLD, &["10.0.0.0/24"]);
    let bad = pool("bad", OLD, &["10.0.0.0/44"]);
    let advertisement: BGPAdvertisement = object(
        "bgp",
        OLD,
        json!({"communities": ["no-advertise", "64512:7"]}),
    );
    let lost: BGPAdvertisement = object("lost", OLD, json!({"communities": ["nobody"]}));
    let aliases: Community = object(
        "aliases",
        OLD,
        json!({"communities": [{"name": "no-advertise", "value": "65535:65282"}]}),
    );
    let peer: BGPPeer = object(
        "peer",
        OLD,
        json!({"myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.1"}),
    );
    let (configuration, refusals) = Configuration::from_objects(&Objects {
        pools: &[&bad, &good],
        bgp_advertisements: &[&lost, &advertisement],
        communities: &[&aliases],
        peers: &[&peer],
        ..Objects::default()
    });
    assert_eq!(configuration.pools.keys().collect::<Vec<_>>(), ["good"]);
    assert_eq!(configuration.bgp_advertisements.len(), 1);
    assert_eq!(configuration.bgp_advertisements[0].communities.len(), 2);
    assert_eq!(
        configuration.peers["peer"].peer_asn,
        PeerAsn::Exactly(64513)
    );
    let wrong: Vec<_> = refusals
        .iter()
        .map(|refusal| (refusal.kind, refusal.name.as_str()))
        .collect();
    assert_eq!(
        wrong,
        [("IPAddressPool", "bad"), ("BGPAdvertisement", "lost")]
    );
}

#[test]
fn peers_are_refused_with_metallbs_fragments() {
    let base = json!({"myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.1"});
    for (change, fragment) in [
        (json!({"myASN": 0}), "missing local ASN"),
        (json!({"peerASN": null}), "missing peer ASN and dynamicASN"),
        (
            json!({"dynamicASN": "internal"}),
            "both peer ASN and dynamicASN specified",
        ),
        (
            json!({"peerAddress": "router"}),
            "invalid BGPPeer address \"router\"",
        ),
        (
            json!({"peerAddress": null}),
            "peer has no Address or Interface specified",
        ),
        (
            json!({"interface": "eth0"}),
            "peer has both Address and Interface specified",
        ),
        (json!({"holdTime": "1s"}), "must be 0 or >=3s"),
        (
            json!({"holdTime": "9s", "keepaliveTime": "10s"}),
            "invalid keepaliveTime",
        ),
        (json!({"holdTime": "soon"}), "invalid BGPPeer timers"),
        (json!({"routerID": "x"}), "invalid router ID"),
        (json!({"sourceAddress": "x"}), "invalid source IP"),
        (
            json!({"peerASN": 64512, "ebgpMultiHop": true}),
            "invalid ebgp-multihop parameter",
        ),
        (
            json!({"password": "a", "passwordSecret": {"name": "b"}}),
            "can not have both password and secret ref",
        ),
        (
            json!({"peerPort": 0}),
            "must be from 1 to 16384, is 0; write a number in that range",
        ),
        (
            json!({"connectTime": "0s"}),
            "connect time should be between 1 seconds to 65535",
        ),
        (
            json!({"sourceAddress": "fd00::1"}),
            "invalid source IP \"fd00::1\": it is not of the family of peerAddress \"10.0.0.1\"",
        ),
        (
            json!({"peerAddress": "::ffff:10.0.0.1"}),
            "invalid BGPPeer address \"::ffff:10.0.0.1\"",
        ),
        (json!({"routerID": "0.0.0.0"}), "other than 0.0.0.0"),
        (json!({"holdTime": ""}), "an empty text is not a duration"),
        (
            json!({"myASN": 4_294_967_296_i64}),
            "must be from 0 to 4294967295, is 4294967296",
        ),
    ] {
        let mut spec = base.clone();
        for (key, value) in change.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let peer: BGPPeer = object("p", OLD, spec);
        let refusals = Known::default().peer(&peer).refusals;
        assert_eq!(refusals.len(), 1, "{change}: {refusals:?}");
        assert!(
            refusals[0].reason.contains(fragment),
            "{change}: {}",
            refusals[0]
        );
    }
    let peer: BGPPeer = object("p", OLD, base);
    assert!(Known::default().peer(&peer).refusals.is_empty());
}

#[test]
fn what_a_peer_asks_for_in_vain_is_said() {
    let peer = json!({"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1", "bfdProfile": "fast"});
    let verdict = Known::default().peer(&object("p", OLD, peer));
    let said: Vec<String> = verdict.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        ["spec: This version of FerroLB does not carry out spec.bfdProfile yet."]
    );
}

#[test]
fn a_password_is_never_shown() {
    assert_eq!(
        format!("{:?}", Password::Plain("hunter2".into())),
        "Plain(<retracted>)"
    );
}

#[test]
fn advertisements_are_refused_where_they_contradict_themselves_or_a_pool() {
    let pool = pool("narrow", OLD, &["1.1.1.0/28"]);
    let known = known(AllObjects {
        pools: vec![Arc::new(pool)],
        ..AllObjects::default()
    });
    let check = |spec: Value| -> Vec<String> {
        let verdict = known.bgp_advertisement(&object("adv", OLD, spec));
        verdict.refusals.iter().map(ToString::to_string).collect()
    };
    assert!(check(json!({})).is_empty());
    assert!(check(json!({"aggregationLength": 28})).is_empty());
    assert!(check(json!({"communities": ["alias-that-comes-later"]})).is_empty());
    for (spec, fragment) in [
        (
            json!({"aggregationLength": 26}),
            "invalid aggregation length 26: prefix 28 in this pool is more specific",
        ),
        (
            json!({"aggregationLength": 33}),
            "invalid aggregation length 33 for IPv4",
        ),
        (
            json!({"aggregationLengthV6": 129}),
            "invalid aggregation length 129 for IPv6",
        ),
        (
            json!({"aggregationLength": 28, "serviceSelectors": [{}]}),
            "mutually exclusive",
        ),
        (json!({"communities": ["99999999:1"]}), "invalid community"),
        (
            json!({"peers": ["a", "a"]}),
            "duplicate definition of peers \"a\"",
        ),
        (
            json!({"nodeSelectors": [{}, {}]}),
            "duplicate definition of nodeSelectors",
        ),
    ] {
        let refusals = check(spec.clone());
        assert_eq!(refusals.len(), 1, "{spec}: {refusals:?}");
        assert!(refusals[0].contains(fragment), "{spec}: {}", refusals[0]);
    }
    let l2: L2Advertisement = object(
        "l2",
        OLD,
        json!({"ipAddressPools": ["a", "a"], "preferredNodeSelectors": [{"weight": 101, "preference": {}}]}),
    );
    assert_eq!(known.l2_advertisement(&l2).refusals.len(), 2);
}

#[test]
fn an_alias_is_defined_once() {
    let first: Community = object(
        "a",
        OLD,
        json!({"communities": [{"name": "x", "value": "1:1"}]}),
    );
    let second: Community = object(
        "b",
        NEW,
        json!({"communities": [{"name": "x", "value": "1:2"}, {"name": "y", "value": "lar:1:2:3"}]}),
    );
    let known = known(AllObjects {
        communities: vec![Arc::new(first.clone()), Arc::new(second.clone())],
        ..AllObjects::default()
    });
    let refusals = known.community(&second).refusals;
    assert_eq!(refusals.len(), 2);
    assert!(
        refusals[0]
            .reason
            .contains("duplicate definition of community \"x\"")
    );
    assert!(known.community(&first).refusals.is_empty());
}

#[test]
fn a_pool_that_does_not_fit_an_advertisement_is_left_out_and_no_other() {
    let wide = pool("wide", OLD, &["10.0.0.0/24"]);
    let narrow = pool("narrow", NEW, &["10.9.9.0/28"]);
    let advertisement: BGPAdvertisement = object("all", OLD, json!({"aggregationLength": 24}));
    let (configuration, refusals) = Configuration::from_objects(&Objects {
        pools: &[&wide, &narrow],
        bgp_advertisements: &[&advertisement],
        ..Objects::default()
    });
    let covered = |name: &str| {
        configuration
            .bgp_advertisements_of(&configuration.pools[name])
            .count()
    };
    assert_eq!((covered("wide"), covered("narrow")), (1, 0));
    assert_eq!(refusals.len(), 1);
    assert!(
        refusals[0].reason.contains("invalid aggregation length 24"),
        "{}",
        refusals[0]
    );
}
