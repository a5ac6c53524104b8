//! Generators of messages, for the tests of the wire format.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs
)]

use ferrolb_bgp::wire::{
    AddPath, Aggregator, AsPath, AsSegment, Capability, Community, Context, ExtendedCommunity,
    ExtendedNextHop, GracefulRestart, LargeCommunity, Message, MpReach, MpUnreach, Notification,
    Open, Origin, PathAttributes, RawAttribute, RestartFamily, RouteRefresh, Update,
};
use ferrolb_bgp::{Families, Family};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub fn v4_net() -> impl Strategy<Value = Ipv4Net> {
    (any::<u32>(), 0..=32u8)
        .prop_map(|(bits, length)| Ipv4Net::new(Ipv4Addr::from(bits), length).unwrap().trunc())
}

pub fn v6_net() -> impl Strategy<Value = Ipv6Net> {
    (any::<u128>(), 0..=128u8)
        .prop_map(|(bits, length)| Ipv6Net::new(Ipv6Addr::from(bits), length).unwrap().trunc())
}

fn capability() -> impl Strategy<Value = Capability> {
    prop_oneof![
        (any::<u16>(), any::<u8>()).prop_map(|(afi, safi)| Capability::Multiprotocol { afi, safi }),
        Just(Capability::RouteRefresh),
        vec((any::<u16>(), any::<u16>(), any::<u16>()), 0..4).prop_map(|families| {
            Capability::ExtendedNextHop(
                families
                    .into_iter()
                    .map(|(afi, safi, next_hop_afi)| ExtendedNextHop {
                        afi,
                        safi,
                        next_hop_afi,
                    })
                    .collect(),
            )
        }),
        any::<u32>().prop_map(Capability::FourOctetAs),
        Just(Capability::ExtendedMessage),
        Just(Capability::EnhancedRouteRefresh),
        vec((any::<u16>(), any::<u8>(), any::<u8>()), 0..4).prop_map(|families| {
            let family = |(afi, safi, way)| AddPath { afi, safi, way };
            Capability::AddPath(families.into_iter().map(family).collect())
        }),
        (
            0..16u8,
            0..4096u16,
            vec((any::<u16>(), any::<u8>(), any::<u8>()), 0..4)
        )
            .prop_map(|(flags, time, families)| {
                let family = |(afi, safi, flags)| RestartFamily { afi, safi, flags };
                let families = families.into_iter().map(family).collect();
                Capability::GracefulRestart(GracefulRestart {
                    flags,
                    time,
                    families,
                })
            }),
        (71..=255u8, vec(any::<u8>(), 0..80))
            .prop_map(|(code, value)| Capability::Other { code, value }),
    ]
}

pub fn open() -> impl Strategy<Value = Open> {
    (
        any::<u16>(),
        prop_oneof![Just(0u16), 3..=u16::MAX],
        any::<u32>(),
        vec(capability(), 0..12),
    )
        .prop_map(|(as_field, hold_time, id, capabilities)| Open {
            as_field,
            hold_time,
            router_id: Ipv4Addr::from(id),
            capabilities,
        })
}

fn segment(four_octet_as: bool) -> impl Strategy<Value = AsSegment> {
    let number = if four_octet_as {
        (1..=u32::MAX).boxed()
    } else {
        (1..=u16::MAX).prop_map(u32::from).boxed()
    };
    (0..4, vec(number, 1..6)).prop_map(|(kind, numbers)| match kind {
        0 => AsSegment::Set(numbers),
        1 => AsSegment::Sequence(numbers),
        2 => AsSegment::ConfederationSequence(numbers),
        _ => AsSegment::ConfederationSet(numbers),
    })
}

pub fn path_attributes(context: Context) -> impl Strategy<Value = PathAttributes> {
    let wide = context.four_octet_as;
    let asn = 1..=u32::MAX;
    let first = (
        prop_oneof![
            Just(Origin::Igp),
            Just(Origin::Egp),
            Just(Origin::Incomplete)
        ],
        vec(segment(wide), 0..4),
        any::<u32>(),
        option::of(any::<u32>()),
        option::of(any::<u32>()),
        any::<bool>(),
        option::of((asn, any::<u32>())),
    );
    let second = (
        vec(any::<u32>(), 0..80),
        vec((any::<u32>(), any::<u32>(), any::<u32>()), 0..30),
        vec(any::<[u8; 8]>(), 0..10),
        vec((40..=255u8, vec(any::<u8>(), 0..300)), 0..2),
    );
    (first, second).prop_map(
        move |(
            (origin, path, hop, med, preference, atomic, aggregator),
            (communities, large, extended, mut other),
        )| {
            other.dedup_by_key(|(kind, _)| *kind);
            PathAttributes {
                origin: Some(origin),
                as_path: Some(AsPath(path)),
                next_hop: Some(Ipv4Addr::from(hop)),
                multi_exit_disc: med,
                local_pref: preference.filter(|_| context.internal),
                atomic_aggregate: atomic,
                aggregator: aggregator.map(|(asn, id)| Aggregator {
                    asn,
                    router_id: Ipv4Addr::from(id),
                }),
                communities: communities.into_iter().map(Community).collect(),
                extended_communities: extended.into_iter().map(ExtendedCommunity).collect(),
                large_communities: large
                    .into_iter()
                    .map(|(global, local1, local2)| LargeCommunity {
                        global,
                        local1,
                        local2,
                    })
                    .collect(),
                other: other
                    .into_iter()
                    .map(|(kind, value)| RawAttribute {
                        flags: 0xc0,
                        kind,
                        value,
                    })
                    .collect(),
            }
        },
    )
}

fn mp_reach() -> impl Strategy<Value = MpReach> {
    let v6 = (
        any::<u128>(),
        option::of(any::<u128>()),
        vec(v6_net(), 0..20),
    )
        .prop_map(|(hop, link, nets)| MpReach {
            family: Family::Ipv6Unicast,
            next_hop: IpAddr::V6(Ipv6Addr::from(hop)),
            link_local: link.map(Ipv6Addr::from),
            prefixes: nets.into_iter().map(IpNet::V6).collect(),
        });
    let v4 = (any::<u128>(), vec(v4_net(), 0..20)).prop_map(|(hop, nets)| MpReach {
        family: Family::Ipv4Unicast,
        next_hop: IpAddr::V6(Ipv6Addr::from(hop)),
        link_local: None,
        prefixes: nets.into_iter().map(IpNet::V4).collect(),
    });
    prop_oneof![v6, v4]
}

pub fn update(context: Context) -> impl Strategy<Value = Update> {
    let unreach = vec(v6_net(), 0..20).prop_map(|nets| MpUnreach {
        family: Family::Ipv6Unicast,
        prefixes: nets.into_iter().map(IpNet::V6).collect(),
    });
    (
        vec(v4_net(), 0..20),
        path_attributes(context),
        vec(v4_net(), 0..40),
        option::of(mp_reach()),
        option::of(unreach),
    )
        .prop_map(
            |(withdrawn, attributes, announced, mp_reach, mp_unreach)| Update {
                withdrawn,
                attributes,
                announced,
                mp_reach,
                mp_unreach,
                fault: None,
            },
        )
}

pub fn context() -> impl Strategy<Value = Context> {
    let families =
        || (any::<bool>(), any::<bool>()).prop_map(|(ipv4, ipv6)| Families { ipv4, ipv6 });
    (any::<[bool; 4]>(), families()).prop_map(
        |([four_octet_as, internal, extended_messages, enhanced_refresh], identifiers)| Context {
            four_octet_as,
            internal,
            extended_messages,
            identifiers_written: identifiers,
            identifiers_read: identifiers,
            enhanced_refresh,
        },
    )
}

pub fn message() -> impl Strategy<Value = (Context, Message)> {
    context().prop_flat_map(|context| {
        let message = prop_oneof![
            2 => open().prop_map(Message::Open),
            4 => update(context).prop_map(|update| Message::Update(Box::new(update))),
            1 => (any::<u8>(), any::<u8>(), vec(any::<u8>(), 0..100))
                .prop_map(|(code, subcode, data)| Message::Notification(Notification::new(code, subcode, data))),
            1 => Just(Message::Keepalive),
            1 => (any::<u16>(), any::<u8>(), any::<u8>())
                .prop_map(|(afi, subtype, safi)| Message::RouteRefresh(RouteRefresh { afi, subtype, safi })),
        ];
        (Just(context), message)
    })
}
