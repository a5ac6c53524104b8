//! What follows from what: the transitions of RFC 4271 section 8.2.2.

use super::events::{ConnId, EndReason, Endpoint, Input, Output, Side};
use super::graceful::KeepsRoutes;
use super::negotiation::{self, Negotiated};
use super::state::{Phase, Session, Slot, State};
use super::timers::{self, OPEN_WAIT};
use crate::wire::{
    Cease, Context, Message, MessageType, Notification, Open, code, frame_length, message_type,
};
use std::time::Instant;

impl Session {
    /// Takes in what happened at `now`, which never goes backwards, and returns what to do about it.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) -> Vec<Output> {
        let before = self.state();
        let mut out = Vec::new();
        match input {
            Input::Start => self.start(now, &mut out),
            Input::Stop { reason, text } => self.stop(&mut out, |keeps| {
                let cease = Notification::cease(reason, text);
                // RFC 8538 section 3.1: nobody comes back, so our routes shall go.
                match keeps {
                    Some(peer) if peer.after_notifications => Some(cease.hard_reset()),
                    _ => Some(cease),
                }
            }),
            Input::Restart { text } => self.stop(&mut out, |keeps| match keeps {
                // Any NOTIFICATION would make the peer drop our routes (RFC 4724 section 4).
                Some(peer) if !peer.after_notifications => None,
                _ => Some(Notification::cease(Cease::AdministrativeReset, text)),
            }),
            Input::Tick => self.tick(now, &mut out),
            Input::Connected { conn, endpoint } => self.connected(now, conn, endpoint, &mut out),
            Input::ConnectFailed { conn, error } => {
                self.end(now, conn, EndReason::ConnectFailed(error), None, &mut out);
            }
            Input::Accepted { endpoint } => self.accepted(now, endpoint, &mut out),
            Input::Bytes { conn, bytes } => self.bytes(now, conn, bytes, &mut out),
            Input::Closed { conn, error } => {
                let reason = error.map_or(EndReason::ClosedByPeer, EndReason::Broken);
                self.end(now, conn, reason, None, &mut out);
            }
            Input::Progress { conn } => self.progress(now, conn),
            Input::UpdateQueued => self.update_queued(now),
        }
        let after = self.state();
        if after != before {
            out.push(Output::StateChanged(after));
        }
        out
    }

    fn start(&mut self, now: Instant, out: &mut Vec<Output>) {
        if !self.running {
            self.running = true;
            self.backoff.reset();
            self.await_connection(now, out);
        }
    }

    /// Begins to connect, or to wait for the peer to do so.
    fn await_connection(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.retry_at = None;
        self.damped = false;
        if !self.config.passive {
            self.connect(now, out);
        }
    }

    /// `answer` is what to tell a peer that keeps our routes over a restart, or one that does not.
    fn stop(
        &mut self,
        out: &mut Vec<Output>,
        answer: impl Fn(Option<KeepsRoutes>) -> Option<Notification>,
    ) {
        self.running = false;
        self.damped = false;
        self.retry_at = None;
        for slot in [self.active.take(), self.passive.take()]
            .into_iter()
            .flatten()
        {
            // Before it is established there is nothing to keep.
            let keeps = match &slot.phase {
                Phase::Established { negotiated, .. } => negotiated.keeps_routes,
                _ => None,
            };
            hang_up(slot, EndReason::Stopped, answer(keeps), out);
        }
    }

    fn connect(&mut self, now: Instant, out: &mut Vec<Output>) {
        let conn = self.name_connection(Side::Active);
        let patience = self.jitter.spread(self.backoff.connect_timeout());
        self.active = Some(Slot::new(conn, Phase::Connecting, now, patience));
        out.push(Output::Connect { conn });
    }

    fn connected(&mut self, now: Instant, conn: ConnId, endpoint: Endpoint, out: &mut Vec<Output>) {
        let Some(Phase::Connecting) = self.slot(conn).map(|slot| &slot.phase) else {
            return;
        };
        self.send_open(now, conn, endpoint, out);
    }

    fn accepted(&mut self, now: Instant, endpoint: Endpoint, out: &mut Vec<Output>) {
        let idle = self.state() == State::Idle;
        if idle || self.passive.is_some() || self.state() == State::Established {
            out.push(Output::Refuse);
            return;
        }
        self.retry_at = None;
        let conn = self.name_connection(Side::Passive);
        self.passive = Some(Slot::new(conn, Phase::OpenSent, now, OPEN_WAIT));
        out.push(Output::Accept { conn });
        self.send_open(now, conn, endpoint, out);
    }

    fn send_open(&mut self, now: Instant, conn: ConnId, endpoint: Endpoint, out: &mut Vec<Output>) {
        let open = negotiation::our_open(&self.config, &endpoint, self.memory);
        if let Some(slot) = self.slot(conn) {
            slot.phase = Phase::OpenSent;
            slot.endpoint = Some(endpoint);
            slot.give_up_at = Some(now + OPEN_WAIT);
            send(conn, &Message::Open(open), out);
        }
        if self.slots().filter(|slot| slot.endpoint.is_some()).count() > 1 {
            self.collisions += 1;
        }
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Output>) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        // Looked at before anything can end below, so that the end of one connection is seen before the next begins.
        let retry = due(self.retry_at);
        for side in [Side::Active, Side::Passive] {
            let Some(slot) = self.place(side) else {
                continue;
            };
            let conn = slot.conn;
            if due(slot.give_up_at) {
                if slot.phase == Phase::Connecting {
                    self.end(now, conn, EndReason::ConnectTimeout, None, out);
                } else {
                    let why = match slot.negotiated() {
                        Some(negotiated) => {
                            format!(
                                "the peer was silent for the hold time of {} s",
                                negotiated.hold_time.as_secs()
                            )
                        }
                        None => format!("the peer sent no OPEN within {} s", OPEN_WAIT.as_secs()),
                    };
                    self.fail(
                        now,
                        conn,
                        Notification::new(code::HOLD_TIMER, 0, Vec::new()),
                        why,
                        out,
                    );
                }
            } else if due(slot.send_hold_at) {
                let why = "the peer stopped taking what we send (send hold timer)".to_owned();
                self.fail(
                    now,
                    conn,
                    Notification::new(code::SEND_HOLD_TIMER, 0, Vec::new()),
                    why,
                    out,
                );
            } else if due(slot.keepalive_at) {
                send(conn, &Message::Keepalive, out);
                self.restart_keepalive(now, conn);
            }
        }
        if retry {
            self.await_connection(now, out);
        }
    }

    fn progress(&mut self, now: Instant, conn: ConnId) {
        if let Some(slot) = self.slot(conn)
            && let Phase::Established { negotiated, .. } = &slot.phase
            && slot.send_hold_at.is_some()
        {
            slot.send_hold_at = Some(now + timers::send_hold(negotiated.hold_time));
        }
    }

    fn update_queued(&mut self, now: Instant) {
        let established = self
            .slots()
            .find(|slot| slot.state() == State::Established)
            .map(|slot| slot.conn);
        if let Some(conn) = established {
            self.restart_keepalive(now, conn);
        }
    }

    fn bytes(&mut self, now: Instant, conn: ConnId, bytes: &[u8], out: &mut Vec<Output>) {
        let Some(slot) = self.slot(conn) else { return };
        slot.stream.extend_from_slice(bytes);
        let stream = std::mem::take(&mut slot.stream);
        let mut rest = stream.as_slice();
        // A message can end the connection; what came after it is then nobody's.
        while let Some(slot) = self.slot(conn) {
            let (state, context) = (slot.state(), slot.context());
            let message = match frame_length(rest) {
                Ok(Some(length)) => match rest.split_at_checked(length) {
                    Some((frame, after)) => {
                        rest = after;
                        let kind = message_type(frame);
                        if let Some(kind) = kind {
                            self.received.add(kind, 1);
                        }
                        if let Some(kind) = kind.filter(|kind| !state.expects(*kind)) {
                            self.unexpected(now, conn, state, kind, out);
                            continue;
                        }
                        Message::decode(frame, &context)
                    }
                    None => break,
                },
                Ok(None) => break,
                Err(error) => Err(error),
            };
            match message {
                Ok(message) => self.message(now, conn, message, out),
                Err(error) => match error.notification() {
                    Some(notification) => {
                        self.fail(now, conn, notification, error.to_string(), out)
                    }
                    None => self.end(now, conn, EndReason::MalformedNotification, None, out),
                },
            }
        }
        let unread = rest.len();
        if let Some(slot) = self.slot(conn) {
            // Nothing is moved while a long message arrives in small portions.
            slot.stream = if unread == stream.len() {
                stream
            } else {
                rest.to_vec()
            };
        }
    }

    fn message(&mut self, now: Instant, conn: ConnId, message: Message, out: &mut Vec<Output>) {
        let Some(state) = self.slot(conn).map(|slot| slot.state()) else {
            return;
        };
        match (state, message) {
            (_, Message::Notification(notification)) => {
                self.end(now, conn, EndReason::Received(notification), None, out);
            }
            (State::OpenSent, Message::Open(open)) => self.open(now, conn, &open, out),
            (State::OpenConfirm, Message::Keepalive) => self.established(now, conn, out),
            (State::Established, Message::Keepalive) => self.restart_hold(now, conn),
            (State::Established, Message::Update(update)) => {
                self.restart_hold(now, conn);
                out.push(Output::UpdateIgnored {
                    fault: update.fault,
                });
            }
            (State::Established, Message::RouteRefresh(refresh)) => {
                self.restart_hold(now, conn);
                let agreed = self
                    .negotiated()
                    .map(|negotiated| (negotiated.families, negotiated.enhanced_refresh));
                let (families, enhanced) = agreed.unwrap_or_default();
                // RFC 2918 section 4: a request for a family that was not agreed on is ignored.
                out.extend(
                    refresh
                        .requested(enhanced)
                        .filter(|family| families.contains(*family))
                        .map(Output::Refresh),
                );
            }
            (state, message) => self.unexpected(now, conn, state, message.message_type(), out),
        }
    }

    /// The peer sent a message that its connection is not in the state for.
    fn unexpected(
        &mut self,
        now: Instant,
        conn: ConnId,
        state: State,
        kind: MessageType,
        out: &mut Vec<Output>,
    ) {
        // RFC 6608.
        let subcode = match state {
            State::OpenSent => 1,
            State::OpenConfirm => 2,
            State::Established => 3,
            State::Idle | State::Active | State::Connect => 0,
        };
        let notification = Notification::new(code::STATE_MACHINE, subcode, vec![kind as u8]);
        let why = format!("the peer sent {kind:?} in state {state}");
        self.fail(now, conn, notification, why, out);
    }

    fn open(&mut self, now: Instant, conn: ConnId, open: &Open, out: &mut Vec<Output>) {
        let Some(endpoint) = self.slot(conn).and_then(|slot| slot.endpoint) else {
            return;
        };
        let negotiated = match negotiation::negotiate(&self.config, &endpoint, open) {
            Ok(negotiated) => negotiated,
            Err(refusal) => return self.fail(now, conn, refusal.notification, refusal.why, out),
        };
        if let Some(loser) = self.collision_loser(conn, &negotiated) {
            let cease = Notification::cease(Cease::CollisionResolution, "");
            self.end(now, loser, EndReason::Collision, Some(cease), out);
            if loser == conn {
                return;
            }
        }
        let hold_time = negotiated.hold_time;
        if let Some(slot) = self.slot(conn) {
            slot.phase = Phase::OpenConfirm(negotiated);
            slot.give_up_at = (!hold_time.is_zero()).then(|| now + hold_time);
            send(conn, &Message::Keepalive, out);
            self.restart_keepalive(now, conn);
        }
    }

    /// RFC 4271 section 6.8: of two connections of which one is confirmed, the one is kept that the side with the greater
    /// identifier opened; between equal identifiers the greater AS decides (RFC 6286 section 2.3).
    fn collision_loser(&self, conn: ConnId, negotiated: &Negotiated) -> Option<ConnId> {
        let other = self.slots().find(|slot| slot.conn != conn)?;
        match other.state() {
            State::Established => Some(conn),
            State::OpenConfirm => {
                let ours = (
                    u32::from(negotiated.endpoint.router_id),
                    self.config.local_as,
                );
                let theirs = (u32::from(negotiated.peer_router_id), negotiated.peer_as);
                let keep = if ours > theirs {
                    Side::Active
                } else {
                    Side::Passive
                };
                Some(if conn.side == keep { other.conn } else { conn })
            }
            _ => None,
        }
    }

    fn established(&mut self, now: Instant, conn: ConnId, out: &mut Vec<Output>) {
        let Some(negotiated) = self.slot(conn).and_then(|slot| slot.negotiated().cloned()) else {
            return;
        };
        // The other connection, if any, has not had the peer's OPEN; one established session is enough.
        let other = self
            .slots()
            .map(|slot| slot.conn)
            .find(|other| *other != conn);
        if let Some(other) = other {
            let cease = Notification::cease(Cease::CollisionResolution, "");
            self.end(now, other, EndReason::Collision, Some(cease), out);
        }
        if let Some(slot) = self.slot(conn) {
            slot.phase = Phase::Established {
                negotiated: negotiated.clone(),
                since: now,
            };
            slot.send_hold_at = (!negotiated.hold_time.is_zero())
                .then(|| now + timers::send_hold(negotiated.hold_time));
        }
        self.memory.established = true;
        self.restart_hold(now, conn);
        out.push(Output::Established { conn, negotiated });
    }

    fn restart_hold(&mut self, now: Instant, conn: ConnId) {
        if let Some(slot) = self.slot(conn)
            && let Some(hold_time) = slot.negotiated().map(|negotiated| negotiated.hold_time)
        {
            slot.give_up_at = (!hold_time.is_zero()).then(|| now + hold_time);
        }
    }

    fn restart_keepalive(&mut self, now: Instant, conn: ConnId) {
        let Some(interval) = self
            .slot(conn)
            .and_then(|slot| slot.negotiated())
            .map(|n| n.keepalive_time)
        else {
            return;
        };
        let at = (!interval.is_zero()).then(|| now + self.jitter.spread(interval));
        if let Some(slot) = self.slot(conn) {
            slot.keepalive_at = at;
        }
    }

    /// Ends a connection because of an error that the peer is told.
    fn fail(
        &mut self,
        now: Instant,
        conn: ConnId,
        notification: Notification,
        why: String,
        out: &mut Vec<Output>,
    ) {
        let reason = EndReason::Sent {
            notification: notification.clone(),
            why,
        };
        self.end(now, conn, reason, Some(notification), out);
    }

    /// Ends a connection and, if it was the last, waits for the next attempt.
    fn end(
        &mut self,
        now: Instant,
        conn: ConnId,
        reason: EndReason,
        notification: Option<Notification>,
        out: &mut Vec<Output>,
    ) {
        let Some(slot) = self.place(conn.side).take_if(|slot| slot.conn == conn) else {
            return;
        };
        if let Phase::Established { since, .. } = &slot.phase {
            self.backoff
                .ended_after(now.saturating_duration_since(*since));
        }
        let lost = matches!(
            reason,
            EndReason::ConnectFailed(_) | EndReason::ClosedByPeer | EndReason::Broken(_)
        );
        // RFC 4271 section 8.2.2: a connection that is lost before an OPEN came over it (event 18) is no error of the
        // session, which goes on to Active.
        let goes_on = match slot.phase {
            Phase::Connecting => true,
            Phase::OpenSent => lost,
            Phase::OpenConfirm(_) | Phase::Established { .. } => false,
        };
        // ConnectRetryTime is counted from the attempt's start (RFC 4271 section 8.2.2), so that an attempt which nobody answers
        // is not followed by the same time once more.
        let from = match slot.phase {
            Phase::Connecting => slot.began,
            _ => now,
        };
        hang_up(slot, reason, notification, out);
        if self.running && self.slots().next().is_none() {
            self.damped = !goes_on;
            // A passive session that is Active waits for nothing but the peer.
            if self.damped || !self.config.passive {
                let wait = if self.damped {
                    self.backoff.next_idle()
                } else {
                    self.backoff.next()
                };
                self.retry_at = Some((from + self.jitter.spread(wait)).max(now));
            }
        }
    }
}

fn hang_up(
    slot: Slot,
    reason: EndReason,
    notification: Option<Notification>,
    out: &mut Vec<Output>,
) {
    let conn = slot.conn;
    if let Some(notification) = notification
        && slot.phase != Phase::Connecting
    {
        send(conn, &Message::Notification(notification), out);
    }
    out.push(Output::Close { conn });
    out.push(Output::Ended {
        conn,
        was_established: slot.state() == State::Established,
        reason,
    });
}

fn send(conn: ConnId, message: &Message, out: &mut Vec<Output>) {
    // What a session sends is short and made here, so it always fits into a message: an OPEN has eight capabilities at most,
    // the data of a NOTIFICATION are cut.
    if let Ok(bytes) = message.encode(&Context::default()) {
        out.push(Output::Send { conn, bytes });
    }
}
