//! Carries out what [`super::decide`] says, until told to stop or leadership is lost.

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::decide::{Action, Elector, LeaseView, Timing};
use crate::changes::ChangeFeed;
use crate::store::Store;
use crate::watch::{WatchConfig, chain, watch as watch_kind};

/// One candidacy.
#[derive(Clone)]
pub struct Election {
    /// The connection.
    pub client: Client,
    /// Where the Lease lives.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who we are to people, for example the pod's name; a part unique to this process is appended.
    pub identity: String,
    /// How patient we are.
    pub timing: Timing,
}

/// What a candidate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Another leads, or nobody yet: keep caches warm and write nothing.
    Following,
    /// We write, until this moment unless renewed.
    Leading {
        /// The renew deadline as of the last renewal.
        until: Instant,
    },
    /// We led and lost it: exit.
    Ended,
}

/// Why a candidacy ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// We were told to stop and gave the Lease back if we held it.
    Released,
    /// The Lease could not be renewed in time, or somebody took it: the process must exit and start again.
    Lost,
}

/// Whether this process leads. Cheap to clone and to ask before every write.
#[derive(Debug, Clone)]
pub struct Leadership {
    role: watch::Receiver<Role>,
}

impl Leadership {
    /// Whether a write may set out now. Asks the clock too: a process that was stopped for a minute finds here that
    /// it leads no more, before any timer of its own had a chance to run.
    pub fn leads(&self) -> bool {
        matches!(*self.role.borrow(), Role::Leading { until } if now() < until)
    }

    /// Waits until this process leads.
    pub async fn elected(&mut self) {
        if self
            .role
            .wait_for(|role| matches!(role, Role::Leading { .. }))
            .await
            .is_err()
        {
            // The election is over and we were not elected: there is nothing to wait for.
            std::future::pending::<()>().await;
        }
    }

    /// The role as of the last look.
    pub fn role(&self) -> Role {
        *self.role.borrow()
    }

    /// A leader for ever, for tests and for tools that run alone.
    pub fn alone() -> Self {
        let until = now() + std::time::Duration::from_secs(u64::from(u32::MAX));
        Self {
            role: watch::channel(Role::Leading { until }).1,
        }
    }
}

impl Election {
    /// Starts the candidacy. The task ends with [`Ended`]; on [`Ended::Lost`] the caller must exit at once, without
    /// another write. On `shutdown` the Lease is given back, so that a follower takes over without waiting: finish
    /// writing first.
    pub fn start(
        self,
        shutdown: CancellationToken,
    ) -> (Leadership, tokio::task::JoinHandle<Ended>) {
        let (role, receiver) = watch::channel(Role::Following);
        let task = tokio::spawn(Candidate::new(self, Arc::new(role)).run(shutdown));
        (Leadership { role: receiver }, task)
    }
}

struct Candidate {
    election: Election,
    api: Api<Lease>,
    identity: String,
    elector: Elector,
    role: Arc<watch::Sender<Role>>,
    acquired: Option<jiff::Timestamp>,
    troubled: bool,
}

impl Candidate {
    fn new(election: Election, role: Arc<watch::Sender<Role>>) -> Self {
        // A restarted container has the name of the one before; a process must not take that one's lease for its own.
        let identity = format!("{}_{:016x}", election.identity, rand::random::<u64>());
        Self {
            api: Api::namespaced(election.client.clone(), &election.namespace),
            elector: Elector::new(identity.clone(), election.timing),
            election,
            identity,
            role,
            acquired: None,
            troubled: false,
        }
    }

    async fn run(mut self, shutdown: CancellationToken) -> Ended {
        // Only a change of holder wakes a follower: renewals change nothing in this projection.
        let leases = watch_kind(
            &self.election.client,
            WatchConfig::most_recent()
                .in_namespace(&self.election.namespace)
                .fields(format!("metadata.name={}", self.election.name)),
            |lease: &Lease| {
                Some(
                    lease
                        .spec
                        .as_ref()
                        .and_then(|spec| spec.holder_identity.clone())
                        .unwrap_or_default(),
                )
            },
        );
        let holder_changed = leases.subscribe();
        let ended = self.campaign(&shutdown, &leases, &holder_changed).await;
        match ended {
            Ended::Released => self.release().await,
            Ended::Lost => {
                tracing::error!(lease = %self.election.name, "leadership is lost; this process must exit")
            }
        }
        self.role.send_replace(Role::Ended);
        ended
    }

    async fn campaign(
        &mut self,
        shutdown: &CancellationToken,
        leases: &Store<String>,
        holder_changed: &ChangeFeed,
    ) -> Ended {
        // The first look comes before any decision: an unknown Lease is not an absent one.
        let mut look = true;
        loop {
            if shutdown.is_cancelled() {
                return Ended::Released;
            }
            let before = self.elector.leads_until().is_some();
            let progress = if look {
                self.read().await
            } else {
                self.act().await
            };
            let pause = match progress {
                Progress::Lost => return Ended::Lost,
                Progress::Decide => {
                    look = false;
                    continue;
                }
                Progress::Look => {
                    look = true;
                    continue;
                }
                Progress::Pause(pause) => pause,
            };
            // A leader renews what it knows; a follower looks again. After a failure both look.
            look = !before || self.troubled;
            let until = self.elector.leads_until();
            let pause = match until {
                Some(until) => pause.min(until.saturating_duration_since(now())),
                None => pause,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => (),
                () = shutdown.cancelled() => return Ended::Released,
                _ = holder_changed.next() => {
                    tracing::debug!(ready = leases.is_ready(), "the lease changed hands");
                    look = true;
                }
            }
            if until.is_some_and(|until| now() >= until) {
                return Ended::Lost;
            }
        }
    }

    async fn read(&mut self) -> Progress {
        let api = self.api.clone();
        let read = tokio::time::timeout(self.patience(), api.get_opt(&self.election.name)).await;
        match read {
            Ok(Ok(lease)) => {
                self.elector.observed(lease.as_ref().map(view), now());
                self.fine();
                Progress::Decide
            }
            Ok(Err(error)) => self.trouble(&chain(&error)),
            Err(_) => self.trouble("no answer in time"),
        }
    }

    async fn act(&mut self) -> Progress {
        match self.elector.decide(now()) {
            Action::Wait(pause) => Progress::Pause(pause),
            Action::GiveUp => Progress::Lost,
            Action::Create => {
                let lease = self.lease(None, 0, &self.identity);
                self.write(lease, true).await
            }
            Action::Take {
                resource_version,
                transitions,
            }
            | Action::Renew {
                resource_version,
                transitions,
            } => {
                let lease = self.lease(Some(resource_version), transitions, &self.identity);
                self.write(lease, false).await
            }
        }
    }

    async fn write(&mut self, lease: Lease, create: bool) -> Progress {
        let (api, params) = (self.api.clone(), PostParams::default());
        let sent = now();
        let write = async {
            match create {
                true => api.create(&params, &lease).await,
                false => api.replace(&self.election.name, &params, &lease).await,
            }
        };
        match tokio::time::timeout(self.patience(), write).await {
            Ok(Ok(lease)) => {
                let first = self.elector.leads_until().is_none();
                self.elector.wrote(view(&lease), sent, now());
                self.fine();
                if let Some(until) = self.elector.leads_until() {
                    self.role.send_replace(Role::Leading { until });
                }
                if first {
                    self.acquired = Some(jiff::Timestamp::now());
                    tracing::info!(lease = %self.election.name, identity = %self.identity, "this process leads");
                }
                Progress::Decide
            }
            // Somebody was first, or it is gone: look. Where there is not even the namespace to create it in, a look would
            // send us here again at once.
            Ok(Err(kube::Error::Api(status)))
                if status.code == 409 || status.code == 404 && !create =>
            {
                Progress::Look
            }
            Ok(Err(error)) => self.trouble(&chain(&error)),
            Err(_) => self.trouble("no answer in time"),
        }
    }

    /// A request may last until the renew deadline, and never longer than [`Timing::request`].
    fn patience(&self) -> std::time::Duration {
        let request = self.election.timing.request();
        match self.elector.leads_until() {
            Some(until) => request.min(until.saturating_duration_since(now())),
            None => request,
        }
    }

    fn lease(&self, resource_version: Option<String>, transitions: i32, holder: &str) -> Lease {
        let now = jiff::Timestamp::now();
        let acquired = self.acquired.unwrap_or(now);
        Lease {
            metadata: ObjectMeta {
                name: Some(self.election.name.clone()),
                namespace: Some(self.election.namespace.clone()),
                resource_version,
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: i32::try_from(
                    self.election.timing.lease().as_secs().max(1),
                )
                .ok(),
                acquire_time: Some(MicroTime(acquired)),
                renew_time: Some(MicroTime(now)),
                lease_transitions: Some(transitions),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Gives the Lease back, so that a follower need not wait for its end.
    async fn release(&mut self) {
        if self.elector.leads_until().is_none() {
            return;
        }
        self.role.send_replace(Role::Following);
        let Some(seen) = self
            .elector
            .seen()
            .filter(|seen| seen.holder == self.identity)
            .cloned()
        else {
            return;
        };
        let lease = self.lease(Some(seen.resource_version), seen.transitions, "");
        let api = self.api.clone();
        let params = PostParams::default();
        match tokio::time::timeout(
            self.patience(),
            api.replace(&self.election.name, &params, &lease),
        )
        .await
        {
            Ok(Ok(_)) => tracing::info!(lease = %self.election.name, "leadership is given back"),
            Ok(Err(error)) => {
                tracing::warn!(error = %chain(&error), "leadership could not be given back; it runs out by itself")
            }
            Err(_) => {
                tracing::warn!("leadership could not be given back in time; it runs out by itself")
            }
        }
    }

    fn fine(&mut self) {
        if std::mem::take(&mut self.troubled) {
            tracing::info!(lease = %self.election.name, "the lease can be reached again");
        }
    }

    fn trouble(&mut self, error: &str) -> Progress {
        if !std::mem::replace(&mut self.troubled, true) {
            tracing::warn!(lease = %self.election.name, %error, "the lease cannot be reached; trying again");
        }
        Progress::Pause(
            self.election
                .timing
                .retry()
                .mul_f64(rand::random_range(0.5..=1.0)),
        )
    }
}

enum Progress {
    /// The Lease is known: decide.
    Decide,
    /// The Lease changed under us: read it.
    Look,
    /// Nothing to do for this long.
    Pause(std::time::Duration),
    /// The renew deadline passed or another holds the Lease.
    Lost,
}

fn view(lease: &Lease) -> LeaseView {
    let spec = lease.spec.clone().unwrap_or_default();
    LeaseView {
        holder: spec.holder_identity.unwrap_or_default(),
        resource_version: lease.resource_version().unwrap_or_default(),
        transitions: spec.lease_transitions.unwrap_or(0),
        lease: std::time::Duration::from_secs(
            u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0),
        ),
    }
}

/// The monotonic clock; that of the runtime, so that tests can stop it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
