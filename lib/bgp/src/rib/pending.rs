//! What a peer lacks, ordered for packing: prefixes by the attributes that they share.

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

/// What waits of one family.
#[derive(Debug, Default)]
pub(super) struct OfFamily {
    pub(super) withdrawals: BTreeSet<IpNet>,
    pub(super) groups: BTreeMap<Arc<Attributes>, Group>,
}

/// All that waits.
#[derive(Debug, Default)]
pub(super) struct Pending {
    v4: OfFamily,
    v6: OfFamily,
}

impl Pending {
    pub(super) fn insert(&mut self, prefix: IpNet, lack: &Lack) {
        let family = self.of(Family::of(&prefix));
        match lack {
            Lack::Nothing => {}
            Lack::Withdrawal => {
                family.withdrawals.insert(prefix);
            }
            Lack::Announcement(attributes) => {
                let group = family.groups.entry(Arc::clone(attributes)).or_default();
                group.prefixes.insert(prefix);
            }
        }
    }

    pub(super) fn remove(&mut self, prefix: &IpNet, lack: &Lack) {
        let family = self.of(Family::of(prefix));
        match lack {
            Lack::Nothing => {}
            Lack::Withdrawal => {
                family.withdrawals.remove(prefix);
            }
            Lack::Announcement(attributes) => {
                if let Some(group) = family.groups.get_mut(attributes) {
                    group.prefixes.remove(prefix);
                    if group.prefixes.is_empty() {
                        family.groups.remove(attributes);
                    }
                }
            }
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
        let of_family = |family: &OfFamily| {
            let announcements = family.groups.values().map(|group| group.prefixes.len());
            family.withdrawals.len() + announcements.sum::<usize>()
        };
        of_family(&self.v4) + of_family(&self.v6)
    }
}
