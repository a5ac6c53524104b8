//! What is wrong is refused with a message, or reported where it got in, and stops nothing else.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::Scenario;
use crate::cluster::{SYSTEM, Site, condition, service_path};
use crate::{install, objects};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        group: "bad-input",
        name: "overlapping-pool-is-refused",
        doc: "the webhook refuses a pool that overlaps another and kubectl prints why",
        run: overlap,
    },
    Scenario {
        group: "bad-input",
        name: "unparsable-pool-is-refused",
        doc: "the API server refuses a pool that is no address range by itself and names the field",
        run: unparsable,
    },
    Scenario {
        group: "bad-input",
        name: "pool-that-got-in-earlier",
        doc: "a bad pool that got in without the webhook is Accepted=False and stops nothing else",
        run: got_in_earlier,
    },
    Scenario {
        group: "bad-input",
        name: "pool-in-use-breaks",
        doc: "an edit that breaks a pool in use is Accepted=False; its Service keeps its address and is announced on",
        run: breaks_in_use,
    },
    Scenario {
        group: "bad-input",
        name: "unreadable-object",
        doc: "an object from the time of another schema is Accepted=False with the parser's words and stops nothing else",
        run: unreadable,
    },
    Scenario {
        group: "bad-input",
        name: "address-outside-every-pool",
        doc: "a Service that asks for a foreign address gets an event that names the pools",
        run: outside,
    },
];

fn refusal(site: &Site, name: &str, addresses: &[&str]) -> Result<String> {
    match site.apply(&objects::pool(name, addresses).to_string()) {
        Ok(printed) => bail!("the pool was accepted: {printed}"),
        Err(error) => Ok(format!("{error:#}")),
    }
}

fn overlap(site: &Site) -> Result<String> {
    let existing = site
        .get(&format!(
            "/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/ipaddresspools/layer2"
        ))?
        .context("config/samples have no pool layer2")?;
    let first = existing["spec"]["addresses"][0]
        .as_str()
        .context("the pool has no addresses")?
        .to_owned();
    let message = refusal(site, "overlapping", &[&first])?;
    for part in [
        "The IPAddressPool \"overlapping\" is invalid",
        "spec.addresses[0]",
        "overlaps",
        "\"layer2\"",
    ] {
        ensure!(message.contains(part), "{part} is not named: {message}");
    }
    Ok(String::new())
}

fn unparsable(site: &Site) -> Result<String> {
    let message = refusal(site, "unparsable", &["10.99.0.300-10.99.0.400"])?;
    ensure!(
        message.contains("10.99.0.300-10.99.0.400")
            && message.contains("spec.addresses[0]")
            && !message.contains("denied the request"),
        "the API server does not name value and field by itself: {message}"
    );
    Ok(String::new())
}

/// Without an endpoint the API server passes over the webhook, as its failurePolicy says. It comes back after the scenario, unless
/// the installation has none.
pub fn take_webhook_away(site: &Site) -> Result<()> {
    if !install::has_webhook(site)? {
        return Ok(());
    }
    scale_webhook(site, 0)?;
    site.wait_for("the webhook is gone", Duration::from_secs(40), || {
        Ok(super::workloads::pods(site, "webhook")?.is_empty())
    })
}

/// Its pods are on their way when this returns.
pub fn bring_webhook_back(site: &Site) -> Result<()> {
    scale_webhook(site, 2)
}

/// Nothing where the installation has none.
fn scale_webhook(site: &Site, replicas: usize) -> Result<()> {
    if install::has_webhook(site)? {
        let webhook = format!("/apis/apps/v1/namespaces/{SYSTEM}/deployments/ferrolb-webhook");
        site.patch(&webhook, &json!({"spec": {"replicas": replicas}}))?;
    }
    Ok(())
}

fn got_in_earlier(site: &Site) -> Result<String> {
    take_webhook_away(site)?;
    site.wait("the pool gets in", Duration::from_secs(20), || {
        site.apply(&objects::pool("broken", &["10.99.0.0/24", "10.99.0.128/25"]).to_string())
            .map(Some)
    })?;
    let path = format!("/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/ipaddresspools/broken");
    let message = site.wait(
        "the pool is Accepted=False",
        Duration::from_secs(20),
        || {
            let pool = site.get(&path)?.context("the pool is gone")?;
            let Some(accepted) = condition(&pool, "Accepted") else {
                return Ok(None);
            };
            let current = accepted["observedGeneration"] == pool["metadata"]["generation"];
            Ok((accepted["status"] == "False" && current)
                .then(|| accepted["message"].as_str().unwrap_or_default().to_owned()))
        },
    )?;
    ensure!(
        message.contains("10.99.0.128/25"),
        "the message does not name the value: {message}"
    );
    site.create(
        "/api/v1/namespaces/default/services",
        &objects::service("beside-a-broken-pool", "layer2"),
    )?;
    site.addresses("beside-a-broken-pool", 1)?;
    Ok(message)
}

fn breaks_in_use(site: &Site) -> Result<String> {
    let (address, node) = super::l2::announced(site, "in-use")?;
    take_webhook_away(site)?;
    let path = format!("/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/ipaddresspools/layer2");
    let good = site
        .get(&path)?
        .context("config/samples have no pool layer2")?["spec"]
        .clone();
    let mut broken = good.clone();
    if let Some(addresses) = broken["addresses"].as_array_mut() {
        addresses.push(json!("10.10.1.128/25"));
    }
    // Without an endpoint the API server passes over the webhook, but it may not have seen yet that there is none.
    site.wait("the edit gets in", Duration::from_secs(20), || {
        Ok(site.patch(&path, &json!({"spec": broken})).ok())
    })?;
    let looked = site.wait(
        "the pool is Accepted=False",
        Duration::from_secs(20),
        || {
            let pool = site.get(&path)?.context("the pool is gone")?;
            let accepted = condition(&pool, "Accepted");
            Ok(accepted
                .filter(|accepted| accepted["status"] == "False")
                .map(|accepted| accepted["message"].as_str().unwrap_or_default().to_owned()))
        },
    );
    let result = looked.and_then(|message| {
        ensure!(
            message.contains("stays in force"),
            "the message says: {message}"
        );
        ensure!(
            site.addresses_now("in-use")?.contains(&address),
            "the Service has lost {address}"
        );
        ensure!(
            super::l2::announcer(site, &address)? == node,
            "{address} is announced by another node"
        );
        // What is in force serves new Services too.
        site.create(
            "/api/v1/namespaces/default/services",
            &objects::service("new-beside-it", "layer2"),
        )?;
        site.addresses("new-beside-it", 1)?;
        Ok(format!("{address} stays on {node}: {message}"))
    });
    site.patch(&path, &json!({"spec": good}))?;
    result
}

/// Where a Community's list of aliases stands in the schema.
const COMMUNITY_LIST: &str =
    "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/communities";

fn unreadable(site: &Site) -> Result<String> {
    take_webhook_away(site)?;
    let definition =
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/communities.metallb.io";
    let ours = site.get(definition)?.context("no CRD")?;
    let list = ours
        .pointer(COMMUNITY_LIST)
        .context("no list of aliases in the CRD")?
        .clone();
    let replace = |schema: &serde_json::Value| {
        let patch = json!([{"op": "replace", "path": COMMUNITY_LIST, "value": schema}]);
        site.kubectl(&[
            "patch",
            "crd",
            "communities.metallb.io",
            "--type=json",
            "-p",
            &patch.to_string(),
        ])
    };
    replace(&json!({"type": "string"}))?;
    let odd = json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "Community",
        "metadata": {"name": "odd", "namespace": SYSTEM, "labels": {objects::LABEL: "yes"}},
        "spec": {"communities": "64512:1"},
    });
    let applied = site.wait(
        "the other schema is in force",
        Duration::from_secs(20),
        || Ok(site.apply(&odd.to_string()).ok()),
    );
    replace(&list)?;
    applied?;
    let path = format!("/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/communities/odd");
    let message = site.wait(
        "the object is Accepted=False",
        Duration::from_secs(20),
        || {
            let object = site.get(&path)?.context("the object is gone")?;
            let accepted = condition(&object, "Accepted");
            Ok(accepted
                .filter(|accepted| {
                    accepted["status"] == "False" && accepted["reason"] == "Unreadable"
                })
                .map(|accepted| accepted["message"].as_str().unwrap_or_default().to_owned()))
        },
    )?;
    ensure!(
        message.contains("64512:1"),
        "the message does not name the value: {message}"
    );
    site.create(
        "/api/v1/namespaces/default/services",
        &objects::service("beside-an-unreadable-object", "layer2"),
    )?;
    site.addresses("beside-an-unreadable-object", 1)?;
    site.delete(&path)?;
    Ok(message)
}

fn outside(site: &Site) -> Result<String> {
    let mut service = objects::service("outside", "layer2");
    service["metadata"]["annotations"] = json!({"metallb.io/loadBalancerIPs": "192.0.2.1"});
    site.create("/api/v1/namespaces/default/services", &service)?;
    let event = site.wait("an event names the pools", Duration::from_secs(20), || {
        let events = site.events("default", "Service", "outside")?;
        Ok(events
            .into_iter()
            .find(|e| e.contains("192.0.2.1") && e.contains("layer2") && e.contains("bgp")))
    })?;
    ensure!(
        site.addresses_now("outside")?.is_empty(),
        "the Service has an address"
    );
    site.delete(&service_path("outside"))?;
    Ok(event)
}
