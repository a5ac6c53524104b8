//! How the sessions are doing, for status objects, events and whoever looks.

use ferrolb_bgp::{Negotiated, State};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tokio::sync::watch;

/// How one peer is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// State of the session.
    pub state: State,
    /// Since when.
    pub since: SystemTime,
    /// Why the session, or the last attempt to have one, ended. Kept while a later session is up.
    pub last_error: Option<String>,
    /// What both sides agreed on, while established.
    pub negotiated: Option<Negotiated>,
    /// Prefixes that the peer was told.
    pub prefixes_sent: usize,
    /// Prefixes still to be announced or withdrawn.
    pub prefixes_pending: usize,
    /// Desired prefixes that this session cannot carry.
    pub prefixes_not_advertised: usize,
    /// Why the first of those cannot be carried.
    pub not_advertised_because: Option<String>,
}

impl PeerStatus {
    pub(super) fn new() -> PeerStatus {
        PeerStatus {
            state: State::Idle,
            since: SystemTime::now(),
            last_error: None,
            negotiated: None,
            prefixes_sent: 0,
            prefixes_pending: 0,
            prefixes_not_advertised: 0,
            not_advertised_because: None,
        }
    }
}

/// Prefixes that a peer did not have were handed to the kernel.
#[derive(Debug, Clone)]
pub struct RoutesSent {
    /// Name of the peer.
    pub peer: Arc<str>,
    /// The prefixes.
    pub prefixes: Vec<IpNet>,
    /// When the kernel had taken the last octet of them.
    pub at: Instant,
}

/// Where the tasks of all peers write how they are doing.
#[derive(Debug, Clone)]
pub(super) struct Board {
    sender: watch::Sender<BTreeMap<String, PeerStatus>>,
}

impl Board {
    pub(super) fn new() -> Board {
        Board {
            sender: watch::Sender::new(BTreeMap::new()),
        }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<BTreeMap<String, PeerStatus>> {
        self.sender.subscribe()
    }

    /// Wakes the readers only if something differs.
    pub(super) fn write(&self, name: &str, status: &PeerStatus) {
        self.sender.send_if_modified(|all| match all.get_mut(name) {
            Some(current) if current == status => false,
            Some(current) => {
                current.clone_from(status);
                true
            }
            None => {
                all.insert(name.to_owned(), status.clone());
                true
            }
        });
    }

    pub(super) fn is_established(&self, name: &str) -> bool {
        let all = self.sender.borrow();
        all.get(name)
            .is_some_and(|status| status.state == State::Established)
    }

    pub(super) fn erase(&self, name: &str) {
        self.sender
            .send_if_modified(|all| all.remove(name).is_some());
    }
}
