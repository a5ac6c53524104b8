//! What was decided about a Service.

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
    /// Why it has no address, for a log line; `None` where it has one or needs none.
    pub unserved: Option<String>,
}

/// An event on the Service, with MetalLB's reasons (reference 3.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// A sentence for the reader of `kubectl describe`.
    pub message: String,
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

    /// Whether it tells of a state that lasts until somebody changes something, rather than of a step taken.
    #[must_use]
    pub fn is_lasting(self) -> bool {
        !matches!(self, EventKind::IPAllocated | EventKind::ClearAssignment)
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
