//! What do the Services wait for that do not have all that they want, and whose turn is it?

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

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
    /// Room under the limit of a namespace, or under that of one pool for it.
    Limit(Box<str>, Option<u32>, Need),
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
    /// Both or either, but these very ones, or part of it may be shared or is kept for this Service: no two of these are
    /// equal.
    Mixed,
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
    pub(crate) fn helped_by(family: Family) -> [Self; 4] {
        [Need::One(family), Need::Both, Need::Either, Need::Mixed]
    }

    pub(crate) const ALL: [Self; 5] = [
        Need::One(Family::V4),
        Need::One(Family::V6),
        Need::Both,
        Need::Either,
        Need::Mixed,
    ];
}

impl Wait {
    /// Whether each of those who wait for it has to be looked at: each wants something of its own of it, or has to be told
    /// of another owner.
    fn concerns_all(&self) -> bool {
        matches!(
            self,
            Wait::Address(_)
                | Wait::Sharing(_)
                | Wait::Pool(_, Need::Mixed)
                | Wait::Limit(_, _, Need::Mixed)
        )
    }
}

/// Who waits for what. Services that wait for the same things stand in one queue, however many things those are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting {
    queues: BTreeMap<u32, Queue>,
    by_waits: BTreeMap<Arc<[Wait]>, u32>,
    by_wait: BTreeMap<Wait, BTreeSet<u32>>,
    of: BTreeMap<ObjectKey, (i64, u32)>,
    next_queue: u32,
    /// Queues for which something came, with the head that was tried last.
    stirred: BTreeMap<u32, Option<Turn>>,
    /// Services to look at whatever they wait for.
    due: BTreeSet<Turn>,
}

#[derive(Clone, Debug)]
struct Queue {
    waits: Arc<[Wait]>,
    turns: BTreeSet<Turn>,
}

impl Waiting {
    /// Lets a Service wait for these and for nothing else.
    pub(crate) fn file(&mut self, created: i64, key: &ObjectKey, mut waits: Vec<Wait>) {
        waits.sort_unstable();
        waits.dedup();
        if let Some((_, queue)) = self.of.get(key)
            && let Some(queue) = self.queues.get(queue)
            && *queue.waits == *waits
        {
            return;
        }
        self.withdraw(key);
        if waits.is_empty() {
            return;
        }
        let queue = match self.by_waits.get(waits.as_slice()) {
            Some(queue) => *queue,
            None => self.open(waits.into()),
        };
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.turns.insert((created, key.clone()));
        }
        self.of.insert(key.clone(), (created, queue));
    }

    fn open(&mut self, waits: Arc<[Wait]>) -> u32 {
        // Four thousand million changes later the first numbers are free again.
        while self.queues.contains_key(&self.next_queue) {
            self.next_queue = self.next_queue.wrapping_add(1);
        }
        let number = self.next_queue;
        self.next_queue = number.wrapping_add(1);
        for wait in waits.iter() {
            self.by_wait.entry(wait.clone()).or_default().insert(number);
        }
        self.by_waits.insert(Arc::clone(&waits), number);
        let turns = BTreeSet::new();
        self.queues.insert(number, Queue { waits, turns });
        number
    }

    /// Takes a Service out of its queue.
    pub(crate) fn withdraw(&mut self, key: &ObjectKey) {
        let Some((created, number)) = self.of.remove(key) else {
            return;
        };
        let Some(queue) = self.queues.get_mut(&number) else {
            return;
        };
        queue.turns.remove(&(created, key.clone()));
        if !queue.turns.is_empty() {
            return;
        }
        if let Some(queue) = self.queues.remove(&number) {
            self.by_waits.remove(&queue.waits);
            for wait in queue.waits.iter() {
                if let Some(queues) = self.by_wait.get_mut(wait) {
                    queues.remove(&number);
                    if queues.is_empty() {
                        self.by_wait.remove(wait);
                    }
                }
            }
        }
        self.stirred.remove(&number);
    }

    /// What these Services waited for may have come.
    pub(crate) fn stir(&mut self, wait: &Wait) {
        let Some(numbers) = self.by_wait.get(wait) else {
            return;
        };
        for number in numbers {
            if wait.concerns_all() {
                if let Some(queue) = self.queues.get(number) {
                    self.due.extend(queue.turns.iter().cloned());
                }
            } else {
                self.stirred.insert(*number, None);
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
            let heads = self.stirred.iter().filter_map(|(number, tried)| {
                let head = self.queues.get(number)?.turns.first()?;
                Some((head, *number, tried.as_ref() == Some(head)))
            });
            let head = heads
                .min()
                .map(|(head, number, tried)| (head.clone(), number, tried));
            match (self.due.first(), head) {
                (None, None) => {
                    self.stirred.clear();
                    return None;
                }
                (Some(due), head) if head.as_ref().is_none_or(|(head, ..)| due <= head) => {
                    let (_, key) = due.clone();
                    self.due.pop_first();
                    return Some(key);
                }
                (_, Some((_, number, true))) => {
                    self.stirred.remove(&number);
                }
                (_, Some((head, number, false))) => {
                    self.stirred.insert(number, Some(head.clone()));
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
