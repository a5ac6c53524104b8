//! Which node announces which address, by which protocol and to whom?
//!
//! Every speaker evaluates the same rules on what it sees and finds out what it announces itself; nothing is negotiated
//! (reference 4.2). [`layer2`] and [`bgp`] decide for one Service, [`routes`] merges what several Services say of one prefix.
//!
//! Architecture Invariant: nothing here allocates an address. The Service's status is where allocation and announcement
//! meet.

mod bgp;
mod layer2;
mod routes;
mod view;
mod which_node_announces;

pub use bgp::{Route, bgp};
pub use layer2::{Interfaces, layer2};
pub use routes::{RouteAttributes, routes};
pub use view::{Endpoints, Node, Service, TrafficPolicy, View, Withdrawn};
pub use which_node_announces::order;
