//! One interface in use: its sockets, the tasks that answer on them, its multicast groups.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use ferrolb_neighbor::{ARP_REQUESTS, NEIGHBOR_SOLICITATIONS, Responder, SockFilter, Verdict};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::links::Link;
use super::metrics::Layer2Metrics;
use super::multicast::Groups;
use super::packet_socket::PacketSocket;
use super::{Interfaces, Wanted};

/// Longer than any frame that is answered; the rest of a longer one is of no interest.
const LONGEST_FRAME: usize = 2048;

/// An interface in use. Dropping it ends its tasks and closes its sockets.
pub(super) struct Port {
    pub(super) link: Link,
    responder: Responder,
    arp: Option<Side>,
    ndp: Option<Side>,
    groups: Groups,
}

struct Side {
    socket: Arc<PacketSocket>,
    _answering: AbortOnDropHandle<()>,
}

/// What all ports share.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) wanted: Arc<Wanted>,
    pub(super) metrics: Layer2Metrics,
    /// Takes the index of an interface whose socket has failed.
    pub(super) failed: mpsc::Sender<u32>,
}

impl Port {
    /// Opens the sockets and starts answering.
    pub(super) fn open(index: u32, link: Link, context: &Context) -> io::Result<Self> {
        let responder = Responder {
            mac: link.mac,
            link_local: link.link_local,
        };
        let side = |ethertype: libc::c_int, filter: &[SockFilter]| {
            let socket = Arc::new(PacketSocket::open(index, ethertype as u16, filter)?);
            let answering = answer(
                Arc::clone(&socket),
                responder,
                index,
                link.name.clone(),
                context.clone(),
            );
            let answering = AbortOnDropHandle::new(tokio::spawn(answering));
            io::Result::Ok(Side {
                socket,
                _answering: answering,
            })
        };
        let arp = link
            .arp
            .then(|| side(libc::ETH_P_ARP, &ARP_REQUESTS))
            .transpose()?;
        let ndp = link
            .link_local
            .map(|_| side(libc::ETH_P_IPV6, &NEIGHBOR_SOLICITATIONS))
            .transpose()?;
        Ok(Self {
            link,
            responder,
            arp,
            ndp,
            groups: Groups::new(index),
        })
    }

    /// Whether the sockets fit the interface as it is now.
    pub(super) fn fits(&self, link: &Link) -> bool {
        Link {
            running: link.running,
            ..self.link.clone()
        } == *link
    }

    /// Takes in on which interfaces an address is announced now, if on any: requests for it come to a group of its own.
    pub(super) fn announced(&mut self, ip: IpAddr, interfaces: Option<&Interfaces>) {
        // Without a link-local address nothing is answered here, and nothing to be joined.
        let (IpAddr::V6(ip), Some(_)) = (ip, &self.ndp) else {
            return;
        };
        if interfaces.is_some_and(|interfaces| interfaces.contain(&self.link.name)) {
            self.groups.want(ip);
        } else {
            self.groups.release(ip);
        }
    }

    /// Joins and leaves the multicast groups that changed; says whether all went well. What did not is tried again by the
    /// next call.
    pub(super) fn join_groups(&mut self) -> bool {
        self.ndp
            .as_ref()
            .is_none_or(|ndp| self.groups.settle(&ndp.socket))
    }

    /// Sends one gratuitous round for `ip` and returns how many frames the kernel took.
    pub(super) async fn send_gratuitous(&self, ip: IpAddr, metrics: &Layer2Metrics) -> usize {
        let side = if ip.is_ipv4() { &self.arp } else { &self.ndp };
        let Some(Side { socket, .. }) = side else {
            return 0;
        };
        let mut sent = 0;
        for frame in self.responder.gratuitous(ip) {
            let result = match socket.try_send(&frame) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    patiently(socket.send(&frame)).await
                }
                other => other,
            };
            match result {
                Ok(()) => {
                    sent += 1;
                    metrics.gratuitous_sent(ip);
                }
                Err(error) => {
                    metrics.unsent();
                    debug!(%ip, interface = self.link.name, %error, "cannot send a gratuitous frame");
                }
            }
        }
        sent
    }
}

/// A large burst fills the send buffer; a link that takes nothing for this long is passed over.
async fn patiently(sending: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    const PATIENCE: std::time::Duration = std::time::Duration::from_millis(50);
    tokio::time::timeout(PATIENCE, sending)
        .await
        .unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
}

async fn answer(
    socket: Arc<PacketSocket>,
    responder: Responder,
    index: u32,
    name: String,
    context: Context,
) {
    let Context {
        wanted,
        metrics,
        failed,
    } = context;
    let mut buffer = vec![0; LONGEST_FRAME];
    loop {
        let received = match socket.receive(&mut buffer).await {
            Ok(received) => received,
            // Told once when the interface goes down. It may come up again; when it is gone, so is this task.
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => continue,
            Err(error) => {
                warn!(interface = name, %error, "cannot receive requests");
                // Full only if as many failures are waiting already, which bring this interface up again too.
                let _ = failed.try_send(index);
                return;
            }
        };
        let announced = |ip| {
            wanted
                .announcements()
                .get(&ip)
                .is_some_and(|interfaces| interfaces.contain(&name))
        };
        match responder.answer(buffer.get(..received).unwrap_or_default(), announced) {
            Verdict::Reply(reply) => {
                metrics.request_received(reply.ip);
                match socket.try_send(&reply.frame) {
                    Ok(()) => metrics.response_sent(reply.ip),
                    Err(error) => {
                        metrics.unsent();
                        debug!(ip = %reply.ip, interface = name, %error, "cannot send an answer");
                    }
                }
            }
            Verdict::Ignored => {}
            Verdict::Dropped(reason) => {
                metrics.dropped(reason);
                debug!(interface = name, %reason, "dropped a frame");
            }
        }
    }
}
