//! What is a Service told of the addresses that it loses and gets, and how often?
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::*;
use ferrolb_allocation::{EventKind, Outcome, Service};
use ferrolb_rules::Pool;

fn four() -> Vec<Pool> {
    (1..=4)
        .map(|n| pool(&format!("c-{n}"), &[&format!("10.0.{n}.1/32")]))
        .collect()
}

fn told(outcome: &Outcome) -> Vec<(EventKind, String)> {
    let events = outcome.events.iter();
    events.map(|e| (e.kind, e.message.clone())).collect()
}

/// Each deletion is a decision of its own, and each of these names fewer pools than the one before.
#[test]
fn one_address_lost_is_one_event_however_many_pools_go_before_the_status_shows_it() {
    for pool_asked in [None, Some("c-1")] {
        let mut allocator = allocator(four());
        let web = Service {
            requested_pool: pool_asked.map(str::to_owned),
            recorded_pool: Some("c-1".into()),
            ..recorded("web", 0, &["10.0.1.1"])
        };
        assert!(told(&allocator.reconcile(&web, "7")).is_empty());
        let mut said = Vec::new();
        for gone in 1..=4 {
            allocator.set_pools(four().split_off(gone));
            said.extend(told(&allocator.reconcile(&web, "7")));
        }
        let losses = |said: &[(EventKind, String)]| {
            let lost = |(kind, _): &&(EventKind, String)| *kind == EventKind::ClearAssignment;
            said.iter().filter(lost).count()
        };
        assert_eq!(losses(&said), 1, "{said:#?}");
        // Somebody labels it before the status is cleared: still the same loss.
        said.extend(told(&allocator.reconcile(&web, "8")));
        assert_eq!(losses(&said), 1, "{said:#?}");
        // Another address is another loss.
        allocator.set_pools(four());
        let moved = Service {
            current: ips(&["10.0.2.1"]),
            recorded_pool: Some("c-2".into()),
            requested_pool: None,
            ..web.clone()
        };
        assert!(told(&allocator.reconcile(&moved, "9")).is_empty());
        allocator.set_pools([]);
        said.extend(told(&allocator.reconcile(&moved, "9")));
        assert_eq!(losses(&said), 2, "{said:#?}");
    }
}

/// The pool goes while the write of what was given in its place is under way.
#[test]
fn what_was_given_in_place_of_a_loss_is_told_once_although_another_loss_comes_between() {
    let mut allocator = allocator(four());
    let mut web = recorded("web", 0, &["10.0.1.1"]);
    allocator.reconcile(&web, "7");
    allocator.set_pools(four().split_off(1));
    let first = allocator.reconcile(&web, "7");
    assert_eq!(first.addresses, ips(&["10.0.2.1"]));
    allocator.sent(&web.key, "7", &first.addresses);
    allocator.set_pools(four().split_off(2));
    let second = allocator.reconcile(&web, "7");
    assert_eq!(second.addresses, ips(&["10.0.3.1"]));
    // The first write came through; its address is lost too.
    web.current = first.addresses.clone();
    let third = allocator.reconcile(&web, "8");
    let kinds = |outcome: &Outcome| -> Vec<EventKind> {
        outcome.events.iter().map(|event| event.kind).collect()
    };
    use EventKind::{ClearAssignment, IPAllocated};
    assert_eq!(kinds(&first), [ClearAssignment, IPAllocated]);
    assert_eq!(kinds(&second), [IPAllocated]);
    assert_eq!(third.addresses, second.addresses);
    assert_eq!(kinds(&third), [ClearAssignment], "{:?}", third.events);
    assert!(third.events[0].message.starts_with("[\"10.0.2.1\"]"));
    // And back to where it was: that is told, for it was given anew.
    web.current = second.addresses;
    allocator.set_pools(four().drain(1..2));
    let fourth = allocator.reconcile(&web, "9");
    assert_eq!(fourth.addresses, ips(&["10.0.2.1"]));
    assert_eq!(kinds(&fourth), [ClearAssignment, IPAllocated]);
}

#[test]
fn the_same_loss_after_a_recovery_is_told_again() {
    let mut allocator = allocator(four());
    let mut web = Service {
        requested_pool: Some("c-1".into()),
        ..service("web")
    };
    let mut rounds = Vec::new();
    for _ in 0..3 {
        allocator.set_pools(four());
        let mut said = settle(&mut allocator, &mut web);
        allocator.set_pools(four().split_off(1));
        said.extend(settle(&mut allocator, &mut web));
        rounds.push(said);
    }
    let kinds: Vec<EventKind> = rounds[0].iter().map(|(kind, _)| *kind).collect();
    use EventKind::{AllocationFailed, ClearAssignment, IPAllocated};
    assert_eq!(kinds, [IPAllocated, ClearAssignment, AllocationFailed]);
    assert!(rounds.iter().all(|round| *round == rounds[0]), "{rounds:?}");
}
