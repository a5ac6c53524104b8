//! The loop: what changed, what follows, say it on the wire.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ferrolb_announcement::{Layer2Round, Node, Ranks, View};
use ferrolb_api::ObjectKey;
use ferrolb_neighbor::Before;
use ferrolb_rules::{Configuration, LastGood, Refusal};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::bgp::{Bgp, RoutesSent};
use crate::decide::{Change, Decider, Touched};
use crate::gate::{Gate, Step};
use crate::inputs::{Dirty, Feeds, SliceIndex, Stores};
use crate::layer2::{Conflict, Interface, Layer2, Layer2Event};
use crate::members::Joining;
use crate::metrics::Metrics;
use crate::peers;
use crate::reports::{Channels, Reports};
use crate::traces::Traces;

mod others;
mod rests;

use others::{News, Others};
use rests::Rests;

/// After so many Services in one round, what is kept of them is laid out anew.
const MANY: usize = 1000;
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
    pub bgp: Arc<Bgp>,
    /// What BGP sent.
    pub bgp_events: mpsc::Receiver<RoutesSent>,
    /// The membership's socket, unless it is switched off. This node joins once it can announce: the others count on it from
    /// the moment they hear of it.
    pub joining: Option<Joining>,
    /// Ends the membership.
    pub farewell: CancellationToken,
}

/// The loop with what it remembers.
pub struct Run {
    identity: Identity,
    stores: Stores,
    protocols: Protocols,
    reports: Reports,
    metrics: Metrics,
    traces: Traces,
    decider: Decider,
    ranks: Ranks,
    interfaces: watch::Receiver<Arc<Vec<Interface>>>,
    others: Others,
    /// Says when this node may announce by layer 2.
    gate: Gate,
    lapses: watch::Receiver<u64>,
    /// Conflicts that began or ended and are not told yet.
    conflicts: Vec<(IpAddr, Option<Conflict>)>,
    slices: SliceIndex,
    configuration: Configuration,
    /// What objects that break a rule said before.
    last_good: LastGood,
    /// What was said in the log already: what is set aside, and peers without a session.
    refusals: Vec<Refusal>,
    no_session: BTreeMap<String, String>,
    keys: peers::Keys,
    nodes: BTreeMap<String, Node>,
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
        mut protocols: Protocols,
        channels: Channels,
        decider: Decider,
        metrics: Metrics,
        traced: bool,
    ) -> Self {
        Run {
            traces: Traces::new(traced, &identity.node),
            reports: Reports::new(
                &identity.node,
                stores.services.clone(),
                decider.announcements(),
                channels,
            ),
            ranks: Ranks::default(),
            interfaces: protocols.layer2.interfaces(),
            others: Others::new(&identity.node, protocols.joining.take()),
            gate: Gate::new(std::time::Instant::now()),
            lapses: protocols.layer2.lapses(),
            conflicts: Vec::new(),
            identity,
            stores,
            protocols,
            metrics,
            decider,
            slices: SliceIndex::default(),
            configuration: Configuration::default(),
            last_good: LastGood::default(),
            refusals: Vec::new(),
            no_session: BTreeMap::new(),
            keys: peers::Keys::default(),
            nodes: BTreeMap::new(),
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
        let usable = Arc::clone(&self.interfaces.borrow_and_update());
        self.others.join(&self.stores, &usable);
        self.gate = Gate::new(std::time::Instant::now());
        let mut news = None;
        let mut rests = Rests::new(Instant::now().into_std());
        loop {
            let round = Instant::now();
            let dirty = feeds.take();
            if dirty.seeds {
                self.others.tell_seeds(&self.stores);
            }
            if let Some(macs) = self.others.take_macs() {
                self.protocols.layer2.set_nodes(macs);
            }
            let heard = self.others.heard(&self.stores, !self.gate.is_settled());
            let worked = match self.gate.step(heard, round.into_std()) {
                Some(Step::Begin) => {
                    self.others.take_names();
                    info!(members = ?self.others.names(), "the other speakers are heard of; announcing by layer 2");
                    self.look_at_all(dirty)
                }
                Some(Step::Hold) => {
                    self.others.hold();
                    self.look(&dirty, news.take())
                }
                Some(Step::Suspend) => {
                    self.protocols.layer2.suspend();
                    self.look(&dirty, news.take())
                }
                Some(Step::Resume) => {
                    self.others.take_names();
                    info!(members = ?self.others.names(), "the other speakers are heard of again; going on");
                    let worked = self.look_at_all(dirty);
                    self.protocols.layer2.resume();
                    worked
                }
                None => self.look(&dirty, news.take()),
            };
            let took = round.elapsed();
            let wake = self
                .gate
                .deadline(Instant::now().into_std())
                .map(Instant::from_std);
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = feeds.notify.notified() => {}
                now = self.others.changed() => news = now.or(news),
                Some(event) = self.protocols.layer2_events.recv() => self.layer2_happened(&event),
                Some(event) = self.protocols.bgp_events.recv() => self.traces.routes_sent(&event),
                Ok(()) = self.interfaces.changed() => {
                    let usable = Arc::clone(&self.interfaces.borrow_and_update());
                    self.others.set_macs(&usable);
                    self.reports.usable(&usable);
                    self.reports.interfaces(None, &usable);
                }
                Ok(()) = self.lapses.changed() => self.gate.lapsed(Instant::now().into_std()),
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
            while let Ok(event) = self.protocols.layer2_events.try_recv() {
                self.layer2_happened(&event);
            }
            self.reports.conflicts(std::mem::take(&mut self.conflicts));
            while let Ok(event) = self.protocols.bgp_events.try_recv() {
                self.traces.routes_sent(&event);
            }
            if worked {
                tokio::time::sleep(rests.after(took, Instant::now().into_std())).await;
            }
        }
        self.leave().await;
    }

    fn look_at_all(&mut self, dirty: Dirty) -> bool {
        let all = Dirty {
            everything: true,
            ..dirty
        };
        self.look(&all, Some(News::ThisOneReturned))
    }

    /// Takes in what changed, decides, and hands the protocols what is different. True if there was something.
    fn look(&mut self, dirty: &Dirty, members: Option<News>) -> bool {
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
        if everything || dirty.services.all || members.is_some() {
            services.extend(self.stores.services.snapshot().keys().cloned());
            services.extend(self.decider.services());
        }
        // Before what is taken over from those who are not heard, and after what is left to those who are heard again.
        let alone = self.others.are_missed(&self.stores);
        if alone {
            self.protocols.layer2.set_alone(true);
        }
        let (changes, touched) = self.decide(&services);
        if dirty.configuration {
            self.set_peers();
        }
        // What a restarted speaker goes on with, it had before.
        let before = if self.began {
            Before::Nobody
        } else {
            Before::TheCluster
        };
        // Worked out before it is handed over: no request is answered meanwhile.
        let wishes: Vec<_> = touched
            .addresses
            .iter()
            .map(|(address, others)| (*address, self.decider.layer2(address, *others, before)))
            .collect();
        self.protocols.layer2.change(wishes);
        if !alone {
            self.protocols.layer2.set_alone(false);
        }
        self.protocols
            .bgp
            .change_routes(&touched.prefixes, |peer, prefix| {
                let route = self.decider.route(peer, prefix)?;
                Some(peers::attributes(&route))
            });
        // One that was cut off may have claimed the same addresses meanwhile.
        match members {
            Some(News::ThisOneReturned) => self.protocols.layer2.announce_again(),
            Some(News::SomeReturned) => self.protocols.layer2.refresh(),
            Some(News::SomeLost) | None => {}
        }
        for change in &changes {
            self.reports.changed(change, self.began);
        }
        let concerned = changes.into_iter().map(|change| change.service).collect();
        let usable = Arc::clone(&self.interfaces.borrow());
        self.reports.interfaces(Some(&concerned), &usable);
        self.reports.peers(Some(&concerned));
        self.reports.bgp_complete();
        if self.gate.is_settled() && !self.began {
            self.reports.complete();
            // A node without any has nothing that changes.
            self.reports.usable(&usable);
        }
        self.began = self.gate.is_settled();
        if services.len() >= MANY {
            self.decider.repack();
            self.slices.repack();
            self.protocols.layer2.repack();
            self.reports.repack();
        }
        dirty.configuration || members.is_some() || !services.is_empty()
    }

    fn decide(&mut self, services: &BTreeSet<ObjectKey>) -> (Vec<Change>, Touched) {
        let view = View {
            me: &self.identity.node,
            configuration: &self.configuration,
            nodes: &self.nodes,
            members: if self.gate.is_settled() {
                self.others.names()
            } else {
                Some(&NOBODY)
            },
            ignore_exclude_label: self.identity.ignore_exclude_label,
        };
        let (mut changes, mut touched) = (Vec::new(), Touched::default());
        let mut round = Layer2Round::new(view, &mut self.ranks);
        for key in services {
            self.metrics.updates.inc();
            let observed = self.stores.services.get(key);
            let endpoints = self.slices.endpoints(key, &self.stores.slices);
            let decided = self.decider.decide(
                key,
                observed.as_deref(),
                &endpoints,
                &mut round,
                &mut touched,
            );
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
            &mut self.keys,
            |secret| {
                self.stores
                    .passwords
                    .get(secret)
                    .map(|stored| stored.value().clone())
            },
        );
        for (peer, reason) in &no_session {
            if self.no_session.get(peer) != Some(reason) {
                warn!(peer, reason, "a BGPPeer has no session");
            }
        }
        self.reports.sessions(&sessions, &no_session);
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
        let unreadable = self.stores.configuration.broken();
        self.reports.configuration(&refusals, &unreadable);
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

    fn layer2_happened(&mut self, event: &Layer2Event) {
        self.traces.layer2_sent(event);
        match *event {
            Layer2Event::FirstGratuitousSent { .. } => {}
            Layer2Event::Conflict { ip, conflict } => {
                self.metrics.withheld(ip, conflict.withheld);
                self.conflicts.push((ip, Some(conflict)));
            }
            Layer2Event::Resolved { ip } => {
                self.metrics.withheld(ip, false);
                self.conflicts.push((ip, None));
            }
        }
    }

    /// Says goodbye: first to the other speakers, so that they take over while this one still answers; then to routers.
    async fn leave(self) {
        if let Some((members, alone)) = self.others.part() {
            members.leave().await;
            if !alone {
                self.protocols.layer2.hand_over().await;
                info!("every address is handed over");
            }
            self.protocols.farewell.cancel();
            members.stopped().await;
        }
        self.protocols.bgp.closed().await;
        info!("every session is closed");
    }
}
