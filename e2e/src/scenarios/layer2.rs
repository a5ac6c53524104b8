//! Layer 2: one node answers for an address, and another takes over when it is lost.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::Scenario;
use crate::cluster::{Site, service_path};
use crate::plan::{CLIENT_L2, NODES, ROUTER};
use crate::prober::Prober;
use crate::{neighbors, network, objects, prober};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        group: "layer2",
        name: "apply-to-arp-answer",
        doc: "from kubectl apply to an ARP answer by exactly one node, and HTTP from the client",
        run: arp,
    },
    Scenario {
        group: "layer2",
        name: "apply-to-ndp-answer",
        doc: "the same for IPv6 with NDP",
        run: ndp,
    },
    Scenario {
        group: "layer2",
        name: "delete-withdraws",
        doc: "nobody answers for the address of a deleted Service",
        run: delete,
    },
    Scenario {
        group: "layer2",
        name: "node-loss",
        doc: "the announcing node's link is cut; another takes over while the client asks every 5 ms",
        run: node_loss,
    },
    Scenario {
        group: "layer2",
        name: "node-returns",
        doc: "a node that was cut off comes back; the client's neighbour cache follows while it asks every 5 ms",
        run: node_returns,
    },
    Scenario {
        group: "layer2",
        name: "malformed-frames-are-dropped",
        doc: "malformed ARP and NDP frames are counted and dropped; answering goes on",
        run: malformed,
    },
];

const LIMIT: Duration = Duration::from_secs(20);

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

/// Makes a Service of the pool and returns its first address once one node answers for it.
pub fn announced(site: &Site, name: &str) -> Result<(String, &'static str)> {
    site.create(
        "/api/v1/namespaces/default/services",
        &objects::service(name, "layer2"),
    )?;
    let address = site.addresses(name, 1)?.remove(0);
    let node = announcer(site, &address)?;
    Ok((address, node))
}

fn reachable(site: &Site, address: &str) -> Result<String> {
    site.wait(&format!("the client reaches {address}"), LIMIT, || {
        prober::http(&site.run, CLIENT_L2.name, address).map(Some)
    })
}

fn arp(site: &Site) -> Result<String> {
    let started = Instant::now();
    site.apply(&objects::service("arp", "layer2").to_string())?;
    let address = site.addresses("arp", 1)?.remove(0);
    let node = announcer(site, &address)?;
    let elapsed = started.elapsed().as_millis();
    reachable(site, &address)?;
    Ok(format!("{address} on {node} after {elapsed} ms"))
}

fn ndp(site: &Site) -> Result<String> {
    let mut service = objects::service("ndp", "layer2");
    service["spec"]["ipFamilies"] = json!(["IPv6"]);
    let started = Instant::now();
    site.apply(&service.to_string())?;
    let address = site.addresses("ndp", 1)?.remove(0);
    ensure!(address.contains(':'), "{address} is not IPv6");
    let node = announcer(site, &address)?;
    let elapsed = started.elapsed().as_millis();
    reachable(site, &address)?;
    Ok(format!("{address} on {node} after {elapsed} ms"))
}

fn delete(site: &Site) -> Result<String> {
    let (address, _) = announced(site, "withdrawn")?;
    let started = Instant::now();
    site.delete(&service_path("withdrawn"))?;
    // One silence may be a lost frame; that the client can ask and be answered, another address shows.
    let (mut silent, mut after) = (0, started.elapsed());
    site.wait_for("nobody answers any more", LIMIT, || {
        if !neighbors::who_answers(&site.run, &address)?.is_empty() {
            silent = 0;
            after = started.elapsed();
        } else {
            silent += 1;
        }
        Ok(silent >= 3)
    })?;
    let router = neighbors::who_answers(&site.run, ROUTER.v4)?;
    ensure!(router == [ROUTER.name], "the client cannot ask: {router:?}");
    Ok(format!(
        "{address} answered last {} ms after the deletion began",
        after.as_millis()
    ))
}

/// Lets the Service use only servers that are not on this node, and waits until every node knows.
pub fn keep_servers_away(site: &Site, service: &str, node: &str) -> Result<()> {
    // A merge patch: the old key must be removed by name.
    site.patch(
        &service_path(service),
        &json!({"spec": {"selector": {"app": null, (objects::away_from(node)): "yes"}}}),
    )?;
    site.wait_for("the Service has two servers", LIMIT, || {
        let path = format!("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io/service-name%3D{service}");
        let list = site.get(&path)?.unwrap_or_default();
        let endpoints: BTreeSet<String> = list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default())
            .filter_map(|e| e["nodeName"].as_str().map(str::to_owned))
            .collect();
        Ok(endpoints.len() == NODES.len() - 1 && !endpoints.contains(node))
    })
}

/// Cuts the announcing node's link while a client asks, puts it back, and returns the outage and who took over.
pub fn lose_announcer(
    site: &Site,
    service: &str,
    address: &str,
    node: &'static str,
) -> Result<(prober::Seen, &'static str)> {
    let lost = cut_announcer(site, service, address, node)?;
    network::set_link(&site.run, node, true)?;
    Ok(lost)
}

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
        seen.longest_gap < Duration::from_secs(5),
        "the client waited {:?}",
        seen.longest_gap
    );
    // When the node is back there is again exactly one, whoever it is.
    announcer(site, &address)?;
    Ok(format!(
        "{node} lost, {successor} took over; the client waited {} ms",
        seen.longest_gap.as_millis()
    ))
}

fn node_returns(site: &Site) -> Result<String> {
    let (address, node) = announced(site, "returning")?;
    let (_, successor) = cut_announcer(site, "returning", &address, node)?;
    ensure!(
        neighbors::cached(&site.run, &address)? == Some(successor),
        "the client's cache does not name {successor}"
    );
    // The client keeps its entry in use, so that nothing but the announcer's frames moves it. Who owns the address is asked
    // from another machine: an answer to the client would move its entry too.
    let client = Prober::start(&site.run, CLIENT_L2.name, address.parse()?, 80)?;
    network::set_link(&site.run, node, true)?;
    let followed = site
        .wait_for("the node that is back is the only owner", LIMIT, || {
            Ok(neighbors::who_answers_arp(&site.run, ROUTER.name, &address) == [node])
        })
        .and_then(|()| {
            site.wait_for("the client's cache names it", LIMIT, || {
                Ok(neighbors::cached(&site.run, &address)? == Some(node))
            })
        });
    let seen = client.finish()?;
    followed?;
    Ok(format!(
        "from {node} to {successor} and back; on the way back the client waited {} ms and lost {} of {}",
        seen.longest_gap.as_millis(),
        seen.lost,
        seen.sent
    ))
}

/// Frames that look like a question for the address, each wrong in its own way.
fn malformed_frames(address: std::net::Ipv4Addr) -> Vec<Vec<u8>> {
    let from = [2, 0xfe, 0, 0, 0, 0x64];
    let mut arp = vec![0xff; 6];
    arp.extend(from);
    arp.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp.extend(from);
    arp.extend([10, 10, 0, 100, 0, 0, 0, 0, 0, 0]);
    arp.extend(address.octets());
    let change = |place: usize, byte: u8| {
        let mut frame = arp.clone();
        if let Some(b) = frame.get_mut(place) {
            *b = byte;
        }
        frame
    };
    let mut frames = vec![
        change(15, 7),  // hardware type is not Ethernet
        change(18, 8),  // hardware address length
        change(19, 16), // protocol address length
    ];
    frames.push(arp.iter().copied().take(30).collect()); // cut in the middle
    // A neighbour solicitation to all nodes whose ICMPv6 part ends after four bytes.
    let mut ndp = vec![0x33, 0x33, 0, 0, 0, 1];
    ndp.extend(from);
    ndp.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 4, 58, 255]);
    ndp.extend(
        "fd00:10::100"
            .parse::<std::net::Ipv6Addr>()
            .map(|a| a.octets())
            .unwrap_or_default(),
    );
    ndp.extend(
        "ff02::1"
            .parse::<std::net::Ipv6Addr>()
            .map(|a| a.octets())
            .unwrap_or_default(),
    );
    ndp.extend([135, 0, 0, 0]);
    frames.push(ndp);
    frames
}

/// How many frames the speaker of a node says it dropped because they were malformed.
fn dropped(site: &Site, node: &str) -> Result<f64> {
    let text = crate::host::run_in(
        &site.run.namespace(node),
        "curl",
        &["-sS", "--max-time", "2", "http://127.0.0.1:9120/metrics"],
    )?;
    let lines = text
        .lines()
        .filter(|l| l.starts_with("ferrolb_layer2_dropped_total{"))
        // Not a frame that came, but one that the kernel did not take.
        .filter(|l| !l.contains("reason=\"unsent\""));
    Ok(lines
        .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
        .sum())
}

fn malformed(site: &Site) -> Result<String> {
    let (address, node) = announced(site, "malformed")?;
    let before = dropped(site, node)?;
    let frames = malformed_frames(address.parse()?);
    let count = f64::from(u32::try_from(frames.len())?);
    neighbors::send_frames(&site.run, frames)?;
    let counted = site
        .wait("every malformed frame is counted", LIMIT, || {
            let now = dropped(site, node)? - before;
            Ok((now >= count).then_some(now))
        })
        .context("the speaker's metrics")?;
    ensure!(
        announcer(site, &address)? == node,
        "the announcing node changed"
    );
    Ok(format!(
        "{count} sent, {counted} counted, {node} answers on"
    ))
}
