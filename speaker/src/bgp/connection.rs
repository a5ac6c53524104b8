//! One TCP connection to a peer: opened, written without waiting, closed so that the last word arrives.

use super::local;
use super::socket::{self, Options};
use super::spec::PeerSpec;
use ferrolb_bgp::{ConnId, Endpoint};
use ipnet::IpNet;
use socket2::SockRef;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream};

/// Octets that were written and may stay in the queue until it is empty; more are cut off, which moves the rest.
const WRITTEN_AT_MOST: usize = 64 * 1024;

/// How long a peer may take to accept our last octets and to close in turn.
const FAREWELL: Duration = Duration::from_secs(1);

/// Opens a connection to `peer`, which is where the specification says.
pub(super) async fn open(
    spec: &PeerSpec,
    peer: SocketAddr,
    node_name: &str,
) -> io::Result<(TcpStream, Endpoint)> {
    let socket = socket::prepare(&Options {
        peer,
        source: spec.source_address,
        vrf: spec.vrf.as_deref(),
        password: spec.password.as_ref(),
        hops: spec.hops(),
    })?;
    let stream = TcpSocket::from_std_stream(socket.into())
        .connect(peer)
        .await
        .map_err(|error| explain(error, peer.ip()))?;
    let local = stream.local_addr()?;
    let endpoint = local::endpoint(local, spec.router_id, node_name).await;
    Ok((stream, endpoint))
}

/// A peer that is this node itself is mostly a mistake: a BGPPeer for all nodes that gives the address of one. A router that
/// runs on the node is another matter, and answers.
fn explain(error: io::Error, peer: IpAddr) -> io::Error {
    match about_own(peer) {
        Some(hint) => io::Error::new(error.kind(), format!("{error}; {hint}")),
        None => error,
    }
}

/// What to say of a peer that is this node itself, and not only of it by loopback.
pub(super) fn about_own(peer: IpAddr) -> Option<String> {
    (!peer.is_loopback() && local::is_own(peer)).then(|| {
        format!("{peer} is an address of this node itself: give the router's, or leave this node out by spec.nodeSelectors")
    })
}

/// An open connection with what waits to be written.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) conn: ConnId,
    pub(super) stream: TcpStream,
    queue: Vec<u8>,
    /// How much of `queue` the kernel has.
    written: usize,
    /// Announced prefixes, and how much more must be written until the kernel has them.
    marks: VecDeque<(usize, Vec<IpNet>)>,
}

/// What a write achieved.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// The kernel took something.
    pub(super) progress: bool,
    /// Prefixes whose announcement the kernel has taken as a whole.
    pub(super) announced: Vec<IpNet>,
}

impl Connection {
    pub(super) fn new(conn: ConnId, stream: TcpStream) -> Connection {
        Connection {
            conn,
            stream,
            queue: Vec::new(),
            written: 0,
            marks: VecDeque::new(),
        }
    }

    /// Octets that the kernel has not taken yet.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len() - self.written
    }

    /// Waits until there is something to read, or room for what waits.
    pub(super) async fn ready(&self) -> (ConnId, io::Result<()>) {
        let interest = if self.waiting() > 0 {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        (self.conn, self.stream.ready(interest).await.map(drop))
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.queue.extend_from_slice(bytes);
    }

    /// Remembers that the octets pushed so far announce these prefixes.
    pub(super) fn mark(&mut self, prefixes: Vec<IpNet>) {
        if !prefixes.is_empty() {
            self.marks.push_back((self.waiting(), prefixes));
        }
    }

    /// Hands the kernel as much as it takes now.
    pub(super) fn write(&mut self) -> io::Result<Written> {
        let mut result = Written::default();
        while let Some(rest) = self
            .queue
            .get(self.written..)
            .filter(|rest| !rest.is_empty())
        {
            match self.stream.try_write(rest) {
                Ok(count) => {
                    self.written += count;
                    result.progress = true;
                    self.pass_marks(count, &mut result.announced);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.waiting() == 0 {
            self.queue.clear();
            self.written = 0;
        } else if self.written > WRITTEN_AT_MOST {
            // A peer that never catches up must not make us keep all that it ever took.
            self.queue.drain(..self.written);
            self.written = 0;
        }
        Ok(result)
    }

    fn pass_marks(&mut self, count: usize, announced: &mut Vec<IpNet>) {
        for (left, _) in &mut self.marks {
            *left = left.saturating_sub(count);
        }
        while let Some((_, prefixes)) = self.marks.pop_front_if(|(left, _)| *left == 0) {
            announced.extend(prefixes);
        }
    }

    /// Ends the connection. What waits is written if the peer takes it; then the peer may close first, because the kernel
    /// would answer octets that arrive after our closing with a reset, which can destroy a NOTIFICATION before it is read.
    pub(super) async fn close(mut self) {
        let farewell = async {
            loop {
                self.write()?;
                if self.waiting() == 0 {
                    break;
                }
                self.stream.writable().await?;
            }
            SockRef::from(&self.stream).shutdown(Shutdown::Write)?;
            let mut ignored = [0; 4096];
            loop {
                self.stream.readable().await?;
                match self.stream.try_read(&mut ignored) {
                    Ok(0) => return Ok::<(), io::Error>(()),
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                    Ok(_) | Err(_) => {}
                }
            }
        };
        // However it ends, there is nobody left who could do anything about it.
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
        if self.waiting() > 0 {
            // The peer takes nothing: the kernel shall not go on trying for minutes.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}
