//! The loop: what changed, what follows, carry it out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ferrolb_allocation::PoolCounters;
use ferrolb_api::ObjectKey;
use ferrolb_cluster::{
    ChangeFeed, Changes, Client, ConfigurationFeed, EventPublisher, KeyedBackoff, Leadership,
    Writer,
};
use ferrolb_rules::{AllObjects, LastGood, Pool, Refusal};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::carry_out::{Again, CarryOut};
use crate::configuration::{self, Findings, Written};
use crate::decide::{Decider, Seen};
use crate::holds;
pub use crate::inputs::Stores;
use crate::interfaces::Interfaces;
use crate::metrics::Metrics;
use crate::sessions::{News, Sessions};
use crate::unreadable::Unreadable;

/// Statuses of pools follow their counters at most this often, so that a thousand new Services are not a thousand
/// writes to each pool.
const STATUS_EVERY: Duration = Duration::from_secs(1);

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
    in_force: Option<(BTreeMap<String, Pool>, BTreeSet<String>)>,
    refusals: Vec<Refusal>,
    /// The objects that were read last.
    read: AllObjects,
    /// What objects that break a rule said before.
    last_good: LastGood,
    /// In which version the API server last took a status that says what is in force.
    recorded: BTreeMap<(&'static str, ObjectKey), String>,
    /// The statuses of configured objects, while they are written.
    status_write: JoinSet<Written>,
    retry: KeyedBackoff<ObjectKey>,
    retry_at: BTreeSet<(Instant, ObjectKey)>,
    unreadable: Unreadable,
    interfaces: Interfaces,
    sessions: Sessions,
}

struct Feeds {
    notify: Arc<Notify>,
    services: ChangeFeed,
    namespaces: ChangeFeed,
    configuration: ConfigurationFeed,
    secrets: ChangeFeed,
    nodes: ChangeFeed,
    reports: ChangeFeed,
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
            read: AllObjects::default(),
            last_good: LastGood::of_the_writer(),
            recorded: BTreeMap::new(),
            status_write: JoinSet::new(),
            retry: KeyedBackoff::new(Duration::from_millis(50), Duration::from_secs(30)),
            retry_at: BTreeSet::new(),
            unreadable: Unreadable::default(),
            interfaces: Interfaces::default(),
            sessions: Sessions::default(),
        }
    }

    /// Decides and writes until `shutdown`. Call once this process leads.
    ///
    /// Everything is read again first, now that nobody else decides: a store may lag behind what the leader before wrote
    /// last, and an address that it gave must not be given again.
    ///
    /// Returns whether every write has ended: then the lease may be given back. Otherwise one may still take effect, and the
    /// lease shall run out first.
    pub async fn run(mut self, shutdown: CancellationToken) -> bool {
        tokio::select! {
            () = self.stores.relist() => {}
            () = shutdown.cancelled() => return true,
        }
        let notify = Arc::new(Notify::new());
        let feeds = Feeds {
            services: self.stores.services.subscribe_with(notify.clone()),
            namespaces: self.stores.namespaces.subscribe_with(notify.clone()),
            configuration: self.stores.configuration.subscribe_with(&notify),
            secrets: self.stores.secrets.subscribe_with(notify.clone()),
            nodes: self.stores.nodes.subscribe_with(notify.clone()),
            reports: self.stores.reports.subscribe_with(notify.clone()),
            notify,
        };
        // The first take of each feed says "all"; configuration and namespaces come first, claims before decisions.
        let _ = feeds.configuration.take();
        let _ = feeds.namespaces.take();
        self.read_configuration();
        self.read_namespaces();
        self.claim();
        info!(services = self.stores.services.len(), "allocating");
        let mut status_due: Option<Instant> = Some(Instant::now());
        let mut last_status = Instant::now();
        loop {
            let again = self.look_again_at().is_some_and(|at| at <= Instant::now());
            if (self.look(&feeds) || again) && status_due.is_none() {
                status_due = Some((last_status + STATUS_EVERY).max(Instant::now()));
            }
            if status_due.is_some_and(|due| due <= Instant::now()) && self.status_write.is_empty() {
                last_status = Instant::now();
                status_due = None;
                self.write_statuses();
            }
            // After that: a status may have been put off.
            let look_again = self.look_again_at();
            // Due while the last writes are under way: their end is the next occasion.
            let due = status_due.filter(|_| self.status_write.is_empty());
            let retry = self.retry_at.first().map(|(at, _)| *at);
            let wake = self.decider.wake_at().map(|at| {
                let pause = at.as_millisecond() - Timestamp::now().as_millisecond();
                Instant::now() + Duration::from_millis(u64::try_from(pause).unwrap_or_default())
            });
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
                () = until(look_again), if status_due.is_none() => {}
                () = until(wake) => {}
                () = until(due) => {}
            }
        }
        self.finish().await
    }

    fn read_namespaces(&mut self) {
        let namespaces = self.stores.namespaces.snapshot();
        let named = namespaces
            .iter()
            .map(|(key, namespace)| (key.name().to_owned(), namespace.value().clone()));
        self.decider.use_namespaces(named.collect());
    }

    /// Claims what statuses record, and what pools keep back.
    fn claim(&mut self) {
        let services = self.stores.services.snapshot();
        let seen = services.values().map(|stored| Seen {
            observed: stored,
            resource_version: stored.resource_version(),
        });
        let pools = self.stores.configuration.pools.snapshot();
        let kept: Vec<_> = pools
            .values()
            .filter_map(|pool| pool.status.as_ref())
            .flat_map(|status| holds::from_status(&status.held_addresses))
            .collect();
        self.decider.claim(seen, kept, Timestamp::now());
    }

    /// Takes in what changed and decides. True if a status may have to follow.
    fn look(&mut self, feeds: &Feeds) -> bool {
        let mut changes = feeds.services.take();
        let configured = feeds.configuration.take();
        let statuses = [&feeds.secrets, &feeds.nodes, &feeds.reports]
            .map(ChangeFeed::take)
            .iter()
            .fold(configured, |some, changes| some | !changes.is_empty());
        let everything = Changes {
            all: true,
            keys: BTreeSet::new(),
        };
        if configured && self.read_configuration() {
            changes = everything.clone();
        }
        let namespaces = feeds.namespaces.take();
        if namespaces.all {
            self.read_namespaces();
            changes = everything;
        }
        for name in &namespaces.keys {
            let namespace = self.stores.namespaces.get(name);
            let namespace = namespace.map(|namespace| namespace.value().clone());
            self.decider.use_namespace(name.name(), namespace);
            if !changes.all {
                self.stores.services.with(|services| {
                    let first = ObjectKey::new(name.name(), "");
                    let inside = services.range(first..).map(|(key, _)| key);
                    let inside = inside.take_while(|key| key.namespace() == name.name());
                    changes.keys.extend(inside.cloned());
                });
            }
        }
        let now = Instant::now();
        while let Some((at, key)) = self.retry_at.first().cloned().filter(|(at, _)| *at <= now) {
            self.retry_at.remove(&(at, key.clone()));
            if !changes.all {
                changes.keys.insert(key);
            }
        }
        let now = Timestamp::now();
        let woken = self.decider.wake_at().is_some_and(|at| at <= now);
        if changes.is_empty() && !woken {
            return statuses;
        }
        let services = self.stores.services.clone();
        self.decider
            .decide_changes(&changes, &services, now, |key, observed, effects| {
                if observed.is_none() {
                    self.retry.succeeded(key);
                }
                self.metrics.updates.inc();
                self.carry_out.take(key, effects);
                self.carry_out.take_sent()
            });
        true
    }

    fn ended(&mut self, key: ObjectKey, again: &Again) {
        // The end of one write is the beginning of the next.
        for sent in self.carry_out.take_sent() {
            self.decider.sent(&sent);
        }
        if *again == Again::No {
            return self.retry.succeeded(&key);
        }
        self.metrics.update_errors.inc();
        let pause = self.retry.failed(&key);
        self.retry_at.insert((Instant::now() + pause, key));
    }

    /// Brings what people configured into force. True if that changes anything for Services.
    fn read_configuration(&mut self) -> bool {
        self.read = self.stores.configuration.objects();
        let (configuration, refusals) = self.last_good.read(&self.read);
        for refusal in refusals
            .iter()
            .filter(|refusal| !self.refusals.contains(refusal))
        {
            warn!(%refusal, "an object is set aside");
        }
        self.metrics.configured(!refusals.is_empty());
        self.refusals = refusals;
        let broken = self.stores.configuration.broken();
        let pools = self.stores.configuration.pools.snapshot();
        let exist = pools.keys().chain(
            broken
                .keys()
                .filter(|(kind, _)| *kind == "IPAddressPool")
                .map(|(_, key)| key),
        );
        let set_aside: BTreeSet<String> = exist
            .map(|key| key.name().to_owned())
            .filter(|name| !configuration.pools.contains_key(name))
            .collect();
        let in_force = (configuration.pools, set_aside);
        let changed = self.in_force.as_ref() != Some(&in_force);
        if changed {
            self.decider.use_pools(&in_force.0, in_force.1.clone());
            self.in_force = Some(in_force);
        }
        for happening in self.unreadable.take(broken) {
            self.events.publish(happening);
        }
        changed
    }

    /// Begins to write the statuses of configured objects that are not what they should be. Beside the loop, so that no
    /// Service waits for them.
    fn write_statuses(&mut self) {
        let nodes_known = self.stores.nodes.is_ready() && self.stores.reports.is_ready();
        let sessions = nodes_known.then(|| self.look_at_nodes());
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
        let of_pools: BTreeMap<&str, PoolCounters> = pools
            .iter()
            .map(|(name, counters)| (name.as_str(), *counters))
            .collect();
        let counters = |pool: &str| of_pools.get(pool).copied();
        let kept = self.decider.holds();
        let held = |pool: &str| holds::to_status(kept.get(pool).cloned().unwrap_or_default());
        let secrets = &self.stores.secrets;
        let usable = |name: &str| {
            let stored = secrets.get(&ObjectKey::new(&self.stores.namespace, name))?;
            Some(stored.value().clone())
        };
        let mut writes = configuration::outdated(
            &Findings {
                stores: &self.stores.configuration,
                read: &self.read,
                refusals: &self.refusals,
                last_good: &self.last_good,
                recorded: &self.recorded,
                unreadable: &self.unreadable,
                secrets: secrets.is_ready().then_some(&usable),
                interfaces: nodes_known.then_some(&self.interfaces),
                sessions: sessions.as_ref(),
                now: &now,
            },
            counters,
            held,
        );
        writes.extend(self.unreadable.writes(counters, held, &now));
        if !writes.is_empty() {
            let (writer, leadership) = (self.writer.clone(), self.leadership.clone());
            self.status_write
                .spawn(async move { configuration::write(&writer, &leadership, writes).await });
        }
    }

    /// When statuses are to be looked at again though nothing changes, if they are.
    fn look_again_at(&self) -> Option<Instant> {
        let of_nodes = [
            self.interfaces.look_again_at(),
            self.sessions.look_again_at(),
        ];
        of_nodes.into_iter().flatten().min()
    }

    /// Takes in what is known of nodes. Returns what is to be said of peers.
    fn look_at_nodes(&mut self) -> BTreeMap<String, News> {
        let (nodes, reports) = (self.stores.nodes.snapshot(), &self.stores.reports);
        let report = |name: &str| reports.get(&ObjectKey::new(&self.stores.namespace, name));
        let now = Instant::now();
        let interfaces = |name: &str| report(name)?.interfaces.clone();
        let labels = nodes
            .iter()
            .map(|(key, node)| (key.name(), Arc::clone(&node.labels)));
        self.interfaces.update(labels, interfaces, now);
        let sessions = |name: &str| Some(Arc::clone(&report(name)?.sessions));
        let nodes = nodes.iter().map(|(key, node)| (key.name(), node.value()));
        self.sessions.update(nodes, sessions);
        let peers = &self.last_good.configuration().peers;
        self.sessions.news(
            self.read.peers.iter().map(Arc::as_ref),
            |name| peers.get(name),
            now,
        )
    }

    /// Takes in what became of the statuses. True if all of them are done with.
    fn statuses_written(&mut self, written: &Written) -> bool {
        for object in &written.settled {
            self.unreadable.settled(object);
        }
        // Of objects that are gone nobody asks; to forget all costs a write of each at most.
        if self.recorded.len() > 2 * self.read.len() + 1000 {
            self.recorded.clear();
        }
        for taken in &written.taken {
            // What was not kept of the version before is not kept of this one either.
            let known = self.recorded.get(&taken.object);
            if taken.records || known.is_some_and(|known| *known == taken.before) {
                let version = taken.version.clone();
                self.recorded.insert(taken.object.clone(), version);
            }
        }
        written.all
    }

    /// Ends what was begun, within a bound: a write under way when the lease is given back could meet the next leader's.
    async fn finish(&mut self) -> bool {
        const PATIENCE: Duration = Duration::from_secs(5);
        let ended = tokio::time::timeout(PATIENCE, async {
            while self.status_write.join_next().await.is_some() {}
            while !self.carry_out.is_idle() {
                self.carry_out.next().await;
            }
        });
        if ended.await.is_err() {
            warn!(
                "status writes did not end in time; the lease runs out before another process leads"
            );
            return false;
        }
        true
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
