//! Services and pools as the scenarios of allocation make them, and what is asked of them afterwards.

mod pool;
mod service;

use std::time::Duration;

pub use pool::{NewPool, POOLS, Pool, create_pools, labelled, serving};
pub use service::{ALLOCATED, NewService, Service, Told, others_are_served};

/// How long anything may take that follows from a change. Most is done in some ten milliseconds.
pub const LIMIT: Duration = Duration::from_secs(15);

/// Marks the Services that a pool with [`NewPool::for_case`] serves.
pub const CASE: &str = "lab.ferrolb.io/case";
