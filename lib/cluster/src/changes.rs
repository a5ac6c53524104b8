//! Which objects changed since a consumer last looked.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use ferrolb_api::ObjectKey;

use crate::locks::lock;

/// Above this many keys a feed says "all": a consumer that far behind looks at everything anyway.
const KEYS_AT_MOST: usize = 20_000;

/// What changed: named objects, or everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The store became complete for the first time, or too many keys piled up: look at every object.
    pub all: bool,
    /// Objects that appeared, changed or vanished. Empty when `all` is set.
    pub keys: BTreeSet<ObjectKey>,
}

impl Changes {
    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        !self.all && self.keys.is_empty()
    }

    /// Whether this object may have changed.
    pub fn touches(&self, key: &ObjectKey) -> bool {
        self.all || self.keys.contains(key)
    }

    fn add(&mut self, key: &ObjectKey) {
        if self.all || self.keys.contains(key) {
            return;
        }
        self.keys.insert(key.clone());
        if self.keys.len() > KEYS_AT_MOST {
            self.add_all();
        }
    }

    fn add_all(&mut self) {
        self.all = true;
        self.keys.clear();
    }
}

/// One consumer's view of what changed in one store: a coalesced set, never a queue.
///
/// Several feeds may share one [`Notify`] (see [`crate::Store::subscribe_with`]), so that a loop over many stores has
/// one thing to wait for and then takes from each.
#[derive(Debug)]
pub struct ChangeFeed {
    shared: Arc<Shared>,
}

impl ChangeFeed {
    /// What changed since the last call, without waiting.
    pub fn take(&self) -> Changes {
        std::mem::take(&mut *lock(&self.shared.pending))
    }

    /// Waits until something changed. Safe to drop and call again: nothing is lost.
    pub async fn next(&self) -> Changes {
        loop {
            let changes = self.take();
            if !changes.is_empty() {
                return changes;
            }
            self.shared.notify.notified().await;
        }
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pending: Mutex<Changes>,
    notify: Arc<Notify>,
}

impl Shared {
    pub(crate) fn feed(notify: Arc<Notify>, all: bool) -> (Arc<Self>, ChangeFeed) {
        let shared = Arc::new(Self {
            pending: Mutex::new(Changes {
                all,
                keys: BTreeSet::new(),
            }),
            notify,
        });
        if all {
            shared.notify.notify_one();
        }
        (shared.clone(), ChangeFeed { shared })
    }

    pub(crate) fn all(&self) {
        lock(&self.pending).add_all();
        self.notify.notify_one();
    }

    pub(crate) fn keys<'a>(&self, keys: impl IntoIterator<Item = &'a ObjectKey>) {
        {
            let mut pending = lock(&self.pending);
            for key in keys {
                pending.add(key);
            }
        }
        self.notify.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> ObjectKey {
        ObjectKey::new("default", &format!("svc-{n}"))
    }

    #[test]
    fn a_feed_that_nobody_reads_collapses_into_all_and_stays_small() {
        let (shared, feed) = Shared::feed(Arc::default(), false);
        for n in 0..=KEYS_AT_MOST {
            shared.keys([&key(n)]);
        }
        let changes = feed.take();
        assert!(changes.all && changes.keys.is_empty());
        assert!(feed.take().is_empty());
    }

    #[tokio::test]
    async fn the_same_key_many_times_is_one_change() {
        let (shared, feed) = Shared::feed(Arc::default(), false);
        for _ in 0..10 {
            shared.keys([&key(1)]);
        }
        assert_eq!(feed.next().await.keys.len(), 1);
        assert!(feed.take().is_empty());
    }
}
