//! What the scenarios of this group work with: pools and advertisements of their own, labels on nodes, and who answers.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::cluster::{SYSTEM, Site, service_path};
use crate::plan::{CLIENT_L2, NODES, ROUTER};
use crate::{host, neighbors, objects, prober};

pub const LIMIT: Duration = Duration::from_secs(20);

/// Waits until exactly one machine answers for the address, and says which.
pub fn announcer(site: &Site, address: &str) -> Result<&'static str> {
    site.wait(
        &format!("exactly one node answers for {address}"),
        LIMIT,
        || match neighbors::who_answers(&site.run, address)?.as_slice() {
            [one] => Ok(Some(*one)),
            _ => Ok(None),
        },
    )
}

/// Waits until this node answers for the address, and no other.
pub fn settles_on(site: &Site, address: &str, node: &str) -> Result<()> {
    let mut last = Vec::new();
    let settled = site.wait_for(
        &format!("{node} alone answers for {address}"),
        LIMIT,
        || {
            last = neighbors::who_answers(&site.run, address)?;
            Ok(last == [node])
        },
    );
    settled.with_context(|| format!("last answered: {last:?}"))
}

/// Waits until nobody answers for the address. One silence may be a lost frame, so that it takes three; that the client
/// can ask and be answered, the router shows.
pub fn nobody_answers(site: &Site, address: &str) -> Result<()> {
    let mut silent = 0;
    site.wait_for(&format!("nobody answers for {address}"), LIMIT, || {
        let answered = !neighbors::macs_answering(&site.run, "eth0", address)?.is_empty();
        silent = if answered { 0 } else { silent + 1 };
        Ok(silent >= 3)
    })?;
    let router = neighbors::who_answers(&site.run, ROUTER.v4)?;
    ensure!(router == [ROUTER.name], "the client cannot ask: {router:?}");
    Ok(())
}

/// Makes a Service of the samples' pool and returns its first address once one node answers for it.
pub fn announced(site: &Site, name: &str) -> Result<(String, &'static str)> {
    let address = service(site, name, "layer2")?;
    let node = announcer(site, &address)?;
    Ok((address, node))
}

/// Makes a Service of a pool, in front of all echo servers, and returns its first address.
pub fn service(site: &Site, name: &str, pool: &str) -> Result<String> {
    created(site, &objects::service(name, pool), 1).map(|mut addresses| addresses.remove(0))
}

/// Makes a Service with an address of each family; returns the IPv4 one first.
pub fn dual_service(site: &Site, name: &str, pool: &str) -> Result<[String; 2]> {
    let mut addresses = created(site, &objects::dual_stack(name, pool), 2)?;
    addresses.sort_by_key(|address| address.contains(':'));
    <[String; 2]>::try_from(addresses)
        .map_err(|other| anyhow::anyhow!("{other:?} is not one address of each family"))
}

/// Makes a Service and returns its addresses.
pub fn created(site: &Site, service: &Value, count: usize) -> Result<Vec<String>> {
    site.create("/api/v1/namespaces/default/services", service)?;
    let name = service["metadata"]["name"].as_str().unwrap_or_default();
    site.addresses(name, count)
}

pub fn reachable(site: &Site, address: &str) -> Result<String> {
    site.wait(&format!("the client reaches {address}"), LIMIT, || {
        prober::http(&site.run, CLIENT_L2.name, address).map(Some)
    })
}

/// Waits until the client is served many times in a row: kube-proxy may be a moment behind the announcement on any node.
pub fn served_steadily(site: &Site, address: &str) -> Result<()> {
    let mut in_a_row = 0;
    site.wait_for(&format!("{address} is served steadily"), LIMIT, || {
        let served = prober::http(&site.run, CLIENT_L2.name, address).is_ok();
        in_a_row = if served { in_a_row + 1 } else { 0 };
        Ok(in_a_row >= 12)
    })
}

/// Makes a pool with addresses of both families that no other scenario of this process has.
pub fn pool(site: &Site, name: &str) -> Result<()> {
    static NEXT: AtomicU8 = AtomicU8::new(40);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let ranges = [
        format!("10.10.{number}.16/28"),
        format!("fd00:10:0:0:{number}::10/124"),
    ];
    let mut pool = objects::pool(name, &ranges.each_ref().map(String::as_str));
    // A Service that names no pool must not come here.
    pool["spec"]["autoAssign"] = json!(false);
    site.create(&path("ipaddresspools", ""), &pool).map(drop)
}

/// Where our objects are at the API server.
pub fn path(plural: &str, name: &str) -> String {
    let base = format!("/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/{plural}");
    if name.is_empty() {
        base
    } else {
        format!("{base}/{name}")
    }
}

/// Makes an L2Advertisement of this pool, with more fields of its spec.
pub fn advertise(site: &Site, name: &str, pool: &str, spec: &Value) -> Result<()> {
    advertise_with(site, name, pool, spec, &json!({}))
}

/// [`advertise`] with annotations.
pub fn advertise_with(
    site: &Site,
    name: &str,
    pool: &str,
    spec: &Value,
    annotations: &Value,
) -> Result<()> {
    let mut spec = spec.clone();
    spec["ipAddressPools"] = json!([pool]);
    let object = json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement",
        "metadata": {"name": name, "namespace": SYSTEM, "labels": {objects::LABEL: "yes"}, "annotations": annotations},
        "spec": spec,
    });
    site.create(&path("l2advertisements", ""), &object)
        .map(drop)
}

/// Changes an L2Advertisement by a merge patch of its spec.
pub fn readvertise(site: &Site, name: &str, spec: &Value) -> Result<()> {
    site.patch(&path("l2advertisements", name), &json!({"spec": spec}))
        .map(drop)
}

pub fn withdraw(site: &Site, name: &str) -> Result<()> {
    site.delete(&path("l2advertisements", name))
}

/// A selector of one node by its name.
pub fn only(node: &str) -> Value {
    labelled("kubernetes.io/hostname", node)
}

/// A selector of one label.
pub fn labelled(key: &str, value: &str) -> Value {
    json!({"matchLabels": {key: value}})
}

/// A preference, as `spec.preferredNodeSelectors` has them.
pub fn prefer(weight: u32, selector: &Value) -> Value {
    json!({"weight": weight, "preference": selector})
}

/// A label that a node has until this is dropped.
pub struct Label<'a> {
    site: &'a Site,
    node: &'static str,
    key: String,
}

impl<'a> Label<'a> {
    pub fn put(site: &'a Site, node: &'static str, key: &str, value: &str) -> Result<Self> {
        let label = Self {
            site,
            node,
            key: key.to_owned(),
        };
        label.set(&json!(value))?;
        Ok(label)
    }

    fn set(&self, value: &Value) -> Result<()> {
        let patch = json!({"metadata": {"labels": {&self.key: value}}});
        let path = format!("/api/v1/nodes/{}", self.node);
        self.site.patch(&path, &patch).map(drop)
    }
}

impl Drop for Label<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.set(&Value::Null) {
            println!("the label {} stays on {}: {error:#}", self.key, self.node);
        }
    }
}

/// A condition of a node that lasts until it is dropped.
pub struct NetworkUnavailable<'a>(&'a Site, &'static str);

impl<'a> NetworkUnavailable<'a> {
    pub fn set_on(site: &'a Site, node: &'static str) -> Result<Self> {
        let condition = Self(site, node);
        condition.set("True")?;
        Ok(condition)
    }
}

impl NetworkUnavailable<'_> {
    fn set(&self, status: &str) -> Result<()> {
        let condition =
            json!({"type": "NetworkUnavailable", "status": status, "reason": "Lab", "message": ""});
        let patch = json!({"status": {"conditions": [condition]}}).to_string();
        let words = [
            "patch",
            "node",
            self.1,
            "--subresource=status",
            "--type=strategic",
            "-p",
        ];
        let words: Vec<&str> = words.into_iter().chain([patch.as_str()]).collect();
        self.0.kubectl(&words).map(drop)
    }
}

impl Drop for NetworkUnavailable<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.set("False") {
            println!("the condition stays on {}: {error:#}", self.1);
        }
    }
}

/// MetalLB's choice among nodes of equal preference, the first of which announces (reference 4.2, step 7).
pub fn baseline(address: &str, among: &[&'static str]) -> Result<&'static str> {
    let digest = |node: &str| Sha256::digest(format!("{node}#{address}"));
    among
        .iter()
        .copied()
        .min_by_key(|node| digest(node))
        .context("no node to choose from")
}

pub fn all_nodes() -> [&'static str; 3] {
    NODES.map(|node| node.name)
}

/// The nodes but one.
pub fn others(node: &str) -> Vec<&'static str> {
    all_nodes().into_iter().filter(|n| *n != node).collect()
}

/// Lets a Service use only servers that are not on this node, and waits until every node knows.
pub fn keep_servers_away(site: &Site, service: &str, node: &str) -> Result<()> {
    // A merge patch: the old key must be removed by name.
    site.patch(
        &service_path(service),
        &json!({"spec": {"selector": {"app": null, (objects::away_from(node)): "yes"}}}),
    )?;
    site.wait_for("the Service has two servers", LIMIT, || {
        let path = format!("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io/service-name%3D{service}");
        let list = site.get(&path)?.unwrap_or_default();
        let endpoints: std::collections::BTreeSet<String> = list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default())
            .filter_map(|e| e["nodeName"].as_str().map(str::to_owned))
            .collect();
        Ok(endpoints.len() == NODES.len() - 1 && !endpoints.contains(node))
    })
}

/// Where each process publishes its figures, to its own machine or pod.
const METRICS: &str = "http://127.0.0.1:9120/metrics";

/// What a process publishes.
pub struct Metrics(String);

impl Metrics {
    /// What the speaker of a node publishes.
    pub fn of(site: &Site, node: &str) -> Result<Self> {
        let arguments = ["-sS", "--max-time", "2", METRICS];
        host::run_in(&site.run.namespace(node), "curl", &arguments).map(Self)
    }

    /// What the operator that leads publishes, read within its pod: it listens there only.
    pub fn of_leader(site: &Site) -> Result<Self> {
        let lease =
            format!("/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/ferrolb-operator");
        let lease = site.get(&lease)?.context("there is no lease")?;
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        // The identity is the pod's name and something that is new with each process.
        let pod = holder.split('_').next().unwrap_or_default();
        let pod = site.get(&format!("/api/v1/namespaces/{SYSTEM}/pods/{pod}"))?;
        let node = pod.unwrap_or_default()["spec"]["nodeName"].clone();
        let node = node.as_str().context("the leader runs nowhere")?;
        let processes = site
            .run
            .container_processes("/ferrolb-operator", Some(node));
        let process = processes.first().context("no operator runs there")?;
        let target = process.id.to_string();
        let words = [
            "--net",
            "--target",
            &target,
            "curl",
            "-sS",
            "--max-time",
            "2",
        ];
        let words: Vec<_> = words.into_iter().chain([METRICS]).collect();
        host::run("nsenter", &words).map(Self)
    }

    /// The series of a metric whose labels all contain these texts, with their values.
    pub fn series(&self, name: &str, labels: &[&str]) -> Vec<(&str, f64)> {
        let fits = |line: &&str| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        };
        self.0
            .lines()
            .filter(fits)
            .filter_map(|line| {
                let (series, value) = line.rsplit_once(' ')?;
                Some((series, value.parse().ok()?))
            })
            .collect()
    }

    /// Their sum; 0 where there is none.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.series(name, labels)
            .iter()
            .map(|(_, value)| value)
            .sum()
    }

    /// Every line that speaks of this address.
    pub fn lines_about(&self, address: &str) -> Vec<&str> {
        let label = format!("ip=\"{address}\"");
        self.0.lines().filter(|l| l.contains(&label)).collect()
    }
}

/// An address as a type, of either family.
pub fn ip(address: &str) -> Result<IpAddr> {
    address
        .parse()
        .with_context(|| format!("{address} is no address"))
}
