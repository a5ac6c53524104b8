//! What scenarios change around them, and put back whatever happens: pools of config/samples, namespaces, the operator.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::handles::{LIMIT, NewService, POOLS, Pool};
use crate::cluster::{SYSTEM, Site};
use crate::scenarios::workloads;
use crate::{install, objects};

/// The pools that are no scenario's.
fn sample_pools(site: &Site) -> Result<Vec<Value>> {
    let selector = format!("labelSelector=!{}", objects::LABEL);
    let list = site
        .get(&format!("{POOLS}?{selector}"))?
        .unwrap_or_default();
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

fn named<'a>(site: &'a Site, pool: &Value) -> Pool<'a> {
    Pool::named(site, pool["metadata"]["name"].as_str().unwrap_or_default())
}

/// Runs `scenario` while the pools of config/samples serve only Services that ask for them.
pub fn with_samples_on_request<T>(site: &Site, scenario: impl FnOnce() -> Result<T>) -> Result<T> {
    let samples = sample_pools(site)?;
    let set = |auto_assign: &dyn Fn(&Value) -> Value| -> Result<()> {
        for pool in &samples {
            let patch = json!({"spec": {"autoAssign": auto_assign(pool)}});
            site.patch(&named(site, pool).path(), &patch)?;
        }
        samples
            .iter()
            .try_for_each(|pool| named(site, pool).is_in_force())
    };
    let result = set(&|_| json!(false)).and_then(|()| scenario());
    set(&|pool| pool["spec"]["autoAssign"].clone())?;
    result
}

/// Deletes every pool, runs `scenario`, and creates those of config/samples again.
pub fn without_pools<T>(site: &Site, scenario: impl FnOnce() -> Result<T>) -> Result<T> {
    let samples = sample_pools(site)?;
    let result = site.delete(POOLS).and_then(|()| scenario());
    for pool in &samples {
        let metadata = &pool["metadata"];
        let again = json!({
            "apiVersion": pool["apiVersion"], "kind": pool["kind"], "spec": pool["spec"],
            "metadata": {
                "name": metadata["name"], "namespace": metadata["namespace"],
                "labels": metadata["labels"], "annotations": metadata["annotations"],
            },
        });
        site.wait("a pool of config/samples is back", LIMIT, || {
            let there = site.get(&named(site, pool).path())?.is_some();
            Ok((there || site.create(POOLS, &again).is_ok()).then_some(()))
        })?;
    }
    for pool in &samples {
        named(site, pool).is_in_force()?;
    }
    result
}

/// Runs `scenario` in namespaces of its own, each with labels and annotations as given, and removes them with their Services.
pub fn with_namespaces<T>(
    site: &Site,
    namespaces: &[(&str, Value)],
    scenario: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let made = namespaces.iter().try_for_each(|(name, marks)| {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": marks["labels"], "annotations": marks["annotations"]},
        });
        // A former run of the same scenario may have it on its way out still.
        let limit = Duration::from_secs(30);
        site.wait("the namespace is created", limit, || {
            site.create("/api/v1/namespaces", &namespace).map(Some)
        })
        .map(drop)
    });
    let result = made.and_then(|()| scenario());
    for (name, _) in namespaces {
        site.delete(&format!("/api/v1/namespaces/{name}/services"))?;
        site.delete(&format!("/api/v1/namespaces/{name}"))?;
    }
    result
}

const OPERATOR: &str = "ferrolb-operator";

fn scale_operator(site: &Site, replicas: usize) -> Result<()> {
    let path = format!("/apis/apps/v1/namespaces/{SYSTEM}/deployments/{OPERATOR}");
    site.patch(&path, &json!({"spec": {"replicas": replicas}}))?;
    if replicas > 0 {
        return install::rolled_out(site);
    }
    site.wait_for("the operators are gone", Duration::from_secs(40), || {
        Ok(workloads::pods(site, "operator")?.is_empty())
    })
}

/// Runs `scenario` while no operator runs; two run again when this returns.
pub fn without_operator<T>(site: &Site, scenario: impl FnOnce() -> Result<T>) -> Result<T> {
    let result = scale_operator(site, 0).and_then(|()| scenario());
    scale_operator(site, 2)?;
    result
}

/// Deletes the pods of the operator, which give back the lease; returns when others are ready.
pub fn replace_operators(site: &Site) -> Result<()> {
    let before = workloads::pods(site, "operator")?;
    for pod in &before {
        site.delete(&format!(
            "/api/v1/namespaces/{SYSTEM}/pods/{}",
            pod["metadata"]["name"].as_str().unwrap_or_default()
        ))?;
    }
    others_are_ready(site, &before)
}

fn others_are_ready(site: &Site, before: &[Value]) -> Result<()> {
    site.wait_for("the operators are others", Duration::from_secs(40), || {
        let now = workloads::pods(site, "operator")?;
        let same = |pod: &Value| {
            let uid = |pod: &Value| pod["metadata"]["uid"].clone();
            before.iter().any(|old| uid(old) == uid(pod))
        };
        Ok(now.len() == before.len() && !now.iter().any(same))
    })?;
    install::rolled_out(site)
}

/// Kills every operator with SIGKILL and deletes its pod by force: nobody writes a last word, and the lease runs out.
/// Returns when a new leader has served a Service.
pub fn kill_operators(site: &Site) -> Result<()> {
    let before = workloads::pods(site, "operator")?;
    let processes = site.run.container_processes("/ferrolb-operator", None);
    ensure!(
        processes.len() == before.len(),
        "{} pods and {} processes",
        before.len(),
        processes.len()
    );
    for process in processes {
        process.kill();
    }
    for pod in &before {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        site.kubectl(&[
            "-n",
            SYSTEM,
            "delete",
            "pod",
            name,
            "--force",
            "--grace-period=0",
        ])?;
    }
    others_are_ready(site, &before)?;
    let first = NewService::named("after-the-kill")
        .pool("layer2")
        .create(site)?;
    site.wait_for("a new leader serves", Duration::from_secs(60), || {
        Ok(!first.addresses()?.is_empty())
    })
}
