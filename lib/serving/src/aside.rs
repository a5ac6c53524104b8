//! What a process answers beside its work: probes and metrics, each on a port of its own or not at all.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::places::Places;
use crate::plain_http::{self, ListenError};
use crate::{CommonFlags, Readiness, health, metrics};

/// Connections to each of the two ports. A kubelet opens one for each probe, and who collects figures keeps one.
const CONNECTIONS_AT_MOST: usize = 64;

/// The servers at work. Dropping it ends them.
pub struct Aside(JoinSet<()>);

impl Aside {
    /// Serves probes and metrics where the flags say, until `shutdown`. `probes_at` is where probes are answered when no
    /// address is given.
    ///
    /// # Errors
    /// An address is taken or not ours.
    pub async fn start(
        flags: &CommonFlags,
        probes_at: IpAddr,
        readiness: Readiness,
        registry: Registry,
        shutdown: &CancellationToken,
    ) -> Result<Self, ListenError> {
        Self::start_with(
            flags,
            probes_at,
            readiness,
            registry,
            Router::new(),
            shutdown,
        )
        .await
    }

    /// The same, with answers of the process's own `beside` the metrics: who may read those may read these, and nobody else.
    ///
    /// # Errors
    /// An address is taken or not ours.
    pub async fn start_with(
        flags: &CommonFlags,
        probes_at: IpAddr,
        readiness: Readiness,
        mut registry: Registry,
        beside: Router,
        shutdown: &CancellationToken,
    ) -> Result<Self, ListenError> {
        let mut servers = JoinSet::new();
        if let Some(address) = flags.health_address(probes_at) {
            let listener = plain_http::listen(address, "probes").await?;
            let app = health::router(readiness);
            let places = Places::registered(&mut registry, "probes", CONNECTIONS_AT_MOST);
            servers.spawn(plain_http::serve(listener, app, places, shutdown.clone()));
        }
        if let Some(address) = flags.metrics_bind_address.0 {
            let listener = plain_http::listen(address, "metrics").await?;
            let places = Places::registered(&mut registry, "metrics", CONNECTIONS_AT_MOST);
            let app = metrics::router(Arc::new(registry)).merge(beside);
            servers.spawn(plain_http::serve(listener, app, places, shutdown.clone()));
        }
        Ok(Self(servers))
    }

    /// Waits, after `shutdown` was cancelled, until the last answer is given.
    pub async fn ended(mut self) {
        while self.0.join_next().await.is_some() {}
    }
}
