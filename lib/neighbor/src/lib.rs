//! ARP and NDP as values: which frames reach us, which of them are answered and with what, and when frames go out
//! unasked.
//!
//! Architecture invariant: nothing here opens a socket or reads a clock. Frames come in as bytes, time comes in as
//! `now`, and whether an address is announced is asked of the caller, who alone knows.

mod answer;
mod filter;
mod frame;
mod groups;
mod schedule;

pub use answer::{DropReason, Reply, Responder, Verdict};
pub use filter::{ARP_REQUESTS, NEIGHBOR_SOLICITATIONS, SockFilter};
pub use frame::Frame;
pub use groups::{multicast_mac, solicited_node_group};
pub use pnet::util::MacAddr;
pub use schedule::{BURST, GratuitousSchedule, ROUND};
