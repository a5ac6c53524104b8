//! What the API server last told us of one kind: projections by key, swapped as a whole after each list.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock, Weak};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::{Notify, watch};

use ferrolb_api::ObjectKey;
use triomphe::{Arc as SlimArc, ThinArc};

use crate::changes::{ChangeFeed, Shared};
use crate::locks::{lock, read, write};

/// All objects of one kind, each reduced to what its reader needs. Handles are cheap to clone and share one map.
///
/// When the last handle of a store made by [`crate::watch()`] goes, its watch ends.
pub struct Store<T> {
    inner: Arc<Inner<T>>,
    /// Keeps the watch running; absent in stores that are filled by hand.
    task: Option<Arc<AbortOnDrop>>,
}

/// One object: its projection, and the version that a write based on it must name.
pub struct Stored<T> {
    /// Nobody counts on weak references, which would take room in each of tens of thousands of objects.
    value: SlimArc<T>,
    /// Absent in a store whose reader never writes.
    resource_version: Option<Version>,
}

/// The text of a version; one pointer wide, as most stores keep none and all have room for one.
type Version = ThinArc<(), u8>;

impl<T> Stored<T> {
    /// The projection. Who keeps it beyond the borrow of the map clones what is stored, which shares it.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// `metadata.resourceVersion` as last seen. It moves on silently when an update changed nothing that the
    /// projection reads, so a decision made on the projection is still a decision on this version. Empty in a store that
    /// keeps none ([`crate::WatchConfig::streamed`]).
    pub fn resource_version(&self) -> &str {
        let octets = self.resource_version.as_ref().map(|version| &version.slice);
        // It was made of a text.
        octets.map_or("", |octets| str::from_utf8(octets).unwrap_or_default())
    }
}

impl<T> Deref for Stored<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Clone for Stored<T> {
    fn clone(&self) -> Self {
        Self {
            value: self.value.clone(),
            resource_version: self.resource_version.clone(),
        }
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Stored<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}@{}", self.value, self.resource_version())
    }
}

/// An object that the API server holds and that cannot be read as its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The parser's words.
    pub error: String,
    /// `metadata.uid`, for events.
    pub uid: String,
    /// `metadata.generation`, for conditions.
    pub generation: Option<i64>,
    /// `metadata.resourceVersion` as last seen.
    pub resource_version: String,
}

impl Broken {
    /// The complaint about an object with this metadata.
    pub fn new(metadata: &ObjectMeta, error: String) -> Self {
        Broken {
            error,
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: metadata.generation,
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
        }
    }

    /// Whether the same is wrong with the same state of the object, whatever became of its status.
    fn is_known_as(&self, known: &Broken) -> bool {
        self.error == known.error && self.uid == known.uid && self.generation == known.generation
    }
}

/// The map of a store at one moment.
pub type Snapshot<T> = Arc<BTreeMap<ObjectKey, Stored<T>>>;

struct Inner<T> {
    kind: String,
    state: RwLock<State<T>>,
    ready: watch::Sender<bool>,
    /// How often somebody asked for a list that begins after that moment.
    wanted: watch::Sender<u64>,
    /// Up to which of these askings a list is complete.
    listed: watch::Sender<u64>,
    connected: AtomicBool,
    feeds: Mutex<Vec<Weak<Shared>>>,
}

struct State<T> {
    map: Snapshot<T>,
    broken: BTreeMap<ObjectKey, Broken>,
}

pub(crate) struct AbortOnDrop(pub(crate) tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T> Clone for Store<T> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            task: self.task.clone(),
        }
    }
}

impl<T> Store<T> {
    /// The object under this key.
    pub fn get(&self, key: &ObjectKey) -> Option<Stored<T>> {
        read(&self.inner.state).map.get(key).cloned()
    }

    /// Reads the map in place. The watch waits meanwhile, so keep it short and never wait inside.
    pub fn with<R>(&self, look: impl FnOnce(&BTreeMap<ObjectKey, Stored<T>>) -> R) -> R {
        look(&read(&self.inner.state).map)
    }

    /// The map as it is now, to keep. Taking it copies nothing; the first change while somebody holds it copies the
    /// map (not the objects), so drop it once the decision is made.
    pub fn snapshot(&self) -> Snapshot<T> {
        read(&self.inner.state).map.clone()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        read(&self.inner.state).map.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The objects that the API server holds and we cannot parse. An object that parsed earlier keeps its last good
    /// projection until it is deleted.
    pub fn broken(&self) -> BTreeMap<ObjectKey, Broken> {
        read(&self.inner.state).broken.clone()
    }

    /// Whether the first list is complete. Nothing may be decided before: an empty store would withdraw every route.
    pub fn is_ready(&self) -> bool {
        *self.inner.ready.borrow()
    }

    /// Waits for the first complete list.
    pub async fn ready(&self) {
        let mut ready = self.inner.ready.subscribe();
        // The sender lives in `self`, so the wait cannot end with a closed channel.
        let _ = ready.wait_for(|ready| *ready).await;
    }

    /// Whether the watch stands. `false` means that what is stored may be out of date, not that it is useless.
    pub fn is_connected(&self) -> bool {
        self.inner.connected.load(Ordering::Relaxed)
    }

    /// The kind of the objects, for messages.
    pub fn kind(&self) -> &str {
        &self.inner.kind
    }

    /// Reads everything again and waits until it is there: afterwards the store is not older than the moment of this call,
    /// and goes on from there. A watch may be behind without knowing, by as long as its connection hangs.
    pub async fn relist(&self) {
        let mut asked = 0;
        self.inner.wanted.send_modify(|wanted| {
            *wanted += 1;
            asked = *wanted;
        });
        let mut listed = self.inner.listed.subscribe();
        // Fails only when the sender is gone, which is in the same Inner as this handle.
        let _ = listed.wait_for(|listed| *listed >= asked).await;
    }

    /// A feed with a wake-up of its own. It starts with "all" when the store is complete already.
    pub fn subscribe(&self) -> ChangeFeed {
        self.subscribe_with(Arc::default())
    }

    /// A feed that wakes a shared [`Notify`], for a loop over several stores.
    pub fn subscribe_with(&self, notify: Arc<Notify>) -> ChangeFeed {
        // Held across the look at `ready`, so that no change falls between it and the registration.
        let mut feeds = lock(&self.inner.feeds);
        let (shared, feed) = Shared::feed(notify, self.is_ready());
        feeds.retain(|feed| feed.strong_count() > 0);
        feeds.push(Arc::downgrade(&shared));
        feed
    }

    pub(crate) fn with_task(mut self, task: AbortOnDrop) -> Self {
        self.task = Some(Arc::new(task));
        self
    }
}

/// The writing end of a store: what a watch, or a test, reports.
pub struct StoreWriter<T> {
    inner: Arc<Inner<T>>,
    /// The list under way: complete only at [`Self::list_done`].
    listing: Option<State<T>>,
    /// Whether versions are kept.
    versions: bool,
}

/// A store that is filled through its writer. Processes use [`crate::watch()`]; tests of deciders fill one by hand.
pub fn store<T: PartialEq>(kind: impl Into<String>) -> (StoreWriter<T>, Store<T>) {
    let inner = Arc::new(Inner {
        kind: kind.into(),
        state: RwLock::new(State {
            map: Arc::default(),
            broken: BTreeMap::new(),
        }),
        ready: watch::Sender::new(false),
        wanted: watch::Sender::new(0),
        listed: watch::Sender::new(0),
        connected: AtomicBool::new(false),
        feeds: Mutex::default(),
    });
    (
        StoreWriter {
            inner: inner.clone(),
            listing: None,
            versions: true,
        },
        Store { inner, task: None },
    )
}

impl<T: PartialEq> StoreWriter<T> {
    /// For a reader that never writes: versions take a tenth of a store of small projections.
    pub fn without_versions(mut self) -> Self {
        self.versions = false;
        self
    }

    fn version(&self, text: &str) -> Option<Version> {
        self.versions
            .then(|| ThinArc::from_header_and_slice((), text.as_bytes()))
    }

    /// Tells when somebody wants a new list.
    pub(crate) fn wanted(&self) -> watch::Receiver<u64> {
        self.inner.wanted.subscribe()
    }

    /// A list is complete that began after this asking.
    pub(crate) fn answered(&self, asking: u64) {
        self.inner.listed.send_if_modified(|listed| {
            let later = asking > *listed;
            *listed = asking.max(*listed);
            later
        });
    }

    /// A list begins. What an unfinished list brought is forgotten; readers go on seeing the last complete state.
    pub fn list_begins(&mut self) {
        self.listing = Some(State {
            map: Arc::default(),
            broken: BTreeMap::new(),
        });
    }

    /// One object of the list. `None` when the projection does not want it.
    pub fn listed(&mut self, key: ObjectKey, resource_version: &str, value: Option<T>) {
        let resource_version = self.version(resource_version);
        let Some(listing) = self.listing.as_mut() else {
            return;
        };
        let Some(value) = value else { return };
        let state = read(&self.inner.state);
        let known = state.map.get_key_value(&key);
        // The old projection is kept so that a list does not hold everything twice, and the old key, which others share.
        let same = known.filter(|(_, known)| *known.value == value);
        let value = same.map_or_else(
            || SlimArc::new(value),
            |(_, known)| SlimArc::clone(&known.value),
        );
        let key = known.map_or(key, |(known, _)| known.clone());
        drop(state);
        let stored = Stored {
            value,
            resource_version,
        };
        Arc::get_mut(&mut listing.map).map(|map| map.insert(key, stored));
    }

    /// One object of the list that does not parse.
    pub fn listed_broken(&mut self, key: ObjectKey, broken: Broken) {
        let known = read(&self.inner.state).map.get(&key).cloned();
        self.report_broken(&key, &broken);
        let Some(listing) = self.listing.as_mut() else {
            return;
        };
        if let Some(known) = known {
            Arc::get_mut(&mut listing.map).map(|map| map.insert(key.clone(), known));
        }
        listing.broken.insert(key, broken);
    }

    /// The list is complete: it replaces everything, and what it does not name is reported as changed (vanished).
    pub fn list_done(&mut self) {
        let Some(mut listing) = self.listing.take() else {
            return;
        };
        // A list comes in the order of its keys, which leaves half of the map empty.
        if let Some(map) = Arc::get_mut(&mut listing.map) {
            *map = std::mem::take(map).into_iter().collect();
        }
        let mut state = write(&self.inner.state);
        let changed = differing(&state, &listing);
        *state = listing;
        drop(state);
        // A feed made meanwhile either sees `ready` and starts with "all", or is in the list that is told below.
        let feeds = lock(&self.inner.feeds);
        let first = !self.inner.ready.send_replace(true);
        for feed in feeds.iter().filter_map(Weak::upgrade) {
            if first {
                feed.all();
            } else if !changed.is_empty() {
                feed.keys(&changed);
            }
        }
    }

    /// One object was added or changed.
    pub fn applied(&mut self, key: ObjectKey, resource_version: &str, value: Option<T>) {
        let Some(value) = value else {
            // The projection does not want it (any more): to its readers it is gone.
            return self.deleted(&key);
        };
        let resource_version = self.version(resource_version);
        let mut state = write(&self.inner.state);
        let mended = state.broken.remove(&key).is_some();
        let map = Arc::make_mut(&mut state.map);
        let changed = match map.get_mut(&key) {
            Some(known) if *known.value == value => {
                known.resource_version = resource_version;
                false
            }
            _ => {
                map.insert(
                    key.clone(),
                    Stored {
                        value: SlimArc::new(value),
                        resource_version,
                    },
                );
                true
            }
        };
        drop(state);
        if changed || mended {
            self.tell(&key);
        }
    }

    /// One object was changed into something that does not parse.
    pub fn applied_broken(&mut self, key: ObjectKey, broken: Broken) {
        let new = self.report_broken(&key, &broken);
        write(&self.inner.state).broken.insert(key.clone(), broken);
        if new {
            self.tell(&key);
        }
    }

    /// One object is gone.
    pub fn deleted(&mut self, key: &ObjectKey) {
        let mut state = write(&self.inner.state);
        let mended = state.broken.remove(key).is_some();
        let known =
            state.map.contains_key(key) && Arc::make_mut(&mut state.map).remove(key).is_some();
        drop(state);
        if known || mended {
            self.tell(key);
        }
    }

    pub(crate) fn connected(&self, connected: bool) {
        self.inner.connected.store(connected, Ordering::Relaxed);
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.inner.connected.load(Ordering::Relaxed)
    }

    /// Logs a parse failure once for each state of the object; whether it was new.
    fn report_broken(&self, key: &ObjectKey, broken: &Broken) -> bool {
        let known = read(&self.inner.state)
            .broken
            .get(key)
            .is_some_and(|known| broken.is_known_as(known));
        if !known {
            tracing::warn!(kind = %self.inner.kind, object = %key, error = broken.error, "an object does not parse and is set aside");
        }
        !known
    }

    fn tell(&self, key: &ObjectKey) {
        for feed in lock(&self.inner.feeds).iter().filter_map(Weak::upgrade) {
            feed.keys([key]);
        }
    }
}

/// The keys whose projection or parse failure differs between two states.
fn differing<T: PartialEq>(old: &State<T>, new: &State<T>) -> BTreeSet<ObjectKey> {
    let mut keys = BTreeSet::new();
    for (key, stored) in new.map.iter() {
        // Unchanged objects share their Arc (see `listed`), which makes this a comparison of pointers.
        if !old
            .map
            .get(key)
            .is_some_and(|known| SlimArc::ptr_eq(&known.value, &stored.value))
        {
            keys.insert(key.clone());
        }
    }
    keys.extend(
        old.map
            .keys()
            .filter(|key| !new.map.contains_key(key))
            .cloned(),
    );
    keys.extend(
        new.broken
            .iter()
            .filter(|(key, broken)| {
                old.broken
                    .get(*key)
                    .is_none_or(|known| !broken.is_known_as(known))
            })
            .map(|(key, _)| key.clone()),
    );
    keys.extend(
        old.broken
            .keys()
            .filter(|key| !new.broken.contains_key(key))
            .cloned(),
    );
    keys
}

#[cfg(test)]
mod tests;
