//! Messages as they stand on the wire, octet by octet, and the answers to malformed ones.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod octets;

use ferrolb_bgp::Family;
use ferrolb_bgp::wire::{
    AsPath, AsSegment, Capability, Cease, Community, Context, DecodeError, LargeCommunity, Message,
    NextHop, Notification, Open, Origin, PathAttributes, Template, Update, frame_length,
    pack_withdrawals, push_end_of_rib,
};
use ipnet::IpNet;
use octets::{hex, message};
use std::net::Ipv4Addr;

fn decode(frame: &[u8]) -> Result<Message, DecodeError> {
    Message::decode(
        frame,
        &Context {
            four_octet_as: true,
            internal: true,
            ..Context::default()
        },
    )
}

fn update(body: &str) -> Result<Update, DecodeError> {
    match decode(&message(2, body))? {
        Message::Update(update) => Ok(*update),
        other => panic!("{other:?}"),
    }
}

/// Code and subcode of the answer to a message.
fn answer(frame: &[u8]) -> (u8, u8, Vec<u8>) {
    let notification = decode(frame).unwrap_err().notification().unwrap();
    (notification.code, notification.subcode, notification.data)
}

#[test]
fn an_open_of_metallb_is_written_as_metallb_writes_it() {
    let open = Open::new(
        65002,
        90,
        Ipv4Addr::new(10, 1, 2, 3),
        vec![
            Capability::multiprotocol(Family::Ipv4Unicast),
            Capability::multiprotocol(Family::Ipv6Unicast),
            Capability::FourOctetAs(65002),
        ],
    );
    let expected = hex(
        "ffffffffffffffffffffffffffffffff 0031 01 04 fdea 005a 0a010203 14 02 12 \
                        01 04 00 01 00 01 01 04 00 02 00 01 41 04 00 00 fd ea",
    );
    assert_eq!(
        Message::Open(open.clone())
            .encode(&Context::default())
            .unwrap(),
        expected
    );
    assert_eq!(decode(&expected).unwrap(), Message::Open(open));
}

#[test]
fn a_four_octet_as_is_as_trans_in_the_field_and_whole_in_the_capability() {
    let open = Open::new(
        4_200_000_000,
        90,
        Ipv4Addr::new(1, 1, 1, 1),
        vec![Capability::FourOctetAs(4_200_000_000)],
    );
    assert_eq!((open.as_field, open.asn()), (23456, 4_200_000_000));
}

#[test]
fn a_keepalive_is_a_bare_header() {
    let bytes = Message::Keepalive.encode(&Context::default()).unwrap();
    assert_eq!(bytes, hex("ffffffffffffffffffffffffffffffff 0013 04"));
}

#[test]
fn routes_to_another_as_go_out_with_our_as_and_without_a_preference() {
    let attributes = PathAttributes {
        origin: Some(Origin::Igp),
        as_path: Some(AsPath::of(64512)),
        communities: vec![Community::new(64512, 100)],
        large_communities: vec![LargeCommunity {
            global: 64512,
            local1: 1,
            local2: 2,
        }],
        ..PathAttributes::default()
    };
    let next_hop = NextHop::Body(Ipv4Addr::new(192, 0, 2, 1));
    let template = Template::new(
        Family::Ipv4Unicast,
        &attributes,
        next_hop,
        &Context::default(),
    )
    .unwrap();
    let mut out = Vec::new();
    let prefixes: Vec<IpNet> = vec![
        "198.51.100.1/32".parse().unwrap(),
        "203.0.113.0/24".parse().unwrap(),
    ];
    assert_eq!(template.pack(&mut out, &prefixes).unwrap(), 2);
    let expected = message(
        2,
        "0000 002a 40 01 01 00  40 02 06 02 01 0000fc00  40 03 04 c0000201  c0 08 04 fc000064 \
         c0 20 0c 0000fc00 00000001 00000002  20 c6336401 18 cb0071",
    );
    assert_eq!(out, expected);
}

#[test]
fn ipv6_routes_go_out_in_mp_reach_nlri_before_all_other_attributes() {
    let attributes = PathAttributes {
        origin: Some(Origin::Igp),
        as_path: Some(AsPath::default()),
        local_pref: Some(100),
        ..PathAttributes::default()
    };
    let next_hop = NextHop::Multiprotocol {
        global: "2001:db8::1".parse().unwrap(),
        link_local: None,
    };
    let template = Template::new(
        Family::Ipv6Unicast,
        &attributes,
        next_hop,
        &Context::default(),
    )
    .unwrap();
    let mut out = Vec::new();
    template
        .pack(&mut out, &["2001:db8:1::/64".parse().unwrap()])
        .unwrap();
    let expected = message(
        2,
        "0000 0030 90 0e 001e 0002 01 10 20010db8000000000000000000000001 00 40 20010db800010000 \
         40 01 01 00 40 02 00 40 05 04 00000064",
    );
    assert_eq!(out, expected);
}

#[test]
fn withdrawals_and_end_of_rib_are_written_by_family() {
    let mut out = Vec::new();
    pack_withdrawals(
        &mut out,
        Family::Ipv4Unicast,
        &["198.51.100.1/32".parse().unwrap()],
        &Context::default(),
    )
    .unwrap();
    assert_eq!(out, message(2, "0005 20 c6336401 0000"));
    out.clear();
    pack_withdrawals(
        &mut out,
        Family::Ipv6Unicast,
        &["2001:db8::/32".parse().unwrap()],
        &Context::default(),
    )
    .unwrap();
    assert_eq!(out, message(2, "0000 000c 90 0f 0008 0002 01 20 20010db8"));
    out.clear();
    push_end_of_rib(&mut out, Family::Ipv4Unicast);
    assert_eq!(out, message(2, "0000 0000"));
    assert_eq!(
        update("0000 0000").unwrap().end_of_rib(),
        Some(Family::Ipv4Unicast)
    );
    out.clear();
    push_end_of_rib(&mut out, Family::Ipv6Unicast);
    assert_eq!(out, message(2, "0000 0006 80 0f 03 0002 01"));
    assert_eq!(
        update("0000 0006 80 0f 03 0002 01").unwrap().end_of_rib(),
        Some(Family::Ipv6Unicast)
    );
}

#[test]
fn a_full_update_has_4096_octets_and_the_rest_goes_into_the_next() {
    let attributes = PathAttributes {
        origin: Some(Origin::Igp),
        as_path: Some(AsPath::default()),
        ..PathAttributes::default()
    };
    let next_hop = NextHop::Body(Ipv4Addr::new(192, 0, 2, 1));
    let template = Template::new(
        Family::Ipv4Unicast,
        &attributes,
        next_hop,
        &Context::default(),
    )
    .unwrap();
    let prefixes: Vec<IpNet> = (0..1000u32)
        .map(|n| IpNet::new(Ipv4Addr::from(0x0a00_0000 + n).into(), 32).unwrap())
        .collect();
    let mut out = Vec::new();
    let count = template.pack(&mut out, &prefixes).unwrap();
    assert!(out.len() <= 4096 && out.len() > 4096 - 5, "{}", out.len());
    assert_eq!(count, (4096 - 23 - 14) / 5);
    assert_eq!(
        template.pack(&mut out, &prefixes[count..]).unwrap(),
        1000 - count
    );
}

#[test]
fn attributes_that_leave_no_room_for_a_prefix_are_refused() {
    let attributes = PathAttributes {
        communities: (0..1200).map(Community).collect(),
        ..PathAttributes::default()
    };
    let next_hop = NextHop::Body(Ipv4Addr::new(192, 0, 2, 1));
    assert!(
        Template::new(
            Family::Ipv4Unicast,
            &attributes,
            next_hop,
            &Context::default()
        )
        .is_err()
    );
}

#[test]
fn a_two_octet_peer_gets_as_trans_and_the_true_path_beside_it() {
    let context = Context {
        four_octet_as: false,
        internal: false,
        ..Context::default()
    };
    let update = Update {
        attributes: PathAttributes {
            origin: Some(Origin::Igp),
            as_path: Some(AsPath::of(4_200_000_000)),
            next_hop: Some(Ipv4Addr::new(192, 0, 2, 1)),
            ..PathAttributes::default()
        },
        announced: vec!["203.0.113.0/24".parse().unwrap()],
        ..Update::default()
    };
    let bytes = Message::Update(Box::new(update.clone()))
        .encode(&context)
        .unwrap();
    let body = "0000 001b 40 01 01 00 40 02 04 02 01 5ba0 40 03 04 c0000201 c0 11 06 02 01 fa56ea00 18 cb0071";
    assert_eq!(bytes, message(2, body));
    // And back: the two paths are one again (RFC 6793 section 4.2.3).
    assert_eq!(
        Message::decode(&bytes, &context).unwrap(),
        Message::Update(Box::new(update))
    );
}

#[test]
fn a_four_octet_path_keeps_the_as_numbers_that_an_old_speaker_put_in_front() {
    let context = Context {
        four_octet_as: false,
        internal: false,
        ..Context::default()
    };
    let body = "0000 0016 40 01 01 00 40 02 06 02 02 fde8 5ba0 c0 11 06 02 01 fa56ea00";
    let Message::Update(update) = Message::decode(&message(2, body), &context).unwrap() else {
        panic!()
    };
    let expected = AsPath(vec![
        AsSegment::Sequence(vec![65000]),
        AsSegment::Sequence(vec![4_200_000_000]),
    ]);
    assert_eq!(update.attributes.as_path, Some(expected));
}

#[test]
fn header_errors_have_the_answers_of_rfc_4271_6_1() {
    let mut wrong_marker = message(4, "");
    wrong_marker[3] = 0;
    assert_eq!(answer(&wrong_marker), (1, 1, vec![]));
    assert_eq!(
        frame_length(b"GET / HTTP/1.1"),
        Err(DecodeError::NotSynchronised)
    );
    assert_eq!(answer(&message(4, "00")), (1, 2, vec![0, 20]));
    assert_eq!(answer(&message(1, "04")), (1, 2, vec![0, 20]));
    assert_eq!(answer(&message(2, "0000")), (1, 2, vec![0, 21]));
    assert_eq!(answer(&message(5, "00")), (1, 2, vec![0, 20]));
    assert_eq!(answer(&message(9, "")), (1, 3, vec![9]));
    let mut long = vec![0xff; 16];
    // RFC 8654: only OPEN and KEEPALIVE must be shorter.
    long.extend_from_slice(&[0x10, 0x01, 1]);
    assert_eq!(frame_length(&long), Err(DecodeError::BadLength(4097)));
    long[18] = 2;
    assert_eq!(frame_length(&long), Ok(Some(4097)));
    assert_eq!(frame_length(&message(4, "")[..18]), Ok(None));
}

#[test]
fn open_errors_have_the_answers_of_rfc_4271_6_2() {
    let open = |body: &str| answer(&message(1, body));
    assert_eq!(open("03 fdea 005a 0a010203 00"), (2, 1, vec![0, 4]));
    assert_eq!(open("04 fdea 0002 0a010203 00"), (2, 6, vec![]));
    assert_eq!(open("04 fdea 005a 0a010203 02 01 00"), (2, 4, vec![]));
    assert_eq!(open("04 fdea 005a 0a010203 05 02 01 00"), (2, 0, vec![]));
    assert_eq!(open("04 fdea 005a 0a010203 04 02 02 41 04"), (2, 0, vec![]));
}

#[test]
fn unknown_and_misshapen_capabilities_are_kept_without_effect() {
    let frame = message(1, "04 fdea 005a 0a010203 0a 02 08 49 02 6869 41 02 0000");
    let Message::Open(open) = decode(&frame).unwrap() else {
        panic!()
    };
    assert_eq!(open.asn(), 65002);
    assert_eq!(
        open.capabilities[0],
        Capability::Other {
            code: 73,
            value: b"hi".to_vec()
        }
    );
    assert_eq!(
        Message::Open(open).encode(&Context::default()).unwrap(),
        frame
    );
}

#[test]
fn an_open_with_extended_parameters_is_read() {
    let frame = message(1, "04 fdea 005a 0a010203 ff ff 0009 02 0006 41 04 0001fdea");
    let Message::Open(open) = decode(&frame).unwrap() else {
        panic!()
    };
    assert_eq!(open.asn(), 0x1_fdea);
}

#[test]
fn an_open_that_says_nothing_about_families_means_ipv4() {
    let Message::Open(open) = decode(&message(1, "04 fdea 005a 0a010203 00")).unwrap() else {
        panic!()
    };
    assert_eq!(
        open.families().iter().collect::<Vec<_>>(),
        [Family::Ipv4Unicast]
    );
}

#[test]
fn updates_whose_routes_cannot_be_found_end_the_session() {
    let fails = |body: &str| answer(&message(2, body));
    assert_eq!(fails("0009 0000"), (3, 1, vec![]));
    assert_eq!(fails("0000 0009"), (3, 1, vec![]));
    // A prefix of 33 bits, and one that ends too early.
    assert_eq!(fails("0000 0000 21 0102030405").1, 10);
    assert_eq!(fails("0000 0000 18 0102").1, 10);
    // MP_REACH_NLRI twice; with an impossible next hop; with a prefix of 129 bits.
    assert_eq!(fails("0000 000c 80 0f 03 0002 01 80 0f 03 0002 01").1, 1);
    assert_eq!(
        fails("0000 0009 80 0e 06 0002 01 01 00 00"),
        (3, 9, hex("80 0e 06 0002 01 01 00 00"))
    );
    assert_eq!(fails("0000 0007 80 0f 04 0002 01 81").1, 9);
    // A well-known attribute that nobody knows.
    assert_eq!(fails("0000 0003 40 63 00"), (3, 2, hex("40 63 00")));
}

#[test]
fn updates_with_malformed_attributes_are_withdrawals_and_the_session_lives() {
    let routes = "18 cb0071";
    let good = "40 01 01 00  40 02 00  40 03 04 c0000201";
    let fault = |attributes: &str| {
        let length = hex(attributes).len();
        update(&format!("0000 {length:04x} {attributes} {routes}"))
            .unwrap()
            .fault
            .map(|fault| fault.kind)
    };
    assert_eq!(fault(good), None);
    for (what, attributes, expected) in [
        (
            "an origin of 3",
            "40 01 01 03  40 02 00  40 03 04 c0000201",
            Some(1),
        ),
        (
            "an origin of two octets",
            "40 01 02 0000  40 02 00  40 03 04 c0000201",
            Some(1),
        ),
        (
            "an empty segment",
            "40 01 01 00  40 02 02 0200  40 03 04 c0000201",
            Some(2),
        ),
        (
            "a segment that runs over",
            "40 01 01 00  40 02 04 02020001  40 03 04 c0000201",
            Some(2),
        ),
        (
            "a next hop of three octets",
            "40 01 01 00  40 02 00  40 03 03 c00002",
            Some(3),
        ),
        ("no next hop", "40 01 01 00  40 02 00", Some(3)),
        ("no origin", "40 02 00  40 03 04 c0000201", Some(1)),
        ("no path", "40 01 01 00  40 03 04 c0000201", Some(2)),
        (
            "a preference of three octets",
            &format!("{good} 40 05 03 000001"),
            Some(5),
        ),
        (
            "a well-known attribute called optional",
            &format!("{good} c0 05 04 00000001"),
            Some(5),
        ),
        (
            "communities of five octets",
            &format!("{good} c0 08 05 0000000000"),
            Some(8),
        ),
        (
            "no communities at all",
            &format!("{good} c0 08 00"),
            Some(8),
        ),
        (
            "large communities of four octets",
            &format!("{good} c0 20 04 00000000"),
            Some(32),
        ),
        (
            "an attribute that runs over",
            &format!("{good} c0 08 20 00"),
            Some(0),
        ),
        // Left out without more ado (attribute discard).
        (
            "an aggregator of five octets",
            &format!("{good} c0 07 05 0000000000"),
            None,
        ),
        (
            "an atomic aggregate with content",
            &format!("{good} 40 06 01 00"),
            None,
        ),
        ("a second origin", &format!("{good} 40 01 01 03"), None),
    ] {
        assert_eq!(fault(attributes), expected, "{what}");
    }
}

#[test]
fn a_shutdown_text_reaches_the_other_side_and_its_log() {
    let notification = Notification::cease(Cease::AdministrativeShutdown, "maintenance\n until 6");
    let bytes = Message::Notification(notification.clone())
        .encode(&Context::default())
        .unwrap();
    assert_eq!(
        decode(&bytes).unwrap(),
        Message::Notification(notification.clone())
    );
    assert_eq!(notification.shutdown_text(), Some("maintenance\n until 6"));
    assert_eq!(
        notification.to_string(),
        r#"cease: administrative shutdown (6/2), the peer says "maintenance\n until 6""#
    );
    let long = Notification::cease(Cease::AdministrativeReset, &"ä".repeat(200));
    assert_eq!((long.data.len(), long.data[0]), (255, 254));
    assert_eq!(
        Notification::cease(Cease::PeerDeconfigured, "text").data,
        []
    );
    // What is no text is shown as it came (RFC 9003 section 2).
    for (data, shown) in [
        (&[2, 0xff, 0xfe][..], ", with data that is no text: 02fffe"),
        (&[9, b'a'][..], ", with data that is no text: 0961"),
        (&[0][..], ""),
        (&[][..], ""),
    ] {
        let odd = Notification::new(6, 2, data.to_vec());
        assert_eq!(
            odd.to_string(),
            format!("cease: administrative shutdown (6/2){shown}")
        );
    }
}

#[test]
fn notifications_read_as_sentences() {
    let text =
        |code, subcode, data: &[u8]| Notification::new(code, subcode, data.to_vec()).to_string();
    assert_eq!(
        text(2, 2, &[0xfd, 0xe8]),
        "OPEN message error: bad peer AS (2/2), AS 65000"
    );
    assert_eq!(text(4, 0, &[]), "hold timer expired (4/0)");
    assert_eq!(text(6, 77, &[]), "cease: subcode 77 (6/77)");
    assert_eq!(text(99, 0, &[]), "unknown error 99 (99/0)");
}

#[test]
fn a_malformed_notification_is_not_answered() {
    assert_eq!(DecodeError::MalformedNotification.notification(), None);
}
