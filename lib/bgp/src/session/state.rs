//! What a session remembers.

use super::Config;
use super::counts::MessageCounts;
use super::events::{ConnId, Endpoint, Side};
use super::graceful::Memory;
use super::negotiation::Negotiated;
use super::timers::{Backoff, Jitter};
use crate::wire::{Context, MessageType};
use std::fmt;
use std::time::{Duration, Instant};

/// The states of RFC 4271 section 8.2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Stopped, or waiting after an error before the next attempt. Connections of the peer are refused.
    Idle,
    /// Waiting after a failed attempt to connect, or for the peer to connect. Connections of the peer are welcome.
    Active,
    /// Opening a connection.
    Connect,
    /// Our OPEN is sent.
    OpenSent,
    /// The peer's OPEN is accepted.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

impl State {
    /// Whether a message of this type is read in this state. Any other is an error of the state machine whatever it holds
    /// (RFC 4271 section 8.2.2: events 27 and 28 before Established, events 20 and 22 in it). A second OPEN is read before it is
    /// refused in OpenConfirm, where event 22 keeps its own answer.
    pub(super) fn expects(self, kind: MessageType) -> bool {
        match kind {
            MessageType::Notification => true,
            MessageType::Open => matches!(self, State::OpenSent | State::OpenConfirm),
            MessageType::Keepalive => matches!(self, State::OpenConfirm | State::Established),
            MessageType::Update | MessageType::RouteRefresh => self == State::Established,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How far a connection is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Phase {
    Connecting,
    OpenSent,
    OpenConfirm(Negotiated),
    Established {
        negotiated: Negotiated,
        since: Instant,
    },
}

/// One connection.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) conn: ConnId,
    pub(super) began: Instant,
    pub(super) phase: Phase,
    /// Our end; set once connected.
    pub(super) endpoint: Option<Endpoint>,
    /// Received octets that are not a whole message yet: always less than one message between inputs.
    pub(super) stream: Vec<u8>,
    /// When the connection is given up unless the peer says something: the connect timeout, then the hold timer.
    pub(super) give_up_at: Option<Instant>,
    pub(super) keepalive_at: Option<Instant>,
    pub(super) send_hold_at: Option<Instant>,
}

impl Slot {
    /// A connection that begins now, and is given up after `patience`.
    pub(super) fn new(conn: ConnId, phase: Phase, now: Instant, patience: Duration) -> Slot {
        Slot {
            conn,
            began: now,
            phase,
            endpoint: None,
            stream: Vec::new(),
            give_up_at: Some(now + patience),
            keepalive_at: None,
            send_hold_at: None,
        }
    }

    pub(super) fn state(&self) -> State {
        match self.phase {
            Phase::Connecting => State::Connect,
            Phase::OpenSent => State::OpenSent,
            Phase::OpenConfirm(_) => State::OpenConfirm,
            Phase::Established { .. } => State::Established,
        }
    }

    pub(super) fn negotiated(&self) -> Option<&Negotiated> {
        match &self.phase {
            Phase::Connecting | Phase::OpenSent => None,
            Phase::OpenConfirm(negotiated) | Phase::Established { negotiated, .. } => {
                Some(negotiated)
            }
        }
    }

    /// How messages of this connection are read.
    pub(super) fn context(&self) -> Context {
        self.negotiated()
            .map_or_else(Context::default, Negotiated::context)
    }

    fn deadlines(&self) -> impl Iterator<Item = Instant> {
        [self.give_up_at, self.keepalive_at, self.send_hold_at]
            .into_iter()
            .flatten()
    }
}

/// The session with one peer. See the [module](super).
#[derive(Debug)]
pub struct Session {
    pub(super) config: Config,
    /// Between start and stop.
    pub(super) running: bool,
    pub(super) active: Option<Slot>,
    pub(super) passive: Option<Slot>,
    /// When to connect next or, in a passive session, to take connections again; set only while there is no connection.
    pub(super) retry_at: Option<Instant>,
    /// The wait for `retry_at` follows an error of the session, not of connecting: RFC 4271 section 8.1.1 calls this
    /// damping of peer oscillations, and has the session be idle meanwhile.
    pub(super) damped: bool,
    pub(super) backoff: Backoff,
    pub(super) jitter: Jitter,
    pub(super) next_number: u64,
    pub(super) memory: Memory,
    pub(super) received: MessageCounts,
    pub(super) collisions: u64,
}

impl Session {
    /// A session that waits for its start. `seed` makes the jitter of its timers differ from that of others.
    pub fn new(config: Config, seed: u64) -> Session {
        let backoff = Backoff::new(config.connect_time);
        Session {
            config,
            running: false,
            active: None,
            passive: None,
            retry_at: None,
            damped: false,
            backoff,
            jitter: Jitter::new(seed),
            next_number: 1,
            memory: Memory::default(),
            received: MessageCounts::default(),
            collisions: 0,
        }
    }

    /// The same in a process that follows another, which had the session and ended it by [`super::Input::Restart`] or without
    /// a word, while the node went on forwarding: the peer is told that it has kept our routes for good reason (RFC 4724).
    #[must_use]
    pub fn returned(mut self) -> Session {
        self.memory.returned = true;
        self
    }

    /// The messages that came in since the beginning, whatever their content.
    pub fn received(&self) -> MessageCounts {
        self.received
    }

    /// How often there were two connections since the beginning, one opened by each side (RFC 4271 section 6.8), whoever closed
    /// one of them.
    pub fn collisions(&self) -> u64 {
        self.collisions
    }

    /// The state of the connection that is furthest.
    pub fn state(&self) -> State {
        let waiting = if self.running && !self.damped {
            State::Active
        } else {
            State::Idle
        };
        self.slots().map(Slot::state).max().unwrap_or(waiting)
    }

    /// When [`super::Input::Tick`] is due at the latest. `None` if there is nothing to wait for but the peer: stopped, or
    /// established without timers, or passive without a connection.
    pub fn deadline(&self) -> Option<Instant> {
        self.slots()
            .flat_map(Slot::deadlines)
            .chain(self.retry_at)
            .min()
    }

    /// What both sides agreed on, once established.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.slots()
            .find(|slot| slot.state() == State::Established)
            .and_then(Slot::negotiated)
    }

    /// The configuration that the session was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.active.iter().chain(&self.passive)
    }

    pub(super) fn place(&mut self, side: Side) -> &mut Option<Slot> {
        match side {
            Side::Active => &mut self.active,
            Side::Passive => &mut self.passive,
        }
    }

    /// The slot of this very connection; none if the connection is gone, even if its place is taken again.
    pub(super) fn slot(&mut self, conn: ConnId) -> Option<&mut Slot> {
        self.place(conn.side)
            .as_mut()
            .filter(|slot| slot.conn == conn)
    }

    pub(super) fn name_connection(&mut self, side: Side) -> ConnId {
        let number = self.next_number;
        self.next_number += 1;
        ConnId { side, number }
    }
}
