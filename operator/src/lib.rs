//! Decides which Service gets which address and writes it down.
//!
//! ```text
//! Services, pools, namespaces --Store--> decide (pure) --Effect--> carry_out --> Service status, events
//!                                          ^                          |
//!                                          +------ what became of it -+
//! ```
//!
//! Two replicas run; one leads. The follower keeps its stores warm and writes nothing.
//!
//! Architecture Invariant: nothing here knows who announces an address, and no decision is made before every store is
//! complete.

pub mod carry_out;
pub mod certificates;
pub mod conditions;
pub mod configuration;
pub mod decide;
pub mod effects;
pub mod flags;
pub mod holds;
pub mod inputs;
pub mod interfaces;
pub mod membership_secret;
pub mod metrics;
pub mod project;
pub mod run;
pub mod sessions;
pub mod unreadable;
