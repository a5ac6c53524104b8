//! Version `v1beta2`: `BGPPeer` in the form that is stored and that everything else reads.

mod bgp_peer;

pub use bgp_peer::{BGPPeer, BGPPeerSpec, BGPPeerStatus, DynamicASN, NodeSession};
