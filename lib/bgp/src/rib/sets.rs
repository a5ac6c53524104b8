//! Attribute sets, each held once: thousands of routes mostly have a handful of different ones.

use super::attributes::Attributes;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The attribute sets in use.
#[derive(Debug, Default)]
pub(super) struct Sets(BTreeSet<Arc<Attributes>>);

impl Sets {
    /// The shared form of `attributes`.
    pub(super) fn share(&mut self, attributes: &Attributes) -> Arc<Attributes> {
        if let Some(known) = self.0.get(attributes) {
            return Arc::clone(known);
        }
        let shared = Arc::new(attributes.clone());
        self.0.insert(Arc::clone(&shared));
        shared
    }

    /// Takes back what a route does not need any more; forgets the set with its last user.
    pub(super) fn give_back(&mut self, attributes: Option<Arc<Attributes>>) {
        // One count is ours and one the caller's.
        if let Some(attributes) = attributes.filter(|shared| Arc::strong_count(shared) <= 2) {
            self.0.remove(&attributes);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
