//! The process: watches, certificate, server, probes, and their orderly end.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::http::{HeaderValue, header};
use axum::middleware::map_response;
use axum::response::Response;
use ferrolb_cluster::Client;
use ferrolb_serving::tls::{SwappableCertificate, server_config};
use ferrolb_serving::{Aside, Places, Readiness, https, plain_http, shutdown};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::certificate;
use crate::flags::Flags;
use crate::judge::Scope;
use crate::kind::Kind;
use crate::server::{self, Context};
use crate::snapshot::{Snapshot, Watched};

/// After SIGTERM new connections are still taken for this long: kube-proxies learn of the end only by and by.
const LINGER: Duration = Duration::from_secs(5);
/// After that, requests under way may take this long.
const DRAIN: Duration = Duration::from_secs(5);
/// Connections that are open at a time. An API server opens one for each call under way, and has at most 200 changes under way
/// (its flag --max-mutating-requests-inflight): all of two, or more than are ever ours of many. Of the 1,024 files that a
/// process may open where nobody says otherwise, this leaves half for everything else.
pub const CONNECTIONS_AT_MOST: usize = 512;

/// Runs until SIGTERM or SIGINT.
pub async fn run(flags: Flags) -> anyhow::Result<()> {
    let namespace = flags.common.namespace()?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), %namespace, "FerroLB webhook starting");
    let signalled = shutdown::on_signals().context("listening for signals")?;
    let client = ferrolb_cluster::connect(flags.common.kubeconfig.as_deref(), 1).await?;

    let address = flags
        .webhook_bind_address
        .0
        .context("--webhook-bind-address must name a port")?;
    let listener = plain_http::listen(address, "the API server's calls").await?;
    let certificate = SwappableCertificate::default();
    let follow = match flags.cert_dir.clone() {
        Some(folder) => tokio::spawn(certificate::follow_folder(folder, certificate.clone())),
        None => {
            let (client, namespace, certificate) =
                (client.clone(), namespace.clone(), certificate.clone());
            let secret = flags.webhook_secret.clone();
            tokio::spawn(async move {
                certificate::follow_secret(client, &namespace, &secret, certificate).await
            })
        }
    };

    let mut registry = Registry::default();
    let readiness = Readiness::default();
    let scope = Scope {
        namespace,
        class: flags.lb_class,
    };
    let webhook = Webhook::new(&client, scope, certificate, &mut registry, &readiness);

    let probes_end = CancellationToken::new();
    let everywhere = Ipv6Addr::UNSPECIFIED.into();
    let aside = Aside::start(&flags.common, everywhere, readiness, registry, &probes_end).await?;

    let served = webhook.serve(listener, signalled, LINGER).await;
    follow.abort();
    probes_end.cancel();
    aside.ended().await;
    served.context("serving the API server's calls")
}

/// The webhook without its flags and signals, as tests run it.
pub struct Webhook {
    app: Router,
    certificate: SwappableCertificate,
    places: Places,
    ending: Arc<AtomicBool>,
    keep: AbortHandle,
}

impl Webhook {
    /// Starts the watches, and makes `readiness` wait for them and for a certificate. `registry` shows what is counted.
    pub fn new(
        client: &Client,
        scope: Scope,
        certificate: SwappableCertificate,
        registry: &mut Registry,
        readiness: &Readiness,
    ) -> Self {
        let (watched, snapshot) = (
            Watched::begin(client, &scope.namespace),
            Snapshot::default(),
        );
        watched.require(readiness, &snapshot);
        let keep = tokio::spawn(watched.keep(snapshot.clone()));
        let (present, ending) = (certificate.clone(), Arc::new(AtomicBool::new(false)));
        readiness.require("a server certificate is there", move || {
            present.is_present()
        });
        let over = ending.clone();
        readiness.require("the process is not shutting down", move || {
            !over.load(Ordering::Relaxed)
        });
        let app = server::router(Context {
            snapshot,
            scope: Arc::new(scope),
            figures: Figures::registered(registry),
        });
        Self {
            app,
            certificate,
            places: Places::registered(registry, "webhook", CONNECTIONS_AT_MOST),
            ending,
            keep: keep.abort_handle(),
        }
    }

    /// Serves until `signalled`; then becomes unready, lingers, and drains.
    ///
    /// API servers keep connections and use them again, whatever becomes of the pod behind them. While it lingers each answer
    /// therefore says that the connection ends with it; otherwise the drain would close connections at the very moment in
    /// which a request is on its way, and such a request is not sent again.
    pub async fn serve(
        self,
        listener: TcpListener,
        signalled: CancellationToken,
        linger: Duration,
    ) -> anyhow::Result<()> {
        let end = CancellationToken::new();
        let (ended, ending) = (end.clone(), self.ending.clone());
        let wait = tokio::spawn(async move {
            signalled.cancelled().await;
            ending.store(true, Ordering::Relaxed);
            tokio::time::sleep(linger).await;
            ended.cancel();
        });
        let leaving = self.ending.clone();
        let app = self.app.layer(map_response(move |mut response: Response| {
            if leaving.load(Ordering::Relaxed) {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            std::future::ready(response)
        }));
        let tls = server_config(self.certificate).context("preparing TLS")?;
        https::serve(listener, app, tls, self.places, end, DRAIN).await;
        wait.abort();
        self.keep.abort();
        Ok(())
    }
}

/// What is counted.
#[derive(Clone)]
pub struct Figures {
    answers: Family<AnswerLabels, Counter>,
    seconds: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    kind: &'static str,
    allowed: String,
}

impl Figures {
    /// The figures, shown by this registry.
    pub fn registered(registry: &mut Registry) -> Self {
        let figures = Self {
            answers: Family::default(),
            seconds: Histogram::new([0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 1.0]),
        };
        registry.register(
            "ferrolb_webhook_answers",
            "Objects judged, by kind and outcome",
            figures.answers.clone(),
        );
        registry.register_with_unit(
            "ferrolb_webhook_answer",
            "Time from a read request to its answer",
            Unit::Seconds,
            figures.seconds.clone(),
        );
        figures
    }

    pub(crate) fn answered(&self, kind: Kind, allowed: bool, took: Duration) {
        self.answers
            .get_or_create(&AnswerLabels {
                kind: kind.name(),
                allowed: allowed.to_string(),
            })
            .inc();
        self.seconds.observe(took.as_secs_f64());
    }
}
