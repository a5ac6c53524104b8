//! Whether this speaker can use the configuration, and which interfaces its node has, as a ConfigurationState (reference 1.10).

use std::sync::Arc;
use std::time::Duration;

use ferrolb_api::conditions::configuration_state::{
    CONFIG_RECONCILER_VALID, CONFIGURATION_ERROR, RECONCILED,
};
use ferrolb_api::conditions::{INTERFACES, find, reason, status};
use ferrolb_api::labels::{COMPONENT_TYPE, NODE_NAME, SPEAKER};
use ferrolb_api::usable_interfaces::{UsableInterface, to_message};
use ferrolb_api::v1beta1::{ConfigurationResult, ConfigurationState, ConfigurationStateStatus};
use ferrolb_api::{ObjectKey, speaker_state};
use ferrolb_cluster::{
    Backoff, Client, Outcome, Store, Stored, WatchConfig, Writer, watch as watch_kind,
};
use ferrolb_rules::Refusal;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::status::Reporter;

/// Between two writes: links come and go in quick succession, and there may be 500 nodes of them.
const EVERY: Duration = Duration::from_secs(3);
/// After a failure.
const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Problems that are named, and the length of each in characters: a condition holds 32,768.
const PROBLEMS_AT_MOST: usize = 20;
const PROBLEM_AT_MOST: usize = 1000;

/// Tells what this speaker found out. Cheap to clone; telling never waits, and the newest counts.
#[derive(Clone)]
pub struct ConfigurationReport(Arc<watch::Sender<Told>>);

/// What shall be said; nothing of what is not known yet.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    interfaces: Option<String>,
    /// What is wrong with the configuration, one problem on each line.
    problems: Option<String>,
    some_interface: bool,
}

/// What is there.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    owned: bool,
    status: ConfigurationStateStatus,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
enum Step {
    Create(ConfigurationStateStatus),
    Own,
    Show(ConfigurationStateStatus),
}

impl ConfigurationReport {
    /// Starts to keep the object in a task of its own until `shutdown`.
    #[must_use]
    pub fn start(client: &Client, reporter: Reporter, shutdown: CancellationToken) -> Self {
        let (sender, told) = watch::channel(Told::default());
        let keeper = Keeper::new(client, reporter);
        tokio::spawn(shutdown.run_until_cancelled_owned(keeper.run(told)));
        ConfigurationReport(Arc::new(sender))
    }

    /// These are the interfaces that addresses can be announced on.
    pub fn set_interfaces(&self, interfaces: &[UsableInterface]) {
        let message = to_message(interfaces);
        self.tell(|told| {
            told.some_interface = !interfaces.is_empty();
            told.interfaces = Some(message);
        });
    }

    /// This is wrong with the configuration; nothing is if it is empty.
    pub fn set_configuration(&self, refusals: &[Refusal]) {
        let problems = problems(refusals);
        self.tell(|told| told.problems = Some(problems));
    }

    fn tell(&self, change: impl FnOnce(&mut Told)) {
        self.0.send_if_modified(|told| {
            let before = told.clone();
            change(told);
            *told != before
        });
    }
}

fn problems(refusals: &[Refusal]) -> String {
    let mut lines: Vec<String> = refusals
        .iter()
        .take(PROBLEMS_AT_MOST)
        .map(|refusal| refusal.to_string().chars().take(PROBLEM_AT_MOST).collect())
        .collect();
    if refusals.len() > PROBLEMS_AT_MOST {
        let more = refusals.len() - PROBLEMS_AT_MOST;
        lines.push(format!("and {more} more problems"));
    }
    lines.join("\n")
}

/// What is to be done next. Nothing is said before something is known.
fn step(told: &Told, seen: Option<&Seen>, now: &Time) -> Option<Step> {
    if *told == Told::default() {
        return None;
    }
    let Some(seen) = seen else {
        let status = wanted(told, &ConfigurationStateStatus::default(), now);
        return Some(Step::Create(status));
    };
    if !seen.owned {
        return Some(Step::Own);
    }
    let status = wanted(told, &seen.status, now);
    (status != seen.status).then_some(Step::Show(status))
}

/// The status that says it. The time of a condition moves only when its answer does; MetalLB's moves with each report.
fn wanted(
    told: &Told,
    existing: &ConfigurationStateStatus,
    now: &Time,
) -> ConfigurationStateStatus {
    let mut conditions = existing.conditions.clone();
    let mut answer = |type_: &str, holds: bool, reason: &str, message: String| {
        let status = if holds { status::TRUE } else { status::FALSE };
        let before = find(&existing.conditions, type_).filter(|before| before.status == status);
        let since = before.map_or(now, |before| &before.last_transition_time);
        conditions.retain(|condition| condition.type_ != type_);
        conditions.push(Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: None,
            last_transition_time: since.clone(),
        });
    };
    let mut result = existing.result.unwrap_or_default();
    let mut error_summary = existing.error_summary.clone();
    if let Some(problems) = &told.problems {
        let valid = problems.is_empty();
        let message = if valid {
            String::new()
        } else {
            format!("configuration error: {problems}")
        };
        result = if valid {
            ConfigurationResult::Valid
        } else {
            ConfigurationResult::Invalid
        };
        error_summary = (!valid).then(|| message.clone());
        let reason = if valid {
            RECONCILED
        } else {
            CONFIGURATION_ERROR
        };
        answer(CONFIG_RECONCILER_VALID, valid, reason, message);
    }
    if let Some(interfaces) = &told.interfaces {
        let reason = if told.some_interface {
            reason::USABLE
        } else {
            reason::NONE_USABLE
        };
        answer(INTERFACES, told.some_interface, reason, interfaces.clone());
    }
    conditions.sort_by(|one, other| one.type_.cmp(&other.type_));
    ConfigurationStateStatus {
        result: Some(result),
        error_summary,
        conditions,
    }
}

/// The merge patch that leaves this status and nothing of the one before it.
fn patch(status: &ConfigurationStateStatus) -> Value {
    json!({"status": {
        "result": status.result,
        "errorSummary": status.error_summary,
        "conditions": status.conditions,
    }})
}

struct Keeper {
    reporter: Reporter,
    key: ObjectKey,
    writer: Writer,
    store: Store<Seen>,
}

impl Keeper {
    fn new(client: &Client, reporter: Reporter) -> Self {
        let key = ObjectKey::new(&reporter.namespace, &speaker_state(&reporter.node));
        let by = reporter.clone();
        let store = watch_kind(
            client,
            WatchConfig::streamed()
                .with_versions()
                .in_namespace(&reporter.namespace)
                .fields(format!("metadata.name={}", key.name())),
            move |object: &ConfigurationState| Some(by.seen(object)),
        );
        Keeper {
            reporter,
            key,
            writer: Writer::new(client.clone()),
            store,
        }
    }

    /// Goes on for ever.
    async fn run(self, mut told: watch::Receiver<Told>) {
        self.store.ready().await;
        let feed = self.store.subscribe();
        let mut backoff = Backoff::new(REST.0, REST.1);
        let mut quiet_until: Option<Instant> = None;
        loop {
            quiet_until = quiet_until.filter(|until| *until > Instant::now());
            let wanted = told.borrow_and_update().clone();
            let seen = self.store.get(&self.key);
            let now = Time(Timestamp::now());
            let step = step(&wanted, seen.as_deref(), &now);
            let wait = step.is_some().then_some(quiet_until).flatten();
            if let (Some(step), None) = (step, quiet_until) {
                let done = self.carry_out(step, seen).await;
                let rest = if done {
                    backoff.succeeded();
                    EVERY
                } else {
                    backoff.failed()
                };
                quiet_until = Some(Instant::now() + rest);
                continue;
            }
            tokio::select! {
                _ = feed.next() => {}
                Ok(()) = told.changed() => {}
                () = tokio::time::sleep_until(wait.unwrap_or_else(Instant::now)), if wait.is_some() => {}
            }
        }
    }

    /// True once it is done.
    async fn carry_out(&self, step: Step, seen: Option<Stored<Seen>>) -> bool {
        let version = seen.map(|seen| seen.resource_version().to_owned());
        let version = version.unwrap_or_default();
        let outcome = match step {
            Step::Create(status) => {
                let object = self.reporter.configuration_state(&self.key);
                let created = self.writer.create(self.key.namespace(), &object).await;
                match created {
                    Outcome::Done(version) => self.show(&status, &version).await,
                    outcome => outcome,
                }
            }
            Step::Own => {
                let object = self.reporter.configuration_state(&self.key);
                let change = json!({"metadata": {
                    "labels": object.metadata.labels,
                    "ownerReferences": object.metadata.owner_references,
                }});
                self.writer
                    .patch::<ConfigurationState>(&self.key, Some(&version), change)
                    .await
            }
            Step::Show(status) => self.show(&status, &version).await,
        };
        match &outcome {
            Outcome::Done(_) => return true,
            Outcome::Conflict | Outcome::Gone => {
                debug!(object = %self.key, ?outcome, "the ConfigurationState changed meanwhile");
            }
            Outcome::Invalid(reason) | Outcome::Unavailable(reason) => {
                warn!(object = %self.key, %reason, "the ConfigurationState is not written; trying again");
            }
        }
        false
    }

    async fn show(&self, status: &ConfigurationStateStatus, version: &str) -> Outcome {
        self.writer
            .patch_status::<ConfigurationState>(&self.key, version, patch(status))
            .await
    }
}

impl Reporter {
    fn configuration_state(&self, key: &ObjectKey) -> ConfigurationState {
        let mut object = ConfigurationState::default();
        object.metadata.name = Some(key.name().to_owned());
        let labels = [
            (COMPONENT_TYPE, SPEAKER.to_owned()),
            (NODE_NAME, self.node_label().into_owned()),
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value));
        object.metadata.labels = Some(labels.into());
        object.metadata.owner_references = self.owner().map(|owner| vec![owner]);
        object
    }

    fn seen(&self, object: &ConfigurationState) -> Seen {
        let label = |key: &str| object.labels().get(key).map(String::as_str);
        Seen {
            owned: self.owns(object.metadata.owner_references.as_deref())
                && label(COMPONENT_TYPE) == Some(SPEAKER)
                && label(NODE_NAME) == Some(&self.node_label()),
            status: object.status.clone().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    fn told(interfaces: Option<&str>, problems: Option<&str>) -> Told {
        Told {
            interfaces: interfaces.map(str::to_owned),
            problems: problems.map(str::to_owned),
            some_interface: interfaces.is_some_and(|interfaces| !interfaces.is_empty()),
        }
    }

    fn shown(told: &Told, before: Option<Seen>, now: &Time) -> Option<Seen> {
        let owned = true;
        match step(told, before.as_ref(), now) {
            Some(Step::Create(status) | Step::Show(status)) => Some(Seen { owned, status }),
            _ => None,
        }
    }

    fn summary(seen: &Seen) -> Vec<String> {
        let of = |condition: &Condition| {
            format!(
                "{}={} {} {:?} {}",
                condition.type_,
                condition.status,
                condition.reason,
                condition.message,
                condition.last_transition_time.0.as_second()
            )
        };
        seen.status.conditions.iter().map(of).collect()
    }

    #[test]
    fn nothing_is_said_before_something_is_known_and_nothing_twice() {
        assert_eq!(step(&Told::default(), None, &at(1)), None);
        let some = told(Some("eth0 (ARP)"), None);
        let first = shown(&some, None, &at(1)).unwrap();
        assert_eq!(first.status.result, Some(ConfigurationResult::Unknown));
        assert_eq!(
            summary(&first),
            ["ferrolb.io/Interfaces=True Usable \"eth0 (ARP)\" 1"]
        );
        assert_eq!(step(&some, Some(&first), &at(2)), None);
    }

    #[test]
    fn a_mistake_is_told_as_metallb_tells_it_and_times_move_only_with_the_answer() {
        let good = told(Some("eth0 (ARP)"), Some(""));
        let first = shown(&good, None, &at(1)).unwrap();
        assert_eq!(first.status.result, Some(ConfigurationResult::Valid));
        assert_eq!(first.status.error_summary, None);
        assert_eq!(
            summary(&first),
            [
                "configReconcilerValid=True Reconciled \"\" 1",
                "ferrolb.io/Interfaces=True Usable \"eth0 (ARP)\" 1"
            ]
        );
        let bad = told(Some(""), Some("IPAddressPool \"a\", spec: wrong"));
        let second = shown(&bad, Some(first), &at(2)).unwrap();
        let message = "configuration error: IPAddressPool \"a\", spec: wrong";
        assert_eq!(second.status.result, Some(ConfigurationResult::Invalid));
        assert_eq!(second.status.error_summary.as_deref(), Some(message));
        assert_eq!(
            summary(&second),
            [
                format!("configReconcilerValid=False ConfigurationError {message:?} 2"),
                "ferrolb.io/Interfaces=False NoneUsable \"\" 2".to_owned()
            ]
        );
        let otherwise = told(Some("eth1 (NDP)"), Some("another"));
        let third = shown(&otherwise, Some(second), &at(3)).unwrap();
        assert_eq!(
            summary(&third),
            [
                "configReconcilerValid=False ConfigurationError \"configuration error: another\" 2",
                "ferrolb.io/Interfaces=True Usable \"eth1 (NDP)\" 3"
            ]
        );
        // After a start it is not known yet what the process before found.
        let new = told(Some("eth1 (NDP)"), None);
        assert_eq!(step(&new, Some(&third), &at(4)), None);
    }

    #[test]
    fn the_patch_takes_away_what_is_said_no_more() {
        let bad = shown(&told(None, Some("wrong")), None, &at(1)).unwrap();
        let mut stored = json!({"status": bad.status});
        let good = shown(&told(None, Some("")), Some(bad), &at(2)).unwrap();
        json_patch::merge(&mut stored, &patch(&good.status));
        assert_eq!(stored, json!({"status": good.status}));
    }

    #[test]
    fn very_many_problems_fit() {
        let refusals: Vec<Refusal> = (0..100)
            .map(|n| {
                Refusal::new(
                    "IPAddressPool",
                    "p",
                    format!("spec.addresses[{n}]"),
                    "x".repeat(5000),
                )
            })
            .collect();
        let text = problems(&refusals);
        assert!(text.len() < 32_000 && text.ends_with("and 80 more problems"));
        assert_eq!(problems(&[]), "");
    }
}
