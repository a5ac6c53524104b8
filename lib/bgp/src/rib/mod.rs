//! The adj-RIB-out: which routes a peer shall have, which it has, and the UPDATEs in between.
//!
//! What is desired goes in prefix by prefix ([`AdjRibOut::set`]), at a cost that grows with the logarithm of the number of
//! routes; [`AdjRibOut::next_batch`] gives the next portion of what the peer lacks. What is not fetched yet is not decided
//! yet: a route that changes ten times while the peer is slow is sent once. A route whose attributes change is announced
//! again and never withdrawn in between.

mod attributes;
mod export;
mod pending;
mod sets;
mod ways;

pub use attributes::Attributes;
pub use export::{Export, NotAdvertised};

use crate::family::{Families, Family};
use crate::wire::{
    Context, Message, NextHop, PathAttributes, Refresh, RouteRefresh, pack_withdrawals,
    push_end_of_rib,
};
use ipnet::IpNet;
use pending::{Lack, OfFamily, Pending};
use sets::Sets;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use ways::Ways;

/// One portion of UPDATEs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// Whole messages.
    pub bytes: Vec<u8>,
    /// How many of them are UPDATEs.
    pub updates: usize,
    /// How many are ROUTE-REFRESHes, which tell where a repetition begins or ends (RFC 7313).
    pub refreshes: usize,
    /// Prefixes that the peer did not have.
    pub announced: Vec<IpNet>,
    /// How many prefixes were sent again: for other attributes, for another next hop, or because the peer asked.
    pub announced_again: usize,
    /// Prefixes that the peer had.
    pub withdrawn: Vec<IpNet>,
    /// Families whose initial routes are complete with this batch.
    pub end_of_rib: Families,
}

/// One prefix. At least one of the two sets is there.
#[derive(Debug, Default)]
struct Route {
    /// What the peer shall have.
    desired: Option<Arc<Attributes>>,
    /// What it was told.
    sent: Option<Arc<Attributes>>,
    /// How it was told so, by the number that it has in [`Ways`].
    way: u32,
    /// To be sent again whatever it was told: it asked for that (RFC 2918), or the session carries the route in another way.
    again: bool,
}

impl Route {
    /// What is to be said, if the session can carry the route as desired.
    fn lack(&self, refused: bool) -> Lack {
        match (self.desired.as_ref().filter(|_| !refused), &self.sent) {
            (None, None) => Lack::Nothing,
            (None, Some(_)) => Lack::Withdrawal,
            // Sets are shared, so equal ones are the same piece of memory.
            (Some(desired), Some(sent)) if Arc::ptr_eq(desired, sent) && !self.again => {
                Lack::Nothing
            }
            (Some(desired), _) => Lack::Announcement(Arc::clone(desired)),
        }
    }
}

/// A route as a peer was told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What it leads to.
    pub prefix: IpNet,
    /// Where the peer sends the traffic.
    pub next_hop: NextHop,
    /// Everything else in the UPDATE.
    pub attributes: PathAttributes,
}

/// The routes of one peer.
#[derive(Debug, Default)]
pub struct AdjRibOut {
    routes: BTreeMap<IpNet, Route>,
    sets: Sets,
    /// Set while the session is established.
    session: Option<Established>,
    /// This and all later sessions say that their routes are about to go away.
    leaving: bool,
}

#[derive(Debug)]
struct Established {
    export: Export,
    ways: Ways,
    /// How many routes have `sent`.
    advertised: usize,
    pending: Pending,
    /// Desired routes that the session cannot carry.
    refused: BTreeMap<IpNet, NotAdvertised>,
    /// Families whose End-of-RIB marker is still to be sent.
    marker_due: Families,
    repetition: Repetition,
    /// Families that the peer asked for again, of which nothing was sent since.
    asked: Families,
}

/// Families that the peer asked to have again, where it is told of beginning and end (RFC 7313).
#[derive(Debug, Default)]
struct Repetition {
    /// Asked for before the first round was complete, after which it follows.
    later: Families,
    begin_due: Families,
    end_due: Families,
}

impl AdjRibOut {
    /// Without routes and without a session.
    pub fn new() -> AdjRibOut {
        AdjRibOut::default()
    }

    /// Says what the peer shall have of one prefix; `None` for nothing. Host bits in a prefix are not allowed: a prefix is
    /// a network.
    pub fn set(&mut self, prefix: IpNet, attributes: Option<&Attributes>) {
        let desired = attributes.map(|attributes| self.sets.share(attributes));
        let route = self.routes.entry(prefix).or_default();
        let before = route.lack(
            self.session
                .as_ref()
                .is_some_and(|session| session.refused.contains_key(&prefix)),
        );
        let former = std::mem::replace(&mut route.desired, desired);
        if let Some(session) = &mut self.session {
            let lack = session.lack(prefix, route);
            session.pending.replace(prefix, &before, &lack);
        }
        drop(before);
        if route.desired.is_none() && route.sent.is_none() {
            self.routes.remove(&prefix);
        }
        self.sets.give_back(former);
    }

    /// Replaces all that is desired, for a session that begins.
    pub fn set_desired(&mut self, routes: &BTreeMap<IpNet, Attributes>) {
        let gone: Vec<IpNet> = self
            .routes
            .iter()
            .filter(|(prefix, route)| route.desired.is_some() && !routes.contains_key(*prefix))
            .map(|(prefix, _)| *prefix)
            .collect();
        for prefix in gone {
            self.set(prefix, None);
        }
        for (prefix, attributes) in routes {
            self.set(*prefix, Some(attributes));
        }
    }

    /// A session is established: the peer has none of our routes and gets all that `export` allows.
    pub fn established(&mut self, mut export: Export) {
        self.down();
        export.graceful_shutdown |= self.leaving;
        let mut session = Established {
            marker_due: export.families,
            ways: Ways::new(&export),
            export,
            advertised: 0,
            pending: Pending::default(),
            refused: BTreeMap::new(),
            repetition: Repetition::default(),
            asked: Families::default(),
        };
        for (prefix, route) in &self.routes {
            session.place(*prefix, route);
        }
        self.session = Some(session);
    }

    /// The session ended: the peer has dropped our routes.
    pub fn down(&mut self) {
        if self.session.take().is_none() {
            return;
        }
        let sets = &mut self.sets;
        self.routes.retain(|_, route| {
            route.again = false;
            sets.give_back(route.sent.take());
            route.desired.is_some()
        });
    }

    /// The peer asked for all routes of a family again.
    pub fn refresh(&mut self, family: Family) {
        let Some(session) = &mut self.session else {
            return;
        };
        // However often it asks: going through all routes once is enough.
        if session.asked.contains(family) {
            return;
        }
        let repetition = &mut session.repetition;
        if session.export.context.enhanced_refresh && session.export.families.contains(family) {
            if session.marker_due.contains(family) {
                repetition.later = repetition.later.with(family);
                return;
            }
            repetition.begin_due = repetition.begin_due.with(family);
            repetition.end_due = repetition.end_due.with(family);
        }
        session.asked = session.asked.with(family);
        for (prefix, route) in &mut self.routes {
            // Also if it waits to be withdrawn: it may be desired again before it is.
            if Family::of(prefix) == family && route.sent.is_some() {
                let waits = route.lack(session.refused.contains_key(prefix)) != Lack::Nothing;
                route.again = true;
                if !waits {
                    session.place(*prefix, route);
                }
            }
        }
    }

    /// Says of all routes that they are about to go away, so that peers move to others before they do (RFC 8326): each is
    /// announced again once, in place, with [`Community::GRACEFUL_SHUTDOWN`](crate::wire::Community::GRACEFUL_SHUTDOWN) and
    /// inside our AS with the preference 0. What is announced later says the same, in later sessions too.
    ///
    /// The caller waits until the peers have moved before it ends the sessions.
    pub fn shut_down_gracefully(&mut self) {
        self.leaving = true;
        let families = match &mut self.session {
            Some(session) if !session.export.graceful_shutdown => {
                session.export.graceful_shutdown = true;
                session.ways.go_on(&session.export);
                session.export.families
            }
            _ => return,
        };
        self.announce_again(families);
    }

    /// Our addresses changed while the session is established: takes the next hops of `export`, and nothing else of it. The
    /// routes of a family with another next hop are announced again in place; without any, they are withdrawn.
    pub fn next_hops_changed(&mut self, export: &Export) {
        let Some(session) = &mut self.session else {
            return;
        };
        let before = session.export.clone();
        session.export.next_hop_v4 = export.next_hop_v4;
        session.export.next_hop_v6 = export.next_hop_v6;
        session.ways.go_on(&session.export);
        let changed = |family: &Family| before.next_hop(*family) != export.next_hop(*family);
        let families = Family::ALL.into_iter().filter(changed).collect();
        self.announce_again(families);
    }

    /// Sends all routes of these families again, because the session carries them in another way from now on.
    fn announce_again(&mut self, families: Families) {
        let Some(session) = &mut self.session else {
            return;
        };
        // What waits was decided, and perhaps encoded, for the way before.
        for family in families.iter() {
            *session.pending.of(family) = OfFamily::default();
        }
        for (prefix, route) in &mut self.routes {
            if families.contains(Family::of(prefix)) {
                route.again |= route.sent.is_some();
                session.place(*prefix, route);
            }
        }
    }

    /// How many prefixes the peer was told.
    pub fn advertised(&self) -> usize {
        self.session
            .as_ref()
            .map_or(0, |session| session.advertised)
    }

    /// How many prefixes are still to be announced or withdrawn.
    pub fn pending(&self) -> usize {
        self.session
            .as_ref()
            .map_or(0, |session| session.pending.len())
    }

    /// The desired prefixes that this session cannot carry, and why. Empty without a session.
    pub fn not_advertised(&self) -> impl ExactSizeIterator<Item = (IpNet, NotAdvertised)> {
        static NONE: BTreeMap<IpNet, NotAdvertised> = BTreeMap::new();
        self.session
            .as_ref()
            .map_or(&NONE, |session| &session.refused)
            .iter()
            .map(|(prefix, reason)| (*prefix, *reason))
    }

    /// What the peer was told of prefixes behind this one, in their order, as it went over the wire. Empty without a session.
    pub fn told(&self, after: Option<IpNet>) -> impl Iterator<Item = Told> {
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        let session = self.session.as_ref();
        let routes = self.routes.range((behind, Bound::Unbounded));
        routes.filter_map(move |(prefix, route)| {
            let session = session?;
            let attributes = route.sent.as_deref()?;
            // What waits to be sent again may be in force with the peer in the way of before.
            let way = session.ways.get(route.way)?;
            Some(Told {
                prefix: *prefix,
                next_hop: way.next_hop(Family::of(prefix))?,
                attributes: session.export.path_attributes(attributes, way.leaving),
            })
        })
    }

    /// The next UPDATEs, whole messages until they are at least `octets` long together or nothing is left. They count as
    /// sent, so they must be sent, in this order. `None` if the peer has everything.
    pub fn next_batch(&mut self, octets: usize) -> Option<Batch> {
        let mut batch = Batch::default();
        while batch.bytes.len() < octets.max(1) && self.push_message(&mut batch) {}
        (!batch.bytes.is_empty()).then_some(batch)
    }

    /// Appends one message; false if there is nothing to say. Announcements go before withdrawals: a prefix that takes another's
    /// place, as a shorter one does when the aggregation length changes, is there before that is gone.
    fn push_message(&mut self, batch: &mut Batch) -> bool {
        for family in Family::ALL {
            if self.push_begin(batch, family)
                || self.push_announcements(batch, family)
                || self.push_withdrawals(batch, family)
                || self.push_marker(batch, family)
                || self.push_end(batch, family)
            {
                return true;
            }
        }
        false
    }

    fn push_withdrawals(&mut self, batch: &mut Batch, family: Family) -> bool {
        let Some(session) = &mut self.session else {
            return false;
        };
        let waiting = &mut session.pending.of(family).turn().withdrawals;
        // Withdrawals of the simplest form always fit; an error would mean that nothing was written.
        let context = &session.export.context;
        let count = pack_withdrawals(&mut batch.bytes, family, &*waiting, context).unwrap_or(0);
        for prefix in std::iter::from_fn(|| waiting.pop_first()).take(count) {
            batch.withdrawn.push(prefix);
            session.advertised -= 1;
            let Some(route) = self.routes.get_mut(&prefix) else {
                continue;
            };
            self.sets.give_back(route.sent.take());
            route.again = false;
            if route.desired.is_none() {
                self.routes.remove(&prefix);
            }
        }
        batch.updates += usize::from(count > 0);
        count > 0
    }

    fn push_announcements(&mut self, batch: &mut Batch, family: Family) -> bool {
        let Some(session) = &mut self.session else {
            return false;
        };
        let groups = &mut session.pending.of(family).turn().groups;
        while let Some(mut entry) = groups.first_entry() {
            let attributes = Arc::clone(entry.key());
            let group = entry.get_mut();
            if group.template.is_none() {
                group.template = session.export.template(family, &attributes).ok();
            }
            let pack = |template: &crate::wire::Template| {
                template.pack(&mut batch.bytes, &group.prefixes).ok()
            };
            let count = group.template.as_ref().and_then(pack).unwrap_or(0);
            for prefix in std::iter::from_fn(|| group.prefixes.pop_first()).take(count) {
                let Some(route) = self.routes.get_mut(&prefix) else {
                    continue;
                };
                route.again = false;
                route.way = session.ways.current();
                match route.sent.replace(Arc::clone(&attributes)) {
                    Some(former) => {
                        batch.announced_again += 1;
                        self.sets.give_back(Some(former));
                    }
                    None => {
                        session.advertised += 1;
                        batch.announced.push(prefix);
                    }
                }
            }
            // A group that cannot be written is left out, as `Export::check` reports it.
            if group.prefixes.is_empty() || count == 0 {
                entry.remove();
            }
            if count > 0 {
                session.asked = session.asked.without(family);
                batch.updates += 1;
                return true;
            }
        }
        false
    }

    fn push_marker(&mut self, batch: &mut Batch, family: Family) -> bool {
        let Some(session) = &mut self.session else {
            return false;
        };
        let due = session.marker_due.contains(family);
        if due {
            push_end_of_rib(&mut batch.bytes, family);
            batch.updates += 1;
            session.marker_due = session.marker_due.without(family);
            batch.end_of_rib = batch.end_of_rib.with(family);
            if session.repetition.later.contains(family) {
                session.repetition.later = session.repetition.later.without(family);
                self.refresh(family);
            }
        }
        due
    }

    fn push_begin(&mut self, batch: &mut Batch, family: Family) -> bool {
        self.push_bound(batch, family, Refresh::Begin, |repetition| {
            &mut repetition.begin_due
        })
    }

    fn push_end(&mut self, batch: &mut Batch, family: Family) -> bool {
        self.push_bound(batch, family, Refresh::End, |repetition| {
            &mut repetition.end_due
        })
    }

    /// Tells the peer where a repetition begins or ends, if that is due.
    fn push_bound(
        &mut self,
        batch: &mut Batch,
        family: Family,
        bound: Refresh,
        due: impl FnOnce(&mut Repetition) -> &mut Families,
    ) -> bool {
        let Some(session) = &mut self.session else {
            return false;
        };
        let due = due(&mut session.repetition);
        if !due.contains(family) {
            return false;
        }
        *due = due.without(family);
        session.asked = session.asked.without(family);
        let message = Message::RouteRefresh(RouteRefresh::new(bound, family));
        // Four octets always fit.
        batch
            .bytes
            .extend(message.encode(&Context::default()).unwrap_or_default());
        batch.refreshes += 1;
        true
    }
}

impl Established {
    /// Finds out whether the session can carry the route, and what is to be said of it.
    fn lack(&mut self, prefix: IpNet, route: &Route) -> Lack {
        let refused = route
            .desired
            .as_ref()
            .and_then(|attributes| self.export.check(&prefix, attributes).err());
        match refused {
            Some(reason) => self.refused.insert(prefix, reason),
            None => self.refused.remove(&prefix),
        };
        route.lack(refused.is_some())
    }

    /// Puts what is to be said of the route, of which nothing waits, among what waits.
    fn place(&mut self, prefix: IpNet, route: &Route) {
        let lack = self.lack(prefix, route);
        self.pending.insert(prefix, &lack);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Community;

    #[test]
    fn a_set_of_attributes_is_forgotten_with_its_last_route() {
        let of = |value| Attributes {
            communities: [Community(value)].into(),
            ..Attributes::default()
        };
        let prefix: IpNet = "10.0.0.1/32".parse().unwrap();
        let mut rib = AdjRibOut::new();
        for value in 0..10 {
            rib.set(prefix, Some(&of(value)));
            assert_eq!(rib.sets.len(), 1, "{value}");
        }
        rib.set(prefix, None);
        assert_eq!((rib.sets.len(), rib.routes.len()), (0, 0));
    }
}
