//! API objects in, one checked [`Configuration`] and the [`Refusal`]s out.
//!
//! This is the only door from what people write to what FerroLB decides. Webhook, operator and speaker all go through
//! it, so that an object which one of them accepts is never misread by another.
//!
//! Architecture Invariant: no rule knows who calls it. There is no "webhook mode"; a caller that may not judge a rule
//! (because the object it needs may arrive later) asks for the narrower check of the kind's own module.

mod addresses;
pub mod advertisements;
mod communities;
mod configuration;
mod fields;
mod kept_back;
mod labels;
mod last_good;
mod overlaps;
pub mod peers;
pub mod pools;
mod refusal;
mod selector;

pub use addresses::{AddressRange, AddressRangeError, Family};
pub use advertisements::{BgpAdvertisement, L2Advertisement, PoolSelection};
pub use communities::{Community, CommunityError};
pub use configuration::{Configuration, Objects, check_bfd_profile, check_community};
pub use kept_back::{parse_max_addresses, pool_annotations};
pub use labels::{Labelled, Labels};
pub use last_good::LastGood;
pub use overlaps::{InForce, Overlap, Overlaps, overlaps};
pub use peers::{Password, Peer, PeerAsn, PeerTarget};
pub use pools::{Pool, ServiceAllocation};
pub use refusal::Refusal;
pub use selector::{Selector, any_matches};
