//! Whatever a peer's OPEN says, it is agreed to or refused, and what was agreed on is what both sides offered.
//!
//! The input is an octet that says how we are configured, and the body of the OPEN.
#![no_main]

use ferrolb_bgp::session::{Config, Endpoint, Input, Output, PeerAs, Session, State};
use ferrolb_bgp::wire::{Context, Message};
use ferrolb_bgp::{Export, Families};
use ferrolb_bgp_fuzz::{frame, read};
use libfuzzer_sys::fuzz_target;
use std::time::{Duration, Instant};

fuzz_target!(|data: &[u8]| {
    let Some((&bits, body)) = data.split_first() else {
        return;
    };
    let bit = |number: u8| bits & 1 << number != 0;
    let frame = frame(1, body);
    let open = match read(&frame, &Context::default()) {
        Some(Message::Open(open)) => Some(open),
        Some(other) => panic!("{other:?}"),
        None => None,
    };
    let config = Config {
        local_as: 65000,
        peer_as: match bits & 3 {
            0 => PeerAs::Exact(65001),
            1 => PeerAs::Internal,
            _ => PeerAs::External,
        },
        hold_time: Duration::from_secs(if bit(2) { 90 } else { 0 }),
        keepalive_time: None,
        connect_time: None,
        families: Families {
            ipv4: bit(3) || !bit(4),
            ipv6: bit(4),
        },
        passive: false,
        graceful_restart: bit(6).then_some(Duration::from_secs(120)),
    };
    let endpoint = Endpoint {
        local: if bit(5) { "2001:db8::1" } else { "192.0.2.1" }
            .parse()
            .expect("an address"),
        router_id: [192, 0, 2, 1].into(),
        next_hop_v4: None,
        next_hop_v6: None,
    };
    let now = Instant::now();
    let mut session = Session::new(config.clone(), 1);
    let Some(Output::Connect { conn }) = session.handle(now, Input::Start).into_iter().next()
    else {
        panic!("it connects");
    };
    session.handle(now, Input::Connected { conn, endpoint });
    let bytes = &frame;
    session.handle(now, Input::Bytes { conn, bytes });
    let Some(open) = open else {
        assert_eq!(session.state(), State::Idle);
        return;
    };
    if session.state() == State::Idle {
        return;
    }
    assert_eq!(session.state(), State::OpenConfirm);
    let keepalive = ferrolb_bgp_fuzz::frame(4, &[]);
    let bytes = &keepalive;
    let outputs = session.handle(now, Input::Bytes { conn, bytes });
    let negotiated = outputs.iter().find_map(|output| match output {
        Output::Established { negotiated, .. } => Some(negotiated),
        _ => None,
    });
    let negotiated = negotiated.expect("a KEEPALIVE confirms");
    assert_eq!(negotiated.peer_as, open.asn());
    assert_ne!(negotiated.peer_as, 0);
    assert_eq!(negotiated.internal, open.asn() == 65000);
    assert!(!open.router_id.is_unspecified());
    assert!(!negotiated.families.is_empty());
    let common = config.families.intersection(open.families());
    assert_eq!(negotiated.families, common);
    let identified = negotiated.path_identifiers;
    assert_eq!(identified.intersection(common), identified);
    assert!(negotiated.hold_time <= config.hold_time);
    assert!(negotiated.hold_time.is_zero() || negotiated.hold_time.as_secs() >= 3);
    assert!(negotiated.hold_time.is_zero() || negotiated.keepalive_time < negotiated.hold_time);
    assert_eq!(session.deadline().is_none(), negotiated.hold_time.is_zero());
    let keeps = config.graceful_restart.is_some() && open.graceful_restart().is_some();
    assert_eq!(negotiated.keeps_routes.is_some(), keeps);
    assert_eq!(Export::new(65000, negotiated).families, common);
});
