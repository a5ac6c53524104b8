//! Announcing addresses by ARP and NDP: sockets, interfaces and timers around the decisions of `ferrolb_neighbor`.
//!
//! One task keeps what is wanted and what is there in step: wishes from [`Layer2::change`], interfaces from rtnetlink,
//! timers. Each interface in use has a socket per protocol with a task of its own, which looks the addresses up and answers
//! by itself, so that an answer never waits for anything else; and one task that sends what is said unasked.
//!
//! A process that was stopped for a while does not answer from what it knew: see [`Layer2::lapses`].
//!
//! Architecture invariant: no more than `CAP_NET_RAW` is needed.

mod excluded;
mod hearing;
mod links;
mod metrics;
mod multicast;
mod packet_socket;
mod port;
mod run;
mod shared;
mod wireless;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ferrolb_neighbor::MacAddr;
use prometheus_client::registry::Registry;
use regex::RegexSet;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use excluded::{DEFAULT_PATH as EXCLUDED_PATH, ExcludedError, load_excluded};
pub use ferrolb_announcement::Interfaces;
pub use shared::{Announcement, Conflict, Wish};
pub use wireless::ReceiveAll;

/// Events that are kept for a reader that is busy; further ones are lost.
const EVENTS: usize = 16_384;

/// What happened on the wire that others want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layer2Event {
    /// The first gratuitous frame of a new announcement has been handed to the network.
    FirstGratuitousSent {
        /// The announced address.
        ip: IpAddr,
        /// When.
        at: Instant,
    },
    /// Another station has an address of ours. Told once for each conflict, and again when the address is withheld.
    Conflict {
        /// The address.
        ip: IpAddr,
        /// Who has it, and what we do about it.
        conflict: Conflict,
    },
    /// That station has not been heard for a while.
    Resolved {
        /// The address.
        ip: IpAddr,
    },
}

/// An interface that can be announced on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address.
    pub mac: MacAddr,
    /// IPv4 addresses can be announced.
    pub arp: bool,
    /// IPv6 addresses can.
    pub ndp: bool,
}

/// The running layer 2 announcer of this node.
pub struct Layer2 {
    shared: Arc<shared::Shared>,
    interfaces: watch::Receiver<Arc<Vec<Interface>>>,
    lapses: watch::Receiver<u64>,
    _end: DropGuard,
}

impl Layer2 {
    /// Starts announcing, nothing at first, on the interfaces whose name matches none of `exclude`; ends when it is dropped.
    /// `receive_all` says which interfaces are made to let every frame in. To be called within a tokio runtime.
    ///
    /// # Errors
    /// The kernel refuses a packet socket, mostly for want of `CAP_NET_RAW`, or a netlink socket.
    pub fn start(
        exclude: RegexSet,
        receive_all: ReceiveAll,
        registry: &mut Registry,
    ) -> io::Result<(Self, mpsc::Receiver<Layer2Event>)> {
        packet_socket::probe()?;
        let end = CancellationToken::new();
        let links = links::watch_links(exclude, receive_all, end.clone())?;
        let shared = Arc::new(shared::Shared::new(rand::random()));
        let (events_sender, events) = mpsc::channel(EVENTS);
        let (failed_sender, failed) = mpsc::channel(64);
        let (usable, interfaces) = watch::channel(Arc::default());
        let context = port::Context {
            shared: Arc::clone(&shared),
            metrics: metrics::Layer2Metrics::register(registry, Arc::clone(&shared)),
            failed: failed_sender,
            events: events_sender,
        };
        let (lapsed, lapses) = watch::channel(0);
        let run = run::Run::new(context, failed, links, usable, lapsed);
        tokio::spawn(run.until(end.clone()));
        let layer2 = Self {
            shared,
            interfaces,
            lapses,
            _end: end.drop_guard(),
        };
        Ok((layer2, events))
    }

    /// Changes what becomes of some addresses. When this returns, the addresses that are gone are no longer answered for and
    /// those that are taken over from the cluster are; their gratuitous bursts follow at once. Where nobody announced an
    /// address before, the segment is asked for it first.
    pub fn change(&self, wishes: impl IntoIterator<Item = (IpAddr, Wish)>) {
        self.shared.change(wishes);
    }

    /// Lays what is known of the addresses out anew, in less room. Answers wait meanwhile, as for any change.
    pub fn repack(&self) {
        self.shared.repack();
    }

    /// Announces everything once more, with a burst as for a new address.
    ///
    /// For when others may have announced the same addresses all the time, as when this node was cut off.
    pub fn announce_again(&self) {
        self.shared
            .update(|ownership, now| ownership.announce_all_again(now));
    }

    /// Whether this node hears no other of its cluster although there should be some, and is more likely cut off than the
    /// last one. While it is, it leaves addresses to whoever claims them, and says nothing unasked on an interface on which
    /// it hears nothing at all: clients would follow it into the void.
    pub fn set_alone(&self, alone: bool) {
        self.shared.set_alone(alone);
    }

    /// The hardware addresses of the other nodes' interfaces, all of them: what these claim is no conflict.
    pub fn set_nodes(&self, nodes: BTreeSet<MacAddr>) {
        self.shared.set_nodes(Arc::new(nodes));
    }

    /// Neither answers nor says anything until [`Self::resume`]: what is announced may be wrong.
    pub fn suspend(&self) {
        self.shared.suspend();
    }

    /// Announces everything once more, at the pace of refreshes: one of the others was away and may have claimed some.
    pub fn refresh(&self) {
        self.shared
            .update(|ownership, now| ownership.refresh_all(now));
    }

    /// What is announced is right again, after a lapse or [`Self::suspend`].
    pub fn resume(&self) {
        self.shared.resume();
        self.announce_again();
    }

    /// Changes each time this process did not run for so long that another node may have taken over what is announced here.
    /// Nothing is answered or said then until [`Layer2::resume`].
    #[must_use]
    pub fn lapses(&self) -> watch::Receiver<u64> {
        self.lapses.clone()
    }

    /// The interfaces that can be announced on, always as they are, sorted by name.
    #[must_use]
    pub fn interfaces(&self) -> watch::Receiver<Arc<Vec<Interface>>> {
        self.interfaces.clone()
    }

    /// Leaves every address to the others: answers on until each is heard to be announced elsewhere, at most
    /// [`HAND_OVER`](ferrolb_neighbor::HAND_OVER).
    pub async fn hand_over(&self) {
        self.shared
            .update(|ownership, now| ownership.hand_over_all(now));
        self.shared.emptied().await;
    }
}
