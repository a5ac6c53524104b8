//! Random histories: nobody's address is given to another, and nothing moves without a cause.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferrolb_allocation::{
    Allocator, Families, Namespaces, Policy, Port, Protocol, Requested, Service,
};
use ferrolb_api::ObjectKey;
use ferrolb_rules::{Family, Labels, Pool};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    /// A Service appears, or its spec is edited.
    Put {
        name: u8,
        dual: bool,
        wants: Option<u8>,
    },
    /// A Service is deleted.
    Delete(u8),
    /// The operator restarts: everything but the statuses is forgotten.
    Restart,
    /// The pool is resized.
    Resize(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..12, any::<bool>(), prop::option::weighted(0.2, 0u8..10)).prop_map(|(name, dual, wants)| Step::Put { name, dual, wants }),
        3 => (0u8..12).prop_map(Step::Delete),
        1 => Just(Step::Restart),
        1 => (2u8..10).prop_map(Step::Resize),
    ]
}

fn pool(size: u8) -> Pool {
    Pool {
        name: "p".into(),
        labels: BTreeMap::new(),
        ranges: vec![
            format!("10.0.0.0-10.0.0.{}", size - 1).parse().unwrap(),
            "fd00::/120".parse().unwrap(),
        ],
        auto_assign: true,
        avoid_buggy_ips: false,
        service_allocation: None,
    }
}

fn service(name: u8, dual: bool, wants: Option<u8>) -> Service {
    Service {
        key: ObjectKey::new("default", &format!("s{name}")),
        created: i64::from(name),
        labels: Labels::default(),
        families: if dual {
            Families::Dual
        } else {
            Families::Single(Family::V4)
        },
        policy: if dual {
            Policy::RequireDualStack
        } else {
            Policy::SingleStack
        },
        primary: Family::V4,
        requested: match wants {
            Some(last) if !dual => Requested::Addresses(vec![IpAddr::from([10, 0, 0, last])]),
            _ => Requested::Nothing,
        },
        requested_pool: None,
        sharing_key: String::new(),
        backend_key: String::new(),
        ports: BTreeSet::from([Port {
            protocol: Protocol::Tcp,
            number: 80,
        }]),
        current: Vec::new(),
        recorded_pool: None,
    }
}

/// Reconciles one Service and everything that its change set free, as the operator does. Returns who was touched.
fn reconcile(allocator: &mut Allocator, services: &mut BTreeMap<u8, Service>, name: u8) {
    let mut todo = vec![name];
    for _ in 0..4 {
        for name in std::mem::take(&mut todo) {
            if let Some(service) = services.get_mut(&name) {
                let outcome = allocator.reconcile(service, &Namespaces::new());
                service.current = outcome.addresses;
            }
        }
        todo = allocator
            .to_retry()
            .iter()
            .map(|key| key.name()[1..].parse().unwrap())
            .collect();
        if todo.is_empty() {
            return;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_address_twice_and_none_changes_without_a_cause(steps in prop::collection::vec(step(), 1..80)) {
        let mut allocator = Allocator::default();
        let mut size = 6;
        allocator.set_pools([pool(size)]);
        let mut services: BTreeMap<u8, Service> = BTreeMap::new();
        for step in steps {
            let before = services.clone();
            let mut edited = None;
            match step {
                Step::Put { name, dual, wants } => {
                    let current = services.get(&name).map(|service| service.current.clone()).unwrap_or_default();
                    services.insert(name, Service { current, ..service(name, dual, wants) });
                    edited = Some(name);
                    reconcile(&mut allocator, &mut services, name);
                }
                Step::Delete(name) => {
                    if let Some(gone) = services.remove(&name) {
                        allocator.forget(&gone.key);
                        reconcile(&mut allocator, &mut services, name);
                    }
                }
                Step::Restart => {
                    allocator = Allocator::default();
                    allocator.set_pools([pool(size)]);
                    for service in services.values() {
                        prop_assert!(service.current.is_empty() || allocator.claim(service, &Namespaces::new()));
                    }
                    for name in services.keys().copied().collect::<Vec<_>>() {
                        reconcile(&mut allocator, &mut services, name);
                    }
                }
                Step::Resize(to) => {
                    size = to;
                    allocator.set_pools([pool(size)]);
                    for name in services.keys().copied().collect::<Vec<_>>() {
                        reconcile(&mut allocator, &mut services, name);
                    }
                }
            }
            let mut seen = BTreeSet::new();
            for service in services.values() {
                for address in &service.current {
                    prop_assert!(seen.insert(*address), "{address} has two holders");
                }
            }
            // Whoever was not edited and whose address is still in the pool keeps it.
            let inside = |address: &IpAddr| address.is_ipv6() || matches!(address, IpAddr::V4(v4) if v4.octets()[3] < size);
            for (name, was) in before.iter().filter(|(name, _)| Some(**name) != edited) {
                if let Some(is) = services.get(name)
                    && !was.current.is_empty()
                    && was.current.iter().all(inside)
                {
                    prop_assert_eq!(&is.current, &was.current, "{} moved without a cause", is.key);
                }
            }
            // Everyone who can be served is: if a plain IPv4 Service waits, every IPv4 address has a holder.
            let waits = services.values().any(|s| s.current.is_empty() && s.requested == Requested::Nothing);
            if waits {
                prop_assert_eq!(seen.iter().filter(|address| address.is_ipv4()).count(), usize::from(size));
            }
            prop_assert_eq!(allocator.counters("p").unwrap().assigned_v4, seen.iter().filter(|a| a.is_ipv4()).count() as i64);
        }
    }
}
