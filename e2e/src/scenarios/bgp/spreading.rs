//! Routers spread flows over the nodes that announce: counted at the nodes, through each router's own kernel.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::handles;
use super::scenario;
use super::table::{INTERNAL, Laying, PLAIN, Style, Table, Want, in_styles};
use crate::cluster::{Site, service_path};
use crate::plan::{CLIENT, NODES};
use crate::routers::{Bird, Frr};
use crate::scenarios::Scenario;
use crate::{objects, prober, router};

pub const SCENARIOS: &[Scenario] = &[scenario(
    "flows-per-node",
    "flows of clients are spread over three nodes, then over two when one withdraws, by FRR's and BIRD's kernels, IPv4 and IPv6",
    |site| in_styles(site, &[PLAIN, INTERNAL], spread),
)];

/// How many connections are counted.
const FLOWS: usize = 240;

/// How many connections from a machine each node answered. With traffic policy Local it is the node that the router chose.
fn flows(site: &Site, place: &str, address: &str) -> Result<BTreeMap<String, usize>> {
    let to = SocketAddr::new(address.parse()?, 80);
    let answers = prober::run_in(&site.run, place, move || {
        let mut answers = Vec::new();
        for _ in 0..FLOWS {
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            answers.push(answer);
        }
        Ok(answers)
    })
    .with_context(|| format!("connect from {place} to {address}"))?;
    let mut counts = BTreeMap::new();
    for answer in answers {
        let node = NODES.iter().find(|node| answer.contains(node.name));
        let node = node.with_context(|| format!("nobody's answer: {answer:?}"))?;
        *counts.entry(node.name.to_owned()).or_default() += 1;
    }
    Ok(counts)
}

/// The flows went to these nodes, to each at least half of its fair share.
fn fair(counts: &BTreeMap<String, usize>, nodes: &[&str], who: &str) -> Result<()> {
    let seen: Vec<&str> = counts.keys().map(String::as_str).collect();
    ensure!(seen == nodes, "{who}: {counts:?}, not to {nodes:?}");
    let share = FLOWS / nodes.len() / 2;
    ensure!(
        counts.values().all(|count| *count >= share),
        "{who} spreads unevenly: {counts:?}"
    );
    Ok(())
}

fn spread(site: &Site, style: Style) -> Result<String> {
    if style.far {
        return Ok("the router between spreads".into());
    }
    let mut laying = Laying::of(style);
    laying.who = vec![&Frr, &Bird];
    let table = Table::lay_with(site, &laying)?;
    handles::advertised_pool(site, "spread", &json!({}))?;
    let mut service = objects::dual_stack("spread", "spread");
    service["spec"]["externalTrafficPolicy"] = json!("Local");
    let addresses = handles::service_like(site, service)?;
    // Clients are the machines of the routers themselves, and the client behind the site's router.
    let mut places: Vec<(String, String)> = table
        .routers
        .iter()
        .map(|r| (r.name().to_owned(), r.seat.place.name.clone()))
        .collect();
    places.push(("the site's router".to_owned(), CLIENT.to_owned()));
    let mut notes = Vec::new();
    let two = ["node-1", "node-3"];
    for nodes in [&["node-1", "node-2", "node-3"][..], &two[..]] {
        if nodes.len() == 2 {
            let away =
                json!({"spec": {"selector": {"app": null, (objects::away_from("node-2")): "yes"}}});
            site.patch(&service_path("spread"), &away)?;
        }
        table.hear_all(&addresses, &Want::from(nodes))?;
        for address in &addresses {
            site.wait_for("the site's router follows", handles::LIMIT, || {
                Ok(router::next_hops(&site.run, address)?.len() == nodes.len())
            })?;
            for (who, place) in &places {
                wait_for_kernel(site, place, address, nodes.len(), who)?;
                let counts = flows(site, place, address)?;
                fair(&counts, nodes, who)?;
                notes.push(
                    counts
                        .values()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join("+"),
                );
            }
        }
    }
    Ok(format!("{FLOWS} flows each: {}", notes.join(" ")))
}

/// Waits until the kernel of a router's machine has so many next hops, which follows what the router has heard.
fn wait_for_kernel(site: &Site, place: &str, address: &str, count: usize, who: &str) -> Result<()> {
    if place == CLIENT {
        return Ok(());
    }
    let place = site.run.namespace(place);
    site.wait_for(
        &format!("the kernel of {who} has {count} next hops for {address}"),
        handles::LIMIT,
        || Ok(router::next_hops_in(&place, address)?.len() == count),
    )
}
