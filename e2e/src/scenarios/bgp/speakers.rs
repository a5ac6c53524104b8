//! What routers see of a speaker that ends, dies and comes back, and of a session that is asked to be another.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::handles::{self, LIMIT};
use super::scenario;
use super::table::{INTERNAL, PLAIN, Style, Table, Want, in_styles, peer_name};
use crate::cluster::Site;
use crate::install;
use crate::plan::{NODES, ROUTER};
use crate::routers::{Family, Router};
use crate::scenarios::Scenario;
use crate::scenarios::l2::faults::{fresh_speakers, pod_on, speaker};
use crate::scenarios::l2::handles::Metrics;

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "speaker-deleted-over-bgp",
        "a speaker is stopped: every router is told, and drops that node's routes alone, which its next speaker brings back",
        |site| in_styles(site, &[PLAIN], deleted),
    ),
    scenario(
        "speaker-killed-over-bgp",
        "a speaker is killed -9: the routers have that node's routes again from the next, all others all the time",
        |site| in_styles(site, &[INTERNAL], killed),
    ),
    scenario(
        "session-parameters",
        "a new hold time resets the session of its BGPPeer alone, and the router is told that the configuration changed",
        |site| in_styles(site, &[PLAIN], parameters),
    ),
    scenario(
        "metrics-of-sessions",
        "B30, B31: each speaker counts its sessions and prefixes per router and what it announces, the operator the pool's addresses; a router is forgotten with its BGPPeer",
        |site| in_styles(site, &[PLAIN], metrics),
    ),
];

const NODE: &str = "node-2";

/// The sessions with the other nodes, by what tells them from later ones.
fn lives_of_others(table: &Table<'_>) -> Result<Vec<String>> {
    let node = NODES.iter().find(|node| node.name == NODE);
    let node = node.context("there is no such node")?;
    let own = [node.v4, node.v6];
    let mut lives = Vec::new();
    for router in &table.routers {
        for session in router.sessions()? {
            if !own.contains(&session.peer.to_string().as_str()) {
                ensure!(
                    session.established,
                    "{} lost {}",
                    router.name(),
                    session.peer
                );
                lives.push(format!(
                    "{} {} {}",
                    router.name(),
                    session.peer,
                    session.life
                ));
            }
        }
    }
    // GoBGP lists its neighbors in another order each time.
    lives.sort();
    Ok(lives)
}

fn deleted(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    handles::advertised_pool(site, "deleted", &json!({}))?;
    let addresses = handles::dual_service(site, "deleted", "deleted")?;
    table.hear_all(&addresses, &Want::all())?;
    let lives = lives_of_others(&table)?;
    let pod = pod_on(site, NODE)?.context("no speaker runs there")?;
    site.delete(&pod)?;
    for router in &table.routers {
        // ExaBGP 4.2.21 fails over the text in it (RFC 9003): it joins bytes and text, which Python 3 does not.
        let exabgp = "can not decode update message of type \"3\"";
        told(
            site,
            router,
            &[
                "administrative shutdown",
                "(6,2)",
                "6/2",
                "subcode 2",
                exabgp,
            ],
        )?;
    }
    install::rolled_out(site)?;
    table.established()?;
    table.hear_all(&addresses, &Want::all())?;
    ensure!(
        lives == lives_of_others(&table)?,
        "another node's session went down"
    );
    Ok(format!("{NODE} said so at every router, and came back"))
}

/// Waits until a router says one of these words, in small letters, of why a session ended.
fn told(site: &Site, router: &Router, words: &[&str]) -> Result<()> {
    let mut last: Vec<String> = Vec::new();
    site.wait_for(
        &format!("{} says one of {words:?}", router.name()),
        LIMIT,
        || {
            let sessions = router.sessions()?.into_iter();
            last = sessions.filter_map(|s| s.last_error).collect();
            let fits = |text: &String| words.iter().any(|word| text.to_lowercase().contains(word));
            Ok(last.iter().any(fits))
        },
    )
    .with_context(|| format!("it says {last:?}"))
}

fn killed(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    handles::advertised_pool(site, "killed", &json!({}))?;
    let addresses = handles::dual_service(site, "killed", "killed")?;
    table.hear_all(&addresses, &Want::all())?;
    let (all, lives) = (table.lives()?, lives_of_others(&table)?);
    speaker(site, NODE)?.kill();
    let died = Instant::now();
    site.wait_for("the sessions are others", Duration::from_secs(60), || {
        Ok(table.lives().is_ok_and(|now| {
            let new = now.iter().filter(|(of, life)| all.get(*of) != Some(*life));
            new.count() == 2 * table.routers.len()
        }))
    })?;
    table.hear_all(&addresses, &Want::all())?;
    let back = died.elapsed().as_secs_f64();
    ensure!(
        lives == lives_of_others(&table)?,
        "another node's session went down"
    );
    fresh_speakers(site, &[NODE])?;
    Ok(format!("back {back:.1} s after the kill"))
}

fn parameters(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    handles::advertised_pool(site, "parameters", &json!({}))?;
    let addresses = handles::dual_service(site, "parameters", "parameters")?;
    table.hear_all(&addresses, &Want::all())?;
    let mut before = table.lives()?;
    for router in &table.routers {
        let name = peer_name(router, Family::V6);
        handles::change_peer(site, &name, &json!({"holdTime": "45s"}))?;
        told(
            site,
            router,
            &["configuration change", "(6,6)", "6/6", "subcode 6"],
        )?;
        table.all_up(router)?;
        let after = table.lives()?;
        let others: Vec<_> = before
            .iter()
            .filter(|(of, life)| after.get(*of) != Some(*life))
            .map(|(of, _)| of.clone())
            .collect();
        let expected = |(of, peer): &(String, IpAddr)| of == router.name() && peer.is_ipv6();
        ensure!(
            others.len() == NODES.len() && others.iter().all(expected),
            "{name} was changed, and these sessions were reset: {others:?}"
        );
        for session in router.sessions()?.iter().filter(|s| s.peer.is_ipv6()) {
            ensure!(
                session.hold_time == Some(45),
                "the hold time is {:?}",
                session.hold_time
            );
        }
        before = after;
    }
    table.hear_all(&addresses, &Want::all())?;
    Ok("at each router the sessions over IPv6 alone".into())
}

fn metrics(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    handles::advertised_pool(site, "counted", &json!({}))?;
    let addresses = handles::dual_service(site, "counted", "counted")?;
    table.hear_all(&addresses, &Want::all())?;
    let label = |router: &Router, family: Family| {
        let place = &router.seat.place;
        match family {
            Family::V4 => format!("peer=\"{}:179\"", place.v4),
            Family::V6 => format!("peer=\"[{}]:179\"", place.v6),
        }
    };
    let wanted = [
        ("metallb_bgp_session_up", 1.0),
        ("metallb_bgp_announced_prefixes_total", 1.0),
        ("metallb_bgp_pending_prefixes_total", 0.0),
    ];
    for node in &NODES {
        for router in &table.routers {
            for family in crate::routers::BOTH {
                let label = label(router, family);
                site.wait_for(
                    &format!("{} counts what {label} was told", node.name),
                    LIMIT,
                    || {
                        let metrics = Metrics::of(site, node.name)?;
                        let fits = |(name, value): &(&str, f64)| {
                            metrics.series(name, &[&label]).first().map(|(_, v)| *v) == Some(*value)
                        };
                        let updates = metrics.sum("metallb_bgp_updates_total", &[&label]);
                        // Either side opened once and keeps the session; nobody asked us for anything.
                        let counts =
                            |name: &str| metrics.sum(&format!("metallb_bgp_{name}"), &[&label]);
                        let messages = counts("opens_sent") >= 1.0
                            && counts("opens_received") >= 1.0
                            && counts("keepalives_sent") >= 1.0
                            && counts("keepalives_received") >= 1.0
                            && counts("total_sent") >= 3.0
                            && counts("total_received") >= 2.0;
                        Ok(wanted.iter().all(fits) && updates >= 1.0 && messages)
                    },
                )?;
            }
        }
    }
    // B31: what the leader says of the pool, and each node of the Service. Of 256 IPv4 addresses the first and the last are left out.
    let pool = ["pool=\"counted\""];
    site.wait_for("the pool's figures are right", LIMIT, || {
        let leader = Metrics::of_leader(site)?;
        let of = |name: &str| leader.sum(&format!("metallb_allocator_{name}_total"), &pool);
        let totals = ["ipv4_addresses", "ipv6_addresses", "addresses"].map(of);
        let in_use = [
            "ipv4_addresses_in_use",
            "ipv6_addresses_in_use",
            "addresses_in_use",
        ];
        Ok((totals, in_use.map(of)) == ([254.0, 256.0, 510.0], [1.0, 1.0, 2.0]))
    })?;
    for node in &NODES {
        for address in &addresses {
            let ip = format!("ip=\"{address}\"");
            let node_label = format!("node=\"{}\"", node.name);
            let labels = [
                "service=\"default/counted\"",
                "protocol=\"bgp\"",
                &ip,
                &node_label,
            ];
            let announced = Metrics::of(site, node.name)?.sum("metallb_speaker_announced", &labels);
            ensure!(
                announced == 1.0,
                "{} says {announced} of {address}",
                node.name
            );
        }
    }
    let router = table.router("BIRD")?;
    for family in crate::routers::BOTH {
        handles::remove_peer(site, &peer_name(router, family))?;
        let label = label(router, family);
        site.wait_for("the router is forgotten", LIMIT, || {
            let metrics = Metrics::of(site, "node-1")?;
            let series = metrics.series("metallb_bgp_session_up", &[&label]);
            Ok(series.is_empty())
        })?;
    }
    let site_router = format!("peer=\"{}:179\"", ROUTER.v4);
    let up = Metrics::of(site, "node-1")?.sum("metallb_bgp_session_up", &[&site_router]);
    ensure!(
        up > 0.5,
        "the session with the site's router is not counted"
    );
    Ok(format!("{} series per node", 2 * table.routers.len()))
}
