//! Refuses objects that cannot work, with a message that names the object, the field, the reason and the remedy.
//!
//! Answers come from stores that the watches keep up to date; no request to the API server lies in the path of an
//! answer. Nothing depends on this process: the same rules hold at runtime, where an object that breaks one is set aside
//! with a condition.
//!
//! Architecture invariant: no rule stands here. What is wrong with an object is said by `ferrolb-rules`; this crate knows
//! the AdmissionReview around it.

pub mod certificate;
pub mod convert;
pub mod envelope;
pub mod flags;
pub mod judge;
pub mod kind;
pub mod lint;
pub mod mutate;
pub mod review;
pub mod run;
pub mod server;
pub mod snapshot;
mod strict;

pub use flags::{Command, Flags};
pub use run::run;
