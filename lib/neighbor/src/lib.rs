//! ARP and NDP as values: which frames reach us, which of them are answered and with what, and when frames go out
//! unasked.
//!
//! Architecture invariant: nothing here opens a socket or reads a clock. Frames come in as bytes, time comes in as
//! `now`, and whether an address is announced is asked of the caller, who alone knows.

mod answer;
mod arp_packets;
mod drop_reason;
mod filter;
mod frame;
mod groups;
mod moment;
mod ndp_packets;
mod ownership;
mod router_packets;
mod schedule;

pub use answer::{Claim, Reply, Responder, Verdict};
pub use drop_reason::DropReason;
pub use filter::{SockFilter, arp_filter, neighbor_discovery_filter};
pub use frame::Frame;
pub use groups::{multicast_mac, solicited_node_group};
pub use ownership::{
    Before, CONFIRM, Claimant, DEFEND_INTERVAL, Effect, HAND_OVER, OnConflict, Ownership, Standing,
    Terms,
};
pub use pnet::util::MacAddr;
pub use router_packets::{
    ALL_NODES, ALL_ROUTERS, ROUTER_HOP_LIMIT, RouterMessage, router_advertisement,
    router_discovery_filter, router_message, router_solicitation,
};
pub use schedule::{BURST, REFRESHES_PER_SECOND, ROUND};
