//! What the status of an object that a person wrote says of it.

use ferrolb_allocation::PoolCounters;
use ferrolb_api::conditions::{ACCEPTED, reason, status};
use ferrolb_api::v1beta1::IPAddressPoolStatus;
use ferrolb_rules::Refusal;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The conditions of an object, `Accepted` brought up to date and the others as they are.
///
/// `lastTransitionTime` moves only when the answer does, so an unchanged object is not written again.
#[must_use]
pub fn with_accepted(
    existing: &[Condition],
    generation: Option<i64>,
    refusals: &[&Refusal],
    now: &Time,
) -> Vec<Condition> {
    let (answer, word, message) = if refusals.is_empty() {
        (
            status::TRUE,
            reason::ACCEPTED,
            "The object follows every rule.".to_owned(),
        )
    } else {
        let conflict = refusals
            .iter()
            .all(|refusal| refusal.reason.contains("overlaps"));
        let sentences: Vec<String> = refusals
            .iter()
            .map(|refusal| format!("{}: {}", refusal.field, refusal.reason))
            .collect();
        (
            status::FALSE,
            if conflict {
                reason::CONFLICTED
            } else {
                reason::INVALID
            },
            sentences.join("\n"),
        )
    };
    let before = existing
        .iter()
        .find(|condition| condition.type_ == ACCEPTED);
    let since = before
        .filter(|before| before.status == answer)
        .map_or(now, |before| &before.last_transition_time);
    let accepted = Condition {
        type_: ACCEPTED.to_owned(),
        status: answer.to_owned(),
        reason: word.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: since.clone(),
    };
    existing
        .iter()
        .filter(|condition| condition.type_ != ACCEPTED)
        .cloned()
        .chain([accepted])
        .collect()
}

/// The condition of an object that cannot be read. What else its status says cannot be read either.
#[must_use]
pub fn unreadable(generation: Option<i64>, error: &str, now: &Time) -> Condition {
    Condition {
        type_: ACCEPTED.to_owned(),
        status: status::FALSE.to_owned(),
        reason: reason::UNREADABLE.to_owned(),
        message: format!(
            "The object cannot be read and is not in use; write it again as its schema says: {error}"
        ),
        observed_generation: generation,
        last_transition_time: now.clone(),
    }
}

/// The status of a pool: its counters, zero while it is not in force, and its conditions.
#[must_use]
pub fn pool_status(
    counters: Option<PoolCounters>,
    conditions: Vec<Condition>,
) -> IPAddressPoolStatus {
    let counters = counters.unwrap_or_default();
    IPAddressPoolStatus {
        assigned_ipv4: counters.assigned_v4,
        assigned_ipv6: counters.assigned_v6,
        available_ipv4: counters.available_v4,
        available_ipv6: counters.available_v6,
        conditions,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn the_time_moves_only_when_the_answer_does() {
        let first = with_accepted(&[], Some(1), &[], &at(100));
        assert_eq!(
            (first[0].status.as_str(), first[0].observed_generation),
            ("True", Some(1))
        );
        let second = with_accepted(&first, Some(2), &[], &at(200));
        assert_eq!(second[0].last_transition_time, at(100));
        assert_eq!(second[0].observed_generation, Some(2));
        let refusal = Refusal::new(
            "IPAddressPool",
            "p",
            "spec.addresses[0]",
            "invalid CIDR \"x\"",
        );
        let third = with_accepted(&second, Some(3), &[&refusal], &at(300));
        assert_eq!(
            (third[0].status.as_str(), third[0].reason.as_str()),
            ("False", "Invalid")
        );
        assert_eq!(third[0].message, "spec.addresses[0]: invalid CIDR \"x\"");
        assert_eq!(third[0].last_transition_time, at(300));
    }

    #[test]
    fn conditions_of_others_stay() {
        let mut other = with_accepted(&[], Some(1), &[], &at(1));
        other[0].type_ = "Programmed".to_owned();
        let both = with_accepted(&other, Some(1), &[], &at(2));
        assert_eq!(both.len(), 2);
    }
}
