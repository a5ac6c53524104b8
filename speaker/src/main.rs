//! FerroLB's speaker. See the library for what it does.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use ferrolb_cluster::{EventPublisher, connect};
use ferrolb_serving::{Aside, Readiness, Telemetry, shutdown};
use ferrolb_speaker::bgp::{Bgp, BgpMetrics};
use ferrolb_speaker::bgp_over_http;
use ferrolb_speaker::decide::Decider;
use ferrolb_speaker::flags::Flags;
use ferrolb_speaker::inputs::{Scope, Stores};
use ferrolb_speaker::layer2::{Layer2, load_excluded};
use ferrolb_speaker::members::{Joining, KeyFile, Members, MembersMetrics};
use ferrolb_speaker::metrics::Metrics;
use ferrolb_speaker::promptness::ask_for_a_short_slice;
use ferrolb_speaker::reports::Channels;
use ferrolb_speaker::run::{Identity, Protocols, Run};
use ferrolb_speaker::status::{
    BgpStatuses, ConfigurationReport, L2Statuses, Reporter, SessionReport, WRITES_AT_ONCE,
};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

fn main() -> ExitCode {
    let flags = Flags::parse();
    // Before there are other threads. Who may not have it answers all the same.
    let slice = ask_for_a_short_slice();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    match runtime
        .context("start the runtime")
        .and_then(|runtime| runtime.block_on(serve(flags, slice)))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ferrolb-speaker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(flags: Flags, slice: io::Result<()>) -> anyhow::Result<()> {
    let namespace = flags.common.namespace()?;
    let telemetry = Telemetry::start("ferrolb-speaker", flags.common.log_level)?;
    let shutdown = shutdown::on_signals().context("listen for signals")?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        node = flags.node_name,
        namespace,
        "FerroLB speaker starting"
    );
    if let Err(error) = slice {
        debug!(%error, "the kernel grants no short slices of processor time");
    }

    let mut registry = Registry::default();
    let decider = Decider::default();
    let figures = Metrics::register(&mut registry, &flags.node_name, decider.announcements());
    let excluded = load_excluded(&flags.exclude_interfaces).context("interfaces to leave alone")?;
    let (layer2, layer2_events) = Layer2::start(excluded, flags.receive_all, &mut registry)
        .context("open the sockets of layer 2; the speaker needs the capability NET_RAW")?;
    let (bgp, bgp_events) = Bgp::start(
        &flags.node_name,
        &BgpMetrics::new(&mut registry),
        shutdown.clone(),
    );
    if flags.bgp_listen_port != 0 {
        let port = flags.bgp_listen_port;
        bgp.listen(port).with_context(|| {
            format!(
                "listen for BGP on port {port}; is another BGP speaker on this node, or is the capability NET_BIND_SERVICE missing? \
                 --bgp-listen-port=0 only connects"
            )
        })?;
    }
    // Not with the rest: the others shall hear the farewell while this node still answers.
    let farewell = CancellationToken::new();
    let joining = bind_members(&flags, &mut registry, &farewell)?;

    let client = connect(flags.common.kubeconfig.as_deref(), WRITES_AT_ONCE).await?;
    let stores = Stores::watch(
        &client,
        Scope {
            namespace: &namespace,
            class: flags.lb_class.clone(),
            member_labels: &flags.ml_labels,
            member_port: flags.ml_bindport,
        },
    );
    let readiness = Readiness::default();
    let complete = stores.clone();
    readiness.require("stores complete", move || complete.is_ready());
    // The host's network is ours too: what is for the kubelet stays on the loopback interface.
    let inside = Ipv4Addr::LOCALHOST.into();
    let bgp = Arc::new(bgp);
    let beside = bgp_over_http::router(Arc::clone(&bgp));
    let _aside = Aside::start_with(
        &flags.common,
        inside,
        readiness,
        registry,
        beside,
        &shutdown,
    )
    .await?;

    let reporter = Reporter {
        namespace: namespace.clone(),
        node: flags.node_name.clone(),
        pod: flags.pod(),
    };
    let configuration = ConfigurationReport::start(&client, reporter.clone(), shutdown.clone());
    let events = EventPublisher::start(client.clone(), "metallb-speaker", flags.node_name.clone());
    let channels = Channels {
        statuses: L2Statuses::start(&client, reporter.clone(), shutdown.clone()),
        bgp_statuses: BgpStatuses::start(&client, reporter.clone(), shutdown.clone()),
        sessions: SessionReport::start(
            &reporter,
            bgp.status(),
            configuration.clone(),
            events.clone(),
            stores.configuration.peers.clone(),
            shutdown.clone(),
        ),
        configuration,
        events,
    };
    let identity = Identity {
        node: flags.node_name,
        namespace,
        ignore_exclude_label: flags.ignore_exclude_lb,
    };
    let protocols = Protocols {
        layer2,
        layer2_events,
        bgp,
        bgp_events,
        joining,
        farewell,
    };
    Run::new(
        identity,
        stores,
        protocols,
        channels,
        decider,
        figures,
        telemetry.exports(),
    )
    .run(shutdown)
    .await;
    telemetry.shutdown().await;
    Ok(())
}

/// The socket of the membership, unless it is switched off (reference 4.5).
fn bind_members(
    flags: &Flags,
    registry: &mut Registry,
    shutdown: &CancellationToken,
) -> anyhow::Result<Option<Joining>> {
    let off = |flag: &str| {
        warn!("membership is off ({flag} is empty): the speaker of every node counts as alive");
        Ok(None)
    };
    let Some(address) = flags.ml_bindaddr.0 else {
        return off("--ml-bindaddr");
    };
    if flags.ml_labels.trim().is_empty() {
        return off("--ml-labels");
    }
    let key = flags
        .ml_secret_key_path
        .as_deref()
        .map(KeyFile::open)
        .transpose()?;
    let bind = SocketAddr::new(address, flags.ml_bindport);
    let joining = Members::bind(
        &flags.node_name,
        bind,
        key,
        MembersMetrics::new(registry),
        shutdown.clone(),
    )
    .with_context(|| format!("open the membership socket on {bind}"))?;
    Ok(Some(joining))
}
