//! What a router is told to be: its AS, its neighbors and what it takes from them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Result;

use super::place::Place;
use crate::plan::{Machine, NODES};

/// What a router does. Its router id and its own end of each session are addresses of its [`Place`].
#[derive(Clone, Debug)]
pub struct Setup {
    /// The router's AS.
    pub asn: u32,
    pub neighbors: Vec<Neighbor>,
    /// How many prefixes of IPv4 it announces to every neighbor, all below 11.0.0.0/8; for some tests more than a router has.
    pub originates: u32,
}

/// A BGP neighbor of the router: one address of a node.
#[derive(Clone, Debug)]
pub struct Neighbor {
    pub address: IpAddr,
    /// The AS that the neighbor must present.
    pub asn: u32,
    /// TCP-MD5 key (RFC 2385).
    pub password: Option<String>,
    /// How many hops away the neighbor may be, where it is in another AS: 1 is on the same link.
    pub hops: u8,
    /// Only packets from the same link are taken, and sent so that the neighbor can tell (RFC 5082).
    pub ttl_security: bool,
    /// The router opens no connection itself.
    pub passive: bool,
    /// Which families the session carries.
    pub families: BTreeSet<Family>,
    /// IPv4 routes with an IPv6 next hop are taken (RFC 8950).
    pub extended_next_hop: bool,
    /// The router says nothing of four-octet AS numbers, as if it knew none (RFC 6793); only ExaBGP can be told.
    pub two_octet_as: bool,
    /// Several paths for a prefix are taken from this one neighbor (RFC 7911).
    pub add_path: bool,
    /// A neighbor that announces more prefixes of a family than this loses its session.
    pub most_prefixes: Option<u32>,
    /// Hold time that is proposed, and the time between KEEPALIVEs, in seconds.
    pub timers: Option<(u16, u16)>,
}

/// An address family, unicast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

impl Family {
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }

    /// As in names of objects.
    pub fn word(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        }
    }

    /// As FRR, BIRD, GoBGP and ExaBGP write it.
    pub fn ip(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    /// The address of a machine in this family.
    pub fn address(self, machine: &Machine) -> Result<IpAddr> {
        let text = match self {
            Self::V4 => machine.v4,
            Self::V6 => machine.v6,
        };
        Ok(text.parse()?)
    }
}

impl Setup {
    /// Sessions with every node over both families, each of which carries the family of its addresses.
    pub fn with_all_nodes(asn: u32, nodes_asn: u32) -> Result<Self> {
        let mut neighbors = Vec::new();
        for family in BOTH {
            for node in &NODES {
                neighbors.push(Neighbor::new(family.address(node)?, nodes_asn));
            }
        }
        Ok(Self {
            asn,
            neighbors,
            originates: 0,
        })
    }

    /// The same with a change of every neighbor.
    #[must_use]
    pub fn each(mut self, change: impl Fn(&mut Neighbor)) -> Self {
        self.neighbors.iter_mut().for_each(change);
        self
    }
}

impl Neighbor {
    pub fn new(address: IpAddr, asn: u32) -> Self {
        Self {
            address,
            asn,
            password: None,
            hops: 1,
            ttl_security: false,
            passive: false,
            families: BTreeSet::from([Family::of(address)]),
            extended_next_hop: false,
            two_octet_as: false,
            add_path: false,
            most_prefixes: None,
            timers: None,
        }
    }

    /// The router's own end of the session.
    pub fn local(&self, place: &Place) -> IpAddr {
        match Family::of(self.address) {
            Family::V4 => place.v4.into(),
            Family::V6 => place.v6.into(),
        }
    }

    /// Of [`Self::hops`], what must be written down: nothing inside an AS and on the same link.
    pub fn multihop(&self, asn: u32) -> Option<u8> {
        (self.asn != asn && self.hops > 1).then_some(self.hops)
    }
}
