//! How the API server is reached: one HTTP/1.1 connection pool in which nothing waits for ever.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Request, Response};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tower::{BoxError, Service, ServiceBuilder};
use tower_http::timeout::TimeoutBody;

/// From sending a request to the head of its response; includes connecting and the TLS handshake.
pub const RESPONSE_WITHIN: Duration = Duration::from_secs(10);
/// Between two pieces of a response body.
const BODY_GOES_ON_WITHIN: Duration = Duration::from_secs(10);
/// The same for a watch, which is silent while nothing happens. Longer than any watch that we ask for, which the
/// server ends itself.
const WATCH_GOES_ON_WITHIN: Duration = Duration::from_secs(320);
/// A peer that acknowledges nothing for this long is dead; TCP alone would take 15 minutes to say so.
const DEAD_AFTER: Duration = Duration::from_secs(20);
/// Octets read from a connection at a time. Left alone, the buffer of each grows to hundreds of kilobytes with the first long
/// list, and every watch has a connection of its own. The head of a response must fit, with the warnings of everybody's webhooks.
const READ_AT_ONCE: usize = 16 * 1024;
/// A connection that no request needed for this long is closed.
const IDLE_FOR: Duration = Duration::from_secs(20);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The file given by `--kubeconfig` is missing or wrong.
    #[error("reading the kubeconfig {path}")]
    Kubeconfig {
        /// The file as given.
        path: String,
        /// What is wrong with it.
        #[source]
        source: KubeconfigError,
    },
    /// Not in a pod, and no kubeconfig given.
    #[error("reading the service account of this pod (outside a cluster give --kubeconfig)")]
    InCluster(#[source] InClusterError),
    /// The TLS or authentication settings cannot be used.
    #[error("preparing the connection to the API server")]
    Prepare(#[source] kube::Error),
}

/// Makes a client for the cluster of a kubeconfig, or for the one that this pod runs in.
///
/// Nothing is sent yet, so an unreachable API server is no error here: watches and writes retry on their own.
/// There are no automatic retries of requests: they could outlast a lease. There is no client-side rate limit, and one
/// connection per request in flight, so that bulk writes run as wide as their caller wants.
///
/// `writers` is how many requests there are at once beside the watches: so many idle connections are kept for the next.
pub async fn connect(kubeconfig: Option<&Path>, writers: usize) -> Result<Client, ConnectError> {
    let config = match kubeconfig {
        Some(path) => {
            let wrap = |source| ConnectError::Kubeconfig {
                path: path.display().to_string(),
                source,
            };
            let file = Kubeconfig::read_from(path).map_err(wrap)?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(wrap)?
        }
        None => Config::incluster().map_err(ConnectError::InCluster)?,
    };
    client(config, writers).map_err(ConnectError::Prepare)
}

/// Installs aws-lc-rs as the TLS provider of this process, unless one is there. It offers X25519MLKEM768.
pub fn install_crypto_provider() {
    // An error means that another thread was first, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

fn client(mut config: Config, writers: usize) -> kube::Result<Client> {
    install_crypto_provider();
    config
        .headers
        .push((HeaderName::from_static("user-agent"), user_agent()));

    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    // Requests are small and latency counts: no waiting for a fuller segment.
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(Duration::from_secs(5)));
    tcp.set_keepalive(Some(Duration::from_secs(10)));
    tcp.set_keepalive_interval(Some(Duration::from_secs(3)));
    tcp.set_tcp_user_timeout(Some(DEAD_AFTER));
    let tls = config.rustls_https_connector_with_connector(tcp)?;
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_FOR)
        .pool_max_idle_per_host(writers)
        .http1_read_buf_exact_size(READ_AT_ONCE)
        .build::<_, Body>(tls);

    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(Bounded { inner: http });
    Ok(Client::new(service, config.default_namespace))
}

fn user_agent() -> HeaderValue {
    let program = std::env::args_os()
        .next()
        .and_then(|path| {
            Path::new(&path)
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
        })
        .unwrap_or_default();
    let text = if program.starts_with("ferrolb") {
        program
    } else {
        "ferrolb".to_owned()
    };
    HeaderValue::from_str(&format!("{text}/{}", env!("CARGO_PKG_VERSION")))
        .unwrap_or_else(|_| HeaderValue::from_static("ferrolb"))
}

/// Bounds every request; kube sets no bound of its own on responses.
#[derive(Clone)]
struct Bounded<S> {
    inner: S,
}

impl<S, B> Service<Request<Body>> for Bounded<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<TimeoutBody<B>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let watch = request
            .uri()
            .query()
            .is_some_and(|query| query.contains("watch=true") || query.contains("watch=1"));
        let body_within = if watch {
            WATCH_GOES_ON_WITHIN
        } else {
            BODY_GOES_ON_WITHIN
        };
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = tokio::time::timeout(RESPONSE_WITHIN, response)
                .await
                .map_err(|_| {
                    format!(
                        "the API server did not answer within {} s",
                        RESPONSE_WITHIN.as_secs()
                    )
                })?
                .map_err(Into::into)?;
            Ok(response.map(|body| TimeoutBody::new(body_within, body)))
        })
    }
}
