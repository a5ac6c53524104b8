//! Whatever happens to a session in whichever order, it has two connections at most, speaks of live ones only, never waits
//! for what is past, and what is sent of routes are messages that the peer takes.
//!
//! The input is an octet that says how the session is configured, and a script: an octet that chooses, a length, and so many
//! octets.
#![no_main]

use ferrolb_bgp::session::{
    Config, ConnId, Endpoint, Input, Negotiated, Output, PeerAs, Session, Side, State,
};
use ferrolb_bgp::wire::{
    Capability, Cease, Community, Context, GracefulRestart, MAX_MESSAGE_LENGTH, Message,
    Notification, Open, Refresh, RouteRefresh, frame_length,
};
use ferrolb_bgp::{AdjRibOut, Attributes, Export, Families, Family};
use ferrolb_bgp_fuzz::frame;
use ipnet::IpNet;
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// How far a connection is, as its owner sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Standing {
    Connecting,
    Connected,
    Established,
}

struct World {
    session: Session,
    rib: AdjRibOut,
    now: Instant,
    live: BTreeMap<ConnId, Standing>,
    /// The connection that was closed last, for inputs that come too late.
    gone: Option<ConnId>,
    negotiated: Option<Negotiated>,
    running: bool,
}

fn config(bits: u8) -> Config {
    let bit = |number: u8| bits & 1 << number != 0;
    Config {
        local_as: 64512,
        peer_as: if bit(0) {
            PeerAs::Internal
        } else {
            PeerAs::Exact(64513)
        },
        hold_time: Duration::from_secs(match bits >> 1 & 3 {
            0 => 0,
            1 => 3,
            _ => 90,
        }),
        keepalive_time: bit(3).then_some(Duration::from_secs(1)),
        connect_time: bit(4).then_some(Duration::from_secs(5)),
        families: Families {
            ipv4: true,
            ipv6: bit(5),
        },
        passive: bit(6),
        graceful_restart: bit(7).then_some(Duration::from_secs(120)),
    }
}

fn endpoint(octet: u8) -> Endpoint {
    let local = if octet & 1 == 0 {
        "192.0.2.1"
    } else {
        "2001:db8::1"
    };
    Endpoint {
        local: local.parse().expect("an address"),
        router_id: Ipv4Addr::new(192, 0, 2, 1),
        next_hop_v4: (octet & 2 != 0).then_some(Ipv4Addr::new(192, 0, 2, octet)),
        next_hop_v6: None,
    }
}

/// The peer's OPEN, with a capability for each bit.
fn open(bits: u8, id: u8) -> Vec<u8> {
    let all = [
        Capability::multiprotocol(Family::Ipv4Unicast),
        Capability::multiprotocol(Family::Ipv6Unicast),
        Capability::RouteRefresh,
        Capability::ExtendedMessage,
        Capability::FourOctetAs(if bits & 0x80 == 0 { 64513 } else { 64512 }),
        Capability::EnhancedRouteRefresh,
        Capability::AddPath(
            Family::ALL
                .map(|family| ferrolb_bgp::wire::AddPath {
                    way: 1,
                    ..ferrolb_bgp::wire::AddPath::sends(family)
                })
                .to_vec(),
        ),
    ];
    let restart = Capability::GracefulRestart(GracefulRestart {
        flags: id & 0xf,
        time: 120,
        families: Vec::new(),
    });
    let offered = all.into_iter().enumerate();
    let offered = offered.filter_map(|(number, one)| (bits & 1 << number != 0).then_some(one));
    let open = Open::new(
        if bits & 0x80 == 0 { 64513 } else { 64512 },
        9,
        Ipv4Addr::new(192, 0, 2, id % 4),
        offered.chain((id & 0x10 != 0).then_some(restart)).collect(),
    );
    encode(&Message::Open(open))
}

fn encode(message: &Message) -> Vec<u8> {
    message.encode(&Context::default()).expect("it is short")
}

impl World {
    fn handle(&mut self, input: Input<'_>) {
        let before = self.session.state();
        let offered = matches!(input, Input::Accepted { .. });
        let octets = match input {
            Input::Bytes { bytes, .. } => bytes.len(),
            _ => 0,
        };
        let outputs = self.session.handle(self.now, input);
        // A message causes a handful at most, and may have begun in an earlier portion.
        assert!(outputs.len() <= 16 + octets / 4);
        let mut answers = 0;
        for output in outputs {
            match output {
                Output::Connect { conn } => {
                    assert!(!self.session.config().passive);
                    assert_eq!(conn.side, Side::Active);
                    assert_eq!(self.live.insert(conn, Standing::Connecting), None);
                }
                Output::Accept { conn } => {
                    answers += 1;
                    assert_eq!(conn.side, Side::Passive);
                    assert_eq!(self.live.insert(conn, Standing::Connected), None);
                }
                Output::Refuse => answers += 1,
                Output::Send { conn, bytes } => {
                    assert_ne!(self.live[&conn], Standing::Connecting);
                    assert!(bytes.len() <= MAX_MESSAGE_LENGTH);
                    assert_eq!(frame_length(&bytes), Ok(Some(bytes.len())));
                }
                Output::Close { conn } => {
                    let standing = self.live.remove(&conn).expect("a live connection");
                    if standing == Standing::Established {
                        self.negotiated = None;
                    }
                    self.gone = Some(conn);
                }
                Output::Established { conn, negotiated } => {
                    assert_eq!(self.live[&conn], Standing::Connected);
                    assert_eq!(self.live.len(), 1);
                    self.live.insert(conn, Standing::Established);
                    self.rib.established(Export::new(64512, &negotiated));
                    self.negotiated = Some(negotiated);
                }
                Output::Refresh(family) => {
                    let negotiated = self.negotiated.as_ref().expect("an established session");
                    assert!(negotiated.families.contains(family));
                    self.rib.refresh(family);
                }
                Output::UpdateIgnored { .. } => assert!(self.negotiated.is_some()),
                Output::Ended {
                    conn,
                    was_established,
                    reason,
                } => {
                    assert_eq!(self.gone, Some(conn));
                    assert!(!reason.to_string().is_empty());
                    if was_established {
                        self.rib.down();
                    }
                }
                Output::StateChanged(state) => assert_ne!(state, before),
            }
            assert!(self.live.len() <= 2);
        }
        assert_eq!(answers, usize::from(offered));
        let established = self.live.values().filter(|s| **s == Standing::Established);
        let state = self.session.state();
        assert_eq!(established.count() == 1, state == State::Established);
        assert_eq!(self.negotiated.as_ref(), self.session.negotiated());
        if !self.running {
            assert!(self.live.is_empty() && self.session.deadline().is_none());
            assert_eq!(state, State::Idle);
        }
    }

    fn tick(&mut self) {
        self.handle(Input::Tick);
        if let Some(deadline) = self.session.deadline() {
            assert!(deadline >= self.now, "it waits for what is past");
        }
    }

    /// The connection of a side or, now and then, one that is gone.
    fn conn(&self, choice: u8) -> Option<ConnId> {
        let side = if choice & 0x10 == 0 {
            Side::Active
        } else {
            Side::Passive
        };
        let live = self.live.keys().find(|conn| conn.side == side).copied();
        live.or(self.gone)
    }

    fn receive(&mut self, choice: u8, bytes: &[u8]) {
        if let Some(conn) = self.conn(choice) {
            self.handle(Input::Bytes { conn, bytes });
        }
    }

    fn routes(&mut self, choice: u8, octets: &[u8]) {
        for pair in octets.chunks(2) {
            let number = pair[0];
            let net = if number & 0x80 == 0 {
                format!("198.51.100.{number}/32")
            } else {
                format!("2001:db8:{number:x}::/64")
            };
            let net: IpNet = net.parse().expect("a network");
            let attributes = pair.get(1).map(|value| Attributes {
                local_pref: None,
                communities: (0..u32::from(*value) * 5).map(Community).collect(),
                ..Attributes::default()
            });
            self.rib
                .set(net, attributes.filter(|_| choice & 0x20 == 0).as_ref());
        }
    }

    fn fetch(&mut self, octets: usize) {
        let Some(batch) = self.rib.next_batch(octets) else {
            return;
        };
        let negotiated = self.negotiated.as_ref().expect("an established session");
        let context = negotiated.context();
        let peers = Context {
            identifiers_read: context.identifiers_written,
            ..context
        };
        let (mut stream, mut messages) = (&batch.bytes[..], 0);
        while let Some(length) = frame_length(stream).expect("whole messages") {
            assert!(length <= context.longest_message());
            let (frame, rest) = stream.split_at(length);
            stream = rest;
            messages += 1;
            match Message::decode(frame, &peers).expect("what we write can be read") {
                Message::Update(update) => assert_eq!(update.fault, None),
                Message::RouteRefresh(_) => assert!(negotiated.enhanced_refresh),
                other => panic!("{other:?}"),
            }
        }
        assert!(stream.is_empty());
        assert_eq!(messages, batch.updates + batch.refreshes);
        self.handle(Input::UpdateQueued);
    }

    fn step(&mut self, choice: u8, octets: &[u8]) {
        let first = octets.first().copied().unwrap_or_default();
        let second = octets.get(1).copied().unwrap_or_default();
        match choice & 0x0f {
            0 => {
                self.now += Duration::from_millis(u64::from(first) * 100);
                self.tick();
            }
            1 => {
                self.now = self
                    .session
                    .deadline()
                    .map_or(self.now, |at| at.max(self.now));
                self.tick();
            }
            2 => {
                if let Some(conn) = self.conn(choice) {
                    if let Some(standing) = self.live.get_mut(&conn)
                        && *standing == Standing::Connecting
                    {
                        *standing = Standing::Connected;
                    }
                    let endpoint = endpoint(first);
                    self.handle(Input::Connected { conn, endpoint });
                }
            }
            3 => self.handle(Input::Accepted {
                endpoint: endpoint(first),
            }),
            4 => self.receive(choice, octets),
            5 => self.receive(choice, &frame(first, octets.get(1..).unwrap_or_default())),
            6 => self.receive(choice, &open(first, second)),
            7 => self.receive(choice, &encode(&Message::Keepalive)),
            8 => {
                let family = Family::ALL[usize::from(first & 1)];
                let refresh = RouteRefresh::new(Refresh::Request, family);
                self.receive(choice, &encode(&Message::RouteRefresh(refresh)));
            }
            9 => {
                let notification = Notification::new(first, second, octets.to_vec());
                self.receive(choice, &encode(&Message::Notification(notification)));
            }
            10 => {
                let Some(conn) = self.conn(choice) else {
                    return;
                };
                let error = (first & 1 != 0).then(|| "broken".to_owned());
                match error {
                    Some(error) if choice & 0x20 != 0 => {
                        self.handle(Input::ConnectFailed { conn, error });
                    }
                    error => self.handle(Input::Closed { conn, error }),
                }
            }
            11 => {
                self.running = first & 1 == 0;
                if self.running {
                    self.handle(Input::Start);
                } else {
                    let text = std::str::from_utf8(octets).unwrap_or_default();
                    let reason = Cease::AdministrativeShutdown;
                    self.handle(if choice & 0x20 == 0 {
                        Input::Stop { reason, text }
                    } else {
                        Input::Restart { text }
                    });
                }
            }
            12 => self.routes(choice, octets),
            13 => self.fetch(usize::from(first) * 64),
            14 => {
                if let Some(conn) = self.conn(choice) {
                    self.handle(Input::Progress { conn });
                }
            }
            _ if choice & 0x20 == 0 => self.rib.shut_down_gracefully(),
            _ => {
                if let Some(negotiated) = &self.negotiated {
                    let endpoint = endpoint(first);
                    let other = Negotiated {
                        endpoint,
                        ..negotiated.clone()
                    };
                    self.rib.next_hops_changed(&Export::new(64512, &other));
                }
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&bits, mut rest)) = data.split_first() else {
        return;
    };
    let mut world = World {
        session: Session::new(config(bits), u64::from(bits)),
        rib: AdjRibOut::new(),
        now: Instant::now(),
        live: BTreeMap::new(),
        gone: None,
        negotiated: None,
        running: true,
    };
    world.handle(Input::Start);
    while let Some((&[choice, length], following)) = rest.split_first_chunk() {
        let (octets, following) = following.split_at(usize::from(length).min(following.len()));
        rest = following;
        world.step(choice, octets);
    }
    // All that is left can be sent.
    for _ in 0..10_000 {
        if world.rib.next_batch(1 << 16).is_none() {
            return;
        }
    }
    panic!("there is no end of it");
});
