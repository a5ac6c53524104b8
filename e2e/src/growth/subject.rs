//! The allocator under measurement. Nothing else here calls it.

use std::collections::BTreeMap;

use ferrolb_allocation::{Allocator, Namespaces, Service};
use ferrolb_cluster::ObjectKey;
use ferrolb_rules::Pool;

pub struct Subject {
    allocator: Allocator,
    namespaces: Namespaces,
}

impl Subject {
    pub fn new(pools: impl IntoIterator<Item = Pool>) -> Self {
        let mut allocator = Allocator::default();
        allocator.set_pools(pools);
        Self {
            allocator,
            namespaces: Namespaces::new(),
        }
    }

    /// Decides about one Service; whether it is served.
    pub fn decide(&mut self, service: &Service) -> bool {
        let outcome = self.allocator.reconcile(service, &self.namespaces);
        outcome.unserved.is_none()
    }

    /// A Service is gone.
    pub fn forget(&mut self, key: &ObjectKey) {
        self.allocator.forget(key);
    }

    /// Decides again about whoever may be served now, as the operator does after each change; returns who was.
    pub fn serve_waiting(&mut self, services: &BTreeMap<ObjectKey, Service>) -> Vec<ObjectKey> {
        let mut served = Vec::new();
        loop {
            let waiting = self.allocator.to_retry();
            if waiting.is_empty() {
                return served;
            }
            for key in waiting {
                if services.get(&key).is_some_and(|s| self.decide(s)) {
                    served.push(key);
                }
            }
        }
    }
}
