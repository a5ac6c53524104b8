//! Routes on their way from the loop that decides to the task of one peer.

use ferrolb_bgp::Attributes;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// What changed and was not taken in yet; of a prefix that changes twice only the last. So it never holds more than there
/// are prefixes.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    changed: Mutex<BTreeMap<IpNet, Option<Attributes>>>,
    notify: Notify,
}

impl Inbox {
    /// Leaves changes for the task.
    pub(super) fn put(&self, changes: impl IntoIterator<Item = (IpNet, Option<Attributes>)>) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        changed.extend(changes);
        if !changed.is_empty() {
            self.notify.notify_one();
        }
    }

    /// Takes what changed, without waiting.
    pub(super) fn take(&self) -> BTreeMap<IpNet, Option<Attributes>> {
        std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until there is something. Safe to drop and call again: nothing is lost.
    pub(super) async fn filled(&self) {
        self.notify.notified().await;
    }
}
