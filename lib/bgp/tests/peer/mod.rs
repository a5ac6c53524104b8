//! A scripted peer: brings a session into each state, and says in a few letters what the session did.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs
)]

use ferrolb_bgp::session::{
    Config, ConnId, EndReason, Endpoint, Input, Output, PeerAs, Session, State,
};
use ferrolb_bgp::wire::{
    AsPath, Capability, Cease, Context, Message, Notification, Open, Origin, PathAttributes,
    Refresh, RouteRefresh, Update,
};
use ferrolb_bgp::{Families, Family};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

pub const LOCAL_AS: u32 = 64512;
pub const PEER_AS: u32 = 64513;

/// The one instant that everything else is counted from.
#[allow(clippy::disallowed_methods)]
pub fn base() -> Instant {
    Instant::now()
}

pub fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub fn config() -> Config {
    Config {
        local_as: LOCAL_AS,
        peer_as: PeerAs::Exact(PEER_AS),
        hold_time: seconds(90),
        keepalive_time: None,
        connect_time: None,
        families: Families::BOTH,
        passive: false,
        graceful_restart: None,
    }
}

/// Never connects.
pub fn passive() -> Config {
    Config {
        passive: true,
        ..config()
    }
}

pub fn endpoint() -> Endpoint {
    Endpoint {
        local: "192.0.2.1".parse().unwrap(),
        router_id: Ipv4Addr::new(192, 0, 2, 1),
        next_hop_v4: None,
        next_hop_v6: Some("2001:db8::1".parse().unwrap()),
    }
}

pub fn open_of(asn: u32, hold_time: u16, id: [u8; 4]) -> Vec<u8> {
    let capabilities = vec![
        Capability::multiprotocol(Family::Ipv4Unicast),
        Capability::multiprotocol(Family::Ipv6Unicast),
        Capability::RouteRefresh,
        Capability::FourOctetAs(asn),
    ];
    encode(&Message::Open(Open::new(
        asn,
        hold_time,
        Ipv4Addr::from(id),
        capabilities,
    )))
}

pub fn open() -> Vec<u8> {
    open_of(PEER_AS, 90, [192, 0, 2, 2])
}

pub fn keepalive() -> Vec<u8> {
    encode(&Message::Keepalive)
}

pub fn refresh() -> Vec<u8> {
    encode(&Message::RouteRefresh(RouteRefresh::new(
        Refresh::Request,
        Family::Ipv4Unicast,
    )))
}

pub fn notification() -> Vec<u8> {
    encode(&Message::Notification(Notification::cease(
        Cease::AdministrativeShutdown,
        "bye",
    )))
}

pub fn update() -> Vec<u8> {
    let attributes = PathAttributes {
        origin: Some(Origin::Igp),
        as_path: Some(AsPath::of(PEER_AS)),
        next_hop: Some(Ipv4Addr::new(192, 0, 2, 2)),
        ..PathAttributes::default()
    };
    let announced = vec!["10.0.0.0/8".parse().unwrap()];
    encode(&Message::Update(Box::new(Update {
        attributes,
        announced,
        ..Update::default()
    })))
}

pub fn encode(message: &Message) -> Vec<u8> {
    message.encode(&Context::default()).unwrap()
}

/// What the session did, in words of a few letters.
pub fn summary(outputs: &[Output]) -> String {
    let words: Vec<String> = outputs
        .iter()
        .map(|output| match output {
            Output::Connect { .. } => "connect".to_owned(),
            Output::Accept { .. } => "accept".to_owned(),
            Output::Refuse => "refuse".to_owned(),
            Output::Send { bytes, .. } => {
                match Message::decode(bytes, &Context::default()).unwrap() {
                    Message::Open(_) => "OPEN".to_owned(),
                    Message::Keepalive => "KEEPALIVE".to_owned(),
                    Message::Notification(notification) => {
                        format!("{}/{}", notification.code, notification.subcode)
                    }
                    other => panic!("{other:?}"),
                }
            }
            Output::Close { .. } => "close".to_owned(),
            Output::Established { .. } => "established".to_owned(),
            Output::Refresh(_) => "refresh".to_owned(),
            Output::UpdateIgnored { .. } => "ignored".to_owned(),
            Output::Ended { reason, .. } => match reason {
                EndReason::Stopped => "stopped".to_owned(),
                EndReason::Collision => "collided".to_owned(),
                _ => "ended".to_owned(),
            },
            Output::StateChanged(state) => format!("-> {state}"),
        })
        .collect();
    words.join(" ")
}

/// A session and its time.
pub struct Peer {
    pub session: Session,
    pub now: Instant,
    pub conn: Option<ConnId>,
}

impl Peer {
    pub fn new(config: Config) -> Peer {
        Peer {
            session: Session::new(config, 1),
            now: base(),
            conn: None,
        }
    }

    /// A session in this state, through the connection that we open.
    pub fn in_state(config: Config, state: State) -> Peer {
        let mut peer = Peer::new(config);
        if state == State::Idle {
            return peer;
        }
        peer.handle(Input::Start);
        if state == State::Active {
            // The first wait is none at all, so the second failure is the one to wait after.
            peer.fail_to_connect();
            peer.tick();
            peer.fail_to_connect();
        }
        if state >= State::OpenSent {
            let conn = peer.conn.unwrap();
            peer.handle(Input::Connected {
                conn,
                endpoint: endpoint(),
            });
        }
        if state >= State::OpenConfirm {
            peer.receive(&open());
        }
        if state >= State::Established {
            peer.receive(&keepalive());
        }
        assert_eq!(peer.session.state(), state);
        peer
    }

    /// A passive session in this state, through a connection that the peer opens. It is never in Connect.
    pub fn passive_in_state(state: State) -> Peer {
        let mut peer = Peer::new(passive());
        if state >= State::Active {
            peer.handle(Input::Start);
        }
        if state >= State::OpenSent {
            peer.handle(Input::Accepted {
                endpoint: endpoint(),
            });
        }
        if state >= State::OpenConfirm {
            peer.receive(&open());
        }
        if state >= State::Established {
            peer.receive(&keepalive());
        }
        assert_eq!(peer.session.state(), state);
        peer
    }

    pub fn handle(&mut self, input: Input<'_>) -> Vec<Output> {
        let outputs = self.session.handle(self.now, input);
        for output in &outputs {
            if let Output::Connect { conn } | Output::Accept { conn } = output {
                self.conn = Some(*conn);
            }
        }
        outputs
    }

    pub fn receive(&mut self, bytes: &[u8]) -> Vec<Output> {
        let conn = self.conn.unwrap_or(ConnId {
            side: ferrolb_bgp::session::Side::Active,
            number: 0,
        });
        self.handle(Input::Bytes { conn, bytes })
    }

    pub fn fail_to_connect(&mut self) -> Vec<Output> {
        let conn = self.conn.unwrap();
        self.handle(Input::ConnectFailed {
            conn,
            error: "refused".to_owned(),
        })
    }

    /// Lets time pass until the session wants to be called.
    pub fn tick(&mut self) -> Vec<Output> {
        if let Some(deadline) = self.session.deadline() {
            self.now = self.now.max(deadline);
        }
        self.handle(Input::Tick)
    }

    pub fn wait(&mut self, time: Duration) -> Vec<Output> {
        let until = self.now + time;
        let mut outputs = Vec::new();
        while let Some(deadline) = self
            .session
            .deadline()
            .filter(|deadline| *deadline <= until)
        {
            self.now = self.now.max(deadline);
            outputs.extend(self.handle(Input::Tick));
        }
        self.now = until;
        outputs
    }
}
