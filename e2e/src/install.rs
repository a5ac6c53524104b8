//! FerroLB comes into the site as users bring it: its image, `kubectl apply -k config/default`, then their own objects.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cluster::{SYSTEM, Site};
use crate::plan::NODES;
use crate::run::repository;
use crate::{image, objects, router, site};

/// The folder with everything.
pub const EVERYTHING: &str = "config/default";
/// The folder with everything but the webhook.
pub const WITHOUT_WEBHOOK: &str = "config/default-no-webhook";

/// The workloads of an installation.
pub const WORKLOADS: [(&str, &str); 3] = [
    ("deployments", "ferrolb-operator"),
    ("deployments", "ferrolb-webhook"),
    ("daemonsets", "ferrolb-speaker"),
];

/// Gives every node the image and applies this folder; returns when everything is ready.
pub fn ferrolb(site: &Site, folder: &str) -> Result<String> {
    let archive = image::ferrolb(&site.run.directory.join("images"))?;
    site::import(&site.run, &archive)?;
    let printed = apply_folder(site, folder)?;
    rolled_out(site)?;
    Ok(printed)
}

/// `kubectl apply -k` of a folder of the repository.
pub fn apply_folder(site: &Site, folder: &str) -> Result<String> {
    apply_path(site, &repository().join(folder))
}

/// `kubectl apply -k` of any folder.
pub fn apply_path(site: &Site, path: &Path) -> Result<String> {
    site.kubectl(&["apply", "-k", &path.display().to_string()])
}

/// A folder like one that a person writes who builds on ours, and makes of it what these components do.
pub fn overlay(
    site: &Site,
    name: &str,
    resources: &[&str],
    components: &[&str],
) -> Result<PathBuf> {
    let folder = site.run.directory.join(name);
    std::fs::create_dir_all(&folder)?;
    // kustomize takes relative paths only.
    let up: PathBuf = folder
        .strip_prefix(repository())
        .context("the site's folder lies elsewhere")?
        .iter()
        .map(|_| "..")
        .collect();
    let below =
        |paths: &[&str]| -> Vec<PathBuf> { paths.iter().map(|path| up.join(path)).collect() };
    let fields = serde_json::json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": below(resources),
        "components": below(components),
    });
    std::fs::write(folder.join("kustomization.yaml"), fields.to_string())?;
    Ok(folder)
}

/// Whether the installation has its webhook.
pub fn has_webhook(site: &Site) -> Result<bool> {
    let path = format!("/apis/apps/v1/namespaces/{SYSTEM}/deployments/ferrolb-webhook");
    Ok(site.get(&path)?.is_some())
}

/// Waits until every workload of FerroLB is ready.
pub fn rolled_out(site: &Site) -> Result<()> {
    // A scenario may have taken it away.
    let webhook = has_webhook(site)? && site.wants_pods("ferrolb-webhook")?;
    for (kind, name) in WORKLOADS {
        if name == "ferrolb-webhook" && !webhook {
            continue;
        }
        site.wait_for(
            &format!("{name} is rolled out"),
            Duration::from_secs(90),
            || site.is_rolled_out(kind, name),
        )?;
    }
    Ok(())
}

/// Applies config/samples. The webhook may still be on its way to its first certificate, which is retried as a person
/// would who sees the message.
pub fn samples(site: &Site) -> Result<String> {
    site.wait(
        "config/samples are applied",
        Duration::from_secs(30),
        || apply_folder(site, "config/samples").map(Some),
    )
}

/// Starts the echo servers; returns when all are ready.
pub fn echo_servers(site: &Site) -> Result<()> {
    site.apply(&objects::echo_servers().to_string())?;
    site.wait_for(
        "the echo servers are ready",
        Duration::from_secs(60),
        || {
            let list = site
                .get("/apis/apps/v1/namespaces/default/deployments")?
                .context("no Deployments")?;
            let ready = |d: &serde_json::Value| d["status"]["readyReplicas"] == 1;
            Ok(list["items"]
                .as_array()
                .is_some_and(|all| all.iter().filter(|d| ready(d)).count() == NODES.len()))
        },
    )
}

/// Waits until the router has a session with every node.
pub fn sessions_established(site: &Site) -> Result<()> {
    site.wait_for(
        "the router has a session with every node",
        Duration::from_secs(30),
        || {
            Ok(router::sessions(&site.run)?
                .iter()
                .filter(|s| s.established)
                .count()
                == NODES.len())
        },
    )
}

/// What a person would look at after a failure.
pub fn diagnosis(site: &Site) -> String {
    let mut text = String::new();
    let mut add = |title: &str, result: Result<String>| {
        text.push_str(&format!(
            "--- {title}\n{}\n",
            result.unwrap_or_else(|e| format!("{e:#}")).trim_end()
        ));
    };
    add(
        "kubectl get pods -A -o wide",
        site.kubectl(&["get", "pods", "-A", "-o", "wide"]),
    );
    add(
        "kubectl get services -A",
        site.kubectl(&["get", "services", "-A"]),
    );
    add(
        "kubectl describe services",
        site.kubectl(&[
            "describe",
            "services",
            "-n",
            "default",
            "-l",
            objects::LABEL,
        ]),
    );
    add(
        "pools",
        site.kubectl(&[
            "get",
            "ipaddresspools.metallb.io,bgppeers.metallb.io",
            "-A",
            "-o",
            "yaml",
        ])
        .map(|t| last_lines(&t, 80)),
    );
    add(
        "the last events",
        site.kubectl(&["get", "events", "-A", "--sort-by=.lastTimestamp"])
            .map(|t| last_lines(&t, 15)),
    );
    add(
        "router: show bgp summary",
        router::vtysh(&site.run, "show bgp summary"),
    );
    for component in ["operator", "webhook", "speaker"] {
        let selector = format!("app.kubernetes.io/component={component}");
        add(
            &format!("log of {component}"),
            site.kubectl(&[
                "-n",
                SYSTEM,
                "logs",
                "-l",
                &selector,
                "--prefix",
                "--tail=25",
            ]),
        );
    }
    text
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines
        .get(lines.len().saturating_sub(count)..)
        .unwrap_or_default()
        .join("\n")
}
