//! Is what a Service is told true, and does it help to follow it?
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::*;
use ferrolb_allocation::{
    Allocator, Limit, Namespace, Policy, Reason, Requested, Service, Verdict,
};
use ferrolb_rules::{Pool, ServiceAllocation};

/// What it lacks.
fn lacks(allocator: &mut Allocator, service: &Service) -> Verdict {
    allocator.reconcile(service, &version()).verdict.unwrap()
}

fn says(verdict: &Verdict, reason: Reason, has: &[&str], has_not: &[&str]) {
    let message = &verdict.message;
    assert_eq!(verdict.reason, reason, "{message}");
    for part in has {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
    for part in has_not {
        assert!(!message.contains(part), "{part:?} is in: {message}");
    }
}

fn of_pool(pool: &str, service: Service) -> Service {
    Service {
        requested_pool: Some(pool.into()),
        ..service
    }
}

fn at(limit: u32) -> Option<Namespace> {
    Some(Namespace {
        limit: Limit::At(limit),
        ..Namespace::default()
    })
}

fn shares_at(name: &str, key: &str, port: u16, backends: &str) -> Service {
    Service {
        backend_key: backends.into(),
        requested: Requested::parse(Some("10.0.0.1"), None),
        ..shares(name, key, port)
    }
}

#[test]
fn who_may_not_share_is_told_of_what_differs_only() {
    const METALLB: &str = "can't change sharing key for \"default/b\", address also in use by";
    const KEY: &str = "give all of them the same metallb.io/allow-shared-ip";
    const BACKENDS: &str = "the same externalTrafficPolicy (with Local also the same selector)";
    let a = shares_at("a", "key", 80, "");
    for (holder, late, reason, has, has_not) in [
        (
            &a,
            shares_at("b", "key", 81, "app=web"),
            Reason::SharingConflict,
            &["in use by default/a", BACKENDS, "as they have the same"][..],
            &[METALLB, KEY, "different ports"][..],
        ),
        (
            &shares_at("a", "key", 80, "app=web"),
            shares_at("b", "key", 81, "app=other"),
            Reason::SharingConflict,
            &["in use by default/a", BACKENDS],
            &[METALLB, KEY],
        ),
        (
            &a,
            shares_at("b", "other", 81, ""),
            Reason::SharingConflict,
            &[METALLB, KEY, BACKENDS],
            &[],
        ),
        (
            &a,
            shares_at("b", "", 81, ""),
            Reason::AddressInUse,
            &["in use by default/a", KEY, BACKENDS],
            &[METALLB],
        ),
        (
            &shares_at("a", "", 80, ""),
            shares_at("b", "key", 81, ""),
            Reason::SharingConflict,
            &["in use by default/a", KEY, BACKENDS],
            &[METALLB],
        ),
    ] {
        let mut allocator = allocator(vec![pool("p", &["10.0.0.0/24"])]);
        settle(&mut allocator, &mut holder.clone());
        says(&lacks(&mut allocator, &late), reason, has, has_not);
        // What it is told helps.
        let like = Service {
            sharing_key: "key".into(),
            backend_key: String::new(),
            ..late.clone()
        };
        let mut first = a.clone();
        first.current = ips(&["10.0.0.1"]);
        settle(&mut allocator, &mut first);
        let given = allocator.reconcile(&like, &version()).addresses;
        assert_eq!(given, ips(&["10.0.0.1"]));
    }
}

/// The oldest comes first, whoever waits longest in silence.
#[test]
fn nobody_is_promised_an_address_that_an_older_one_may_get() {
    let held = Pool {
        reuse_hold: 60,
        ..pool("p", &["10.0.0.1/32"])
    };
    let mut allocator = allocator(vec![held]);
    allocator.tick(1_000);
    let mut first = service("first");
    settle(&mut allocator, &mut first);
    let young = Service {
        created: 9,
        ..wants("young", "10.0.0.1")
    };
    let old = Service {
        created: 5,
        ..service("old")
    };
    allocator.release(&first, "8");
    let waits = ["the oldest Service that waits for it may have it"];
    let promise = ["by itself"];
    let leaving = lacks(&mut allocator, &young);
    says(&leaving, Reason::AddressInUse, &waits, &promise);
    allocator.forget(&first.key);
    let on_hold = lacks(&mut allocator, &young);
    says(&on_hold, Reason::AddressOnHold, &waits, &promise);
    says(
        &lacks(&mut allocator, &old),
        Reason::PoolExhausted,
        &["one that was freed may be kept for 60 s"],
        &[],
    );
    allocator.tick(61_000);
    while let Some(key) = allocator.next_to_retry() {
        let service = if key == old.key { &old } else { &young };
        allocator.reconcile(service, &version());
    }
    assert_eq!(allocator.addresses_of(&old.key), ips(&["10.0.0.1"]));
    assert!(allocator.addresses_of(&young.key).is_empty());
}

#[test]
fn who_needs_more_than_its_limit_is_not_told_to_delete_others() {
    let pools = || vec![pool("p", &["10.0.0.0/24", "fd00::/120"])];
    let pair = dual("pair", Policy::RequireDualStack);
    let named = Service {
        requested: Requested::parse(Some("10.0.0.9,fd00::9"), None),
        ..dual("named", Policy::RequireDualStack)
    };
    let single = "have the limit raised, or make ipFamilyPolicy SingleStack";
    let mut allocator = allocator(pools());
    allocator.set_namespace("default", at(1));
    for (service, has, has_not) in [
        (
            &pair,
            &["the 2 addresses that the Service needs", single][..],
            &["delete", "no more"][..],
        ),
        (
            &named,
            &[
                "the 2 addresses that the Service needs",
                "have the limit raised",
            ],
            &["delete", "SingleStack"],
        ),
    ] {
        says(
            &lacks(&mut allocator, service),
            Reason::LimitReached,
            has,
            has_not,
        );
    }
    let mut alone = dual("alone", Policy::PreferDualStack);
    settle(&mut allocator, &mut alone);
    assert_eq!(alone.current, ips(&["10.0.0.0"]));
    says(
        &lacks(&mut allocator, &alone),
        Reason::SecondFamilyUnavailable,
        &["10.0.0.0 stays alone", single],
        &["delete"],
    );
    // Where there is room for a pair once others go, they are named.
    allocator.set_namespace("default", at(2));
    says(
        &lacks(&mut allocator, &pair),
        Reason::LimitReached,
        &[
            "may have no more addresses (the Service needs 2)",
            "delete a Service there or have",
        ],
        &["SingleStack"],
    );
    allocator.forget(&alone.key);
    assert_eq!(allocator.reconcile(&pair, &version()).addresses.len(), 2);
    allocator.set_namespace("default", at(0));
    says(
        &lacks(&mut allocator, &service("none")),
        Reason::LimitReached,
        &["have the limit raised"],
        &["delete", "SingleStack"],
    );
}

#[test]
fn who_asks_for_a_pool_is_told_what_to_do_about_that_pool() {
    let closed = Pool {
        service_allocation: Some(ServiceAllocation {
            namespaces: ["shop".to_owned()].into(),
            ..ServiceAllocation::default()
        }),
        ..pool("shop", &["10.0.2.0/24"])
    };
    let mut allocator = allocator(vec![closed, pool("small", &["10.0.3.1/32"])]);
    let opened = "have pool shop opened to the Service";
    for (service, has) in [
        (
            of_pool("shop", service("a")),
            "ask for another pool in metallb.io/address-pool",
        ),
        (
            wants("b", "10.0.2.9"),
            "ask for an address of another pool in metallb.io/loadBalancerIPs",
        ),
    ] {
        says(
            &lacks(&mut allocator, &service),
            Reason::NoPoolMatches,
            &[opened, has],
            &[],
        );
    }
    settle(&mut allocator, &mut of_pool("small", service("c")));
    says(
        &lacks(&mut allocator, &of_pool("small", service("d"))),
        Reason::PoolExhausted,
        &[
            "add addresses to pool small",
            "delete a Service that has one of it",
        ],
        &["to a pool"],
    );
    says(
        &lacks(
            &mut allocator,
            &of_pool("small", dual("e", Policy::RequireDualStack)),
        ),
        Reason::NoPoolMatches,
        &["add such addresses to pool small", "ask for another pool"],
        &["to a pool", "opened"],
    );
    // Of a Service that asks for nothing each pool says its own, and the advice comes once.
    says(
        &lacks(&mut allocator, &service("f")),
        Reason::PoolExhausted,
        &["add addresses to a pool"],
        &["opened"],
    );
}

#[test]
fn one_pool_more_is_one_pool() {
    for (pools, end) in [(9, "and 1 pool more"), (10, "and 2 pools more")] {
        let pools = (0..pools).map(|n| pool(&format!("p{n}"), &[&format!("10.0.{n}.0/24")]));
        let mut allocator = allocator(pools.collect());
        let verdict = lacks(&mut allocator, &of_pool("none", service("a")));
        says(&verdict, Reason::UnknownPool, &[end], &[]);
    }
}
