//! Whose is an address while things are under way: writes that are late, claims that collide, holds, limits.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::*;
use ferrolb_allocation::{
    Allocator, EventKind, Families, Hold, Limit, Namespace, Policy, Reason, Requested, Service,
};
use ferrolb_api::ObjectKey;
use ferrolb_rules::{Pool, ServiceAllocation};

fn reason(allocator: &mut Allocator, service: &Service) -> Reason {
    let outcome = allocator.reconcile(service, &version());
    let verdict = outcome.verdict.unwrap();
    assert!(!verdict.message.is_empty());
    verdict.reason
}

fn to_namespace(name: &str) -> Option<ServiceAllocation> {
    Some(ServiceAllocation {
        namespaces: [name.to_owned()].into(),
        ..ServiceAllocation::default()
    })
}

#[test]
fn an_address_that_a_late_write_may_still_record_is_nobody_elses() {
    let mut allocator = allocator(vec![pool("p", &["10.0.0.1/32"])]);
    let a = service("a");
    assert_eq!(
        allocator.reconcile(&a, "1").addresses,
        ips(&["10.0.0.1"]),
        "a write for version 1 is under way"
    );
    allocator.sent(&a.key, "1", &ips(&["10.0.0.1"]));
    // Before it ends the pool is given to another namespace: a shall have nothing any more.
    let closed = Pool {
        service_allocation: to_namespace("other"),
        ..pool("p", &["10.0.0.1/32"])
    };
    allocator.set_pools([closed]);
    assert!(allocator.reconcile(&a, "1").addresses.is_empty());
    let b = service_in("other", "b");
    let refused = allocator.reconcile(&b, "1");
    assert_eq!(refused.verdict.unwrap().reason, Reason::PoolExhausted);
    // The write came through after all, and is taken back.
    let mut written = a.clone();
    written.current = ips(&["10.0.0.1"]);
    assert!(allocator.reconcile(&written, "2").addresses.is_empty());
    assert!(to_retry(&mut allocator).is_empty());
    // Only now no status names it.
    allocator.reconcile(&a, "3");
    assert_eq!(to_retry(&mut allocator), std::slice::from_ref(&b.key));
    assert_eq!(allocator.reconcile(&b, "1").addresses, ips(&["10.0.0.1"]));
}

#[test]
fn a_write_that_was_refused_keeps_nothing() {
    let mut allocator = allocator(vec![pool("p", &["10.0.0.1/32"])]);
    let a = service("a");
    allocator.reconcile(&a, "1");
    allocator.sent(&a.key, "1", &ips(&["10.0.0.1"]));
    // Somebody changed the Service first: the write on version 1 can never come.
    let other_family = Service {
        families: Families::Single(ferrolb_rules::Family::V6),
        ..a.clone()
    };
    assert!(allocator.reconcile(&other_family, "2").addresses.is_empty());
    let b = service("b");
    assert_eq!(allocator.reconcile(&b, "1").addresses, ips(&["10.0.0.1"]));
}

#[test]
fn a_decision_that_was_never_sent_or_is_too_old_keeps_nothing() {
    for how in ["never sent", "too old"] {
        let mut allocator = allocator(vec![
            pool("p", &["10.0.0.1/32"]),
            pool("q", &["10.0.1.1/32"]),
        ]);
        allocator.tick(5_000);
        let mut a = recorded("a", 0, &["10.0.1.1"]);
        assert_eq!(allocator.reconcile(&a, "1").addresses, a.current);
        // It is to move, and then it is not.
        a.requested = Requested::parse(Some("10.0.0.1"), None);
        assert_eq!(allocator.reconcile(&a, "1").addresses, ips(&["10.0.0.1"]));
        if how != "never sent" {
            allocator.sent(&a.key, "1", &ips(&["10.0.0.1"]));
        }
        a.requested = Requested::Nothing;
        assert_eq!(allocator.reconcile(&a, "1").addresses, a.current, "{how}");
        let b = wants("b", "10.0.0.1");
        let given = allocator.reconcile(&b, "1").addresses;
        assert_eq!(given.is_empty(), how != "never sent");
        if how == "too old" {
            assert_eq!(allocator.wake_at(), Some(125_000));
            allocator.tick(125_000);
        }
        while let Some(key) = allocator.next_to_retry() {
            allocator.reconcile(if key == a.key { &a } else { &b }, "1");
        }
        assert_eq!(allocator.addresses_of(&b.key), ips(&["10.0.0.1"]), "{how}");
        assert_eq!(allocator.addresses_of(&a.key), a.current, "{how}");
    }
}

#[test]
fn a_service_that_wants_no_address_any_more_has_it_until_its_status_is_cleared() {
    let mut allocator = allocator(vec![pool("p", &["10.0.0.1/32"])]);
    let mut a = service("a");
    settle(&mut allocator, &mut a);
    let b = wants("b", "10.0.0.1");
    assert_eq!(reason(&mut allocator, &b), Reason::AddressInUse);
    allocator.release(&a, "8");
    assert!(
        to_retry(&mut allocator).contains(&b.key),
        "its message changes"
    );
    let outcome = allocator.reconcile(&b, &version());
    let message = outcome.verdict.unwrap().message;
    assert!(
        message.contains("in use by default/a until its status says otherwise"),
        "{message}"
    );
    a.current.clear();
    allocator.release(&a, "9");
    assert_eq!(to_retry(&mut allocator), std::slice::from_ref(&b.key));
    assert_eq!(
        allocator.reconcile(&b, &version()).addresses,
        ips(&["10.0.0.1"])
    );
}

#[test]
fn two_services_may_exchange_their_addresses() {
    let mut allocator = allocator(vec![pool("p", &["10.0.0.1-10.0.0.2"])]);
    let (mut a, mut b) = (wants("a", "10.0.0.1"), wants("b", "10.0.0.2"));
    settle(&mut allocator, &mut a);
    settle(&mut allocator, &mut b);
    a.requested = Requested::parse(Some("10.0.0.2"), None);
    b.requested = Requested::parse(Some("10.0.0.1"), None);
    settle(&mut allocator, &mut a);
    settle(&mut allocator, &mut b);
    while let Some(key) = allocator.next_to_retry() {
        settle(&mut allocator, if key == a.key { &mut a } else { &mut b });
    }
    assert_eq!(
        (a.current, b.current),
        (ips(&["10.0.0.2"]), ips(&["10.0.0.1"]))
    );
}

#[test]
fn of_two_statuses_that_name_one_address_the_older_is_right() {
    // At the start, at a time when nobody holds anything, and later, when the younger one holds it.
    for at_start in [true, false] {
        let mut allocator = allocator(vec![pool("p", &["10.0.0.1-10.0.0.9"])]);
        let old = recorded("z-old", 1, &["10.0.0.1"]);
        let mut young = recorded("a-young", 2, &["10.0.0.1"]);
        if at_start {
            assert!(allocator.claim(&old, "1"));
            assert!(!allocator.claim(&young, "1"));
        } else {
            settle(&mut allocator, &mut young);
        }
        let kept = allocator.reconcile(&old, "1");
        assert_eq!(kept.addresses, old.current);
        assert!(kept.events.is_empty() && kept.conflict.is_none());
        if !at_start {
            assert_eq!(to_retry(&mut allocator), [young.key.clone()]);
        }
        let moved = allocator.reconcile(&young, "1");
        assert_eq!(moved.addresses, ips(&["10.0.0.2"]));
        let conflict = moved.conflict.unwrap();
        assert!(conflict.contains("10.0.0.1") && conflict.contains("default/z-old"));
        assert_eq!(moved.events[0].kind, EventKind::ClearAssignment);
        assert_eq!(moved.events[0].message, conflict);
    }
}

#[test]
fn whoever_spoils_a_shared_address_for_others_loses_it_even_if_older() {
    let mut allocator = allocator(vec![pool("p", &["10.0.0.1/32"])]);
    let mut old = shares("old", "key", 80);
    let mut young = Service {
        created: 5,
        ..shares("young", "key", 81)
    };
    settle(&mut allocator, &mut old);
    settle(&mut allocator, &mut young);
    assert_eq!(old.current, young.current);
    old.ports = ports(81);
    let said = settle(&mut allocator, &mut old);
    assert!(old.current.is_empty());
    assert!(
        said[0]
            .1
            .contains("port TCP/81 is already in use on \"10.0.0.1\" by default/young")
    );
    assert_eq!(reason(&mut allocator, &old), Reason::PoolExhausted);
    // Other ports of the other one make room: nobody left, and yet there is something to gain.
    young.ports = ports(82);
    settle(&mut allocator, &mut young);
    assert_eq!(to_retry(&mut allocator), [old.key.clone()]);
    settle(&mut allocator, &mut old);
    assert_eq!(old.current, young.current);
}

#[test]
fn only_the_first_in_line_is_looked_at_when_one_address_comes_free() {
    let mut allocator = allocator(vec![pool("p", &["10.0.0.1-10.0.0.2"])]);
    let (mut a, mut b) = (service("a"), service("b"));
    settle(&mut allocator, &mut a);
    settle(&mut allocator, &mut b);
    for n in 0..100 {
        let waiting = Service {
            created: 100 - n,
            ..service(&format!("w{n}"))
        };
        assert_eq!(reason(&mut allocator, &waiting), Reason::PoolExhausted);
    }
    allocator.forget(&a.key);
    let first = allocator.next_to_retry().unwrap();
    assert_eq!(first.name(), "w99", "the oldest");
    let served = Service {
        created: 1,
        ..service("w99")
    };
    assert!(!allocator.reconcile(&served, "1").addresses.is_empty());
    let second = allocator.next_to_retry().unwrap();
    assert_eq!(second.name(), "w98");
    let waits = Service {
        created: 2,
        ..service("w98")
    };
    assert!(allocator.reconcile(&waits, "1").addresses.is_empty());
    assert_eq!(
        allocator.next_to_retry(),
        None,
        "nobody behind it fares better"
    );
}

#[test]
fn a_freed_address_is_kept_for_its_former_owner_for_a_time() {
    let kept = || Pool {
        reuse_hold: 60,
        ..pool("p", &["10.0.0.1-10.0.0.2"])
    };
    let mut allocator = allocator(vec![kept()]);
    allocator.tick(1_000);
    let mut a = service("a");
    settle(&mut allocator, &mut a);
    allocator.forget(&a.key);
    assert_eq!(allocator.counters("p").unwrap().available_v4, 1);
    let mut b = service("b");
    settle(&mut allocator, &mut b);
    assert_eq!(b.current, ips(&["10.0.0.2"]), "the next free one");
    let c = wants("c", "10.0.0.1");
    assert_eq!(reason(&mut allocator, &c), Reason::AddressOnHold);
    assert_eq!(reason(&mut allocator, &service("d")), Reason::PoolExhausted);
    // A process that starts anew is told of it by the pool's status.
    let holds = allocator.holds()["p"].clone();
    assert_eq!(
        holds,
        [Hold {
            address: ips(&["10.0.0.1"])[0],
            until: 61_000,
            former: Some(a.key.clone())
        }]
    );
    let mut anew = common::allocator(vec![kept()]);
    anew.tick(2_000);
    anew.claim(&b, "1");
    for hold in holds.clone() {
        anew.restore_hold(hold);
    }
    assert_eq!(anew.holds()["p"], holds);
    assert_eq!(reason(&mut anew, &c), Reason::AddressOnHold);
    // The former owner has it back at once.
    let mut again = service("a");
    settle(&mut anew, &mut again);
    assert_eq!(again.current, ips(&["10.0.0.1"]));
    assert!(anew.holds().is_empty());
    // For others it is free when the time is over.
    assert_eq!(allocator.wake_at(), Some(61_000));
    allocator.tick(60_999);
    assert_eq!(allocator.next_to_retry(), None);
    allocator.tick(61_000);
    assert!(to_retry(&mut allocator).contains(&c.key));
    assert_eq!(allocator.reconcile(&c, "1").addresses, ips(&["10.0.0.1"]));
    // And not at all once the pool keeps nothing back.
    allocator.forget(&c.key);
    assert_eq!(allocator.holds()["p"].len(), 1);
    allocator.set_pools([pool("p", &["10.0.0.1-10.0.0.2"])]);
    assert!(allocator.holds().is_empty());
    assert_eq!(allocator.counters("p").unwrap().available_v4, 1);
}

#[test]
fn excluded_addresses_are_not_given_and_who_has_one_moves() {
    let mut allocator = allocator(vec![pool("p", &["10.0.0.1-10.0.0.4"])]);
    let (mut a, mut b) = (service("a"), service("b"));
    settle(&mut allocator, &mut a);
    settle(&mut allocator, &mut b);
    allocator.set_pools([Pool {
        exclude: vec!["10.0.0.1-10.0.0.1".parse().unwrap()],
        ..pool("p", &["10.0.0.1-10.0.0.4"])
    }]);
    assert_eq!(allocator.counters("p").unwrap().available_v4, 2);
    let said = settle(&mut allocator, &mut a);
    assert_eq!(a.current, ips(&["10.0.0.3"]));
    assert_eq!(said[0].0, EventKind::ClearAssignment);
    settle(&mut allocator, &mut b);
    assert_eq!(b.current, ips(&["10.0.0.2"]));
    assert_eq!(
        reason(&mut allocator, &wants("c", "10.0.0.1")),
        Reason::AddressExcluded
    );
}

#[test]
fn a_namespace_has_no_more_addresses_than_it_may() {
    let mut allocator = allocator(vec![pool("p", &["10.0.0.0/24", "fd00::/120"])]);
    let limit = |limit| {
        Some(Namespace {
            limit,
            ..Namespace::default()
        })
    };
    allocator.set_namespace("default", limit(Limit::At(2)));
    let (mut a, mut b) = (shares("a", "key", 80), shares("b", "key", 81));
    settle(&mut allocator, &mut a);
    settle(&mut allocator, &mut b);
    assert_eq!(a.current, b.current, "a shared address counts once");
    let mut c = service("c");
    settle(&mut allocator, &mut c);
    assert!(!c.current.is_empty());
    let mut d = service("d");
    let said = settle(&mut allocator, &mut d);
    assert!(
        said[0]
            .1
            .contains("Namespace default has ferrolb.io/max-addresses 2"),
        "{said:?}"
    );
    assert_eq!(
        reason(&mut allocator, &wants("e", "10.0.0.9")),
        Reason::LimitReached
    );
    let mut f = shares("f", "key", 82);
    settle(&mut allocator, &mut f);
    assert_eq!(f.current, a.current, "what is there already may be shared");
    // Another namespace has a limit of its own.
    let mut other = service_in("other", "g");
    settle(&mut allocator, &mut other);
    assert!(!other.current.is_empty());
    // A lower limit takes nothing away, and moving needs no room.
    allocator.set_namespace("default", limit(Limit::At(1)));
    c.requested = Requested::parse(Some("10.0.0.200"), None);
    for service in [&mut a, &mut c] {
        let before = service.current.clone();
        settle(&mut allocator, service);
        assert_eq!(service.current.len(), before.len(), "{}", service.key);
    }
    // Whoever leaves makes room for the first in line.
    allocator.set_namespace("default", limit(Limit::At(2)));
    while let Some(key) = allocator.next_to_retry() {
        assert_ne!(key.name(), "z");
        if key == d.key {
            settle(&mut allocator, &mut d);
        }
    }
    assert!(d.current.is_empty());
    allocator.forget(&c.key);
    assert!(to_retry(&mut allocator).contains(&d.key));
    settle(&mut allocator, &mut d);
    assert!(!d.current.is_empty());
    // What cannot be understood lets nothing more through, and says so.
    allocator.set_namespace(
        "default",
        limit(Limit::Invalid("five is no number".to_owned())),
    );
    let said = settle(&mut allocator, &mut service("h"));
    assert!(said[0].1.contains("five is no number"), "{said:?}");
}

#[test]
fn a_pool_may_limit_each_namespace() {
    let limited = Pool {
        max_addresses_per_namespace: Some(1),
        ..pool("a-limited", &["10.0.0.0/24"])
    };
    let mut allocator = allocator(vec![limited, pool("b", &["10.0.1.0/32", "fd00::/120"])]);
    let mut given = Vec::new();
    for name in ["s1", "s2", "s3"] {
        let mut service = service(name);
        settle(&mut allocator, &mut service);
        given.push(service.recorded_pool.unwrap_or_default());
    }
    assert_eq!(given, ["a-limited", "b", ""]);
    assert_eq!(reason(&mut allocator, &service("s4")), Reason::LimitReached);
    allocator.forget(&ObjectKey::new("default", "s1"));
    assert_eq!(
        to_retry(&mut allocator)[0],
        ObjectKey::new("default", "s3"),
        "it waited for room there as well"
    );
    let mut dual = Service {
        requested_pool: Some("a-limited".into()),
        ..dual("dual", Policy::PreferDualStack)
    };
    settle(&mut allocator, &mut dual);
    assert_eq!(dual.current.len(), 1, "one family has room");
}

#[test]
fn each_obstacle_has_its_reason_and_names_what_is_in_the_way() {
    let to_shop = Pool {
        service_allocation: to_namespace("shop"),
        ..pool("shop", &["10.0.2.0/24"])
    };
    let manual = Pool {
        auto_assign: false,
        ..pool("manual", &["10.0.3.0/24"])
    };
    let mut allocator = allocator(vec![to_shop, manual, pool("z", &["fd00::/127"])]);
    let in_pool = |pool: &str, service: Service| Service {
        requested_pool: Some(pool.into()),
        ..service
    };
    for (service, reason, fragments) in [
        (
            service("auto"),
            Reason::NoPoolMatches,
            &["pool z has no IPv4 addresses"][..],
        ),
        (
            in_pool("shop", service("named")),
            Reason::NoPoolMatches,
            &["pool shop", "needs namespace shop, not default"],
        ),
        (
            wants("inside", "10.0.2.9"),
            Reason::NoPoolMatches,
            &["pool shop", "needs namespace shop"],
        ),
        (
            wants("outside", "10.9.9.9"),
            Reason::AddressNotInPools,
            &["manual (10.0.3.0/24)"],
        ),
        (
            wants("six", "fd00::1"),
            Reason::FamilyMismatch,
            &["ask for one IPv4 address"],
        ),
        (
            Service {
                requested: Requested::parse(Some("10.0.3.1"), None),
                ..dual("half", Policy::RequireDualStack)
            },
            Reason::FamilyMismatch,
            &["one address of each family"],
        ),
        (
            wants("twice", "10.0.3.1,10.0.3.2"),
            Reason::InvalidRequest,
            &["one of each family"],
        ),
        (
            Service {
                requested: Requested::parse(Some("10.0.3.1,fd00::1"), None),
                ..dual("pair", Policy::RequireDualStack)
            },
            Reason::AddressNotInPools,
            &["pools manual and z", "of one pool"],
        ),
        (
            wants("words", "ten"),
            Reason::InvalidRequest,
            &["\"ten\" is not an IP address"],
        ),
        (
            in_pool("none", service("unknown")),
            Reason::UnknownPool,
            &["unknown pool \"none\"", "manual (10.0.3.0/24)"],
        ),
        (
            in_pool("none", wants("unknown-too", "10.0.3.1")),
            Reason::UnknownPool,
            &["unknown pool \"none\""],
        ),
        (
            Service {
                families: Families::None,
                ..service("headless")
            },
            Reason::NoClusterIP,
            &["headless"],
        ),
        (
            Service {
                policy: Policy::RequireDualStack,
                ..service("single")
            },
            Reason::DualStackImpossible,
            &["one cluster IP only"],
        ),
    ] {
        let outcome = allocator.reconcile(&service, "1");
        assert!(outcome.addresses.is_empty(), "{}", service.key);
        let verdict = outcome.verdict.unwrap();
        assert_eq!(
            verdict.reason, reason,
            "{}: {}",
            service.key, verdict.message
        );
        for fragment in fragments {
            assert!(
                verdict.message.contains(fragment),
                "{}: {}",
                service.key,
                verdict.message
            );
        }
        assert!(outcome.events.len() <= 1);
        let again = allocator.reconcile(&service, "2");
        assert!(again.events.is_empty(), "said once: {:?}", again.events);
        // A process that starts anew finds it in the condition.
        let mut anew = allocator.clone();
        anew.forget(&service.key);
        let told = Service {
            told: Some(verdict.message.into()),
            ..service
        };
        assert!(anew.reconcile(&told, "3").events.is_empty());
    }
    assert_eq!(
        reason(&mut common::allocator(vec![]), &service("none")),
        Reason::NoPools
    );
}

#[test]
fn a_second_family_that_is_missing_is_said_and_comes_when_it_can() {
    let mut allocator = allocator(vec![pool("p", &["10.0.0.0/24", "fd00::1-fd00::1"])]);
    let mut first = dual("first", Policy::RequireDualStack);
    settle(&mut allocator, &mut first);
    let mut second = dual("second", Policy::PreferDualStack);
    let said = settle(&mut allocator, &mut second);
    assert_eq!(second.current, ips(&["10.0.0.1"]));
    assert_eq!(said[1].0, EventKind::AdditionalAssignFailed, "{said:?}");
    assert_eq!(
        reason(&mut allocator, &second),
        Reason::SecondFamilyUnavailable
    );
    allocator.forget(&first.key);
    assert_eq!(to_retry(&mut allocator), [second.key.clone()]);
    settle(&mut allocator, &mut second);
    assert_eq!(second.current, ips(&["10.0.0.1", "fd00::1"]));
}

#[test]
fn an_address_is_kept_through_a_change_that_only_adds_a_family() {
    let mut allocator = allocator(vec![pool("p", &["10.0.0.0/24", "fd00::/120"])]);
    let (mut a, mut b) = (service("a"), service("b"));
    settle(&mut allocator, &mut a);
    settle(&mut allocator, &mut b);
    allocator.forget(&a.key);
    b.families = Families::Dual;
    b.policy = Policy::RequireDualStack;
    settle(&mut allocator, &mut b);
    assert_eq!(
        b.current,
        ips(&["10.0.0.1", "fd00::"]),
        "and not the lower 10.0.0.0"
    );
}

#[test]
fn a_hundred_thousand_single_addresses_are_a_pool_like_any_other() {
    let ranges: Vec<String> = (0u32..100_000)
        .map(|n| format!("{}/32", std::net::Ipv4Addr::from(0x0a00_0000 + 2 * n)))
        .collect();
    let ranges: Vec<&str> = ranges.iter().map(String::as_str).collect();
    let mut allocator = allocator(vec![pool("p", &ranges)]);
    for n in 0..100 {
        let mut service = service(&format!("s{n:03}"));
        settle(&mut allocator, &mut service);
        let octets = [10, 0, 0, u8::try_from(2 * n).unwrap()];
        assert_eq!(service.current, [std::net::IpAddr::from(octets)]);
    }
    assert_eq!(allocator.counters("p").unwrap().available_v4, 99_900);
}
