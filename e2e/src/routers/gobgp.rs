//! GoBGP: gobgpd, asked by its own command in JSON.

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;

use anyhow::{Context, Result};
use ipnet::IpNet;
use serde_json::Value;

use super::{Family, Implementation, Neighbor, Program, Route, Seat, Session};

pub struct GoBgp;

/// `api.PeerState.SessionState` of an established session.
const ESTABLISHED: u64 = 6;

/// Codes of path attributes (RFC 4271, 1997, 4760, 8092), which is how GoBGP names them.
const AS_PATH: u64 = 2;
const NEXT_HOP: u64 = 3;
const LOCAL_PREF: u64 = 5;
const COMMUNITIES: u64 = 8;
const MP_REACH_NLRI: u64 = 14;
const LARGE_COMMUNITIES: u64 = 32;

impl Implementation for GoBgp {
    fn name(&self) -> &'static str {
        "GoBGP"
    }

    fn number(&self) -> u8 {
        3
    }

    fn prepare(&self, at: &Seat) -> Result<Vec<Program>> {
        fs::write(at.file("gobgpd.toml"), configuration(at)?)?;
        let arguments = [
            "-f",
            &at.file("gobgpd.toml"),
            "-t",
            "toml",
            "--api-hosts",
            "127.0.0.1:50051",
            "--pprof-disable",
        ];
        Ok(vec![Program {
            suffix: "",
            path: "/usr/bin/gobgpd".into(),
            arguments: arguments.map(str::to_owned).to_vec(),
            environment: Vec::new(),
        }])
    }

    fn is_ready(&self, at: &Seat) -> Result<bool> {
        // It answers before it has read all of its configuration.
        let known = ask(at, &["neighbor"])?.as_array().map_or(0, Vec::len);
        Ok(known == at.setup.neighbors.len())
    }

    fn sessions(&self, at: &Seat) -> Result<Vec<Session>> {
        let answer = ask(at, &["neighbor"])?;
        let log = fs::read_to_string(at.run.log(&at.place.name)).unwrap_or_default();
        let all = answer.as_array().into_iter().flatten();
        all.map(|peer| session(peer, &log)).collect()
    }

    fn routes(&self, at: &Seat, prefix: IpNet) -> Result<Vec<Route>> {
        let family = if prefix.addr().is_ipv4() {
            Family::V4
        } else {
            Family::V6
        };
        let table = ask(at, &["global", "rib", "-a", family.ip()])?;
        let paths = table[prefix.to_string()].as_array().into_iter().flatten();
        paths.map(route).collect()
    }

    fn refresh(&self, _: &Seat, _: IpAddr) -> Result<bool> {
        // `softresetin` looks again at what it keeps, and asks nobody.
        Ok(false)
    }

    fn shut_down(&self, at: &Seat, peer: IpAddr, reason: Option<&str>) -> Result<bool> {
        let peer = peer.to_string();
        let Some(reason) = reason else {
            return gobgp(at, &["neighbor", &peer, "enable"]).map(|_| true);
        };
        // `disable` drops the reason, and after `shutdown`, which sends it, the session would come back.
        gobgp(at, &["neighbor", &peer, "shutdown", "--reason", reason])?;
        gobgp(at, &["neighbor", &peer, "disable"]).map(|_| true)
    }

    fn always_extends_next_hops(&self) -> bool {
        true
    }
}

fn configuration(at: &Seat) -> Result<String> {
    let setup = &at.setup;
    let mut text = format!(
        "[global.config]\n  as = {}\n  router-id = \"{}\"\n  local-address-list = [\"{}\", \"{}\"]\n",
        setup.asn, at.place.v4, at.place.v4, at.place.v6
    );
    for neighbor in &setup.neighbors {
        write_neighbor(&mut text, at, neighbor)?;
    }
    Ok(text)
}

fn write_neighbor(text: &mut String, at: &Seat, neighbor: &Neighbor) -> Result<()> {
    let asn = at.setup.asn;
    writeln!(
        text,
        "[[neighbors]]\n [neighbors.config]\n  neighbor-address = \"{}\"\n  peer-as = {}\n  local-as = {asn}",
        neighbor.address, neighbor.asn
    )?;
    if let Some(password) = &neighbor.password {
        writeln!(text, "  auth-password = \"{password}\"")?;
    }
    writeln!(
        text,
        " [neighbors.transport.config]\n  local-address = \"{}\"\n  passive-mode = {}",
        neighbor.local(&at.place),
        neighbor.passive
    )?;
    // Whoever is refused once is taken again soon.
    writeln!(
        text,
        " [neighbors.timers.config]\n  connect-retry = 2\n  idle-hold-time-after-reset = 1"
    )?;
    if let Some((hold, keepalive)) = neighbor.timers {
        writeln!(
            text,
            "  hold-time = {hold}\n  keepalive-interval = {keepalive}"
        )?;
    }
    if let Some(hops) = neighbor.multihop(asn) {
        writeln!(
            text,
            " [neighbors.ebgp-multihop.config]\n  enabled = true\n  multihop-ttl = {hops}"
        )?;
    }
    if neighbor.ttl_security {
        writeln!(
            text,
            " [neighbors.ttl-security.config]\n  enabled = true\n  ttl-min = 255"
        )?;
    }
    for family in &neighbor.families {
        writeln!(
            text,
            " [[neighbors.afi-safis]]\n  [neighbors.afi-safis.config]\n   afi-safi-name = \"{}-unicast\"",
            family.ip()
        )?;
        if let Some(most) = neighbor.most_prefixes {
            writeln!(
                text,
                "  [neighbors.afi-safis.prefix-limit.config]\n   max-prefixes = {most}\n   shutdown-threshold-pct = 100"
            )?;
        }
        if neighbor.add_path {
            writeln!(
                text,
                "  [neighbors.afi-safis.add-paths.config]\n   receive = true"
            )?;
        }
    }
    Ok(())
}

fn gobgp(at: &Seat, words: &[&str]) -> Result<String> {
    at.ask("gobgp", words)
}

fn ask(at: &Seat, words: &[&str]) -> Result<Value> {
    let all: Vec<&str> = words.iter().copied().chain(["-j"]).collect();
    let text = gobgp(at, &all)?;
    serde_json::from_str(&text).with_context(|| format!("GoBGP's answer to {words:?}: {text}"))
}

fn session(peer: &Value, log: &str) -> Result<Session> {
    let address = peer["conf"]["neighbor_address"]
        .as_str()
        .context("a neighbor without an address")?;
    let (state, timers) = (&peer["state"], &peer["timers"]["state"]);
    let established = state["session_state"].as_u64() == Some(ESTABLISHED);
    Ok(Session {
        peer: address.parse()?,
        established,
        // When it came up, and how many have ended.
        life: format!("{} {}", timers["uptime"], state["flops"]),
        last_error: last_words(log, address),
        updates: state["messages"]["received"]["update"]
            .as_u64()
            .unwrap_or_default(),
        told: None,
        hold_time: timers["negotiated_hold_time"]
            .as_u64()
            .filter(|_| established)
            .and_then(|seconds| u16::try_from(seconds).ok()),
        peer_id: state["router_id"]
            .as_str()
            .filter(|_| established)
            .and_then(|id| id.parse().ok()),
    })
}

/// It tells nobody but its log why a session ended.
fn last_words(log: &str, address: &str) -> Option<String> {
    let about = |line: &&str| {
        line.contains(address) && (line.contains("notification") || line.contains("Down"))
    };
    log.lines().rev().find(about).map(str::to_owned)
}

fn route(path: &Value) -> Result<Route> {
    let attributes = path["attrs"].as_array().cloned().unwrap_or_default();
    let attribute = |code: u64| attributes.iter().find(|a| a["type"].as_u64() == Some(code));
    let from = path["neighbor-ip"].as_str().unwrap_or_default();
    let hop = [NEXT_HOP, MP_REACH_NLRI]
        .iter()
        .find_map(|code| attribute(*code)?["nexthop"].as_str())
        .context("a path without a next hop")?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let number = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
    let segments = attribute(AS_PATH).map(|a| list(&a["as_paths"]));
    let numbers = segments.into_iter().flatten();
    let communities = attribute(COMMUNITIES).map(|a| list(&a["communities"]));
    let large = attribute(LARGE_COMMUNITIES).map(|a| list(&a["value"]));
    Ok(Route {
        from: from
            .parse()
            .with_context(|| format!("GoBGP's path is from {from:?}"))?,
        next_hop: hop.parse().with_context(|| format!("next hop {hop}"))?,
        as_path: numbers
            .flat_map(|segment| list(&segment["asns"]))
            .filter_map(|n| number(&n))
            .collect(),
        local_pref: attribute(LOCAL_PREF).and_then(|a| number(&a["value"])),
        communities: communities
            .into_iter()
            .flatten()
            .filter_map(|n| number(&n))
            .map(|n| format!("{}:{}", n >> 16, n & 0xffff))
            .collect(),
        large_communities: large
            .into_iter()
            .flatten()
            .map(|c| format!("{}:{}:{}", c["ASN"], c["LocalData1"], c["LocalData2"]))
            .collect(),
    })
}
