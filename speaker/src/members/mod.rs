//! Which speakers are alive: a UDP socket and a clock around `ferrolb_membership`.

mod key;
mod metrics;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ferrolb_membership::{Membership, Node, Timing};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use ferrolb_membership::MOST_MACS;
pub use key::{KeyError, KeyFile};
pub use metrics::MembersMetrics;

/// How long [`Members::leave`] and [`Members::stopped`] wait for the farewell to be sent.
const FAREWELL: Duration = Duration::from_secs(1);

/// This node's part in the membership.
pub struct Members {
    seeds: watch::Sender<BTreeSet<SocketAddr>>,
    heard_all: watch::Receiver<bool>,
    unheard: watch::Receiver<bool>,
    own_macs: watch::Sender<Vec<[u8; 6]>>,
    macs: watch::Receiver<Arc<BTreeSet<[u8; 6]>>>,
    knows_all_macs: watch::Receiver<bool>,
    other_key: watch::Receiver<bool>,
    metrics: MembersMetrics,
    leaving: CancellationToken,
    left: CancellationToken,
    task: JoinHandle<()>,
}

/// A speaker that has its socket and does not take part yet.
pub struct Joining {
    node_name: String,
    socket: tokio::net::UdpSocket,
    own: SocketAddr,
    key: Option<KeyFile>,
    metrics: MembersMetrics,
    shutdown: CancellationToken,
}

impl Joining {
    /// Takes part from now on, as a cluster of one at first. The others count on this node from the moment they hear of it, so
    /// it should be able to do its part. The receiver always holds the names of all nodes that are alive, our own among them.
    #[must_use]
    pub fn join(self) -> (Members, watch::Receiver<Arc<BTreeSet<String>>>) {
        let Joining {
            node_name,
            socket,
            own,
            key,
            metrics,
            shutdown,
        } = self;
        // Later lives of this node need higher numbers; one that starts with a clock that was set back finds out.
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let node = Node::new(node_name, own, since_epoch.as_millis() as u64);
        let membership = Membership::new(
            node,
            key.as_ref().map(KeyFile::key),
            rand::random(),
            Timing::default(),
            Instant::now(),
        );
        let (names_sender, names) = watch::channel(Arc::new(membership.names().clone()));
        let (seeds, seeds_receiver) = watch::channel(BTreeSet::new());
        let (heard_all_sender, heard_all) = watch::channel(false);
        let (unheard_sender, unheard) = watch::channel(false);
        let (own_macs, own_macs_receiver) = watch::channel(Vec::new());
        let (macs_sender, macs) = watch::channel(Arc::default());
        let (knows_all_macs_sender, knows_all_macs) = watch::channel(true);
        let (other_key_sender, other_key) = watch::channel(false);
        let (leaving, left) = (CancellationToken::new(), CancellationToken::new());
        let run = run::Run {
            socket,
            own,
            membership,
            key,
            seeds: seeds_receiver,
            names: names_sender,
            heard_all: heard_all_sender,
            unheard: unheard_sender,
            own_macs: own_macs_receiver,
            macs: macs_sender,
            knows_all_macs: knows_all_macs_sender,
            other_key: other_key_sender,
            strangers: BTreeMap::new(),
            leaving: leaving.clone(),
            left: left.clone(),
            metrics: metrics.clone(),
            warned: None,
            answered: None,
        };
        let members = Members {
            seeds,
            heard_all,
            unheard,
            own_macs,
            macs,
            knows_all_macs,
            other_key,
            metrics,
            leaving,
            left,
            task: tokio::spawn(run.until(shutdown)),
        };
        (members, names)
    }
}

impl Members {
    /// Opens the socket: `node_name` at `bind`, which must be the address at which the others reach us. `key` is the shared
    /// secret, which is read again every few seconds; without one, whoever reaches the port is believed. Ends with `shutdown`,
    /// after a farewell. To be called within a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be bound, or is unspecified.
    pub fn bind(
        node_name: &str,
        bind: SocketAddr,
        key: Option<KeyFile>,
        metrics: MembersMetrics,
        shutdown: CancellationToken,
    ) -> io::Result<Joining> {
        if bind.ip().is_unspecified() {
            let message = "the membership address must be one at which other nodes reach this one";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let socket = UdpSocket::bind(bind)?;
        socket.set_nonblocking(true)?;
        let own = socket.local_addr()?;
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        if key.is_none() {
            tracing::warn!(
                "membership datagrams are neither encrypted nor authenticated: there is no secret"
            );
        }
        Ok(Joining {
            node_name: node_name.to_owned(),
            socket,
            own,
            key,
            metrics,
            shutdown,
        })
    }

    /// Sets the addresses at which speakers should be. Those that are not members are asked to let us join, now and
    /// again every few seconds.
    pub fn set_seeds(&self, seeds: BTreeSet<SocketAddr>) {
        self.seeds.send_if_modified(|current| {
            let changed = *current != seeds;
            *current = seeds;
            changed
        });
    }

    /// Sets the hardware addresses of this node's usable interfaces, of which the others are told now and whenever they change; of
    /// more than [`MOST_MACS`] the lowest. To be called before [`Self::set_seeds`] for the first time, so that nobody is met
    /// before he can be told.
    pub fn set_macs(&self, macs: Vec<[u8; 6]>) {
        self.own_macs.send_if_modified(|current| {
            let changed = *current != macs;
            *current = macs;
            changed
        });
    }

    /// The hardware addresses of all other members as far as they are known, those included that were lost within the last ten
    /// minutes. Changed before the names are, and before [`Self::heard_all`] becomes true. At most 16 of each of 8,192 members.
    #[must_use]
    pub fn macs(&self) -> watch::Receiver<Arc<BTreeSet<[u8; 6]>>> {
        self.macs.clone()
    }

    /// Whether [`Self::macs`] holds those of every member that is alive. False for ever beside a speaker of a version that does not
    /// tell its own.
    #[must_use]
    pub fn knows_all_macs(&self) -> watch::Receiver<bool> {
        self.knows_all_macs.clone()
    }

    /// Whether the names that the receiver of [`Joining::join`] holds are all there are. False
    ///
    /// - from the start, until a member has told its whole list or, 3 s after the first seeds, until nobody has;
    /// - again when time has gone on without this process (it was stopped, or starved of processor for about a second):
    ///   the others may have given it up and act for it. It mostly takes some milliseconds until it is true again, and 3 s
    ///   if nobody answers.
    ///
    /// Who is false should claim nothing that another member may have by now. The names are always changed before this
    /// becomes true.
    #[must_use]
    pub fn heard_all(&self) -> watch::Receiver<bool> {
        self.heard_all.clone()
    }

    /// Whether other members are held to be alive and none of them answers: mostly this node is cut off, and will find in a
    /// moment that they are all down.
    #[must_use]
    pub fn unheard(&self) -> watch::Receiver<bool> {
        self.unheard.clone()
    }

    /// Whether speakers of this cluster are alive and have another key: datagrams that did not authenticate came within the last 5 s
    /// from addresses of seeds that are no members. Without a secret that nobody shares, who can write such an address into a datagram
    /// can make it true, so it should keep nobody for ever.
    #[must_use]
    pub fn other_key(&self) -> watch::Receiver<bool> {
        self.other_key.clone()
    }

    /// Counts that this node has announced nothing because of [`Self::other_key`].
    pub fn held_for_other_key(&self) {
        self.metrics.holds.inc();
    }

    /// Says farewell to the others and returns when it is said: three times within 40 ms, since it may get lost. They
    /// take over what this node stood for from the first one on, so this node should go on answering for a moment. They
    /// tell it nothing any more: the names stay as they are, its own among them. Calling it again waits for the same
    /// farewell.
    pub async fn leave(&self) {
        self.leaving.cancel();
        if tokio::time::timeout(FAREWELL, self.left.cancelled())
            .await
            .is_err()
        {
            tracing::warn!("no farewell: the membership socket takes nothing");
        }
    }

    /// Waits, after shutdown, until the others have been told, but not for long.
    pub async fn stopped(self) {
        if tokio::time::timeout(FAREWELL, self.task).await.is_err() {
            tracing::warn!("no farewell: the membership socket takes nothing");
        }
    }
}
