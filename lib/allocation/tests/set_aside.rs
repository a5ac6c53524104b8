//! Who keeps an address of a pool that breaks a rule, where nobody knows what the pool said before?
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::*;
use ferrolb_allocation::{Allocator, EventKind, Families, Policy, Reason, Requested, Service};
use ferrolb_rules::Family;

/// After a restart: `broken` exists, and only `q` is in force.
fn restarted() -> Allocator {
    let mut allocator = allocator(vec![pool("q", &["10.1.0.0/24", "fd01::/120"])]);
    allocator.set_aside(["broken".to_owned(), "other".to_owned()].into());
    allocator
}

fn holder() -> Service {
    Service {
        recorded_pool: Some("broken".into()),
        ..recorded("web", 0, &["10.0.0.5"])
    }
}

fn wanting(addresses: &str) -> Service {
    Service {
        requested: Requested::parse(Some(addresses), None),
        ..holder()
    }
}

fn of_pool(pool: &str, service: Service) -> Service {
    Service {
        requested_pool: Some(pool.into()),
        ..service
    }
}

#[test]
fn whoever_asks_for_nothing_else_keeps_it_in_silence() {
    for service in [
        holder(),
        of_pool("broken", holder()),
        wanting("10.0.0.5"),
        of_pool("broken", wanting("10.0.0.5")),
        wanting("nonsense"),
        Service {
            families: Families::Dual,
            policy: Policy::PreferDualStack,
            ..holder()
        },
    ] {
        let mut allocator = restarted();
        assert!(allocator.claim(&service, "1"));
        let outcome = allocator.reconcile(&service, "1");
        assert_eq!(outcome.addresses, service.current, "{service:?}");
        assert_eq!(outcome.pool.as_deref(), Some("broken"));
        assert!(outcome.events.is_empty(), "{:?}", outcome.events);
    }
}

#[test]
fn whoever_asks_for_another_pool_address_or_family_moves_or_loses_it_and_why_is_said() {
    let six = Service {
        families: Families::Single(Family::V6),
        ..holder()
    };
    for (service, asks, gets) in [
        (
            of_pool("q", holder()),
            "the Service asks for an address of pool q",
            Ok("10.1.0.0"),
        ),
        (
            wanting("10.1.0.7"),
            "the Service asks for [\"10.1.0.7\"]",
            Ok("10.1.0.7"),
        ),
        (six, "the Service is IPv6 now", Ok("fd01::")),
        (
            of_pool("none", holder()),
            "the Service asks for an address of pool none",
            Err((Reason::UnknownPool, "unknown pool \"none\"")),
        ),
        (
            of_pool("other", holder()),
            "the Service asks for an address of pool other",
            Err((Reason::UnknownPool, "pool other is not in force")),
        ),
        (
            of_pool("other", wanting("10.0.0.5")),
            "the Service asks for an address of pool other",
            Err((Reason::UnknownPool, "pool other is not in force")),
        ),
        (
            wanting("10.0.0.6"),
            "the Service asks for [\"10.0.0.6\"]",
            Err((Reason::AddressNotInPools, "mend broken or other")),
        ),
    ] {
        let mut allocator = restarted();
        assert!(!allocator.claim(&service, "1"));
        let outcome = allocator.reconcile(&service, "1");
        let first = &outcome.events[0];
        assert_eq!(first.kind, EventKind::ClearAssignment);
        assert_eq!(
            first.message,
            format!("[\"10.0.0.5\"] may not stay: {asks}")
        );
        match gets {
            Ok(address) => {
                assert_eq!(outcome.addresses, ips(&[address]));
                assert_eq!(outcome.pool.as_deref(), Some("q"));
            }
            Err((reason, why)) => {
                assert!(outcome.addresses.is_empty());
                let verdict = outcome.verdict.unwrap();
                assert_eq!(verdict.reason, reason, "{}", verdict.message);
                assert!(verdict.message.contains(why), "{}", verdict.message);
            }
        }
    }
}

#[test]
fn whose_address_another_pool_has_by_now_is_of_that_pool() {
    let mut allocator = allocator(vec![pool("q", &["10.0.0.0/24"])]);
    allocator.set_aside(["broken".to_owned()].into());
    let service = of_pool("q", holder());
    assert!(allocator.claim(&service, "1"));
    let outcome = allocator.reconcile(&service, "1");
    assert_eq!(outcome.addresses, ips(&["10.0.0.5"]));
    assert_eq!(outcome.pool.as_deref(), Some("q"));
    assert!(outcome.events.is_empty(), "{:?}", outcome.events);
}

#[test]
fn where_no_pool_is_in_force_the_same_holds() {
    let mut allocator = Allocator::default();
    allocator.set_aside(["broken".to_owned()].into());
    let kept = allocator.reconcile(&holder(), "1");
    assert_eq!(kept.addresses, ips(&["10.0.0.5"]));
    let lost = allocator.reconcile(&of_pool("q", holder()), "2");
    assert!(lost.addresses.is_empty());
    assert_eq!(
        lost.events[0].message,
        "[\"10.0.0.5\"] may not stay: the Service asks for an address of pool q"
    );
    assert_eq!(lost.verdict.unwrap().reason, Reason::NoPools);
}
