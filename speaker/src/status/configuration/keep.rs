//! Keeps the ConfigurationState as it shall be.

use std::time::Duration;

use ferrolb_api::v1beta1::{ConfigurationState, ConfigurationStateStatus};
use ferrolb_api::{ObjectKey, speaker_state};
use ferrolb_cluster::{
    Backoff, Client, Outcome, Store, Stored, WatchConfig, Writer, watch as watch_kind,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::Told;
use super::object::{Seen, Step, is_dropped, is_news, patch, step};
use crate::status::Reporter;

/// Between two writes: links come and go in quick succession, and there may be 500 nodes of them.
const EVERY: Duration = Duration::from_secs(3);
/// The same where only figures are different: how many prefixes a peer was told changes with every Service.
const FIGURES_EVERY: Duration = Duration::from_secs(30);
/// After a failure.
const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

pub(super) struct Keeper {
    reporter: Reporter,
    key: ObjectKey,
    writer: Writer,
    store: Store<Seen>,
}

impl Keeper {
    pub(super) fn new(client: &Client, reporter: Reporter) -> Self {
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
    pub(super) async fn run(self, mut told: watch::Receiver<Told>) {
        self.store.ready().await;
        let feed = self.store.subscribe();
        let mut backoff = Backoff::new(REST.0, REST.1);
        // When the last write ended, and for how long nothing is written after it.
        let mut last: Option<(Instant, Duration)> = None;
        let mut written = Vec::new();
        loop {
            let wanted = told.borrow_and_update().clone();
            let seen = self.store.get(&self.key);
            let now = Time(Timestamp::now());
            let step = step(&wanted, seen.as_deref(), &now)
                .filter(|step| !is_dropped(step, seen.as_deref(), &written));
            let are_figures = |status| {
                seen.as_ref()
                    .is_some_and(|seen| !is_news(&seen.status, status))
            };
            let wait = match (&step, last) {
                (None, _) => None,
                (Some(Step::Show(status)), Some((ended, rest)))
                    if rest == EVERY && are_figures(status) =>
                {
                    Some(ended + FIGURES_EVERY)
                }
                (Some(_), last) => last.map(|(ended, rest)| ended + rest),
            };
            let wait = wait.filter(|until| *until > Instant::now());
            if let (Some(step), None) = (step, wait) {
                let sessions = match &step {
                    Step::Create(status) | Step::Show(status) => Some(status.bgp_sessions.clone()),
                    Step::Own => None,
                };
                let done = self.carry_out(step, seen).await;
                let rest = if done {
                    backoff.succeeded();
                    written = sessions.unwrap_or(written);
                    EVERY
                } else {
                    backoff.failed()
                };
                last = Some((Instant::now(), rest));
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
