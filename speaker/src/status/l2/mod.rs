//! Which Services this node announces by layer 2, as ServiceL2Status objects (reference 1.8).

mod keep;
mod object;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferrolb_api::ObjectKey;
use ferrolb_cluster::Client;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::project::NodeSets;
use crate::status::Reporter;
use keep::Keeper;
use object::{Conflict, Wanted, id_of};

/// Writes under way at once, of each speaker: when a node is lost the others take over thousands of Services together.
pub const WRITES_AT_ONCE: usize = 8;

/// Tells which Services are announced. Cheap to clone; telling never waits, and the newest counts.
///
/// 10,000 Services announced by one node take 4 MB at most with what the watch keeps of their objects.
#[derive(Clone)]
pub struct L2Statuses(Arc<Shared>);

struct Shared {
    told: Mutex<Told>,
    notify: Arc<Notify>,
    sets: NodeSets,
}

/// What shall be there.
#[derive(Default)]
struct Told {
    /// By the number in the object's name.
    wanted: BTreeMap<u64, Wanted>,
    /// Of which something else is wanted than before, since somebody looked.
    changed: BTreeSet<u64>,
    /// Whether it was told of every Service.
    complete: bool,
    /// Whether that is news.
    completed: bool,
}

impl L2Statuses {
    /// Starts to keep the objects in a task of its own until `shutdown`. They stay then: the owner's end takes them away, or
    /// the node that announces next.
    #[must_use]
    pub fn start(client: &Client, reporter: Reporter, shutdown: CancellationToken) -> Self {
        let shared = Arc::new(Shared {
            told: Mutex::default(),
            notify: Arc::new(Notify::new()),
            sets: NodeSets::default(),
        });
        let keeper = Keeper::new(client, reporter, Arc::clone(&shared));
        tokio::spawn(shutdown.run_until_cancelled_owned(keeper.run()));
        L2Statuses(shared)
    }

    /// This node announces a Service by layer 2 on these interfaces (none is all), or not at all.
    pub fn set(&self, service: &ObjectKey, interfaces: Option<Vec<String>>) {
        let id = id_of(service);
        let mut told = self.0.told();
        let known = told.wanted.get(&id);
        let wanted = interfaces.map(|interfaces| {
            let interfaces: BTreeSet<Box<str>> = interfaces.into_iter().map(Box::from).collect();
            Wanted {
                service: service.clone(),
                interfaces: self.0.sets.share(interfaces.into_iter().collect()),
                conflict: known.and_then(|known| known.conflict.clone()),
            }
        });
        if known == wanted.as_ref() {
            return;
        }
        match wanted {
            Some(wanted) => told.wanted.insert(id, wanted),
            None => told.wanted.remove(&id),
        };
        told.changed.insert(id);
        drop(told);
        self.0.notify.notify_one();
    }

    /// Another host has an address of a Service that this node announces, or none has (any more): the reason and message of
    /// the condition.
    pub fn set_conflict(&self, service: &ObjectKey, conflict: Option<(&str, &str)>) {
        let id = id_of(service);
        let mut told = self.0.told();
        let Some(wanted) = told.wanted.get_mut(&id) else {
            return;
        };
        let known = wanted.conflict.as_deref();
        if known.map(|known| (known.reason.as_str(), known.message.as_str())) == conflict {
            return;
        }
        let since = known.map(|known| known.since);
        wanted.conflict = conflict.map(|(reason, message)| {
            Box::new(Conflict {
                reason: reason.to_owned(),
                message: message.to_owned(),
                since: since.unwrap_or_else(this_second),
            })
        });
        told.changed.insert(id);
        drop(told);
        self.0.notify.notify_one();
    }

    /// Lays what is wanted out anew, in less room.
    pub fn repack(&self) {
        let mut told = self.0.told();
        told.wanted = std::mem::take(&mut told.wanted).into_iter().collect();
    }

    /// From now on a Service of which nothing was told is not announced. Until then objects that are there stay: a speaker
    /// that starts does not know yet what it goes on with.
    pub fn complete(&self) {
        let mut told = self.0.told();
        if !told.complete {
            (told.complete, told.completed) = (true, true);
            drop(told);
            self.0.notify.notify_one();
        }
    }
}

/// Now, as objects have it.
fn this_second() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl Shared {
    fn told(&self) -> MutexGuard<'_, Told> {
        // Nothing panics while it holds the lock.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
