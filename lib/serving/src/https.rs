//! HTTPS for others: handshakes beside the accept loop, HTTP/1.1 only, drained at the end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::connections;
use crate::places::Places;

/// Serves until `shutdown`; then requests under way may finish within `drain`.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    tls: ServerConfig,
    places: Places,
    shutdown: CancellationToken,
    drain: Duration,
) {
    let tls = Arc::new(tls).into();
    connections::serve(listener, Some(tls), app, places, shutdown, drain).await;
}
