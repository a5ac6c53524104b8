//! The webhook's pods come and go while it is asked.

use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{Scenario, applies, workloads};
use crate::cluster::{SYSTEM, Site};
use crate::install;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        group: "webhook",
        name: "only-what-concerns-us-is-asked",
        doc: "of Services and Namespaces only those with our annotations, or that ask for an address, reach the webhook",
        run: only_ours,
    },
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

/// How often the API server asked, by the entry of the registration.
fn asked(site: &Site, entry: &str) -> Result<u64> {
    let metrics = site.kubectl(&["get", "--raw=/metrics"])?;
    let of_entry = metrics.lines().filter(|line| {
        line.starts_with("apiserver_admission_webhook_request_total{")
            && line.contains(&format!("name=\"{entry}\""))
    });
    let counts = of_entry.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    Ok(counts.sum())
}

fn only_ours(site: &Site) -> Result<String> {
    const SERVICES: &str = "servicevalidationwebhook.ferrolb.io";
    const NAMESPACES: &str = "namespacevalidationwebhook.ferrolb.io";
    let service = |kind: &str, annotations: Value| {
        json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "asked", "namespace": "default", "annotations": annotations},
            "spec": {"type": kind, "ports": [{"port": 80}]}})
    };
    let mut asking = service("LoadBalancer", Value::Null);
    asking["spec"]["loadBalancerIP"] = json!("10.10.1.7");
    let namespace = |annotations: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "asked", "annotations": annotations}});
    let pool = json!({"metallb.io/address-pool": "layer2"});
    let left = json!({"metallb.io/ip-allocated-from-pool": "layer2", "example.com/a": "b"});
    let mut shown = 0;
    for (entry, object, times) in [
        (SERVICES, service("ClusterIP", Value::Null), 0),
        (SERVICES, service("ClusterIP", pool.clone()), 0),
        (SERVICES, service("LoadBalancer", Value::Null), 0),
        (SERVICES, service("LoadBalancer", left), 0),
        (SERVICES, service("LoadBalancer", pool), 1),
        (SERVICES, asking, 1),
        (NAMESPACES, namespace(Value::Null), 0),
        (NAMESPACES, namespace(json!({"example.com/a": "b"})), 0),
        (
            NAMESPACES,
            namespace(json!({"ferrolb.io/max-addresses": "3"})),
            1,
        ),
    ] {
        let before = asked(site, entry)?;
        let (passes, printed) = site.kubectl_prints(
            &["create", "--dry-run=server", "-f", "-"],
            &object.to_string(),
        )?;
        ensure!(passes, "{printed}");
        let count = asked(site, entry)? - before;
        ensure!(
            count == times,
            "{entry} was asked {count} times about {object}"
        );
        shown += 1;
    }
    Ok(format!("{shown} objects"))
}

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
