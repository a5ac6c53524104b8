//! The speaker's parts: what it says on the wire, one module per protocol.

pub mod layer2;
pub mod members;
