//! An edit that breaks an object leaves in force what it said before, and takes nothing from others.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use ferrolb_api::v1beta1::{
    BGPAdvertisement, BGPAdvertisementSpec, Community, CommunityAlias, CommunitySpec,
    IPAddressPool, IPAddressPoolSpec,
};
use ferrolb_api::v1beta2::{BGPPeer, BGPPeerSpec};
use ferrolb_api::{InForce, StaysInForce, fingerprint, form_of};
use ferrolb_rules::{AllObjects, Configuration, LastGood};

fn pool(name: &str, addresses: &[&str]) -> IPAddressPool {
    let spec = IPAddressPoolSpec {
        addresses: addresses.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let mut pool = IPAddressPool::new(name, spec);
    pool.metadata.uid = Some(format!("uid of {name}"));
    pool
}

fn advertisement(name: &str, local_pref: i64) -> BGPAdvertisement {
    let spec = BGPAdvertisementSpec {
        local_pref: Some(local_pref),
        ..Default::default()
    };
    BGPAdvertisement::new(name, spec)
}

fn shared<K: Clone>(objects: &[&K]) -> Vec<Arc<K>> {
    objects
        .iter()
        .map(|object| Arc::new((*object).clone()))
        .collect()
}

fn pools(last_good: &mut LastGood, pools: &[&IPAddressPool]) -> (Configuration, usize) {
    let (configuration, refusals) = last_good.read(&AllObjects {
        pools: shared(pools),
        ..AllObjects::default()
    });
    (configuration, refusals.len())
}

#[test]
fn a_pool_made_anew_under_the_name_has_no_former_form() {
    let mut last_good = LastGood::default();
    pools(&mut last_good, &[&pool("p", &["10.0.0.0/24"])]);
    let mut other = pool("p", &["nonsense"]);
    let (configuration, refusals) = pools(&mut last_good, &[&other]);
    assert_eq!((configuration.pools.len(), refusals), (1, 1));
    assert!(last_good.keeps("IPAddressPool", "p"));
    other.metadata.uid = Some("another".to_owned());
    let (configuration, refusals) = pools(&mut last_good, &[&other]);
    assert_eq!((configuration.pools.len(), refusals), (0, 1));
    assert!(!last_good.keeps("IPAddressPool", "p"));
}

#[test]
fn an_annotation_of_a_pool_is_read_and_a_broken_one_leaves_the_former_in_force() {
    let mut last_good = LastGood::default();
    let annotated = |key: &str, value: &str| {
        let mut pool = pool("p", &["10.0.0.0/24"]);
        pool.metadata.annotations = Some([(key.to_owned(), value.to_owned())].into());
        pool
    };
    let (plain, _) = pools(&mut last_good, &[&pool("p", &["10.0.0.0/24"])]);
    assert_eq!(plain.pools["p"].reuse_hold, 0);
    let (held, refusals) = pools(
        &mut last_good,
        &[&annotated("ferrolb.io/reuse-hold", "10m")],
    );
    assert_eq!((held.pools["p"].reuse_hold, refusals), (600, 0));
    let (still, refusals) = pools(
        &mut last_good,
        &[&annotated("ferrolb.io/exclude", "10.0.1.1")],
    );
    assert_eq!((&still, refusals), (&held, 1));
    assert!(last_good.keeps("IPAddressPool", "p"));
    let (excluding, _) = pools(
        &mut last_good,
        &[&annotated("ferrolb.io/exclude", "10.0.0.1")],
    );
    let exclude = &excluding.pools["p"].exclude;
    assert_eq!(exclude, &["10.0.0.1/32".parse().unwrap()]);
    assert!(
        excluding.pool_of(&["10.0.0.1".parse().unwrap()]).is_some(),
        "it is the pool's address all the same"
    );
}

#[test]
fn the_former_addresses_of_a_broken_pool_are_not_given_to_a_new_one() {
    let mut last_good = LastGood::default();
    pools(&mut last_good, &[&pool("p", &["10.0.0.0/24"])]);
    let broken = pool("p", &["10.0.0.0/24", "nonsense"]);
    pools(&mut last_good, &[&broken]);
    let new = pool("a-new-one", &["10.0.0.128/25"]);
    let (configuration, refusals) = pools(&mut last_good, &[&new, &broken]);
    assert_eq!(refusals, 2, "the mistake and the overlap");
    assert_eq!(configuration.pools.keys().collect::<Vec<_>>(), ["p"]);
    // Once mended, all is as if nothing had been.
    let mended = pool("p", &["10.0.1.0/24"]);
    let (configuration, refusals) = pools(&mut last_good, &[&new, &mended]);
    assert_eq!((configuration.pools.len(), refusals), (2, 0));
}

#[test]
fn an_advertisement_outlives_the_community_that_it_names() {
    let alias = CommunityAlias {
        name: "blue".to_owned(),
        value: "64512:1".to_owned(),
    };
    let community = Community::new(
        "c",
        CommunitySpec {
            communities: vec![alias],
        },
    );
    let mut adv = advertisement("adv", 0);
    adv.spec.communities = vec!["blue".to_owned()];
    let mut last_good = LastGood::default();
    let mut read = |communities: &[&Community]| {
        last_good.read(&AllObjects {
            bgp_advertisements: shared(&[&adv]),
            communities: shared(communities),
            ..AllObjects::default()
        })
    };
    let (with, refusals) = read(&[&community]);
    assert!(refusals.is_empty());
    let (without, refusals) = read(&[]);
    assert_eq!(refusals.len(), 1);
    assert_eq!(without.bgp_advertisements, with.bgp_advertisements);
}

#[test]
fn a_peer_that_is_broken_by_an_edit_keeps_its_session() {
    let mut peer = BGPPeer::new(
        "router",
        BGPPeerSpec {
            my_asn: 64512,
            peer_asn: Some(64513),
            peer_address: Some("192.0.2.1".to_owned()),
            ..Default::default()
        },
    );
    let mut last_good = LastGood::default();
    let mut read = |peer: &BGPPeer| {
        last_good.read(&AllObjects {
            peers: shared(&[peer]),
            ..AllObjects::default()
        })
    };
    let (before, _) = read(&peer);
    peer.spec.peer_address = Some("nonsense".to_owned());
    let (after, refusals) = read(&peer);
    assert_eq!((refusals.len(), &after.peers), (1, &before.peers));
}

#[test]
fn a_second_local_preference_for_the_same_routes_is_refused_and_leaves_the_first_in_force() {
    let pool = pool("p", &["10.0.0.0/24"]);
    let (one, other) = (
        advertisement("z-first", 100),
        advertisement("a-second", 200),
    );
    let mut last_good = LastGood::default();
    let mut read = |all: &[&BGPAdvertisement]| {
        last_good.read(&AllObjects {
            pools: shared(&[&pool]),
            bgp_advertisements: shared(all),
            ..AllObjects::default()
        })
    };
    assert!(read(&[&one]).1.is_empty());
    let (configuration, refusals) = read(&[&other, &one]);
    assert_eq!(
        (
            refusals.len(),
            refusals[0].name.as_str(),
            refusals[0].field.as_str()
        ),
        (1, "a-second", "spec.localPref"),
        "what is in force comes first, whatever its name"
    );
    let covering: Vec<&str> = configuration
        .bgp_advertisements_of(&configuration.pools["p"])
        .map(|adv| adv.name.as_str())
        .collect();
    assert_eq!(covering, ["z-first"]);
    // Different peers, or another length, and both can be.
    let mut apart = other.clone();
    apart.spec.aggregation_length = 24;
    assert!(read(&[&apart, &one]).1.is_empty());
}

/// An edit of what nobody contends for does not cost a pool its addresses. Without times of creation names decide who is older.
#[test]
fn a_pool_that_is_relabelled_stays_in_force_beside_one_that_wants_its_addresses() {
    let mut last_good = LastGood::default();
    let older = pool("a", &["10.0.1.0/24"]);
    let mut younger = pool("b", &["10.0.0.0/24"]);
    pools(&mut last_good, &[&older, &younger]);
    let greedy = pool("a", &["10.0.0.0/24"]);
    pools(&mut last_good, &[&greedy, &younger]);
    younger.metadata.labels = Some([("team".to_owned(), "x".to_owned())].into());
    younger.spec.auto_assign = false;
    let (configuration, refusals) = pools(&mut last_good, &[&greedy, &younger]);
    assert!(!configuration.pools["b"].auto_assign);
    assert_eq!(configuration.pools["b"].labels.len(), 1);
    assert_eq!(refusals, 1);
    assert!(last_good.keeps("IPAddressPool", "a"));
}

/// Of two edits one after the other a watch may show only the second, and not to every process.
#[test]
fn who_follows_takes_over_what_the_writer_says_of_an_edit_that_both_have_seen() {
    let kept = |last_good: &mut LastGood, status: Option<(i64, &str)>| {
        let mut broken = pool("p", &["nonsense"]);
        broken.metadata.generation = Some(3);
        let observed = fingerprint(&form_of(&broken));
        broken.keep_of_status(status.map(|(generation, addresses)| InForce {
            observed_generation: Some(generation),
            observed,
            form: Some(form_of(&pool("p", &[addresses]))),
        }));
        let (configuration, _) = pools(last_good, &[&broken]);
        let ranges = configuration.pools.get("p").map(|pool| pool.ranges.clone());
        ranges.map(|ranges| ranges[0].to_string())
    };
    let remembering = |mut last_good: LastGood| {
        pools(&mut last_good, &[&pool("p", &["10.0.2.0/24"])]);
        last_good
    };
    let expected = |text: &str| Some(text.to_owned());
    let mut follower = remembering(LastGood::default());
    let own = expected("10.0.2.0/24");
    let others = expected("10.0.1.0/24");
    assert_eq!(
        kept(&mut follower, Some((2, "10.0.1.0/24"))),
        own,
        "it has not seen this edit"
    );
    assert_eq!(kept(&mut follower, Some((3, "10.0.1.0/24"))), others);
    assert_eq!(kept(&mut follower, None), others, "it remembers that");
    let mut late = remembering(LastGood::default());
    assert_eq!(
        kept(&mut late, Some((3, "10.0.1.0/24"))),
        others,
        "it sees both at once"
    );
    let mut writer = remembering(LastGood::of_the_writer());
    for generation in [2, 3] {
        assert_eq!(kept(&mut writer, Some((generation, "10.0.1.0/24"))), own);
    }
    assert_eq!(
        kept(&mut LastGood::default(), Some((2, "10.0.1.0/24"))),
        others
    );
}
