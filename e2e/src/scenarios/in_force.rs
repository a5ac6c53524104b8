//! What was in force before an edit broke it stays so, whoever was away when it broke and whoever is killed since.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Scenario;
use super::allocation::surroundings::{kill_operators, without_operator};
use super::bad_input::{bring_webhook_back, take_webhook_away};
use super::l2::handles::Metrics;
use crate::cluster::{SYSTEM, Site, condition};
use crate::plan::NODES;
use crate::{install, objects};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        group: "bad-input",
        name: "all-are-killed-while-broken",
        doc: "B33: a pool and a peer in use break, every operator and speaker is killed -9, all goes on as before the edits, and the metrics say that it is stale",
        run: killed_while_broken,
    },
    Scenario {
        group: "bad-input",
        name: "breaks-while-the-operator-is-away",
        doc: "a pool in use breaks while no operator runs; the next one keeps it as it was and says so",
        run: broken_while_away,
    },
    Scenario {
        group: "bad-input",
        name: "references-are-resolved",
        doc: "ResolvedRefs says what is wrong with the Secret, the profile, pools and aliases that objects name, and that it is mended",
        run: references,
    },
];

const LIMIT: Duration = Duration::from_secs(30);

fn path(version: &str, plural: &str, name: &str) -> String {
    format!("/apis/metallb.io/{version}/namespaces/{SYSTEM}/{plural}/{name}")
}

fn pool_path() -> String {
    path("v1beta1", "ipaddresspools", "layer2")
}

fn peer_path() -> String {
    path("v1beta2", "bgppeers", "router")
}

/// Waits until the object's condition has this status for the object as it is, and returns its message.
fn says(site: &Site, path: &str, type_: &str, status: &str) -> Result<String> {
    site.wait(&format!("{path} is {type_}={status}"), LIMIT, || {
        let object = site.get(path)?.context("the object is gone")?;
        let said = condition(&object, type_).filter(|said| {
            said["status"] == status
                && said["observedGeneration"] == object["metadata"]["generation"]
        });
        Ok(said.map(|said| said["message"].as_str().unwrap_or_default().to_owned()))
    })
}

/// An edit that only the webhook would refuse. It gets in once the API server has seen that there is none.
fn edit(site: &Site, path: &str, change: &Value) -> Result<()> {
    site.wait("the edit gets in", LIMIT, || {
        Ok(site.patch(path, change).ok())
    })?;
    Ok(())
}

const EXCLUDE: &str = "ferrolb.io/exclude";

fn excluding(value: &Value) -> Value {
    json!({"metadata": {"annotations": {EXCLUDE: value}}})
}

/// Kills every speaker with SIGKILL; returns when others run in the same pods.
fn kill_speakers(site: &Site) -> Result<()> {
    let before = super::workloads::restarts(site, "speaker")?;
    let processes = site.run.container_processes("/ferrolb-speaker", None);
    let count = u64::try_from(processes.len())?;
    ensure!(count > 0, "there is no speaker to kill");
    for process in processes {
        process.kill();
    }
    site.wait_for("the speakers run again", Duration::from_secs(60), || {
        Ok(super::workloads::restarts(site, "speaker")? >= before + count)
    })?;
    install::rolled_out(site)
}

fn killed_while_broken(site: &Site) -> Result<String> {
    let (address, _) = super::l2::announced(site, "in-use")?;
    site.create(
        "/api/v1/namespaces/default/services",
        &objects::service("routed-on", "bgp"),
    )?;
    let routed = site.addresses("routed-on", 1)?.swap_remove(0);
    super::bgp::spread_over_all(site, &routed)?;
    // Nobody is there, so it costs the real router nothing.
    let other = json!({
        "apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer",
        "metadata": {"name": "nobody", "namespace": SYSTEM, "labels": {objects::LABEL: "yes"}},
        "spec": {"myASN": 64512, "peerASN": 64515, "peerAddress": "10.10.0.250"},
    });
    site.apply(&other.to_string())?;
    says(
        site,
        &path("v1beta2", "bgppeers", "nobody"),
        "Accepted",
        "True",
    )?;
    stale(site, 0.0)?;
    take_webhook_away(site)?;
    edit(site, &pool_path(), &excluding(&json!("nonsense")))?;
    let elsewhere = |peer: &str| json!({"spec": {"peerAddress": peer}});
    edit(site, &peer_path(), &elsewhere("10.10.0.250"))?;
    let looked = killed(site, &address, &routed);
    site.patch(&peer_path(), &elsewhere("10.10.0.1"))?;
    site.patch(&pool_path(), &excluding(&Value::Null))?;
    for path in [pool_path(), peer_path()] {
        says(site, &path, "Accepted", "True")?;
    }
    stale(site, 0.0)?;
    looked
}

/// Waits until every speaker and the operator that leads publish this of their configuration (reference 5.1, B33).
fn stale(site: &Site, value: f64) -> Result<()> {
    let is = |metrics: &Metrics| {
        let of = |name: &str| metrics.series(&format!("metallb_k8s_client_{name}"), &[]);
        let value_of = |name: &str| of(name).first().map(|(_, value)| *value);
        value_of("config_stale_bool") == Some(value) && value_of("config_loaded_bool") == Some(1.0)
    };
    site.wait_for(&format!("config_stale_bool is {value}"), LIMIT, || {
        for node in &NODES {
            if !is(&Metrics::of(site, node.name)?) {
                return Ok(false);
            }
        }
        Ok(is(&Metrics::of_leader(site)?))
    })
}

fn killed(site: &Site, address: &str, routed: &str) -> Result<String> {
    for path in [pool_path(), peer_path()] {
        let message = says(site, &path, "Accepted", "False")?;
        ensure!(message.contains("stays in force"), "{path} says: {message}");
    }
    stale(site, 1.0)?;
    kill_operators(site)?;
    kill_speakers(site)?;
    for path in [pool_path(), peer_path()] {
        let message = says(site, &path, "Accepted", "False")?;
        ensure!(
            message.contains("stays in force"),
            "after the kill {path} says: {message}"
        );
    }
    stale(site, 1.0)?;
    ensure!(
        site.addresses_now("in-use")?.contains(&address.to_owned()),
        "the Service has lost {address}"
    );
    super::l2::announcer(site, address)?;
    super::bgp::spread_over_all(site, routed)?;
    // The webhook that comes back has seen none of it, and knows whose the addresses are.
    bring_webhook_back(site)?;
    install::rolled_out(site)?;
    let taken = objects::pool("taken", &["10.10.1.0/28"]).to_string();
    let (accepted, printed) = site.kubectl_prints(&["apply", "-f", "-"], &taken)?;
    ensure!(
        !accepted && printed.contains("\"layer2\""),
        "the webhook knows nothing of the pool in force: {printed}"
    );
    Ok(format!("{address} and {routed} are announced on"))
}

fn broken_while_away(site: &Site) -> Result<String> {
    let (address, _) = super::l2::announced(site, "in-use")?;
    take_webhook_away(site)?;
    let looked = without_operator(site, || {
        edit(site, &pool_path(), &excluding(&json!("nonsense")))
    })
    .and_then(|()| {
        let message = site.wait("the pool is Accepted=False", LIMIT, || {
            let pool = site.get(&pool_path())?.context("the pool is gone")?;
            let said = condition(&pool, "Accepted").filter(|said| said["status"] == "False");
            Ok(said.map(|said| said["message"].as_str().unwrap_or_default().to_owned()))
        })?;
        ensure!(message.contains("stays in force"), "it says: {message}");
        ensure!(
            site.addresses_now("in-use")?.contains(&address),
            "the Service has lost {address}"
        );
        // What is in force serves new Services too.
        site.create(
            "/api/v1/namespaces/default/services",
            &objects::service("new-beside-it", "layer2"),
        )?;
        site.addresses("new-beside-it", 1)?;
        Ok(message)
    });
    site.patch(&pool_path(), &excluding(&Value::Null))?;
    says(site, &pool_path(), "Accepted", "True")?;
    looked
}

/// An object of ours that goes with the scenario.
fn made(kind: &str, name: &str, spec: &Value) -> Value {
    let version = if kind == "BGPPeer" {
        "v1beta2"
    } else {
        "v1beta1"
    };
    json!({
        "apiVersion": format!("metallb.io/{version}"), "kind": kind,
        "metadata": {"name": name, "namespace": SYSTEM, "labels": {objects::LABEL: "yes"}},
        "spec": spec,
    })
}

fn references(site: &Site) -> Result<String> {
    const SECRETS: &str = "/api/v1/namespaces/metallb-system/secrets";
    let secret = |type_: &str, data: Value| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": type_, "stringData": data,
            "metadata": {"name": "refs-key", "namespace": SYSTEM},
        })
    };
    let secret_path = format!("{SECRETS}/refs-key");
    let peer = path("v1beta2", "bgppeers", "refs");
    let advertisement = path("v1beta1", "bgpadvertisements", "refs");
    site.delete(&secret_path)?;
    for object in [
        made(
            "BGPPeer",
            "refs",
            &json!({
                "myASN": 64512, "peerASN": 64515, "peerAddress": "10.10.0.251",
                "bfdProfile": "refs", "passwordSecret": {"name": "refs-key"},
            }),
        ),
        made(
            "BGPAdvertisement",
            "refs",
            &json!({"ipAddressPools": ["refs"], "peers": ["refs"], "communities": ["refs"]}),
        ),
    ] {
        site.apply(&object.to_string())?;
    }
    let told = (|| {
        let first = says(site, &peer, "ResolvedRefs", "False")?;
        let named = |message: &str, parts: &[&str]| {
            parts.iter().try_for_each(|part| {
                ensure!(message.contains(part), "{part:?} is not in: {message}");
                Ok(())
            })
        };
        named(
            &first,
            &[
                "spec.bfdProfile: there is no BFDProfile \"refs\"",
                "spec.passwordSecret: there is no Secret \"refs-key\" of type kubernetes.io/basic-auth",
            ],
        )?;
        let message = says(site, &advertisement, "ResolvedRefs", "False")?;
        named(
            &message,
            &[
                "no IPAddressPool is called \"refs\"",
                "defines the alias \"refs\"",
            ],
        )?;
        site.apply(&made("BFDProfile", "refs", &json!({})).to_string())?;
        site.apply(&objects::pool("refs", &["10.97.0.0/24"]).to_string())?;
        let alias = json!({"communities": [{"name": "refs", "value": "64512:7"}]});
        site.apply(&made("Community", "refs", &alias).to_string())?;
        says(site, &advertisement, "ResolvedRefs", "True")?;
        says(site, &advertisement, "Accepted", "True")?;
        let waits_for = |part: &str| {
            site.wait(&format!("the peer says {part:?}"), LIMIT, || {
                let object = site.get(&peer)?.context("the peer is gone")?;
                let said = condition(&object, "ResolvedRefs").context("no ResolvedRefs")?;
                let message = said["message"].as_str().unwrap_or_default();
                Ok((message.contains(part) && !message.contains("bfdProfile"))
                    .then(|| message.to_owned()))
            })
        };
        // One of another type is none.
        site.create(SECRETS, &secret("Opaque", json!({"password": "hush"})))?;
        waits_for("there is no Secret \"refs-key\" of type kubernetes.io/basic-auth")?;
        site.delete(&secret_path)?;
        let basic_auth = "kubernetes.io/basic-auth";
        site.create(SECRETS, &secret(basic_auth, json!({"username": "hush"})))?;
        let message = waits_for("has no password; set its key password")?;
        ensure!(!message.contains("hush"), "a Secret is told: {message}");
        site.patch(&secret_path, &json!({"stringData": {"password": "hush"}}))?;
        says(site, &peer, "ResolvedRefs", "True")?;
        Ok(first)
    })();
    site.delete(&secret_path)?;
    told
}
