//! Graceful restart (RFC 4724, RFC 8538): what a session asks of its peer, and how it ends.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod octets;
mod peer;

use ferrolb_bgp::Config;
use ferrolb_bgp::session::{ConnId, Input, KeepsRoutes, Output, Session, State};
use ferrolb_bgp::wire::{
    Capability, Cease, Context, GracefulRestart, Message, Notification, Open, RestartFamily, code,
};
use octets::message;
use peer::{PEER_AS, Peer, base, config, encode, endpoint, keepalive, open, seconds, summary};
use std::net::Ipv4Addr;

/// Asks the peer to keep our routes for two minutes.
fn asking() -> Config {
    Config {
        graceful_restart: Some(seconds(120)),
        ..config()
    }
}

/// The OPEN of a peer with these flags in its capability, of a router that keeps routes and asks for nothing.
fn open_keeping(flags: u8) -> Vec<u8> {
    let restart = GracefulRestart {
        flags,
        time: 0,
        families: Vec::new(),
    };
    encode(&Message::Open(Open::new(
        PEER_AS,
        90,
        Ipv4Addr::new(192, 0, 2, 2),
        vec![Capability::GracefulRestart(restart)],
    )))
}

/// Established with a peer of this OPEN.
fn established(config: Config, open: &[u8]) -> Peer {
    let mut peer = Peer::in_state(config, State::OpenSent);
    peer.receive(open);
    peer.receive(&keepalive());
    assert_eq!(peer.session.state(), State::Established);
    peer
}

/// What the capability in the OPEN says that a session sends when it is connected.
fn asks(session: &mut Session, conn: ConnId) -> Option<GracefulRestart> {
    let endpoint = endpoint();
    let outputs = session.handle(base(), Input::Connected { conn, endpoint });
    let Output::Send { bytes, .. } = &outputs[0] else {
        panic!("{outputs:?}")
    };
    match Message::decode(bytes, &Context::default()).unwrap() {
        Message::Open(open) => open.graceful_restart().cloned(),
        other => panic!("{other:?}"),
    }
}

fn connecting(session: &mut Session) -> ConnId {
    match session.handle(base(), Input::Start)[0] {
        Output::Connect { conn } => conn,
        ref other => panic!("{other:?}"),
    }
}

fn told(outputs: &[Output]) -> Option<Notification> {
    outputs.iter().find_map(|output| match output {
        Output::Send { bytes, .. } => match Message::decode(bytes, &Context::default()).unwrap() {
            Message::Notification(notification) => Some(notification),
            _ => None,
        },
        _ => None,
    })
}

#[test]
fn the_capability_has_flags_a_time_and_a_flag_for_each_family() {
    let restart = GracefulRestart {
        flags: GracefulRestart::RESTARTED | GracefulRestart::NOTIFICATIONS,
        time: 120,
        families: vec![
            RestartFamily {
                afi: 1,
                safi: 1,
                flags: RestartFamily::FORWARDING,
            },
            RestartFamily {
                afi: 2,
                safi: 1,
                flags: 0,
            },
        ],
    };
    let open = Message::Open(Open::new(
        65002,
        90,
        Ipv4Addr::new(10, 1, 2, 3),
        vec![Capability::GracefulRestart(restart)],
    ));
    let frame = message(
        1,
        "04 fdea 005a 0a010203 0e 02 0c 40 0a c078 0001 01 80 0002 01 00",
    );
    assert_eq!(open.encode(&Context::default()).unwrap(), frame);
    assert_eq!(Message::decode(&frame, &Context::default()).unwrap(), open);
}

#[test]
fn the_last_of_several_capabilities_counts_and_a_misshapen_one_does_not() {
    let read = |capabilities: &str| {
        let octets = octets::hex(capabilities).len();
        let body = format!(
            "04 fdea 005a 0a010203 {:02x} 02 {octets:02x} {capabilities}",
            octets + 2
        );
        match Message::decode(&message(1, &body), &Context::default()).unwrap() {
            Message::Open(open) => open.graceful_restart().map(|restart| restart.time),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(read("40 02 0001"), Some(1));
    assert_eq!(read("40 02 0001 40 02 4002"), Some(2));
    assert_eq!(read("40 01 00"), None);
    assert_eq!(read("40 03 0001 00"), None);
}

#[test]
fn who_does_not_ask_offers_nothing_and_is_kept_nothing() {
    let mut session = Session::new(config(), 1).returned();
    let conn = connecting(&mut session);
    assert_eq!(asks(&mut session, conn), None);
    let peer = established(config(), &open_keeping(GracefulRestart::NOTIFICATIONS));
    assert_eq!(peer.session.negotiated().unwrap().keeps_routes, None);
}

#[test]
fn a_first_process_preserved_nothing_and_one_that_returns_did() {
    let forwarding = |restart: &GracefulRestart| -> Vec<bool> {
        let flags = restart.families.iter().map(|family| family.flags);
        flags.map(|f| f == RestartFamily::FORWARDING).collect()
    };
    let mut first = Session::new(asking(), 1);
    let conn = connecting(&mut first);
    let restart = asks(&mut first, conn).unwrap();
    assert_eq!(restart.time, 120);
    assert_eq!(restart.flags, GracefulRestart::NOTIFICATIONS);
    assert_eq!(forwarding(&restart), [false, false]);

    let mut returned = Session::new(asking(), 1).returned();
    let conn = connecting(&mut returned);
    let restart = asks(&mut returned, conn).unwrap();
    let both = GracefulRestart::NOTIFICATIONS | GracefulRestart::RESTARTED;
    assert_eq!(restart.flags, both);
    assert_eq!(forwarding(&restart), [true, true]);
    // It says so until it has a session, and the next is no restart any more.
    for (established, flags) in [(false, both), (true, GracefulRestart::NOTIFICATIONS)] {
        let now = base();
        let mut session = Session::new(asking(), 1).returned();
        let conn = connecting(&mut session);
        asks(&mut session, conn);
        if established {
            for bytes in [open(), keepalive()] {
                let bytes = &bytes;
                session.handle(now, Input::Bytes { conn, bytes });
            }
        }
        session.handle(now, Input::Closed { conn, error: None });
        let at = session.deadline().unwrap();
        let Output::Connect { conn } = session.handle(at, Input::Tick)[0] else {
            panic!()
        };
        let restart = asks(&mut session, conn).unwrap();
        assert_eq!(restart.flags, flags);
        assert_eq!(forwarding(&restart), [true, true]);
    }
}

#[test]
fn a_time_that_is_too_long_for_the_capability_is_the_longest_that_it_can_tell() {
    let forever = Config {
        graceful_restart: Some(seconds(1_000_000)),
        ..config()
    };
    let mut session = Session::new(forever, 1);
    let conn = connecting(&mut session);
    assert_eq!(asks(&mut session, conn).unwrap().time, 4095);
}

#[test]
fn a_restart_ends_the_session_in_the_way_that_keeps_the_routes() {
    for (flags, expected) in [
        (0, "close stopped -> Idle"),
        (GracefulRestart::NOTIFICATIONS, "6/4 close stopped -> Idle"),
    ] {
        let mut peer = established(asking(), &open_keeping(flags));
        let keeps = KeepsRoutes {
            after_notifications: flags != 0,
        };
        let negotiated = peer.session.negotiated().unwrap();
        assert_eq!(negotiated.keeps_routes, Some(keeps));
        let outputs = peer.handle(Input::Restart { text: "update" });
        assert_eq!(summary(&outputs), expected);
        let text = told(&outputs).and_then(|told| told.shutdown_text().map(str::to_owned));
        assert_eq!(text.as_deref(), (flags != 0).then_some("update"));
        assert_eq!(peer.session.deadline(), None);
    }
    // A peer that keeps nothing is told why, and so is one that has no routes yet.
    let mut peer = established(asking(), &open());
    let outputs = peer.handle(Input::Restart { text: "" });
    assert_eq!(summary(&outputs), "6/4 close stopped -> Idle");
    let mut peer = Peer::in_state(asking(), State::OpenSent);
    peer.receive(&open_keeping(0));
    let outputs = peer.handle(Input::Restart { text: "" });
    assert_eq!(summary(&outputs), "6/4 close stopped -> Idle");
}

#[test]
fn an_end_for_good_makes_the_peer_drop_the_routes() {
    let stop = |flags| {
        let mut peer = established(asking(), &open_keeping(flags));
        told(&peer.handle(Input::Stop {
            reason: Cease::AdministrativeShutdown,
            text: "node drained",
        }))
        .unwrap()
    };
    let cease = Notification::cease(Cease::AdministrativeShutdown, "node drained");
    // RFC 4724: every NOTIFICATION does. RFC 8538: only a hard reset, which holds the reason.
    assert_eq!(stop(0), cease);
    let hard = stop(GracefulRestart::NOTIFICATIONS);
    assert_eq!((hard.code, hard.subcode), (code::CEASE, 9));
    assert_eq!(hard.data[..2], [code::CEASE, 2]);
    assert_eq!(hard.reason_of_hard_reset(), Some(cease));
    assert_eq!(
        hard.to_string(),
        "cease: hard reset (6/9), because of cease: administrative shutdown (6/2), the peer says \"node drained\""
    );
}

#[test]
fn hard_resets_inside_hard_resets_are_not_followed() {
    let mut notification = Notification::cease(Cease::PeerDeconfigured, "");
    for _ in 0..2000 {
        notification = notification.hard_reset();
    }
    assert_eq!(notification.to_string(), "cease: hard reset (6/9)");
    let empty = Notification::new(code::CEASE, 9, Vec::new());
    assert_eq!(empty.reason_of_hard_reset(), None);
    assert_eq!(empty.to_string(), "cease: hard reset (6/9)");
}
