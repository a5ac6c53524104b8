//! Which Service gets which address, and why not?
//!
//! [`Allocator`] holds the pools and who has which address. It is told of Services one at a time and answers with an
//! [`Outcome`]: the addresses that the Service shall have, and what to say about it. It never writes; the operator
//! carries outcomes out, and a Service's own status is the only memory that survives a restart (reference 3.4).
//!
//! An address is taken for as long as a Service shall have it, its status records it, or a write that was sent may yet
//! record it: between two decisions there may be a write that is late, and nobody else may have the address till then.
//!
//! Architecture Invariant: nothing here knows who announces an address. No clock, no API, no randomness: the same
//! history gives the same addresses. A change costs the logarithm of the number of Services, and the number of those that
//! share one key with the Service or ask for the very address that changes hands.

mod allocator;
mod decide;
mod eligibility;
mod free;
mod holds;
mod ledger;
mod outcome;
mod picking;
mod pool_addresses;
mod reasons;
mod service;
mod sharing;
mod space;
mod state;
mod waiting;

pub use allocator::{Allocator, PoolCounters};
pub use ferrolb_rules::Requested;
pub use free::FreeSet;
pub use holds::Hold;
pub use outcome::{Event, EventKind, Outcome, Reason, Verdict};
pub use service::{Families, Limit, Namespace, Namespaces, Policy, Port, Protocol, Service};
