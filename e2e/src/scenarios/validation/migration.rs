//! Does a BGPPeer keep every word while the version in which it is stored changes, there and back?

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::cluster::{SYSTEM, Site, condition};
use crate::objects::LABEL;

const DEFINITION: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/bgppeers.metallb.io";
const NAME: &str = "migrant";
const LIMIT: Duration = Duration::from_secs(20);

fn peers(version: &str) -> String {
    format!("/apis/metallb.io/{version}/namespaces/{SYSTEM}/bgppeers")
}

/// An API server whose definition of a kind changed answers 429 for a moment.
fn get(site: &Site, path: &str) -> Result<Value> {
    site.wait("the API server answers for peers", LIMIT, || {
        site.get(path)?.context("it is gone").map(Some)
    })
}

fn read(site: &Site, version: &str) -> Result<Value> {
    get(site, &format!("{}/{NAME}", peers(version)))
}

/// Has the API server store peers in this version from now on.
fn store_in(site: &Site, version: &str) -> Result<()> {
    let definition = site.get(DEFINITION)?.context("BGPPeer has no definition")?;
    let mut versions = definition["spec"]["versions"].clone();
    for entry in versions.as_array_mut().into_iter().flatten() {
        let stores = entry["name"] == version;
        entry["storage"] = json!(stores);
    }
    site.patch(DEFINITION, &json!({"spec": {"versions": versions}}))?;
    site.wait_for("the version is one that is stored", LIMIT, || {
        let definition = site.get(DEFINITION)?.unwrap_or_default();
        let stored = definition["status"]["storedVersions"].as_array();
        Ok(stored.is_some_and(|stored| stored.iter().any(|stored| stored == version)))
    })
}

/// What only v1beta2 can say, beside what both can, on nodes that there are none of.
fn spec() -> Value {
    json!({
        "myASN": 64512, "dynamicASN": "external", "interface": "eth9", "peerPort": 1179,
        "holdTime": "90s", "keepaliveTime": "0s", "connectTime": "10s", "routerID": "10.9.9.9",
        "passwordSecret": {"name": "secret"}, "bfdProfile": "fast", "enableGracefulRestart": true,
        "ebgpMultiHop": true, "vrf": "red", "disableMP": true, "dualStackAddressFamily": true, "localASN": 64999,
        "nodeSelectors": [{"matchExpressions": [{"key": "rack", "operator": "Exists"}, {"key": "row", "operator": "In", "values": ["none"]}]}],
    })
}

pub fn run(site: &Site) -> Result<String> {
    let object = json!({
        "apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer",
        "metadata": {"name": NAME, "namespace": SYSTEM, "labels": {LABEL: "yes"}, "annotations": {"example.com/owner": "me"}},
        "spec": spec(),
    });
    site.create(&peers("v1beta2"), &object)?;
    let written = read(site, "v1beta2")?;
    ensure!(written["spec"] == spec(), "stored is {}", written["spec"]);
    let result = there_and_back(site, &written);
    // Whatever happened, peers are stored in v1beta2 for all that follows.
    store_in(site, "v1beta2")?;
    result
}

fn there_and_back(site: &Site, written: &Value) -> Result<String> {
    let mut rewritten = 0;
    for version in ["v1beta1", "v1beta2"] {
        store_in(site, version)?;
        same(site, written, "the stored version changed")?;
        // A storage migration writes every object as it is.
        let list = get(site, &peers("v1beta2"))?;
        for peer in list["items"].as_array().into_iter().flatten() {
            let name = peer["metadata"]["name"].as_str().unwrap_or_default();
            let path = format!("{}/{name}", peers("v1beta2"));
            site.patch(
                &path,
                &json!({"metadata": {"annotations": {"example.com/migrated": version}}}),
            )?;
            rewritten += 1;
        }
        same(site, written, "it was stored anew")?;
        let status = json!({"status": {"storedVersions": [version]}});
        site.patch(&format!("{DEFINITION}/status"), &status)?;
        let older = read(site, "v1beta1")?;
        let shown = (
            &older["spec"]["myASN"],
            &older["spec"]["peerASN"],
            &older["spec"]["peerAddress"],
        );
        ensure!(
            shown == (&json!(64512), &json!(0), &json!("")),
            "v1beta1 shows {}",
            older["spec"]
        );
    }
    let accepted = site.wait("the operator reads the peer", LIMIT, || {
        Ok(condition(&read(site, "v1beta2")?, "Accepted").cloned())
    })?;
    if accepted["status"] != "True" {
        bail!("the operator says {accepted}");
    }
    Ok(format!(
        "{rewritten} peers stored anew, every field of 17 as before"
    ))
}

fn same(site: &Site, written: &Value, when: &str) -> Result<()> {
    let mut now = read(site, "v1beta2")?;
    ensure!(
        now["spec"] == written["spec"],
        "after {when} the peer is {}",
        now["spec"]
    );
    if let Some(annotations) = now["metadata"]["annotations"].as_object_mut() {
        annotations.remove("example.com/migrated");
    }
    let annotations = &now["metadata"]["annotations"];
    ensure!(
        *annotations == written["metadata"]["annotations"],
        "after {when} the annotations are {annotations}"
    );
    Ok(())
}
