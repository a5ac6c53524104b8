//! The objects that people write, and the ones that FerroLB writes for them to read.
//!
//! The group is `metallb.io` and every kind, version, field name, default and constraint is MetalLB's (reference section 1),
//! so a cluster changes its load balancer without changing an object. What FerroLB adds is `status.conditions` on each kind
//! that a person writes.
//!
//! Architecture invariant: this crate knows no behaviour but defaults and the syntax of single fields. What several objects
//! mean together is decided in `ferrolb-rules` and nowhere else.
//!
//! How fields are typed: a field that a person may leave out and that has no default in the schema is an `Option`; a field
//! with a default holds its value; a list that may be left out is a `Vec`. Text that MetalLB checks only in its webhook
//! stays a `String`, because an object that was stored before must remain readable.

#![allow(
    clippy::duplicated_attributes,
    reason = "the lint takes the types of two printer columns for one attribute"
)]

mod absent;
pub mod annotations;
mod cel;
pub mod conditions;
pub mod conversion;
pub mod duration;
mod field;
mod fitting;
mod in_force;
pub mod labels;
mod object_key;
mod schema;
mod uid;
pub mod usable_interfaces;
pub mod v1beta1;
pub mod v1beta2;

pub use duration::GoDuration;
pub use field::given;
pub use fitting::{node_label, speaker_state};
pub use in_force::{InForce, StaysInForce, fingerprint, form_of, in_form, keep_what_is_in_force};
pub use object_key::ObjectKey;
pub use uid::Uid;

/// The API group of every kind here.
pub const GROUP: &str = "metallb.io";

/// The namespace that FerroLB installs into unless told otherwise; only objects of our own namespace count (reference
/// section 1), and a MetalLB cluster has its objects there.
pub const DEFAULT_NAMESPACE: &str = "metallb-system";
