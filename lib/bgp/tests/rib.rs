//! The adj-RIB-out against a model of the peer: a map that the UPDATEs are applied to.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod router;

use ferrolb_bgp::session::Endpoint;
use ferrolb_bgp::wire::{AsPath, Community, Context, LargeCommunity};
use ferrolb_bgp::{AdjRibOut, Attributes, Export, Families, Family, Negotiated, NotAdvertised};
use ipnet::IpNet;
use proptest::prelude::*;
use router::{
    Router, V4_HOP, V6_HOP, desired, export, negotiated, net, prefix, up, with_community,
};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

#[test]
fn everything_is_sent_when_the_session_is_up_and_then_the_markers() {
    let routes = [
        ("198.51.100.1/32", Attributes::default()),
        ("2001:db8:1::/64", Attributes::default()),
    ];
    let (rib, router) = up(export(), &routes);
    assert_eq!(
        router.routes.keys().copied().collect::<Vec<_>>(),
        [net("198.51.100.1/32"), net("2001:db8:1::/64")]
    );
    assert_eq!(router.markers, [Family::Ipv4Unicast, Family::Ipv6Unicast]);
    assert_eq!((rib.advertised(), rib.pending()), (2, 0));
}

#[test]
fn a_session_without_routes_sends_just_the_markers() {
    let (_, router) = up(export(), &[]);
    assert_eq!((router.markers.len(), router.messages), (2, 2));
}

#[test]
fn only_what_changed_is_sent() {
    let (mut rib, mut router) = up(
        export(),
        &[
            ("10.0.0.1/32", with_community(1)),
            ("10.0.0.2/32", with_community(1)),
        ],
    );
    rib.set_desired(&desired(&[
        ("10.0.0.1/32", with_community(1)),
        ("10.0.0.3/32", with_community(1)),
    ]));
    let batch = rib.next_batch(1 << 20).unwrap();
    router.take(&batch, &Context::default());
    assert_eq!(
        (batch.withdrawn, batch.announced),
        (vec![net("10.0.0.2/32")], vec![net("10.0.0.3/32")])
    );
    assert_eq!((batch.updates, batch.announced_again), (2, 0));
    assert_eq!(rib.next_batch(1), None);
}

/// As when an aggregation length changes: the peer has a way to each address at every moment.
#[test]
fn what_takes_the_place_of_other_prefixes_is_announced_before_those_go() {
    let exact: Vec<String> = (0..2000u32)
        .map(|number| format!("{}/32", Ipv4Addr::from(0x0a00_0000 + number)))
        .collect();
    let exact: Vec<_> = exact
        .iter()
        .map(|net| (net.as_str(), with_community(1)))
        .collect();
    let (mut rib, mut router) = up(export(), &exact);
    for number in 0..8 {
        rib.set(
            net(&format!("10.0.{number}.0/24")),
            Some(&with_community(1)),
        );
    }
    for (prefix, _) in &exact {
        rib.set(net(prefix), None);
    }
    router.said();
    router.drain(&mut rib, &Context::default());
    let said = router.said();
    assert_eq!(said[0], "8 of ipv4-unicast");
    assert_eq!(said.len(), 1 + exact.len());
    assert_eq!(router.routes.len(), 8);
}

#[test]
fn changed_attributes_replace_the_route_in_place() {
    let (mut rib, mut router) = up(export(), &[("10.0.0.1/32", with_community(1))]);
    rib.set_desired(&desired(&[("10.0.0.1/32", with_community(2))]));
    let batches = router.drain(&mut rib, &Context::default());
    assert_eq!(
        (
            batches.len(),
            batches[0].updates,
            batches[0].announced_again
        ),
        (1, 1, 1)
    );
    assert!(batches[0].announced.is_empty() && router.withdrawn.is_empty());
    assert_eq!(
        router.routes[&net("10.0.0.1/32")].0.communities,
        [Community(2)]
    );
}

#[test]
fn a_change_that_is_taken_back_before_it_is_sent_is_never_sent() {
    let routes = [("10.0.0.1/32", with_community(1))];
    let (mut rib, _) = up(export(), &routes);
    rib.set_desired(&desired(&[]));
    rib.set_desired(&desired(&routes));
    assert_eq!(rib.next_batch(1), None);
}

#[test]
fn attributes_follow_from_the_kind_of_session() {
    let attributes = Attributes {
        local_pref: Some(7),
        communities: [Community(5), Community(3)].into(),
        large_communities: [LargeCommunity {
            global: 1,
            local1: 2,
            local2: 3,
        }]
        .into(),
    };
    let (_, router) = up(export(), &[("10.0.0.1/32", attributes.clone())]);
    let (path, hop) = &router.routes[&net("10.0.0.1/32")];
    assert_eq!(
        (&path.as_path, path.local_pref, *hop),
        (&Some(AsPath::of(64512)), None, V4_HOP.parse().unwrap())
    );
    assert_eq!(path.communities, [Community(3), Community(5)]);

    let internal = Export::new(
        64512,
        &Negotiated {
            internal: true,
            ..negotiated()
        },
    );
    let routes = [
        ("10.0.0.1/32", attributes),
        ("10.0.0.2/32", Attributes::default()),
    ];
    let (_, router) = up(internal, &routes);
    let (path, _) = &router.routes[&net("10.0.0.1/32")];
    assert_eq!(
        (&path.as_path, path.local_pref),
        (&Some(AsPath::default()), Some(7))
    );
    assert_eq!(router.routes[&net("10.0.0.2/32")].0.local_pref, Some(100));
}

#[test]
fn next_hops_follow_from_our_end_of_the_connection() {
    let routes = [
        ("10.0.0.1/32", Attributes::default()),
        ("2001:db8:1::/64", Attributes::default()),
    ];
    let over = |local: &str, v4: Option<&str>, v6: Option<&str>, extended: bool| {
        let endpoint = Endpoint {
            local: local.parse().unwrap(),
            next_hop_v4: v4.map(|hop| hop.parse().unwrap()),
            next_hop_v6: v6.map(|hop| hop.parse().unwrap()),
            ..negotiated().endpoint
        };
        let export = Export::new(
            64512,
            &Negotiated {
                endpoint,
                ipv4_over_ipv6: extended,
                ..negotiated()
            },
        );
        let (rib, router) = up(export, &routes);
        let hop = |prefix| {
            router
                .routes
                .get(&net(prefix))
                .map(|(_, hop)| hop.to_string())
        };
        let not: Vec<_> = rib.not_advertised().map(|(_, reason)| reason).collect();
        (hop("10.0.0.1/32"), hop("2001:db8:1::/64"), not)
    };
    let some = |hop: &str| Some(hop.to_owned());
    assert_eq!(
        over(V4_HOP, None, Some(V6_HOP), false),
        (some(V4_HOP), some(V6_HOP), vec![])
    );
    let missing = vec![NotAdvertised::NoNextHop(Family::Ipv6Unicast)];
    assert_eq!(
        over(V4_HOP, None, None, false),
        (some(V4_HOP), None, missing)
    );
    assert_eq!(
        over(V6_HOP, Some(V4_HOP), None, false),
        (some(V4_HOP), some(V6_HOP), vec![])
    );
    assert_eq!(
        over(V6_HOP, Some(V4_HOP), None, true),
        (some(V6_HOP), some(V6_HOP), vec![])
    );
    let missing = vec![NotAdvertised::NoNextHop(Family::Ipv4Unicast)];
    assert_eq!(
        over(V6_HOP, None, None, false),
        (None, some(V6_HOP), missing)
    );
}

#[test]
fn families_that_were_not_agreed_on_are_reported_and_not_sent() {
    let only_v4 = Families {
        ipv4: true,
        ipv6: false,
    };
    let export = Export::new(
        64512,
        &Negotiated {
            families: only_v4,
            ..negotiated()
        },
    );
    let routes = [
        ("10.0.0.1/32", Attributes::default()),
        ("2001:db8:1::/64", Attributes::default()),
    ];
    let (rib, router) = up(export, &routes);
    assert_eq!((router.routes.len(), router.markers.len()), (1, 1));
    let expected = (
        net("2001:db8:1::/64"),
        NotAdvertised::FamilyNotNegotiated(Family::Ipv6Unicast),
    );
    assert_eq!(rib.not_advertised().collect::<Vec<_>>(), [expected]);
}

#[test]
fn a_route_with_more_communities_than_a_message_holds_is_reported_and_withdrawn() {
    let (mut rib, mut router) = up(export(), &[("10.0.0.1/32", Attributes::default())]);
    let many = Attributes {
        communities: (0..1100).map(Community).collect(),
        ..Attributes::default()
    };
    rib.set_desired(&desired(&[("10.0.0.1/32", many)]));
    router.drain(&mut rib, &Context::default());
    assert!(router.routes.is_empty());
    assert_eq!(
        rib.not_advertised().next().unwrap().1,
        NotAdvertised::AttributesTooLong
    );
    // 900 fit.
    let fewer = Attributes {
        communities: (0..900).map(Community).collect(),
        ..Attributes::default()
    };
    rib.set_desired(&desired(&[("10.0.0.1/32", fewer)]));
    router.drain(&mut rib, &Context::default());
    assert_eq!(router.routes.len(), 1);
}

#[test]
fn a_new_session_starts_from_nothing() {
    let (mut rib, _) = up(export(), &[("10.0.0.1/32", Attributes::default())]);
    rib.down();
    assert_eq!(
        (rib.advertised(), rib.pending(), rib.next_batch(1)),
        (0, 0, None)
    );
    rib.established(export());
    let mut router = Router::default();
    router.drain(&mut rib, &Context::default());
    assert_eq!((router.routes.len(), router.markers.len()), (1, 2));
}

#[test]
fn ten_thousand_routes_take_few_messages_in_portions_of_the_asked_size() {
    let routes: BTreeMap<IpNet, Attributes> = (0..10_000u32)
        .map(|n| {
            (
                IpNet::new(Ipv4Addr::from(0x0a00_0000 + n).into(), 32).unwrap(),
                with_community(n % 3),
            )
        })
        .collect();
    let mut rib = AdjRibOut::new();
    rib.set_desired(&routes);
    rib.established(export());
    let mut router = Router::default();
    let mut batches = 0;
    while let Some(batch) = rib.next_batch(16 * 1024) {
        assert!(batch.bytes.len() < 16 * 1024 + 4096);
        router.take(&batch, &Context::default());
        batches += 1;
    }
    assert_eq!(router.routes.len(), 10_000);
    // 50,000 octets of prefixes in messages of 4,096, three sets of attributes, two markers.
    assert!(router.messages <= 3 * 5 + 2, "{}", router.messages);
    assert!(batches >= 3);
}

#[test]
fn a_peer_that_takes_long_messages_gets_them_and_no_other_does() {
    let v4 =
        (0..20_000u32).map(|n| IpNet::new(Ipv4Addr::from(0x0a00_0000 + n).into(), 32).unwrap());
    let v6 = (0..10_000u32).map(|n| format!("2001:db8:{n:x}::/64").parse().unwrap());
    let routes: BTreeMap<IpNet, Attributes> = v4
        .chain(v6)
        .map(|net| (net, Attributes::default()))
        .collect();
    for (extended_messages, path_identifiers) in [
        (false, Families::default()),
        (false, Families::BOTH),
        (true, Families::default()),
        (true, Families::BOTH),
    ] {
        let export = Export::new(
            64512,
            &Negotiated {
                extended_messages,
                path_identifiers,
                ..negotiated()
            },
        );
        let context = export.context;
        let mut rib = AdjRibOut::new();
        rib.set_desired(&routes);
        rib.established(export);
        // As many prefixes as fit are in each: less than one more is free at the end.
        let full = if extended_messages {
            65_535 - 13..=65_535
        } else {
            4096 - 13..=4096
        };
        let mut router = Router::default();
        router.drain(&mut rib, &context);
        assert!(router.routes.keys().eq(routes.keys()));
        assert!(full.contains(&router.longest), "{}", router.longest);
        router.longest = 0;
        rib.set_desired(&BTreeMap::new());
        router.drain(&mut rib, &context);
        assert!(router.routes.is_empty());
        assert!(full.contains(&router.longest), "{}", router.longest);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Desire(BTreeMap<IpNet, u32>),
    Set(IpNet, Option<u32>),
    Fetch(usize),
    Refresh(bool),
    Flap,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::btree_map(prefix(), 0..4u32, 0..60).prop_map(Step::Desire),
        6 => (prefix(), prop::option::of(0..4u32)).prop_map(|(prefix, value)| Step::Set(prefix, value)),
        6 => (1..300usize).prop_map(Step::Fetch),
        1 => any::<bool>().prop_map(Step::Refresh),
        1 => Just(Step::Flap),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// After any history, fetching all that is left makes the router have exactly what is desired, and no route that was
    /// desired before and after a change was ever withdrawn in between.
    #[test]
    fn the_router_ends_up_with_what_is_desired(
        steps in prop::collection::vec(step(), 1..40),
        enhanced_refresh in any::<bool>(),
    ) {
        let export = || Export::new(64512, &Negotiated { enhanced_refresh, ..negotiated() });
        let context = export().context;
        let mut rib = AdjRibOut::new();
        let mut router = Router::default();
        let mut wanted: BTreeMap<IpNet, u32> = BTreeMap::new();
        rib.established(export());
        for step in steps {
            match step {
                Step::Desire(routes) => {
                    let attributes = |value: &u32| with_community(*value);
                    rib.set_desired(&routes.iter().map(|(net, value)| (*net, attributes(value))).collect());
                    wanted = routes;
                }
                Step::Set(prefix, value) => {
                    rib.set(prefix, value.map(with_community).as_ref());
                    match value {
                        Some(value) => wanted.insert(prefix, value),
                        None => wanted.remove(&prefix),
                    };
                }
                Step::Fetch(octets) => {
                    router.withdrawn.clear();
                    if let Some(batch) = rib.next_batch(octets) {
                        router.take(&batch, &context);
                    }
                    prop_assert!(router.withdrawn.iter().all(|net| !wanted.contains_key(net)));
                }
                Step::Refresh(v6) => rib.refresh(if v6 { Family::Ipv6Unicast } else { Family::Ipv4Unicast }),
                Step::Flap => {
                    rib.down();
                    router = Router::default();
                    rib.established(export());
                }
            }
        }
        router.drain(&mut rib, &context);
        let have: BTreeMap<IpNet, u32> =
            router.routes.iter().map(|(net, (attributes, _))| (*net, attributes.communities[0].0)).collect();
        prop_assert_eq!(&have, &wanted);
        prop_assert_eq!((rib.advertised(), rib.pending()), (wanted.len(), 0));
        prop_assert_eq!(router.markers.len(), 2);
        prop_assert!(!router.in_repetition());
    }
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

fn of_families(ipv6: bool) -> Export {
    let families = Families { ipv4: true, ipv6 };
    Export::new(
        64512,
        &Negotiated {
            families,
            ..negotiated()
        },
    )
}

#[derive(Debug, Clone)]
enum Event {
    Set(IpNet, Option<u32>),
    Fetch(usize),
    Refresh(bool),
    /// The session ends and another is established, with IPv6 or without.
    Flap(bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        10 => (prefix(), prop::option::of(0..4u32)).prop_map(|(prefix, value)| Event::Set(prefix, value)),
        6 => (1..300usize).prop_map(Event::Fetch),
        2 => any::<bool>().prop_map(Event::Refresh),
        1 => any::<bool>().prop_map(Event::Flap),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// The same where the session cannot carry everything: the rest arrives, and what does not is reported.
    #[test]
    fn what_the_session_cannot_carry_is_reported_and_stops_nothing(events in prop::collection::vec(event(), 1..80)) {
        let context = export().context;
        let (mut rib, mut router, mut ipv6) = (AdjRibOut::new(), Router::default(), true);
        let mut wanted: BTreeMap<IpNet, u32> = BTreeMap::new();
        rib.established(of_families(ipv6));
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
                    if let Some(batch) = rib.next_batch(octets) {
                        router.take(&batch, &context);
                    }
                }
                Event::Refresh(v6) => rib.refresh(if v6 { Family::Ipv6Unicast } else { Family::Ipv4Unicast }),
                Event::Flap(with_ipv6) => {
                    ipv6 = with_ipv6;
                    rib.down();
                    router = Router::default();
                    rib.established(of_families(ipv6));
                }
            }
        }
        router.drain(&mut rib, &context);
        let carried = |(prefix, value): &(&IpNet, &u32)| **value != 3 && (ipv6 || matches!(prefix, IpNet::V4(_)));
        let expected: BTreeMap<IpNet, u32> = wanted.iter().filter(carried).map(|(prefix, value)| (*prefix, *value)).collect();
        let have: BTreeMap<IpNet, u32> =
            router.routes.iter().map(|(net, (attributes, _))| (*net, attributes.communities[0].0)).collect();
        prop_assert_eq!(&have, &expected);
        prop_assert_eq!((rib.advertised(), rib.pending()), (expected.len(), 0));
        prop_assert_eq!(rib.not_advertised().len(), wanted.len() - expected.len());
    }
}
