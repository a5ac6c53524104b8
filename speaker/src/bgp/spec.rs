//! What a BGPPeer asks of this node.

use ferrolb_bgp::session::DEFAULT_HOLD_TIME;
use ferrolb_bgp::{Config, Families, PeerAs};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A password. It goes to the kernel and nowhere else: it has no display, and its debug form hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a password.
    pub fn new(password: &str) -> Secret {
        Secret(password.into())
    }

    pub(super) fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// Everything about a BGPPeer that its session depends on. A session is restarted exactly when this changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSpec {
    /// Name of the BGPPeer.
    pub name: String,
    /// The peer's address.
    pub address: IpAddr,
    /// The peer's TCP port, usually 179.
    pub port: u16,
    /// The AS that we present.
    pub my_asn: u32,
    /// The AS that the peer must have.
    pub peer_asn: PeerAs,
    /// Hold time to propose, in whole seconds; 90 s if not given.
    pub hold_time: Option<Duration>,
    /// Time between KEEPALIVEs; a third of the hold time if not given or if that is shorter.
    pub keepalive_time: Option<Duration>,
    /// Time between attempts to connect; growing if not given.
    pub connect_time: Option<Duration>,
    /// Our BGP identifier; our IPv4 address of the connection if not given (reference 4.7).
    pub router_id: Option<Ipv4Addr>,
    /// Our address of the connection; the kernel chooses if not given.
    pub source_address: Option<IpAddr>,
    /// TCP-MD5 key (RFC 2385), 80 octets at most.
    pub password: Option<Secret>,
    /// A peer in another AS may be more than one hop away.
    pub ebgp_multihop: bool,
    /// The families to offer.
    pub families: Families,
}

impl PeerSpec {
    pub(super) fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    pub(super) fn session_config(&self) -> Config {
        Config {
            local_as: self.my_asn,
            peer_as: self.peer_asn,
            hold_time: self.hold_time.unwrap_or(DEFAULT_HOLD_TIME),
            keepalive_time: self.keepalive_time,
            connect_time: self.connect_time,
            families: self.families,
        }
    }

    /// How many routers our packets may pass, if that is limited: routers of another AS are expected on the same link and
    /// speak with a limit of one hop themselves, as FRR does unless told otherwise.
    pub(super) fn hop_limit(&self) -> Option<u32> {
        (!self.ebgp_multihop && !self.peer_asn.is_internal(self.my_asn)).then_some(1)
    }
}
