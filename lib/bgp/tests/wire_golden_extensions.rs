//! Octet by octet, what came after RFC 4271: long messages (RFC 8654), path identifiers (RFC 7911), enhanced route refresh
//! (RFC 7313), extended communities (RFC 4360).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod octets;
mod peer;

use ferrolb_bgp::session::{Input, Output, State};
use ferrolb_bgp::wire::{
    AddPath, AsPath, Capability, Context, DecodeError, ExtendedCommunity, Message, NextHop, Open,
    Origin, PathAttributes, Refresh, RouteRefresh, Template, Update, pack_withdrawals,
};
use ferrolb_bgp::{Families, Family};
use ipnet::IpNet;
use octets::{hex, message};
use peer::{Peer, config, endpoint};
use std::net::Ipv4Addr;

/// A peer with enhanced route refresh.
const ENHANCED: Context = Context {
    four_octet_as: true,
    internal: false,
    extended_messages: false,
    identifiers_written: NONE,
    identifiers_read: NONE,
    enhanced_refresh: true,
};

const NONE: Families = Families {
    ipv4: false,
    ipv6: false,
};

/// A peer that takes path identifiers.
fn identifying(families: Families) -> Context {
    Context {
        identifiers_written: families,
        identifiers_read: families,
        ..Context::default()
    }
}

fn open_with(capabilities: Vec<Capability>) -> Open {
    Open::new(65002, 90, Ipv4Addr::new(10, 1, 2, 3), capabilities)
}

fn read_open(body: &str) -> Open {
    match Message::decode(&message(1, body), &Context::default()).unwrap() {
        Message::Open(open) => open,
        other => panic!("{other:?}"),
    }
}

fn read_update(body: &str, context: &Context) -> Result<Update, DecodeError> {
    match Message::decode(&message(2, body), context)? {
        Message::Update(update) => Ok(*update),
        other => panic!("{other:?}"),
    }
}

/// Code, subcode and data of the answer to a message.
fn answer(frame: &[u8], context: &Context) -> (u8, u8, Vec<u8>) {
    let error = Message::decode(frame, context).unwrap_err();
    let answer = error.notification().unwrap();
    (answer.code, answer.subcode, answer.data)
}

#[test]
fn long_messages_path_identifiers_and_enhanced_refresh_are_capabilities_6_69_and_70() {
    let open = open_with(vec![
        Capability::ExtendedMessage,
        Capability::AddPath(Family::ALL.map(AddPath::sends).to_vec()),
        Capability::EnhancedRouteRefresh,
    ]);
    let frame = message(
        1,
        "04 fdea 005a 0a010203 10 02 0e  06 00  45 08 0001 01 02 0002 01 02  46 00",
    );
    let written = Message::Open(open.clone()).encode(&Context::default());
    assert_eq!(written.unwrap(), frame);
    let read = Message::decode(&frame, &Context::default()).unwrap();
    assert_eq!(read, Message::Open(open));
}

#[test]
fn a_session_offers_all_that_it_can_in_one_parameter() {
    let mut peer = Peer::in_state(config(), State::Connect);
    let conn = peer.conn.unwrap();
    let outputs = peer.handle(Input::Connected {
        conn,
        endpoint: endpoint(),
    });
    let Output::Send { bytes, .. } = &outputs[0] else {
        panic!("{outputs:?}")
    };
    let expected = message(
        1,
        "04 fc00 005a c0000201 24 02 22  01 04 0001 00 01  01 04 0002 00 01  02 00  06 00  41 04 0000fc00 \
         45 08 0001 01 02 0002 01 02  46 00",
    );
    assert_eq!(*bytes, expected);
}

#[test]
fn path_identifiers_are_for_a_peer_that_receives_them_and_for_families_that_we_carry() {
    let receives = |capability: &str| {
        let octets = hex(capability).len();
        read_open(&format!(
            "04 fdea 005a 0a010203 {:02x} 02 {octets:02x} {capability}",
            octets + 2
        ))
        .receives_path_identifiers()
    };
    let only_v4 = Families { ipv4: true, ..NONE };
    assert_eq!(receives("45 04 0001 01 01"), only_v4);
    assert_eq!(receives("45 04 0001 01 03"), only_v4);
    assert_eq!(receives("45 08 0001 01 01 0002 01 03"), Families::BOTH);
    // Sending is not receiving, and other values mean nothing (RFC 7911 section 4).
    for way in ["00", "02", "04", "ff"] {
        assert_eq!(receives(&format!("45 04 0001 01 {way}")), NONE, "{way}");
    }
    // Multicast, and a length that four does not divide.
    assert_eq!(receives("45 04 0001 02 01"), NONE);
    assert_eq!(receives("45 05 0001 01 01 00"), NONE);
}

#[test]
fn capabilities_without_content_that_have_some_mean_nothing() {
    let open = read_open("04 fdea 005a 0a010203 08 02 06 06 01 00 46 01 00");
    assert!(!open.offers(&Capability::ExtendedMessage));
    assert!(!open.offers(&Capability::EnhancedRouteRefresh));
}

fn route_attributes(path: AsPath) -> PathAttributes {
    PathAttributes {
        origin: Some(Origin::Igp),
        as_path: Some(path),
        ..PathAttributes::default()
    }
}

fn packed(family: Family, path: AsPath, hop: NextHop, context: &Context, nets: &[&str]) -> Vec<u8> {
    let nets: Vec<IpNet> = nets.iter().map(|net| net.parse().unwrap()).collect();
    let template = Template::new(family, &route_attributes(path), hop, context).unwrap();
    let mut out = Vec::new();
    assert_eq!(template.pack(&mut out, &nets).unwrap(), nets.len());
    out
}

const OVER_IPV6: NextHop = NextHop::Multiprotocol {
    global: std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
    link_local: None,
};

#[test]
fn path_identifiers_stand_in_front_of_prefixes_in_the_body() {
    let hop = NextHop::Body(Ipv4Addr::new(192, 0, 2, 1));
    let context = identifying(Families::BOTH);
    let nets = ["198.51.100.1/32", "203.0.113.0/24"];
    let out = packed(Family::Ipv4Unicast, AsPath::of(64512), hop, &context, &nets);
    let body = "0000 0014 40 01 01 00  40 02 06 02 01 0000fc00  40 03 04 c0000201 \
                00000001 20 c6336401  00000001 18 cb0071";
    assert_eq!(out, message(2, body));
    let read = read_update(body, &context).unwrap();
    assert_eq!(read.fault, None);
    let read: Vec<String> = read.announced.iter().map(ToString::to_string).collect();
    assert_eq!(read, nets);
}

#[test]
fn path_identifiers_stand_in_front_of_prefixes_in_mp_reach_nlri() {
    let out = packed(
        Family::Ipv6Unicast,
        AsPath::default(),
        OVER_IPV6,
        &identifying(Families::BOTH),
        &["2001:db8:1::/64"],
    );
    let expected = message(
        2,
        "0000 002d 90 0e 0022 0002 01 10 20010db8000000000000000000000001 00 00000001 40 20010db800010000 \
         40 01 01 00 40 02 00",
    );
    assert_eq!(out, expected);
}

#[test]
fn a_family_without_path_identifiers_has_none_beside_one_that_has() {
    let only_v6 = identifying(Families { ipv6: true, ..NONE });
    let nets = ["203.0.113.0/24"];
    // The family of the routes counts, not that of the next hop.
    let out = packed(
        Family::Ipv4Unicast,
        AsPath::default(),
        OVER_IPV6,
        &only_v6,
        &nets,
    );
    let expected = message(
        2,
        "0000 0024 90 0e 0019 0001 01 10 20010db8000000000000000000000001 00 18 cb0071 \
         40 01 01 00 40 02 00",
    );
    assert_eq!(out, expected);
}

#[test]
fn withdrawals_have_the_path_identifiers_of_their_announcements() {
    let context = identifying(Families::BOTH);
    let withdrawn = |family, net: &str| {
        let mut out = Vec::new();
        pack_withdrawals(&mut out, family, &[net.parse().unwrap()], &context).unwrap();
        out
    };
    assert_eq!(
        withdrawn(Family::Ipv4Unicast, "198.51.100.1/32"),
        message(2, "0009 00000001 20 c6336401 0000")
    );
    assert_eq!(
        withdrawn(Family::Ipv6Unicast, "2001:db8::/32"),
        message(2, "0000 0010 90 0f 000c 0002 01 00000001 20 20010db8")
    );
}

#[test]
fn a_path_identifier_that_is_cut_off_is_an_invalid_prefix() {
    let context = identifying(Families::BOTH);
    for body in ["0000 0000 000000", "0000 0000 00000007", "0003 000007 0000"] {
        let frame = message(2, body);
        assert_eq!(answer(&frame, &context), (3, 10, vec![]), "{body}");
    }
    let frame = message(2, "0000 0008 80 0f 05 0002 01 0000");
    assert_eq!(
        answer(&frame, &context),
        (3, 9, hex("80 0f 05 0002 01 0000"))
    );
}

#[test]
fn a_repetition_begins_with_subtype_1_and_ends_with_subtype_2() {
    for (meaning, family, body) in [
        (Refresh::Request, Family::Ipv4Unicast, "0001 00 01"),
        (Refresh::Begin, Family::Ipv4Unicast, "0001 01 01"),
        (Refresh::End, Family::Ipv6Unicast, "0002 02 01"),
    ] {
        let refresh = RouteRefresh::new(meaning, family);
        let frame = message(5, body);
        let written = Message::RouteRefresh(refresh).encode(&ENHANCED);
        assert_eq!(written.unwrap(), frame);
        let read = Message::decode(&frame, &ENHANCED).unwrap();
        assert_eq!(read, Message::RouteRefresh(refresh));
        assert_eq!(refresh.meaning(true), Some(meaning));
    }
}

fn read_refresh(body: &str, context: &Context) -> RouteRefresh {
    match Message::decode(&message(5, body), context).unwrap() {
        Message::RouteRefresh(refresh) => refresh,
        other => panic!("{other:?}"),
    }
}

#[test]
fn route_refresh_errors_have_the_answers_of_rfc_7313_5() {
    // The two subtypes of RFC 7313 have an error of their own, which holds the whole message.
    for body in ["0001 01", "0001 01 01 00", "0002 02 01 0000", "0002 02"] {
        let frame = message(5, body);
        assert_eq!(answer(&frame, &ENHANCED), (7, 1, frame.clone()), "{body}");
    }
    // A request has that of every other message, as has what is too short for a subtype.
    assert_eq!(
        answer(&message(5, "0001 00"), &ENHANCED),
        (1, 2, vec![0, 22])
    );
    assert_eq!(
        answer(&message(5, "0001 00 01 00"), &ENHANCED),
        (1, 2, vec![0, 24])
    );
    assert_eq!(answer(&message(5, "0001"), &ENHANCED), (1, 2, vec![0, 21]));
    // Other subtypes are ignored, whatever their length.
    for body in ["0001 03 01", "0001 ff", "0001 09 01 0102"] {
        let refresh = read_refresh(body, &ENHANCED);
        assert_eq!(refresh.meaning(true), None, "{body}");
        assert_eq!(refresh.requested(true), None, "{body}");
    }
}

#[test]
fn without_enhanced_refresh_the_subtype_is_reserved_and_every_message_a_request() {
    let plain = Context::default();
    for subtype in ["00", "01", "02", "77"] {
        let refresh = read_refresh(&format!("0001 {subtype} 01"), &plain);
        assert_eq!(refresh.requested(false), Some(Family::Ipv4Unicast));
    }
    for body in ["0001 01", "0001 02 01 00", "0001 77 01 00"] {
        let (code, subcode, _) = answer(&message(5, body), &plain);
        assert_eq!((code, subcode), (1, 2), "{body}");
    }
}

/// A message with many octets behind its beginning.
fn long(kind: u8, beginning: &str, length: usize) -> Vec<u8> {
    let mut frame = message(kind, beginning);
    frame.resize(length, 0);
    frame[16..18].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
    frame
}

#[test]
fn answers_to_long_messages_fit_into_messages_of_4096_octets() {
    // MP_REACH_NLRI with an impossible next hop, an unknown well-known attribute, BoRR with content: each of 60,000 octets.
    let attribute = format!("0000 {:04x}", 60_000 - 23);
    let value = format!("{:04x}", 60_000 - 27);
    for (frame, expected) in [
        (
            long(2, &format!("{attribute} 90 0e {value} 0002 01 05"), 60_000),
            (3, 9),
        ),
        (
            long(2, &format!("{attribute} 50 63 {value}"), 60_000),
            (3, 2),
        ),
        (long(5, "0001 01 01", 60_000), (7, 1)),
    ] {
        let error = Message::decode(&frame, &ENHANCED).unwrap_err();
        let answer = error.notification().unwrap();
        assert_eq!((answer.code, answer.subcode), expected);
        // What does not fit is cut off at its end.
        let whole = if answer.code == 7 {
            &frame[..]
        } else {
            &frame[23..]
        };
        assert!(whole.starts_with(&answer.data));
        let bytes = Message::Notification(answer).encode(&Context::default());
        assert_eq!(bytes.unwrap().len(), 4096);
    }
}

#[test]
fn a_long_update_is_written_to_a_peer_that_takes_it_and_read_from_every_peer() {
    let update = Update {
        attributes: PathAttributes {
            next_hop: Some(Ipv4Addr::new(192, 0, 2, 1)),
            ..route_attributes(AsPath::of(64512))
        },
        announced: (0..10_000u32)
            .map(|n| ipnet::Ipv4Net::new(Ipv4Addr::from(0x0a00_0000 + n), 32).unwrap())
            .collect(),
        ..Update::default()
    };
    let update = Message::Update(Box::new(update));
    let takes = Context {
        extended_messages: true,
        ..Context::default()
    };
    assert!(update.encode(&Context::default()).is_err());
    let frame = update.encode(&takes).unwrap();
    assert_eq!(frame.len(), 23 + 20 + 50_000);
    assert_eq!(
        Message::decode(&frame, &Context::default()).unwrap(),
        update
    );
    let mut peer = Peer::in_state(config(), State::Established);
    assert_eq!(peer::summary(&peer.receive(&frame)), "ignored");
}

#[test]
fn an_open_is_not_longer_than_4096_octets_whatever_was_agreed_on() {
    let takes = Context {
        extended_messages: true,
        ..Context::default()
    };
    let other = |octets| Capability::Other {
        code: 99,
        value: vec![0; octets],
    };
    // Header and fixed part, the lengths of RFC 9072, sixteen capabilities.
    let fits = |octets| {
        let mut capabilities = vec![other(252); 15];
        capabilities.push(other(octets));
        Message::Open(open_with(capabilities)).encode(&takes)
    };
    let rest = 4096 - 29 - 6 - 15 * 254 - 2;
    assert_eq!(fits(rest).unwrap().len(), 4096);
    assert!(fits(rest + 1).is_err());
}

#[test]
fn a_link_bandwidth_is_a_float_of_octets_a_second_under_an_as_of_two_octets() {
    let bandwidth = ExtendedCommunity::link_bandwidth(64512, 1.25e9);
    assert_eq!(bandwidth.0, *hex("40 04 fc00 4e9502f9"));
    let large = ExtendedCommunity::link_bandwidth(4_200_000_000, 0.0);
    assert_eq!(large.0, *hex("40 04 5ba0 00000000"));
    let update = Update {
        attributes: PathAttributes {
            extended_communities: vec![bandwidth],
            next_hop: Some(Ipv4Addr::new(192, 0, 2, 1)),
            ..route_attributes(AsPath::default())
        },
        announced: vec!["203.0.113.0/24".parse().unwrap()],
        ..Update::default()
    };
    let body = "0000 0019 40 01 01 00  40 02 00  40 03 04 c0000201  c0 10 08 40 04 fc00 4e9502f9  18 cb0071";
    let written = Message::Update(Box::new(update.clone())).encode(&Context::default());
    assert_eq!(written.unwrap(), message(2, body));
    assert_eq!(read_update(body, &Context::default()).unwrap(), update);
}

#[test]
fn extended_communities_that_are_not_a_list_of_some_make_a_withdrawal() {
    for value in ["00", "07 40040000000000", "09 400400000000000000"] {
        let octets = 14 + 2 + hex(value).len();
        let body = format!(
            "0000 {octets:04x} 40 01 01 00  40 02 00  40 03 04 c0000201  c0 10 {value} 18 cb0071"
        );
        let update = read_update(&body, &Context::default()).unwrap();
        assert_eq!(update.fault.map(|fault| fault.kind), Some(16), "{value}");
    }
}
