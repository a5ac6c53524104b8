//! Connections that peers open to us.
//!
//! Two sockets, one for each family: an IPv4 key on a socket for both is refused by the kernel, and the peer would be let in
//! without one. A connection goes to the peer that has its address; anybody else's is closed without a word. Keys of peers are
//! on the listening sockets (RFC 2385), so that the kernel drops what is not signed before it is a connection.

use super::local;
use super::socket;
use super::spec::{PeerSpec, Target};
use ferrolb_bgp::Endpoint;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Connections of one peer that wait to be looked at. One is of use at a time; more are closed.
const WAITING: usize = 2;

/// A rest after the kernel gave no connection, mostly for want of files.
const REST: Duration = Duration::from_millis(100);

/// A connection that a peer opened, and our end of it.
pub(super) type Incoming = (TcpStream, Endpoint);

/// Whom connections are for.
#[derive(Debug, Clone, Default)]
pub(super) struct Doors(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    doors: BTreeMap<String, Door>,
    listeners: Vec<Arc<TcpListener>>,
}

#[derive(Debug)]
struct Door {
    spec: Arc<PeerSpec>,
    incoming: mpsc::Sender<Incoming>,
    /// Whether the kernel checks signatures where the peer has a password. Nobody is let in otherwise.
    guarded: bool,
}

impl Doors {
    /// Listens on `port` of every address until `shutdown`.
    ///
    /// # Errors
    ///
    /// What the kernel says: the port is another's, or below 1024 and the process lacks CAP_NET_BIND_SERVICE.
    pub(super) fn listen(
        &self,
        port: u16,
        node_name: &Arc<str>,
        shutdown: &CancellationToken,
    ) -> io::Result<()> {
        let everywhere: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        for address in everywhere {
            let listener = match socket::listen(SocketAddr::new(address, port)) {
                // The kernel was built or started without IPv6.
                Err(error)
                    if address.is_ipv6() && error.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
                {
                    continue;
                }
                listener => Arc::new(listener?),
            };
            self.lock().listeners.push(Arc::clone(&listener));
            let (doors, node_name) = (self.clone(), Arc::clone(node_name));
            let serve = async move { doors.serve(&listener, &node_name).await };
            tokio::spawn(shutdown.clone().run_until_cancelled_owned(serve));
        }
        Ok(())
    }

    /// From now on connections from this peer's address are its own.
    pub(super) fn open(&self, spec: &Arc<PeerSpec>) -> mpsc::Receiver<Incoming> {
        let (incoming, receiver) = mpsc::channel(WAITING);
        let mut inner = self.lock();
        if let Some(former) = inner.doors.remove(&spec.name) {
            inner.drop_key(&former.spec);
        }
        let guarded = inner.set_key(spec);
        let spec = Arc::clone(spec);
        let door = Door {
            spec,
            incoming,
            guarded,
        };
        inner.doors.insert(door.spec.name.clone(), door);
        receiver
    }

    /// This peer is none of ours any more.
    pub(super) fn close(&self, name: &str) {
        let mut inner = self.lock();
        if let Some(door) = inner.doors.remove(name) {
            inner.drop_key(&door.spec);
        }
    }

    /// Where peers can connect.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let inner = self.lock();
        let addresses = inner.listeners.iter();
        addresses
            .filter_map(|listener| listener.local_addr().ok())
            .collect()
    }

    async fn serve(&self, listener: &TcpListener, node_name: &str) {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => self.admit(stream, from, node_name).await,
                Err(error) => {
                    tracing::debug!(%error, "no connection could be accepted");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    async fn admit(&self, stream: TcpStream, from: SocketAddr, node_name: &str) {
        let Ok(local) = stream.local_addr() else {
            return;
        };
        let Some((spec, incoming)) = self.door_of(from.ip(), local.ip()) else {
            tracing::debug!(%from, "a BGP connection from an address that is no peer's, or of several");
            return;
        };
        // The key may have been put on the listening socket after this connection came about.
        let safe = spec
            .password
            .as_ref()
            .map_or(Ok(()), |password| socket::set_md5(&stream, from, password));
        let adopted = safe.and_then(|()| socket::adopt(&stream, from.ip(), spec.hops()));
        if let Err(error) = adopted {
            tracing::debug!(%from, %error, "a connection of a peer is of no use");
            return;
        }
        let endpoint = local::endpoint(local, spec.router_id, node_name).await;
        if incoming.try_send((stream, endpoint)).is_err() {
            tracing::debug!(
                peer = spec.name,
                "the peer opens more connections than are looked at"
            );
        }
    }

    /// Whose a connection is. Where several peers have one address, nobody can say.
    fn door_of(
        &self,
        from: IpAddr,
        local: IpAddr,
    ) -> Option<(Arc<PeerSpec>, mpsc::Sender<Incoming>)> {
        let inner = self.lock();
        let mut doors = inner.doors.values().filter(|Door { spec, .. }| {
            let is_ours = spec.source_address.is_none_or(|source| source == local);
            // At the other end of an interface anybody may be; its router is called.
            is_ours && caller(spec) == Some(from)
        });
        let door = doors.next()?;
        let is_certain = doors.next().is_none() && door.guarded;
        is_certain.then(|| (Arc::clone(&door.spec), door.incoming.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while holding the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From where the peer may connect to us, if it may.
fn caller(spec: &PeerSpec) -> Option<IpAddr> {
    match spec.target {
        // What comes in by a VRF is not for sockets outside of it.
        Target::Address(address) if spec.vrf.is_none() => Some(address),
        Target::Address(_) | Target::Interface(_) => None,
    }
}

impl Inner {
    /// Whether connections of this peer are as safe as it wants them.
    fn set_key(&self, spec: &PeerSpec) -> bool {
        let Some(password) = &spec.password else {
            return true;
        };
        let Some(address) = caller(spec) else {
            // Nobody is let in by an interface or a VRF.
            return false;
        };
        let key = (address, spec.port).into();
        let mut listeners = self.listeners_for(address);
        let result = listeners.try_for_each(|listener| socket::set_md5(&**listener, key, password));
        if let Err(error) = &result {
            tracing::warn!(peer = spec.name, %error, "the peer cannot connect to us with its password, only we to it");
        }
        result.is_ok()
    }

    /// Another peer may have the same address and a key of its own.
    fn drop_key(&self, spec: &PeerSpec) {
        let (Some(_), Some(address)) = (&spec.password, caller(spec)) else {
            return;
        };
        let mut others = self.doors.values().map(|door| &door.spec);
        let other = others.find(|other| caller(other) == Some(address) && other.password.is_some());
        match other {
            Some(other) => {
                self.set_key(other);
            }
            None => {
                let key = (address, spec.port).into();
                for listener in self.listeners_for(address) {
                    if let Err(error) = socket::drop_md5(&**listener, key) {
                        tracing::debug!(peer = spec.name, %error, "the key of a peer that is gone stays");
                    }
                }
            }
        }
    }

    fn listeners_for(&self, address: IpAddr) -> impl Iterator<Item = &Arc<TcpListener>> {
        self.listeners.iter().filter(move |listener| {
            listener
                .local_addr()
                .is_ok_and(|local| local.is_ipv4() == address.is_ipv4())
        })
    }
}
