//! How long does one decision take? 10,000 Services and 50 pools, as the issue of the target (2 ms) has them.
//!
//! Each benchmark leaves the allocator as it found it, so that the ten-thousandth round measures what the first did.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hint::black_box;

use criterion::Criterion;
use ferrolb_allocation::{
    Allocator, Families, Namespace, Outcome, Policy, Port, Protocol, Requested, Service,
};
use ferrolb_api::ObjectKey;
use ferrolb_rules::{Family, Labels, Pool, Selector, ServiceAllocation};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

const SERVICES: usize = 10_000;
const TEAMS: usize = 20;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    of_a_mix(&mut criterion);
    where_almost_all_pools_are_full(&mut criterion);
    of_a_freed_address(&mut criterion);
    criterion.final_summary();
}

/// A pool of every sort, and Services of every sort.
fn of_a_mix(criterion: &mut Criterion) {
    let mut subject = Subject::new(mixed_pools());
    let mut served = 0;
    for number in 0..SERVICES {
        let service = mixed_service(number);
        let outcome = subject.decide(&service);
        served += usize::from(!outcome.addresses.is_empty());
        subject.settle(service, outcome);
    }
    assert_eq!(
        served, SERVICES,
        "every Service of the mix finds an address"
    );
    let mut group = criterion.benchmark_group("decision");
    let mut number = SERVICES;
    group.bench_function("a new Service and its deletion", |bencher| {
        bencher.iter(|| {
            number = SERVICES + (number + 1) % 100;
            let service = mixed_service(number);
            black_box(subject.decide(&service));
            subject.forget(&service.key);
        });
    });
    let settled: Vec<_> = subject.services.values().cloned().collect();
    group.bench_function("a Service that has its address", |bencher| {
        bencher.iter(|| {
            number = (number + 1) % settled.len();
            black_box(subject.decide(&settled[number]));
        });
    });
}

/// Every pool is tried and the last one has room; each entry of the full ones is an address by itself.
fn where_almost_all_pools_are_full(criterion: &mut Criterion) {
    const PER_POOL: usize = SERVICES / 49;
    let full = (0..49).map(|index| {
        let singles = (0..PER_POOL).map(|number| single(20, index * 1_000 + number * 2));
        pool(&format!("full-{index:02}"), singles)
    });
    let last = pool("with-room", ["10.30.0.0/16".to_owned()]);
    let mut subject = Subject::new(full.chain([last]).collect());
    for number in 0..49 * PER_POOL {
        let service = service("shop", &format!("web-{number}"), number);
        let outcome = subject.decide(&service);
        assert!(outcome.pool.as_deref() != Some("with-room"), "{outcome:?}");
        subject.settle(service, outcome);
    }
    let new = service("shop", "new", SERVICES);
    assert_eq!(subject.decide(&new).pool.as_deref(), Some("with-room"));
    subject.forget(&new.key);
    let mut group = criterion.benchmark_group("decision");
    group.bench_function("the same, 49 of 50 pools full", |bencher| {
        bencher.iter(|| {
            black_box(subject.decide(&new));
            subject.forget(&new.key);
        });
    });
}

/// No pool has room. One Service goes, the oldest of those that wait gets its address, and a new one begins to wait.
fn of_a_freed_address(criterion: &mut Criterion) {
    let pools = (0..50)
        .map(|index| pool(&format!("pool-{index:02}"), [format!("10.40.{index}.0/29")]))
        .collect();
    let mut subject = Subject::new(pools);
    let mut holders = VecDeque::new();
    let mut waiting = VecDeque::new();
    for number in 0..50 * 8 + SERVICES {
        let service = service("shop", &format!("web-{number}"), number);
        let outcome = subject.decide(&service);
        if !outcome.addresses.is_empty() {
            holders.push_back(service.key.clone());
        } else {
            waiting.push_back(service.key.clone());
        }
        subject.settle(service, outcome);
    }
    assert_eq!(waiting.len(), SERVICES);
    subject.serve_waiting();
    let mut number = 50 * 8 + SERVICES;
    let mut group = criterion.benchmark_group("decision");
    group.bench_function("a freed address, 10000 waiting", |bencher| {
        bencher.iter(|| {
            let gone = holders.pop_front().unwrap();
            subject.forget(&gone);
            let heir = waiting.pop_front().unwrap();
            assert_eq!(subject.serve_waiting(), std::slice::from_ref(&heir));
            holders.push_back(heir);
            let new = service("shop", &format!("web-{number}"), number);
            number += 1;
            let outcome = subject.decide(&new);
            waiting.push_back(new.key.clone());
            subject.settle(new, outcome);
        });
    });
}

/// The allocator, and what the operator knows beside it. Nothing else here calls the allocator.
struct Subject {
    allocator: Allocator,
    /// As the API server has them: with the addresses that were decided.
    services: BTreeMap<ObjectKey, Service>,
}

impl Subject {
    fn new(pools: Vec<Pool>) -> Self {
        assert_eq!(pools.len(), 50);
        let mut allocator = Allocator::default();
        allocator.set_pools(pools);
        let namespace = |team: usize| Namespace {
            labels: labels("tier", team % 5),
            ..Namespace::default()
        };
        let namespaces = (0..TEAMS).map(|team| (format!("team-{team}"), namespace(team)));
        allocator.set_namespaces(namespaces.collect());
        Self {
            allocator,
            services: BTreeMap::new(),
        }
    }

    fn decide(&mut self, service: &Service) -> Outcome {
        // A status that was written is another version of the object.
        let version = if service.current.is_empty() { "1" } else { "2" };
        self.allocator.reconcile(service, version)
    }

    /// The status says what was decided, as it does after the operator's write.
    fn settle(&mut self, mut service: Service, outcome: Outcome) {
        service.current = outcome.addresses;
        service.recorded_pool = outcome.pool;
        self.services.insert(service.key.clone(), service);
    }

    fn forget(&mut self, key: &ObjectKey) {
        self.allocator.forget(key);
        self.services.remove(key);
    }

    /// Decides again about whoever may be served now; returns who was.
    fn serve_waiting(&mut self) -> Vec<ObjectKey> {
        let mut served = Vec::new();
        while let Some(key) = self.allocator.next_to_retry() {
            let service = self.services[&key].clone();
            let outcome = self.decide(&service);
            if !outcome.addresses.is_empty() {
                served.push(key);
                self.settle(service, outcome);
            }
        }
        served
    }
}

/// 50 pools: 10,000 single addresses, a /8, a /48, dual stack, by priority, by namespace, by labels.
fn mixed_pools() -> Vec<Pool> {
    let singles = (0..10_000).map(|number| single(16, number * 2));
    let mut pools = vec![
        pool("singles", singles),
        pool("wide-v4", ["11.0.0.0/8".to_owned()]),
        pool("wide-v6", ["fd00:1::/48".to_owned()]),
    ];
    for index in 0..12 {
        let ranges = [
            format!("100.64.{index}.0/24"),
            format!("fd00:2:{index}::/64"),
        ];
        pools.push(pool(&format!("dual-{index:02}"), ranges));
    }
    for index in 0..10 {
        let allocation = ServiceAllocation {
            priority: i32::try_from(index % 4).unwrap(),
            namespaces: BTreeSet::from([format!("team-{index}")]),
            ..ServiceAllocation::default()
        };
        pools.push(pinned("namespace", index, 4, allocation));
    }
    for index in 0..5 {
        let allocation = ServiceAllocation {
            priority: 50,
            namespace_selectors: vec![selector("tier", index)],
            ..ServiceAllocation::default()
        };
        pools.push(pinned("tier", index, 5, allocation));
    }
    for index in 0..20 {
        let allocation = ServiceAllocation {
            priority: i32::try_from(index).unwrap(),
            service_selectors: vec![selector("app", index)],
            ..ServiceAllocation::default()
        };
        pools.push(pinned("app", index, 6, allocation));
    }
    pools
}

/// The `number`th of a mix: both families, two policies, namespaces and labels that some pools select, shared addresses.
fn mixed_service(number: usize) -> Service {
    let mut service = service(
        &format!("team-{}", number % TEAMS),
        &format!("web-{number}"),
        number,
    );
    service.labels = Labels::from(&labels("app", number % 40));
    (service.families, service.policy) = match number % 10 {
        0 => (Families::Single(Family::V6), Policy::SingleStack),
        1 => (Families::Dual, Policy::RequireDualStack),
        2 => (Families::Dual, Policy::PreferDualStack),
        _ => (Families::Single(Family::V4), Policy::SingleStack),
    };
    if number % 10 == 3 {
        // Five Services on one address, each with a port of its own.
        service.sharing_key = format!("key-{}", number / 50);
        service.ports = BTreeSet::from([Port {
            protocol: Protocol::Tcp,
            number: u16::try_from(8000 + number % 1000).unwrap(),
        }]);
    }
    service
}

fn service(namespace: &str, name: &str, number: usize) -> Service {
    Service {
        key: ObjectKey::new(namespace, name),
        created: i64::try_from(number).unwrap(),
        labels: Labels::default(),
        families: Families::Single(Family::V4),
        policy: Policy::SingleStack,
        primary: Family::V4,
        requested: Requested::Nothing,
        requested_pool: None,
        sharing_key: String::new(),
        backend_key: String::new(),
        ports: BTreeSet::from([Port {
            protocol: Protocol::Tcp,
            number: 80,
        }]),
        current: Vec::new(),
        told: None,
        recorded_pool: None,
    }
}

fn pool(name: &str, ranges: impl IntoIterator<Item = String>) -> Pool {
    let ranges = ranges.into_iter().map(|range| range.parse().unwrap());
    Pool::new(name, ranges.collect())
}

/// A pool of both families for some Services only.
fn pinned(sort: &str, index: usize, net: usize, allocation: ServiceAllocation) -> Pool {
    let ranges = [
        format!("100.{}.{index}.0/24", 64 + net),
        format!("fd00:{net}:{index}::/64"),
    ];
    Pool {
        service_allocation: Some(allocation),
        ..pool(&format!("{sort}-{index:02}"), ranges)
    }
}

/// The `number`th address of 172.`net`.0.0 and what follows, as an entry of its own.
fn single(net: usize, number: usize) -> String {
    let (high, low) = (number / 256, number % 256);
    format!("172.{}.{}.{low}/32", net + high / 256, high % 256)
}

fn labels(key: &str, value: usize) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_string())])
}

fn selector(key: &str, value: usize) -> Selector {
    Selector::parse(&LabelSelector {
        match_labels: Some(labels(key, value)),
        ..LabelSelector::default()
    })
    .unwrap()
}
