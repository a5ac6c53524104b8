//! What was decided about a Service.

use std::fmt;
use std::net::IpAddr;

/// What a Service shall have, and what to say about it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Outcome {
    /// The addresses for its status, empty for none: IPv4 before IPv6, or the order that the status had.
    pub addresses: Vec<IpAddr>,
    /// The pool that they are from.
    pub pool: Option<String>,
    /// What to tell the owner of the Service, in order.
    pub events: Vec<Event>,
    /// Why it does not have all that it asks for; `None` where it has, or asks for nothing.
    pub verdict: Option<Verdict>,
    /// It lost an address that the status of an older Service names too; the sentence says which and whose.
    pub conflict: Option<String>,
}

/// Why a Service does not have all that it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The kind of obstacle.
    pub reason: Reason,
    /// A sentence that names the blocking object and says what to do. The same for as long as nothing changes.
    pub message: String,
}

/// What stands between a Service and its addresses, as the reason of its condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// There is no pool at all.
    NoPools,
    /// It has no cluster address, so that its family is not known.
    NoClusterIP,
    /// The family of its cluster addresses cannot be told.
    UnknownFamily,
    /// It requires both families and has one cluster address.
    DualStackImpossible,
    /// What it requests cannot be understood.
    InvalidRequest,
    /// What it requests is of another family than it is.
    FamilyMismatch,
    /// The requested addresses lie in no pool, or not in one.
    AddressNotInPools,
    /// The requested address is left out of its pool.
    AddressExcluded,
    /// Another Service has the address.
    AddressInUse,
    /// The address was freed a short time ago and is kept for its former owner.
    AddressOnHold,
    /// There is no pool of the requested name.
    UnknownPool,
    /// No pool serves this Service.
    NoPoolMatches,
    /// The pools that serve it have no address left.
    PoolExhausted,
    /// Its namespace has as many addresses as it may.
    LimitReached,
    /// It may not share the address: another key, another selector or a port that is taken.
    SharingConflict,
    /// It has one address and prefers one of each family.
    SecondFamilyUnavailable,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An event on the Service, with MetalLB's reasons (reference 3.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// A sentence for the reader of `kubectl describe`.
    pub message: String,
}

impl Event {
    /// Whether it says of a step what `told` said. Addresses are lost once, however the reason for it is worded while the
    /// pools change and the status is not cleared yet.
    pub(crate) fn repeats(&self, told: &Self) -> bool {
        self == told
            || self.kind == EventKind::ClearAssignment && told.kind == EventKind::ClearAssignment
    }
}

/// The reason of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// Addresses were given.
    IPAllocated,
    /// The present addresses may not stay.
    ClearAssignment,
    /// The second family is not to be had.
    AdditionalAssignFailed,
    /// No address could be given.
    AllocationFailed,
    /// What is asked for cannot be understood.
    LoadBalancerFailed,
    /// RequireDualStack without two cluster addresses.
    NotEnoughClusterIPs,
    /// The family of the cluster addresses cannot be told.
    NoClusterIPsFamily,
    /// The family of the addresses in the status cannot be told.
    NoLbIPsFamily,
    /// An annotation with the prefix that MetalLB gave up is used.
    DeprecatedAnnotation,
}

impl EventKind {
    /// The reason as MetalLB writes it (reference 3.8).
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            EventKind::IPAllocated => "IPAllocated",
            EventKind::ClearAssignment => "ClearAssignment",
            EventKind::AdditionalAssignFailed => "AdditionalAssignFailed",
            EventKind::AllocationFailed => "AllocationFailed",
            EventKind::LoadBalancerFailed => "LoadBalancerFailed",
            EventKind::NotEnoughClusterIPs => "not enough clusterips",
            EventKind::NoClusterIPsFamily => "noclusterIPsIPFamily",
            EventKind::NoLbIPsFamily => "nolbIPsIPFamily",
            EventKind::DeprecatedAnnotation => "deprecatedAnnotation",
        }
    }

    /// Whether Kubernetes shows it as a Warning.
    #[must_use]
    pub fn is_warning(self) -> bool {
        !matches!(
            self,
            EventKind::IPAllocated | EventKind::ClearAssignment | EventKind::AdditionalAssignFailed
        )
    }
}
