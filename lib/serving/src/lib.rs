//! What every process of FerroLB needs around its work: flags, logs, traces, probes, metrics, TLS, an orderly end.
//!
//! Architecture invariants: nothing here knows Kubernetes or networking beyond a listening socket, and a process that
//! leaves tracing and metrics off pays nothing for them.

pub mod aside;
mod connections;
pub mod flags;
pub mod health;
pub mod https;
pub mod logging;
pub mod metrics;
pub mod places;
pub mod plain_http;
pub mod shutdown;
pub mod telemetry;
pub mod tls;

pub use aside::Aside;
pub use flags::{CommonFlags, LogLevel};
pub use health::Readiness;
pub use places::Places;
pub use telemetry::{Telemetry, set_parent_from_traceparent, traceparent_of};
