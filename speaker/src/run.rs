//! The loop: what changed, what follows, say it on the wire.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ferrolb_announcement::{Node, View};
use ferrolb_api::ObjectKey;
use ferrolb_cluster::{EventPublisher, EventType, Happening, Subject};
use ferrolb_rules::{Configuration, LastGood, Refusal};
use k8s_openapi::api::core::v1::Service;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::bgp::{Bgp, RoutesSent};
use crate::decide::{Change, Decider, Touched};
use crate::inputs::{Dirty, Feeds, SliceIndex, Stores};
use crate::layer2::{Layer2, Layer2Event};
use crate::members::Members;
use crate::metrics::Metrics;
use crate::peers;
use crate::traces::Traces;

/// Changes are taken in at once after a rest, and at most this often under load: waking up has a price, and what comes in
/// quick succession is often one change.
const REST_AT_LEAST: Duration = Duration::from_millis(1);
/// Under load a round is followed by a rest this many times as long, so that a flood of changes among thousands of
/// Services costs a fifth of a processor and not a whole one.
const REST: u32 = 4;
/// The longest rest: the loss of a node must not wait for one.
const REST_AT_MOST: Duration = Duration::from_millis(100);
/// How long a speaker that starts waits to hear of the others before it takes itself for the only one. Mostly one of them
/// tells of all within milliseconds; only where all start at once and some are dead does it wait this long.
const SETTLE: Duration = Duration::from_secs(3);

/// The members while the others are not heard of yet: no node stands for an address of layer 2 then.
static NOBODY: BTreeSet<String> = BTreeSet::new();

/// Who this speaker is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The node.
    pub node: String,
    /// The install namespace.
    pub namespace: String,
    /// `--ignore-exclude-lb`.
    pub ignore_exclude_label: bool,
}

/// The protocols, started.
pub struct Protocols {
    /// ARP and NDP.
    pub layer2: Layer2,
    /// What layer 2 sent.
    pub layer2_events: mpsc::Receiver<Layer2Event>,
    /// BGP.
    pub bgp: Bgp,
    /// What BGP sent.
    pub bgp_events: mpsc::Receiver<RoutesSent>,
    /// Membership, unless it is switched off.
    pub members: Option<Membership>,
}

/// This node's part in the membership, and the nodes that are alive.
pub type Membership = (Members, watch::Receiver<Arc<BTreeSet<String>>>);

/// The loop with what it remembers.
pub struct Run {
    identity: Identity,
    stores: Stores,
    protocols: Protocols,
    events: EventPublisher,
    metrics: Metrics,
    traces: Traces,
    decider: Decider,
    slices: SliceIndex,
    configuration: Configuration,
    /// What objects that break a rule said before.
    last_good: LastGood,
    /// What was said in the log already: what is set aside, and peers without a session.
    refusals: Vec<Refusal>,
    no_session: BTreeSet<String>,
    nodes: BTreeMap<String, Node>,
    members: Option<Arc<BTreeSet<String>>>,
    /// False until the other speakers are heard of: until then this one may be wrong about who stands first.
    settled: bool,
    /// False during the first round: what a restarted speaker goes on with is no news.
    began: bool,
}

impl Run {
    /// Prepares the loop. `decider` is empty; its announcements may be shown elsewhere. `traced` says whether spans leave
    /// this process.
    #[must_use]
    pub fn new(
        identity: Identity,
        stores: Stores,
        protocols: Protocols,
        events: EventPublisher,
        decider: Decider,
        metrics: Metrics,
        traced: bool,
    ) -> Self {
        let members = protocols
            .members
            .as_ref()
            .map(|(_, names)| names.borrow().clone());
        Run {
            traces: Traces::new(traced, &identity.node),
            settled: members.is_none(),
            identity,
            stores,
            protocols,
            events,
            metrics,
            decider,
            slices: SliceIndex::default(),
            configuration: Configuration::default(),
            last_good: LastGood::default(),
            refusals: Vec::new(),
            no_session: BTreeSet::new(),
            nodes: BTreeMap::new(),
            members,
            began: false,
        }
    }

    /// Announces until `shutdown`, then says goodbye.
    pub async fn run(mut self, shutdown: CancellationToken) {
        tokio::select! {
            () = self.stores.ready() => {}
            () = shutdown.cancelled() => return self.leave().await,
        }
        info!(
            services = self.stores.services.len(),
            "every store is complete"
        );
        let feeds = Feeds::of(&self.stores);
        let settle_by = Instant::now() + SETTLE;
        let mut members_changed = false;
        let mut heard_all = self
            .protocols
            .members
            .as_ref()
            .map(|(members, _)| members.heard_all());
        loop {
            let round = Instant::now();
            let dirty = feeds.take();
            let members = std::mem::take(&mut members_changed);
            if dirty.seeds {
                self.tell_seeds();
            }
            let worked = if !self.settled && self.is_settled(&heard_all, settle_by) {
                self.settled = true;
                // They changed before all were heard of, though that may be seen first.
                if let Some((_, names)) = &mut self.protocols.members {
                    self.members = Some(names.borrow_and_update().clone());
                }
                info!(members = ?self.members, "the other speakers are heard of; announcing by layer 2");
                self.look(
                    &Dirty {
                        everything: true,
                        ..dirty
                    },
                    true,
                )
            } else {
                self.look(&dirty, members)
            };
            let took = round.elapsed();
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = feeds.notify.notified() => {}
                changed = changed(&mut self.protocols.members) => {
                    self.members = changed;
                    members_changed = true;
                }
                Some(event) = self.protocols.layer2_events.recv() => self.traces.layer2_sent(&event),
                Some(event) = self.protocols.bgp_events.recv() => self.traces.routes_sent(&event),
                () = heard(&mut heard_all), if !self.settled => {}
                () = tokio::time::sleep_until(settle_by), if !self.settled => {}
            }
            while let Ok(event) = self.protocols.layer2_events.try_recv() {
                self.traces.layer2_sent(&event);
            }
            while let Ok(event) = self.protocols.bgp_events.try_recv() {
                self.traces.routes_sent(&event);
            }
            if worked {
                tokio::time::sleep((took * REST).clamp(REST_AT_LEAST, REST_AT_MOST)).await;
            }
        }
        self.leave().await;
    }

    fn is_settled(&self, heard_all: &Option<watch::Receiver<bool>>, settle_by: Instant) -> bool {
        if heard_all.as_ref().is_some_and(|all| *all.borrow()) {
            return true;
        }
        let heard = self.members.as_ref().map_or(0, |members| members.len());
        // The pod of a node that is lost stays listed, and nobody will hear of its speaker.
        let nodes = self.stores.nodes.snapshot();
        let is_ready = |name: &str| {
            nodes
                .get(&ObjectKey::new("", name))
                .is_some_and(|node| node.ready)
        };
        let seeds = self.stores.seeds.snapshot();
        let expected = seeds.values().filter(|seed| is_ready(&seed.node)).count();
        heard >= expected.max(1) || Instant::now() >= settle_by
    }

    /// Takes in what changed, decides, and hands the protocols what is different. True if there was something.
    fn look(&mut self, dirty: &Dirty, members_changed: bool) -> bool {
        // A status that says what is in force wakes, too, and mostly says what is known.
        let everything = dirty.everything && self.read_everything();
        let mut services: BTreeSet<ObjectKey> = dirty.services.keys.clone();
        let slices: Vec<ObjectKey> = if dirty.slices.all {
            let known = self.slices.known().cloned().collect::<BTreeSet<_>>();
            self.stores
                .slices
                .snapshot()
                .keys()
                .cloned()
                .chain(known)
                .collect()
        } else {
            dirty.slices.keys.iter().cloned().collect()
        };
        for key in &slices {
            let slice = self.stores.slices.get(key);
            services.extend(self.slices.update(key, slice.as_deref()));
        }
        if everything || dirty.services.all || members_changed {
            services.extend(self.stores.services.snapshot().keys().cloned());
            services.extend(self.decider.services());
        }
        let (changes, touched) = self.decide(&services);
        if dirty.configuration {
            self.set_peers();
        }
        let layer2 = touched.addresses.iter();
        self.protocols
            .layer2
            .change(layer2.map(|address| (*address, self.decider.layer2(address))));
        self.protocols
            .bgp
            .change_routes(&touched.prefixes, |peer, prefix| {
                let route = self.decider.route(peer, prefix)?;
                Some(peers::attributes(&route))
            });
        if members_changed {
            self.protocols.layer2.announce_again();
        }
        for change in &changes {
            self.tell(change);
        }
        self.began = self.settled;
        dirty.configuration || members_changed || !services.is_empty()
    }

    fn decide(&mut self, services: &BTreeSet<ObjectKey>) -> (Vec<Change>, Touched) {
        let view = View {
            me: &self.identity.node,
            configuration: &self.configuration,
            nodes: &self.nodes,
            members: if self.settled {
                self.members.as_deref()
            } else {
                Some(&NOBODY)
            },
            ignore_exclude_label: self.identity.ignore_exclude_label,
        };
        let (mut changes, mut touched) = (Vec::new(), Touched::default());
        for key in services {
            self.metrics.updates.inc();
            let observed = self.stores.services.get(key);
            let endpoints = self.slices.endpoints(key, &self.stores.slices);
            let decided =
                self.decider
                    .decide(key, observed.as_deref(), &endpoints, &view, &mut touched);
            for change in &decided {
                self.traces.changed(change, observed.as_deref());
            }
            changes.extend(decided);
        }
        (changes, touched)
    }

    fn set_peers(&mut self) {
        let (sessions, no_session) = peers::sessions(
            &self.configuration,
            self.nodes.get(&self.identity.node),
            &self.identity.namespace,
            |secret| {
                self.stores
                    .passwords
                    .get(secret)
                    .map(|stored| stored.value().as_ref().clone())
            },
        );
        for reason in no_session.difference(&self.no_session) {
            warn!("{reason}");
        }
        self.no_session = no_session;
        self.protocols.bgp.set_peers(sessions, |peer| {
            let routes = self.decider.routes(peer);
            routes
                .map(|(prefix, route)| (prefix, peers::attributes(&route)))
                .collect()
        });
    }

    /// Reads configuration and nodes. True if either is another than before.
    fn read_everything(&mut self) -> bool {
        let (configuration, refusals) = self.stores.configuration.read(&mut self.last_good);
        for refusal in refusals
            .iter()
            .filter(|refusal| !self.refusals.contains(refusal))
        {
            warn!(%refusal, "an object is set aside");
        }
        self.metrics.configured(!refusals.is_empty());
        self.refusals = refusals;
        let nodes = self.stores.nodes.snapshot();
        let nodes = nodes
            .iter()
            .map(|(key, observed)| (key.name().to_owned(), observed.node.clone()))
            .collect();
        let changed = (&self.configuration, &self.nodes) != (&configuration, &nodes);
        (self.configuration, self.nodes) = (configuration, nodes);
        changed
    }

    fn tell_seeds(&self) {
        if let Some((members, _)) = &self.protocols.members {
            let seeds = self.stores.seeds.snapshot();
            members.set_seeds(seeds.values().map(|seed| seed.address).collect());
        }
    }

    fn tell(&self, change: &Change) {
        let Change {
            service,
            protocol,
            begun,
            ended,
        } = change;
        if begun.is_empty() && ended.is_empty() {
            info!(event = "serviceAnnounced", service = %service, protocol = protocol.name(), "announced in another way");
            return;
        }
        let (event, ips) = if begun.is_empty() {
            ("serviceWithdrawn", ended)
        } else {
            ("serviceAnnounced", begun)
        };
        let ips: Vec<String> = ips.iter().map(IpAddr::to_string).collect();
        info!(event, service = %service, protocol = protocol.name(), ?ips, "announcements changed");
        if begun.is_empty() || !self.began {
            return;
        }
        if let Some(observed) = self.stores.services.get(service) {
            self.events.publish(Happening {
                subject: Subject::of::<Service>(service, observed.uid.to_string()),
                event_type: EventType::Normal,
                reason: "nodeAssigned".to_owned(),
                message: format!(
                    "announcing from node {:?} with protocol {:?}",
                    self.identity.node,
                    protocol.name()
                ),
            });
        }
    }

    /// The protocols say goodbye by themselves when their token is cancelled; this waits until they have.
    async fn leave(self) {
        if let Some((members, _)) = self.protocols.members {
            members.stopped().await;
        }
        self.protocols.bgp.closed().await;
        info!("every session is closed");
    }
}

/// Waits for a change of membership and returns who is alive; never ends where membership is switched off.
async fn changed(members: &mut Option<Membership>) -> Option<Arc<BTreeSet<String>>> {
    if let Some((_, names)) = members
        && names.changed().await.is_ok()
    {
        return Some(names.borrow_and_update().clone());
    }
    std::future::pending().await
}

/// Waits until all members are heard of; never ends where membership is switched off.
async fn heard(heard_all: &mut Option<watch::Receiver<bool>>) {
    if let Some(heard_all) = heard_all
        && heard_all.wait_for(|all| *all).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}
