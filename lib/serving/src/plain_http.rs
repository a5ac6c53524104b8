//! Plain HTTP for probes and local figures.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::timeout::TimeoutLayer;

use crate::connections;
use crate::places::Places;

/// An answer may take this long.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// At the end the last ones may take this long; a process that is told to end has seconds for all that it does.
const DRAIN: Duration = Duration::from_secs(2);

/// The address is taken or not ours.
#[derive(Debug, thiserror::Error)]
#[error("listening on {address} for {purpose}")]
pub struct ListenError {
    address: SocketAddr,
    purpose: &'static str,
    #[source]
    source: io::Error,
}

/// Takes an address, so that a process that cannot serve fails at its start and says why.
///
/// `[::]` means every address of both families; on a host without IPv6 it becomes `0.0.0.0`.
pub async fn listen(
    address: SocketAddr,
    purpose: &'static str,
) -> Result<TcpListener, ListenError> {
    let bound = match TcpListener::bind(address).await {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && no_ipv6(&error) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    };
    bound.map_err(|source| ListenError {
        address,
        purpose,
        source,
    })
}

/// EAFNOSUPPORT when the kernel has no IPv6 at all, EADDRNOTAVAIL when it is switched off.
fn no_ipv6(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
    ) || error.raw_os_error() == Some(97)
}

/// Serves until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    places: Places,
    shutdown: CancellationToken,
) {
    let app = app.layer(TimeoutLayer::with_status_code(
        StatusCode::REQUEST_TIMEOUT,
        ANSWER_WITHIN,
    ));
    connections::serve(listener, None, app, places, shutdown, DRAIN).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Readiness, health, metrics};
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::registry::Registry;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream
            .write_all(
                format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes(),
            )
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn probes_name_what_is_missing_and_metrics_are_openmetrics_until_shutdown() {
        let readiness = Readiness::default();
        let certificate = Arc::new(AtomicBool::new(false));
        let seen = certificate.clone();
        readiness.require("stores", || true);
        readiness.require("certificate", move || seen.load(Ordering::Relaxed));
        let mut registry = Registry::default();
        let updates: Counter = Counter::default();
        registry.register(
            "metallb_k8s_client_updates",
            "Object updates processed",
            updates.clone(),
        );
        updates.inc();

        let listener = listen(([127, 0, 0, 1], 0).into(), "test").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let app = health::router(readiness).merge(metrics::router(Arc::new(registry)));
        let places = Places::registered(&mut Registry::default(), "test", 8);
        let server = tokio::spawn(serve(listener, app, places, shutdown.clone()));

        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        let unready = get(address, "/readyz").await;
        assert!(
            unready.starts_with("HTTP/1.1 503") && unready.ends_with("not ready: certificate\n"),
            "{unready}"
        );
        certificate.store(true, Ordering::Relaxed);
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        let figures = get(address, "/metrics").await;
        assert!(
            figures.contains("metallb_k8s_client_updates_total 1")
                && figures.contains("openmetrics-text"),
            "{figures}"
        );

        assert!(
            listen(address, "test")
                .await
                .unwrap_err()
                .to_string()
                .contains(&address.to_string())
        );
        shutdown.cancel();
        server.await.unwrap();
    }
}
