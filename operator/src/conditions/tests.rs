//! What conditions say, of every kind of answer.

use ferrolb_rules::{InForce, Overlap};
use k8s_openapi::jiff::Timestamp;

use super::*;

fn at(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

fn accepted_at(
    existing: &[Condition],
    generation: Option<i64>,
    refusals: &[&Refusal],
    caveat: Option<&str>,
    now: &Time,
) -> Vec<Condition> {
    with(existing, generation, [accepted(refusals, caveat)], now)
}

#[test]
fn the_time_moves_only_when_the_answer_does() {
    let first = accepted_at(&[], Some(1), &[], None, &at(100));
    assert_eq!(
        (first[0].status.as_str(), first[0].observed_generation),
        ("True", Some(1))
    );
    let second = accepted_at(&first, Some(2), &[], None, &at(200));
    assert_eq!(second[0].last_transition_time, at(100));
    assert_eq!(second[0].observed_generation, Some(2));
    let refusal = Refusal::new(
        "IPAddressPool",
        "p",
        "spec.addresses[0]",
        "invalid CIDR \"x\"",
    );
    let third = accepted_at(&second, Some(3), &[&refusal], None, &at(300));
    assert_eq!(
        (third[0].status.as_str(), third[0].reason.as_str()),
        ("False", "Invalid")
    );
    assert_eq!(third[0].message, "spec.addresses[0]: invalid CIDR \"x\"");
    assert_eq!(third[0].last_transition_time, at(300));
}

#[test]
fn what_is_in_force_and_not_carried_out_is_said_beside() {
    let conditions = accepted_at(&[], Some(1), &[], Some("Not spec.vrf."), &at(1));
    assert!(conditions[0].status == "True" && conditions[0].message.ends_with(" Not spec.vrf."));
}

#[test]
fn a_thousand_problems_fit_into_a_condition() {
    let all: Vec<Refusal> = (0..1000)
        .map(|n| {
            Refusal::new(
                "IPAddressPool",
                "p",
                format!("spec.addresses[{n}]"),
                "x".repeat(5000),
            )
        })
        .collect();
    let conditions = accepted_at(&[], Some(1), &all.iter().collect::<Vec<_>>(), None, &at(1));
    let message = &conditions[0].message;
    assert!(message.chars().count() < 32_768);
    assert!(message.ends_with("and 980 more problems of this kind"));
}

#[test]
fn a_condition_goes_when_its_question_does_not_arise_any_more() {
    let both = with(
        &[],
        Some(1),
        [accepted(&[], None), interfaces_found(Some(&Found::All))],
        &at(1),
    );
    assert_eq!(both.len(), 2);
    let unknown = with(
        &both,
        Some(1),
        [interfaces_found(Some(&Found::Unknown))],
        &at(2),
    );
    assert_eq!(
        (unknown[1].status.as_str(), unknown[1].reason.as_str()),
        ("Unknown", "NotReported")
    );
    let one = with(&both, Some(2), [interfaces_found(None)], &at(3));
    assert_eq!(one, both[..1]);
}

#[test]
fn conditions_of_others_stay() {
    let mut other = accepted_at(&[], Some(1), &[], None, &at(1));
    other[0].type_ = "Programmed".to_owned();
    let both = accepted_at(&other, Some(1), &[], None, &at(2));
    assert_eq!(both.len(), 2);
}

fn pool(ranges: &[&str]) -> Pool {
    let ranges = ranges.iter().map(|text| text.parse().unwrap()).collect();
    Pool::new("p", ranges)
}

#[test]
fn a_pool_is_exhausted_when_a_family_that_it_has_is_used_up() {
    let counters = |available_v4, available_v6| PoolCounters {
        available_v4,
        available_v6,
        ..Default::default()
    };
    let said = |pool: &Pool, v4, v6| {
        let answer = exhausted(Some((pool, counters(v4, v6))));
        (answer.status.unwrap(), answer.reason, answer.message)
    };
    let left = (
        "False",
        "AddressesAvailable",
        "The pool has addresses left.".to_owned(),
    );
    let v4 = pool(&["10.0.0.0/24"]);
    assert_eq!(said(&v4, 1, 0), left);
    let message = "No IPv4 address is left in the pool: \
                   add addresses to spec.addresses or delete Services that need none.";
    assert_eq!(
        said(&v4, 0, 0),
        ("True", "NoAddressLeft", message.to_owned())
    );
    let mut both = pool(&["10.0.0.0/24", "fd00::/120"]);
    assert_eq!(said(&both, 1, 1), left);
    both.exclude = vec!["10.0.0.1/32".parse().unwrap()];
    both.reuse_hold = 60;
    let (holds, _, message) = said(&both, 1, 0);
    assert!(holds == "True" && message.starts_with("No IPv6 address is left"));
    assert_eq!(
        said(&both, 0, 0).2,
        "No IPv4 address and no IPv6 address is left in the pool: add addresses to spec.addresses, \
         exclude fewer by the annotation ferrolb.io/exclude, delete Services that need none \
         or wait for those in status.heldAddresses."
    );
    let none = exhausted(None);
    assert_eq!((none.status, none.reason), (Some("False"), "NotInForce"));
}

#[test]
fn overlaps_are_told_and_the_rest_is_left_out() {
    assert_eq!(overlapping(None).reason, "NoOverlap");
    let overlap = |n: usize| Overlap {
        entry: "10.0.0.0/24".to_owned(),
        other: format!("p{n}"),
        other_entry: "10.0.0.0/8".to_owned(),
        in_force: InForce::Other,
    };
    let overlaps = Overlaps {
        named: (0..20).map(overlap).collect(),
        more: true,
    };
    let answer = overlapping(Some(&overlaps));
    assert_eq!((answer.status, answer.reason), (Some("True"), "Overlaps"));
    let lines: Vec<&str> = answer.message.lines().collect();
    assert_eq!(
        lines[0],
        "10.0.0.0/24 has addresses in common with 10.0.0.0/8 of pool \"p0\"; \
         \"p0\" is in force with them, this pool is not. Remove them from one of the two."
    );
    assert_eq!(
        (lines.len(), lines[20]),
        (21, "and more overlaps of this kind")
    );
}

#[test]
fn the_patch_of_a_pool_takes_away_what_is_held_no_more() {
    let held = HeldAddresses {
        addresses: "10.0.0.1".to_owned(),
        until: "2026-01-01T00:00:00Z".to_owned(),
        service: None,
    };
    let in_force = ferrolb_api::InForce {
        observed_generation: Some(1),
        observed: "0".to_owned(),
        form: Some("{}".to_owned()),
    };
    let mut stored = json!({"status": pool_status(None, vec![held], Vec::new(), Some(in_force))});
    assert_eq!(
        stored["status"]["heldAddresses"][0]["addresses"],
        "10.0.0.1"
    );
    let wanted = pool_status(None, Vec::new(), Vec::new(), None);
    let recorded = ferrolb_api::InForce::default();
    json_patch::merge(&mut stored, &pool_patch(&wanted, Some(&recorded)));
    assert_eq!(stored, json!({"status": wanted}));
}
