//! What allocation reads of a Service (reference 3.1).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ferrolb_api::ObjectKey;
use ferrolb_rules::{Family, Labels, Requested};

/// What is read of each namespace, by name.
pub type Namespaces = BTreeMap<String, Namespace>;

/// What is read of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Namespace {
    /// Its labels, for the namespace selectors of pools.
    pub labels: BTreeMap<String, String>,
    /// How many addresses its Services may have (`ferrolb.io/max-addresses`).
    pub limit: Limit,
}

/// A limit on the distinct addresses that the Services of a namespace hold.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Limit {
    /// None.
    #[default]
    None,
    /// So many.
    At(u32),
    /// The annotation cannot be understood; the sentence says why. Nothing more is given until it can.
    Invalid(String),
}

/// A Service of type LoadBalancer that is ours to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Seconds since the epoch; older Services are served first.
    pub created: i64,
    /// Labels, for the service selectors of pools.
    pub labels: Labels,
    /// The families of its cluster addresses.
    pub families: Families,
    /// `spec.ipFamilyPolicy`; absent is SingleStack.
    pub policy: Policy,
    /// `spec.ipFamilies[0]`; IPv4 where absent.
    pub primary: Family,
    /// The addresses that it asks for.
    pub requested: Requested,
    /// The pool that it asks for by annotation.
    pub requested_pool: Option<String>,
    /// The value of allow-shared-ip; empty means that it shares with nobody.
    pub sharing_key: String,
    /// The selector where the traffic policy is Local, else empty: two Services share only with equal ones.
    pub backend_key: String,
    /// Its ports, which may not collide on a shared address.
    pub ports: BTreeSet<Port>,
    /// The addresses in its status.
    pub current: Vec<IpAddr>,
    /// What its condition says that it lacks, where it has one.
    pub told: Option<Box<str>>,
    /// The pool named by the annotation that FerroLB writes beside the status.
    pub recorded_pool: Option<String>,
}

/// The families of a Service's cluster addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// No cluster address yet.
    None,
    /// One address, or several of one family.
    Single(Family),
    /// One of each.
    Dual,
    /// Cluster addresses that are no addresses, or more than two.
    Unknown,
}

/// `spec.ipFamilyPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// One family.
    SingleStack,
    /// Both where the pool has both.
    PreferDualStack,
    /// Both or nothing.
    RequireDualStack,
}

/// A port as it may collide on a shared address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port number.
    pub number: u16,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        };
        write!(f, "{protocol}/{}", self.number)
    }
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, also where none is named.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Families {
    /// The families of `addresses`: cluster addresses, or addresses that are asked for.
    #[must_use]
    pub fn of(addresses: &[IpAddr]) -> Self {
        match addresses {
            [] => Families::None,
            [one] => Families::Single(Family::of(*one)),
            [first, second] if Family::of(*first) != Family::of(*second) => Families::Dual,
            _ => Families::Unknown,
        }
    }
}

impl fmt::Display for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Families::None => f.write_str("no"),
            Families::Single(family) => family.fmt(f),
            Families::Dual => f.write_str("dual stack"),
            Families::Unknown => f.write_str("unknown"),
        }
    }
}
