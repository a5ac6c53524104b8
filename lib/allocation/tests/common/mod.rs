//! Builders that the tests of this crate share.
#![allow(dead_code)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use ferrolb_allocation::{
    Allocator, EventKind, Families, Policy, Port, Protocol, Requested, Service,
};
use ferrolb_api::ObjectKey;
use ferrolb_rules::{Family, Labels, Pool};

pub fn pool(name: &str, ranges: &[&str]) -> Pool {
    Pool::new(
        name,
        ranges.iter().map(|range| range.parse().unwrap()).collect(),
    )
}

pub fn service(name: &str) -> Service {
    service_in("default", name)
}

pub fn service_in(namespace: &str, name: &str) -> Service {
    Service {
        key: ObjectKey::new(namespace, name),
        created: 0,
        labels: Labels::default(),
        families: Families::Single(Family::V4),
        policy: Policy::SingleStack,
        primary: Family::V4,
        requested: Requested::Nothing,
        requested_pool: None,
        sharing_key: String::new(),
        backend_key: String::new(),
        ports: ports(80),
        current: Vec::new(),
        told: None,
        recorded_pool: None,
    }
}

pub fn ports(number: u16) -> BTreeSet<Port> {
    BTreeSet::from([Port {
        protocol: Protocol::Tcp,
        number,
    }])
}

pub fn dual(name: &str, policy: Policy) -> Service {
    Service {
        families: Families::Dual,
        policy,
        ..service(name)
    }
}

pub fn wants(name: &str, addresses: &str) -> Service {
    Service {
        requested: Requested::parse(Some(addresses), None),
        ..service(name)
    }
}

pub fn recorded(name: &str, created: i64, addresses: &[&str]) -> Service {
    Service {
        created,
        current: ips(addresses),
        ..service(name)
    }
}

pub fn shares(name: &str, key: &str, number: u16) -> Service {
    Service {
        sharing_key: key.into(),
        ports: ports(number),
        ..service(name)
    }
}

pub fn allocator(pools: Vec<Pool>) -> Allocator {
    let mut allocator = Allocator::default();
    allocator.set_pools(pools);
    allocator
}

pub fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A version that no object had before.
pub fn version() -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed).to_string()
}

/// Reconciles and, as the operator does, lets the status say what was decided, and looks at that.
pub fn settle(allocator: &mut Allocator, service: &mut Service) -> Vec<(EventKind, String)> {
    let mut said = Vec::new();
    for _ in 0..3 {
        let outcome = allocator.reconcile(service, &version());
        let events = outcome.events.into_iter();
        said.extend(events.map(|event| (event.kind, event.message)));
        service.recorded_pool = outcome.pool;
        if outcome.addresses == service.current {
            return said;
        }
        service.current = outcome.addresses;
    }
    panic!("{} comes to no rest: {said:?}", service.key);
}

/// Everybody who may have something to gain.
pub fn to_retry(allocator: &mut Allocator) -> Vec<ObjectKey> {
    let mut keys: Vec<ObjectKey> = std::iter::from_fn(|| allocator.next_to_retry()).collect();
    // Nobody is reconciled meanwhile, so that whoever stands in several queues is named by each.
    keys.dedup();
    keys
}
