//! The adj-RIB-out: which routes a peer shall have, which it has, and the UPDATEs in between.
//!
//! Whole desired states go in ([`AdjRibOut::set_desired`]); [`AdjRibOut::next_batch`] gives the next portion of what the
//! peer lacks. What is not fetched yet is not decided yet: a route that changes ten times while the peer is slow is sent
//! once. A route whose attributes change is announced again and never withdrawn in between.

mod attributes;
mod export;
mod pending;

pub use attributes::Attributes;
pub use export::{Export, NotAdvertised};

use crate::family::{Families, Family};
use crate::wire::{Template, pack_withdrawals, push_end_of_rib};
use ipnet::IpNet;
use pending::{Group, Pending};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One portion of UPDATEs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// Whole messages.
    pub bytes: Vec<u8>,
    /// How many.
    pub messages: usize,
    /// Prefixes that the peer did not have.
    pub announced: Vec<IpNet>,
    /// How many prefixes were sent again, for other attributes or because the peer asked.
    pub announced_again: usize,
    /// Prefixes that the peer had.
    pub withdrawn: Vec<IpNet>,
    /// Families whose initial routes are complete with this batch.
    pub end_of_rib: Families,
}

/// What the peer was told about a prefix.
#[derive(Debug, Clone)]
struct Sent {
    /// Shared between all prefixes with equal attributes.
    attributes: Arc<Attributes>,
    /// The peer asked to have it again (RFC 2918).
    again: bool,
}

/// The routes of one peer.
#[derive(Debug, Default)]
pub struct AdjRibOut {
    desired: Arc<BTreeMap<IpNet, Attributes>>,
    /// Set while the session is established.
    session: Option<Established>,
}

#[derive(Debug)]
struct Established {
    export: Export,
    sent: BTreeMap<IpNet, Sent>,
    pending: Pending,
    /// The attribute sets in `sent`, to share them.
    sets: BTreeSet<Arc<Attributes>>,
    /// Families whose End-of-RIB marker is still to be sent.
    marker_due: Families,
}

impl AdjRibOut {
    /// Without routes and without a session.
    pub fn new() -> AdjRibOut {
        AdjRibOut::default()
    }

    /// Replaces the desired routes. Host bits in a prefix are not allowed: a prefix is a network.
    pub fn set_desired(&mut self, routes: Arc<BTreeMap<IpNet, Attributes>>) {
        if Arc::ptr_eq(&self.desired, &routes) {
            return;
        }
        self.desired = routes;
        self.decide();
    }

    /// A session is established: the peer has none of our routes and gets all that `export` allows.
    pub fn established(&mut self, export: Export) {
        let marker_due = export.families;
        self.session = Some(Established {
            export,
            sent: BTreeMap::new(),
            pending: Pending::default(),
            sets: BTreeSet::new(),
            marker_due,
        });
        self.decide();
    }

    /// The session ended: the peer has dropped our routes.
    pub fn down(&mut self) {
        self.session = None;
    }

    /// The peer asked for all routes of a family again.
    pub fn refresh(&mut self, family: Family) {
        if let Some(session) = &mut self.session {
            let of_family = session
                .sent
                .iter_mut()
                .filter(|(prefix, _)| Family::of(prefix) == family);
            of_family.for_each(|(_, sent)| sent.again = true);
        }
        self.decide();
    }

    /// How many prefixes the peer was told.
    pub fn advertised(&self) -> usize {
        self.session
            .as_ref()
            .map_or(0, |session| session.sent.len())
    }

    /// How many prefixes are still to be announced or withdrawn.
    pub fn pending(&self) -> usize {
        self.session
            .as_ref()
            .map_or(0, |session| session.pending.len())
    }

    /// The desired prefixes that this session cannot carry, and why. Empty without a session.
    pub fn not_advertised(&self) -> impl Iterator<Item = (IpNet, NotAdvertised)> {
        self.session.iter().flat_map(|session| {
            self.desired.iter().filter_map(|(prefix, attributes)| {
                session
                    .export
                    .check(prefix, attributes)
                    .err()
                    .map(|reason| (*prefix, reason))
            })
        })
    }

    /// What the peer was told, in the order of prefixes.
    pub fn routes(&self) -> impl Iterator<Item = (IpNet, &Attributes)> {
        self.session.iter().flat_map(|session| {
            session
                .sent
                .iter()
                .map(|(prefix, sent)| (*prefix, sent.attributes.as_ref()))
        })
    }

    /// The next UPDATEs, whole messages until they are at least `octets` long together or nothing is left. They count as
    /// sent, so they must be sent, in this order. `None` if the peer has everything.
    pub fn next_batch(&mut self, octets: usize) -> Option<Batch> {
        let session = self.session.as_mut()?;
        let mut batch = Batch::default();
        while batch.bytes.len() < octets.max(1) && session.push_message(&mut batch) {}
        (!batch.bytes.is_empty()).then_some(batch)
    }

    /// Finds what the peer lacks.
    fn decide(&mut self) {
        if let Some(session) = &mut self.session {
            session.pending = pending::difference(&self.desired, &session.sent, &session.export);
            // Sets that no prefix has any more would otherwise pile up over the life of the session.
            session.sets.retain(|set| Arc::strong_count(set) > 1);
        }
    }
}

impl Established {
    /// Appends one message; false if there is nothing to say.
    fn push_message(&mut self, batch: &mut Batch) -> bool {
        for family in Family::ALL {
            if self.push_withdrawals(batch, family) || self.push_announcements(batch, family) {
                return true;
            }
            if self.marker_due.contains(family) {
                push_end_of_rib(&mut batch.bytes, family);
                batch.messages += 1;
                let this = Families::from_iter([family]);
                self.marker_due = self
                    .marker_due
                    .iter()
                    .filter(|due| *due != family)
                    .collect();
                batch.end_of_rib = batch.end_of_rib.iter().chain(this.iter()).collect();
                return true;
            }
        }
        false
    }

    fn push_withdrawals(&mut self, batch: &mut Batch, family: Family) -> bool {
        let waiting = self.pending.withdrawals(family);
        // Withdrawals of the simplest form always fit; an error would mean that nothing was written.
        let count = pack_withdrawals(&mut batch.bytes, family, waiting.rest()).unwrap_or(0);
        let done = waiting.take(count);
        for prefix in done {
            self.sent.remove(prefix);
        }
        batch.withdrawn.extend_from_slice(done);
        batch.messages += usize::from(count > 0);
        count > 0
    }

    fn push_announcements(&mut self, batch: &mut Batch, family: Family) -> bool {
        while let Some(mut group) = self.pending.next_group(family) {
            let count = self.push_group(batch, &mut group);
            let left = !group.prefixes.rest().is_empty();
            if left && count > 0 {
                self.pending.put_back(family, group);
            }
            if count > 0 {
                return true;
            }
            // A group that cannot be written is left out, as `Export::check` reports it.
        }
        false
    }

    fn push_group(&mut self, batch: &mut Batch, group: &mut Group) -> usize {
        if group.template.is_none() {
            group.template = self.export.template(group.family, &group.attributes).ok();
        }
        let pack = |template: &Template, out: &mut Vec<u8>| {
            template.pack(out, group.prefixes.rest()).unwrap_or(0)
        };
        let count = group
            .template
            .as_ref()
            .map_or(0, |template| pack(template, &mut batch.bytes));
        let attributes = match self.sets.get(&group.attributes) {
            Some(known) => Arc::clone(known),
            None => {
                self.sets.insert(Arc::clone(&group.attributes));
                Arc::clone(&group.attributes)
            }
        };
        for prefix in group.prefixes.take(count) {
            let sent = Sent {
                attributes: Arc::clone(&attributes),
                again: false,
            };
            if self.sent.insert(*prefix, sent).is_some() {
                batch.announced_again += 1;
            } else {
                batch.announced.push(*prefix);
            }
        }
        batch.messages += usize::from(count > 0);
        count
    }
}
