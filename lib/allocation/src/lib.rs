//! Which Service gets which address, and why not?
//!
//! [`Allocator`] holds the pools and who holds which address. It is told of Services one at a time and answers with an
//! [`Outcome`]: the addresses that the Service shall have, and what to say about it. It never writes; the operator
//! carries outcomes out, and a Service's own status is the only memory that survives a restart (reference 3.4).
//!
//! Architecture Invariant: nothing here knows who announces an address. No clock, no API, no randomness: the same
//! history gives the same addresses.

mod allocator;
mod free;
mod outcome;
mod pool_addresses;
mod service;
mod sharing;

pub use allocator::{Allocator, Namespaces, PoolCounters};
pub use free::FreeSet;
pub use outcome::{Event, EventKind, Outcome};
pub use service::{Families, Policy, Port, Protocol, Requested, Service};
