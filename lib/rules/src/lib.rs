//! API objects in, one checked [`Configuration`] and the [`Refusal`]s out.
//!
//! This is the only door from what people write to what FerroLB decides. Webhook, operator and speaker all go through
//! it, so that an object which one of them accepts is never misread by another.
//!
//! [`LastGood::read`] brings all objects into force; [`Known`] says of one object, before it is stored, what that will say.
//!
//! Architecture Invariant: no rule knows who calls it, and no rule stands twice. [`Known`] asks the same functions.

mod addresses;
mod advertisements;
mod all_objects;
mod communities;
mod configuration;
mod contested;
mod fields;
mod forms;
mod interfaces;
mod kept_back;
mod known;
mod labels;
mod last_good;
pub mod names;
mod nodes;
mod overlaps;
mod peers;
mod pools;
mod reading;
mod recall;
mod references;
mod refusal;
mod requests;
mod routers;
mod selector;
mod services;
mod spelling;
mod taken;
mod timers;
mod verdict;
mod warnings;

pub use addresses::{AddressRange, AddressRangeError, Family};
pub use advertisements::{
    BgpAdvertisement, L2Advertisement, OnConflict, PoolSelection, REFRESH_BY_DEFAULT,
};
pub use all_objects::AllObjects;
pub use communities::{Alias, Community, CommunityError};
pub use configuration::{Configuration, Objects};
pub use interfaces::{InterfaceNames, InterfacePattern};
pub use kept_back::parse_max_addresses;
pub use known::Known;
pub use labels::{Labelled, Labels};
pub use last_good::LastGood;
pub use nodes::Node;
pub use overlaps::{InForce, Overlap, Overlaps, overlaps};
pub use peers::{Password, Peer, PeerAsn, PeerTarget};
pub use pools::{Pool, ServiceAllocation};
pub use references::{BASIC_AUTH, Names, References, Unresolved, password_of, unresolved_secret};
pub use refusal::Refusal;
pub use requests::{Request, Requested};
pub use selector::{Selector, any_matches};
pub use spelling::closest;
pub use verdict::{Verdict, WARNING_AT_MOST, Warning};
