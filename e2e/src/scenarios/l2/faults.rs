//! A node is lost, cut off one way, or its speaker is stopped, killed or deleted: another answers, and never two for
//! long (L33).

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::handles::{LIMIT, announced, announcer, keep_servers_away};
use super::moves::{GAP, PAUSE};
use super::scenario;
use super::watched::Watched;
use crate::cluster::{SYSTEM, Site};
use crate::host::{self, Process};
use crate::neighbors::FollowsOnly;
use crate::plan::CLIENT_L2;
use crate::prober::Prober;
use crate::scenarios::{Scenario, workloads};
use crate::{control_plane, install, neighbors, network, prober};

/// For so long a client may go without at most, and "who has" stay unanswered, when a speaker or its node is lost: the bound
/// of the maximum in `lab bench --failover` (docs/benchmarks.md).
pub const LOST: Duration = Duration::from_millis(3500);

/// Those that take the API server away are far apart, the other is the last of `restarts`: clients of it may wait for two
/// minutes before they ask again.
pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "node-loss-without-api-server",
        "the API server is away when the announcing node's link is cut: another takes over all the same",
        without_api_server,
    ),
    scenario(
        "node-loss",
        "the announcing node's link is cut; another takes over while the client asks every 5 ms",
        node_loss,
    ),
    scenario(
        "node-returns",
        "a node that was cut off comes back; the client's neighbour cache follows while it asks every 5 ms",
        node_returns,
    ),
    scenario(
        "speaker-deleted",
        "L33: the announcer's node is tainted and its speaker deleted: the address moves, and returns after the taint goes",
        speaker_deleted,
    ),
    scenario(
        "speaker-stopped-and-continued",
        "a speaker that is stopped for ten seconds is replaced, and when it goes on there are never two owners for a second",
        stopped,
    ),
    scenario(
        "hears-nothing",
        "what is sent to the announcing node is dropped: another takes over, and one is left when it hears again",
        hears_nothing,
    ),
    scenario(
        "is-not-heard",
        "what the announcing node sends is dropped: another takes over, and one is left when it is heard again",
        is_not_heard,
    ),
];

/// Cuts the announcing node's link while a client asks, puts it back, and returns the outage and who took over.
pub fn lose_announcer(
    site: &Site,
    service: &str,
    address: &str,
    node: &'static str,
) -> Result<(prober::Seen, &'static str)> {
    let _client = FollowsOnly::start(&site.run, address)?;
    let lost = cut_announcer(site, service, address, node)?;
    network::set_link(&site.run, node, true)?;
    Ok(lost)
}

/// The client must follow only what it hears unasked.
fn cut_announcer(
    site: &Site,
    service: &str,
    address: &str,
    node: &'static str,
) -> Result<(prober::Seen, &'static str)> {
    keep_servers_away(site, service, node)?;
    // Every node's kube-proxy must have followed, or what is measured is kube-proxy.
    let answers = |site: &Site| {
        prober::http(&site.run, CLIENT_L2.name, address)
            .map(|text| !text.contains(&format!(" on {node} ")))
    };
    let mut in_a_row = 0;
    site.wait_for("the servers elsewhere answer", LIMIT, || {
        in_a_row = if answers(site)? { in_a_row + 1 } else { 0 };
        Ok(in_a_row >= 8)
    })?;
    let client = Prober::start(&site.run, CLIENT_L2.name, address.parse()?, 80)?;
    std::thread::sleep(Duration::from_millis(500)); // the client asks for a while before the cut, so that a gap can be told from its start
    network::set_link(&site.run, node, false)?;
    let successor = site.wait("another node answers", Duration::from_secs(30), || {
        Ok(neighbors::who_answers(&site.run, address)?
            .into_iter()
            .find(|other| *other != node))
    })?;
    site.wait_for("the client's cache follows", LIMIT, || {
        Ok(neighbors::cached(&site.run, address)? == Some(successor))
    })?;
    site.wait_for(
        "the client is served again",
        Duration::from_secs(30),
        || Ok(answers(site).unwrap_or(false)),
    )?;
    std::thread::sleep(Duration::from_millis(500)); // and for a while after it
    Ok((client.finish()?, successor))
}

fn node_loss(site: &Site) -> Result<String> {
    let (address, node) = announced(site, "failover")?;
    let (seen, successor) = lose_announcer(site, "failover", &address, node)?;
    ensure!(
        seen.outage < LOST,
        "the client was not served for {:?}",
        seen.outage
    );
    // When the node is back there is again exactly one, whoever it is.
    announcer(site, &address)?;
    Ok(format!(
        "{node} lost, {successor} took over; the client was not served for {} ms",
        seen.outage.as_millis()
    ))
}

fn node_returns(site: &Site) -> Result<String> {
    let (address, node) = announced(site, "returning")?;
    let _client = FollowsOnly::start(&site.run, &address)?;
    let (_, successor) = cut_announcer(site, "returning", &address, node)?;
    let client = Prober::start(&site.run, CLIENT_L2.name, address.parse()?, 80)?;
    network::set_link(&site.run, node, true)?;
    let followed = site
        .wait_for("the node that is back is the only owner", LIMIT, || {
            Ok(neighbors::who_answers(&site.run, &address)? == [node])
        })
        .and_then(|()| {
            site.wait_for("the client's cache names it", LIMIT, || {
                Ok(neighbors::cached(&site.run, &address)? == Some(node))
            })
        });
    let seen = client.finish()?;
    followed?;
    Ok(format!(
        "from {node} to {successor} and back; on the way back the client was not served for {} ms and lost {} of {}",
        seen.outage.as_millis(),
        seen.lost,
        seen.sent
    ))
}

/// The speaker's process on a node.
pub fn speaker(site: &Site, node: &str) -> Result<Process> {
    let all = site.run.container_processes("/ferrolb-speaker", Some(node));
    let one = all.first().copied();
    one.with_context(|| format!("no speaker runs on {node}"))
}

/// The path of the speaker's pod on a node.
pub fn pod_on(site: &Site, node: &str) -> Result<Option<String>> {
    let pods = workloads::pods(site, "speaker")?;
    let pod = pods.iter().find(|pod| {
        pod["spec"]["nodeName"] == node && pod["metadata"]["deletionTimestamp"].is_null()
    });
    Ok(pod.and_then(|pod| {
        let name = pod["metadata"]["name"].as_str()?;
        Some(format!("/api/v1/namespaces/{SYSTEM}/pods/{name}"))
    }))
}

/// Has new pods made of speakers whose containers were killed: the kubelet lets such wait longer each time.
pub fn fresh_speakers(site: &Site, nodes: &[&str]) -> Result<()> {
    for node in nodes {
        if let Some(path) = pod_on(site, node)? {
            site.delete(&path)?;
            site.wait_for("the pod of the killed speaker goes", LIMIT * 4, || {
                Ok(site.get(&path)?.is_none())
            })?;
        }
    }
    install::rolled_out(site)
}

/// A taint that keeps speakers from a node until it is dropped.
pub struct Taint<'a> {
    site: &'a Site,
    node: &'static str,
}

impl<'a> Taint<'a> {
    pub fn put(site: &'a Site, node: &'static str) -> Result<Self> {
        let taint = Self { site, node };
        taint.set(&json!([{"key": "lab.ferrolb.io/away", "effect": "NoSchedule"}]))?;
        Ok(taint)
    }

    fn set(&self, taints: &Value) -> Result<()> {
        let path = format!("/api/v1/nodes/{}", self.node);
        let patch = json!({"spec": {"taints": taints}});
        self.site.patch(&path, &patch).map(drop)
    }
}

impl Drop for Taint<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.set(&Value::Null) {
            println!("the taint stays on {}: {error:#}", self.node);
        }
    }
}

/// A process that is stopped until this is dropped.
pub struct Stopped(pub Process);

impl Stopped {
    pub fn stop(process: Process) -> Self {
        process.signal(Signal::SIGSTOP);
        Self(process)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.signal(Signal::SIGCONT);
    }
}

fn speaker_deleted(site: &Site) -> Result<String> {
    let (address, node) = announced(site, "deleted-speaker")?;
    let watched = Watched::start(site, &address)?;
    let taint = Taint::put(site, node)?;
    let path = pod_on(site, node)?.context("no speaker runs there")?;
    site.delete(&path)?;
    let successor = watched.leaves(site, node, LIMIT)?;
    site.wait_for("the speaker's pod is gone", LIMIT * 2, || {
        Ok(site.get(&path)?.is_none())
    })?;
    watched.settles_on(site, successor, LIMIT)?;
    drop(taint);
    watched.settles_on(site, node, LIMIT * 2)?;
    let record = watched.finish()?;
    // Both ways are planned: the speaker says farewell, and the one that comes back announces before the other leaves off.
    ensure!(
        record.served.lost == 0 && record.served.outage < PAUSE && record.unanswered() < GAP,
        "from {node} to {successor} and back: {}",
        record.told()
    );
    Ok(format!(
        "{node}, {successor}, {node} again; {}",
        record.told()
    ))
}

fn stopped(site: &Site) -> Result<String> {
    const STOPPED: Duration = Duration::from_secs(10);
    let (address, node) = announced(site, "stopped")?;
    let watched = Watched::start(site, &address)?;
    let process = Stopped::stop(speaker(site, node)?);
    let since = Instant::now();
    let successor = watched.leaves(site, node, STOPPED)?;
    host::wait_until("the speaker was stopped long enough", STOPPED * 2, || {
        Ok(since.elapsed() > STOPPED)
    })?;
    let continued = SystemTime::now();
    drop(process);
    watched.settles_on(site, node, LIMIT)?;
    let record = watched.finish()?;
    let both = record.two_owners(continued);
    ensure!(
        both < Duration::from_secs(1),
        "{node} and {successor} both answered for {} ms after the first went on",
        both.as_millis()
    );
    ensure!(record.unanswered() < LOST, "{}", record.told());
    Ok(format!(
        "{node} stopped, {successor} took over; both answered for {} ms after it went on; {}",
        both.as_millis(),
        record.told()
    ))
}

fn one_way(site: &Site, name: &str, way: network::Way) -> Result<String> {
    let (address, node) = announced(site, name)?;
    keep_servers_away(site, name, node)?;
    let watched = Watched::start(site, &address)?;
    let began = SystemTime::now();
    let cut = network::OneWayCut::make(&site.run, node, way)?;
    let successor = watched.leaves(site, node, LIMIT)?;
    watched.settles_on(site, successor, LIMIT)?;
    let client = Prober::start(&site.run, CLIENT_L2.name, address.parse()?, 80)?;
    std::thread::sleep(Duration::from_secs(5)); // nothing that the cut-off node still says may mislead the client
    let meanwhile = client.finish()?;
    let healed = SystemTime::now();
    drop(cut);
    watched.settles_on(site, node, LIMIT)?;
    let record = watched.finish()?;
    let claims = record.claims_between(node, began, healed)?;
    ensure!(
        meanwhile.lost == 0,
        "while {node} was cut off and {successor} announced, the client lost {} of {}; {node} claimed the address in {claims} frames",
        meanwhile.lost,
        meanwhile.sent
    );
    ensure!(
        record.unanswered() < LOST,
        "nobody answered for {:?}",
        record.unanswered()
    );
    let both = record.two_owners(healed);
    ensure!(
        both < Duration::from_secs(1),
        "{node} and {successor} both answered for {} ms once the cut was healed",
        both.as_millis()
    );
    Ok(format!(
        "{successor} took over from {node}; both answered for {} ms after the cut was healed; {}",
        both.as_millis(),
        record.told()
    ))
}

fn hears_nothing(site: &Site) -> Result<String> {
    one_way(site, "hears-nothing", network::Way::ToMachine)
}

fn is_not_heard(site: &Site) -> Result<String> {
    one_way(site, "is-not-heard", network::Way::FromMachine)
}

fn without_api_server(site: &Site) -> Result<String> {
    let (address, node) = announced(site, "alone")?;
    keep_servers_away(site, "alone", node)?;
    let watched = Watched::start(site, &address)?;
    site.run.started_daemon(control_plane::API_SERVER)?.kill()?;
    network::set_link(&site.run, node, false)?;
    let successor = watched.leaves(site, node, LIMIT)?;
    watched.settles_on(site, successor, LIMIT)?;
    let record = watched.finish()?;
    ensure!(
        record.served.outage < LOST,
        "the client was not served for {:?}",
        record.served.outage
    );
    Ok(format!(
        "{successor} took over from {node}; {}",
        record.told()
    ))
}
