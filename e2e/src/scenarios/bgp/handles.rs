//! What the scenarios of this group make at the API server, and what they ask of speakers.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::cluster::{SYSTEM, Site, condition};
use crate::{host, objects};

pub use crate::scenarios::l2::handles::{Label, all_nodes, created, labelled, only};

pub const LIMIT: Duration = Duration::from_secs(20);

/// The prefix that is exactly this address.
pub fn whole(address: &str) -> Result<IpNet> {
    let address: IpAddr = address
        .parse()
        .with_context(|| format!("{address} is no address"))?;
    Ok(address.into())
}

/// The prefix of this length around an address.
pub fn around(address: &str, length: u8) -> Result<IpNet> {
    let address: IpAddr = address.parse()?;
    Ok(IpNet::new(address, length)?.trunc())
}

fn path(version: &str, plural: &str, name: &str) -> String {
    let base = format!("/apis/metallb.io/{version}/namespaces/{SYSTEM}/{plural}");
    if name.is_empty() {
        base
    } else {
        format!("{base}/{name}")
    }
}

pub fn peers_path(name: &str) -> String {
    path("v1beta2", "bgppeers", name)
}

pub fn advertisement_path(name: &str) -> String {
    path("v1beta1", "bgpadvertisements", name)
}

pub fn pool_path(name: &str) -> String {
    path("v1beta1", "ipaddresspools", name)
}

fn made(kind: &str, version: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": format!("metallb.io/{version}"), "kind": kind,
        "metadata": {"name": name, "namespace": SYSTEM, "labels": {objects::LABEL: "yes"}},
        "spec": spec,
    })
}

/// Makes a BGPPeer.
pub fn peer(site: &Site, name: &str, spec: &Value) -> Result<()> {
    let object = made("BGPPeer", "v1beta2", name, spec);
    site.create(&peers_path(""), &object).map(drop)
}

/// Changes a BGPPeer by a merge patch of its spec.
pub fn change_peer(site: &Site, name: &str, spec: &Value) -> Result<()> {
    site.patch(&peers_path(name), &json!({"spec": spec}))
        .map(drop)
}

pub fn remove_peer(site: &Site, name: &str) -> Result<()> {
    site.delete(&peers_path(name))
}

/// Makes a BGPAdvertisement of this pool, with more fields of its spec.
pub fn advertise(site: &Site, name: &str, pool: &str, more: &Value) -> Result<()> {
    let mut spec = json!({"ipAddressPools": [pool]});
    json_patch::merge(&mut spec, more);
    let object = made("BGPAdvertisement", "v1beta1", name, &spec);
    site.create(&advertisement_path(""), &object).map(drop)
}

/// Changes a BGPAdvertisement by a merge patch of its spec.
pub fn readvertise(site: &Site, name: &str, spec: &Value) -> Result<()> {
    site.patch(&advertisement_path(name), &json!({"spec": spec}))
        .map(drop)
}

pub fn withdraw(site: &Site, name: &str) -> Result<()> {
    site.delete(&advertisement_path(name))
}

/// Makes aliases for communities.
pub fn alias(site: &Site, name: &str, value: &str) -> Result<()> {
    let spec = json!({"communities": [{"name": name, "value": value}]});
    let object = made("Community", "v1beta1", name, &spec);
    site.create(&path("v1beta1", "communities", ""), &object)
        .map(drop)
}

/// Makes a pool with 256 addresses of each family that no other scenario of this process has.
pub fn pool(site: &Site, name: &str) -> Result<()> {
    let number = next_pool();
    let ranges = [
        format!("10.101.{number}.0/24"),
        format!("fd00:101:0:{number}::/120"),
    ];
    make_pool(
        site,
        name,
        &ranges.each_ref().map(String::as_str),
        &json!({}),
    )
}

/// A third octet that no other pool has.
pub fn next_pool() -> u8 {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Makes a pool of these ranges, with labels.
pub fn make_pool(site: &Site, name: &str, ranges: &[&str], labels: &Value) -> Result<()> {
    let mut pool = objects::pool(name, ranges);
    json_patch::merge(&mut pool["metadata"]["labels"], labels);
    // A Service that names no pool must not come here.
    pool["spec"]["autoAssign"] = json!(false);
    pool["spec"]["avoidBuggyIPs"] = json!(true);
    site.create(&pool_path(""), &pool).map(drop)
}

/// Makes a pool and an advertisement of the same name, with more fields of the advertisement.
pub fn advertised_pool(site: &Site, name: &str, more: &Value) -> Result<()> {
    pool(site, name)?;
    advertise(site, name, name, more)
}

/// Makes a Service with an address of each family in front of all echo servers; returns the IPv4 one first.
pub fn dual_service(site: &Site, name: &str, pool: &str) -> Result<Vec<String>> {
    service_like(site, objects::dual_stack(name, pool))
}

/// The same with labels.
pub fn labelled_service(
    site: &Site,
    name: &str,
    pool: &str,
    labels: &Value,
) -> Result<Vec<String>> {
    let mut service = objects::dual_stack(name, pool);
    json_patch::merge(&mut service["metadata"]["labels"], labels);
    service_like(site, service)
}

/// Makes this Service, which has an address of each family; returns the IPv4 one first.
pub fn service_like(site: &Site, service: Value) -> Result<Vec<String>> {
    let mut addresses = created(site, &service, 2)?;
    addresses.sort_by_key(|address| address.contains(':'));
    Ok(addresses)
}

/// Makes a Secret with a password as BGPPeers name it (reference 1.4), or changes its password.
pub fn secret(site: &Site, name: &str, password: &str) -> Result<()> {
    let secrets = format!("/api/v1/namespaces/{SYSTEM}/secrets");
    let path = format!("{secrets}/{name}");
    let data = json!({"stringData": {"password": password}});
    if site.get(&path)?.is_some() {
        return site.patch(&path, &data).map(drop);
    }
    let mut object = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth",
        "metadata": {"name": name, "namespace": SYSTEM, "labels": {objects::LABEL: "yes"}},
    });
    json_patch::merge(&mut object, &data);
    site.create(&secrets, &object).map(drop)
}

/// What the speakers said since a moment, in RFC 3339, of this or of all.
pub fn speaker_log(site: &Site, since: &str) -> Result<String> {
    site.kubectl(&[
        "-n",
        SYSTEM,
        "logs",
        "-l",
        "app.kubernetes.io/component=speaker",
        "--prefix",
        "--tail=-1",
        &format!("--since-time={since}"),
    ])
}

/// Now, as [`speaker_log`] takes it.
pub fn now() -> Result<String> {
    let text = crate::host::run("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"])?;
    Ok(text.trim().to_owned())
}

/// Waits until a speaker's log has a line since then with all of these words.
pub fn speakers_say(site: &Site, since: &str, words: &[&str]) -> Result<String> {
    let told = site.wait(
        &format!("a speaker says {words:?}"),
        Duration::from_secs(60),
        || {
            let log = speaker_log(site, since)?;
            let mut lines = log.lines();
            let line = lines.find(|line| words.iter().all(|word| line.contains(word)));
            Ok(line.map(str::to_owned))
        },
    );
    told.with_context(|| {
        let log = speaker_log(site, since).unwrap_or_default();
        let lines: Vec<_> = log.lines().filter(|l| l.contains("BGP")).collect();
        format!("said:\n{}", lines.join("\n"))
    })
}

/// Waits until the condition of a BGPPeer, and an event about it, have these words.
pub fn told_on_object(site: &Site, name: &str, words: &[&str]) -> Result<()> {
    let has_all = |text: &str| words.iter().all(|word| text.contains(word));
    let mut last = (String::new(), Vec::new());
    let told = site.wait_for(
        &format!("BGPPeer {name} says {words:?} by condition and event"),
        Duration::from_secs(30),
        || {
            let object = site.get(&peers_path(name))?.unwrap_or_default();
            let condition = condition(&object, "Programmed").map(|said| said["message"].clone());
            let condition = condition.unwrap_or_default();
            let condition = condition.as_str().unwrap_or_default().to_owned();
            let events = site.events(SYSTEM, "BGPPeer", name)?;
            let is_said = has_all(&condition) && events.iter().any(|event| has_all(event));
            last = (condition, events);
            Ok(is_said)
        },
    );
    told.with_context(|| format!("it says {last:?}"))
}

/// What the speaker of a node says that it agreed on with this peer.
pub fn negotiated(site: &Site, node: &str, peer: &str) -> Result<Value> {
    let url = "http://127.0.0.1:9120/bgp/sessions";
    let arguments = ["-sS", "--max-time", "5", url];
    let text = host::run_in(&site.run.namespace(node), "curl", &arguments)?;
    let all: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    let sessions = all["sessions"].as_array();
    let session = sessions.and_then(|all| all.iter().find(|session| session["peer"] == peer));
    let session = session.with_context(|| format!("{node} knows no peer {peer}: {text}"))?;
    Ok(session["negotiated"].clone())
}
