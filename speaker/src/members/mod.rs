//! Which speakers are alive: a UDP socket and a clock around `ferrolb_membership`.

mod metrics;
mod run;

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ferrolb_membership::{Membership, Node, Timing};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use metrics::MembersMetrics;

/// How long [`Members::stopped`] waits for the farewell to be sent.
const FAREWELL: Duration = Duration::from_secs(1);

/// This node's part in the membership.
pub struct Members {
    seeds: watch::Sender<BTreeSet<SocketAddr>>,
    task: JoinHandle<()>,
}

impl Members {
    /// Starts as a cluster of one: `node_name` at `bind`, which must be the address at which the others reach us. `key`
    /// is the shared secret; without one, whoever reaches the port is believed. The receiver always holds the names of
    /// all nodes that are alive, our own among them. Ends with `shutdown`. To be called within a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be bound, or is unspecified.
    pub fn start(
        node_name: &str,
        bind: SocketAddr,
        key: Option<Vec<u8>>,
        metrics: MembersMetrics,
        shutdown: CancellationToken,
    ) -> io::Result<(Self, watch::Receiver<Arc<BTreeSet<String>>>)> {
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
        // Later lives of this node need higher numbers; one that starts with a clock that was set back finds out.
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let node = Node::new(node_name, own, since_epoch.as_millis() as u64);
        let membership = Membership::new(
            node,
            key.as_deref(),
            rand::random(),
            Timing::default(),
            Instant::now(),
        );
        let (names_sender, names) = watch::channel(Arc::new(membership.names().clone()));
        let (seeds, seeds_receiver) = watch::channel(BTreeSet::new());
        let run = run::Run {
            socket,
            own,
            membership,
            seeds: seeds_receiver,
            names: names_sender,
            metrics,
            warned: None,
        };
        Ok((
            Self {
                seeds,
                task: tokio::spawn(run.until(shutdown)),
            },
            names,
        ))
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

    /// Waits, after shutdown, until the others have been told, but not for long.
    pub async fn stopped(self) {
        if tokio::time::timeout(FAREWELL, self.task).await.is_err() {
            tracing::warn!("no farewell: the membership socket takes nothing");
        }
    }
}
