//! Which node announces which address, by which protocol and to whom?
//!
//! Every speaker evaluates the same rules on what it sees and finds out what it announces itself; nothing is negotiated
//! (reference 4.2). [`Layer2Round`] and [`bgp`] decide for one Service. What several Services say of one address or prefix is
//! counted in a [`Tally`]; [`route`] makes of it what a peer gets.
//!
//! Architecture Invariant: nothing here allocates an address. The Service's status is where allocation and announcement
//! meet.

mod bgp;
mod layer2;
mod ranks;
mod routes;
mod tally;
mod view;
mod which_node_announces;

pub use bgp::{Route, Terms, bgp};
pub use layer2::{Interfaces, Layer2Announcement, Layer2Decision, Layer2Round};
pub use ranks::Ranks;
pub use routes::{RouteAttributes, route};
pub use tally::Tally;
pub use view::{Endpoints, Node, Service, TrafficPolicy, View, Withdrawn};
pub use which_node_announces::order;
