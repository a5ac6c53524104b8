//! FRR: zebra and bgpd, asked by vtysh in JSON.

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use serde_json::Value;

use super::{BOTH, Family, Implementation, Program, Route, Seat, Session};
use crate::host;

pub struct Frr;

impl Implementation for Frr {
    fn name(&self) -> &'static str {
        "FRR"
    }

    fn number(&self) -> u8 {
        1
    }

    fn prepare(&self, at: &Seat) -> Result<Vec<Program>> {
        // A neighbor behind the default route counts as one that can be called.
        let zebra = "hostname frr\nip nht resolve-via-default\nipv6 nht resolve-via-default\n";
        fs::write(at.file("zebra.conf"), zebra)?;
        fs::write(at.file("bgpd.conf"), configuration(at)?)?;
        // FRR insists on dropping to its own user, who must be able to make sockets here.
        host::run("chown", &["-R", "frr:frr", &at.file("")])?;
        let program = |name: &'static str, suffix, more: &[String]| {
            let own = [
                "-P",
                "0",
                "-f",
                &at.file(&format!("{name}.conf")),
                "-i",
                &at.file(&format!("{name}.pid")),
                "-z",
                &at.file("zserv.api"),
                "--vty_socket",
                &at.file(""),
                "--log",
                "stdout",
            ]
            .map(str::to_owned);
            Program {
                suffix,
                path: format!("/usr/lib/frr/{name}").into(),
                arguments: own.into_iter().chain(more.iter().cloned()).collect(),
                environment: Vec::new(),
            }
        };
        // One that is told its neighbors later may meet them at other addresses.
        let own = [at.place.v4.to_string(), at.place.v6.to_string()];
        let listen: Vec<String> = own
            .into_iter()
            .filter(|_| !at.setup.neighbors.is_empty())
            .flat_map(|address| ["-l".to_owned(), address])
            .collect();
        Ok(vec![
            program("zebra", "-zebra", &[]),
            program("bgpd", "", &listen),
        ])
    }

    fn is_ready(&self, at: &Seat) -> Result<bool> {
        // It goes on without a line that it does not know.
        let log = fs::read_to_string(at.run.log(&at.place.name))?;
        if let Some(line) = log.lines().find(|line| line.contains("No such command")) {
            bail!("{line}");
        }
        Ok(!vtysh(at, "show bgp summary json")?.is_empty())
    }

    fn sessions(&self, at: &Seat) -> Result<Vec<Session>> {
        let neighbors = ask(at, "show bgp neighbors")?;
        let all = neighbors.as_object().context("FRR lists no neighbors")?;
        all.iter().map(session).collect()
    }

    fn routes(&self, at: &Seat, prefix: IpNet) -> Result<Vec<Route>> {
        let family = if prefix.addr().is_ipv4() {
            Family::V4
        } else {
            Family::V6
        };
        let answer = vtysh(
            at,
            &format!("show bgp {} unicast {prefix} json", family.ip()),
        )?;
        if answer.contains("not in table") || answer.trim().is_empty() {
            return Ok(Vec::new());
        }
        let answer: Value = serde_json::from_str(&answer)
            .with_context(|| format!("FRR's answer about {prefix}: {answer}"))?;
        let paths = answer["paths"].as_array().into_iter().flatten();
        paths.map(route).collect()
    }

    fn refresh(&self, at: &Seat, peer: IpAddr) -> Result<bool> {
        vtysh(at, &format!("clear bgp {peer} soft in")).map(|_| true)
    }

    fn shut_down(&self, at: &Seat, peer: IpAddr, reason: Option<&str>) -> Result<bool> {
        let command = match reason {
            Some(reason) => format!("neighbor {peer} shutdown message {reason}"),
            None => format!("no neighbor {peer} shutdown"),
        };
        configure(at, &[&format!("router bgp {}", at.setup.asn), &command]).map(|()| true)
    }

    fn has_kernel(&self) -> bool {
        true
    }
}

fn configuration(at: &Seat) -> Result<String> {
    let setup = &at.setup;
    let mut text = format!(
        "hostname frr\nrouter bgp {}\n bgp router-id {}\n bgp log-neighbor-changes\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n no bgp network import-check\n bgp bestpath as-path multipath-relax\n",
        setup.asn, at.place.v4
    );
    for neighbor in &setup.neighbors {
        let name = neighbor.address;
        writeln!(text, " neighbor {name} remote-as {}", neighbor.asn)?;
        // Whoever is refused once is taken again soon.
        writeln!(text, " neighbor {name} timers connect 2")?;
        if neighbor.ttl_security {
            writeln!(text, " neighbor {name} ttl-security hops 1")?;
        }
        if neighbor.passive {
            writeln!(text, " neighbor {name} passive")?;
        }
        if let Some(password) = &neighbor.password {
            writeln!(text, " neighbor {name} password {password}")?;
        }
        if let Some(hops) = neighbor.multihop(setup.asn) {
            writeln!(text, " neighbor {name} ebgp-multihop {hops}")?;
        }
        if neighbor.extended_next_hop {
            writeln!(text, " neighbor {name} capability extended-nexthop")?;
        }
        if let Some((hold, keepalive)) = neighbor.timers {
            writeln!(text, " neighbor {name} timers {keepalive} {hold}")?;
        }
    }
    for family in BOTH {
        writeln!(text, " address-family {} unicast", family.ip())?;
        if family == Family::V4 {
            for number in 0..setup.originates {
                writeln!(text, "  network {}", super::originated(number))?;
            }
        }
        for neighbor in &setup.neighbors {
            let name = neighbor.address;
            if neighbor.families.contains(&family) {
                writeln!(text, "  neighbor {name} activate")?;
                if let Some(most) = neighbor.most_prefixes {
                    writeln!(text, "  neighbor {name} maximum-prefix {most}")?;
                }
            }
        }
        writeln!(
            text,
            "  maximum-paths 8\n  maximum-paths ibgp 8\n exit-address-family"
        )?;
    }
    Ok(text)
}

/// Changes the configuration by these lines, as somebody would at its command line.
pub fn configure(at: &Seat, lines: &[&str]) -> Result<()> {
    let directory = at.file("");
    let mut words = vec!["--vty_socket", &directory, "-c", "configure terminal"];
    words.extend(lines.iter().flat_map(|line| ["-c", line]));
    host::run("vtysh", &words).map(drop)
}

fn vtysh(at: &Seat, command: &str) -> Result<String> {
    host::run("vtysh", &["--vty_socket", &at.file(""), "-c", command])
}

fn ask(at: &Seat, command: &str) -> Result<Value> {
    let text = vtysh(at, &format!("{command} json"))?;
    serde_json::from_str(&text).with_context(|| format!("FRR's answer to {command:?}: {text}"))
}

fn session((peer, state): (&String, &Value)) -> Result<Session> {
    let established = state["bgpState"] == "Established";
    let words: Vec<&str> = ["lastResetDueTo", "lastNotificationReason"]
        .iter()
        .filter_map(|field| state[*field].as_str())
        .collect();
    let milliseconds = state["bgpTimerHoldTimeMsecs"].as_u64();
    Ok(Session {
        peer: peer.parse()?,
        established,
        life: state["connectionsEstablished"].to_string(),
        last_error: (!words.is_empty()).then(|| words.join(": ")),
        updates: state["messageStats"]["updatesRecv"]
            .as_u64()
            .unwrap_or_default(),
        told: state["addressFamilyInfo"].as_object().map(|families| {
            let sent = |family: &Value| family["sentPrefixCounter"].as_u64();
            families.values().filter_map(sent).sum()
        }),
        hold_time: milliseconds
            .filter(|_| established)
            .and_then(|ms| u16::try_from(ms / 1000).ok()),
        peer_id: state["remoteRouterId"]
            .as_str()
            .filter(|_| established)
            .and_then(|id| id.parse().ok()),
    })
}

fn route(path: &Value) -> Result<Route> {
    let hops: Vec<&Value> = path["nexthops"].as_array().into_iter().flatten().collect();
    // Beside the global address FRR lists the link-local one that it may have.
    let hop = hops
        .iter()
        .find(|hop| hop["scope"] != "link-local")
        .context("a path without a next hop")?;
    let words = |text: &Value| {
        let text = text.as_str().unwrap_or_default();
        text.split_whitespace().map(number_of).collect()
    };
    let segments = path["aspath"]["segments"].as_array().into_iter().flatten();
    let numbers = segments.flat_map(|s| s["list"].as_array().into_iter().flatten());
    Ok(Route {
        from: parse(&path["peer"]["peerId"])?,
        next_hop: parse(&hop["ip"])?,
        as_path: numbers
            .filter_map(|n| u32::try_from(n.as_u64()?).ok())
            .collect(),
        local_pref: path["locPrf"].as_u64().map(u32::try_from).transpose()?,
        communities: words(&path["community"]["string"]),
        large_communities: words(&path["largeCommunity"]["string"]),
    })
}

/// FRR writes well-known communities (RFC 1997, 3765, 7999, 8326) by name.
fn number_of(community: &str) -> String {
    let low = match community {
        "no-export" => 0xff01,
        "no-advertise" => 0xff02,
        "local-AS" => 0xff03,
        "no-peer" => 0xff04,
        "blackhole" => 666,
        "graceful-shutdown" => 0,
        _ => return community.to_owned(),
    };
    format!("65535:{low}")
}

fn parse(value: &Value) -> Result<IpAddr> {
    let text = value.as_str().unwrap_or_default();
    text.parse()
        .with_context(|| format!("{value} is no address"))
}
