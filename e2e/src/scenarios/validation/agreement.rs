//! Do the API server by itself and the rules say the same of an object?
//!
//! What the API server refuses, the rules refuse at the same field or one above it: nothing that the rules would carry out
//! is kept out. What the rules refuse, the API server refuses, but for what it cannot see; that is in [`Left`].

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use ferrolb_api::conversion::convert_bgp_peer;
use ferrolb_rules::{Known, Refusal};
use futures::{StreamExt, TryStreamExt};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::objects::{KINDS, Objects};
use super::without_judging_webhooks;
use crate::cluster::{SYSTEM, Site};

const SEED: u64 = 20_240_817;
const COUNT: usize = 3_000;
/// How many questions are under way at once.
const AT_ONCE: usize = 16;

pub fn run(site: &Site) -> Result<String> {
    let mut make = Objects::new(SEED);
    let objects: Vec<(usize, Value)> = (0..COUNT)
        .map(|number| {
            (
                number % KINDS.len(),
                make.next(number % KINDS.len(), number),
            )
        })
        .collect();
    without_judging_webhooks(site, || {
        let answers = site.runtime().block_on(
            futures::stream::iter(objects)
                .map(|(kind, object)| async move {
                    let answer = ask(&site.client, kind, &object).await?;
                    anyhow::Ok((kind, object, answer))
                })
                .buffered(AT_ONCE)
                .try_collect::<Vec<_>>(),
        )?;
        compare(&answers)
    })
}

/// What the API server says.
enum Answer {
    Accepted,
    /// The fields that it names, and everything that it prints.
    Refused(Vec<String>, String),
}

async fn ask(client: &kube::Client, kind: usize, object: &Value) -> Result<Answer> {
    let (_, version, plural) = KINDS[kind];
    let request = http::Request::builder()
        .method("POST")
        .uri(format!(
            "/apis/metallb.io/{version}/namespaces/{SYSTEM}/{plural}?dryRun=All"
        ))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(serde_json::to_vec(object)?)?;
    match client.request::<Value>(request).await {
        Ok(_) => Ok(Answer::Accepted),
        Err(kube::Error::Api(status)) if status.code == 422 => {
            let causes = status.details.iter().flat_map(|details| &details.causes);
            // "<nil>" only says that the rules of CEL were not asked, because a type or an enum is wrong.
            let fields = causes
                .filter(|cause| cause.field != "<nil>")
                .map(|cause| cause.field.clone());
            Ok(Answer::Refused(fields.collect(), status.message.clone()))
        }
        Err(error) => Err(error).with_context(|| format!("create {object}")),
    }
}

/// What the rules say of an object by itself; `Err` if it cannot even be read.
fn judge(kind: usize, object: &Value) -> Result<Vec<Refusal>, String> {
    fn read<K: DeserializeOwned>(object: &Value) -> Result<K, String> {
        serde_json::from_value(object.clone()).map_err(|error| error.to_string())
    }
    let known = Known::default();
    let verdict = match KINDS[kind].0 {
        "IPAddressPool" => known.pool(&read(object)?),
        "L2Advertisement" => known.l2_advertisement(&read(object)?),
        "BGPAdvertisement" => known.bgp_advertisement(&read(object)?),
        "BGPPeer" => {
            let newer = convert_bgp_peer(object.clone(), "metallb.io/v1beta2");
            known.peer(&read(&newer.map_err(|error| error.to_string())?)?)
        }
        "BFDProfile" => known.bfd_profile(&read(object)?),
        _ => known.community(&read(object)?),
    };
    Ok(verdict.refusals)
}

/// Why the API server does not refuse what the rules refuse; the table is in `api/src/cel/mod.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Left {
    Annotation,
    Duplicate,
    Overlap,
    OrderOfIpv6,
    OlderPeer,
}

impl Left {
    /// How many there are; one that no object shows may be wrong.
    const ALL: usize = 5;
}

fn left(version: &str, refusal: &Refusal) -> Option<Left> {
    let reason = &refusal.reason;
    if refusal.field.starts_with("metadata.annotations") {
        Some(Left::Annotation)
    } else if reason.starts_with("duplicate definition") {
        Some(Left::Duplicate)
    } else if reason.contains("overlaps with already defined") {
        Some(Left::Overlap)
    } else if reason.contains("the start is after the end") && reason.matches(':').count() > 4 {
        Some(Left::OrderOfIpv6)
    } else if refusal.kind == "BGPPeer"
        && version == "v1beta1"
        && (reason.starts_with("missing peer ASN") || reason.starts_with("peer has no Address"))
    {
        Some(Left::OlderPeer)
    } else {
        None
    }
}

/// Whether `field` is `path` or lies below it.
fn covers(path: &str, field: &str) -> bool {
    field
        .strip_prefix(path)
        .is_some_and(|below| below.is_empty() || below.starts_with(['.', '[']))
}

/// In what the two disagree.
fn disagreement(
    version: &str,
    answer: &Answer,
    rules: &Result<Vec<Refusal>, String>,
) -> Option<String> {
    match (answer, rules) {
        (Answer::Refused(..), Err(_)) => None,
        (Answer::Accepted, Err(error)) => Some(format!(
            "only the rules refuse it: it cannot be read: {error}"
        )),
        (Answer::Accepted, Ok(refusals)) => refusals
            .iter()
            .find(|refusal| left(version, refusal).is_none())
            .map(|refusal| format!("only the rules refuse it: {refusal}")),
        (Answer::Refused(fields, said), Ok(refusals)) => {
            let strange = fields
                .iter()
                .find(|field| !refusals.iter().any(|refusal| covers(&refusal.field, field)));
            let reason = match strange {
                Some(field) => format!("only the API server refuses {field}"),
                None if refusals.is_empty() => "only the API server refuses it".to_owned(),
                None => return None,
            };
            Some(format!(
                "{reason}; it says: {said}; the rules say: {refusals:?}"
            ))
        }
    }
}

fn compare(answers: &[(usize, Value, Answer)]) -> Result<String> {
    let mut by_kind = [(0, 0); KINDS.len()];
    let mut left_over: BTreeMap<Left, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (kind, object, answer) in answers {
        let version = KINDS[*kind].1;
        let rules = judge(*kind, object);
        if let Some(reason) = disagreement(version, answer, &rules) {
            wrong.push(format!("{object}\n  {reason}"));
        }
        match answer {
            Answer::Refused(..) => by_kind[*kind].1 += 1,
            Answer::Accepted => {
                by_kind[*kind].0 += 1;
                let reasons = rules.unwrap_or_default();
                for reason in reasons.iter().filter_map(|refusal| left(version, refusal)) {
                    *left_over.entry(reason).or_default() += 1;
                }
            }
        }
    }
    let shown = wrong
        .iter()
        .take(10)
        .cloned()
        .collect::<Vec<_>>()
        .join("\n");
    ensure!(
        wrong.is_empty(),
        "{} of {} objects:\n{shown}",
        wrong.len(),
        answers.len()
    );
    for ((accepted, refused), (kind, version, _)) in by_kind.iter().zip(KINDS) {
        let share = answers.len() / KINDS.len();
        ensure!(
            *accepted >= share / 3 && *refused >= share / 4,
            "the objects are no fair test of {kind} {version}: {accepted} accepted, {refused} refused"
        );
    }
    ensure!(
        left_over.len() == Left::ALL,
        "nothing was left to the webhook for one of the reasons that are allowed: {left_over:?}"
    );
    let (accepted, refused) = by_kind
        .iter()
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    Ok(format!(
        "{accepted} accepted, {refused} refused; left to the webhook: {left_over:?}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(field: &str, reason: &str) -> Refusal {
        Refusal::new("BGPPeer", "p", field, reason)
    }

    fn refused(field: &str) -> Answer {
        Answer::Refused(vec![field.to_owned()], String::new())
    }

    #[test]
    fn both_directions_are_held_against_each_other() {
        let said = |answer: &Answer, rules: Vec<Refusal>| {
            disagreement("v1beta2", answer, &Ok(rules)).is_some()
        };
        let wrong = || vec![refusal("spec.nodeSelectors[0]", "it means nothing")];
        assert!(!said(&Answer::Accepted, vec![]));
        assert!(!said(
            &refused("spec.nodeSelectors[0].matchExpressions[1]"),
            wrong()
        ));
        assert!(said(&Answer::Accepted, wrong()), "the API server is laxer");
        assert!(
            said(&refused("spec.nodeSelectors[0]"), vec![]),
            "the API server is stricter"
        );
        assert!(
            said(&refused("spec.nodeSelectors[01]"), wrong()),
            "it refuses another field"
        );
        assert!(
            said(&refused("spec.nodeSelectors"), wrong()),
            "it refuses more than the rules do"
        );
    }

    #[test]
    fn what_is_left_to_the_webhook_is_named() {
        let older = vec![refusal(
            "spec.peerASN",
            "missing peer ASN and dynamicASN; set one of the two",
        )];
        assert!(disagreement("v1beta1", &Answer::Accepted, &Ok(older.clone())).is_none());
        assert!(disagreement("v1beta2", &Answer::Accepted, &Ok(older)).is_some());
    }

    #[test]
    fn the_objects_are_the_same_in_each_run() {
        let some = || {
            let mut make = Objects::new(SEED);
            (0..50)
                .map(|number| make.next(number % KINDS.len(), number))
                .collect::<Vec<_>>()
        };
        assert_eq!(some(), some());
    }
}
