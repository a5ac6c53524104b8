//! What two OPENs agree on, or why they do not (RFC 4271 section 6.2).

use super::Config;
use super::events::Endpoint;
use super::graceful::{self, KeepsRoutes, Memory};
use crate::family::{Families, Family};
use crate::wire::{AddPath, Capability, Context, ExtendedNextHop, Notification, Open, code};
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Which AS the peer must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerAs {
    /// This one.
    Exact(u32),
    /// Ours, whatever the peer's OPEN says as long as it is that.
    Internal,
    /// Any but ours.
    External,
}

impl PeerAs {
    fn allows(self, asn: u32, local: u32) -> bool {
        match self {
            PeerAs::Exact(expected) => asn == expected,
            PeerAs::Internal => asn == local,
            PeerAs::External => asn != local,
        }
    }

    /// Whether a session with such a peer is inside our AS.
    pub fn is_internal(self, local: u32) -> bool {
        match self {
            PeerAs::Exact(asn) => asn == local,
            PeerAs::Internal => true,
            PeerAs::External => false,
        }
    }
}

impl fmt::Display for PeerAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerAs::Exact(asn) => write!(f, "AS {asn}"),
            PeerAs::Internal => f.write_str("our own AS"),
            PeerAs::External => f.write_str("an AS other than ours"),
        }
    }
}

/// What both sides of a session agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// The peer's AS.
    pub peer_as: u32,
    /// The peer is in our AS (iBGP).
    pub internal: bool,
    /// The peer's BGP identifier.
    pub peer_router_id: Ipv4Addr,
    /// The lesser of both proposals; zero switches hold and keepalive timers off.
    pub hold_time: Duration,
    /// How often we send KEEPALIVEs; zero for never.
    pub keepalive_time: Duration,
    /// The families that both sides offered.
    pub families: Families,
    /// AS numbers in paths take four octets.
    pub four_octet_as: bool,
    /// The peer takes IPv4 routes with an IPv6 next hop (RFC 8950).
    pub ipv4_over_ipv6: bool,
    /// The peer takes long messages (RFC 8654).
    pub extended_messages: bool,
    /// The families whose prefixes the peer wants with path identifiers (RFC 7911).
    pub path_identifiers: Families,
    /// The peer wants to be told where a repetition of all routes begins and ends (RFC 7313).
    pub enhanced_refresh: bool,
    /// The peer keeps our routes over a restart, if that was asked for and it does.
    pub keeps_routes: Option<KeepsRoutes>,
    /// Our end of the connection.
    pub endpoint: Endpoint,
}

impl Negotiated {
    /// How to read and write messages of this session.
    pub fn context(&self) -> Context {
        Context {
            four_octet_as: self.four_octet_as,
            internal: self.internal,
            extended_messages: self.extended_messages,
            identifiers_written: self.path_identifiers,
            identifiers_read: Families::default(),
            enhanced_refresh: self.enhanced_refresh,
        }
    }
}

/// An OPEN that is not acceptable: the answer, and what is wrong in words.
pub(super) struct Refusal {
    pub(super) notification: Notification,
    pub(super) why: String,
}

/// The OPEN that we send.
pub(super) fn our_open(config: &Config, endpoint: &Endpoint, memory: Memory) -> Open {
    let mut capabilities: Vec<Capability> = config
        .families
        .iter()
        .map(Capability::multiprotocol)
        .collect();
    capabilities.push(Capability::RouteRefresh);
    if endpoint.local.is_ipv6() && config.families.contains(Family::Ipv4Unicast) {
        capabilities.push(Capability::ExtendedNextHop(vec![
            ExtendedNextHop::ipv4_over_ipv6(),
        ]));
    }
    capabilities.push(Capability::ExtendedMessage);
    capabilities.extend(
        config
            .graceful_restart
            .map(|time| memory.offer(time, config.families)),
    );
    capabilities.push(Capability::FourOctetAs(config.local_as));
    capabilities.push(Capability::AddPath(
        config.families.iter().map(AddPath::sends).collect(),
    ));
    capabilities.push(Capability::EnhancedRouteRefresh);
    Open::new(
        config.local_as,
        seconds(config.hold_time),
        endpoint.router_id,
        capabilities,
    )
}

/// Checks the peer's OPEN against what is configured.
pub(super) fn negotiate(
    config: &Config,
    endpoint: &Endpoint,
    open: &Open,
) -> Result<Negotiated, Refusal> {
    let peer_as = open.asn();
    // RFC 7607: AS 0 is never right.
    if peer_as == 0 || !config.peer_as.allows(peer_as, config.local_as) {
        return refuse(
            2,
            Vec::new(),
            format!("the peer is in AS {peer_as}, expected {}", config.peer_as),
        );
    }
    let internal = peer_as == config.local_as;
    // RFC 6286 section 2.2: any identifier but 0, and inside an AS not ours.
    if open.router_id.is_unspecified() {
        return refuse(3, Vec::new(), "the peer's router id is 0.0.0.0".to_owned());
    }
    if internal && open.router_id == endpoint.router_id {
        return refuse(
            3,
            Vec::new(),
            format!("the peer's router id {} is also ours", open.router_id),
        );
    }
    let families = config.families.intersection(open.families());
    if families.is_empty() {
        // RFC 5492 section 5: the data lists what would have been needed.
        let mut needed = Vec::new();
        for family in config.families.iter() {
            // Cannot fail: the multiprotocol capability has a fixed length.
            let _ = Capability::multiprotocol(family).encode(&mut needed);
        }
        return refuse(
            7,
            needed,
            "the peer offers no address family that we offer".to_owned(),
        );
    }
    let hold_time = Duration::from_secs(u64::from(open.hold_time.min(seconds(config.hold_time))));
    Ok(Negotiated {
        peer_as,
        internal,
        peer_router_id: open.router_id,
        hold_time,
        keepalive_time: keepalive_time(hold_time, config.keepalive_time),
        families,
        four_octet_as: open.four_octet_as().is_some(),
        ipv4_over_ipv6: endpoint.local.is_ipv6() && open.receives_ipv4_over_ipv6(),
        extended_messages: open.offers(&Capability::ExtendedMessage),
        path_identifiers: families.intersection(open.receives_path_identifiers()),
        enhanced_refresh: open.offers(&Capability::EnhancedRouteRefresh),
        keeps_routes: config
            .graceful_restart
            .and_then(|_| graceful::keeps_routes(open)),
        endpoint: *endpoint,
    })
}

/// A third of the hold time, or what is configured if that is shorter; never more than one a second (RFC 4271 section 4.4).
fn keepalive_time(hold_time: Duration, configured: Option<Duration>) -> Duration {
    if hold_time.is_zero() {
        return Duration::ZERO;
    }
    let third = hold_time / 3;
    configured
        .filter(|time| !time.is_zero())
        .map_or(third, |time| time.min(third))
        .max(Duration::from_secs(1))
}

fn refuse(subcode: u8, data: Vec<u8>, why: String) -> Result<Negotiated, Refusal> {
    Err(Refusal {
        notification: Notification::new(code::OPEN, subcode, data),
        why,
    })
}

fn seconds(time: Duration) -> u16 {
    u16::try_from(time.as_secs()).unwrap_or(u16::MAX)
}
