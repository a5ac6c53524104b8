//! What a BGPPeer asks of this node.

use ferrolb_bgp::session::DEFAULT_HOLD_TIME;
use ferrolb_bgp::{Config, Families, PeerAs};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// How long a peer shall keep our routes while this process is replaced: what FRR asks for by default.
pub(super) const RESTART_TIME: Duration = Duration::from_secs(120);

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

/// Where a peer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// At this address.
    Address(IpAddr),
    /// At the other end of this interface, where it is found by its router advertisements.
    Interface(String),
}

/// Which packets of a peer are taken, and how far ours go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hops {
    /// From anywhere, as far as the kernel's default.
    Any,
    /// Ours only go to the next router. Routers of another AS are expected on the same link and speak with a limit of one
    /// hop themselves, as FRR does unless told otherwise.
    Next,
    /// Only what came over so many hops at most, which nobody farther away can forge (RFC 5082); 1 to 254.
    AtMost(u8),
}

/// Everything about a BGPPeer that concerns its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSpec {
    /// Name of the BGPPeer.
    pub name: String,
    /// Where it is.
    pub target: Target,
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
    /// The VRF to connect in, by the name of its device.
    pub vrf: Option<String>,
    /// TCP-MD5 key (RFC 2385), 80 octets at most.
    pub password: Option<Secret>,
    /// A peer in another AS may be more than one hop away.
    pub ebgp_multihop: bool,
    /// Packets of the peer that came over more hops than this, 1 to 254, are not taken (RFC 5082).
    pub ttl_security: Option<u8>,
    /// Never connect, only take the peer's connections.
    pub passive: bool,
    /// Ask the peer to keep our routes while this process is replaced (RFC 4724).
    pub graceful_restart: bool,
    /// How long the peer may look for other routes before this process ends the session (RFC 8326); not with graceful restart.
    pub graceful_shutdown: Option<Duration>,
    /// The families to offer.
    pub families: Families,
}

impl PeerSpec {
    /// What differs and is part of the session, in the words of the BGPPeer. A session is begun anew exactly when this is not
    /// empty: how long it may take to end changes nothing about it.
    pub(super) fn differences(&self, other: &PeerSpec) -> Vec<&'static str> {
        // Whoever adds a field must say here what becomes of it.
        let PeerSpec {
            name: _,
            target,
            port,
            my_asn,
            peer_asn,
            hold_time,
            keepalive_time,
            connect_time,
            router_id,
            source_address,
            vrf,
            password,
            ebgp_multihop,
            ttl_security,
            passive,
            graceful_restart,
            graceful_shutdown: _,
            families,
        } = self;
        let of_target = match (target, &other.target) {
            (Target::Address(_), Target::Address(_)) => "peerAddress",
            (Target::Interface(_), Target::Interface(_)) => "interface",
            _ => "peerAddress and interface",
        };
        let fields = [
            (*target != other.target, of_target),
            (*port != other.port, "peerPort"),
            (*my_asn != other.my_asn, "myASN or localASN"),
            (*peer_asn != other.peer_asn, "peerASN or dynamicASN"),
            (*hold_time != other.hold_time, "holdTime"),
            (*keepalive_time != other.keepalive_time, "keepaliveTime"),
            (*connect_time != other.connect_time, "connectTime"),
            (*router_id != other.router_id, "routerID"),
            (*source_address != other.source_address, "sourceAddress"),
            (*vrf != other.vrf, "vrf"),
            (*password != other.password, "the password"),
            (*ebgp_multihop != other.ebgp_multihop, "ebgpMultiHop"),
            (
                *ttl_security != other.ttl_security,
                "ferrolb.io/ttl-security",
            ),
            (*passive != other.passive, "ferrolb.io/passive"),
            (
                *graceful_restart != other.graceful_restart,
                "enableGracefulRestart",
            ),
            (*families != other.families, "dualStackAddressFamily"),
        ];
        let differ = fields.into_iter().filter(|(differs, _)| *differs);
        differ.map(|(_, field)| field).collect()
    }

    /// How the peer is called in figures and in the log: `address:port`, with IPv6 addresses in brackets, or
    /// `interface:port`.
    pub(super) fn label(&self) -> String {
        match &self.target {
            Target::Address(address) => SocketAddr::new(*address, self.port).to_string(),
            Target::Interface(interface) => format!("{interface}:{}", self.port),
        }
    }

    pub(super) fn session_config(&self) -> Config {
        Config {
            local_as: self.my_asn,
            peer_as: self.peer_asn,
            hold_time: self.hold_time.unwrap_or(DEFAULT_HOLD_TIME),
            keepalive_time: self.keepalive_time,
            connect_time: self.connect_time,
            families: self.families,
            passive: self.passive,
            graceful_restart: self.graceful_restart.then_some(RESTART_TIME),
        }
    }

    pub(super) fn hops(&self) -> Hops {
        match self.ttl_security {
            Some(hops) => Hops::AtMost(hops),
            None if self.ebgp_multihop || self.peer_asn.is_internal(self.my_asn) => Hops::Any,
            None => Hops::Next,
        }
    }
}
