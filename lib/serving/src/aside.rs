//! What a process answers beside its work: probes and metrics, each on a port of its own or not at all.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::plain_http::{self, ListenError};
use crate::{CommonFlags, Readiness, health, metrics};

/// The servers at work. Dropping it ends them.
pub struct Aside(JoinSet<io::Result<()>>);

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
        let mut servers = JoinSet::new();
        if let Some(address) = flags.health_address(probes_at) {
            let listener = plain_http::listen(address, "probes").await?;
            let app = health::router(readiness);
            servers.spawn(plain_http::serve(listener, app, shutdown.clone()));
        }
        if let Some(address) = flags.metrics_bind_address.0 {
            let listener = plain_http::listen(address, "metrics").await?;
            let app = metrics::router(Arc::new(registry));
            servers.spawn(plain_http::serve(listener, app, shutdown.clone()));
        }
        Ok(Self(servers))
    }

    /// Waits, after `shutdown` was cancelled, until the last answer is given.
    ///
    /// # Errors
    /// A server had ended for another reason.
    pub async fn ended(mut self) -> io::Result<()> {
        while let Some(ended) = self.0.join_next().await {
            ended.map_err(io::Error::other)??;
        }
        Ok(())
    }
}
