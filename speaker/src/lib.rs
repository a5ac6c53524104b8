//! Announces the addresses of Services from one node.
//!
//! ```text
//! Services, slices, nodes, configuration --Store--> decide (pure) --what changed-> layer2  ARP, NDP
//! members --------------------------------------------^                \---------> bgp     UPDATE
//! ```
//!
//! Each protocol is handed the addresses or prefixes of which something changed.
//!
//! Architecture Invariant: every speaker decides for itself on what it sees; nothing is negotiated and nothing that the
//! API server could lose is needed to go on announcing.

pub mod bgp;
pub mod bgp_over_http;
pub mod decide;
pub mod flags;
pub mod gate;
pub mod inputs;
pub mod layer2;
pub mod members;
pub mod metrics;
pub mod parts;
pub mod peers;
pub mod project;
pub mod promptness;
pub mod reports;
pub mod run;
pub mod status;
mod to_whom;
pub mod traces;
