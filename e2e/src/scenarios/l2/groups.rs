//! Who is to be asked for IPv6 addresses: solicited-node groups, which network cards and snooping switches filter by. The
//! cables of the lab filter nothing, so that what the kernel was told to join is looked at, and one bridge snoops.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::bare::Bare;
use super::faults::{Stopped, fresh_speakers, speaker};
use super::handles::{
    LIMIT, advertise, all_nodes, announced, created, only, others, path, settles_on,
};
use super::packets::listen_until;
use super::scenario;
use crate::capture::{Capture, NEIGHBOURS};
use crate::cluster::{Site, service_path};
use crate::frames::{self, Message};
use crate::plan::{ASKER, NODES, SWITCH};
use crate::scenarios::Scenario;
use crate::segment::{self, SECOND, SecondSegment};
use crate::{host, neighbors, network, objects};

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "solicited-node-groups",
        "the groups of the held IPv6 addresses, and no others, are joined on each interface in use, and left with the Service",
        joined,
    ),
    scenario(
        "a-switch-that-snoops",
        "a switch that forwards multicast by MLD reports only hands solicitations for a held address to its node",
        snooped,
    ),
    scenario(
        "receives-all",
        "--receive-all=always has the kernel let every frame in while the speaker runs, and no longer; a cable needs nothing of it",
        receives_all,
    ),
];

/// Of a pool whose groups (ff02::1:ffab:10 and on) no other address of the site shares.
const FIRST: &str = "fd00:10:0:0:39::ab:10";
const GROUPS: &str = "ff02::1:ffab:";
const MACS: &str = "33:33:ff:ab:00:";

fn ground(site: &Site, name: &str, spec: &Value) -> Result<SecondSegment> {
    let mut pool = objects::pool(name, &["10.10.39.16/28", &format!("{FIRST}/124")]);
    pool["spec"]["autoAssign"] = json!(false);
    site.create(&path("ipaddresspools", ""), &pool)?;
    let segment = SecondSegment::build(&site.run, &NODES)?;
    advertise(site, name, name, spec)?;
    Ok(segment)
}

fn held(site: &Site, name: &str, pool: &str) -> Result<Ipv6Addr> {
    let mut service = objects::service(name, pool);
    service["spec"]["ipFamilies"] = json!(["IPv6"]);
    Ok(created(site, &service, 1)?.remove(0).parse()?)
}

/// What an interface has joined of the pool's groups: their hardware addresses, each with how often, and those that the kernel
/// reports by MLD.
fn memberships(
    site: &Site,
    node: &str,
    interface: &str,
) -> Result<(BTreeMap<String, u64>, BTreeSet<Ipv6Addr>)> {
    let namespace = site.run.namespace(node);
    let words = ["-n", &namespace, "-j", "maddress", "show", "dev", interface];
    let all: Value = serde_json::from_str(&host::run("ip", &words)?)?;
    let (mut macs, mut groups) = (BTreeMap::new(), BTreeSet::new());
    for group in all[0]["maddr"].as_array().into_iter().flatten() {
        if let Some(mac) = group["link"].as_str().filter(|m| m.starts_with(MACS)) {
            macs.insert(mac.to_owned(), group["users"].as_u64().unwrap_or(1));
        }
        let address = group["address"].as_str().filter(|a| a.starts_with(GROUPS));
        groups.extend(address.and_then(|a| a.parse::<Ipv6Addr>().ok()));
    }
    Ok((macs, groups))
}

/// Waits until a node has joined the groups of exactly these addresses on both of its interfaces.
fn settles(site: &Site, node: &str, addresses: &[Ipv6Addr]) -> Result<()> {
    let asked = |address: &Ipv6Addr| frames::Ndp::solicitation([0; 6], *address, *address);
    let groups: BTreeSet<_> = addresses.iter().map(|a| asked(a).destination).collect();
    // Twice: by the speaker's own packet membership, and by the kernel with the group that it reports.
    let macs: BTreeMap<_, _> = addresses
        .iter()
        .map(|a| (frames::text(asked(a).to), 2))
        .collect();
    for interface in ["eth0", "eth1"] {
        let mut last = Default::default();
        let what = format!("{node} has joined {groups:?} on {interface}");
        let settled = site.wait_for(&what, LIMIT, || {
            last = memberships(site, node, interface)?;
            Ok(last.0 == macs && last.1 == groups)
        });
        settled.with_context(|| format!("it has joined {last:?}"))?;
    }
    Ok(())
}

fn joined(site: &Site) -> Result<String> {
    const NODE: &str = "node-2";
    const NAME: &str = "groups";
    let _segment = ground(site, NAME, &json!({"nodeSelectors": [only(NODE)]}))?;
    let first = held(site, "groups-first", NAME)?;
    settles(site, NODE, &[first])?;
    let second = held(site, "groups-second", NAME)?;
    settles(site, NODE, &[first, second])?;
    for other in others(NODE) {
        settles(site, other, &[])?;
    }
    site.delete(&service_path("groups-first"))?;
    settles(site, NODE, &[second])?;
    site.delete(&service_path("groups-second"))?;
    for node in all_nodes() {
        settles(site, node, &[])?;
    }
    Ok(format!("{first} and {second} on eth0 and eth1 of {NODE}"))
}

fn snooped(site: &Site) -> Result<String> {
    const NODE: &str = "node-2";
    const NAME: &str = "snooped";
    let spec = json!({"interfaces": ["eth1"], "nodeSelectors": [only(NODE)]});
    let segment = ground(site, NAME, &spec)?;
    // It filters once its first query has been answered, for which it gives a second (in hundredths).
    let set = |what: &str| format!("link set {SECOND} type bridge {what}\n");
    let snooping = [
        "mcast_query_response_interval 100",
        "mcast_querier 1 mcast_snooping 1",
    ];
    network::batch(&site.run.namespace(SWITCH), &snooping.map(set).concat())?;
    let free: Ipv6Addr = (FIRST.parse::<Ipv6Addr>()?.to_bits() + 15).into();
    site.wait_for(
        "solicitations that nobody wants are kept back",
        LIMIT,
        || Ok(!reaches(site, NODE, free)?),
    )?;
    let address = held(site, NAME, NAME)?;
    let mac = frames::text(segment.of(NODE)?.mac);
    let mut last = Vec::new();
    let answered = site.wait_for("the node answers on the second segment", LIMIT, || {
        last = neighbors::macs_answering(&site.run, "eth1", &address.to_string())?;
        Ok(last == [mac.clone()])
    });
    answered.with_context(|| format!("last answered: {last:?}"))?;
    ensure!(reaches(site, NODE, address)?, "{address} is not asked for");
    ensure!(!reaches(site, NODE, free)?, "the switch filters no more");
    Ok(format!("{address} is asked for, {free} is not"))
}

/// Whether a solicitation of the asker on the second segment comes to a node.
fn reaches(site: &Site, node: &str, address: Ipv6Addr) -> Result<bool> {
    let capture = Capture::start(&site.run, node, "eth1", NEIGHBOURS)?;
    let question = segment::question(address.into())?;
    segment::send_from(&site.run, ASKER.name, "eth1", vec![question])?;
    listen_until(SystemTime::now(), Duration::from_millis(300))?;
    let heard = capture.finish()?;
    let came = |message: &Message| message.asks_for(address.into());
    Ok(heard.iter().any(|h| came(&h.message)))
}

/// How often an interface was told to receive every frame, and every multicast frame.
fn told(site: &Site, node: &str) -> Result<(u64, u64)> {
    let namespace = site.run.namespace(node);
    let words = ["-n", &namespace, "-d", "-j", "link", "show", "dev", "eth0"];
    let links: Value = serde_json::from_str(&host::run("ip", &words)?)?;
    let count = |what: &str| {
        links[0][what]
            .as_u64()
            .with_context(|| format!("no {what}"))
    };
    Ok((count("promiscuity")?, count("allmulti")?))
}

fn receives_all(site: &Site) -> Result<String> {
    let (address, node) = announced(site, "receives-all")?;
    let (promiscuous, multicast) = told(site, node)?;
    ensure!(
        (promiscuous, multicast) == (0, 0),
        "the NIC receives all already: {promiscuous}, {multicast}"
    );
    let process = speaker(site, node)?;
    let mut bare = Bare::like(site, node, process)?;
    bare.0.arguments.push("--receive-all=always".to_owned());
    let kubelet = site.run.started_daemon(&format!("kubelet-{node}"))?;
    let kubelet = Stopped::stop(kubelet.process.context("the kubelet does not run")?);
    process.kill();
    bare.0.start()?;
    let mut last = (0, 0);
    let received = site.wait_for("the NIC receives all", LIMIT, || {
        last = told(site, node)?;
        // For ARP and for NDP.
        Ok(last == (2, 2))
    });
    received.with_context(|| format!("told {last:?}; {}", bare.0.log_tail(10)))?;
    settles_on(site, &address, node)?;
    drop(bare);
    site.wait_for("the NIC filters again", LIMIT, || {
        Ok(told(site, node)? == (0, 0))
    })?;
    drop(kubelet);
    fresh_speakers(site, &[node])?;
    Ok(format!("eth0 of {node}"))
}
