//! Which router is at the other end of an interface? Both ends say by router advertisements that they are there (RFC 4861
//! section 4.2), and each speaks BGP with the link-local address that it hears from.

use super::socket;
use ferrolb_neighbor::{
    ALL_NODES, ALL_ROUTERS, RouterMessage, router_advertisement, router_message,
    router_solicitation,
};
use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Between two advertisements, once a router is found: what FRR has for the same purpose.
const INTERVAL: Duration = Duration::from_secs(10);
/// The same while none is found, at first.
const INTERVAL_AT_FIRST: Duration = Duration::from_secs(1);
/// So often at first: a router that is there answers the first time.
const AT_FIRST: u32 = 5;
/// Whoever solicits is answered within this time (RFC 4861 section 6.2.6), …
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// … but not more often than this.
const BETWEEN_ANSWERS: Duration = Duration::from_secs(3);
/// A router that is silent for so long, as those are that advertise themselves every ten minutes, is asked (RFC 4861 section 6.3.7).
const SILENT: Duration = Duration::from_secs(30);
/// One that did not answer several times makes room for another.
const GONE: Duration = Duration::from_secs(60);
/// Between two attempts to use an interface that is not there.
const REST: Duration = Duration::from_secs(1);

/// The search on one interface. It ends with the value.
#[derive(Debug)]
pub(super) struct Discovery {
    found: watch::Receiver<Found>,
    task: AbortHandle,
}

/// What the search has found so far.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    Nothing,
    /// The interface cannot be used.
    Trouble(String),
    Router(Router),
}

/// A router's address, which means something only on the interface of this index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Router {
    address: Ipv6Addr,
    interface: u32,
}

impl Router {
    pub(super) fn socket_address(self, port: u16) -> SocketAddr {
        SocketAddrV6::new(self.address, port, 0, self.interface).into()
    }
}

impl Discovery {
    /// Begins. Must be called inside a tokio runtime.
    pub(super) fn start(interface: &str) -> Discovery {
        let (sender, found) = watch::channel(Found::Nothing);
        let task = tokio::spawn(search(interface.to_owned(), sender));
        Discovery {
            found,
            task: task.abort_handle(),
        }
    }

    /// Waits until there is a router, and returns the one that was heard of last.
    pub(super) fn router(&self) -> impl Future<Output = io::Result<Router>> + Send + use<> {
        let mut found = self.found.clone();
        async move {
            loop {
                match &*found.borrow_and_update() {
                    Found::Router(router) => return Ok(*router),
                    Found::Trouble(trouble) => return Err(io::Error::other(trouble.clone())),
                    Found::Nothing => {}
                }
                found.changed().await.map_err(io::Error::other)?;
            }
        }
    }

    /// Nobody has advertised itself so far.
    pub(super) fn is_alone(&self) -> bool {
        *self.found.borrow() == Found::Nothing
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn search(interface: String, found: watch::Sender<Found>) {
    loop {
        let error = match socket::router_discovery(&interface) {
            Ok(socket) => speak(&socket, &found).await,
            Err(error) => error,
        };
        let trouble = Found::Trouble(error.to_string());
        // It stays until something could be sent: an interface that is down is told of once.
        if *found.borrow() != trouble {
            tracing::warn!(interface, %error, "no router can be found on the interface");
            found.send_replace(trouble);
        }
        tokio::time::sleep(REST).await;
    }
}

/// Until the interface is gone, which the kernel says when something is sent there.
async fn speak(socket: &UdpSocket, found: &watch::Sender<Found>) -> io::Error {
    let (advertisement, solicitation) = (router_advertisement(), router_solicitation());
    let mut heard_at = None;
    let (mut sent, mut last, mut next) = (0_u32, None, Instant::now());
    let mut buffer = [0; 1500];
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(next) => {
                if let Err(error) = socket.send_to(&advertisement, (ALL_NODES, 0)).await {
                    return error;
                }
                let alone = heard_at.is_none_or(|at: Instant| at.elapsed() >= SILENT);
                if alone && let Err(error) = socket.send_to(&solicitation, (ALL_ROUTERS, 0)).await {
                    return error;
                }
                sent = sent.saturating_add(1);
                found.send_if_modified(|found| {
                    let was_unusable = matches!(found, Found::Trouble(_));
                    if was_unusable {
                        *found = Found::Nothing;
                    }
                    was_unusable
                });
                let interval = if alone && sent < AT_FIRST { INTERVAL_AT_FIRST } else { INTERVAL };
                last = Some(Instant::now());
                next = Instant::now() + interval.mul_f64(rand::random_range(0.75..1.0));
            }
            received = socket.recv_from(&mut buffer) => {
                let (length, from) = match received {
                    Ok(received) => received,
                    Err(error) => return error,
                };
                let SocketAddr::V6(from) = from else { continue };
                let message = buffer.get(..length).unwrap_or_default();
                match router_message(*from.ip(), message) {
                    Ok(RouterMessage::Advertisement) => heard(&from, &mut heard_at, found),
                    Ok(RouterMessage::Solicitation) => {
                        let soon = Instant::now() + ANSWER_WITHIN.mul_f64(rand::random());
                        let allowed = last.map_or(soon, |last| last + BETWEEN_ANSWERS);
                        next = next.min(soon.max(allowed));
                    }
                    Err(reason) => tracing::debug!(%from, %reason, "a message of router discovery was dropped"),
                }
            }
        }
    }
}

fn heard(from: &SocketAddrV6, heard_at: &mut Option<Instant>, found: &watch::Sender<Found>) {
    let router = Router {
        address: *from.ip(),
        interface: from.scope_id(),
    };
    let is_known = *found.borrow() == Found::Router(router);
    let is_gone = heard_at.is_none_or(|at| at.elapsed() >= GONE);
    if !is_known {
        if !is_gone {
            // The link has two routers, and the one that was first is still there.
            return;
        }
        tracing::info!(address = %from.ip(), "found the router at the other end of the interface");
        found.send_replace(Found::Router(router));
    }
    *heard_at = Some(Instant::now());
}
