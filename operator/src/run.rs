//! The loop: what changed, what follows, carry it out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ferrolb_api::ObjectKey;
use ferrolb_cluster::{
    ChangeFeed, Changes, Client, ConfigurationFeed, ConfigurationStores, EventPublisher,
    KeyedBackoff, Leadership, Status, Store, WatchConfig, Writer, watch,
};
use ferrolb_rules::{Configuration, LastGood, Refusal};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::carry_out::{Again, CarryOut};
use crate::configuration::{self, Written};
use crate::decide::{Decider, Seen, order};
use crate::metrics::Metrics;
use crate::project::{Observed, observe};
use crate::unreadable::Unreadable;

/// Statuses of pools follow their counters at most this often, so that a thousand new Services are not a thousand
/// writes to each pool.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// What the loop watches.
#[derive(Clone)]
pub struct Stores {
    /// Services that are ours.
    pub services: Store<Observed>,
    /// The labels of namespaces.
    pub namespaces: Store<BTreeMap<String, String>>,
    /// What people configured.
    pub configuration: ConfigurationStores,
}

impl Stores {
    /// Starts every watch.
    #[must_use]
    pub fn watch(client: &Client, namespace: &str, class: Option<String>) -> Self {
        Stores {
            services: watch(
                Api::<Service>::all(client.clone()),
                WatchConfig::most_recent(),
                move |service: &Service| observe(service, class.as_deref()),
            ),
            namespaces: watch(
                Api::<Namespace>::all(client.clone()),
                WatchConfig::most_recent(),
                |namespace: &Namespace| Some(namespace.metadata.labels.clone().unwrap_or_default()),
            ),
            configuration: ConfigurationStores::watch(
                client,
                namespace,
                &WatchConfig::most_recent(),
                Status::Kept,
            ),
        }
    }

    /// Whether every store is complete.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.services.is_ready() && self.namespaces.is_ready() && self.configuration.is_ready()
    }

    /// Waits until every store is complete.
    pub async fn ready(&self) {
        self.services.ready().await;
        self.namespaces.ready().await;
        self.configuration.ready().await;
    }
}

/// The loop with what it remembers.
pub struct Run {
    stores: Stores,
    decider: Decider,
    carry_out: CarryOut,
    events: EventPublisher,
    writer: Writer,
    leadership: Leadership,
    metrics: Metrics,
    /// What is in force, to tell a change of it from a change of a status that we wrote ourselves.
    in_force: Option<Configuration>,
    refusals: Vec<Refusal>,
    /// What objects that break a rule said before.
    last_good: LastGood,
    /// The statuses of configured objects, while they are written.
    status_write: JoinSet<Written>,
    retry: KeyedBackoff<ObjectKey>,
    retry_at: BTreeSet<(Instant, ObjectKey)>,
    unreadable: Unreadable,
}

struct Feeds {
    notify: Arc<Notify>,
    services: ChangeFeed,
    namespaces: ChangeFeed,
    configuration: ConfigurationFeed,
}

impl Run {
    /// Prepares the loop.
    #[must_use]
    pub fn new(
        client: &Client,
        stores: Stores,
        events: EventPublisher,
        leadership: Leadership,
        metrics: Metrics,
        traced: bool,
    ) -> Self {
        let writer = Writer::new(client.clone());
        Run {
            stores,
            decider: Decider::default(),
            carry_out: CarryOut::new(writer.clone(), events.clone(), leadership.clone(), traced),
            events,
            writer,
            leadership,
            metrics,
            in_force: None,
            refusals: Vec::new(),
            last_good: LastGood::default(),
            status_write: JoinSet::new(),
            retry: KeyedBackoff::new(Duration::from_millis(50), Duration::from_secs(30)),
            retry_at: BTreeSet::new(),
            unreadable: Unreadable::default(),
        }
    }

    /// Decides and writes until `shutdown`. Call once this process leads.
    ///
    /// `recorded` is every Service as a quorum read found it after this process began to lead: a store may lag behind
    /// what the leader before wrote last, and an address that it gave must not be given again.
    pub async fn run(mut self, recorded: Vec<Observed>, shutdown: CancellationToken) {
        self.stores.ready().await;
        let notify = Arc::new(Notify::new());
        let feeds = Feeds {
            services: self.stores.services.subscribe_with(notify.clone()),
            namespaces: self.stores.namespaces.subscribe_with(notify.clone()),
            configuration: self.stores.configuration.subscribe_with(&notify),
            notify,
        };
        // The first take of each feed says "all"; configuration and namespaces come first, claims before decisions.
        let _ = feeds.configuration.take();
        let _ = feeds.namespaces.take();
        self.read_configuration();
        self.read_namespaces();
        self.decider.claim(&recorded);
        drop(recorded);
        info!(services = self.stores.services.len(), "allocating");
        let mut status_due: Option<Instant> = Some(Instant::now());
        let mut last_status = Instant::now();
        loop {
            if self.look(&feeds) && status_due.is_none() {
                status_due = Some((last_status + STATUS_EVERY).max(Instant::now()));
            }
            if status_due.is_some_and(|due| due <= Instant::now()) && self.status_write.is_empty() {
                last_status = Instant::now();
                status_due = None;
                self.write_statuses();
            }
            // Due while the last writes are under way: their end is the next occasion.
            let due = status_due.filter(|_| self.status_write.is_empty());
            let retry = self.retry_at.first().map(|(at, _)| *at);
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = feeds.notify.notified() => {}
                (key, again) = self.carry_out.next() => self.ended(key, &again),
                Some(written) = self.status_write.join_next() => {
                    if !self.statuses_written(&written.unwrap_or_default()) {
                        status_due = Some(last_status + STATUS_EVERY);
                    }
                }
                () = until(retry) => {}
                () = until(due) => {}
            }
        }
        self.finish().await;
    }

    /// Takes in what changed and decides. True if a status may have to follow.
    fn look(&mut self, feeds: &Feeds) -> bool {
        let mut changes = feeds.services.take();
        let configured = feeds.configuration.take();
        let reconfigured = configured && self.read_configuration();
        let relabelled = !feeds.namespaces.take().is_empty();
        if relabelled {
            self.read_namespaces();
        }
        if reconfigured || relabelled {
            changes = Changes {
                all: true,
                keys: BTreeSet::new(),
            };
        }
        let now = Instant::now();
        while let Some((at, key)) = self.retry_at.first().cloned().filter(|(at, _)| *at <= now) {
            self.retry_at.remove(&(at, key.clone()));
            if !changes.all {
                changes.keys.insert(key);
            }
        }
        if changes.is_empty() {
            return configured;
        }
        self.decide(&changes);
        true
    }

    fn decide(&mut self, changes: &Changes) {
        let keys: Vec<ObjectKey> = if changes.all {
            let snapshot = self.stores.services.snapshot();
            let mut known: Vec<_> = snapshot.iter().collect();
            known.sort_by(|(_, one), (_, other)| order(one).cmp(&order(other)));
            // First those that are gone: a set of changes that says "all" does not name them, nor does any change name one
            // that went between the reading of all Services and the first look.
            let gone: BTreeSet<_> = self
                .decider
                .known()
                .filter(|key| !snapshot.contains_key(*key))
                .cloned()
                .collect();
            let known = known.into_iter().map(|(key, _)| key.clone());
            gone.into_iter().chain(known).collect()
        } else {
            self.oldest_first(changes.keys.iter().cloned().collect())
        };
        self.decide_each(&keys);
        // What one Service gave up may serve another that waits; a Service served frees nothing, so this ends.
        for _ in 0..8 {
            let waiting = self.decider.to_retry();
            if waiting.is_empty() {
                break;
            }
            self.decide_each(&waiting);
        }
    }

    fn decide_each(&mut self, keys: &[ObjectKey]) {
        for key in keys {
            let stored = self.stores.services.get(key);
            let seen = stored.as_ref().map(|stored| Seen {
                observed: stored,
                resource_version: stored.resource_version(),
            });
            if seen.is_none() {
                self.retry.succeeded(key);
            }
            let effects = self.decider.decide(key, seen);
            self.metrics.updates.inc();
            self.carry_out.take(key, effects);
        }
    }

    fn oldest_first(&self, mut keys: Vec<ObjectKey>) -> Vec<ObjectKey> {
        if keys.len() > 1 {
            keys.sort_by_cached_key(|key| {
                (
                    self.stores
                        .services
                        .get(key)
                        .map(|observed| observed.service.created),
                    key.clone(),
                )
            });
        }
        keys
    }

    fn ended(&mut self, key: ObjectKey, again: &Again) {
        match again {
            Again::No => self.retry.succeeded(&key),
            Again::After => {
                self.metrics.update_errors.inc();
                let pause = self.retry.failed(&key);
                self.retry_at.insert((Instant::now() + pause, key));
            }
        }
    }

    /// Brings what people configured into force. True if that changes anything for Services.
    fn read_configuration(&mut self) -> bool {
        let (configuration, refusals) = self.stores.configuration.read(&mut self.last_good);
        for refusal in refusals
            .iter()
            .filter(|refusal| !self.refusals.contains(refusal))
        {
            warn!(%refusal, "an object is set aside");
        }
        self.metrics.configured(!refusals.is_empty());
        self.refusals = refusals;
        let changed = self.in_force.as_ref() != Some(&configuration);
        if changed {
            self.decider.use_configuration(&configuration);
            self.in_force = Some(configuration);
        }
        for happening in self.unreadable.take(self.stores.configuration.broken()) {
            self.events.publish(happening);
        }
        changed
    }

    fn read_namespaces(&mut self) {
        let namespaces = self.stores.namespaces.snapshot();
        let labels = namespaces
            .iter()
            .map(|(key, labels)| (key.name().to_owned(), labels.value().as_ref().clone()));
        self.decider.use_namespaces(labels.collect());
    }

    /// Begins to write the statuses of configured objects that are not what they should be. Beside the loop, so that no
    /// Service waits for them.
    fn write_statuses(&mut self) {
        let pools: Vec<_> = self
            .stores
            .configuration
            .pools
            .snapshot()
            .keys()
            .filter_map(|key| Some((key.name().to_owned(), self.decider.counters(key.name())?)))
            .collect();
        self.metrics.pools(&pools);
        let now = Time(Timestamp::now());
        let counters = |pool: &str| {
            pools
                .iter()
                .find(|(name, _)| name == pool)
                .map(|(_, counters)| *counters)
        };
        let mut writes = configuration::outdated(
            &self.stores.configuration,
            &self.refusals,
            &self.last_good,
            &self.unreadable,
            counters,
            |_| Vec::new(),
            &now,
        );
        writes.extend(self.unreadable.writes(counters, |_| Vec::new(), &now));
        if !writes.is_empty() {
            let (writer, leadership) = (self.writer.clone(), self.leadership.clone());
            self.status_write
                .spawn(async move { configuration::write(&writer, &leadership, writes).await });
        }
    }

    /// Takes in what became of the statuses. True if all of them are done with.
    fn statuses_written(&mut self, written: &Written) -> bool {
        for object in &written.settled {
            self.unreadable.settled(object);
        }
        written.all
    }

    /// Ends what was begun, within a bound: a write under way when the lease is given back could meet the next leader's.
    async fn finish(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(5);
        let ended = tokio::time::timeout(PATIENCE, async {
            while self.status_write.join_next().await.is_some() {}
            while !self.carry_out.is_idle() {
                self.carry_out.next().await;
            }
        });
        if ended.await.is_err() {
            warn!("status writes did not end in time; the next leader decides them again");
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
