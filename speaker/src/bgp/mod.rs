//! BGP sessions of this node: one task per peer, each around one [`ferrolb_bgp::Session`] and one
//! [`ferrolb_bgp::AdjRibOut`].
//!
//! The peers go in as a whole ([`Bgp::set_peers`]), routes prefix by prefix ([`Bgp::change_routes`]), and only differences
//! reach the wire. A session whose specification is unchanged is never touched, and its routes outlive every other change.

mod connection;
mod discovery;
mod inbox;
mod listener;
mod local;
mod metrics;
mod peer;
mod socket;
mod spec;
mod status;
#[cfg(test)]
mod tests;
mod told;

pub use ferrolb_bgp::wire::{Community, LargeCommunity};
pub use ferrolb_bgp::{Attributes, Families, Family, Negotiated, PeerAs, State};
pub use metrics::BgpMetrics;
pub use spec::{PeerSpec, Secret, Target};
pub use status::{PeerStatus, RoutesSent};
pub use told::ToldRoute;

use inbox::Inbox;
use ipnet::IpNet;
use listener::Doors;
use peer::StopReason;
use spec::RESTART_TIME;
use status::Board;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Events that wait for a reader at most. They serve traces and latency figures, so with a reader that lags the newest are
/// dropped rather than the sessions slowed down.
const EVENTS: usize = 1024;

/// All BGP sessions of this node. Must be used inside a tokio runtime.
#[derive(Debug)]
pub struct Bgp {
    node_name: Arc<str>,
    metrics: BgpMetrics,
    shutdown: CancellationToken,
    events: mpsc::Sender<RoutesSent>,
    board: Board,
    tasks: TaskTracker,
    doors: Doors,
    addresses: watch::Receiver<local::Addresses>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    peers: BTreeMap<String, Running>,
    /// Peers that were told to end and may not have.
    leaving: Vec<(Arc<PeerSpec>, CancellationToken)>,
    /// Peers were given once.
    began: bool,
}

/// A peer's task, as seen from outside of it.
#[derive(Debug)]
struct Running {
    spec: Arc<PeerSpec>,
    inbox: Arc<Inbox>,
    stop: watch::Sender<Option<StopReason>>,
    /// [`PeerSpec::graceful_shutdown`] of now.
    leaves: watch::Sender<Option<Duration>>,
    questions: mpsc::Sender<told::Question>,
    /// Cancelled when the task has ended.
    ended: CancellationToken,
}

impl Bgp {
    /// Starts without peers. `node_name` makes the router id where no IPv4 address can (reference 4.7). When `shutdown` is
    /// cancelled, every session ends with a NOTIFICATION; [`Bgp::closed`] waits for that.
    pub fn start(
        node_name: &str,
        metrics: &BgpMetrics,
        shutdown: CancellationToken,
    ) -> (Bgp, mpsc::Receiver<RoutesSent>) {
        let (events, receiver) = mpsc::channel(EVENTS);
        let bgp = Bgp {
            addresses: local::follow(shutdown.clone()),
            node_name: node_name.into(),
            metrics: metrics.clone(),
            shutdown,
            events,
            board: Board::new(),
            tasks: TaskTracker::new(),
            doors: Doors::default(),
            inner: Mutex::default(),
        };
        (bgp, receiver)
    }

    /// Has peers connect to us on `port` of every address of this node, too, until the shutdown. To be called before there are peers.
    ///
    /// # Errors
    ///
    /// What the kernel says: the port is another's, or below 1024 and the process lacks CAP_NET_BIND_SERVICE.
    pub fn listen(&self, port: u16) -> io::Result<()> {
        self.doors.listen(port, &self.node_name, &self.shutdown)?;
        tracing::info!(addresses = ?self.doors.addresses(), "peers can connect to us by BGP");
        Ok(())
    }

    /// Replaces the set of peers, by name. A peer that is gone, or of which something changed that is part of the session
    /// ([`PeerSpec::differences`]), is told so and its session ends; the status of the next one says what changed. One
    /// that is new or changed starts with all that `routes` says of its name; one that stays is not asked for.
    pub fn set_peers(
        &self,
        peers: BTreeMap<String, PeerSpec>,
        routes: impl Fn(&str) -> BTreeMap<IpNet, Attributes>,
    ) {
        let mut inner = self.lock();
        inner.leaving.retain(|(_, ended)| !ended.is_cancelled());
        // The peers that there are at first, the process before this one had too, if there was one.
        let returned = !std::mem::replace(&mut inner.began, true) && was_up_before();
        let Inner {
            peers: running,
            leaving,
            began: _,
        } = &mut *inner;
        let mut changes: BTreeMap<String, String> = BTreeMap::new();
        running.retain(|name, running| {
            let reason = match peers.get(name) {
                Some(spec) => {
                    let differences = running.spec.differences(spec);
                    if differences.is_empty() {
                        running.leaves.send_replace(spec.graceful_shutdown);
                        return true;
                    }
                    if self.board.is_established(name) {
                        changes.insert(name.clone(), differences.join(", "));
                    }
                    StopReason::Changed
                }
                None => StopReason::Removed,
            };
            running.stop.send_replace(Some(reason));
            self.doors.close(name);
            leaving.push((Arc::clone(&running.spec), running.ended.clone()));
            false
        });
        for (name, spec) in peers {
            if running.contains_key(&name) {
                continue;
            }
            // Whoever had the name or the address says goodbye first: the peer would see two of us at once, and status and
            // figures of the new one would be taken for the old one's.
            let before = leaving
                .iter()
                .filter(|(other, _)| {
                    other.name == name || (&other.target, other.port) == (&spec.target, spec.port)
                })
                .map(|(_, ended)| ended.clone())
                .collect();
            let changed = changes.remove(&name);
            let peer = self.spawn(spec, routes(&name), before, returned, changed);
            running.insert(name, peer);
        }
    }

    /// Hands every peer its routes of the prefixes that changed: `route` says what the peer of this name gets, `None` for
    /// nothing. What changes nothing for a peer costs it no message.
    pub fn change_routes(
        &self,
        prefixes: &BTreeSet<IpNet>,
        route: impl Fn(&str, &IpNet) -> Option<Attributes>,
    ) {
        if prefixes.is_empty() {
            return;
        }
        for (name, running) in &self.lock().peers {
            let changes = prefixes.iter().map(|prefix| (*prefix, route(name, prefix)));
            running.inbox.put(changes);
        }
    }

    /// How each peer is doing, by name; changes wake the receiver.
    pub fn status(&self) -> watch::Receiver<BTreeMap<String, PeerStatus>> {
        self.board.subscribe()
    }

    /// What a peer was told: the first `limit` routes after a prefix, in the order of prefixes. `None` if it is no peer.
    pub async fn adj_rib_out(
        &self,
        peer: &str,
        after: Option<IpNet>,
        limit: usize,
    ) -> Option<Vec<ToldRoute>> {
        let questions = self.lock().peers.get(peer)?.questions.clone();
        let (sender, answer) = oneshot::channel();
        let question = told::Question {
            after,
            limit,
            answer: sender,
        };
        questions.send(question).await.ok()?;
        answer.await.ok()
    }

    /// Waits, after `shutdown` was cancelled, until every peer was told. Takes two seconds at most.
    pub async fn closed(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn spawn(
        &self,
        spec: PeerSpec,
        routes: BTreeMap<IpNet, Attributes>,
        before: Vec<CancellationToken>,
        returned: bool,
        changed: Option<String>,
    ) -> Running {
        let spec = Arc::new(spec);
        let inbox = Arc::new(Inbox::default());
        let (stop_sender, stop) = watch::channel(None);
        let (leaves, graceful_shutdown) = watch::channel(spec.graceful_shutdown);
        let (questions, asked) = mpsc::channel(1);
        let ended = CancellationToken::new();
        let (metrics, guard) = (self.metrics.clone(), ended.clone().drop_guard());
        let setting = peer::Setting {
            spec: Arc::clone(&spec),
            node_name: Arc::clone(&self.node_name),
            board: self.board.clone(),
            events: self.events.clone(),
            inbox: Arc::clone(&inbox),
            incoming: self.doors.open(&spec),
            listening: !self.doors.addresses().is_empty(),
            returned: spec.graceful_restart && returned,
            addresses: self.addresses.clone(),
            changed,
            graceful_shutdown,
            stop,
            asked,
            shutdown: self.shutdown.clone(),
        };
        self.tasks.spawn(async move {
            for other in before {
                other.cancelled().await;
            }
            let metrics = metrics.for_peer(&setting.spec);
            peer::Peer::new(setting, metrics).run(routes).await;
            drop(guard);
        });
        Running {
            spec,
            inbox,
            stop: stop_sender,
            leaves,
            questions,
            ended,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while holding the lock, and the maps would be whole even then.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the node has forwarded for longer than any peer keeps routes for us: another process may have announced them.
fn was_up_before() -> bool {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = uptime.split('.').next().and_then(|text| text.parse().ok());
    seconds.is_some_and(|seconds| Duration::from_secs(seconds) > RESTART_TIME)
}
