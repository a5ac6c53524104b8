//! What the status of an object that a person wrote says of it.

use ferrolb_allocation::PoolCounters;
use ferrolb_api::conditions::{ACCEPTED, reason, status};
use ferrolb_api::v1beta1::IPAddressPoolStatus;
use ferrolb_api::v1beta2::BGPPeer;
use ferrolb_rules::Refusal;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The conditions of an object, `Accepted` brought up to date and the others as they are.
///
/// `caveat` is said beside the answer. `lastTransitionTime` moves only when the answer does, so an unchanged object is not written again.
#[must_use]
pub fn with_accepted(
    existing: &[Condition],
    generation: Option<i64>,
    refusals: &[&Refusal],
    caveat: Option<&str>,
    now: &Time,
) -> Vec<Condition> {
    let (answer, word, message) = if refusals.is_empty() {
        let rules = "The object follows every rule.";
        (
            status::TRUE,
            reason::ACCEPTED,
            caveat.map_or(rules.to_owned(), |caveat| format!("{rules} {caveat}")),
        )
    } else {
        let conflict = refusals.iter().all(|refusal| refusal.conflict);
        // A condition holds 32,768 characters at most, and nobody mends hundreds of problems at a time.
        let mut sentences: Vec<String> = refusals
            .iter()
            .take(SENTENCES_AT_MOST)
            .map(|refusal| clipped(&format!("{}: {}", refusal.field, refusal.reason)))
            .collect();
        if refusals.len() > SENTENCES_AT_MOST {
            let more = refusals.len() - SENTENCES_AT_MOST;
            sentences.push(format!("and {more} more problems of this kind"));
        }
        sentences.extend(caveat.map(ToOwned::to_owned));
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

/// Problems that a condition names.
const SENTENCES_AT_MOST: usize = 20;
/// The length of a sentence, in characters; it may quote what somebody wrote.
const SENTENCE_AT_MOST: usize = 1000;

fn clipped(sentence: &str) -> String {
    match sentence.char_indices().nth(SENTENCE_AT_MOST) {
        Some((at, _)) => format!("{}…", sentence.get(..at).unwrap_or_default()),
        None => sentence.to_owned(),
    }
}

/// What a peer asks for that speakers of this version do not do, as a sentence.
#[must_use]
pub fn not_carried_out(peer: &BGPPeer) -> Option<String> {
    let spec = &peer.spec;
    let asked = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let fields: Vec<&str> = [
        (asked(&spec.interface), "spec.interface"),
        (asked(&spec.vrf), "spec.vrf"),
        (asked(&spec.bfd_profile), "spec.bfdProfile"),
        (
            spec.enable_graceful_restart == Some(true),
            "spec.enableGracefulRestart",
        ),
    ]
    .into_iter()
    .filter_map(|(asked, field)| asked.then_some(field))
    .collect();
    // A session elsewhere, or over another table of routes, would be another session than the one asked for.
    let none = fields
        .iter()
        .any(|field| ["spec.interface", "spec.vrf"].contains(field));
    (!fields.is_empty()).then(|| {
        format!(
            "This version of FerroLB does not carry out {} yet{}.",
            fields.join(", "),
            if none { " and opens no session" } else { "" }
        )
    })
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
        let first = with_accepted(&[], Some(1), &[], None, &at(100));
        assert_eq!(
            (first[0].status.as_str(), first[0].observed_generation),
            ("True", Some(1))
        );
        let second = with_accepted(&first, Some(2), &[], None, &at(200));
        assert_eq!(second[0].last_transition_time, at(100));
        assert_eq!(second[0].observed_generation, Some(2));
        let refusal = Refusal::new(
            "IPAddressPool",
            "p",
            "spec.addresses[0]",
            "invalid CIDR \"x\"",
        );
        let third = with_accepted(&second, Some(3), &[&refusal], None, &at(300));
        assert_eq!(
            (third[0].status.as_str(), third[0].reason.as_str()),
            ("False", "Invalid")
        );
        assert_eq!(third[0].message, "spec.addresses[0]: invalid CIDR \"x\"");
        assert_eq!(third[0].last_transition_time, at(300));
    }

    #[test]
    fn what_a_peer_asks_for_in_vain_is_said() {
        let mut peer = BGPPeer::new("router", Default::default());
        assert_eq!(not_carried_out(&peer), None);
        peer.spec.bfd_profile = Some("fast".to_owned());
        peer.spec.vrf = Some("red".to_owned());
        let caveat = not_carried_out(&peer);
        assert_eq!(
            caveat.as_deref(),
            Some(
                "This version of FerroLB does not carry out spec.vrf, spec.bfdProfile yet and opens no session."
            )
        );
        let conditions = with_accepted(&[], Some(1), &[], caveat.as_deref(), &at(1));
        assert!(conditions[0].status == "True" && conditions[0].message.contains("spec.vrf"));
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
        let conditions = with_accepted(&[], Some(1), &all.iter().collect::<Vec<_>>(), None, &at(1));
        let message = &conditions[0].message;
        assert!(message.chars().count() < 32_768);
        assert!(message.ends_with("and 980 more problems of this kind"));
    }

    #[test]
    fn conditions_of_others_stay() {
        let mut other = with_accepted(&[], Some(1), &[], None, &at(1));
        other[0].type_ = "Programmed".to_owned();
        let both = with_accepted(&other, Some(1), &[], None, &at(2));
        assert_eq!(both.len(), 2);
    }
}
