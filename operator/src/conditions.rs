//! What the status of an object that a person wrote says of it.

use ferrolb_allocation::PoolCounters;
use ferrolb_api::InForce;
use ferrolb_api::conditions::{
    ACCEPTED, EXHAUSTED, INTERFACES_FOUND, OVERLAPPING, RESOLVED_REFS, reason, status,
};
use ferrolb_api::v1beta1::{HeldAddresses, IPAddressPoolStatus};
use ferrolb_rules::{Family, Overlaps, Pool, Refusal, Unresolved};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};

use crate::interfaces::Found;

/// What a condition says, but for when and of which generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    type_: &'static str,
    /// None where the question does not arise: the condition goes then.
    status: Option<&'static str>,
    reason: &'static str,
    message: String,
}

impl Answer {
    pub(crate) fn new(
        type_: &'static str,
        holds: bool,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Answer {
            type_,
            status: Some(if holds { status::TRUE } else { status::FALSE }),
            reason,
            message: message.into(),
        }
    }

    pub(crate) fn unknown(
        type_: &'static str,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Answer {
            status: Some(status::UNKNOWN),
            ..Answer::new(type_, false, reason, message)
        }
    }

    fn absent(type_: &'static str) -> Self {
        Answer {
            status: None,
            ..Answer::new(type_, false, "", "")
        }
    }

    /// Whether a condition says this of this generation.
    pub(crate) fn is_said_by(&self, said: Option<&Condition>, generation: Option<i64>) -> bool {
        let said = said.filter(|said| said.observed_generation == generation);
        said.map(|said| (said.status.as_str(), said.reason.as_str(), &said.message))
            == self
                .status
                .map(|status| (status, self.reason, &self.message))
    }
}

/// The conditions of an object, `answers` brought up to date and the others as they are.
///
/// `lastTransitionTime` moves only when the answer does, so an unchanged object is not written again.
#[must_use]
pub fn with(
    existing: &[Condition],
    generation: Option<i64>,
    answers: impl IntoIterator<Item = Answer>,
    now: &Time,
) -> Vec<Condition> {
    let mut conditions = existing.to_vec();
    for answer in answers {
        let Some(status) = answer.status else {
            conditions.retain(|condition| condition.type_ != answer.type_);
            continue;
        };
        let before = conditions
            .iter_mut()
            .find(|condition| condition.type_ == answer.type_);
        let since = before
            .as_ref()
            .filter(|before| before.status == status)
            .map_or(now, |before| &before.last_transition_time);
        let condition = Condition {
            type_: answer.type_.to_owned(),
            status: status.to_owned(),
            reason: answer.reason.to_owned(),
            message: answer.message,
            observed_generation: generation,
            last_transition_time: since.clone(),
        };
        match before {
            Some(before) => *before = condition,
            None => conditions.push(condition),
        }
    }
    conditions
}

/// Whether an object follows the rules. `caveat` is said beside the answer.
#[must_use]
pub fn accepted(refusals: &[&Refusal], caveat: Option<&str>) -> Answer {
    if refusals.is_empty() {
        let rules = "The object follows every rule.";
        let message = caveat.map_or(rules.to_owned(), |caveat| format!("{rules} {caveat}"));
        return Answer::new(ACCEPTED, true, reason::ACCEPTED, message);
    }
    let conflict = refusals.iter().all(|refusal| refusal.conflict);
    let problems = refusals.iter();
    let mut sentences =
        sentences(problems.map(|refusal| format!("{}: {}", refusal.field, refusal.reason)));
    sentences.extend(caveat.map(ToOwned::to_owned));
    let word = if conflict {
        reason::CONFLICTED
    } else {
        reason::INVALID
    };
    Answer::new(ACCEPTED, false, word, sentences.join("\n"))
}

/// Whether everything exists that an object names.
#[must_use]
pub fn resolved_refs(unresolved: &[Unresolved]) -> Answer {
    if unresolved.is_empty() {
        let message = "Everything that the object names exists.";
        return Answer::new(RESOLVED_REFS, true, reason::RESOLVED_REFS, message);
    }
    let problems = unresolved.iter();
    let sentences =
        sentences(problems.map(|unresolved| format!("{}: {}", unresolved.field, unresolved.text)));
    let word = if unresolved.iter().any(|unresolved| unresolved.missing) {
        reason::REF_NOT_FOUND
    } else {
        reason::REF_NOT_USABLE
    };
    Answer::new(RESOLVED_REFS, false, word, sentences.join("\n"))
}

/// Whether a pool that is `in_force` has nothing left to give in some family. What it says stays the same for as long as the
/// answer does, however many addresses come and go.
#[must_use]
pub fn exhausted(in_force: Option<(&Pool, PoolCounters)>) -> Answer {
    let Some((pool, counters)) = in_force else {
        return Answer::new(
            EXHAUSTED,
            false,
            reason::NOT_IN_FORCE,
            "The pool is not in force and gives no addresses.",
        );
    };
    let families = [
        (Family::V4, counters.available_v4),
        (Family::V6, counters.available_v6),
    ];
    let used_up: Vec<String> = families
        .into_iter()
        .filter(|(family, available)| pool.has(*family) && *available <= 0)
        .map(|(family, _)| format!("{family} address"))
        .collect();
    if used_up.is_empty() {
        return Answer::new(
            EXHAUSTED,
            false,
            reason::ADDRESSES_AVAILABLE,
            "The pool has addresses left.",
        );
    }
    let mut remedies = vec!["add addresses to spec.addresses"];
    if !pool.exclude.is_empty() {
        remedies.push("exclude fewer by the annotation ferrolb.io/exclude");
    }
    remedies.push("delete Services that need none");
    if pool.reuse_hold > 0 {
        remedies.push("wait for those in status.heldAddresses");
    }
    let message = format!(
        "No {} is left in the pool: {}.",
        used_up.join(" and no "),
        one_of(&remedies)
    );
    Answer::new(EXHAUSTED, true, reason::NO_ADDRESS_LEFT, message)
}

/// Whether other pools have addresses in common with one.
#[must_use]
pub fn overlapping(overlaps: Option<&Overlaps>) -> Answer {
    let Some(overlaps) = overlaps.filter(|overlaps| !overlaps.named.is_empty()) else {
        return Answer::new(
            OVERLAPPING,
            false,
            reason::NO_OVERLAP,
            "No other pool has addresses in common with this one.",
        );
    };
    let mut sentences: Vec<String> = overlaps
        .named
        .iter()
        .take(SENTENCES_AT_MOST)
        .map(|overlap| clipped(&overlap.to_string()))
        .collect();
    if overlaps.more {
        sentences.push("and more overlaps of this kind".to_owned());
    }
    Answer::new(OVERLAPPING, true, reason::OVERLAPS, sentences.join("\n"))
}

/// Whether the interfaces that an advertisement names are there; `None` if it names none.
#[must_use]
pub fn interfaces_found(found: Option<&Found>) -> Answer {
    match found {
        None => Answer::absent(INTERFACES_FOUND),
        Some(Found::All) => Answer::new(
            INTERFACES_FOUND,
            true,
            reason::INTERFACES_FOUND,
            "Each entry of spec.interfaces is found, and each node that is selected has one of them.",
        ),
        Some(Found::NotAll(message)) => Answer::new(
            INTERFACES_FOUND,
            false,
            reason::INTERFACE_NOT_FOUND,
            clipped(message),
        ),
        Some(Found::Unknown) => Answer::unknown(
            INTERFACES_FOUND,
            reason::NOT_REPORTED,
            "No node that is selected has said which interfaces it has; see that its speaker runs, and spec.nodeSelectors.",
        ),
    }
}

/// `a, b or c`.
fn one_of(choices: &[&str]) -> String {
    match choices {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
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

/// What a merge patch says of what is in force. A form that is not named would stay, and the object would be taken for being in
/// force by it.
#[must_use]
pub fn in_force(in_force: Option<&InForce>) -> Value {
    let mut value = json!(in_force);
    if let Some(fields) = value.as_object_mut() {
        fields.entry("form").or_insert(Value::Null);
    }
    value
}

/// The field of a status that says what is in force.
pub const IN_FORCE: &str = "inForce";

/// Problems that a condition names.
const SENTENCES_AT_MOST: usize = 20;
/// The length of a sentence, in characters; it may quote what somebody wrote.
const SENTENCE_AT_MOST: usize = 1000;

/// The first of all problems. A condition holds 32,768 characters at most, and nobody mends hundreds of problems at a time.
fn sentences(problems: impl ExactSizeIterator<Item = String>) -> Vec<String> {
    let more = problems.len().saturating_sub(SENTENCES_AT_MOST);
    let named = problems.take(SENTENCES_AT_MOST);
    let mut sentences: Vec<String> = named.map(|sentence| clipped(&sentence)).collect();
    if more > 0 {
        sentences.push(format!("and {more} more problems of this kind"));
    }
    sentences
}

fn clipped(sentence: &str) -> String {
    match sentence.char_indices().nth(SENTENCE_AT_MOST) {
        Some((at, _)) => format!("{}…", sentence.get(..at).unwrap_or_default()),
        None => sentence.to_owned(),
    }
}

/// The status of a pool: its counters, zero while it is not in force, the addresses that are `held` back, its conditions, and
/// in which form it is in force.
#[must_use]
pub fn pool_status(
    counters: Option<PoolCounters>,
    held: Vec<HeldAddresses>,
    conditions: Vec<Condition>,
    in_force: Option<InForce>,
) -> IPAddressPoolStatus {
    let counters = counters.unwrap_or_default();
    IPAddressPoolStatus {
        assigned_ipv4: counters.assigned_v4,
        assigned_ipv6: counters.assigned_v6,
        available_ipv4: counters.available_v4,
        available_ipv6: counters.available_v6,
        held_addresses: held,
        conditions,
        in_force,
    }
}

/// The merge patch that leaves this status of a pool and nothing of the one before it, but for what is in force: that is written
/// only when it is another than `recorded`, since it may be long and counters change often.
#[must_use]
pub fn pool_patch(status: &IPAddressPoolStatus, recorded: Option<&InForce>) -> Value {
    let mut patch = json!({"status": status});
    if let Some(written) = patch.get_mut("status").and_then(Value::as_object_mut) {
        // An empty list is not written, and a field that a merge patch does not name stays as it is.
        written.entry("heldAddresses").or_insert(Value::Null);
        written.insert(IN_FORCE.to_owned(), in_force(status.in_force.as_ref()));
        if recorded == status.in_force.as_ref() {
            written.remove(IN_FORCE);
        }
    }
    patch
}

#[cfg(test)]
mod tests;
