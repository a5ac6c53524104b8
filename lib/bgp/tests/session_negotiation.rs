//! What two OPENs agree on, and which are refused.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod peer;

use ferrolb_bgp::session::{Input, Output, PeerAs, State};
use ferrolb_bgp::wire::{Capability, Message, Open};
use ferrolb_bgp::{Families, Family};
use peer::{PEER_AS, Peer, config, encode, endpoint, keepalive, open, open_of, seconds, summary};
use std::net::Ipv4Addr;

#[test]
fn both_sides_learn_what_they_agreed_on() {
    let mut peer = Peer::in_state(config(), State::OpenSent);
    peer.receive(&open_of(PEER_AS, 30, [192, 0, 2, 2]));
    peer.receive(&keepalive());
    let negotiated = peer.session.negotiated().unwrap();
    assert_eq!(negotiated.hold_time, seconds(30));
    assert_eq!(negotiated.keepalive_time, seconds(10));
    assert_eq!(negotiated.families, Families::BOTH);
    assert!(negotiated.four_octet_as && !negotiated.internal && !negotiated.ipv4_over_ipv6);
}

#[test]
fn opens_that_do_not_fit_are_refused_with_their_reason() {
    let internal = ferrolb_bgp::Config {
        peer_as: PeerAs::Internal,
        ..config()
    };
    let external = ferrolb_bgp::Config {
        peer_as: PeerAs::External,
        ..config()
    };
    let only_v6 = ferrolb_bgp::Config {
        families: Families {
            ipv4: false,
            ipv6: true,
        },
        ..config()
    };
    let plain = encode(&Message::Open(Open::new(
        PEER_AS,
        90,
        Ipv4Addr::new(192, 0, 2, 2),
        Vec::new(),
    )));
    let zero = encode(&Message::Open(Open::new(
        0,
        90,
        Ipv4Addr::new(192, 0, 2, 2),
        Vec::new(),
    )));
    for (what, config, open, expected) in [
        ("wrong AS", config(), open_of(1, 90, [1, 1, 1, 1]), "2/2"),
        ("AS 0", config(), zero, "2/2"),
        ("not our AS", internal.clone(), open(), "2/2"),
        (
            "our AS",
            external,
            open_of(peer::LOCAL_AS, 90, [1, 1, 1, 1]),
            "2/2",
        ),
        (
            "router id 0",
            config(),
            open_of(PEER_AS, 90, [0, 0, 0, 0]),
            "2/3",
        ),
        (
            "our router id inside our AS",
            internal,
            open_of(peer::LOCAL_AS, 90, [192, 0, 2, 1]),
            "2/3",
        ),
        ("no common family", only_v6, plain, "2/7"),
    ] {
        let mut peer = Peer::in_state(config, State::OpenSent);
        let outputs = peer.receive(&open);
        assert_eq!(
            summary(&outputs),
            format!("{expected} close ended -> Idle"),
            "{what}"
        );
    }
}

#[test]
fn the_same_router_id_in_another_as_is_fine() {
    let mut peer = Peer::in_state(config(), State::OpenSent);
    peer.receive(&open_of(PEER_AS, 90, [192, 0, 2, 1]));
    assert_eq!(peer.session.state(), State::OpenConfirm);
}

#[test]
fn a_plain_old_peer_gets_ipv4_with_two_octet_as_numbers() {
    let mut peer = Peer::in_state(config(), State::OpenSent);
    peer.receive(&encode(&Message::Open(Open::new(
        PEER_AS,
        90,
        Ipv4Addr::new(192, 0, 2, 2),
        Vec::new(),
    ))));
    peer.receive(&keepalive());
    let negotiated = peer.session.negotiated().unwrap();
    assert_eq!(
        negotiated.families.iter().collect::<Vec<_>>(),
        [Family::Ipv4Unicast]
    );
    assert!(!negotiated.four_octet_as);
}

#[test]
fn an_extended_next_hop_is_offered_and_used_over_ipv6_only() {
    let offered = |local: &str| {
        let mut peer = Peer::in_state(config(), State::Connect);
        let conn = peer.conn.unwrap();
        let endpoint = ferrolb_bgp::Endpoint {
            local: local.parse().unwrap(),
            ..endpoint()
        };
        let outputs = peer.handle(Input::Connected { conn, endpoint });
        let Output::Send { bytes, .. } = &outputs[0] else {
            panic!()
        };
        let Message::Open(open) = Message::decode(bytes, &Default::default()).unwrap() else {
            panic!()
        };
        open.capabilities
            .iter()
            .any(|capability| matches!(capability, Capability::ExtendedNextHop(_)))
    };
    assert!(!offered("192.0.2.1"));
    assert!(offered("2001:db8::1"));
}
