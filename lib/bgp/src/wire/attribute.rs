//! Path attributes: what an UPDATE says about its routes (RFC 4271 section 5), with errors handled as RFC 7606 says.

mod decode;
mod encode;

use crate::family::Family;
use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) use decode::decode;
pub(super) use encode::{push_attributes, push_mp_reach_header, push_mp_unreach_header};

/// Attribute type codes (IANA BGP path attributes).
pub(super) mod kind {
    pub(crate) const ORIGIN: u8 = 1;
    pub(crate) const AS_PATH: u8 = 2;
    pub(crate) const NEXT_HOP: u8 = 3;
    pub(crate) const MULTI_EXIT_DISC: u8 = 4;
    pub(crate) const LOCAL_PREF: u8 = 5;
    pub(crate) const ATOMIC_AGGREGATE: u8 = 6;
    pub(crate) const AGGREGATOR: u8 = 7;
    pub(crate) const COMMUNITIES: u8 = 8;
    pub(crate) const ORIGINATOR_ID: u8 = 9;
    pub(crate) const CLUSTER_LIST: u8 = 10;
    pub(crate) const MP_REACH_NLRI: u8 = 14;
    pub(crate) const MP_UNREACH_NLRI: u8 = 15;
    pub(crate) const EXTENDED_COMMUNITIES: u8 = 16;
    pub(crate) const AS4_PATH: u8 = 17;
    pub(crate) const AS4_AGGREGATOR: u8 = 18;
    pub(crate) const LARGE_COMMUNITIES: u8 = 32;
}

/// Attribute flags (RFC 4271 section 4.3).
pub(super) mod flag {
    pub(crate) const OPTIONAL: u8 = 0x80;
    pub(crate) const TRANSITIVE: u8 = 0x40;
    pub(crate) const EXTENDED_LENGTH: u8 = 0x10;
}

/// How a route came into BGP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Origin {
    /// From inside the AS.
    Igp = 0,
    /// From EGP.
    Egp = 1,
    /// By other means.
    Incomplete = 2,
}

/// One segment of an AS path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AsSegment {
    /// Unordered.
    Set(Vec<u32>),
    /// The ASes passed, nearest first.
    Sequence(Vec<u32>),
    /// RFC 5065.
    ConfederationSequence(Vec<u32>),
    /// RFC 5065.
    ConfederationSet(Vec<u32>),
}

impl AsSegment {
    /// Such segments have no place in AS4_PATH (RFC 6793 section 4.2.2).
    pub(super) fn is_of_confederation(&self) -> bool {
        matches!(
            self,
            AsSegment::ConfederationSequence(_) | AsSegment::ConfederationSet(_)
        )
    }
}

/// The ASes that a route passed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AsPath(pub Vec<AsSegment>);

impl AsPath {
    /// A path of one AS, as a route has that leaves its own AS.
    pub fn of(asn: u32) -> AsPath {
        AsPath(vec![AsSegment::Sequence(vec![asn])])
    }
}

/// The speaker that formed an aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aggregator {
    /// Its AS.
    pub asn: u32,
    /// Its BGP identifier.
    pub router_id: Ipv4Addr,
}

/// A community (RFC 1997), written `65000:100`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u32);

impl Community {
    /// The path is about to go away: prefer every other one (RFC 8326).
    pub const GRACEFUL_SHUTDOWN: Community = Community(0xffff_0000);

    /// From its two halves.
    pub fn new(high: u16, low: u16) -> Community {
        Community(u32::from(high) << 16 | u32::from(low))
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff)
    }
}

/// An extended community (RFC 4360): type, subtype and six octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtendedCommunity(pub [u8; 8]);

impl ExtendedCommunity {
    /// Non-transitive, of an AS of two octets.
    const OF_TWO_OCTET_AS: u8 = 0x40;
    const LINK_BANDWIDTH: u8 = 0x04;

    /// How much a link carries, in octets a second, for peers that share traffic accordingly
    /// (draft-ietf-idr-link-bandwidth). An AS that needs four octets appears as AS_TRANS.
    pub fn link_bandwidth(asn: u32, octets_per_second: f32) -> ExtendedCommunity {
        let asn = u16::try_from(asn).unwrap_or(super::AS_TRANS).to_be_bytes();
        let [a, b, c, d] = octets_per_second.to_be_bytes();
        let (kind, subtype) = (Self::OF_TWO_OCTET_AS, Self::LINK_BANDWIDTH);
        ExtendedCommunity([kind, subtype, asn[0], asn[1], a, b, c, d])
    }
}

/// A large community (RFC 8092), written `65000:1:2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity {
    /// Usually the AS that defines the other two.
    pub global: u32,
    /// First local part.
    pub local1: u32,
    /// Second local part.
    pub local2: u32,
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.global, self.local1, self.local2)
    }
}

/// An attribute that we do not interpret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawAttribute {
    /// As received, without the extended length flag, which follows from the length.
    pub flags: u8,
    /// Attribute type.
    pub kind: u8,
    /// Its content.
    pub value: Vec<u8>,
}

/// The attributes of an UPDATE but for those that carry prefixes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PathAttributes {
    /// ORIGIN.
    pub origin: Option<Origin>,
    /// AS_PATH, with AS4_PATH merged in where the peer has two-octet AS numbers (RFC 6793 section 4.2.3).
    pub as_path: Option<AsPath>,
    /// NEXT_HOP, of the IPv4 routes in the body.
    pub next_hop: Option<Ipv4Addr>,
    /// MULTI_EXIT_DISC.
    pub multi_exit_disc: Option<u32>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE.
    pub atomic_aggregate: bool,
    /// AGGREGATOR, with AS4_AGGREGATOR in its place where the peer has two-octet AS numbers (RFC 6793 section 4.2.3).
    pub aggregator: Option<Aggregator>,
    /// COMMUNITIES (RFC 1997).
    pub communities: Vec<Community>,
    /// EXTENDED_COMMUNITIES (RFC 4360).
    pub extended_communities: Vec<ExtendedCommunity>,
    /// LARGE_COMMUNITIES (RFC 8092).
    pub large_communities: Vec<LargeCommunity>,
    /// All others.
    pub other: Vec<RawAttribute>,
}

/// Routes of any family (RFC 4760 section 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MpReach {
    /// Family of the routes.
    pub family: Family,
    /// Where to send traffic; for IPv4 routes possibly IPv6 (RFC 8950).
    pub next_hop: IpAddr,
    /// The same router's address on the link (RFC 2545 section 3).
    pub link_local: Option<Ipv6Addr>,
    /// The routes.
    pub prefixes: Vec<IpNet>,
}

/// Withdrawals of any family (RFC 4760 section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MpUnreach {
    /// Family of the routes.
    pub family: Family,
    /// The routes; none at all is the End-of-RIB marker (RFC 4724 section 2).
    pub prefixes: Vec<IpNet>,
}

/// An attribute is wrong, in a way that makes its UPDATE a withdrawal and lets the session live (RFC 7606 section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed attribute of type {kind}: {what}")]
pub struct AttributeFault {
    /// Attribute type; 0 if it is the list that is wrong.
    pub kind: u8,
    /// What is wrong.
    pub what: &'static str,
}
