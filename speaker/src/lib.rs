//! The speaker: announces the addresses of Services to the network from one node.

pub mod bgp;
