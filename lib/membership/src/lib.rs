//! Which speakers are alive? SWIM with suspicion, by `foca`, so that a lost node is noticed within seconds and without
//! the API server.
//!
//! Every node probes one random member per period; who does not answer, neither directly nor through others, is
//! suspected, may refute, and is otherwise declared down, which spreads by gossip. Datagrams travel in an authenticated
//! and encrypted [`Envelope`](envelope::Envelope).
//!
//! Architecture invariant: nothing here opens a socket, reads a clock or draws entropy. Datagrams come in as bytes and
//! leave as [`Output::Send`], time comes in as `now`, and all that must be unpredictable derives from one seed.
//!
//! Memory is bounded: by [`MOST_KNOWN`] members, alive or remembered as down, with a handful of timers each, and by
//! a fixed number of cached keys.

mod envelope;
mod members;
mod node;

pub use envelope::OVERHEAD;
pub use members::{DropReason, Fault, MOST_KNOWN, Membership, Output, Timing};
pub use node::Node;
