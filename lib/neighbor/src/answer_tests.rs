use std::net::Ipv4Addr;

use pnet::packet::icmpv6::{Icmpv6Packet, checksum};
use pnet::packet::ipv6::Ipv6Packet;
use proptest::prelude::*;

use super::*;

type Change = fn(&mut Vec<u8>);

const OURS: MacAddr = MacAddr(0x02, 0, 0, 0, 0, 0x01);
const THEIRS: MacAddr = MacAddr(0x02, 0, 0, 0, 0, 0x02);
const V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

fn v6() -> Ipv6Addr {
    "2001:db8::10".parse().unwrap()
}

fn responder() -> Responder {
    Responder {
        mac: OURS,
        link_local: Some("fe80::1".parse().unwrap()),
    }
}

fn ours(ip: IpAddr) -> Option<Standing> {
    (ip == IpAddr::V4(V4) || ip == IpAddr::V6(v6())).then_some(Standing::Held)
}

fn watched(ip: IpAddr) -> Option<Standing> {
    ours(ip).map(|_| Standing::Watched)
}

fn bytes(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn arp_request() -> Vec<u8> {
    bytes(
        "ffffffffffff 020000000002 0806
         0001 0800 06 04 0001 020000000002 c0000201 000000000000 c000020a
         000000000000000000000000000000000000",
    )
}

/// A solicitation whose checksum is put right after `change`.
fn solicitation(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = bytes(
        "3333ff000010 020000000002 86dd
         60000000 0020 3a ff fe800000000000000000000000000002 ff0200000000000000000001ff000010
         87 00 0000 00000000 20010db8000000000000000000000010 0101 020000000002",
    );
    change(&mut frame);
    seal(&mut frame);
    frame
}

fn seal(frame: &mut [u8]) {
    let header = Ipv6Packet::new(&frame[14..]).unwrap();
    let sum = checksum(
        &Icmpv6Packet::new(&frame[54..]).unwrap(),
        &header.get_source(),
        &header.get_destination(),
    );
    frame[56..58].copy_from_slice(&sum.to_be_bytes());
}

fn reply(frame: &[u8]) -> Reply {
    match responder().answer(frame, ours) {
        Verdict::Reply(reply) => reply,
        other => panic!("{other:?} instead of a reply"),
    }
}

#[test]
fn an_arp_request_for_our_address_gets_a_unicast_reply() {
    let reply = reply(&arp_request());
    assert_eq!(reply.ip, IpAddr::V4(V4));
    let expected = bytes(
        "020000000002 020000000001 0806
         0001 0800 06 04 0002 020000000001 c000020a 020000000002 c0000201",
    );
    assert_eq!(&reply.frame[..], expected);
}

#[test]
fn an_arp_probe_is_answered_although_its_sender_has_no_address() {
    let mut probe = arp_request();
    probe[28..32].fill(0);
    assert_eq!(reply(&probe).ip, IpAddr::V4(V4));
}

#[test]
fn an_arp_request_to_our_own_hardware_address_is_answered() {
    let mut request = arp_request();
    request[..6].copy_from_slice(&OURS.octets());
    assert_eq!(reply(&request).ip, IpAddr::V4(V4));
}

#[test]
fn arp_frames_that_are_not_for_us_are_ignored() {
    let changes: [(&str, Change); 3] = [
        ("a reply", |frame| frame[21] = 2),
        ("another station's", |frame| {
            frame[..6].copy_from_slice(&THEIRS.octets())
        }),
        ("another address", |frame| frame[41] = 11),
    ];
    for (what, change) in changes {
        let mut frame = arp_request();
        change(&mut frame);
        assert_eq!(responder().answer(&frame, ours), Verdict::Ignored, "{what}");
    }
}

#[test]
fn broken_arp_frames_are_named() {
    let changes: [(DropReason, Change); 7] = [
        (DropReason::Truncated, |frame| frame.truncate(41)),
        (DropReason::Truncated, |frame| frame.truncate(13)),
        (DropReason::ArpAddressKind, |frame| frame[15] = 6),
        (DropReason::ArpAddressKind, |frame| frame[18] = 8),
        (DropReason::ArpSender, |frame| frame[22] = 0xff),
        (DropReason::ArpSender, |frame| frame[22..28].fill(0)),
        (DropReason::VlanTagged, |frame| {
            frame[12..14].copy_from_slice(&[0x81, 0])
        }),
    ];
    for (reason, change) in changes {
        let mut frame = arp_request();
        change(&mut frame);
        assert_eq!(responder().answer(&frame, ours), Verdict::Dropped(reason));
    }
}

#[test]
fn who_asks_before_it_claims_what_we_ask_for_claims_it() {
    let mut arp = arp_request();
    arp[28..32].fill(0);
    let ndp = solicitation(|frame| {
        frame[22..38].fill(0); // the unspecified address, which brings no option
        frame.truncate(78);
        frame[19] = 24;
    });
    for (frame, ip) in [(arp, IpAddr::V4(V4)), (ndp, IpAddr::V6(v6()))] {
        let claim = Verdict::Claim(Claim { ip, mac: THEIRS });
        assert_eq!(responder().answer(&frame, watched), claim);
        assert_ne!(responder().answer(&frame, ours), claim);
        assert_eq!(responder().answer(&frame, |_| None), Verdict::Ignored);
        let mut own = frame.clone();
        own[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        if ip.is_ipv4() {
            own[22..28].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        }
        assert_eq!(responder().answer(&own, watched), Verdict::Ignored);
    }
}

#[test]
fn a_solicitation_for_our_address_gets_a_solicited_advertisement() {
    let reply = reply(&solicitation(|_| {}));
    assert_eq!(reply.ip, IpAddr::V6(v6()));
    let mut expected = bytes(
        "020000000002 020000000001 86dd
         60000000 0020 3a ff fe800000000000000000000000000001 fe800000000000000000000000000002
         88 00 0000 40000000 20010db8000000000000000000000010 0201 020000000001",
    );
    seal(&mut expected);
    assert_eq!(&reply.frame[..], expected);
}

#[test]
fn the_checksum_of_an_advertisement_sums_to_nothing() {
    // Independent of the code under test: the one's complement sum over pseudo header and message is 0xffff.
    let frame = reply(&solicitation(|_| {})).frame;
    let mut summed = frame[22..54].to_vec();
    summed.extend([0, 0, 0, 32, 0, 0, 0, 58]);
    summed.extend(&frame[54..]);
    let sum: u32 = summed
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
}

#[test]
fn a_unicast_solicitation_is_answered() {
    let frame = solicitation(|frame| {
        frame[..6].copy_from_slice(&OURS.octets());
        frame[38..54].copy_from_slice(&v6().octets());
    });
    assert_eq!(reply(&frame).ip, IpAddr::V6(v6()));
}

#[test]
fn a_station_that_asks_us_alone_whether_we_are_there_may_leave_its_own_address_out() {
    let frame = solicitation(|frame| {
        frame[..6].copy_from_slice(&OURS.octets());
        frame[38..54].copy_from_slice(&v6().octets());
        frame[19] = 24;
        frame.truncate(78);
    });
    let reply = reply(&frame);
    assert_eq!(reply.frame[..6], THEIRS.octets());
    let to = Ipv6Packet::new(&reply.frame[14..])
        .unwrap()
        .get_destination();
    assert_eq!(to, "fe80::2".parse::<Ipv6Addr>().unwrap());
}

#[test]
fn a_padded_solicitation_is_answered() {
    let mut frame = solicitation(|_| {});
    frame.extend([0xaa; 9]);
    assert_eq!(reply(&frame).ip, IpAddr::V6(v6()));
}

#[test]
fn an_advertisement_goes_to_the_address_in_the_option() {
    let frame = solicitation(|frame| frame[85] = 0x77);
    assert_eq!(reply(&frame).frame[..6], [2, 0, 0, 0, 0, 0x77]);
}

#[test]
fn solicitations_that_are_not_for_us_are_ignored() {
    let cases: [(&str, Vec<u8>); 4] = [
        ("another address", solicitation(|frame| frame[77] = 0x11)),
        (
            "another station's",
            solicitation(|frame| frame[..6].copy_from_slice(&THEIRS.octets())),
        ),
        (
            "without link-layer address",
            solicitation(|frame| {
                frame[19] = 24;
                frame.truncate(78);
            }),
        ),
        (
            "duplicate address detection",
            solicitation(|frame| {
                frame[19] = 24;
                frame[22..38].fill(0);
                frame.truncate(78);
            }),
        ),
    ];
    for (what, frame) in cases {
        assert_eq!(responder().answer(&frame, ours), Verdict::Ignored, "{what}");
    }
    let without_ipv6 = Responder {
        link_local: None,
        ..responder()
    };
    assert_eq!(
        without_ipv6.answer(&solicitation(|_| {}), ours),
        Verdict::Ignored
    );
}

#[test]
fn broken_solicitations_are_named() {
    let cases: [(DropReason, Vec<u8>); 14] = [
        (DropReason::HopLimit, solicitation(|frame| frame[21] = 64)),
        (
            DropReason::Ipv6Header,
            solicitation(|frame| frame[14] = 0x40),
        ),
        (DropReason::Ipv6Header, {
            let mut frame = solicitation(|_| {});
            frame[19] = 40;
            frame
        }),
        (
            DropReason::OtherProtocol,
            solicitation(|frame| frame[20] = 17),
        ),
        (
            DropReason::OtherProtocol,
            solicitation(|frame| frame[54] = 128),
        ),
        (DropReason::Checksum, {
            let mut frame = solicitation(|_| {});
            frame[57] ^= 1;
            frame
        }),
        (DropReason::Code, solicitation(|frame| frame[55] = 1)),
        (DropReason::Target, solicitation(|frame| frame[62] = 0xff)),
        (DropReason::Options, solicitation(|frame| frame[79] = 0)),
        (DropReason::Options, solicitation(|frame| frame[79] = 32)),
        (DropReason::Options, solicitation(|frame| frame[80] = 0x33)),
        (
            DropReason::Source,
            solicitation(|frame| frame[22..38].fill(0)),
        ),
        (DropReason::Source, solicitation(|frame| frame[22] = 0xff)),
        (
            DropReason::Truncated,
            solicitation(|frame| {
                frame[19] = 16;
                frame.truncate(70);
            }),
        ),
    ];
    for (reason, frame) in cases {
        assert_eq!(responder().answer(&frame, ours), Verdict::Dropped(reason));
    }
}

/// An advertisement of our address by another station, to all.
fn advertisement(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = bytes(
        "333300000001 020000000002 86dd
         60000000 0020 3a ff fe800000000000000000000000000002 ff020000000000000000000000000001
         88 00 0000 20000000 20010db8000000000000000000000010 0201 020000000002",
    );
    change(&mut frame);
    seal(&mut frame);
    frame
}

fn claims_of(frames: impl IntoIterator<Item = Vec<u8>>) -> Vec<Verdict> {
    let frames = frames.into_iter();
    frames
        .map(|frame| responder().answer(&frame, watched))
        .collect()
}

#[test]
fn what_another_station_says_of_an_address_of_ours_is_a_claim_and_no_question() {
    let claim = |ip| Verdict::Claim(Claim { ip, mac: THEIRS });
    let v4 = |operation: u8, to: u8| {
        let mut frame = arp_request();
        frame[21] = operation;
        frame[28..32].copy_from_slice(&V4.octets());
        frame[41] = to;
        frame
    };
    // Gratuitous requests and replies, and a question for another address by a sender that has ours.
    let arp = [v4(1, 10), v4(2, 10), v4(1, 77)];
    let to_us = {
        let mut frame = v4(2, 0);
        frame[..6].copy_from_slice(&OURS.octets());
        frame
    };
    for verdict in claims_of(arp.into_iter().chain([to_us])) {
        assert_eq!(verdict, claim(IpAddr::V4(V4)));
    }
    let without_option = advertisement(|frame| {
        frame[19] = 24;
        frame.truncate(78);
    });
    for verdict in claims_of([advertisement(|_| {}), without_option]) {
        assert_eq!(verdict, claim(IpAddr::V6(v6())));
    }
}

#[test]
fn what_our_own_interface_says_or_what_is_said_of_others_is_no_claim() {
    let gratuitous: Vec<Vec<u8>> = [IpAddr::V4(V4), IpAddr::V6(v6())]
        .into_iter()
        .flat_map(|ip| responder().gratuitous(ip))
        .map(|frame| frame.to_vec())
        .collect();
    assert_eq!(gratuitous.len(), 3);
    let others = [
        advertisement(|frame| frame[77] = 0x11),
        advertisement(|frame| frame[..6].copy_from_slice(&THEIRS.octets())),
        {
            let mut frame = arp_request();
            frame[21] = 2;
            frame
        },
    ];
    for verdict in claims_of(gratuitous.into_iter().chain(others)) {
        assert_eq!(verdict, Verdict::Ignored);
    }
}

#[test]
fn an_address_that_is_only_watched_is_not_answered_for() {
    let frames = [arp_request(), solicitation(|_| {})];
    for verdict in claims_of(frames) {
        assert_eq!(verdict, Verdict::Ignored);
    }
}

#[test]
fn broken_advertisements_are_named() {
    let cases = [
        (DropReason::HopLimit, advertisement(|frame| frame[21] = 64)),
        (DropReason::Code, advertisement(|frame| frame[55] = 1)),
        (DropReason::Target, advertisement(|frame| frame[62] = 0xff)),
        (
            DropReason::Solicited,
            advertisement(|frame| frame[58] = 0x60),
        ),
        (DropReason::Options, advertisement(|frame| frame[79] = 0)),
        (DropReason::Options, advertisement(|frame| frame[80] = 0x33)),
    ];
    for (reason, frame) in cases {
        assert_eq!(responder().answer(&frame, ours), Verdict::Dropped(reason));
    }
}

#[test]
fn what_the_filter_leaves_of_a_tagged_frame_is_counted_as_one() {
    for frame in [vec![0xff], {
        let mut frame = arp_request();
        frame[12..14].copy_from_slice(&[0x81, 0]);
        frame
    }] {
        let verdict = responder().answer(&frame, ours);
        assert_eq!(verdict, Verdict::Dropped(DropReason::VlanTagged));
    }
}

#[test]
fn a_probe_names_no_sender_so_that_no_cache_changes() {
    let arp: Vec<_> = responder().probe(IpAddr::V4(V4)).collect();
    let expected = bytes(
        "ffffffffffff 020000000001 0806
         0001 0800 06 04 0001 020000000001 00000000 000000000000 c000020a",
    );
    assert_eq!(arp.len(), 1);
    assert_eq!(&arp[0][..], expected);
    let ndp: Vec<_> = responder().probe(IpAddr::V6(v6())).collect();
    let mut expected = bytes(
        "3333ff000010 020000000001 86dd
         60000000 0018 3a ff 00000000000000000000000000000000 ff0200000000000000000001ff000010
         87 00 0000 00000000 20010db8000000000000000000000010",
    );
    seal(&mut expected);
    assert_eq!(ndp.len(), 2);
    assert_eq!(&ndp[0][..], expected);
    // Another speaker answers the second.
    let theirs = Responder {
        mac: THEIRS,
        link_local: Some("fe80::2".parse().unwrap()),
    };
    let Verdict::Reply(reply) = theirs.answer(&ndp[1], ours) else {
        panic!("no answer to the second");
    };
    let claim = Verdict::Claim(Claim {
        ip: IpAddr::V6(v6()),
        mac: THEIRS,
    });
    assert_eq!(responder().answer(&reply.frame, watched), claim);
}

#[test]
fn gratuitous_arp_is_a_request_and_a_reply_to_all() {
    let frames: Vec<_> = responder().gratuitous(IpAddr::V4(V4)).collect();
    let expected = |operation| {
        bytes(&format!(
            "ffffffffffff 020000000001 0806
             0001 0800 06 04 000{operation} 020000000001 c000020a ffffffffffff c000020a"
        ))
    };
    assert_eq!(frames.len(), 2);
    assert_eq!(&frames[0][..], expected(1));
    assert_eq!(&frames[1][..], expected(2));
}

#[test]
fn an_unsolicited_advertisement_goes_to_all_nodes_and_overrides() {
    let frames: Vec<_> = responder().gratuitous(IpAddr::V6(v6())).collect();
    let mut expected = bytes(
        "333300000001 020000000001 86dd
         60000000 0020 3a ff fe800000000000000000000000000001 ff020000000000000000000000000001
         88 00 0000 20000000 20010db8000000000000000000000010 0201 020000000001",
    );
    seal(&mut expected);
    assert_eq!(frames.len(), 1);
    assert_eq!(&frames[0][..], expected);
}

#[test]
fn every_reason_has_its_own_label() {
    let labels: std::collections::BTreeSet<_> = DropReason::ALL.map(DropReason::as_str).into();
    assert_eq!(labels.len(), DropReason::ALL.len());
}

proptest! {
    #[test]
    fn random_frames_never_panic(frame in proptest::collection::vec(any::<u8>(), 0..200)) {
        responder().answer(&frame, |_| Some(Standing::Held));
    }

    #[test]
    fn disturbed_requests_never_panic(at in 12..60usize, value: u8, cut in 0..60usize) {
        let mut frame = arp_request();
        frame[at] = value;
        frame.truncate(frame.len() - cut);
        responder().answer(&frame, |_| Some(Standing::Held));
    }

    #[test]
    fn disturbed_solicitations_never_panic(
        options in proptest::collection::vec(any::<u8>(), 0..300),
        length: u8,
    ) {
        let frame = solicitation(|frame| {
            frame.truncate(78);
            frame.extend(&options);
            frame[18..20].copy_from_slice(&(24 + options.len() as u16).to_be_bytes());
            if let Some(units) = frame.get_mut(79) {
                *units = length;
            }
        });
        responder().answer(&frame, |_| Some(Standing::Held));
    }
}
