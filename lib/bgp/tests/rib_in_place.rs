//! All routes told anew in place, without a withdrawal, because they are about to go away (RFC 8326).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod router;

use ferrolb_bgp::wire::{Community, Context};
use ferrolb_bgp::{AdjRibOut, Attributes, Export, Family, Negotiated};
use ipnet::IpNet;
use proptest::prelude::*;
use router::{Router, export, negotiated, net, prefix, up, with_community};
use std::collections::BTreeMap;

const MARK: Community = Community::GRACEFUL_SHUTDOWN;

fn internal() -> Export {
    Export::new(
        64512,
        &Negotiated {
            internal: true,
            ..negotiated()
        },
    )
}

fn two_of_each() -> [(&'static str, Attributes); 4] {
    [
        ("10.0.0.1/32", with_community(1)),
        ("10.0.0.2/32", with_community(1)),
        ("2001:db8:1::/64", with_community(1)),
        ("2001:db8:2::/64", with_community(2)),
    ]
}

#[test]
fn a_graceful_shutdown_marks_every_route_once_in_place() {
    for (export, preference) in [(export(), None), (internal(), Some(0))] {
        let context = export.context;
        let (mut rib, mut router) = up(export, &two_of_each());
        router.said();
        rib.shut_down_gracefully();
        assert_eq!(rib.pending(), 4);
        let batches = router.drain(&mut rib, &context);
        assert_eq!((batches.len(), batches[0].announced_again), (1, 4));
        assert_eq!(
            router.said(),
            [
                "2 of ipv4-unicast",
                "1 of ipv6-unicast",
                "1 of ipv6-unicast"
            ]
        );
        for (path, _) in router.routes.values() {
            assert_eq!(path.communities[1..], [MARK]);
            assert_eq!(path.local_pref, preference);
        }
        assert_eq!((router.routes.len(), rib.advertised()), (4, 4));
        rib.shut_down_gracefully();
        assert_eq!(rib.next_batch(1), None);
    }
}

#[test]
fn the_mark_is_65535_0_and_is_not_set_twice() {
    assert_eq!(MARK.to_string(), "65535:0");
    let marked = Attributes {
        communities: [Community(1), MARK].into(),
        local_pref: Some(7),
        ..Attributes::default()
    };
    let internal = internal();
    let context = internal.context;
    let (mut rib, mut router) = up(internal, &[("10.0.0.1/32", marked)]);
    // A community that was configured says nothing of the preference.
    assert_eq!(router.routes[&net("10.0.0.1/32")].0.local_pref, Some(7));
    rib.shut_down_gracefully();
    router.drain(&mut rib, &context);
    let (path, _) = &router.routes[&net("10.0.0.1/32")];
    assert_eq!(path.communities, [Community(1), MARK]);
    assert_eq!(path.local_pref, Some(0));
}

#[test]
fn routes_and_sessions_that_come_later_are_marked_too() {
    let (mut rib, mut router) = up(export(), &two_of_each());
    rib.shut_down_gracefully();
    rib.set(net("10.0.0.3/32"), Some(&with_community(1)));
    router.drain(&mut rib, &Context::default());
    let marked = |router: &Router| {
        let mut paths = router.routes.values().map(|(path, _)| path);
        paths.all(|path| path.communities.contains(&MARK))
    };
    assert!(marked(&router) && router.withdrawn.is_empty());
    rib.down();
    rib.established(export());
    let mut router = Router::default();
    router.drain(&mut rib, &Context::default());
    assert_eq!(router.routes.len(), 5);
    assert!(marked(&router));
}

#[test]
fn what_was_not_sent_yet_is_sent_once_and_marked() {
    let (mut rib, mut router) = up(export(), &[]);
    router.said();
    rib.set(net("10.0.0.1/32"), Some(&with_community(1)));
    rib.shut_down_gracefully();
    let batches = router.drain(&mut rib, &Context::default());
    assert_eq!(batches[0].announced, [net("10.0.0.1/32")]);
    assert_eq!(router.said(), ["1 of ipv4-unicast"]);
    assert_eq!(
        router.routes[&net("10.0.0.1/32")].0.communities,
        [Community(1), MARK]
    );
}

#[test]
fn no_route_is_lost_for_want_of_room_for_the_mark() {
    let mut outcomes = Vec::new();
    for count in 1000..1020 {
        let many = Attributes {
            communities: (0..count).map(Community).collect(),
            ..Attributes::default()
        };
        let (mut rib, mut router) = up(export(), &[("10.0.0.1/32", many)]);
        let before = router.routes.len();
        rib.shut_down_gracefully();
        router.drain(&mut rib, &Context::default());
        assert_eq!(router.routes.len(), before, "{count}");
        outcomes.push(before);
    }
    // The border was among them.
    assert_eq!((outcomes[0], outcomes[19]), (1, 0));
}

#[derive(Debug, Clone)]
enum Event {
    Set(IpNet, Option<u32>),
    Fetch(usize),
    Refresh(bool),
    ShutDown,
    Flap,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        10 => (prefix(), prop::option::of(0..4u32)).prop_map(|(prefix, value)| Event::Set(prefix, value)),
        8 => (1..300usize).prop_map(Event::Fetch),
        2 => any::<bool>().prop_map(Event::Refresh),
        1 => Just(Event::ShutDown),
        1 => Just(Event::Flap),
    ]
}

/// One set of attributes of four is more than a message holds.
fn attributes(value: u32) -> Attributes {
    match value {
        3 => Attributes {
            communities: (0..1100).map(Community).collect(),
            ..Attributes::default()
        },
        value => with_community(value),
    }
}

/// What a router shall have of a route: its community, and whether it is about to go away.
fn shall_have(wanted: &BTreeMap<IpNet, u32>, leaving: bool) -> BTreeMap<IpNet, (u32, bool)> {
    let carried = wanted.iter().filter(|(_, value)| **value != 3);
    carried
        .map(|(prefix, value)| (*prefix, (*value, leaving)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// After any history the router has every route that can be carried, with the mark of now, and what it shall have was never
    /// withdrawn on the way.
    #[test]
    fn the_router_ends_up_with_the_marks_of_now(
        events in prop::collection::vec(event(), 1..80),
        enhanced_refresh in any::<bool>(),
    ) {
        let context = export().context;
        let (mut rib, mut router) = (AdjRibOut::new(), Router::default());
        let export = || Export::new(64512, &Negotiated { enhanced_refresh, ..negotiated() });
        let mut leaving = false;
        let mut wanted: BTreeMap<IpNet, u32> = BTreeMap::new();
        rib.established(export());
        for event in events {
            match event {
                Event::Set(prefix, value) => {
                    rib.set(prefix, value.map(attributes).as_ref());
                    match value {
                        Some(value) => wanted.insert(prefix, value),
                        None => wanted.remove(&prefix),
                    };
                }
                Event::Fetch(octets) => {
                    router.withdrawn.clear();
                    if let Some(batch) = rib.next_batch(octets) {
                        router.take(&batch, &context);
                    }
                    let shall = shall_have(&wanted, leaving);
                    prop_assert!(router.withdrawn.iter().all(|net| !shall.contains_key(net)));
                }
                Event::Refresh(v6) => rib.refresh(if v6 { Family::Ipv6Unicast } else { Family::Ipv4Unicast }),
                Event::ShutDown => {
                    leaving = true;
                    rib.shut_down_gracefully();
                }
                Event::Flap => {
                    rib.down();
                    router = Router::default();
                    rib.established(export());
                }
            }
        }
        router.drain(&mut rib, &context);
        let have: BTreeMap<IpNet, (u32, bool)> = router.routes.iter().map(|(net, (path, _))| {
            (*net, (path.communities[0].0, path.communities.contains(&MARK)))
        }).collect();
        let shall = shall_have(&wanted, leaving);
        prop_assert_eq!(&have, &shall);
        prop_assert_eq!((rib.advertised(), rib.pending()), (shall.len(), 0));
        prop_assert_eq!(rib.not_advertised().len(), wanted.len() - shall.len());
        prop_assert!(!router.in_repetition());
    }
}
