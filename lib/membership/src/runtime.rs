//! What the protocol asks for while it runs: datagrams, timers, news.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use foca::{Notification, Runtime, Timer};

use crate::effects::Output;
use crate::envelope::{Datagram, Envelope};
use crate::node::Node;

/// First byte of a content that is a message of the protocol.
pub(crate) const MESSAGE: u8 = 1;

/// What was asked for and is not done yet.
pub(crate) struct Effects {
    pub(crate) now: Instant,
    pub(crate) envelope: Envelope,
    pub(crate) outputs: VecDeque<Output>,
    timers: BinaryHeap<Reverse<(Instant, Timer<Node>, u64)>>,
    /// Keeps timers of the same kind and time in the order in which they were asked for.
    asked: u64,
    /// When the last life at an address that was declared down is to be forgotten. One timer per address waits for it:
    /// who declares many lives at one address down must not fill the memory.
    removals: BTreeMap<SocketAddr, (Instant, Node)>,
    pub(crate) members_changed: bool,
    pub(crate) a_member_went_down: bool,
    pub(crate) declared_down_ourselves: bool,
    /// We knew nobody, and now somebody.
    pub(crate) met_somebody: bool,
}

impl Effects {
    pub(crate) fn new(now: Instant, envelope: Envelope) -> Self {
        Self {
            now,
            envelope,
            outputs: VecDeque::new(),
            timers: BinaryHeap::new(),
            asked: 0,
            removals: BTreeMap::new(),
            members_changed: false,
            a_member_went_down: false,
            declared_down_ourselves: false,
            met_somebody: false,
        }
    }

    /// Sends a content.
    pub(crate) fn send(&mut self, to: SocketAddr, content: &[u8]) {
        let datagrams = self.envelope.send(self.now, to, content);
        self.send_all(datagrams);
    }

    pub(crate) fn send_all(&mut self, datagrams: Vec<Datagram>) {
        let sends = datagrams
            .into_iter()
            .map(|(to, bytes)| Output::Send { to, bytes });
        self.outputs.extend(sends);
    }

    /// When the next timer is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, ..))| *at)
    }

    /// The next timer that is due.
    pub(crate) fn due(&mut self) -> Option<Timer<Node>> {
        loop {
            if self.deadline()? > self.now {
                return None;
            }
            let Reverse((_, timer, _)) = self.timers.pop()?;
            let Timer::RemoveDown(node) = timer else {
                return Some(timer);
            };
            let addr = node.addr;
            let (at, last) = self.removals.remove(&addr)?;
            if at <= self.now {
                return Some(Timer::RemoveDown(last));
            }
            self.submit_at(at, Timer::RemoveDown(last));
        }
    }

    /// Whose suspicion ends after `then`.
    pub(crate) fn suspected_until_after(&self, then: Instant) -> BTreeSet<SocketAddr> {
        let timers = self.timers.iter();
        timers
            .filter_map(|Reverse((at, timer, _))| match timer {
                Timer::ChangeSuspectToDown { member_id, .. } if *at > then => Some(member_id.addr),
                _ => None,
            })
            .collect()
    }

    /// Forgets all that was asked for by a former life.
    pub(crate) fn start_over(&mut self) {
        self.timers.clear();
        self.removals.clear();
        self.declared_down_ourselves = false;
    }

    #[cfg(test)]
    pub(crate) fn timers(&self) -> usize {
        self.timers.len()
    }

    fn submit_at(&mut self, at: Instant, timer: Timer<Node>) {
        if let Timer::RemoveDown(node) = &timer {
            let former = self.removals.insert(node.addr, (at, node.clone()));
            if former.is_some() {
                return;
            }
        }
        self.asked += 1;
        self.timers.push(Reverse((at, timer, self.asked)));
    }
}

impl Runtime<Node> for &mut Effects {
    fn notify(&mut self, notification: Notification<'_, Node>) {
        match notification {
            Notification::MemberUp(node) | Notification::Rename(_, node) => {
                self.members_changed = true;
                self.envelope.heard_of(node.addr, node.generation);
            }
            Notification::MemberDown(_) => {
                self.members_changed = true;
                self.a_member_went_down = true;
            }
            Notification::Defunct => self.declared_down_ourselves = true,
            // The protocol takes none of its timers from before any more; whoever makes it busy and idle in turn must not
            // fill the memory with them.
            Notification::Idle => self
                .timers
                .retain(|Reverse((_, timer, _))| matches!(timer, Timer::RemoveDown(_))),
            Notification::Active => self.met_somebody = true,
            Notification::Rejoin(_) => {}
        }
    }

    fn send_to(&mut self, to: Node, data: &[u8]) {
        let mut content = Vec::with_capacity(1 + data.len());
        content.push(MESSAGE);
        content.extend_from_slice(data);
        self.send(to.addr, &content);
    }

    fn submit_after(&mut self, timer: Timer<Node>, after: Duration) {
        self.submit_at(self.now + after, timer);
    }
}
