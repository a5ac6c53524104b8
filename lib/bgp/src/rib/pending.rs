//! What a peer lacks, ordered for packing: prefixes by the attributes that they share.
//!
//! Announcements go before withdrawals, so that what takes the place of another prefix is there first. That must not let a
//! withdrawal wait for ever where announcements keep coming, so there are two turns: what comes while one is being said waits for the
//! next.

use super::attributes::Attributes;
use crate::family::Family;
use crate::wire::Template;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is to be said of one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lack {
    /// The peer knows all there is to know.
    Nothing,
    /// It has the route and shall not.
    Withdrawal,
    /// It does not have the route, or not with these attributes, or asked to hear of it again.
    Announcement(Arc<Attributes>),
}

/// Prefixes of one family that share their attributes and therefore their UPDATEs. Never empty.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) prefixes: BTreeSet<IpNet>,
    /// Made when the first message of the group is written.
    pub(super) template: Option<Template>,
}

/// What waits of one family for the same turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub(super) withdrawals: BTreeSet<IpNet>,
    pub(super) groups: BTreeMap<Arc<Attributes>, Group>,
}

impl Turn {
    fn insert(&mut self, prefix: IpNet, lack: &Lack) {
        match lack {
            Lack::Nothing => {}
            Lack::Withdrawal => {
                self.withdrawals.insert(prefix);
            }
            Lack::Announcement(attributes) => {
                let group = self.groups.entry(Arc::clone(attributes)).or_default();
                group.prefixes.insert(prefix);
            }
        }
    }

    /// Whether it was there.
    fn remove(&mut self, prefix: &IpNet, lack: &Lack) -> bool {
        match lack {
            Lack::Nothing => false,
            Lack::Withdrawal => self.withdrawals.remove(prefix),
            Lack::Announcement(attributes) => {
                let Some(group) = self.groups.get_mut(attributes) else {
                    return false;
                };
                let was_there = group.prefixes.remove(prefix);
                if group.prefixes.is_empty() {
                    self.groups.remove(attributes);
                }
                was_there
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.withdrawals.is_empty() && self.groups.is_empty()
    }

    fn len(&self) -> usize {
        let announcements = self.groups.values().map(|group| group.prefixes.len());
        self.withdrawals.len() + announcements.sum::<usize>()
    }
}

/// What waits of one family. No prefix is in both.
#[derive(Debug, Default)]
pub(super) struct OfFamily {
    now: Turn,
    next: Turn,
}

impl OfFamily {
    /// What is to be said first.
    pub(super) fn turn(&mut self) -> &mut Turn {
        if self.now.is_empty() {
            std::mem::swap(&mut self.now, &mut self.next);
        }
        &mut self.now
    }
}

/// All that waits.
#[derive(Debug, Default)]
pub(super) struct Pending {
    v4: OfFamily,
    v6: OfFamily,
}

impl Pending {
    /// Puts what is to be said of a prefix, which must not be there, among what waits.
    pub(super) fn insert(&mut self, prefix: IpNet, lack: &Lack) {
        self.of(Family::of(&prefix)).next.insert(prefix, lack);
    }

    /// Puts `lack` in the place of what was to be said, which is `before`. An announcement keeps its turn, so that a route which
    /// changes again and again is told some time.
    pub(super) fn replace(&mut self, prefix: IpNet, before: &Lack, lack: &Lack) {
        let family = self.of(Family::of(&prefix));
        let has_turn = family.now.remove(&prefix, before);
        if !has_turn {
            family.next.remove(&prefix, before);
        }
        match lack {
            Lack::Announcement(_) if has_turn => family.now.insert(prefix, lack),
            _ => family.next.insert(prefix, lack),
        }
    }

    pub(super) fn of(&mut self, family: Family) -> &mut OfFamily {
        match family {
            Family::Ipv4Unicast => &mut self.v4,
            Family::Ipv6Unicast => &mut self.v6,
        }
    }

    /// How many prefixes wait. Walks the groups, of which there are as many as different attributes wait.
    pub(super) fn len(&self) -> usize {
        let of_family = |family: &OfFamily| family.now.len() + family.next.len();
        of_family(&self.v4) + of_family(&self.v6)
    }
}
