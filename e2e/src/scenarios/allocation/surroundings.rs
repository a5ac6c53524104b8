//! What scenarios change around them, and put back whatever happens: pools of config/samples, namespaces.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::handles::{POOLS, Pool};
use crate::cluster::Site;
use crate::objects;

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

/// Runs `scenario` in namespaces of its own, each with labels as given, and removes them with their Services.
pub fn with_namespaces<T>(
    site: &Site,
    namespaces: &[(&str, Value)],
    scenario: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let made = namespaces.iter().try_for_each(|(name, marks)| {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": marks["labels"]},
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
