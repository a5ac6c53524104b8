//! Who asks is answered by one node, whichever kind of Service it is (L1, L3, L4, L8, L9).

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::handles::{
    LIMIT, Metrics, advertise, all_nodes, announced, announcer, created, dual_service, ip,
    nobody_answers, others, pool, reachable, served_steadily, settles_on,
};
use super::scenario;
use crate::capture::{self, Capture};
use crate::cluster::{Site, service_path};
use crate::plan::CLIENT_L2;
use crate::prober::Prober;
use crate::scenarios::Scenario;
use crate::{neighbors, objects, prober};

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "apply-to-arp-answer",
        "L1: from kubectl apply to an ARP answer by exactly one node, and HTTP from the client",
        arp,
    ),
    scenario(
        "apply-to-ndp-answer",
        "L1: from kubectl apply to an NDP answer by exactly one node, and HTTP over IPv6 from the client",
        ndp,
    ),
    scenario(
        "delete-withdraws",
        "nobody answers for the addresses of a deleted Service, and the withdrawal sends nothing",
        delete,
    ),
    scenario(
        "local-traffic-policy",
        "L3: with externalTrafficPolicy Local the node that answers has a server, only its own servers answer, and it moves when they go",
        local,
    ),
    scenario(
        "mixed-protocols",
        "L4: TCP and UDP of one Service are served on one address",
        mixed,
    ),
    scenario(
        "shared-addresses",
        "L8: Services that share an address are announced from one node, also dual-stack ones with both addresses",
        shared,
    ),
    scenario(
        "metrics",
        "L9: the pool counts its addresses, each address its requests, answers and gratuitous frames, the gauge names the node, and all of it goes with the Service",
        metrics,
    ),
    scenario(
        "malformed-frames-are-dropped",
        "malformed ARP and NDP frames are counted and dropped; answering goes on",
        malformed,
    ),
];

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
    let addresses = created(site, &objects::dual_stack("withdrawn", "layer2"), 2)?;
    for address in &addresses {
        announcer(site, address)?;
    }
    let capture = Capture::of_neighbours(&site.run)?;
    let started = Instant::now();
    site.delete(&service_path("withdrawn"))?;
    for address in &addresses {
        nobody_answers(site, address)?;
    }
    let waited = started.elapsed();
    // A farewell would tell neighbours of an owner that is none (reference 4.4). The burst of the announcement may still be
    // under way when the deletion begins; the node that would send it has known of the deletion since it fell silent.
    let silent = std::time::SystemTime::now();
    std::thread::sleep(ferrolb_neighbor::ROUND * 2); // a round that was still due would have come by then
    let heard = capture.finish()?;
    for address in &addresses {
        let late = capture::claims(&heard, ip(address)?)
            .into_iter()
            .filter(|(at, _)| *at > silent)
            .count();
        ensure!(
            late == 0,
            "{late} gratuitous frames for {address} after it was withdrawn"
        );
    }
    Ok(format!(
        "{addresses:?} silent {} ms after the deletion began",
        waited.as_millis()
    ))
}

fn local(site: &Site) -> Result<String> {
    let mut service = objects::service("local", "layer2");
    service["spec"]["externalTrafficPolicy"] = json!("Local");
    let address = created(site, &service, 1)?.remove(0);
    let node = announcer(site, &address)?;
    served_steadily(site, &address)?;
    for _ in 0..12 {
        let text = prober::http(&site.run, CLIENT_L2.name, &address)?;
        let own = text.contains(&format!(" on {node} "));
        ensure!(own, "{node} answers for the address, and was served {text}");
    }
    // Its servers go: it must hand over to a node that has some.
    site.patch(
        &service_path("local"),
        &json!({"spec": {"selector": {"app": null, (objects::away_from(node)): "yes"}}}),
    )?;
    let successor = site.wait("a node with a server answers", LIMIT, || {
        Ok(
            match neighbors::who_answers(&site.run, &address)?.as_slice() {
                [other] if *other != node => Some(*other),
                _ => None,
            },
        )
    })?;
    let text = reachable(site, &address)?;
    ensure!(
        text.contains(&format!(" on {successor} ")),
        "{successor} answers for the address, and was served {text}"
    );
    Ok(format!("{address} on {node}, then on {successor}"))
}

fn mixed(site: &Site) -> Result<String> {
    let (address, _) = announced(site, "mixed")?;
    reachable(site, &address)?;
    let client = Prober::start(&site.run, CLIENT_L2.name, address.parse()?, 80)?;
    let mut served = 0;
    site.wait_for("TCP is served beside UDP", LIMIT, || {
        prober::http(&site.run, CLIENT_L2.name, &address)?;
        served += 1;
        Ok(served >= 20)
    })?;
    let seen = client.finish()?;
    ensure!(
        seen.sent > 100 && seen.lost * 10 < seen.sent,
        "{} of {} datagrams were lost",
        seen.lost,
        seen.sent
    );
    Ok(format!(
        "{served} answers by TCP and {} by UDP from {address}",
        seen.sent - seen.lost
    ))
}

fn shared(site: &Site) -> Result<String> {
    pool(site, "shared")?;
    advertise(site, "shared", "shared", &json!({}))?;
    let share = |name: &str, port: u16| {
        let mut service = objects::dual_stack(name, "shared");
        service["metadata"]["annotations"]["metallb.io/allow-shared-ip"] = json!("together");
        service["spec"]["ports"] =
            json!([{"name": "http", "port": port, "targetPort": 8080, "protocol": "TCP"}]);
        service
    };
    let mut first = created(site, &share("sharing-first", 80), 2)?;
    let mut second = share("sharing-second", 81);
    second["metadata"]["annotations"]["metallb.io/loadBalancerIPs"] = json!(first.join(","));
    let mut second = created(site, &second, 2)?;
    first.sort();
    second.sort();
    ensure!(first == second, "{first:?} and {second:?} are not the same");
    let mut nodes = Vec::new();
    for address in &first {
        nodes.push(announcer(site, address)?);
    }
    let [node, same] = nodes[..] else {
        anyhow::bail!("{nodes:?}")
    };
    ensure!(
        node == same,
        "{first:?} are answered for by {node} and {same}"
    );
    let name = "metallb_speaker_announced";
    site.wait_for(
        "the node says that it announces both Services",
        LIMIT,
        || Ok(Metrics::of(site, node)?.sum(name, &["service=\"default/sharing-"]) == 4.0),
    )?;
    for other in others(node) {
        let series = Metrics::of(site, other)?.sum(name, &["service=\"default/sharing-"]);
        ensure!(
            series == 0.0,
            "{other} says that it announces {series} of them"
        );
    }
    // The other keeps its address and its node when one goes.
    site.delete(&service_path("sharing-first"))?;
    site.wait_for("one Service is left", LIMIT, || {
        Ok(Metrics::of(site, node)?.sum(name, &["service=\"default/sharing-"]) == 2.0)
    })?;
    for address in &first {
        settles_on(site, address, node)?;
    }
    Ok(format!("{first:?} on {node}, for two Services and for one"))
}

fn metrics(site: &Site) -> Result<String> {
    pool(site, "counted")?;
    advertise(site, "counted", "counted", &json!({}))?;
    let addresses = dual_service(site, "counted", "counted")?;
    let node = announcer(site, &addresses[0])?;
    let gauge = "metallb_speaker_announced";
    let labels = ["service=\"default/counted\"", "protocol=\"layer2\""];
    let mut notes = Vec::new();
    for address in &addresses {
        settles_on(site, address, node)?;
        let ip = format!("ip=\"{address}\"");
        let value = |name: &str| -> Result<f64> { Ok(Metrics::of(site, node)?.sum(name, &[&ip])) };
        let before = (
            value("metallb_layer2_requests_received")?,
            value("metallb_layer2_responses_sent")?,
        );
        const QUESTIONS: u8 = 5;
        for _ in 0..QUESTIONS {
            settles_on(site, address, node)?;
        }
        let asked = value("metallb_layer2_requests_received")? - before.0;
        let answered = value("metallb_layer2_responses_sent")? - before.1;
        // The client's own kernel may ask as well.
        ensure!(
            asked >= f64::from(QUESTIONS) && answered == asked,
            "{QUESTIONS} questions for {address} count as {asked} asked and {answered} answered"
        );
        let gratuitous = value("metallb_layer2_gratuitous_sent")?;
        ensure!(
            gratuitous > 0.0,
            "no gratuitous frame for {address} is counted"
        );
        let all = [labels[0], labels[1], &ip, &format!("node=\"{node}\"")];
        let announced = Metrics::of(site, node)?.sum(gauge, &all);
        ensure!(announced == 1.0, "{gauge} of {address} is {announced}");
        notes.push(format!("{address}: {asked} asked, {gratuitous} gratuitous"));
    }
    // What the leader publishes of the pool: 16 addresses of each family, one of each in use.
    let pool = ["pool=\"counted\""];
    let families = [("ipv4_", 16.0, 1.0), ("ipv6_", 16.0, 1.0), ("", 32.0, 2.0)];
    site.wait_for("the pool's figures are right", LIMIT, || {
        let leader = Metrics::of_leader(site)?;
        let value = |name: String| leader.sum(&name, &pool);
        Ok(families.iter().all(|(family, total, in_use)| {
            value(format!("metallb_allocator_{family}addresses_total")) == *total
                && value(format!("metallb_allocator_{family}addresses_in_use_total")) == *in_use
        }))
    })?;
    for other in others(node) {
        let lines = Metrics::of(site, other)?.sum(gauge, &labels);
        ensure!(lines == 0.0, "{other} says that it announces the Service");
    }
    site.delete(&service_path("counted"))?;
    for address in &addresses {
        for node in all_nodes() {
            let mut left = Vec::new();
            let gone = site.wait_for("the series of a deleted Service go", LIMIT, || {
                let metrics = Metrics::of(site, node)?;
                left = metrics
                    .lines_about(address)
                    .iter()
                    .map(ToString::to_string)
                    .collect();
                Ok(left.is_empty())
            });
            gone.with_context(|| format!("{node} still has {left:?}"))?;
        }
    }
    Ok(notes.join("; "))
}

/// Frames that look like a question for the address, each wrong in its own way.
fn malformed_frames(address: std::net::Ipv4Addr) -> Vec<Vec<u8>> {
    let from = [2, 0xfe, 0, 0, 0, 0x65];
    let mut arp = vec![0xff; 6];
    arp.extend(from);
    arp.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp.extend(from);
    arp.extend([10, 10, 0, 101, 0, 0, 0, 0, 0, 0]);
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
        "fd00:10::101"
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
    let metrics = Metrics::of(site, node)?;
    let all = metrics.sum("ferrolb_layer2_dropped_total", &[]);
    // Not a frame that came, but one that the kernel did not take.
    Ok(all - metrics.sum("ferrolb_layer2_dropped_total", &["reason=\"unsent\""]))
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
