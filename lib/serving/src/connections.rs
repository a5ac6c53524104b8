//! Takes connections and answers what comes over them: HTTP/1.1, with or without TLS, bounded in number, time and memory.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::places::{Place, Places};

/// A peer that opens a connection has this long for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The head of a request has this long, counted from the end of the handshake or of the request before: it is also how long a
/// connection may idle. API servers, as all clients that use Go's defaults, close what idled for 90 s. They have to be the
/// first, because a request that meets a connection that we just closed is lost. They also open connections of which they make
/// use later, so that the first request has no less time than the others.
const IDLE: Duration = Duration::from_secs(100);
/// What is read of a connection before it is made use of, in bytes: the head of a request, or a part of its body. Heads of API
/// servers are smaller than two KiB.
const READ_AHEAD: usize = 16 * 1024;
/// Nothing tells when a process may open files again.
const WITHOUT_FILES: Duration = Duration::from_millis(50);

/// What all connections of a port have in common.
#[derive(Clone)]
struct Port {
    app: Router,
    tls: Option<TlsAcceptor>,
    http: http1::Builder,
    /// No request is taken after the one that is under way.
    ending: CancellationToken,
    /// Everything is closed.
    over: CancellationToken,
}

/// Serves until `ending`; then requests under way may finish within `drain`. Dropping it closes every connection.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    app: Router,
    places: Places,
    ending: CancellationToken,
    drain: Duration,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(READ_AHEAD);
    let over = CancellationToken::new();
    let _over = over.clone().drop_guard();
    let port = Port {
        app,
        tls,
        http,
        ending: ending.clone(),
        over,
    };
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = ending.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let place = places.take(peer.ip());
                connections.spawn(port.clone().keep(stream, place));
            }
            Err(_) => sleep(WITHOUT_FILES).await,
        }
    }
    drop(listener);
    connections.close();
    let _ = timeout(drain, connections.wait()).await;
}

impl Port {
    /// Keeps a connection for as long as it has its place.
    async fn keep(self, stream: TcpStream, place: Place) {
        tokio::select! {
            () = place.lost() => (),
            () = self.over.cancelled() => (),
            () = self.answer(stream, &place) => (),
        }
    }

    async fn answer(&self, stream: TcpStream, place: &Place) {
        let Some(tls) = &self.tls else {
            return self.exchange(stream, place).await;
        };
        if let Ok(Ok(stream)) = timeout(HANDSHAKE, tls.accept(stream)).await {
            self.exchange(stream, place).await;
        }
    }

    async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S, place: &Place) {
        let service = service_fn(|request| {
            place.heard();
            let answer = self.app.clone().oneshot(request);
            async { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        // A connection that fails is the peer's matter.
        tokio::select! {
            biased;
            _ = &mut connection => return,
            () = self.ending.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }
}
