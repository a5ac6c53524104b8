//! Two independent implementations read what we write and agree on what it says; where they accept what others write,
//! so do we, with the same meaning.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use bytes::Bytes;
use common::message;
use ferrolb_bgp::Families;
use ferrolb_bgp::wire::{AsSegment, Capability, Context, DecodeError, Message, Update};
use ipnet::IpNet;
use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::path_attribute::{
    AsPath as NetgauzeAsPath, MpReach, MpUnreach, PathAttributeValue,
};
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;
use proptest::prelude::*;
use rustbgpd_wire::{Afi, PathAttribute, Prefix, Safi};
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};

/// What an UPDATE says, in a form that all three can be brought into.
#[derive(Debug, Default, PartialEq, Eq)]
struct Meaning {
    announced: BTreeSet<IpNet>,
    withdrawn: BTreeSet<IpNet>,
    origin: Option<u8>,
    path: Option<Vec<(u8, Vec<u32>)>>,
    next_hop: Option<Ipv4Addr>,
    mp_next_hop: Option<IpAddr>,
    local_pref: Option<u32>,
    communities: Vec<u32>,
    large: BTreeSet<(u32, u32, u32)>,
}

fn ours(update: &Update) -> Meaning {
    let attributes = &update.attributes;
    Meaning {
        announced: update
            .announced
            .iter()
            .map(|net| IpNet::V4(*net))
            .chain(
                update
                    .mp_reach
                    .iter()
                    .flat_map(|reach| reach.prefixes.iter().copied()),
            )
            .collect(),
        withdrawn: update
            .withdrawn
            .iter()
            .map(|net| IpNet::V4(*net))
            .chain(
                update
                    .mp_unreach
                    .iter()
                    .flat_map(|unreach| unreach.prefixes.iter().copied()),
            )
            .collect(),
        origin: attributes.origin.map(|origin| origin as u8),
        path: attributes.as_path.as_ref().map(|path| {
            path.0
                .iter()
                .map(|segment| match segment {
                    AsSegment::Set(numbers) => (1, numbers.clone()),
                    AsSegment::Sequence(numbers) => (2, numbers.clone()),
                    AsSegment::ConfederationSequence(numbers) => (3, numbers.clone()),
                    AsSegment::ConfederationSet(numbers) => (4, numbers.clone()),
                })
                .collect()
        }),
        next_hop: attributes.next_hop,
        mp_next_hop: update.mp_reach.as_ref().map(|reach| reach.next_hop),
        local_pref: attributes.local_pref,
        communities: attributes
            .communities
            .iter()
            .map(|community| community.0)
            .collect(),
        large: attributes
            .large_communities
            .iter()
            .map(|c| (c.global, c.local1, c.local2))
            .collect(),
    }
}

fn netgauze(frame: &[u8], context: &Context) -> Option<BgpMessage> {
    let mut parsing = BgpParsingContext::new(
        context.four_octet_as,
        HashMap::new(),
        HashMap::new(),
        false,
        false,
        true,
        true,
    );
    BgpMessage::parse(&mut SliceReader::new(frame), &mut parsing).ok()
}

fn netgauze_meaning(frame: &[u8], context: &Context) -> Option<Meaning> {
    let BgpMessage::Update(update) = netgauze(frame, context)? else {
        return None;
    };
    let mut meaning = Meaning {
        announced: update
            .nlri()
            .iter()
            .map(|route| IpNet::V4(route.network().address().trunc()))
            .collect(),
        withdrawn: update
            .withdraw_routes()
            .iter()
            .map(|route| IpNet::V4(route.network().address().trunc()))
            .collect(),
        ..Meaning::default()
    };
    for attribute in update.path_attributes() {
        match attribute.value() {
            PathAttributeValue::Origin(origin) => meaning.origin = Some(*origin as u8),
            PathAttributeValue::AsPath(NetgauzeAsPath::As4PathSegments(segments)) => {
                meaning.path = Some(
                    segments
                        .iter()
                        .map(|s| (s.segment_type() as u8, s.as_numbers().to_vec()))
                        .collect(),
                );
            }
            PathAttributeValue::AsPath(NetgauzeAsPath::As2PathSegments(segments)) => {
                let wide = |numbers: &[u16]| numbers.iter().map(|asn| u32::from(*asn)).collect();
                meaning.path = Some(
                    segments
                        .iter()
                        .map(|s| (s.segment_type() as u8, wide(s.as_numbers())))
                        .collect(),
                );
            }
            PathAttributeValue::NextHop(hop) => meaning.next_hop = Some(hop.next_hop()),
            PathAttributeValue::LocalPreference(preference) => {
                meaning.local_pref = Some(preference.metric())
            }
            PathAttributeValue::Communities(communities) => {
                meaning.communities = communities
                    .communities()
                    .iter()
                    .map(|c| c.value())
                    .collect();
            }
            PathAttributeValue::LargeCommunities(communities) => {
                meaning.large = communities
                    .communities()
                    .iter()
                    .map(|c| (c.global_admin(), c.local_data1(), c.local_data2()))
                    .collect();
            }
            PathAttributeValue::MpReach(MpReach::Ipv6Unicast {
                next_hop_global,
                nlri,
                ..
            }) => {
                meaning.mp_next_hop = Some(IpAddr::V6(*next_hop_global));
                meaning.announced.extend(
                    nlri.iter()
                        .map(|route| IpNet::V6(route.network().address().trunc())),
                );
            }
            PathAttributeValue::MpReach(MpReach::Ipv4Unicast { next_hop, nlri, .. }) => {
                meaning.mp_next_hop = Some(*next_hop);
                meaning.announced.extend(
                    nlri.iter()
                        .map(|route| IpNet::V4(route.network().address().trunc())),
                );
            }
            PathAttributeValue::MpUnreach(MpUnreach::Ipv6Unicast { nlri }) => {
                meaning.withdrawn.extend(
                    nlri.iter()
                        .map(|route| IpNet::V6(route.network().address().trunc())),
                );
            }
            _ => {}
        }
    }
    Some(meaning)
}

fn rustbgpd_meaning(frame: &[u8], context: &Context) -> Option<Meaning> {
    let rustbgpd_wire::Message::Update(raw) =
        rustbgpd_wire::decode_message(&mut Bytes::copy_from_slice(frame), 65_535).ok()?
    else {
        return None;
    };
    let identified = context.identifiers_written;
    let families: Vec<(Afi, Safi)> = [(identified.ipv4, Afi::Ipv4), (identified.ipv6, Afi::Ipv6)]
        .into_iter()
        .filter_map(|(identified, afi)| identified.then_some((afi, Safi::Unicast)))
        .collect();
    let update = raw
        .parse(context.four_octet_as, identified.ipv4, &families)
        .ok()?;
    let v4 = |prefix: rustbgpd_wire::Ipv4Prefix| {
        IpNet::new(prefix.addr.into(), prefix.len).unwrap().trunc()
    };
    let any = |prefix: Prefix| match prefix {
        Prefix::V4(prefix) => v4(prefix),
        Prefix::V6(prefix) => IpNet::new(prefix.addr.into(), prefix.len).unwrap().trunc(),
    };
    let mut meaning = Meaning {
        announced: update
            .announced
            .iter()
            .map(|route| v4(route.prefix))
            .collect(),
        withdrawn: update
            .withdrawn
            .iter()
            .map(|route| v4(route.prefix))
            .collect(),
        ..Meaning::default()
    };
    for attribute in update.attributes {
        match attribute {
            PathAttribute::Origin(origin) => meaning.origin = Some(origin as u8),
            PathAttribute::AsPath(path) => {
                meaning.path = Some(
                    path.segments
                        .into_iter()
                        .map(|segment| match segment {
                            rustbgpd_wire::AsPathSegment::AsSet(numbers) => (1, numbers),
                            rustbgpd_wire::AsPathSegment::AsSequence(numbers) => (2, numbers),
                        })
                        .collect(),
                );
            }
            PathAttribute::NextHop(hop) => meaning.next_hop = Some(hop),
            PathAttribute::LocalPref(preference) => meaning.local_pref = Some(preference),
            PathAttribute::Communities(communities) => meaning.communities = communities,
            PathAttribute::LargeCommunities(communities) => {
                meaning.large = communities
                    .into_iter()
                    .map(|c| (c.global_admin, c.local_data1, c.local_data2))
                    .collect();
            }
            PathAttribute::MpReachNlri(reach) => {
                meaning.mp_next_hop = Some(reach.next_hop);
                meaning
                    .announced
                    .extend(reach.announced.into_iter().map(|route| any(route.prefix)));
            }
            PathAttribute::MpUnreachNlri(unreach) => {
                meaning
                    .withdrawn
                    .extend(unreach.withdrawn.into_iter().map(|route| any(route.prefix)));
            }
            _ => {}
        }
    }
    Some(meaning)
}

/// What our own kind of UPDATE holds: unicast addresses only and no attributes that we never send, for which the other two
/// have rules of their own.
fn as_we_send(mut update: Update) -> Update {
    let attributes = &mut update.attributes;
    attributes.other.clear();
    attributes.aggregator = None;
    attributes.next_hop = Some(Ipv4Addr::new(192, 0, 2, 1));
    if let Some(path) = &mut attributes.as_path {
        path.0
            .retain(|segment| matches!(segment, AsSegment::Sequence(_) | AsSegment::Set(_)));
    }
    if let Some(reach) = &mut update.mp_reach {
        reach.next_hop = "2001:db8::1".parse().unwrap();
        reach.link_local = None;
    }
    let unicast = |net: &IpNet| match net.addr() {
        IpAddr::V4(address) => {
            !address.is_multicast() && !address.is_broadcast() && address.octets()[0] < 224
        }
        IpAddr::V6(address) => !address.is_multicast(),
    };
    update
        .announced
        .retain(|net| unicast(&IpNet::V4(*net)) && net.prefix_len() > 8);
    update
        .withdrawn
        .retain(|net| unicast(&IpNet::V4(*net)) && net.prefix_len() > 8);
    for prefixes in [
        update.mp_reach.as_mut().map(|reach| &mut reach.prefixes),
        update
            .mp_unreach
            .as_mut()
            .map(|unreach| &mut unreach.prefixes),
    ]
    .into_iter()
    .flatten()
    {
        prefixes.retain(|net| unicast(net) && net.prefix_len() > 8);
    }
    update
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn both_oracles_read_our_updates_as_we_mean_them((context, message) in message()) {
        let Message::Update(update) = message else { return Ok(()) };
        let update = as_we_send(*update);
        let message = Message::Update(Box::new(update.clone()));
        // One of both is told which families have path identifiers.
        if let Ok(frame) = message.encode(&context) {
            prop_assert_eq!(rustbgpd_meaning(&frame, &context), Some(ours(&update)));
        }
        let plain = Context { identifiers_written: Families::default(), ..context };
        if let Ok(frame) = message.encode(&plain) {
            prop_assert_eq!(netgauze_meaning(&frame, &plain), Some(ours(&update)));
        }
    }

    #[test]
    fn both_oracles_read_our_other_messages((context, message) in message()) {
        let frame = match &message {
            // rustbgpd-wire and netgauze know only the codes that are assigned.
            Message::Notification(_) | Message::Update(_) | Message::RouteRefresh(_) => return Ok(()),
            _ => message.encode(&context).unwrap(),
        };
        let theirs = rustbgpd_wire::decode_message(&mut Bytes::copy_from_slice(&frame), 4096);
        match (&message, theirs) {
            (Message::Keepalive, Ok(rustbgpd_wire::Message::Keepalive)) => {}
            (Message::Open(open), Ok(rustbgpd_wire::Message::Open(theirs))) => {
                prop_assert_eq!(open.as_field, theirs.my_as);
                prop_assert_eq!(open.hold_time, theirs.hold_time);
                prop_assert_eq!(open.router_id, theirs.bgp_identifier);
                prop_assert_eq!(open.asn(), theirs.four_byte_as());
            }
            // It has a minimum content for capabilities that we keep unread.
            (Message::Open(open), Err(_)) => {
                prop_assert!(open.capabilities.iter().any(|c| matches!(c, Capability::Other { .. } | Capability::ExtendedNextHop(_))), "{open:?}");
            }
            (message, theirs) => prop_assert!(false, "{message:?} {theirs:?}"),
        }
        if message == Message::Keepalive {
            prop_assert!(matches!(netgauze(&frame, &context), Some(BgpMessage::KeepAlive)));
        }
    }

    /// The other way round, on damaged messages: what both accept we accept without a fault, and where we accept, all who do read
    /// the same routes.
    #[test]
    fn damaged_updates_that_both_accept_we_accept_and_they_mean_the_same_to_all(
        (context, message) in message(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        // FerroLB never offers to read path identifiers, and damage may move routes into a family that has them.
        let context = Context { identifiers_read: Families::default(), identifiers_written: Families::default(), ..context };
        let Message::Update(update) = message else { return Ok(()) };
        let Ok(mut frame) = Message::Update(Box::new(as_we_send(*update))).encode(&context) else { return Ok(()) };
        for (at, octet) in changes {
            let at = 19 + at.index(frame.len() - 19);
            frame[at] = octet;
        }
        let (rustbgpd, netgauze) = (rustbgpd_meaning(&frame, &context), netgauze_meaning(&frame, &context));
        let all = rustbgpd.is_some() && netgauze.is_some();
        let read = match Message::decode(&frame, &context) {
            Ok(Message::Update(read)) if read.fault.is_none() => read,
            // RFC 4271 section 6.3; both read over it.
            Err(DecodeError::UnknownWellKnown(_)) => return Ok(()),
            // They leave it to others to see what is not there.
            Ok(Message::Update(read)) if read.fault.is_some_and(|fault| fault.what == "it is missing") => return Ok(()),
            refused => {
                prop_assert!(!all, "{refused:?}");
                return Ok(());
            }
        };
        let routes = |meaning: Meaning| (meaning.announced, meaning.withdrawn);
        if let Some(theirs) = rustbgpd {
            prop_assert_eq!(routes(theirs), routes(ours(&read)));
        }
        // It leaves out what is no unicast address.
        let usual = as_we_send((*read).clone()) == *read;
        if let Some(theirs) = netgauze.filter(|_| usual) {
            prop_assert_eq!(routes(theirs), routes(ours(&read)));
        }
    }

    /// The same of OPENs: who the sender is and what hold time it wants.
    #[test]
    fn damaged_opens_that_all_accept_mean_the_same_to_all(
        (context, message) in message(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let Message::Open(open) = message else { return Ok(()) };
        let mut frame = Message::Open(open).encode(&context).unwrap();
        for (at, octet) in changes {
            let at = 19 + at.index(frame.len() - 19);
            frame[at] = octet;
        }
        let Ok(Message::Open(read)) = Message::decode(&frame, &context) else { return Ok(()) };
        let numbers = read.capabilities.iter().filter(|c| matches!(c, Capability::FourOctetAs(_)));
        // No RFC says which of several counts.
        if numbers.count() > 1 {
            return Ok(());
        }
        let own = (read.as_field, read.hold_time, read.router_id, read.asn());
        let theirs = rustbgpd_wire::decode_message(&mut Bytes::copy_from_slice(&frame), 4096);
        if let Ok(rustbgpd_wire::Message::Open(theirs)) = theirs {
            let said = (theirs.my_as, theirs.hold_time, theirs.bgp_identifier, theirs.four_byte_as());
            prop_assert_eq!(said, own);
        }
        if let Some(BgpMessage::Open(theirs)) = netgauze(&frame, &context) {
            let said = (theirs.my_as(), theirs.hold_time(), theirs.bgp_id(), theirs.my_asn4());
            prop_assert_eq!(said, own);
        }
    }
}

#[test]
fn rustbgpd_and_we_write_the_same_octets_for_the_same_route() {
    let attributes = [
        PathAttribute::Origin(rustbgpd_wire::Origin::Igp),
        PathAttribute::AsPath(rustbgpd_wire::AsPath {
            segments: vec![rustbgpd_wire::AsPathSegment::AsSequence(vec![64512])],
        }),
        PathAttribute::NextHop(Ipv4Addr::new(192, 0, 2, 1)),
        PathAttribute::Communities(vec![0xfc00_0064]),
    ];
    let route = rustbgpd_wire::Ipv4NlriEntry {
        path_id: 0,
        prefix: rustbgpd_wire::Ipv4Prefix {
            addr: Ipv4Addr::new(203, 0, 113, 0),
            len: 24,
        },
    };
    let theirs = rustbgpd_wire::UpdateMessage::try_build(
        &[route],
        &[],
        &attributes,
        true,
        false,
        rustbgpd_wire::Ipv4UnicastMode::Body,
    )
    .unwrap();
    let frame = rustbgpd_wire::encode_message(&rustbgpd_wire::Message::Update(theirs)).unwrap();
    let context = Context::default();
    let message = Message::decode(&frame, &context).unwrap();
    assert_eq!(message.encode(&context).unwrap(), frame);
}
