//! The allocator under measurement. Nothing else here calls it.

use std::collections::BTreeMap;

use ferrolb_allocation::{Allocator, Service};
use ferrolb_cluster::ObjectKey;
use ferrolb_rules::Pool;

pub struct Subject {
    allocator: Allocator,
}

impl Subject {
    pub fn new(pools: impl IntoIterator<Item = Pool>) -> Self {
        let mut allocator = Allocator::default();
        allocator.set_pools(pools);
        Self { allocator }
    }

    /// Decides about one Service; whether it is served.
    pub fn decide(&mut self, service: &Service) -> bool {
        // A status that was written is another version of the object.
        let version = if service.current.is_empty() { "1" } else { "2" };
        !self
            .allocator
            .reconcile(service, version)
            .addresses
            .is_empty()
    }

    /// A Service is gone.
    pub fn forget(&mut self, key: &ObjectKey) {
        self.allocator.forget(key);
    }

    /// Decides again about whoever may be served now, as the operator does after each change; returns who was.
    pub fn serve_waiting(&mut self, services: &BTreeMap<ObjectKey, Service>) -> Vec<ObjectKey> {
        let mut served = Vec::new();
        while let Some(key) = self.allocator.next_to_retry() {
            if services.get(&key).is_some_and(|s| self.decide(s)) {
                served.push(key);
            }
        }
        served
    }
}
