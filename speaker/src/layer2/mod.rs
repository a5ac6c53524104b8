//! Announcing addresses by ARP and NDP: sockets, interfaces and timers around the decisions of `ferrolb_neighbor`.
//!
//! One task keeps what is wanted and what is there in step: announcements from [`Layer2::change`], interfaces from
//! rtnetlink. Each interface in use has a socket per protocol with a task of its own, which looks the announcements up
//! and answers by itself, so that an answer never waits for anything else.
//!
//! Architecture invariant: no more than `CAP_NET_RAW` is needed.

mod excluded;
mod links;
mod metrics;
mod multicast;
mod packet_socket;
mod port;
mod run;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Instant;

use regex::Regex;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

pub use excluded::{DEFAULT_PATH as EXCLUDED_PATH, ExcludedError, load_excluded};
pub use metrics::Layer2Metrics;

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
}

pub use ferrolb_announcement::Interfaces;

type Announcements = BTreeMap<IpAddr, Interfaces>;

/// What is announced, as the answering tasks see it.
#[derive(Default)]
struct Wanted {
    announcements: RwLock<Announcements>,
    /// What changed since the loop last looked: each address with what was announced of it then.
    changed: Mutex<BTreeMap<IpAddr, Option<Interfaces>>>,
    /// Whether what is announced already shall be announced again.
    again: AtomicBool,
    notify: Notify,
}

impl Wanted {
    /// What is announced. Hold it for one look only: changes wait meanwhile.
    fn announcements(&self) -> RwLockReadGuard<'_, Announcements> {
        // Nothing panics while it holds the lock, and the map would be whole even then.
        self.announcements
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, changes: impl IntoIterator<Item = (IpAddr, Option<Interfaces>)>) {
        let mut announcements = self
            .announcements
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        for (ip, interfaces) in changes {
            let before = match interfaces {
                Some(interfaces) => announcements.insert(ip, interfaces),
                None => announcements.remove(&ip),
            };
            changed.entry(ip).or_insert(before);
        }
        if !changed.is_empty() {
            self.notify.notify_one();
        }
    }

    /// What changed since the last call.
    fn take_changed(&self) -> BTreeMap<IpAddr, Option<Interfaces>> {
        std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The running layer 2 announcer of this node.
pub struct Layer2 {
    wanted: Arc<Wanted>,
}

impl Layer2 {
    /// Starts announcing, nothing at first, on the interfaces whose name matches none of `exclude`; ends with
    /// `shutdown`. To be called within a tokio runtime.
    ///
    /// # Errors
    /// The kernel refuses a packet socket, mostly for want of `CAP_NET_RAW`, or a netlink socket.
    pub fn start(
        exclude: Vec<Regex>,
        metrics: Layer2Metrics,
        shutdown: CancellationToken,
    ) -> io::Result<(Self, mpsc::Receiver<Layer2Event>)> {
        packet_socket::probe()?;
        let links = links::watch_links(exclude, shutdown.clone())?;
        let wanted = Arc::new(Wanted::default());
        let (events_sender, events) = mpsc::channel(EVENTS);
        let run = run::Run::new(Arc::clone(&wanted), links, metrics, events_sender);
        tokio::spawn(run.until(shutdown));
        Ok((Self { wanted }, events))
    }

    /// Changes what is announced of some addresses: on which interfaces, or not at all. When this returns, the addresses
    /// that are gone are no longer answered for and the new ones are; their gratuitous bursts follow at once.
    pub fn change(&self, changes: impl IntoIterator<Item = (IpAddr, Option<Interfaces>)>) {
        self.wanted.change(changes);
    }

    /// Announces everything once more, with a burst as for a new address.
    ///
    /// For when another node may have claimed the same addresses meanwhile, as one does that was cut off and took itself
    /// for the last: it goes quiet when it hears of us, but what it said stays in the caches of neighbours.
    pub fn announce_again(&self) {
        self.wanted.again.store(true, Ordering::Relaxed);
        self.wanted.notify.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(names: &[&str]) -> Interfaces {
        Interfaces::Only(names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_change_remembers_what_was_announced_when_the_loop_last_looked() {
        let wanted = Wanted::default();
        let ip: IpAddr = "192.0.2.1".parse().unwrap();
        wanted.change([(ip, Some(Interfaces::All))]);
        wanted.change([(ip, Some(only(&["eth0"])))]);
        assert_eq!(wanted.announcements().get(&ip), Some(&only(&["eth0"])));
        assert_eq!(wanted.take_changed(), BTreeMap::from([(ip, None)]));
        wanted.change([(ip, None)]);
        assert!(wanted.announcements().is_empty());
        assert_eq!(
            wanted.take_changed(),
            BTreeMap::from([(ip, Some(only(&["eth0"])))])
        );
    }

    #[test]
    fn more_interfaces_reach_beyond_and_fewer_do_not() {
        assert!(Interfaces::All.reach_beyond(&only(&["eth0"])));
        assert!(only(&["eth0", "eth1"]).reach_beyond(&only(&["eth0"])));
        assert!(!only(&["eth0"]).reach_beyond(&only(&["eth0", "eth1"])));
        assert!(!only(&["eth0"]).reach_beyond(&Interfaces::All));
        assert!(!Interfaces::All.reach_beyond(&Interfaces::All));
    }
}
