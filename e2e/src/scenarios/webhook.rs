//! The webhook's pods come and go while it is asked.

use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use super::{Scenario, applies, workloads};
use crate::cluster::{SYSTEM, Site};
use crate::install;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        group: "webhook",
        name: "webhook-rolls-over",
        doc: "kubectl rollout restart of the webhook while people apply fail-closed, and no apply fails",
        run: rolls_over,
    },
    Scenario {
        group: "webhook",
        name: "webhook-killed",
        doc: "all webhooks are killed -9 while people apply; applies go on, and are refused again when it is back",
        run: killed,
    },
];

fn rolls_over(site: &Site) -> Result<String> {
    let before = names(site)?;
    let tally = applies::during_fail_closed(site, || {
        site.kubectl(&[
            "-n",
            SYSTEM,
            "rollout",
            "restart",
            "deployment/ferrolb-webhook",
        ])?;
        install::rolled_out(site)?;
        site.wait_for("the old pods are gone", Duration::from_secs(60), || {
            Ok(names(site)?.iter().all(|name| !before.contains(name)))
        })
    })?;
    Ok(tally.to_string())
}

fn names(site: &Site) -> Result<Vec<String>> {
    Ok(workloads::pods(site, "webhook")?
        .iter()
        .map(|pod| pod["metadata"]["name"].to_string())
        .collect())
}

fn killed(site: &Site) -> Result<String> {
    let restarts = workloads::restarts(site, "webhook")?;
    let tally = applies::during(site, || {
        let processes = site.run.container_processes("/ferrolb-webhook", None);
        ensure!(processes.len() == 2, "{} webhooks run", processes.len());
        for process in processes {
            process.signal(Signal::SIGKILL);
        }
        site.wait_for("both are started again", Duration::from_secs(60), || {
            Ok(workloads::restarts(site, "webhook")? >= restarts + 2)
        })?;
        install::rolled_out(site)
    })?;
    ensure!(tally.passed > 0, "nobody noticed: {tally}");
    let again = applies::during(site, || Ok(()))?;
    ensure!(again.passed == 0, "afterwards some pass: {again}");
    Ok(tally.to_string())
}
