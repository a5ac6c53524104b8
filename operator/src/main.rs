//! FerroLB's operator. See the library for what it does.

use std::net::Ipv6Addr;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use ferrolb_cluster::{Election, Ended, EventPublisher, Timing, connect};
use ferrolb_manifests::names;
use ferrolb_operator::carry_out::WRITES_AT_ONCE;
use ferrolb_operator::certificates::{CertificateNames, keep};
use ferrolb_operator::flags::Flags;
use ferrolb_operator::membership_secret;
use ferrolb_operator::metrics::Metrics;
use ferrolb_operator::run::{Run, Stores};
use ferrolb_serving::{Aside, Readiness, Telemetry, shutdown};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

fn main() -> ExitCode {
    let flags = Flags::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    match runtime
        .context("start the runtime")
        .and_then(|runtime| runtime.block_on(serve(flags)))
    {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ferrolb-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(flags: Flags) -> anyhow::Result<ExitCode> {
    let namespace = flags.common.namespace()?;
    let telemetry = Telemetry::start("ferrolb-operator", flags.common.log_level)?;
    let shutdown = shutdown::on_signals().context("listen for signals")?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        namespace, "FerroLB operator starting"
    );
    let client = connect(flags.common.kubeconfig.as_deref(), WRITES_AT_ONCE).await?;

    let mut registry = Registry::default();
    let figures = Metrics::register(&mut registry);
    let stores = Stores::watch(&client, &namespace, flags.lb_class.clone());
    let readiness = Readiness::default();
    let complete = stores.clone();
    readiness.require("stores complete", move || complete.is_ready());
    let everywhere = Ipv6Addr::UNSPECIFIED.into();
    let _aside = Aside::start(&flags.common, everywhere, readiness, registry, &shutdown).await?;

    let timing = Timing::new(
        flags.lease_duration,
        flags.lease_renew_deadline,
        flags.lease_retry_period,
    )?;
    // The lease outlives the loop: it is given back once the last write is done.
    let finished = CancellationToken::new();
    let (mut leadership, election) = Election {
        client: client.clone(),
        namespace: namespace.clone(),
        name: "ferrolb-operator".to_owned(),
        identity: flags.pod_name.clone(),
        timing,
    }
    .start(finished.clone());
    let events =
        EventPublisher::start(client.clone(), "metallb-controller", flags.pod_name.clone());

    let led = leadership.clone();
    let lead = async {
        tokio::select! {
            () = shutdown.cancelled() => return true,
            () = leadership.elected() => {}
        }
        if !flags.disable_cert_rotation {
            let wanted = CertificateNames {
                dns_names: [&flags.cert_service_name, &flags.conversion_service_name]
                    .map(|service| format!("{service}.{namespace}.svc"))
                    .into(),
                namespace: namespace.clone(),
                secret: flags.webhook_secret.clone(),
                validating: flags.webhook_configuration.clone(),
                mutating: flags.mutating_webhook_configuration.clone(),
                converted: names::CONVERTED_DEFINITION.to_owned(),
            };
            tokio::spawn(keep(client.clone(), wanted, led.clone(), shutdown.clone()));
        }
        if !flags.ml_secret_name.is_empty() {
            tokio::spawn(membership_secret::keep(
                client.clone(),
                namespace.clone(),
                flags.ml_secret_name.clone(),
                led.clone(),
                shutdown.clone(),
            ));
        }
        Run::new(&client, stores, events, led, figures, telemetry.exports())
            .run(shutdown.clone())
            .await
    };
    let mut election = election;
    let ended = tokio::select! {
        ended = lead => {
            if !ended {
                // A write may still take effect: nobody else shall lead before the lease has run out.
                return Ok(ExitCode::FAILURE);
            }
            finished.cancel();
            election.await.unwrap_or(Ended::Lost)
        }
        ended = &mut election => ended.unwrap_or(Ended::Lost),
    };
    telemetry.shutdown().await;
    Ok(match ended {
        Ended::Released => ExitCode::SUCCESS,
        Ended::Lost => {
            error!(
                "the leader lease is lost; exiting so that a fresh process starts from what the API server holds"
            );
            ExitCode::FAILURE
        }
    })
}
