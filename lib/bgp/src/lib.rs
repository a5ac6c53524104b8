//! BGP without input or output: messages, the session state machine, the routes to advertise.
//!
//! Three parts, each usable by itself:
//! - [`wire`] turns bytes into messages and back;
//! - [`session`] is the state machine of RFC 4271 section 8: inputs and the time go in, things to do come out;
//! - [`rib`] is the adj-RIB-out: desired routes go in, the fewest packed UPDATE messages come out.
//!
//! Architecture invariant: nothing in here knows a socket, a clock, a task or Kubernetes. Whoever performs the input and
//! output passes bytes and instants in. Routes that a peer sends are checked for form and forgotten: there is no adj-RIB-in.

pub mod family;
pub mod rib;
pub mod session;
pub mod wire;

pub use family::{Families, Family};
pub use rib::{AdjRibOut, Attributes, Batch, Export, NotAdvertised, Told};
pub use session::{
    Config, ConnId, EndReason, Endpoint, Input, KeepsRoutes, MessageCounts, Negotiated, Output,
    PeerAs, Session, State,
};
