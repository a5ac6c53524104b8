//! What users install runs as it is written in config/.

use anyhow::{Context, Result, ensure};

use super::Scenario;
use crate::cluster::{SYSTEM, Site};
use crate::install;
use crate::plan::NODES;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        group: "install",
        name: "all-workloads-are-ready",
        doc: "config/default gives two operators, two webhooks and a speaker per node, all ready",
        run: all_ready,
    },
    Scenario {
        group: "install",
        name: "applying-again-changes-nothing",
        doc: "a second kubectl apply -k config/default restarts nothing",
        run: apply_again,
    },
];

fn all_ready(site: &Site) -> Result<String> {
    for (component, count) in [("operator", 2), ("webhook", 2), ("speaker", NODES.len())] {
        let pods = pods(site, component)?;
        ensure!(
            pods.len() == count,
            "{} pods of {component}, expected {count}",
            pods.len()
        );
        for pod in &pods {
            let ready =
                crate::cluster::condition(pod, "Ready").is_some_and(|c| c["status"] == "True");
            ensure!(ready, "{} is not ready", pod["metadata"]["name"]);
        }
    }
    Ok(String::new())
}

fn apply_again(site: &Site) -> Result<String> {
    let generations = |site: &Site| -> Result<Vec<String>> {
        install::WORKLOADS
            .iter()
            .map(|(kind, name)| {
                let object = site
                    .get(&format!("/apis/apps/v1/namespaces/{SYSTEM}/{kind}/{name}"))?
                    .context("a workload is missing")?;
                Ok(object["metadata"]["generation"].to_string())
            })
            .collect()
    };
    let before = generations(site)?;
    install::apply_folder(site, "config/default")?;
    ensure!(
        before == generations(site)?,
        "a workload has a new generation"
    );
    // The certificate authority that the operator injected must survive, or be put back.
    super::certificates::published_everywhere(site)?;
    Ok(String::new())
}

/// The pods of one component.
pub fn pods(site: &Site, component: &str) -> Result<Vec<serde_json::Value>> {
    let list = site.get(&format!("/api/v1/namespaces/{SYSTEM}/pods?labelSelector=app.kubernetes.io/component%3D{component}"))?.unwrap_or_default();
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

/// How often the containers of a component were started again, in all its pods.
pub fn restarts(site: &Site, component: &str) -> Result<u64> {
    let count = |pod: &serde_json::Value| -> u64 {
        pod["status"]["containerStatuses"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|c| c["restartCount"].as_u64())
            .sum()
    };
    Ok(pods(site, component)?.iter().map(count).sum())
}
