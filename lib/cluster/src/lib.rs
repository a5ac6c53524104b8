//! The one crate that talks to the Kubernetes API server.
//!
//! Watches become projected stores, stores become snapshots, and decisions made elsewhere become writes:
//!
//! ```text
//! API server --watch()--> project(&object) -> T --> Store<T> --ChangeFeed--> whoever decides
//!            <--Writer--- merge patch with the resourceVersion that was decided on
//!            <--Election- one Lease, so that one replica writes
//!            <--EventPublisher- what happened, for `kubectl describe`
//! ```
//!
//! Architecture invariants: nothing here knows what an object means (that is `ferrolb-rules`), and no other crate opens a connection
//! to the API server. Every request is bounded by a timeout, every retry by a backoff, every queue by a length.

pub mod backoff;
pub mod changes;
pub mod configuration;
pub mod connect;
pub mod events;
pub mod lease;
mod locks;
pub mod store;
mod text;
pub mod watch;
pub mod writes;

pub use backoff::{Backoff, KeyedBackoff};
pub use changes::{ChangeFeed, Changes};
pub use configuration::{ConfigurationFeed, ConfigurationStores, Status};
pub use connect::{ConnectError, connect, install_crypto_provider};
pub use events::{EventPublisher, EventType, Happening, Subject};
pub use ferrolb_api::ObjectKey;
pub use lease::{Election, Ended, Leadership, Timing};
pub use store::{Broken, Store, StoreWriter, Stored, store};
pub use watch::{WatchConfig, watch, watch_part};
pub use writes::{Outcome, Writer};

/// The connection that every part of a process shares; cloning is cheap.
pub use kube::Client;

/// The name of an object whose kind is namespaced or cluster-wide, as its key in a store.
pub fn key_of(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> ObjectKey {
    ObjectKey::new(
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    )
}
