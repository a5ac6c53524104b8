//! Which speakers are alive? SWIM with suspicion, by `foca`, so that a lost node is noticed within seconds and without
//! the API server.
//!
//! Every node probes one random member per period; who does not answer, neither directly nor through others, is
//! suspected, may refute, and is otherwise declared down, which spreads by gossip. Datagrams travel in an authenticated
//! and encrypted [`envelope`], whose module says what a recorded datagram can do (nothing) and why.
//!
//! Architecture invariant: nothing here opens a socket, reads a clock or draws entropy. Datagrams come in as bytes and
//! leave as [`Output::Send`], time comes in as `now`, and all that must be unpredictable derives from one seed.
//!
//! Memory is bounded: by [`MOST_KNOWN`] members, alive or remembered as down, with a handful of timers each, and by
//! as many senders whose newest epoch is remembered.

mod effects;
mod envelope;
mod hearing;
mod lives;
mod macs;
mod members;
mod node;
mod runtime;
mod timing;

#[cfg(test)]
mod simulation;

pub use effects::{DropReason, Fault, Output};
pub use envelope::{ACCEPT_FORMER, OVERHEAD};
pub use macs::MOST_MACS;
pub use members::{MOST_KNOWN, Membership};
pub use node::Node;
pub use timing::Timing;

/// A datagram that any link with IPv6 carries whole (RFC 8200 section 5: 1280 bytes, less IPv6 and UDP headers). Longer
/// ones are dropped unread.
pub const LONGEST_DATAGRAM: usize = 1280 - 40 - 8;
/// What an envelope has room for.
const LONGEST_CONTENT: usize = LONGEST_DATAGRAM - OVERHEAD;
