//! Who is woken by what: nobody who could be served sleeps, whoever stands before it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::*;
use ferrolb_allocation::{Allocator, Families, Limit, Namespace, Policy, Requested, Service};
use ferrolb_api::ObjectKey;
use ferrolb_rules::{Family, Pool, ServiceAllocation};

/// Does what the operator does after each change: asks until nobody is named, and lets the statuses follow.
fn drain(allocator: &mut Allocator, services: &mut [&mut Service]) -> Vec<ObjectKey> {
    let mut woken = Vec::new();
    while let Some(key) = allocator.next_to_retry() {
        woken.push(key.clone());
        if let Some(service) = services.iter_mut().find(|service| service.key == key) {
            settle(allocator, service);
        }
    }
    woken
}

fn in_pool(pool: &str, service: Service) -> Service {
    Service {
        requested_pool: Some(pool.into()),
        ..service
    }
}

fn six(service: Service) -> Service {
    Service {
        families: Families::Single(Family::V6),
        primary: Family::V6,
        ..service
    }
}

fn at(limit: u32) -> Option<Namespace> {
    Some(Namespace {
        limit: Limit::At(limit),
        ..Namespace::default()
    })
}

/// A 409 of a second write for one version says nothing of the first, whose answer was lost: it may be the very reason.
#[test]
fn a_conflict_is_no_proof_that_an_earlier_write_for_the_same_version_failed() {
    let mut allocator = allocator(vec![
        pool("p", &["10.0.0.1/32"]),
        pool("q", &["10.0.1.1/32"]),
    ]);
    let a = service("a");
    assert_eq!(allocator.reconcile(&a, "1").addresses, ips(&["10.0.0.1"]));
    allocator.sent(&a.key, "1", &ips(&["10.0.0.1"]));
    // The API server takes it: from now on the status of a at version 2 says 10.0.0.1. The answer is lost, and the watch is late.
    let closed = Pool {
        service_allocation: Some(ServiceAllocation {
            namespaces: ["other".to_owned()].into(),
            ..ServiceAllocation::default()
        }),
        ..pool("p", &["10.0.0.1/32"])
    };
    allocator.set_pools([closed, pool("q", &["10.0.1.1/32"])]);
    assert_eq!(allocator.reconcile(&a, "1").addresses, ips(&["10.0.1.1"]));
    let b = Service {
        requested: Requested::parse(Some("10.0.0.1"), None),
        ..service_in("other", "b")
    };
    assert!(
        allocator.reconcile(&b, "1").addresses.is_empty(),
        "kept for a's first write"
    );
    allocator.sent(&a.key, "1", &ips(&["10.0.1.1"]));
    // 409: the object is at version 2, because of the first write.
    while let Some(key) = allocator.next_to_retry() {
        let service = if key == a.key { &a } else { &b };
        allocator.reconcile(service, "1");
    }
    assert!(
        allocator.addresses_of(&b.key).is_empty(),
        "b is given {:?}, which the status of a records",
        allocator.addresses_of(&b.key)
    );
}

#[test]
fn room_in_one_pool_wakes_those_who_wait_for_room_in_that_pool() {
    let limited = |name: &str, range: &str| Pool {
        max_addresses_per_namespace: Some(1),
        ..pool(name, &[range])
    };
    let mut allocator = allocator(vec![
        limited("a", "10.0.0.0/24"),
        limited("b", "10.0.1.0/24"),
    ]);
    let (mut a1, mut b1) = (in_pool("a", service("a1")), in_pool("b", service("b1")));
    settle(&mut allocator, &mut a1);
    settle(&mut allocator, &mut b1);
    let mut a2 = Service {
        created: 1,
        ..in_pool("a", service("a2"))
    };
    let mut b2 = Service {
        created: 2,
        ..in_pool("b", service("b2"))
    };
    settle(&mut allocator, &mut a2);
    settle(&mut allocator, &mut b2);
    assert!(a2.current.is_empty() && b2.current.is_empty());
    allocator.forget(&b1.key);
    let woken = drain(&mut allocator, &mut [&mut a2, &mut b2]);
    assert!(
        !b2.current.is_empty(),
        "b2 could be served and sleeps; woken: {woken:?}"
    );
}

#[test]
fn who_is_limited_is_woken_when_it_can_share() {
    let mut allocator = allocator(vec![pool("p", &["10.0.0.0/24"])]);
    allocator.set_namespace("default", at(1));
    let mut a = shares("a", "key", 80);
    settle(&mut allocator, &mut a);
    let mut b = Service {
        created: 1,
        ..shares("b", "key", 80)
    };
    settle(&mut allocator, &mut b);
    assert!(b.current.is_empty());
    a.ports = ports(81);
    settle(&mut allocator, &mut a);
    let woken = drain(&mut allocator, &mut [&mut a, &mut b]);
    assert_eq!(b.current, a.current, "b could share; woken: {woken:?}");
}

/// Those who wait for a pair are not equal before a pool: who shares needs less.
#[test]
fn who_needs_one_free_address_and_can_share_the_other_is_not_held_up_by_who_needs_two() {
    let mut allocator = allocator(vec![pool("p", &["10.0.0.1/32", "fd00::1/128"])]);
    let mut a = shares("a", "key", 80);
    settle(&mut allocator, &mut a);
    let mut c = six(service("c"));
    settle(&mut allocator, &mut c);
    let mut first = Service {
        created: 1,
        ..dual("first", Policy::RequireDualStack)
    };
    let mut second = Service {
        created: 2,
        sharing_key: "key".into(),
        ports: ports(81),
        ..dual("second", Policy::RequireDualStack)
    };
    settle(&mut allocator, &mut first);
    settle(&mut allocator, &mut second);
    assert!(first.current.is_empty() && second.current.is_empty());
    allocator.forget(&c.key);
    let woken = drain(&mut allocator, &mut [&mut first, &mut second]);
    assert_eq!(
        second.current,
        ips(&["10.0.0.1", "fd00::1"]),
        "woken: {woken:?}"
    );
}

#[test]
fn room_for_one_is_used_by_who_needs_one() {
    let mut allocator = allocator(vec![pool("p", &["10.0.0.0/24", "fd00::/120"])]);
    allocator.set_namespace("default", at(1));
    let mut a = service("a");
    settle(&mut allocator, &mut a);
    let mut pair = Service {
        created: 1,
        requested: Requested::parse(Some("10.0.0.9,fd00::9"), None),
        ..dual("pair", Policy::PreferDualStack)
    };
    let mut any = Service {
        created: 2,
        ..dual("any", Policy::PreferDualStack)
    };
    settle(&mut allocator, &mut pair);
    settle(&mut allocator, &mut any);
    assert!(pair.current.is_empty() && any.current.is_empty());
    allocator.forget(&a.key);
    let woken = drain(&mut allocator, &mut [&mut pair, &mut any]);
    assert_eq!(any.current.len(), 1, "woken: {woken:?}");
}

/// The same with RequireDualStack, where the younger shares one of its two already.
#[test]
fn room_for_one_is_used_by_who_shares_the_other() {
    let mut allocator = allocator(vec![pool("p", &["10.0.0.0/24", "fd00::/120"])]);
    allocator.set_namespace("default", at(2));
    let (mut a, mut x) = (shares("a", "key", 80), service("x"));
    settle(&mut allocator, &mut a);
    settle(&mut allocator, &mut x);
    let mut plain = Service {
        created: 1,
        ..dual("plain", Policy::RequireDualStack)
    };
    let mut sharing = Service {
        created: 2,
        sharing_key: "key".into(),
        ports: ports(81),
        ..dual("sharing", Policy::RequireDualStack)
    };
    settle(&mut allocator, &mut plain);
    settle(&mut allocator, &mut sharing);
    allocator.forget(&x.key);
    let woken = drain(&mut allocator, &mut [&mut plain, &mut sharing]);
    assert_eq!(sharing.current.len(), 2, "woken: {woken:?}");
}

/// An address that is kept for one Service helps that one although another stands before it.
#[test]
fn whom_an_address_is_kept_for_is_not_held_up() {
    let kept = |v6: &[&str]| {
        let mut ranges = vec!["10.0.0.1/32"];
        ranges.extend(v6);
        Pool {
            reuse_hold: 60,
            ..pool("p", &ranges)
        }
    };
    let mut allocator = allocator(vec![kept(&["fd00::1/128"])]);
    allocator.tick(1_000);
    let mut c = six(service("c"));
    settle(&mut allocator, &mut c);
    let mut a = Service {
        created: 5,
        ..dual("a", Policy::PreferDualStack)
    };
    settle(&mut allocator, &mut a);
    assert_eq!(a.current, ips(&["10.0.0.1"]));
    let mut older = Service {
        created: 1,
        ..dual("older", Policy::RequireDualStack)
    };
    settle(&mut allocator, &mut older);
    allocator.forget(&c.key); // fd00::1 is kept back until 61 s
    drain(&mut allocator, &mut [&mut a, &mut older]);
    allocator.tick(20_000);
    a.policy = Policy::RequireDualStack; // loses 10.0.0.1, which is kept for it until 80 s
    settle(&mut allocator, &mut a);
    assert!(a.current.is_empty());
    drain(&mut allocator, &mut [&mut a, &mut older]);
    allocator.tick(61_000); // fd00::1 is free
    let woken = drain(&mut allocator, &mut [&mut a, &mut older]);
    assert_eq!(
        a.current.len(),
        2,
        "10.0.0.1 is kept for a and fd00::1 is free; woken: {woken:?}"
    );
}

#[test]
fn a_decision_that_nobody_saw_is_no_address_to_keep_for_an_invalid_request() {
    let mut allocator = allocator(vec![pool("p", &["10.0.0.0/24"])]);
    let mut a = service("a");
    assert_eq!(allocator.reconcile(&a, "1").addresses.len(), 1);
    a.requested = Requested::parse(Some("nonsense"), None);
    let outcome = allocator.reconcile(&a, "2");
    assert!(
        outcome.addresses.is_empty(),
        "version 2 never had an address: {outcome:?}"
    );
}

#[test]
fn what_is_held_back_twice_is_counted_once() {
    let mut allocator = allocator(vec![
        Pool {
            reuse_hold: 60,
            ..pool("p", &["10.0.0.1-10.0.0.2"])
        },
        pool("q", &["10.0.1.1/32"]),
    ]);
    allocator.tick(1_000);
    let mut a = wants("a", "10.0.0.1");
    settle(&mut allocator, &mut a);
    allocator.forget(&a.key); // on hold
    // Somebody writes the address into the status of a Service that may not have it: it asks for another pool.
    let mut b = Service {
        current: ips(&["10.0.0.1"]),
        ..in_pool("q", service("b"))
    };
    settle(&mut allocator, &mut b);
    assert_eq!(b.current, ips(&["10.0.1.1"]));
    drain(&mut allocator, &mut [&mut b]);
    allocator.tick(1_000_000);
    drain(&mut allocator, &mut [&mut b]);
    assert!(allocator.holds().is_empty());
    assert_eq!(
        allocator.counters("p").unwrap().available_v4,
        2,
        "nobody has an address and nothing is on hold"
    );
}

/// Who gives up an address last, with the very look that finds nothing free, is the first that could have it.
#[test]
fn who_frees_an_address_itself_is_looked_at_again() {
    let mut allocator = allocator(vec![pool("p", &["10.0.0.1/32"])]);
    let (mut a, mut b) = (shares("a", "key", 80), shares("b", "key", 81));
    settle(&mut allocator, &mut a);
    settle(&mut allocator, &mut b);
    // a no longer shares and loses the address; before that is written, b is deleted.
    a.sharing_key.clear();
    assert!(allocator.reconcile(&a, &version()).addresses.is_empty());
    allocator.forget(&b.key);
    drain(&mut allocator, &mut []);
    // The status of a is cleared.
    a.current.clear();
    let first = allocator.reconcile(&a, &version());
    let woken = drain(&mut allocator, &mut [&mut a]);
    assert!(
        !allocator.addresses_of(&a.key).is_empty(),
        "the pool has {:?} and a says {:?}; woken: {woken:?}",
        allocator.counters("p").unwrap(),
        first.verdict
    );
}
