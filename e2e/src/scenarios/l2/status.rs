//! What the objects ServiceL2Status say: who announces, and on which interfaces (L2, L14).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::faults::{Stopped, Taint, pod_on, speaker};
use super::handles::{
    LIMIT, advertise, all_nodes, announced, announcer, only, path, pool, readvertise, service,
    settles_on,
};
use super::scenario;
use crate::cluster::{SYSTEM, Site, service_path};
use crate::plan::NODES;
use crate::scenarios::Scenario;
use crate::segment::SecondSegment;
use crate::{host, install, neighbors};

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "status-follows-the-announcer",
        "L2: one ServiceL2Status names the node whose MAC answers, follows a move, is put back after an edit, rests, and goes with the Service",
        follows,
    ),
    scenario(
        "status-of-a-lost-speaker",
        "a speaker is killed -9 for good: the new announcer replaces its ServiceL2Status, and one that nobody replaces is collected with the pod",
        lost,
    ),
    scenario(
        "status-names-the-interfaces",
        "L14: ServiceL2Status lists the interfaces that the advertisements name, and none where they name none",
        interfaces,
    ),
    scenario(
        "interfaces-found",
        "a pattern announces on what it matches; the condition InterfacesFound tells of names and patterns that match nothing, and which interfaces are there",
        found,
    ),
];

/// The objects about a Service.
pub fn statuses(site: &Site, service: &str) -> Result<Vec<Value>> {
    let list = format!(
        "{}?labelSelector=metallb.io/service-name%3D{service},metallb.io/service-namespace%3Ddefault",
        path("servicel2statuses", "")
    );
    let list = site.get(&list)?.unwrap_or_default();
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

/// Waits until there is exactly one and it names this node; returns it.
fn names(site: &Site, service: &str, node: &str) -> Result<Value> {
    let mut last = Vec::new();
    let found = site.wait(&format!("one ServiceL2Status names {node}"), LIMIT, || {
        last = statuses(site, service)?;
        Ok(match last.as_slice() {
            [one] if one["status"]["node"] == node => Some(one.clone()),
            _ => None,
        })
    });
    let status = found.with_context(|| format!("there is {last:?}"))?;
    let labels = &status["metadata"]["labels"];
    ensure!(labels["metallb.io/node"] == node, "its labels are {labels}");
    let named = status["metadata"]["name"].as_str().unwrap_or_default();
    ensure!(named.starts_with("l2-"), "it is called {named}");
    let says = &status["status"];
    ensure!(
        says["serviceName"] == service && says["serviceNamespace"] == "default",
        "it is about {says}"
    );
    let owner = &status["metadata"]["ownerReferences"][0];
    ensure!(owner["kind"] == "Pod", "its owner is {owner}");
    Ok(status)
}

fn follows(site: &Site) -> Result<String> {
    pool(site, "status")?;
    advertise(site, "status", "status", &json!({}))?;
    let address = service(site, "status", "status")?;
    let node = announcer(site, &address)?;
    let status = names(site, "status", node)?;
    // It rests while nothing happens.
    let began = Instant::now();
    host::wait_until("a rest", LIMIT, || {
        let now = names(site, "status", node)?;
        let version = |s: &Value| s["metadata"]["resourceVersion"].clone();
        ensure!(version(&now) == version(&status), "it was written at rest");
        Ok(began.elapsed() > Duration::from_secs(5))
    })?;
    for node in all_nodes() {
        readvertise(site, "status", &json!({"nodeSelectors": [only(node)]}))?;
        settles_on(site, &address, node)?;
        names(site, "status", node)?;
    }
    let last = NODES[2].name;
    let status = names(site, "status", last)?;
    let named = status["metadata"]["name"].as_str().unwrap_or_default();
    let object = path("servicel2statuses", named);
    site.patch(
        &format!("{object}/status"),
        &json!({"status": {"interfaces": [{"name": "eth9"}]}}),
    )?;
    site.wait_for("an edit is put back", LIMIT, || {
        let status = names(site, "status", last)?;
        Ok(status["status"]["interfaces"]
            .as_array()
            .is_none_or(Vec::is_empty))
    })?;
    site.delete(&object)?;
    names(site, "status", last)?;
    site.delete(&service_path("status"))?;
    site.wait_for("it goes with the Service", LIMIT, || {
        Ok(statuses(site, "status")?.is_empty())
    })?;
    Ok(format!("{address}: {node}, then each node in turn"))
}

/// The speaker cannot tidy up. Of a Service that another node takes over that node replaces the object; of one that no other
/// may announce it is for Kubernetes to collect what the pod owned.
fn lost(site: &Site) -> Result<String> {
    const NAME: &str = "status-lost";
    const ONLY_THERE: &str = "status-only-there";
    let (address, node) = announced(site, NAME)?;
    let status = names(site, NAME, node)?;
    let pod = pod_on(site, node)?.context("no speaker runs there")?;
    let owner = status["metadata"]["ownerReferences"][0]["name"].as_str();
    ensure!(
        owner.is_some_and(|owner| pod.ends_with(owner)),
        "it belongs to {owner:?}, not to {pod}"
    );
    pool(site, ONLY_THERE)?;
    let selectors = json!({"nodeSelectors": [only(node)]});
    advertise(site, ONLY_THERE, ONLY_THERE, &selectors)?;
    service(site, ONLY_THERE, ONLY_THERE)?;
    let alone = names(site, ONLY_THERE, node)?;
    let taint = Taint::put(site, node)?;
    let kubelet = site.run.started_daemon(&format!("kubelet-{node}"))?;
    let kubelet = Stopped::stop(kubelet.process.context("the kubelet does not run")?);
    speaker(site, node)?.kill();
    let successor = site.wait("another node answers", LIMIT, || {
        let answers = neighbors::who_answers(&site.run, &address)?;
        Ok(answers.into_iter().find(|other| *other != node))
    })?;
    names(site, NAME, successor)?;
    let left = names(site, ONLY_THERE, node)?;
    let uid = |status: &Value| status["metadata"]["uid"].clone();
    ensure!(
        uid(&left) == uid(&alone),
        "somebody replaced {alone} by {left}"
    );
    // No kubelet will confirm it.
    let name = pod.rsplit('/').next().unwrap_or_default();
    let words = ["delete", "pod", name, "-n", SYSTEM];
    site.kubectl(&[&words[..], &["--force", "--wait=false"]].concat())?;
    let of_node = path("servicel2statuses", "");
    let of_node = format!("{of_node}?labelSelector=metallb.io/node%3D{node}");
    site.wait_for("none of the lost speaker is left", LIMIT, || {
        let list = site.get(&of_node)?.context("they cannot be listed")?;
        Ok(list["items"].as_array().is_some_and(Vec::is_empty))
    })?;
    drop(kubelet);
    drop(taint);
    install::rolled_out(site)?;
    settles_on(site, &address, node)?;
    names(site, NAME, node)?;
    names(site, ONLY_THERE, node)?;
    Ok(format!(
        "{address}: {node}, {successor}, {node} again; what only {node} announces: collected, and told again"
    ))
}

fn interfaces(site: &Site) -> Result<String> {
    pool(site, "status-nics")?;
    let _segment = SecondSegment::build(&site.run, &NODES)?;
    advertise(
        site,
        "status-nics",
        "status-nics",
        &json!({"nodeSelectors": [only("node-1")]}),
    )?;
    service(site, "status-nics", "status-nics")?;
    for named in [&[][..], &["eth1"], &["eth0", "eth1"], &["eth0"], &[]] {
        readvertise(site, "status-nics", &json!({"interfaces": named}))?;
        let expected: Vec<Value> = named.iter().map(|name| json!({"name": name})).collect();
        let mut last = Value::Null;
        let listed = site.wait_for(&format!("the status lists {named:?}"), LIMIT, || {
            last = names(site, "status-nics", "node-1")?["status"]["interfaces"].clone();
            Ok(last.as_array().cloned().unwrap_or_default() == expected)
        });
        listed.with_context(|| format!("it lists {last}"))?;
    }
    Ok("none, eth1, both, eth0, none".into())
}

fn found(site: &Site) -> Result<String> {
    const NAME: &str = "found";
    pool(site, NAME)?;
    advertise(site, NAME, NAME, &json!({"interfaces": ["/eth[0-9]+/"]}))?;
    let address = service(site, NAME, NAME)?;
    let node = announcer(site, &address)?;
    let status = names(site, NAME, node)?;
    let on = &status["status"]["interfaces"];
    ensure!(*on == json!([{"name": "eth0"}]), "it is announced on {on}");
    let says = |expected: &str, parts: &[&str]| {
        let mut last = Value::Null;
        let told = site.wait_for(&format!("InterfacesFound is {expected}"), LIMIT, || {
            let adv = site
                .get(&path("l2advertisements", NAME))?
                .unwrap_or_default();
            let conditions = adv["status"]["conditions"].as_array().cloned();
            let condition = conditions
                .into_iter()
                .flatten()
                .find(|condition| condition["type"] == "InterfacesFound");
            last = condition.unwrap_or_default();
            let message = last["message"].as_str().unwrap_or_default();
            Ok(last["status"] == expected && parts.iter().all(|part| message.contains(part)))
        });
        told.with_context(|| format!("it is {last}"))
    };
    says("True", &[])?;
    let wrong = json!({"interfaces": ["eth9", "/wlan.*/"]});
    readvertise(site, NAME, &wrong)?;
    says("False", &["eth9", "/wlan.*/", "eth0"])?;
    super::handles::nobody_answers(site, &address)?;
    readvertise(site, NAME, &json!({"interfaces": ["eth0"]}))?;
    says("True", &[])?;
    announcer(site, &address)?;
    for node in all_nodes() {
        let state = path("configurationstates", &format!("speaker-{node}"));
        let state = site.get(&state)?.unwrap_or_default();
        ensure!(
            state["status"]["result"] == "Valid",
            "the ConfigurationState of {node} is {state}"
        );
    }
    Ok(format!(
        "{address} by a pattern on {node}, and not while nothing is matched"
    ))
}
