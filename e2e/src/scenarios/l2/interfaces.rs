//! On which interfaces a node answers: those that advertisements name, and those that can (L15 to L19, reference 4.3).

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::handles::{
    LIMIT, advertise, announcer, dual_service, ip, nobody_answers, only, pool, readvertise,
    service, settles_on,
};
use super::scenario;
use super::watched::mac_of;
use crate::capture::{self, Capture, NEIGHBOURS};
use crate::cluster::Site;
use crate::frames::{self, Mac};
use crate::plan::{ASKER, Machine, NODES, SWITCH};
use crate::scenarios::{SKIPPED, Scenario};
use crate::segment::{Asker, FIRST, Nic, SECOND, SecondSegment};
use crate::{host, neighbors, network};

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "selected-interface",
        "L15, L16: of two NICs on the segment the one that the advertisement names answers with its MAC, and after a change the other",
        selected,
    ),
    scenario(
        "interface-of-another-segment",
        "L15, L16: with NICs on two segments the address is answered for only where the advertisement says, and moves to the other",
        other_segment,
    ),
    scenario(
        "interface-that-is-not-there",
        "L17: no such interface on the announcing node: nobody answers, and the event announceFailed says so",
        missing,
    ),
    scenario(
        "interfaces-of-two-advertisements",
        "L18: two advertisements that name an interface each: the node answers on both",
        two_advertisements,
    ),
    scenario(
        "interface-and-node-selected",
        "L19: interface and node are named: only that node answers, and only there",
        interface_and_node,
    ),
    scenario(
        "interfaces-of-each-node",
        "an interface counts only on the nodes that its own advertisement selects",
        per_node,
    ),
    scenario(
        "all-interfaces",
        "an advertisement without interfaces: the node answers on all, on each with the MAC of that one",
        all_interfaces,
    ),
    scenario(
        "bridge",
        "a NIC becomes a bridge's port: the bridge answers with its own MAC within a second, and the NIC again after it left",
        bridge,
    ),
    scenario(
        "bond",
        "a NIC becomes a bond's slave: the bond answers with its own MAC",
        bond,
    ),
    scenario(
        "links-come-and-go",
        "a NIC is added, taken down and up, unplugged, given another MAC, renamed and removed: within a second the right MAC answers, or nobody",
        come_and_go,
    ),
];

/// How soon a change of the links must be seen on the wire: by events, where MetalLB looks every ten seconds.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Waits until exactly this MAC answers on an interface of the client, or nobody.
fn settles(site: &Site, interface: &str, address: &str, mac: Option<Mac>) -> Result<()> {
    let expected: Vec<String> = mac.into_iter().map(frames::text).collect();
    let mut last = Vec::new();
    let mut in_a_row = 0;
    let what = format!("{expected:?} answers for {address} on {interface}");
    let settled = site.wait_for(&what, LIMIT, || {
        last = neighbors::macs_answering(&site.run, interface, address)?;
        in_a_row = if last == expected { in_a_row + 1 } else { 0 };
        // A silence may be a lost frame.
        Ok(in_a_row >= if mac.is_some() { 1 } else { 3 })
    });
    settled.with_context(|| format!("last answered: {last:?}"))
}

fn selected(site: &Site) -> Result<String> {
    pool(site, "selected-nic")?;
    let nics: Vec<Nic> = NODES
        .iter()
        .map(|node| Nic::plug(&site.run, node.name, "eth1", FIRST))
        .collect::<Result<_>>()?;
    advertise(
        site,
        "selected-nic",
        "selected-nic",
        &json!({"interfaces": ["eth0"], "nodeSelectors": [only("node-1")]}),
    )?;
    let addresses = dual_service(site, "selected-nic", "selected-nic")?;
    let (first, second) = (mac_of("node-1")?, nics[0].mac);
    for (interface, mac) in [("eth0", first), ("eth1", second), ("eth0", first)] {
        readvertise(site, "selected-nic", &json!({"interfaces": [interface]}))?;
        for address in &addresses {
            settles(site, "eth0", address, Some(mac))?;
        }
    }
    Ok(format!(
        "{addresses:?}: {} on eth0, {} on eth1",
        frames::text(first),
        frames::text(second)
    ))
}

/// A pool with one advertisement that names one node and interfaces, a Service with both families, and a second segment.
fn ground(
    site: &Site,
    name: &str,
    machines: &[Machine],
    spec: &Value,
) -> Result<([String; 2], SecondSegment)> {
    pool(site, name)?;
    let segment = SecondSegment::build(&site.run, machines)?;
    advertise(site, name, name, spec)?;
    Ok((dual_service(site, name, name)?, segment))
}

fn other_segment(site: &Site) -> Result<String> {
    let spec = json!({"interfaces": ["eth1"]});
    let (addresses, segment) = ground(site, "other-segment", &NODES, &spec)?;
    for address in &addresses {
        nobody_answers(site, address)?;
    }
    // Which node it is the other segment tells.
    let macs = site.wait("one answers on the second segment", LIMIT, || {
        let macs = neighbors::macs_answering(&site.run, "eth1", &addresses[0])?;
        Ok((macs.len() == 1).then_some(macs))
    })?;
    let nic = segment
        .nics
        .iter()
        .find(|nic| frames::text(nic.mac) == macs[0])
        .with_context(|| format!("{macs:?} is none of the nodes' second NICs"))?;
    for address in &addresses {
        settles(site, "eth1", address, Some(nic.mac))?;
    }
    readvertise(site, "other-segment", &json!({"interfaces": ["eth0"]}))?;
    for address in &addresses {
        settles_on(site, address, nic.machine)?;
        settles(site, "eth1", address, None)?;
    }
    Ok(format!(
        "{addresses:?} on {}, first by eth1, then by eth0",
        nic.machine
    ))
}

fn missing(site: &Site) -> Result<String> {
    pool(site, "missing-nic")?;
    let spec = json!({"interfaces": ["eth7"], "nodeSelectors": [only("node-2")]});
    advertise(site, "missing-nic", "missing-nic", &spec)?;
    let address = service(site, "missing-nic", "missing-nic")?;
    nobody_answers(site, &address)?;
    let event = site.wait("the event announceFailed", LIMIT / 2, || {
        let events = site.events("default", "Service", "missing-nic")?;
        // On a site that is used again there may be one about another address.
        let told = |e: &String| e.starts_with("announceFailed") && e.contains(&address);
        Ok(events.into_iter().find(told))
    })?;
    let expected = format!(
        "the interfaces specified by LB IP \"{address}\" doesn't exist in assigned node \"node-2\" with protocol \"layer2\""
    );
    ensure!(event.contains(&expected), "{event}");
    // The interface comes, and the address with it.
    readvertise(site, "missing-nic", &json!({"interfaces": ["eth0"]}))?;
    settles_on(site, &address, "node-2")?;
    Ok(event)
}

fn two_advertisements(site: &Site) -> Result<String> {
    let one = json!({"interfaces": ["eth0"], "nodeSelectors": [only("node-1")]});
    let (addresses, segment) = ground(site, "two-nics", &NODES, &one)?;
    let eth1 = segment.of("node-1")?.mac;
    for address in &addresses {
        settles_on(site, address, "node-1")?;
        settles(site, "eth1", address, None)?;
    }
    let other = json!({"interfaces": ["eth1"], "nodeSelectors": [only("node-1")]});
    advertise(site, "two-nics-other", "two-nics", &other)?;
    for address in &addresses {
        settles(site, "eth1", address, Some(eth1))?;
        settles_on(site, address, "node-1")?;
    }
    Ok(format!("{addresses:?} on eth0 and eth1 of node-1"))
}

fn interface_and_node(site: &Site) -> Result<String> {
    let spec = json!({"interfaces": ["eth1"], "nodeSelectors": [only("node-3")]});
    let (addresses, segment) = ground(site, "nic-and-node", &NODES, &spec)?;
    for address in &addresses {
        settles(site, "eth1", address, Some(segment.of("node-3")?.mac))?;
        nobody_answers(site, address)?;
    }
    Ok(format!("{addresses:?} on eth1 of node-3 only"))
}

fn per_node(site: &Site) -> Result<String> {
    let one = json!({"interfaces": ["eth0"], "nodeSelectors": [only("node-1")]});
    let (addresses, segment) = ground(site, "nic-of-each", &NODES, &one)?;
    let other = json!({"interfaces": ["eth1"], "nodeSelectors": [only("node-2")]});
    advertise(site, "nic-of-each-other", "nic-of-each", &other)?;
    let address = &addresses[0];
    let node = super::handles::baseline(address, &["node-1", "node-2"])?;
    if node == "node-1" {
        settles_on(site, address, node)?;
        settles(site, "eth1", address, None)?;
    } else {
        settles(site, "eth1", address, Some(segment.of(node)?.mac))?;
        nobody_answers(site, address)?;
    }
    Ok(format!(
        "{address} on {node} only where its advertisement says"
    ))
}

fn all_interfaces(site: &Site) -> Result<String> {
    let spec = json!({"nodeSelectors": [only("node-2")]});
    let (addresses, segment) = ground(site, "all-nics", &NODES, &spec)?;
    for address in &addresses {
        settles_on(site, address, "node-2")?;
        settles(site, "eth1", address, Some(segment.of("node-2")?.mac))?;
    }
    Ok(format!("{addresses:?} on eth0 and eth1 of node-2"))
}

/// It is asked on the second segment all the time, for an address of each family.
struct OnSecond {
    capture: Capture,
    addresses: [String; 2],
    _askers: [Asker; 2],
}

impl OnSecond {
    fn start(site: &Site, addresses: [String; 2]) -> Result<Self> {
        let capture = Capture::start(&site.run, ASKER.name, "eth1", NEIGHBOURS)?;
        let ask = |address: &str| Asker::start(&site.run, "eth1", ip(address)?);
        Ok(Self {
            capture,
            _askers: [ask(&addresses[0])?, ask(&addresses[1])?],
            addresses,
        })
    }

    /// Carries out a change, after which exactly this MAC shall answer, or nobody. Returns after how long it did, for the
    /// slower family.
    fn after(
        &self,
        what: &str,
        mac: Option<Mac>,
        change: impl FnOnce() -> Result<()>,
    ) -> Result<Duration> {
        let began = SystemTime::now();
        change()?;
        let listened = AT_ONCE * 2;
        host::wait_until("the second is over", listened * 2, || {
            Ok(began.elapsed().unwrap_or_default() > listened)
        })?;
        let heard = self.capture.heard()?;
        let mut slowest = Duration::ZERO;
        for address in &self.addresses {
            let answers = capture::answers(&heard, ip(address)?);
            let answers: Vec<_> = answers
                .iter()
                .filter(|(at, _)| *at > began)
                .map(|(at, from)| (at.duration_since(began).unwrap_or_default(), *from))
                .collect();
            // Until the second is over there may be others, or none; afterwards there is no excuse.
            let late: Vec<_> = answers
                .iter()
                .filter(|(after, from)| *after > AT_ONCE && Some(*from) != mac)
                .collect();
            ensure!(
                late.is_empty(),
                "{what}: {} answers for {address} came from others, the last from {} after {} ms",
                late.len(),
                late.last()
                    .map_or_else(String::new, |(_, from)| frames::text(*from)),
                late.last().map_or(0, |(after, _)| after.as_millis())
            );
            let Some(mac) = mac else { continue };
            let first = answers.iter().find(|(_, from)| *from == mac);
            let (after, _) = first.with_context(|| {
                format!("{what}: {} never answered for {address}", frames::text(mac))
            })?;
            ensure!(
                *after < AT_ONCE,
                "{what}: {} answered for {address} only after {} ms",
                frames::text(mac),
                after.as_millis()
            );
            slowest = slowest.max(*after);
        }
        Ok(slowest)
    }
}

/// An interface of a node that is made of others, until this is dropped.
struct Made<'a> {
    site: &'a Site,
    node: &'static str,
    name: &'static str,
}

impl Made<'_> {
    fn batch(&self, lines: &str) -> Result<()> {
        network::batch(&self.site.run.namespace(self.node), lines)
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        let namespace = self.site.run.namespace(self.node);
        let _ = host::run_always("ip", &["-n", &namespace, "link", "delete", self.name]);
    }
}

fn bridge(site: &Site) -> Result<String> {
    const NODE: Machine = NODES[0];
    let spec = json!({"nodeSelectors": [only(NODE.name)]});
    let (addresses, segment) = ground(site, "bridged", &[NODE], &spec)?;
    let eth1 = segment.of(NODE.name)?.mac;
    settles(site, "eth1", &addresses[0], Some(eth1))?;
    let second = OnSecond::start(site, addresses)?;
    let own: Mac = [0x02, 0xfe, 0, 0, 0xb0, 0x01];
    let bridge = Made {
        site,
        node: NODE.name,
        name: "lan0",
    };
    let joined = second.after("eth1 became a port", Some(own), || {
        bridge.batch(&format!(
            "link add lan0 address {} type bridge stp_state 0\nlink set lan0 up\nlink set eth1 master lan0\n",
            frames::text(own)
        ))
    })?;
    let left = second.after("eth1 left the bridge", Some(eth1), || {
        bridge.batch("link set eth1 nomaster\n")
    })?;
    Ok(format!(
        "the bridge answered after {} ms, the NIC again after {} ms",
        joined.as_millis(),
        left.as_millis()
    ))
}

fn bond(site: &Site) -> Result<String> {
    const NODE: Machine = NODES[0];
    let bond = Made {
        site,
        node: NODE.name,
        name: "bond0",
    };
    if let Err(error) = bond.batch("link add bond0 type bond mode active-backup\n") {
        let unknown = format!("{error:#}").contains("Unknown device type");
        ensure!(unknown, "{error:#}");
        return Ok(format!(
            "{SKIPPED}this kernel has no bonding; a slave is told from others by its master, as the port of `bridge` is"
        ));
    }
    let spec = json!({"nodeSelectors": [only(NODE.name)]});
    let (addresses, segment) = ground(site, "bonded", &[NODE], &spec)?;
    let eth1 = segment.of(NODE.name)?.mac;
    settles(site, "eth1", &addresses[0], Some(eth1))?;
    let second = OnSecond::start(site, addresses)?;
    let own: Mac = [0x02, 0xfe, 0, 0, 0xb0, 0x02];
    // A slave must be down to join.
    let joined = second.after("eth1 became a slave", Some(own), || {
        bond.batch(&format!(
            "link set eth1 down\nlink set eth1 master bond0\nlink set bond0 address {}\nlink set bond0 up\n",
            frames::text(own)
        ))
    })?;
    Ok(format!("the bond answered after {} ms", joined.as_millis()))
}

fn come_and_go(site: &Site) -> Result<String> {
    const NODE: Machine = NODES[1];
    let spec = json!({"nodeSelectors": [only(NODE.name)]});
    // No NIC yet.
    let (addresses, _segment) = ground(site, "coming", &[], &spec)?;
    announcer(site, &addresses[0])?;
    let second = OnSecond::start(site, addresses.clone())?;
    let mut notes = Vec::new();
    let mut note = |what: &str, after: Duration| {
        notes.push(format!("{what} {} ms", after.as_millis()));
    };
    let mut plugged = None;
    // The MAC is known once it is plugged in, which `after` needs before.
    let mac = Nic::mac_of(NODE.name, "eth1")?;
    let after = second.after("added", Some(mac), || {
        plugged = Some(Nic::plug(&site.run, NODE.name, "eth1", SECOND)?);
        Ok(())
    })?;
    note("added", after);
    let nic = plugged.context("it was not plugged in")?;
    second.after("down", None, || nic.set("down"))?;
    note("up", second.after("up", Some(mac), || nic.set("up"))?);
    let port = |state: &str| {
        let line = format!("link set {} {state}\n", nic.port());
        network::batch(&site.run.namespace(SWITCH), &line)
    };
    second.after("unplugged", None, || port("down"))?;
    note(
        "plugged",
        second.after("plugged", Some(mac), || port("up"))?,
    );
    let changed: Mac = [0x02, 0xfe, 0, 0, 0xc0, 0x01];
    let after = second.after("another MAC", Some(changed), || {
        nic.set(&format!("address {}", frames::text(changed)))
    })?;
    note("another MAC", after);
    // Its neighbours were told of the new MAC unasked.
    let heard = second.capture.heard()?;
    for address in &addresses {
        let claims = capture::claims(&heard, ip(address)?);
        let told = claims.iter().any(|(_, from)| *from == changed);
        ensure!(
            told,
            "nobody was told unasked that {address} has another MAC"
        );
    }
    let rename = |from: &str, to: &str| {
        let lines = format!("link set {from} down\nlink set {from} name {to}\nlink set {to} up\n");
        network::batch(&site.run.namespace(NODE.name), &lines)
    };
    let after = second.after("renamed", Some(changed), || rename("eth1", "lan7"))?;
    note("renamed", after);
    readvertise(site, "coming", &json!({"interfaces": ["eth1"]}))?;
    settles(site, "eth1", &addresses[0], None)?;
    let after = second.after("renamed to what is named", Some(changed), || {
        rename("lan7", "eth1")
    })?;
    note("renamed to what is named", after);
    readvertise(site, "coming", &json!({"interfaces": null}))?;
    settles_on(site, &addresses[0], NODE.name)?;
    second.after("removed", None, || {
        drop(nic);
        Ok(())
    })?;
    settles_on(site, &addresses[0], NODE.name)?;
    Ok(notes.join(", "))
}
