//! Two connections with one peer (RFC 4271 section 6.8): every pair of phases, and two sessions that really collide.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod peer;

use ferrolb_bgp::Config;
use ferrolb_bgp::session::{ConnId, Endpoint, Input, Output, PeerAs, Session, Side, State};
use ferrolb_bgp::wire::Cease;
use peer::{
    LOCAL_AS, PEER_AS, Peer, base, config, endpoint, keepalive, notification, open_of, seconds,
    summary,
};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Instant;

/// What a session did, and on whose connection.
fn words(outputs: &[Output]) -> String {
    let words = outputs.iter().map(|output| {
        let word = summary(std::slice::from_ref(output));
        match output {
            Output::Connect { conn }
            | Output::Accept { conn }
            | Output::Send { conn, .. }
            | Output::Close { conn }
            | Output::Established { conn, .. }
            | Output::Ended { conn, .. } => match conn.side {
                Side::Active => format!("ours:{word}"),
                Side::Passive => format!("theirs:{word}"),
            },
            _ => word,
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Who the peer is, and which connection is kept for that: the one of the side with the greater identifier, between equal
/// identifiers the one of the side with the greater AS (RFC 6286 section 2.3).
const PEERS: [(u32, [u8; 4], Side); 4] = [
    (LOCAL_AS, [192, 0, 2, 2], Side::Passive),
    (LOCAL_AS, [192, 0, 2, 0], Side::Active),
    (LOCAL_AS, [192, 0, 2, 1], Side::Passive),
    (PEER_AS + 1, [192, 0, 2, 1], Side::Active),
];

/// How far our connection and that of the peer are. Both confirmed is impossible: that is the collision.
const PAIRS: [(State, State); 5] = [
    (State::Connect, State::OpenSent),
    (State::Connect, State::OpenConfirm),
    (State::OpenSent, State::OpenSent),
    (State::OpenSent, State::OpenConfirm),
    (State::OpenConfirm, State::OpenSent),
];

struct Pair {
    peer: Peer,
    ours: ConnId,
    theirs: ConnId,
    open: Vec<u8>,
}

impl Pair {
    fn new((active, passive): (State, State), (local_as, id, _): (u32, [u8; 4], Side)) -> Pair {
        let config = Config {
            local_as,
            ..config()
        };
        let mut peer = Peer::in_state(config, State::Connect);
        let ours = peer.conn.unwrap();
        peer.handle(Input::Accepted {
            endpoint: endpoint(),
        });
        let theirs = peer.conn.unwrap();
        let open = open_of(PEER_AS, 90, id);
        let mut pair = Pair {
            peer,
            ours,
            theirs,
            open,
        };
        if active >= State::OpenSent {
            pair.connected();
        }
        for (side, state) in [(Side::Active, active), (Side::Passive, passive)] {
            if state == State::OpenConfirm {
                let open = pair.open.clone();
                pair.receive(side, &open);
            }
        }
        assert_eq!(pair.peer.session.state(), active.max(passive));
        // From the first moment with two connections, and whoever closes one of them.
        let collided = u64::from(active >= State::OpenSent);
        assert_eq!(pair.peer.session.collisions(), collided);
        pair
    }

    fn conn(&self, side: Side) -> ConnId {
        match side {
            Side::Active => self.ours,
            Side::Passive => self.theirs,
        }
    }

    fn connected(&mut self) -> Vec<Output> {
        let conn = self.ours;
        self.peer.handle(Input::Connected {
            conn,
            endpoint: endpoint(),
        })
    }

    fn receive(&mut self, side: Side, bytes: &[u8]) -> Vec<Output> {
        let conn = self.conn(side);
        self.peer.handle(Input::Bytes { conn, bytes })
    }
}

fn name(side: Side) -> &'static str {
    match side {
        Side::Active => "ours",
        Side::Passive => "theirs",
    }
}

fn other(side: Side) -> Side {
    match side {
        Side::Active => Side::Passive,
        Side::Passive => Side::Active,
    }
}

/// How the loser ends: a connection that is not there yet has nobody to tell.
fn collided(side: Side, state: State) -> String {
    let name = name(side);
    let told = if state == State::Connect {
        String::new()
    } else {
        format!("{name}:6/7 ")
    };
    format!("{told}{name}:close {name}:collided")
}

#[test]
fn of_two_connections_one_is_kept_in_every_pair_of_phases() {
    for (pair, who) in PAIRS
        .into_iter()
        .flat_map(|pair| PEERS.map(|who| (pair, who)))
    {
        for side in [Side::Active, Side::Passive] {
            let (mine, others) = match side {
                Side::Active => pair,
                Side::Passive => (pair.1, pair.0),
            };
            let (name, context) = (name(side), format!("{pair:?} {who:?} {side:?}"));
            let rest = match others {
                _ if others == pair.0.max(pair.1) => String::new(),
                others => format!(" -> {others}"),
            };
            // The peer's OPEN: where the other connection is confirmed, one of both goes.
            if mine == State::OpenSent {
                let mut both = Pair::new(pair, who);
                let open = both.open.clone();
                let got = words(&both.receive(side, &open));
                let expected = match (others, who.2) {
                    (State::OpenConfirm, kept) if kept == side => {
                        format!("{} {name}:KEEPALIVE", collided(other(side), others))
                    }
                    (State::OpenConfirm, _) => collided(side, mine),
                    _ => format!("{name}:KEEPALIVE -> OpenConfirm"),
                };
                assert_eq!(got, expected, "{context}");
                // Whichever is left becomes the session.
                let kept = if others == State::OpenConfirm {
                    who.2
                } else {
                    side
                };
                let outputs = both.receive(kept, &keepalive());
                assert_eq!(both.peer.session.state(), State::Established, "{context}");
                assert!(words(&outputs).contains("established"), "{context}");
                // Too early for a KEEPALIVE: this connection alone fails.
                let got = words(&Pair::new(pair, who).receive(side, &keepalive()));
                let expected = format!("{name}:5/1 {name}:close {name}:ended{rest}");
                assert_eq!(got, expected, "{context}");
            }
            // The one that is established first ends the other, however far that is.
            if mine == State::OpenConfirm {
                let got = words(&Pair::new(pair, who).receive(side, &keepalive()));
                let expected = format!(
                    "{} {name}:established -> Established",
                    collided(other(side), others)
                );
                assert_eq!(got, expected, "{context}");
            }
            // What ends one connection leaves the other alone.
            if mine != State::Connect {
                let mut both = Pair::new(pair, who);
                let got = words(&both.receive(side, &notification()));
                assert_eq!(got, format!("{name}:close {name}:ended{rest}"), "{context}");
                assert!(both.peer.session.deadline().is_some());
            }
            let mut both = Pair::new(pair, who);
            let conn = both.conn(side);
            let got = words(&both.peer.handle(Input::Closed { conn, error: None }));
            assert_eq!(got, format!("{name}:close {name}:ended{rest}"), "{context}");
        }
        let mut both = Pair::new(pair, who);
        let got = words(&both.peer.handle(Input::Accepted {
            endpoint: endpoint(),
        }));
        assert_eq!(got, "refuse", "{pair:?}");
        if pair.0 == State::Connect {
            assert_eq!(words(&both.connected()), "ours:OPEN", "{pair:?}");
            assert_eq!(both.peer.session.collisions(), 1, "{pair:?}");
        }
        let outputs = both.peer.handle(Input::Stop {
            reason: Cease::PeerDeconfigured,
            text: "",
        });
        let got = words(&outputs);
        let expected =
            "ours:6/3 ours:close ours:stopped theirs:6/3 theirs:close theirs:stopped -> Idle";
        assert_eq!(got, expected, "{pair:?}");
    }
}

/// What is on its way over a connection to one end of it.
#[derive(Debug)]
enum Transit {
    Syn,
    SynAck,
    Bytes(Vec<u8>),
    Closed,
}

/// A connection between both: how each end names it while it has it, and what is on its way to each.
#[derive(Debug)]
struct Wire {
    opener: usize,
    names: [Option<ConnId>; 2],
    transit: [VecDeque<Transit>; 2],
}

/// Two sessions with each other.
struct Net {
    sessions: [Session; 2],
    endpoints: [Endpoint; 2],
    now: Instant,
    wires: Vec<Wire>,
    /// The connection whose SYN is being answered.
    arriving: usize,
    established: [Option<usize>; 2],
}

impl Net {
    fn new(ids: [u8; 2], passive: [bool; 2]) -> Net {
        let side = |local_as, peer_as, passive| Config {
            local_as,
            peer_as: PeerAs::Exact(peer_as),
            passive,
            ..config()
        };
        Net {
            sessions: [
                Session::new(side(LOCAL_AS, PEER_AS, passive[0]), 1),
                Session::new(side(PEER_AS, LOCAL_AS, passive[1]), 2),
            ],
            endpoints: ids.map(|id| Endpoint {
                router_id: Ipv4Addr::new(192, 0, 2, id),
                ..endpoint()
            }),
            now: base(),
            wires: Vec::new(),
            arriving: 0,
            established: [None; 2],
        }
    }

    fn wire(&self, who: usize, conn: ConnId) -> usize {
        let named = |wire: &Wire| wire.names[who] == Some(conn);
        self.wires
            .iter()
            .position(named)
            .expect("a live connection")
    }

    fn act(&mut self, who: usize, input: Input<'_>) {
        let peer = 1 - who;
        for output in self.sessions[who].handle(self.now, input) {
            match output {
                Output::Connect { conn } => {
                    let mut wire = Wire {
                        opener: who,
                        names: [None; 2],
                        transit: Default::default(),
                    };
                    wire.names[who] = Some(conn);
                    wire.transit[peer].push_back(Transit::Syn);
                    self.wires.push(wire);
                }
                Output::Accept { conn } => {
                    let wire = &mut self.wires[self.arriving];
                    wire.names[who] = Some(conn);
                    wire.transit[peer].push_back(Transit::SynAck);
                }
                // As a kernel does that has a listener: the connection is there and closed at once.
                Output::Refuse => {
                    let transit = &mut self.wires[self.arriving].transit[peer];
                    transit.extend([Transit::SynAck, Transit::Closed]);
                }
                Output::Send { conn, bytes } => {
                    let wire = self.wire(who, conn);
                    self.wires[wire].transit[peer].push_back(Transit::Bytes(bytes));
                }
                Output::Close { conn } => {
                    let number = self.wire(who, conn);
                    let wire = &mut self.wires[number];
                    wire.names[who] = None;
                    wire.transit[who].clear();
                    wire.transit[peer].push_back(Transit::Closed);
                    self.established[who].take_if(|established| *established == number);
                }
                Output::Established { conn, .. } => {
                    assert_eq!(self.established[who], None);
                    self.established[who] = Some(self.wire(who, conn));
                }
                Output::Ended { .. } | Output::StateChanged(_) => {}
                Output::Refresh(_) | Output::UpdateIgnored { .. } => panic!("{output:?}"),
            }
        }
        let live = |wire: &&Wire| wire.names[who].is_some();
        assert!(self.wires.iter().filter(live).count() <= 2);
    }

    /// What could arrive next: a connection and its end.
    fn deliverable(&self) -> Vec<(usize, usize)> {
        let ends = (0..self.wires.len()).flat_map(|wire| [(wire, 0), (wire, 1)]);
        ends.filter(|(wire, end)| !self.wires[*wire].transit[*end].is_empty())
            .collect()
    }

    fn deliver(&mut self, (wire, to): (usize, usize)) {
        let Some(transit) = self.wires[wire].transit[to].pop_front() else {
            return;
        };
        let (endpoint, conn) = (self.endpoints[to], self.wires[wire].names[to]);
        match (transit, conn) {
            (Transit::Syn, _) => {
                assert_ne!(self.wires[wire].opener, to);
                self.arriving = wire;
                self.act(to, Input::Accepted { endpoint });
            }
            (Transit::SynAck, Some(conn)) => self.act(to, Input::Connected { conn, endpoint }),
            (Transit::Bytes(bytes), Some(conn)) => {
                self.act(
                    to,
                    Input::Bytes {
                        conn,
                        bytes: &bytes,
                    },
                );
            }
            (Transit::Closed, Some(conn)) => self.act(to, Input::Closed { conn, error: None }),
            (_, None) => {}
        }
    }

    fn pass_time(&mut self) {
        let deadlines = self.sessions.each_ref().map(Session::deadline);
        let next = deadlines.iter().flatten().min().expect("one waits");
        self.now = self.now.max(*next);
        for who in [0, 1] {
            if deadlines[who].is_some_and(|at| at <= self.now) {
                self.act(who, Input::Tick);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Two sessions that find each other end up with one connection, the same for both, in whichever order things arrive.
    #[test]
    fn two_sessions_end_up_with_one_connection(
        ids in prop_oneof![Just([1, 2]), Just([2, 1]), Just([1, 1])],
        passive in prop_oneof![3 => Just([false, false]), 1 => Just([true, false]), 1 => Just([false, true])],
        choices in prop::collection::vec(any::<prop::sample::Index>(), 1..40),
    ) {
        let mut net = Net::new(ids, passive);
        net.act(0, Input::Start);
        net.act(1, Input::Start);
        let began = net.now;
        let mut choices = choices.iter().cycle();
        loop {
            let deliverable = net.deliverable();
            match net.established {
                [Some(one), Some(two)] if deliverable.is_empty() => {
                    prop_assert_eq!(one, two);
                    break;
                }
                _ if deliverable.is_empty() => net.pass_time(),
                _ => {
                    let choice = choices.next().expect("a cycle does not end");
                    net.deliver(deliverable[choice.index(deliverable.len())]);
                }
            }
            prop_assert!(net.now - began < seconds(300), "no session");
        }
    }
}
