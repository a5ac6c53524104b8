//! Objects that each say something of one Service and of this node: what they have in common, whatever they say.

mod keep;
mod object;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferrolb_api::ObjectKey;
use ferrolb_cluster::Client;
use k8s_openapi::NamespaceResourceScope;
use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::project::NodeSets;
use crate::status::Reporter;
use keep::Keeper;
pub(super) use object::About;
use object::Wanted;
#[cfg(test)]
pub(super) use object::testing;

/// Writes under way at once, of each kind and speaker: when a node is lost the others take over thousands of Services together.
pub const WRITES_AT_ONCE: usize = 8;

/// A kind of objects, each of which says something of one Service and of this node.
pub(super) trait Kind: 'static {
    /// The object.
    type Object: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Default
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static;
    /// What one says beside of which Service and node it is.
    type Says: Clone + Debug + PartialEq + Send + Sync + 'static;

    /// How its name begins; a number follows.
    const PREFIX: &'static str;
    /// What the log calls the creation of one.
    const CREATED: &'static str;

    /// The number in the name of the object about a Service.
    fn id_of(service: &ObjectKey, node: &str) -> u64;

    /// What an object says, and of what. Texts that many objects have in common are held once, in `sets`.
    fn read<'a>(object: &'a Self::Object, sets: &NodeSets) -> (About<'a>, Self::Says);

    /// The fields of a status that say it; null where there is nothing to say, so that a merge patch takes away what was said.
    fn fields(says: &Self::Says) -> Vec<(&'static str, Value)>;
}

/// Tells what the objects of a kind shall say. Telling never waits, and the newest counts.
pub(super) struct Statuses<K: Kind>(Arc<Shared<K>>);

impl<K: Kind> Clone for Statuses<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Shared<K: Kind> {
    reporter: Reporter,
    told: Mutex<Told<K::Says>>,
    notify: Arc<Notify>,
    sets: NodeSets,
}

/// What shall be there.
struct Told<S> {
    /// By the number in the object's name.
    wanted: BTreeMap<u64, Wanted<S>>,
    /// Of which something else is wanted than before, since somebody looked.
    changed: BTreeSet<u64>,
    /// Whether it was told of every Service.
    complete: bool,
    /// Whether that is news.
    completed: bool,
}

impl<K: Kind> Statuses<K> {
    /// Starts to keep the objects in a task of its own until `shutdown`. They stay then: the owner's end takes them away, or
    /// whoever writes next.
    pub(super) fn start(client: &Client, reporter: Reporter, shutdown: CancellationToken) -> Self {
        let shared = Arc::new(Shared {
            reporter,
            told: Mutex::new(Told {
                wanted: BTreeMap::new(),
                changed: BTreeSet::new(),
                complete: false,
                completed: false,
            }),
            notify: Arc::new(Notify::new()),
            sets: NodeSets::default(),
        });
        let keeper = Keeper::new(client, Arc::clone(&shared));
        tokio::spawn(shutdown.run_until_cancelled_owned(keeper.run()));
        Statuses(shared)
    }

    /// The sets of texts that objects have in common.
    pub(super) fn sets(&self) -> &NodeSets {
        &self.0.sets
    }

    /// Has the object about a Service say something else: `change` makes it of what it shall say now, `None` being that there
    /// shall be no object.
    pub(super) fn change(
        &self,
        service: &ObjectKey,
        change: impl FnOnce(Option<&K::Says>) -> Option<K::Says>,
    ) {
        let id = K::id_of(service, &self.0.reporter.node);
        let mut told = self.0.told();
        let known = told.wanted.get(&id).map(|wanted| &wanted.says);
        let says = change(known);
        if known == says.as_ref() {
            return;
        }
        match says {
            Some(says) => {
                let service = service.clone();
                told.wanted.insert(id, Wanted { service, says });
            }
            None => drop(told.wanted.remove(&id)),
        }
        told.changed.insert(id);
        drop(told);
        self.0.notify.notify_one();
    }

    /// Lays what is wanted out anew, in less room.
    pub(super) fn repack(&self) {
        let mut told = self.0.told();
        told.wanted = std::mem::take(&mut told.wanted).into_iter().collect();
    }

    /// From now on there is nothing to say of a Service of which nothing was told. Until then objects that are there stay: a
    /// speaker that starts does not know yet what it goes on with.
    pub(super) fn complete(&self) {
        let mut told = self.0.told();
        if !told.complete {
            (told.complete, told.completed) = (true, true);
            drop(told);
            self.0.notify.notify_one();
        }
    }
}

impl<K: Kind> Shared<K> {
    fn told(&self) -> MutexGuard<'_, Told<K::Says>> {
        // Nothing panics while it holds the lock.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
