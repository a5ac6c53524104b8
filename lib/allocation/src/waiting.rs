//! What do the Services wait for that do not have all that they want, and whose turn is it?

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferrolb_api::ObjectKey;
use ferrolb_rules::Family;

use crate::service::{Families, Policy, Service};

/// The oldest first; the name breaks a tie.
pub(crate) type Turn = (i64, ObjectKey);

/// Something whose coming may help a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wait {
    /// A free address in a pool (by its index).
    Pool(u32, Need),
    /// This very address.
    Address(IpAddr),
    /// Room under the limits of a namespace.
    Limit(Box<str>, Need),
    /// Others that share under this key leave an address or change their ports.
    Sharing(Box<str>),
}

/// Which families help: Services with one need are equal before a pool, so that when the oldest gets nothing no other does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// One of this family.
    One(Family),
    /// One of each.
    Both,
    /// One of any; one of each where that can be.
    Either,
}

impl Need {
    pub(crate) fn of(service: &Service) -> Self {
        match (service.families, service.policy) {
            (Families::Single(family), _) => Need::One(family),
            (_, Policy::PreferDualStack) => Need::Either,
            _ => Need::Both,
        }
    }

    /// The needs that an address of `family` may help.
    pub(crate) fn helped_by(family: Family) -> [Self; 3] {
        [Need::One(family), Need::Both, Need::Either]
    }

    pub(crate) const ALL: [Self; 4] = [
        Need::One(Family::V4),
        Need::One(Family::V6),
        Need::Both,
        Need::Either,
    ];
}

/// Who waits for what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting {
    queues: BTreeMap<Wait, BTreeSet<Turn>>,
    of: BTreeMap<ObjectKey, (i64, Vec<Wait>)>,
    /// Queues of which something came, with the head that was tried last.
    stirred: BTreeMap<Wait, Option<Turn>>,
    /// Services to look at whatever they wait for.
    due: BTreeSet<Turn>,
}

impl Waiting {
    /// Puts a Service into these queues and no others.
    pub(crate) fn file(&mut self, created: i64, key: &ObjectKey, waits: Vec<Wait>) {
        self.withdraw(key);
        if waits.is_empty() {
            return;
        }
        for wait in &waits {
            self.queues
                .entry(wait.clone())
                .or_default()
                .insert((created, key.clone()));
        }
        self.of.insert(key.clone(), (created, waits));
    }

    /// Takes a Service out of every queue.
    pub(crate) fn withdraw(&mut self, key: &ObjectKey) {
        let Some((created, waits)) = self.of.remove(key) else {
            return;
        };
        let turn = (created, key.clone());
        for wait in waits {
            if let Some(queue) = self.queues.get_mut(&wait) {
                queue.remove(&turn);
                if queue.is_empty() {
                    self.queues.remove(&wait);
                    self.stirred.remove(&wait);
                }
            }
        }
    }

    /// What these Services waited for may have come.
    pub(crate) fn stir(&mut self, wait: Wait) {
        let Some(queue) = self.queues.get(&wait) else {
            return;
        };
        match wait {
            // Each of these wants something of its own of it, or has to be told of another owner.
            Wait::Address(_) | Wait::Sharing(_) => self.due.extend(queue.iter().cloned()),
            Wait::Pool(..) | Wait::Limit(..) => {
                self.stirred.insert(wait, None);
            }
        }
    }

    /// A Service must be looked at again.
    pub(crate) fn look_at(&mut self, created: i64, key: &ObjectKey) {
        self.due.insert((created, key.clone()));
    }

    /// The next Service to look at, the oldest first. Ends: who gets nothing stands at the head of its queue still, and
    /// that ends the queue.
    pub(crate) fn next(&mut self) -> Option<ObjectKey> {
        loop {
            let heads = self.stirred.iter().filter_map(|(wait, tried)| {
                let head = self.queues.get(wait)?.first()?;
                Some((head, wait, tried.as_ref() == Some(head)))
            });
            let head = heads
                .min()
                .map(|(head, wait, tried)| (head.clone(), wait.clone(), tried));
            let due = self.due.first();
            match (due, head) {
                (None, None) => {
                    self.stirred.clear();
                    return None;
                }
                (Some(due), head) if head.as_ref().is_none_or(|(head, ..)| due <= head) => {
                    let (_, key) = due.clone();
                    self.due.pop_first();
                    return Some(key);
                }
                (_, Some((_, wait, true))) => {
                    self.stirred.remove(&wait);
                }
                (_, Some((head, wait, false))) => {
                    self.stirred.insert(wait, Some(head.clone()));
                    return Some(head.1);
                }
                (Some(_), None) => {}
            }
        }
    }

    /// Forgets every queue: the pools are others, and everybody is looked at again.
    pub(crate) fn clear(&mut self) {
        *self = Waiting::default();
    }
}
