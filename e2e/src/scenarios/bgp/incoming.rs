//! What routers send to us: routes, many of them, requests for ours, and nonsense.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::handles::{self, LIMIT};
use super::scenario;
use super::table::{INTERNAL, Laying, PLAIN, Style, Table, Want, in_styles};
use crate::cluster::Site;
use crate::host;
use crate::plan::{Machine, NODES};
use crate::routers::{Bird, ExaBgp, Frr, GoBgp, Implementation, Setup, tell_exabgp};
use crate::scenarios::Scenario;
use crate::scenarios::l2::handles::Metrics;

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "incoming-routes-are-ignored",
        "B20: routes that routers announce to nodes change nothing in the nodes' routing tables, and no session",
        |site| in_styles(site, &[PLAIN, INTERNAL], ignored),
    ),
    scenario(
        "a-hundred-thousand-routes",
        "a router announces 100,000 routes to every node: they are ignored, memory stays bounded, other sessions stay up",
        |site| in_styles(site, &[PLAIN], many),
    ),
    scenario(
        "malformed-attributes",
        "ExaBGP announces routes with attributes that it was given octet by octet and are wrong: each is counted, and no session ends (RFC 7606)",
        |site| in_styles(site, &[PLAIN, INTERNAL], malformed),
    ),
    scenario(
        "route-refresh",
        "a router that asks has all routes again (RFC 2918), once and unchanged",
        |site| in_styles(site, &[PLAIN, INTERNAL], refresh),
    ),
];

/// The routes that a node has, both families, without what it has for the pods that come and go.
fn routing_tables(site: &Site) -> Result<Vec<String>> {
    let mut tables = Vec::new();
    for node in &NODES {
        let namespace = site.run.namespace(node.name);
        for family in ["-4", "-6"] {
            let words = ["-n", &namespace, family, "route", "show", "table", "all"];
            let text = host::run("ip", &words)?;
            let own = |line: &&str| line.contains("dev eth0") || line.contains("via");
            // Neighbour discovery has the kernel write down how long a route lasts, which is no change.
            let lines = text.lines().filter(own).map(|line| {
                let words = line.split_whitespace();
                words.collect::<Vec<_>>().join(" ")
            });
            tables.push(lines.collect::<Vec<_>>().join("\n"));
        }
    }
    Ok(tables)
}

/// Routers whose configuration announces routes of their own.
fn announcers() -> Vec<&'static dyn Implementation> {
    vec![&Frr, &Bird]
}

fn ignored(site: &Site, style: Style) -> Result<String> {
    const COUNT: u32 = 50;
    let before = routing_tables(site)?;
    let mut laying = Laying::of(style);
    laying.who = announcers();
    laying.change = Box::new(|setup: &mut Setup| setup.originates = COUNT);
    let table = Table::lay_with(site, &laying)?;
    handles::advertised_pool(site, "incoming", &json!({}))?;
    let addresses = handles::dual_service(site, "incoming", "incoming")?;
    table.hear_all(&addresses, &Want::all())?;
    for router in &table.routers {
        for node in &NODES {
            let peer = node.v4.parse()?;
            site.wait_for(
                &format!("{} has told {} its routes", router.name(), node.name),
                LIMIT,
                // FRR tells each node the others' routes besides.
                || Ok(router.told(peer)? >= u64::from(COUNT)),
            )?;
        }
    }
    let lives = table.lives()?;
    let after = routing_tables(site)?;
    ensure!(before == after, "before {before:#?}\nafter {after:#?}");
    table.unbroken_since(&lives)?;
    Ok(format!(
        "{COUNT} routes of each of {} routers",
        table.routers.len()
    ))
}

/// Resident memory of the speaker of each node, in KiB.
fn resident(site: &Site) -> Result<Vec<u64>> {
    let mut all = Vec::new();
    for node in &NODES {
        let processes = site
            .run
            .container_processes("/ferrolb-speaker", Some(node.name));
        let process = processes.first().context("no speaker runs there")?;
        let text = std::fs::read_to_string(format!("/proc/{}/status", process.id))?;
        let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let number = line.and_then(|l| l.split_whitespace().next());
        all.push(number.context("no VmRSS")?.parse()?);
    }
    Ok(all)
}

fn many(site: &Site, style: Style) -> Result<String> {
    const COUNT: u32 = 100_000;
    /// What a speaker may have more in the end, in KiB.
    const ROOM: u64 = 4096;
    let mut quiet = Laying::of(style);
    quiet.who = vec![&GoBgp];
    let others = Table::lay_with(site, &quiet)?;
    handles::advertised_pool(site, "flood", &json!({}))?;
    let addresses = handles::dual_service(site, "flood", "flood")?;
    others.hear_all(&addresses, &Want::all())?;
    let (lives, before) = (others.lives()?, resident(site)?);
    let mut laying = Laying::of(style);
    laying.who = vec![&Bird];
    laying.change = Box::new(|setup: &mut Setup| setup.originates = COUNT);
    let flooding = Table::lay_with(site, &laying)?;
    let bird = flooding.router("BIRD")?;
    for node in &NODES {
        let peer = node.v4.parse()?;
        site.wait_for("BIRD has told all its routes", LIMIT, || {
            Ok(bird.told(peer)? >= u64::from(COUNT))
        })?;
    }
    flooding.hear_all(&addresses, &Want::all())?;
    // A route that goes out after all that came in: the speakers have read it.
    let later = handles::dual_service(site, "after-the-flood", "flood")?;
    flooding.hear_all(&later, &Want::all())?;
    let after = resident(site)?;
    for ((node, before), after) in NODES.iter().zip(&before).zip(&after) {
        ensure!(
            *after <= before + ROOM,
            "the speaker of {} had {before} KiB and has {after} KiB",
            node.name
        );
    }
    others.unbroken_since(&lives)?;
    Ok(format!(
        "speakers had {before:?} KiB and have {after:?} KiB"
    ))
}

/// Attributes by code, flags and content, each of which withdraws the route that it is sent with (RFC 7606 section 7).
const WRONG: [(&str, &str); 6] = [
    ("MULTI_EXIT_DISC of two octets", "0x04 0x80 0x0001"),
    ("MULTI_EXIT_DISC that is transitive", "0x04 0xc0 0x00000001"),
    ("COMMUNITIES of three octets", "0x08 0xc0 0x000001"),
    (
        "EXTENDED COMMUNITIES of five octets",
        "0x10 0xc0 0x0000000001",
    ),
    ("LARGE_COMMUNITY of five octets", "0x20 0xc0 0x0000000001"),
    (
        "LARGE_COMMUNITY that is well-known",
        "0x20 0x40 0x000000010000000200000003",
    ),
];

/// An ATOMIC_AGGREGATE with content and an AGGREGATOR of three octets: they are thrown away, and the route is not touched
/// (sections 7.6 and 7.7).
const WITHOUT_MEANING: [&str; 2] = ["0x06 0x40 0x01", "0x07 0xc0 0x000001"];

fn malformed(site: &Site, style: Style) -> Result<String> {
    let laying = Laying {
        who: vec![&ExaBgp, &Bird],
        ..Laying::of(style)
    };
    let table = Table::lay_with(site, &laying)?;
    handles::advertised_pool(site, "malformed", &json!({}))?;
    let addresses = handles::dual_service(site, "malformed", "malformed")?;
    table.hear_all(&addresses, &Want::all())?;
    let lives = table.lives()?;
    let exabgp = table.router("ExaBGP")?;
    let own = format!("peer=\"{}:179\"", exabgp.seat.place.v4);
    let counted = |node: &str| {
        let metrics = Metrics::of(site, node)?;
        let count = metrics.sum("ferrolb_bgp_malformed_updates_total", &[&own]);
        anyhow::Ok(count)
    };
    let announce = |node: &Machine, number: usize, octets: &str| {
        let command = format!(
            "neighbor {} announce route 11.1.{number}.0/24 next-hop self attribute [ {octets} ]",
            node.v4
        );
        tell_exabgp(&exabgp.seat, &command)
    };
    let all = || {
        NODES
            .iter()
            .map(|node| counted(node.name))
            .sum::<Result<f64>>()
    };
    let at_first = all()?;
    for (number, octets) in WITHOUT_MEANING.iter().enumerate() {
        for node in &NODES {
            announce(node, 100 + number, octets)?;
        }
    }
    for (number, (what, octets)) in WRONG.iter().enumerate() {
        for node in &NODES {
            let before = counted(node.name)?;
            announce(node, number, octets)?;
            site.wait_for(
                &format!("{} counts an UPDATE with {what}", node.name),
                LIMIT,
                || Ok(counted(node.name)? > before),
            )?;
        }
    }
    // What was thrown away before those is none of them.
    let wrong = WRONG.len() * NODES.len();
    let more = all()? - at_first;
    ensure!(
        (more - f64::from(u32::try_from(wrong)?)).abs() < 0.5,
        "{wrong} were malformed, and {more} counted"
    );
    // Ours go on in both directions.
    let later = handles::dual_service(site, "after-malformed", "malformed")?;
    table.hear_all(&later, &Want::all())?;
    table.unbroken_since(&lives)?;
    Ok(format!("{} kinds, counted by every node", WRONG.len()))
}

fn refresh(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    handles::advertised_pool(site, "again", &json!({"communities": ["64512:8"]}))?;
    let addresses = handles::dual_service(site, "again", "again")?;
    let want = Want::communities(&["64512:8"]);
    table.hear_all(&addresses, &want)?;
    let lives = table.lives()?;
    let mut bounded = BTreeSet::new();
    for router in &table.routers {
        for node in &NODES {
            for address in [node.v4, node.v6] {
                let peer = address.parse()?;
                let place = &router.seat.place;
                let label = match peer {
                    IpAddr::V4(_) => format!("peer=\"{}:179\"", place.v4),
                    IpAddr::V6(_) => format!("peer=\"[{}]:179\"", place.v6),
                };
                let sent = || -> Result<(f64, f64)> {
                    let metrics = Metrics::of(site, node.name)?;
                    let of = |name: &str| metrics.sum(&format!("metallb_bgp_{name}"), &[&label]);
                    Ok((of("updates_total"), of("route_refresh_sent")))
                };
                let (before, at_first) = (router.session(peer)?.updates, sent()?);
                if !router.refresh(peer)? {
                    continue;
                }
                site.wait_for(
                    &format!("{} hears {address} again", router.name()),
                    Duration::from_secs(10),
                    || Ok(router.session(peer)?.updates > before),
                )?;
                // One UPDATE holds all routes of a family here; beginning and end are told where that was agreed on (RFC 7313).
                let now = sent()?;
                let more = (now.0 - at_first.0, now.1 - at_first.1);
                ensure!(
                    more == (1.0, 0.0) || more == (1.0, 2.0),
                    "{} sent {} UPDATEs and {} ROUTE-REFRESHes to {}",
                    node.name,
                    more.0,
                    more.1,
                    router.name()
                );
                if more.1 > 0.0 {
                    bounded.insert(router.name());
                }
            }
        }
    }
    table.hear_all(&addresses, &want)?;
    table.unbroken_since(&lives)?;
    Ok(format!(
        "FRR, BIRD and ExaBGP asked, with beginning and end told to {bounded:?}; GoBGP has no command for it"
    ))
}
