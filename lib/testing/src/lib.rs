//! What tests of several crates share: an API server in memory, objects to fill it with, a clock that stands still.
//!
//! Architecture invariant: no crate depends on this one outside its tests.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a test support that meets something unexpected ends the test"
)]

pub mod api_server;
pub mod clock;
pub mod objects;

pub use api_server::{ApiServer, Seen};
pub use clock::FixedClock;
