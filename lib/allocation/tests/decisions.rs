//! Decisions for whole Services: the rows of reference 3.5 to 3.7 that do not need an API server.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::collections::BTreeSet;

use common::*;
use ferrolb_allocation::{EventKind, Families, Policy, Requested, Service};
use ferrolb_rules::{Family, Pool, Selector, ServiceAllocation};

#[test]
fn addresses_are_given_in_order_and_kept() {
    let mut allocator = allocator(vec![pool("p", &["10.0.0.1-10.0.0.2"])]);
    let (mut a, mut b, mut c) = (service("a"), service("b"), service("c"));
    assert_eq!(
        settle(&mut allocator, &mut a),
        [(EventKind::IPAllocated, "Assigned IP [\"10.0.0.1\"]".into())]
    );
    settle(&mut allocator, &mut b);
    assert_eq!(b.current, ips(&["10.0.0.2"]));
    assert!(
        settle(&mut allocator, &mut a).is_empty(),
        "a second look says nothing"
    );
    let said = settle(&mut allocator, &mut c);
    assert_eq!(said[0].0, EventKind::AllocationFailed);
    assert!(
        said[0]
            .1
            .starts_with("Failed to allocate IP for \"default/c\": no available IPs"),
        "{}",
        said[0].1
    );
    assert!(
        settle(&mut allocator, &mut c).is_empty(),
        "and the same failure is said once"
    );
    assert!(to_retry(&mut allocator).is_empty());
    allocator.forget(&a.key);
    assert_eq!(to_retry(&mut allocator), [c.key.clone()]);
    settle(&mut allocator, &mut c);
    assert_eq!(c.current, ips(&["10.0.0.1"]));
}

#[test]
fn a_decision_under_way_stands_although_the_status_is_still_empty() {
    let mut allocator = allocator(vec![pool("p", &["10.0.0.0/24"])]);
    let a = service("a");
    let first = allocator.reconcile(&a, "1");
    let second = allocator.reconcile(&a, "1");
    assert_eq!(first.addresses, second.addresses);
    assert!(second.events.is_empty());
}

#[test]
fn what_a_status_records_is_claimed_before_anyone_new() {
    let mut allocator = allocator(vec![pool("p", &["10.0.0.0/24"])]);
    let holder = Service {
        current: ips(&["10.0.0.0"]),
        ..service("z-holder")
    };
    assert!(allocator.claim(&holder, &version()));
    let mut pending = service("a-pending");
    settle(&mut allocator, &mut pending);
    assert_eq!(pending.current, ips(&["10.0.0.1"]));
    assert!(!allocator.claim(
        &Service {
            current: ips(&["10.0.0.0"]),
            created: 1,
            ..service("thief")
        },
        &version()
    ));
}

#[test]
fn requested_addresses_are_given_exactly_or_the_reason_is_said() {
    let mut manual = pool("manual", &["10.1.0.0/24"]);
    manual.auto_assign = false;
    let mut allocator = allocator(vec![pool("p", &["10.0.0.0/24", "fd00::/112"]), manual]);
    let mut a = wants("a", "10.1.0.7");
    settle(&mut allocator, &mut a);
    assert_eq!(
        (a.current.clone(), a.recorded_pool.as_deref()),
        (ips(&["10.1.0.7"]), Some("manual"))
    );
    for (mut service, fragment) in [
        (wants("b", "10.1.0.7"), "also in use by default/a"),
        (
            wants("c", "10.9.9.9"),
            "[\"10.9.9.9\"] is not allowed in config: the pools are manual (10.1.0.0/24); p (",
        ),
        (
            wants("d", "fd00::1"),
            "does not match the ipFamily of the service",
        ),
        (wants("e", "here"), "\"here\" is not an IP address"),
        (
            Service {
                requested_pool: Some("p".into()),
                ..wants("f", "10.1.0.8")
            },
            "not compatible with requested address pool p",
        ),
        (
            Service {
                requested_pool: Some("none".into()),
                ..service("g")
            },
            "unknown pool \"none\"",
        ),
    ] {
        let said = settle(&mut allocator, &mut service);
        assert!(said[0].1.contains(fragment), "{}: {said:?}", service.key);
        assert!(service.current.is_empty());
    }
    let mut h = Service {
        requested_pool: Some("manual".into()),
        ..service("h")
    };
    settle(&mut allocator, &mut h);
    assert_eq!(h.current, ips(&["10.1.0.0"]));
    a.requested = Requested::parse(Some("10.1.0.9"), None);
    settle(&mut allocator, &mut a);
    assert_eq!(
        a.current,
        ips(&["10.1.0.9"]),
        "a changed wish moves the Service"
    );
    a.requested = Requested::Nothing;
    settle(&mut allocator, &mut a);
    assert_eq!(
        a.current,
        ips(&["10.1.0.9"]),
        "a wish withdrawn moves nothing"
    );
    assert!(matches!(
        Requested::parse(Some("10.0.0.1"), Some("10.0.0.1")),
        Requested::Invalid(_)
    ));
}

#[test]
fn dual_stack_comes_from_one_pool() {
    let v4 = || pool("a-v4", &["10.0.0.0/30"]);
    let v6 = || pool("b-v6", &["fd00::/126"]);
    let both = || pool("c-both", &["10.1.0.0/30", "fd01::/126"]);
    let mut separate = allocator(vec![v4(), v6()]);
    let mut prefer = dual("prefer", Policy::PreferDualStack);
    settle(&mut separate, &mut prefer);
    assert_eq!(prefer.current, ips(&["10.0.0.0"]));
    let mut six = Service {
        primary: Family::V6,
        ..dual("six", Policy::PreferDualStack)
    };
    settle(&mut separate, &mut six);
    assert_eq!(six.current, ips(&["fd00::"]));
    let mut require = dual("require", Policy::RequireDualStack);
    assert_eq!(
        settle(&mut separate, &mut require)[0].0,
        EventKind::AllocationFailed
    );
    separate.set_pools([v4(), v6(), both()]);
    settle(&mut separate, &mut require);
    assert_eq!(require.current, ips(&["10.1.0.0", "fd01::"]));
    settle(&mut separate, &mut prefer);
    assert_eq!(
        prefer.current,
        ips(&["10.0.0.0"]),
        "a dual pool elsewhere moves nobody"
    );
    separate.set_pools([pool("a-v4", &["10.0.0.0/30", "fd00::/126"]), both()]);
    settle(&mut separate, &mut prefer);
    assert_eq!(
        prefer.current,
        ips(&["10.0.0.0", "fd00::1"]),
        "its own pool becoming dual adds the second"
    );
    let mut one = Service {
        policy: Policy::PreferDualStack,
        ..service("one")
    };
    settle(&mut separate, &mut one);
    assert_eq!(
        one.current.len(),
        1,
        "one cluster IP, one address (reference 9, row 13)"
    );
    let mut never = Service {
        policy: Policy::RequireDualStack,
        ..service("never")
    };
    assert_eq!(
        settle(&mut separate, &mut never)[0].0,
        EventKind::NotEnoughClusterIPs
    );
}

#[test]
fn sharing_needs_equal_keys_other_ports_and_equal_backends() {
    let mut allocator = allocator(vec![pool("p", &["10.0.0.0/24"])]);
    let (mut a, mut b, mut c) = (
        shares("a", "key", 80),
        shares("b", "key", 81),
        shares("c", "key", 80),
    );
    for service in [&mut a, &mut b, &mut c] {
        settle(&mut allocator, service);
    }
    assert_eq!(a.current, b.current);
    assert_ne!(a.current, c.current, "the port is taken");
    let mut local = Service {
        backend_key: "app=x".into(),
        ..shares("local", "key", 82)
    };
    settle(&mut allocator, &mut local);
    assert_ne!(a.current, local.current);
    b.backend_key = "app=y".into();
    let said = settle(&mut allocator, &mut b);
    assert_eq!(said[0].0, EventKind::ClearAssignment);
    assert_ne!(
        a.current, b.current,
        "who becomes incompatible moves, the other stays"
    );
    assert_eq!(allocator.counters("p").unwrap().assigned_v4, 4);
}

#[test]
fn pools_are_tried_by_priority_then_restriction_then_name() {
    let pinned = |name: &str, range: &str, allocation: ServiceAllocation| Pool {
        service_allocation: Some(allocation),
        ..pool(name, &[range])
    };
    let namespaces = BTreeSet::from(["default".to_owned()]);
    let mut allocator = allocator(vec![
        pool("a-open", &["10.0.0.0/32"]),
        pinned(
            "last",
            "10.0.1.0/32",
            ServiceAllocation {
                namespaces: namespaces.clone(),
                ..Default::default()
            },
        ),
        pinned(
            "second",
            "10.0.2.0/32",
            ServiceAllocation {
                priority: 20,
                ..Default::default()
            },
        ),
        pinned(
            "first",
            "10.0.3.0/32",
            ServiceAllocation {
                priority: 10,
                namespaces,
                ..Default::default()
            },
        ),
        pinned(
            "other",
            "10.0.4.0/32",
            ServiceAllocation {
                priority: 1,
                namespaces: BTreeSet::from(["other".into()]),
                ..Default::default()
            },
        ),
        pinned(
            "nowhere",
            "10.0.5.0/32",
            ServiceAllocation {
                priority: 1,
                namespace_selectors: vec![Selector::default()],
                ..Default::default()
            },
        ),
    ]);
    let given: Vec<_> = ["s1", "s2", "s3", "s4", "s5"]
        .map(|name| {
            let mut service = service(name);
            settle(&mut allocator, &mut service);
            service.recorded_pool.unwrap_or_default()
        })
        .into();
    // `nowhere` selects namespaces of which none is known: it serves none (reference 9, row 15).
    assert_eq!(given, ["first", "second", "last", "a-open", ""]);
}

#[test]
fn addresses_that_confuse_network_gear_are_left_out_and_not_counted() {
    let buggy = |avoid| Pool {
        avoid_buggy_ips: avoid,
        ..pool("p", &["10.0.0.254-10.0.1.1"])
    };
    let mut allocator = allocator(vec![buggy(false)]);
    let mut services: Vec<_> = ["a", "b", "c", "d"].map(service).into();
    for service in &mut services {
        settle(&mut allocator, service);
    }
    assert_eq!(services[1].current, ips(&["10.0.0.255"]));
    allocator.set_pools([buggy(true)]);
    assert_eq!(allocator.counters("p").unwrap().available_v4, 0);
    for service in &mut services {
        settle(&mut allocator, service);
    }
    assert_eq!(services[0].current, ips(&["10.0.0.254"]));
    assert!(services[1].current.is_empty() && services[2].current.is_empty());
    assert_eq!(services[3].current, ips(&["10.0.1.1"]));
}

#[test]
fn a_huge_pool_costs_nothing_and_its_counters_saturate() {
    let mut allocator = allocator(vec![pool("p", &["10.0.0.0/8", "fd00::/48"])]);
    let mut one = dual("one", Policy::RequireDualStack);
    settle(&mut allocator, &mut one);
    assert_eq!(one.current, ips(&["10.0.0.0", "fd00::"]));
    let counters = allocator.counters("p").unwrap();
    assert_eq!(counters.available_v4, (1 << 24) - 1);
    assert_eq!(counters.available_v6, i64::MAX);
}

#[test]
fn without_pools_every_address_is_taken_back() {
    let mut allocator = allocator(vec![pool("p", &["10.0.0.0/24"])]);
    let mut a = service("a");
    settle(&mut allocator, &mut a);
    allocator.set_pools([]);
    settle(&mut allocator, &mut a);
    assert!(a.current.is_empty());
}

#[test]
fn a_service_that_asks_for_one_address_keeps_it_when_it_comes_to_prefer_both_families() {
    let mut allocator = allocator(vec![pool("p", &["10.0.0.0/24", "fd00::/112"])]);
    let mut web = wants("web", "10.0.0.8");
    web.current = allocator.reconcile(&web, &version()).addresses;
    assert_eq!(web.current, ips(&["10.0.0.8"]));
    web.families = Families::Dual;
    web.policy = Policy::PreferDualStack;
    for _ in 0..3 {
        let outcome = allocator.reconcile(&web, &version());
        assert_eq!(outcome.addresses, ips(&["10.0.0.8"]));
        assert!(outcome.events.is_empty(), "{:?}", outcome.events);
        web.current = outcome.addresses;
    }
    // Once it asks for nothing any more, it gets the second.
    web.requested = Requested::Nothing;
    let outcome = allocator.reconcile(&web, &version());
    assert_eq!(outcome.addresses, ips(&["10.0.0.8", "fd00::"]));
}

/// Reference 3.2, steps 7 and 8.
#[test]
fn where_no_family_can_be_told_it_is_said_and_only_what_the_status_says_is_mended() {
    let mut allocator = allocator(vec![pool("p", &["10.0.0.0/24"])]);
    let mut two_of_one = recorded("two-of-one", 0, &["10.0.0.5", "10.0.0.6"]);
    let said = settle(&mut allocator, &mut two_of_one);
    assert_eq!(said[0].0, EventKind::NoLbIPsFamily, "{said:?}");
    assert_eq!(two_of_one.current, ips(&["10.0.0.5"]));
    let mut unclear = Service {
        families: Families::Unknown,
        ..recorded("unclear", 0, &["10.0.0.9"])
    };
    let said = settle(&mut allocator, &mut unclear);
    assert_eq!(said[0].0, EventKind::NoClusterIPsFamily, "{said:?}");
    assert_eq!(unclear.current, ips(&["10.0.0.9"]), "it is left as it is");
    let mut next = wants("next", "10.0.0.9");
    settle(&mut allocator, &mut next);
    assert!(next.current.is_empty(), "and has what it has");
}

/// Reference 3.7: the families of a Service change, up and down.
#[test]
fn families_change_with_the_policy() {
    let mut allocator = allocator(vec![
        pool("single", &["10.0.0.0/24"]),
        pool("dual", &["10.1.0.0/24", "fd00::/120"]),
    ]);
    let mut web = Service {
        requested_pool: Some("single".into()),
        ..dual("web", Policy::PreferDualStack)
    };
    settle(&mut allocator, &mut web);
    assert_eq!(web.current, ips(&["10.0.0.0"]));
    web.policy = Policy::RequireDualStack;
    settle(&mut allocator, &mut web);
    assert!(web.current.is_empty(), "no pair, no address");
    web.requested_pool = None;
    settle(&mut allocator, &mut web);
    assert_eq!(web.current, ips(&["10.1.0.0", "fd00::"]));
    web.policy = Policy::PreferDualStack;
    settle(&mut allocator, &mut web);
    assert_eq!(web.current, ips(&["10.1.0.0", "fd00::"]), "both may stay");
    web.families = Families::Single(Family::V6);
    web.policy = Policy::SingleStack;
    settle(&mut allocator, &mut web);
    assert_eq!(web.current, ips(&["fd00::"]), "its own of that family");
}

#[test]
fn whoever_loses_an_address_is_told_once_and_why() {
    let pools = || {
        vec![
            pool("p", &["10.0.0.0/24", "fd00::/120"]),
            pool("q", &["10.1.0.0/24"]),
        ]
    };
    let plain = recorded("web", 0, &["10.0.0.5"]);
    let changes: [(Service, &str); 4] = [
        (
            Service {
                requested: Requested::parse(Some("10.0.0.9"), None),
                ..plain.clone()
            },
            "the Service asks for [\"10.0.0.9\"]",
        ),
        (
            Service {
                requested_pool: Some("q".into()),
                ..plain.clone()
            },
            "the Service asks for an address of pool q",
        ),
        (
            Service {
                requested_pool: Some("none".into()),
                ..plain.clone()
            },
            "the Service asks for an address of pool none",
        ),
        (
            Service {
                families: Families::Single(Family::V6),
                ..plain.clone()
            },
            "the Service is IPv6 now",
        ),
    ];
    for (changed, why) in changes {
        let mut allocator = allocator(pools());
        allocator.reconcile(&plain, "1");
        let first = allocator.reconcile(&changed, "2").events;
        assert_eq!(first[0].kind, EventKind::ClearAssignment, "{first:?}");
        assert_eq!(
            first[0].message,
            format!("[\"10.0.0.5\"] may not stay: {why}")
        );
        // Until the status shows it the same is decided again.
        assert!(allocator.reconcile(&changed, "2").events.is_empty());
    }
    let mut allocator = allocator(pools());
    allocator.reconcile(&plain, "1");
    allocator.set_pools([]);
    let told = allocator.reconcile(&plain, "1").events;
    assert_eq!(told[0].kind, EventKind::ClearAssignment);
    assert!(
        told[0].message.contains("no pools are configured"),
        "{told:?}"
    );
    allocator.set_pools([]);
    assert!(allocator.reconcile(&plain, "1").events.is_empty());
}
