//! ExaBGP: no router but a speaker that reports each message in JSON to a program, here into a file, and obeys another.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result};
use ipnet::IpNet;
use serde_json::Value;

use super::{Family, Implementation, Neighbor, Program, Route, Seat, Session};

pub struct ExaBgp;

/// What was heard, a line of JSON each.
const HEARD: &str = "heard";
/// What it is to do, a line each.
const COMMANDS: &str = "commands";

impl Implementation for ExaBgp {
    fn name(&self) -> &'static str {
        "ExaBGP"
    }

    fn number(&self) -> u8 {
        4
    }

    fn prepare(&self, at: &Seat) -> Result<Vec<Program>> {
        fs::write(at.file("exabgp.conf"), configuration(at)?)?;
        // What an earlier process heard is over with its sessions.
        fs::write(at.file(HEARD), "")?;
        fs::write(at.file(COMMANDS), "")?;
        // The shell becomes `cat`, which ends with ExaBGP, and `tail` with it.
        let script = format!(
            "tail --pid=$$ -n +1 -f '{}' & exec cat >>'{}'\n",
            at.file(COMMANDS),
            at.file(HEARD)
        );
        fs::write(at.file("report.sh"), script)?;
        let settings = [
            ("exabgp.daemon.user", "root"),
            ("exabgp.daemon.daemonize", "false"),
            ("exabgp.api.cli", "false"),
            ("exabgp.api.ack", "false"),
            ("exabgp.log.destination", "stdout"),
            ("exabgp.log.level", "INFO"),
        ];
        Ok(vec![Program {
            suffix: "",
            path: "/usr/sbin/exabgp".into(),
            arguments: vec![at.file("exabgp.conf")],
            environment: settings
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .to_vec(),
        }])
    }

    fn is_ready(&self, _: &Seat) -> Result<bool> {
        // It reports by itself, and is not asked.
        Ok(true)
    }

    fn sessions(&self, at: &Seat) -> Result<Vec<Session>> {
        let heard = Heard::read(at)?;
        let sessions = at.setup.neighbors.iter().map(|neighbor| {
            let peer = neighbor.address;
            heard.peers.get(&peer).map_or_else(
                || Session {
                    peer,
                    established: false,
                    life: String::new(),
                    last_error: None,
                    told: None,
                    updates: 0,
                    hold_time: None,
                    peer_id: None,
                },
                |state| Session {
                    peer,
                    established: state.up,
                    life: state.times_up.to_string(),
                    last_error: state.reason.clone(),
                    told: None,
                    updates: state.updates,
                    hold_time: state.hold_time.filter(|_| state.up),
                    peer_id: state.id.filter(|_| state.up),
                },
            )
        });
        Ok(sessions.collect())
    }

    fn routes(&self, at: &Seat, prefix: IpNet) -> Result<Vec<Route>> {
        let heard = Heard::read(at)?;
        let of_peers = heard.peers.values();
        Ok(of_peers
            .filter_map(|peer| peer.routes.get(&prefix).cloned())
            .collect())
    }

    fn refresh(&self, at: &Seat, peer: IpAddr) -> Result<bool> {
        let neighbors = at.setup.neighbors.iter();
        for family in neighbors
            .filter(|n| n.address == peer)
            .flat_map(|n| &n.families)
        {
            let family = family.ip();
            tell(
                at,
                &format!("neighbor {peer} announce route-refresh {family} unicast"),
            )?;
        }
        Ok(true)
    }
}

/// Has ExaBGP do something, as its API has it.
pub fn tell(at: &Seat, command: &str) -> Result<()> {
    let mut file = OpenOptions::new().append(true).open(at.file(COMMANDS))?;
    writeln!(file, "{command}").context("write to ExaBGP")
}

/// How often a neighbor withdrew this prefix.
pub fn withdrawals(at: &Seat, prefix: IpNet) -> Result<usize> {
    Ok(Heard::read(at)?
        .peers
        .values()
        .filter_map(|peer| peer.withdrawals.get(&prefix))
        .sum())
}

/// How often a neighbor withdrew this prefix and left no other that covers it.
pub fn left_without(at: &Seat, prefix: IpNet) -> Result<usize> {
    Ok(Heard::read(at)?
        .peers
        .values()
        .filter_map(|peer| peer.left_without.get(&prefix))
        .sum())
}

fn configuration(at: &Seat) -> Result<String> {
    let mut text = format!(
        "process report {{\n run /bin/sh {};\n encoder json;\n}}\n",
        at.file("report.sh")
    );
    for neighbor in &at.setup.neighbors {
        write_neighbor(&mut text, at, neighbor)?;
    }
    Ok(text)
}

fn write_neighbor(text: &mut String, at: &Seat, neighbor: &Neighbor) -> Result<()> {
    writeln!(
        text,
        "neighbor {} {{\n router-id {};\n local-address {};\n local-as {};\n peer-as {};\n listen 179;\n passive true;",
        neighbor.address,
        at.place.v4,
        neighbor.local(&at.place),
        at.setup.asn,
        neighbor.asn
    )?;
    if let Some(password) = &neighbor.password {
        writeln!(text, " md5-password '{password}';")?;
    }
    if let Some(hops) = neighbor.multihop(at.setup.asn) {
        writeln!(text, " outgoing-ttl {hops};")?;
    }
    if let Some((hold, _)) = neighbor.timers {
        writeln!(text, " hold-time {hold};")?;
    }
    let hop = if neighbor.extended_next_hop {
        "enable"
    } else {
        "disable"
    };
    let path = if neighbor.add_path {
        "receive"
    } else {
        "disable"
    };
    let large = if neighbor.two_octet_as {
        "disable"
    } else {
        "enable"
    };
    writeln!(
        text,
        " capability {{ asn4 {large}; route-refresh enable; nexthop {hop}; add-path {path}; }}\n family {{"
    )?;
    for family in &neighbor.families {
        writeln!(text, "  {} unicast;", family.ip())?;
    }
    writeln!(text, " }}")?;
    if neighbor.extended_next_hop {
        writeln!(text, " nexthop {{ ipv4 unicast ipv6; }}")?;
    }
    writeln!(
        text,
        " api {{ processes [ report ]; neighbor-changes; negotiated; receive {{ parsed; update; notification; open; }} }}\n}}"
    )?;
    Ok(())
}

/// All that was reported since the start.
#[derive(Default)]
struct Heard {
    peers: BTreeMap<IpAddr, Peer>,
}

#[derive(Default)]
struct Peer {
    up: bool,
    times_up: u32,
    reason: Option<String>,
    updates: u64,
    hold_time: Option<u16>,
    id: Option<Ipv4Addr>,
    routes: BTreeMap<IpNet, Route>,
    withdrawals: BTreeMap<IpNet, usize>,
    left_without: BTreeMap<IpNet, usize>,
}

impl Heard {
    fn read(at: &Seat) -> Result<Self> {
        let text = fs::read_to_string(at.file(HEARD))?;
        let mut heard = Self::default();
        // The last line may be half written.
        let lines = text.lines().filter_map(|l| serde_json::from_str(l).ok());
        for line in lines {
            heard.take(&line)?;
        }
        Ok(heard)
    }

    fn take(&mut self, line: &Value) -> Result<()> {
        let neighbor = &line["neighbor"];
        let Some(from) = neighbor["address"]["peer"].as_str() else {
            return Ok(());
        };
        let from: IpAddr = from.parse()?;
        let peer = self.peers.entry(from).or_default();
        match line["type"].as_str() {
            Some("state") => match neighbor["state"].as_str() {
                Some("up") => {
                    peer.up = true;
                    peer.times_up += 1;
                }
                Some("down") => {
                    peer.up = false;
                    peer.reason = neighbor["reason"].as_str().map(str::to_owned);
                    peer.routes.clear();
                }
                _ => {}
            },
            Some("negotiated") => {
                let seconds = neighbor["negotiated"]["hold_time"].as_u64();
                peer.hold_time = seconds.and_then(|s| u16::try_from(s).ok());
            }
            // Both OPENs are reported; ours tells nothing new.
            Some("open") if neighbor["direction"] == "receive" => {
                let id = neighbor["open"]["router_id"].as_str();
                peer.id = id.and_then(|id| id.parse().ok());
            }
            Some("update") => peer.update(from, &neighbor["message"]["update"])?,
            Some("notification") => {
                let notification = &neighbor["notification"];
                peer.reason = Some(notification.to_string());
            }
            _ => {}
        }
        Ok(())
    }
}

impl Peer {
    fn update(&mut self, from: IpAddr, update: &Value) -> Result<()> {
        self.updates += 1;
        let attributes = &update["attribute"];
        for family in [Family::V4, Family::V6] {
            let key = format!("{} unicast", family.ip());
            for prefix in prefixes(&update["withdraw"][&key])? {
                self.routes.remove(&prefix);
                *self.withdrawals.entry(prefix).or_default() += 1;
                if !self.routes.keys().any(|other| other.contains(&prefix)) {
                    *self.left_without.entry(prefix).or_default() += 1;
                }
            }
            let hops = update["announce"][&key].as_object();
            for (hop, announced) in hops.into_iter().flatten() {
                for prefix in prefixes(announced)? {
                    let hop = hop.parse().with_context(|| format!("next hop {hop}"))?;
                    self.routes.insert(prefix, route(from, hop, attributes)?);
                }
            }
        }
        Ok(())
    }
}

/// `[{"nlri": "10.100.2.1/32"}]`.
fn prefixes(list: &Value) -> Result<Vec<IpNet>> {
    let list = list.as_array().into_iter().flatten();
    list.map(|entry| {
        let text = entry["nlri"].as_str().unwrap_or_default();
        text.parse()
            .with_context(|| format!("ExaBGP's prefix {entry}"))
    })
    .collect()
}

fn route(from: IpAddr, next_hop: IpAddr, attributes: &Value) -> Result<Route> {
    let number = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
    let list = |key: &str| attributes[key].as_array().cloned().unwrap_or_default();
    // `[[64512, 1]]` and `[[64512, 1, 2]]`.
    let tuples = |key: &str| {
        let joined = list(key).into_iter().filter_map(|tuple| {
            let parts: Vec<String> = tuple.as_array()?.iter().map(Value::to_string).collect();
            Some(parts.join(":"))
        });
        joined.collect()
    };
    Ok(Route {
        from,
        next_hop,
        as_path: list("as-path").iter().filter_map(number).collect(),
        local_pref: number(&attributes["local-preference"]),
        communities: tuples("community"),
        large_communities: tuples("large-community"),
    })
}
