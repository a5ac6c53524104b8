//! What a peer lacks: the difference between the desired routes and those it was told, ordered for packing.

use super::Sent;
use super::attributes::Attributes;
use super::export::Export;
use crate::family::Family;
use crate::wire::Template;
use ipnet::IpNet;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Prefixes that wait, sent from the first on.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    prefixes: Vec<IpNet>,
    done: usize,
}

impl Waiting {
    pub(super) fn rest(&self) -> &[IpNet] {
        self.prefixes.get(self.done..).unwrap_or_default()
    }

    /// Takes `count` prefixes from the front.
    pub(super) fn take(&mut self, count: usize) -> &[IpNet] {
        let from = self.done;
        self.done = (from + count).min(self.prefixes.len());
        self.prefixes.get(from..self.done).unwrap_or_default()
    }

    fn len(&self) -> usize {
        self.prefixes.len() - self.done
    }
}

/// Prefixes of one family that share their attributes and therefore their UPDATEs.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) family: Family,
    pub(super) attributes: Arc<Attributes>,
    pub(super) prefixes: Waiting,
    /// Made when the first message of the group is written.
    pub(super) template: Option<Template>,
}

#[derive(Debug, Default)]
struct OfFamily {
    withdrawals: Waiting,
    /// The next group is the last.
    groups: Vec<Group>,
}

/// All that waits.
#[derive(Debug, Default)]
pub(super) struct Pending {
    v4: OfFamily,
    v6: OfFamily,
}

impl Pending {
    pub(super) fn withdrawals(&mut self, family: Family) -> &mut Waiting {
        &mut self.of(family).withdrawals
    }

    pub(super) fn next_group(&mut self, family: Family) -> Option<Group> {
        self.of(family).groups.pop()
    }

    pub(super) fn put_back(&mut self, family: Family, group: Group) {
        self.of(family).groups.push(group);
    }

    pub(super) fn len(&self) -> usize {
        [&self.v4, &self.v6]
            .into_iter()
            .map(|family| {
                family.withdrawals.len()
                    + family
                        .groups
                        .iter()
                        .map(|group| group.prefixes.len())
                        .sum::<usize>()
            })
            .sum()
    }

    fn of(&mut self, family: Family) -> &mut OfFamily {
        match family {
            Family::Ipv4Unicast => &mut self.v4,
            Family::Ipv6Unicast => &mut self.v6,
        }
    }
}

/// Walks both maps side by side, once.
pub(super) fn difference(
    desired: &BTreeMap<IpNet, Attributes>,
    sent: &BTreeMap<IpNet, Sent>,
    export: &Export,
) -> Pending {
    let mut pending = Pending::default();
    let mut groups: BTreeMap<(Family, &Attributes), Vec<IpNet>> = BTreeMap::new();
    let mut desired = desired
        .iter()
        .filter(|(prefix, attributes)| export.check(prefix, attributes).is_ok())
        .peekable();
    let mut sent = sent.iter().peekable();
    loop {
        let order = match (desired.peek(), sent.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((wanted, _)), Some((had, _))) => wanted.cmp(had),
        };
        let wanted = if order.is_le() { desired.next() } else { None };
        let had = if order.is_ge() { sent.next() } else { None };
        match (wanted, had) {
            (Some((_, attributes)), Some((_, had)))
                if *attributes == *had.attributes && !had.again => {}
            (Some((prefix, attributes)), _) => {
                groups
                    .entry((Family::of(prefix), attributes))
                    .or_default()
                    .push(*prefix);
            }
            (None, Some((prefix, _))) => pending
                .withdrawals(Family::of(prefix))
                .prefixes
                .push(*prefix),
            (None, None) => {}
        }
    }
    for ((family, attributes), prefixes) in groups.into_iter().rev() {
        pending.of(family).groups.push(Group {
            family,
            attributes: Arc::new(attributes.clone()),
            prefixes: Waiting { prefixes, done: 0 },
            template: None,
        });
    }
    pending
}
