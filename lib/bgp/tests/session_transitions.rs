//! Every input in every state, against what RFC 4271 section 8.2.2 says.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod peer;

use ferrolb_bgp::session::{ConnId, EndReason, Input, Output, PeerAs, Session, Side, State};
use ferrolb_bgp::wire::{Capability, Cease, Message, Open};
use ferrolb_bgp::{Families, Family};
use peer::{
    PEER_AS, Peer, base, config, encode, endpoint, keepalive, notification, open, open_of, refresh,
    seconds, summary, update,
};
use proptest::prelude::*;
use std::net::Ipv4Addr;

const STATES: [State; 6] = [
    State::Idle,
    State::Active,
    State::Connect,
    State::OpenSent,
    State::OpenConfirm,
    State::Established,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Start,
    Stop,
    TooEarlyTick,
    Deadline,
    Connected,
    ConnectFailed,
    Accepted,
    Open,
    OpenOfWrongAs,
    Keepalive,
    Update,
    BrokenUpdate,
    Refresh,
    Notification,
    Garbage,
    Closed,
    Broken,
    StaleBytes,
    StaleClosed,
    Progress,
    UpdateQueued,
}

use Event::*;

const EVENTS: [Event; 21] = [
    Start,
    Stop,
    TooEarlyTick,
    Deadline,
    Connected,
    ConnectFailed,
    Accepted,
    Open,
    OpenOfWrongAs,
    Keepalive,
    Update,
    BrokenUpdate,
    Refresh,
    Notification,
    Garbage,
    Closed,
    Broken,
    StaleBytes,
    StaleClosed,
    Progress,
    UpdateQueued,
];

fn cause(peer: &mut Peer, event: Event) -> Vec<Output> {
    let conn = peer.conn.unwrap_or(ConnId {
        side: Side::Active,
        number: 77,
    });
    let stale = ConnId {
        side: conn.side,
        number: conn.number + 100,
    };
    let mut broken = update();
    broken[20] = 9;
    match event {
        Start => peer.handle(Input::Start),
        Stop => peer.handle(Input::Stop {
            reason: Cease::AdministrativeShutdown,
            text: "",
        }),
        TooEarlyTick => peer.handle(Input::Tick),
        Deadline => peer.tick(),
        Connected => peer.handle(Input::Connected {
            conn,
            endpoint: endpoint(),
        }),
        ConnectFailed => peer.handle(Input::ConnectFailed {
            conn,
            error: "refused".to_owned(),
        }),
        Accepted => peer.handle(Input::Accepted {
            endpoint: endpoint(),
        }),
        Open => peer.receive(&open()),
        OpenOfWrongAs => peer.receive(&open_of(PEER_AS + 1, 90, [192, 0, 2, 2])),
        Keepalive => peer.receive(&keepalive()),
        Update => peer.receive(&update()),
        BrokenUpdate => peer.receive(&broken),
        Refresh => peer.receive(&refresh()),
        Notification => peer.receive(&notification()),
        Garbage => peer.receive(b"SSH-2.0-OpenSSH_9.6"),
        Closed => peer.handle(Input::Closed { conn, error: None }),
        Broken => peer.handle(Input::Closed {
            conn,
            error: Some("reset".to_owned()),
        }),
        StaleBytes => peer.handle(Input::Bytes {
            conn: stale,
            bytes: &keepalive(),
        }),
        StaleClosed => peer.handle(Input::Closed {
            conn: stale,
            error: None,
        }),
        Progress => peer.handle(Input::Progress { conn }),
        UpdateQueued => peer.handle(Input::UpdateQueued),
    }
}

/// The table of RFC 4271 section 8.2.2, in the words of [`summary`]. After an error the session is Idle until the wait is
/// over (section 8.1.1, DampPeerOscillations); after a failed attempt to connect it is Active.
fn expected(state: State, event: Event) -> &'static str {
    match (state, event) {
        // Nothing is wrong with these anywhere, and what concerns a connection that is gone concerns nobody.
        (_, TooEarlyTick | Progress | UpdateQueued | StaleBytes | StaleClosed) => "",

        (State::Idle, Start) => "connect -> Connect",
        (State::Idle, Accepted) => "refuse",
        (State::Idle, _) => "",
        (_, Start) => "",

        (State::Active, Stop) => "-> Idle",
        (State::Active, Deadline) => "connect -> Connect",
        (State::Active, Accepted) => "accept OPEN -> OpenSent",
        (State::Active, _) => "",

        (State::Connect, Stop) => "close stopped -> Idle",
        (State::Connect, Deadline | ConnectFailed | Closed | Broken) => "close ended -> Active",
        (State::Connect, Connected) => "OPEN -> OpenSent",
        (State::Connect, Accepted) => "accept OPEN -> OpenSent",
        // Octets before the connection is reported: an error of whoever reports, answered like one of the peer.
        (
            State::Connect,
            Notification | Open | OpenOfWrongAs | Keepalive | Update | BrokenUpdate | Refresh
            | Garbage,
        ) => "close ended -> Active",

        (_, Stop) => "6/2 close stopped -> Idle",
        (_, Connected) => "",
        (_, Closed | Broken | ConnectFailed | Notification) => "close ended -> Idle",
        (_, Garbage) => "1/1 close ended -> Idle",
        (_, BrokenUpdate) => "3/1 close ended -> Idle",

        (State::OpenSent, Deadline) => "4/0 close ended -> Idle",
        (State::OpenSent, Accepted) => "accept OPEN",
        (State::OpenSent, Open) => "KEEPALIVE -> OpenConfirm",
        (State::OpenSent, OpenOfWrongAs) => "2/2 close ended -> Idle",
        (State::OpenSent, Keepalive | Update | Refresh) => "5/1 close ended -> Idle",

        (State::OpenConfirm, Deadline) => "KEEPALIVE",
        (State::OpenConfirm, Accepted) => "accept OPEN",
        (State::OpenConfirm, Keepalive) => "established -> Established",
        (State::OpenConfirm, Open | OpenOfWrongAs | Update | Refresh) => "5/2 close ended -> Idle",

        (State::Established, Deadline) => "KEEPALIVE",
        (State::Established, Accepted) => "refuse",
        (State::Established, Keepalive) => "",
        (State::Established, Update) => "ignored",
        (State::Established, Refresh) => "refresh",
        (State::Established, Open | OpenOfWrongAs) => "5/3 close ended -> Idle",
    }
}

#[test]
fn every_event_in_every_state_does_what_rfc_4271_says() {
    let mut wrong = Vec::new();
    for state in STATES {
        for event in EVENTS {
            let mut peer = Peer::in_state(config(), state);
            let got = summary(&cause(&mut peer, event));
            if got != expected(state, event) {
                wrong.push(format!(
                    "{state} {event:?}: {got:?}, expected {:?}",
                    expected(state, event)
                ));
            }
            // Whatever happened, a session that runs has something to wait for, and one that does not has not.
            let stopped = event == Stop || state == State::Idle && event != Start;
            assert_eq!(
                peer.session.deadline().is_none(),
                stopped,
                "{state} {event:?}"
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_session_that_waits_after_an_error_is_idle_and_tries_again() {
    let mut peer = Peer::in_state(config(), State::OpenSent);
    peer.receive(&notification());
    assert_eq!(peer.session.state(), State::Idle);
    assert_eq!(summary(&cause(&mut peer, Accepted)), "refuse");
    assert_eq!(summary(&peer.tick()), "connect -> Connect");
}

#[test]
fn messages_may_come_in_any_portions() {
    let mut stream = [open(), keepalive(), update(), refresh()].concat();
    stream.extend_from_slice(&keepalive()[..7]);
    for portion in [1, 2, 19, 20, 4096] {
        let mut peer = Peer::in_state(config(), State::OpenSent);
        let outputs: Vec<Output> = stream
            .chunks(portion)
            .flat_map(|part| peer.receive(part))
            .collect();
        let got = summary(&outputs)
            .replace("-> OpenConfirm ", "")
            .replace("-> Established ", "");
        assert!(
            got.starts_with("KEEPALIVE established ignored refresh"),
            "{portion}: {got}"
        );
        assert_eq!(peer.session.state(), State::Established);
    }
}

#[test]
fn what_follows_the_end_of_a_session_in_the_same_portion_is_not_read() {
    let mut peer = Peer::in_state(config(), State::Established);
    let outputs = peer.receive(&[notification(), update(), b"garbage".to_vec()].concat());
    assert_eq!(summary(&outputs), "close ended -> Idle");
}

#[test]
fn a_malformed_update_in_right_framing_lets_the_session_live() {
    let mut peer = Peer::in_state(config(), State::Established);
    let mut bytes = update();
    bytes[26] = 7; // An ORIGIN that does not exist.
    let outputs = peer.receive(&bytes);
    assert!(
        matches!(&outputs[..], [Output::UpdateIgnored { fault: Some(fault) }] if fault.kind == 1),
        "{outputs:?}"
    );
}

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

/// Both connections exist and ours is confirmed; then the peer's OPEN arrives on its own connection.
fn collide(peer_id: [u8; 4]) -> (Vec<Output>, ConnId, ConnId) {
    let mut peer = Peer::in_state(config(), State::OpenSent);
    let ours = peer.conn.unwrap();
    peer.receive(&open_of(PEER_AS, 90, peer_id));
    peer.handle(Input::Accepted {
        endpoint: endpoint(),
    });
    let theirs = peer.conn.unwrap();
    (peer.receive(&open_of(PEER_AS, 90, peer_id)), ours, theirs)
}

fn ended(outputs: &[Output]) -> Vec<ConnId> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Ended {
                conn,
                reason: EndReason::Collision,
                ..
            } => Some(*conn),
            _ => None,
        })
        .collect()
}

#[test]
fn of_two_connections_the_one_from_the_side_with_the_greater_identifier_is_kept() {
    let (outputs, ours, _) = collide([192, 0, 2, 2]);
    assert_eq!(ended(&outputs), [ours]);
    assert_eq!(summary(&outputs), "6/7 close collided KEEPALIVE");
    let (outputs, _, theirs) = collide([192, 0, 2, 0]);
    assert_eq!(ended(&outputs), [theirs]);
    // Equal identifiers: the greater AS is the peer's (RFC 6286).
    let (outputs, ours, _) = collide([192, 0, 2, 1]);
    assert_eq!(ended(&outputs), [ours]);
}

#[test]
fn a_connection_that_is_established_ends_the_other_attempt() {
    let mut peer = Peer::in_state(config(), State::Connect);
    peer.handle(Input::Accepted {
        endpoint: endpoint(),
    });
    peer.receive(&open());
    let outputs = peer.receive(&keepalive());
    assert_eq!(
        summary(&outputs),
        "close collided established -> Established"
    );
    assert_eq!(peer.session.negotiated().unwrap().peer_as, PEER_AS);
}

#[test]
fn the_outcome_of_an_attempt_that_was_given_up_is_ignored() {
    let mut peer = Peer::in_state(config(), State::Connect);
    let conn = peer.conn.unwrap();
    peer.tick();
    assert_eq!(
        summary(&peer.handle(Input::Connected {
            conn,
            endpoint: endpoint()
        })),
        ""
    );
}

#[test]
fn stopping_tells_the_peer_why() {
    let mut peer = Peer::in_state(config(), State::Established);
    let outputs = peer.handle(Input::Stop {
        reason: Cease::AdministrativeShutdown,
        text: "node drained",
    });
    let Output::Send { bytes, .. } = &outputs[0] else {
        panic!()
    };
    let Message::Notification(notification) = Message::decode(bytes, &Default::default()).unwrap()
    else {
        panic!()
    };
    assert_eq!(notification.shutdown_text(), Some("node drained"));
    assert!(matches!(
        &outputs[2],
        Output::Ended {
            was_established: true,
            ..
        }
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Any inputs in any order: no panic, a bounded memory of what was received, and a deadline exactly while running.
    #[test]
    fn a_session_survives_any_sequence_of_inputs(
        steps in prop::collection::vec((0..EVENTS.len(), any::<bool>(), 0..120u64), 1..60),
        noise in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut peer = Peer::new(config());
        peer.handle(Input::Start);
        let mut running = true;
        for (index, noisy, pause) in steps {
            let event = EVENTS[index];
            if noisy {
                peer.receive(&noise);
            }
            cause(&mut peer, event);
            match event {
                Start => running = true,
                Stop => running = false,
                _ => {}
            }
            peer.wait(seconds(pause));
            prop_assert_eq!(peer.session.deadline().is_some() || peer.session.state() == State::Established, running);
        }
    }
}

#[test]
fn sessions_are_values_that_can_be_sent_between_threads() {
    fn check<T: Send>(_: T) {}
    check(Session::new(config(), 0));
    let _ = base();
}
