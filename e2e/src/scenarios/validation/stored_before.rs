//! What becomes of an object that was stored before a rule came?
//!
//! Kubernetes forgives a field that breaks a rule as long as nobody changes it (ratcheting, since 1.33 without a switch);
//! a list is one field.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::without_judging_webhooks;
use crate::cluster::{SYSTEM, Site, condition};
use crate::objects::LABEL;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

pub fn run(site: &Site) -> Result<String> {
    without_judging_webhooks(site, || {
        with_looser_schemas(site, &["ipaddresspools", "bgppeers"], || store(site))?;
        let pool =
            format!("/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/ipaddresspools/stored-before");
        let peer = format!("/apis/metallb.io/v1beta2/namespaces/{SYSTEM}/bgppeers/stored-before");
        // The rules are in force again when a new object of this kind is refused.
        site.wait_for(
            "the rules are in force again",
            Duration::from_secs(20),
            || Ok(try_pool(site, "stored-later", "10.98.0.9-10.98.0.1").is_err()),
        )?;
        for path in [&pool, &peer] {
            site.patch(path, &json!({"metadata": {"labels": {"team": "network"}}}))
                .context("it can be labelled")?;
            // The operator reports on it.
            site.wait(
                &format!("{path} is Accepted=False"),
                Duration::from_secs(20),
                || {
                    let object = site.get(path)?.context("the object is gone")?;
                    let accepted = condition(&object, "Accepted");
                    Ok(accepted
                        .filter(|accepted| accepted["status"] == "False")
                        .map(|_| ()))
                },
            )?;
        }
        site.patch(&pool, &json!({"spec": {"autoAssign": true}}))
            .context("another field of it can be changed")?;
        let worse = json!({"spec": {"addresses": ["10.98.0.9-10.98.0.1", "10.97.0.9-10.97.0.1"]}});
        let Err(error) = site.patch(&pool, &worse) else {
            bail!("a second mistake was accepted");
        };
        let said = format!("{error:#}");
        ensure!(
            said.contains("spec.addresses[1]"),
            "the new mistake is not named: {said}"
        );
        site.patch(
            &pool,
            &json!({"spec": {"addresses": ["10.98.0.1-10.98.0.9"]}}),
        )
        .context("it can be mended")?;
        Ok(String::new())
    })
}

fn try_pool(site: &Site, name: &str, addresses: &str) -> Result<Value> {
    let path = format!("/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/ipaddresspools");
    let mut pool = crate::objects::pool(name, &[addresses]);
    pool["spec"]["autoAssign"] = json!(false);
    site.create(&path, &pool)
}

fn store(site: &Site) -> Result<()> {
    site.wait("the pool gets in", Duration::from_secs(20), || {
        Ok(try_pool(site, "stored-before", "10.98.0.9-10.98.0.1").ok())
    })?;
    let path = format!("/apis/metallb.io/v1beta2/namespaces/{SYSTEM}/bgppeers");
    let peer = json!({
        "apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer",
        "metadata": {"name": "stored-before", "namespace": SYSTEM, "labels": {LABEL: "yes"}},
        "spec": {"myASN": 64512, "peerAddress": "10.98.0.1", "holdTime": "9s", "keepaliveTime": "10s"},
    });
    site.wait("the peer gets in", Duration::from_secs(20), || {
        Ok(site.create(&path, &peer).ok())
    })?;
    Ok(())
}

/// Does something while the definitions have no rules, as if they were an older FerroLB's or MetalLB's.
fn with_looser_schemas<T>(
    site: &Site,
    plurals: &[&str],
    act: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let mut ours = Vec::new();
    for plural in plurals {
        let path = format!("{DEFINITIONS}/{plural}.metallb.io");
        let definition = site
            .get(&path)?
            .with_context(|| format!("there is no {path}"))?;
        let mut versions = definition["spec"]["versions"].clone();
        without_rules(&mut versions);
        site.patch(&path, &json!({"spec": {"versions": versions}}))?;
        ours.push((path, definition["spec"]["versions"].clone()));
    }
    let result = act();
    for (path, versions) in ours {
        site.patch(&path, &json!({"spec": {"versions": versions}}))?;
    }
    result
}

fn without_rules(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("x-kubernetes-validations");
            fields.values_mut().for_each(without_rules);
        }
        Value::Array(list) => list.iter_mut().for_each(without_rules),
        _ => {}
    }
}
