//! HTTPS for others: handshakes beside the accept loop, HTTP/1.1 only, drained at the end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A peer that opens a connection has this long for its handshake.
const PATIENCE: Duration = Duration::from_secs(10);
/// The head of a request has this long, counted from the end of the request before: it is also how long a connection may idle.
/// API servers, as all clients that use Go's defaults, close what idled for 90 s. They have to be the first, because a
/// request that meets a connection that we just closed is lost.
const IDLE: Duration = Duration::from_secs(100);

/// Serves until `shutdown`; then requests under way may finish within `drain`.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    tls: ServerConfig,
    shutdown: CancellationToken,
    drain: Duration,
) -> io::Result<()> {
    let handle = Handle::<SocketAddr>::new();
    let draining = handle.clone();
    let watch = tokio::spawn(async move {
        shutdown.cancelled().await;
        draining.graceful_shutdown(Some(drain));
    });
    let acceptor =
        RustlsAcceptor::new(RustlsConfig::from_config(Arc::new(tls))).handshake_timeout(PATIENCE);
    let mut server = axum_server::Server::from_listener(listener)
        .acceptor(acceptor)
        .http1_only()
        .handle(handle);
    server
        .http_builder()
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE);
    let served = server.serve(app.into_make_service()).await;
    watch.abort();
    served
}
