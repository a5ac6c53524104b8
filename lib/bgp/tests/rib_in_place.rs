//! All routes told anew in place, without a withdrawal: because they are about to go away (RFC 8326), or because our
//! addresses changed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod router;

use ferrolb_bgp::wire::{Community, Context, NextHop};
use ferrolb_bgp::{AdjRibOut, Attributes, Export, Family, Negotiated, NotAdvertised, Told};
use ipnet::IpNet;
use proptest::prelude::*;
use router::{Router, V4_HOP, V6_HOP, export, negotiated, net, up, with_community};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

fn hop_v4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, number)
}

fn hop_v6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into())
}

/// A session with these next hops of both families.
fn with_hops(hops: [Option<u8>; 2], enhanced_refresh: bool) -> Export {
    Export {
        next_hop_v4: hops[0].map(|number| NextHop::Body(hop_v4(number))),
        next_hop_v6: hops[1].map(|number| NextHop::Multiprotocol {
            global: hop_v6(number),
            link_local: None,
        }),
        ..Export::new(
            64512,
            &Negotiated {
                enhanced_refresh,
                ..negotiated()
            },
        )
    }
}

#[test]
fn another_next_hop_is_told_in_place_for_the_routes_of_its_family_alone() {
    let (mut rib, mut router) = up(export(), &two_of_each());
    router.said();
    let hop = |router: &Router, prefix| router.routes[&net(prefix)].1.to_string();
    rib.next_hops_changed(&with_hops([Some(9), Some(1)], false));
    router.drain(&mut rib, &Context::default());
    assert_eq!(router.said(), ["2 of ipv4-unicast"]);
    assert_eq!(hop(&router, "10.0.0.2/32"), "192.0.2.9");
    assert_eq!(hop(&router, "2001:db8:2::/64"), V6_HOP);
    // The same again is no change.
    rib.next_hops_changed(&with_hops([Some(9), Some(1)], false));
    assert_eq!(rib.next_batch(1), None);
    // From the body into the attribute.
    let over_ipv6 = Export {
        next_hop_v4: Some(NextHop::Multiprotocol {
            global: hop_v6(8),
            link_local: None,
        }),
        ..with_hops([None, Some(8)], false)
    };
    rib.next_hops_changed(&over_ipv6);
    let batches = router.drain(&mut rib, &Context::default());
    assert_eq!(batches[0].announced_again, 4);
    assert_eq!(hop(&router, "10.0.0.1/32"), "2001:db8::8");
    assert_eq!(hop(&router, "2001:db8:1::/64"), "2001:db8::8");
    assert!(router.withdrawn.is_empty());
}

#[test]
fn a_withdrawal_that_is_taken_back_has_the_next_hop_of_now() {
    let (mut rib, mut router) = up(export(), &two_of_each());
    rib.set(net("10.0.0.1/32"), None);
    rib.next_hops_changed(&with_hops([Some(9), Some(1)], false));
    rib.set(net("10.0.0.1/32"), Some(&with_community(1)));
    router.drain(&mut rib, &Context::default());
    let (_, hop) = &router.routes[&net("10.0.0.1/32")];
    assert_eq!(*hop, IpAddr::V4(hop_v4(9)));
    assert!(router.withdrawn.is_empty());
}

#[test]
fn routes_without_a_next_hop_are_withdrawn_and_come_back_with_one() {
    let (mut rib, mut router) = up(export(), &two_of_each());
    rib.next_hops_changed(&with_hops([Some(1), None], false));
    router.drain(&mut rib, &Context::default());
    let gone = ["2001:db8:1::/64", "2001:db8:2::/64"].map(net);
    assert_eq!(router.withdrawn, gone);
    let missing = NotAdvertised::NoNextHop(Family::Ipv6Unicast);
    let reported: Vec<_> = rib.not_advertised().collect();
    assert_eq!(reported, gone.map(|net| (net, missing)));
    rib.next_hops_changed(&with_hops([Some(1), Some(2)], false));
    let batches = router.drain(&mut rib, &Context::default());
    assert_eq!(batches[0].announced, gone);
    assert_eq!((rib.not_advertised().len(), rib.advertised()), (0, 4));
    // Gone and back before anything was sent: in place.
    router.withdrawn.clear();
    rib.next_hops_changed(&with_hops([Some(1), None], false));
    rib.next_hops_changed(&with_hops([Some(1), Some(3)], false));
    router.drain(&mut rib, &Context::default());
    assert!(router.withdrawn.is_empty());
    assert_eq!(router.routes[&gone[0]].1, IpAddr::V6(hop_v6(3)));
}

#[test]
fn without_a_session_there_is_nothing_to_tell_of_a_next_hop() {
    let mut rib = AdjRibOut::new();
    rib.set(net("10.0.0.1/32"), Some(&with_community(1)));
    rib.next_hops_changed(&with_hops([Some(9), None], false));
    assert_eq!((rib.next_batch(1), rib.pending()), (None, 0));
    let mut router = Router::default();
    rib.established(export());
    router.drain(&mut rib, &Context::default());
    let (_, hop) = &router.routes[&net("10.0.0.1/32")];
    assert_eq!(hop.to_string(), V4_HOP);
}

/// So few that changes of one meet each other.
fn prefix() -> impl Strategy<Value = IpNet> {
    prop::sample::select(vec![
        net("10.0.0.1/32"),
        net("10.0.0.2/32"),
        net("2001:db8:1::/64"),
    ])
}

#[derive(Debug, Clone)]
enum Event {
    Set(IpNet, Option<u32>),
    Fetch(usize),
    Refresh(bool),
    ShutDown,
    NextHops([Option<u8>; 2]),
    Flap,
}

fn event() -> impl Strategy<Value = Event> {
    let hop = || prop_oneof![1 => Just(None), 4 => (1..4u8).prop_map(Some)];
    prop_oneof![
        10 => (prefix(), prop::option::of(0..4u32)).prop_map(|(prefix, value)| Event::Set(prefix, value)),
        8 => (1..300usize).prop_map(Event::Fetch),
        2 => any::<bool>().prop_map(Event::Refresh),
        1 => Just(Event::ShutDown),
        3 => [hop(), hop()].prop_map(Event::NextHops),
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

/// Prefixes with their next hops and communities, as we say that they were told.
fn told(rib: &AdjRibOut) -> BTreeMap<IpNet, (IpAddr, Vec<Community>)> {
    let route = |told: Told| {
        let hop = match told.next_hop {
            NextHop::Body(hop) => hop.into(),
            NextHop::Multiprotocol { global, .. } => global.into(),
        };
        (told.prefix, (hop, told.attributes.communities))
    };
    rib.told(None).map(route).collect()
}

/// The same as the router has them.
fn had(router: &Router) -> BTreeMap<IpNet, (IpAddr, Vec<Community>)> {
    let routes = router.routes.iter();
    routes
        .map(|(net, (path, hop))| (*net, (*hop, path.communities.clone())))
        .collect()
}

/// What a router shall have of a route: its community, its next hop, and whether it is about to go away.
fn shall_have(
    wanted: &BTreeMap<IpNet, u32>,
    hops: [Option<u8>; 2],
    leaving: bool,
) -> BTreeMap<IpNet, (u32, IpAddr, bool)> {
    let route = |(prefix, value): (&IpNet, &u32)| {
        let hop = match prefix {
            IpNet::V4(_) => IpAddr::V4(hop_v4(hops[0]?)),
            IpNet::V6(_) => IpAddr::V6(hop_v6(hops[1]?)),
        };
        (*value != 3).then_some((*prefix, (*value, hop, leaving)))
    };
    wanted.iter().filter_map(route).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// After any history the router has every route that can be carried, with the next hop and the mark of now, and what it
    /// shall have was never withdrawn on the way. At every moment it has what we say that it was told.
    #[test]
    fn the_router_ends_up_with_the_next_hops_and_marks_of_now(
        events in prop::collection::vec(event(), 1..80),
        enhanced in any::<bool>(),
    ) {
        let context = export().context;
        let (mut rib, mut router) = (AdjRibOut::new(), Router::default());
        let (mut hops, mut leaving) = ([Some(1), Some(1)], false);
        let mut wanted: BTreeMap<IpNet, u32> = BTreeMap::new();
        rib.established(with_hops(hops, enhanced));
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
                    let shall = shall_have(&wanted, hops, leaving);
                    prop_assert!(router.withdrawn.iter().all(|net| !shall.contains_key(net)));
                }
                Event::Refresh(v6) => rib.refresh(if v6 { Family::Ipv6Unicast } else { Family::Ipv4Unicast }),
                Event::ShutDown => {
                    leaving = true;
                    rib.shut_down_gracefully();
                }
                Event::NextHops(others) => {
                    hops = others;
                    rib.next_hops_changed(&with_hops(hops, enhanced));
                }
                Event::Flap => {
                    rib.down();
                    router = Router::default();
                    rib.established(with_hops(hops, enhanced));
                }
            }
            prop_assert_eq!(told(&rib), had(&router));
        }
        router.drain(&mut rib, &context);
        let have: BTreeMap<IpNet, (u32, IpAddr, bool)> = router.routes.iter().map(|(net, (path, hop))| {
            (*net, (path.communities[0].0, *hop, path.communities.contains(&MARK)))
        }).collect();
        let shall = shall_have(&wanted, hops, leaving);
        prop_assert_eq!(&have, &shall);
        prop_assert_eq!((rib.advertised(), rib.pending()), (shall.len(), 0));
        prop_assert_eq!(rib.not_advertised().len(), wanted.len() - shall.len());
        prop_assert!(!router.in_repetition());
    }
}
