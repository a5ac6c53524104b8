//! BIRD 2, asked by birdc, whose answers are for people.

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;

use super::{BOTH, Family, Implementation, Neighbor, Program, Route, Seat, Session};
use crate::host;

pub struct Bird;

impl Implementation for Bird {
    fn name(&self) -> &'static str {
        "BIRD"
    }

    fn number(&self) -> u8 {
        2
    }

    fn prepare(&self, at: &Seat) -> Result<Vec<Program>> {
        fs::write(at.file("bird.conf"), configuration(at)?)?;
        let arguments = ["-f", "-c", &at.file("bird.conf"), "-s", &at.file("ctl")];
        Ok(vec![Program {
            suffix: "",
            path: "/usr/sbin/bird".into(),
            arguments: arguments.map(str::to_owned).to_vec(),
            environment: Vec::new(),
        }])
    }

    fn is_ready(&self, at: &Seat) -> Result<bool> {
        Ok(birdc(at, "show status")?.contains("up and running"))
    }

    fn sessions(&self, at: &Seat) -> Result<Vec<Session>> {
        let text = birdc(at, "show protocols all")?;
        let log = fs::read_to_string(at.run.log(&at.place.name)).unwrap_or_default();
        let sessions = blocks(&text).filter_map(|block| session(&block, &log));
        Ok(sessions.collect())
    }

    fn routes(&self, at: &Seat, prefix: IpNet) -> Result<Vec<Route>> {
        // With the code 8001 birdc says that there is none, and succeeds or not by its version.
        let text = birdc(at, &format!("show route {prefix} all")).unwrap_or_default();
        routes(&text, &at.setup.neighbors)
    }

    fn refresh(&self, at: &Seat, peer: IpAddr) -> Result<bool> {
        birdc(at, &format!("reload in {}", protocol(peer))).map(|_| true)
    }

    fn shut_down(&self, at: &Seat, peer: IpAddr, reason: Option<&str>) -> Result<bool> {
        let name = protocol(peer);
        let command = match reason {
            Some(reason) => format!("disable {name} \"{reason}\""),
            None => format!("enable {name}"),
        };
        birdc(at, &command).map(|_| true)
    }

    fn has_kernel(&self) -> bool {
        true
    }
}

/// What BIRD calls the session with this neighbor.
fn protocol(peer: IpAddr) -> String {
    format!("n{peer}").replace(['.', ':'], "_")
}

fn configuration(at: &Seat) -> Result<String> {
    let setup = &at.setup;
    let mut text = format!(
        "log stderr all;\nrouter id {};\nprotocol device {{}}\nprotocol direct {{ ipv4; ipv6; interface \"eth0\"; }}\n",
        at.place.v4
    );
    for family in BOTH {
        // The default route must be known where a neighbor is more than a hop away.
        writeln!(
            text,
            "protocol kernel kernel_{0} {{ learn; merge paths on limit 8; {0} {{ import all; export where source = RTS_BGP; }}; }}",
            family.ip()
        )?;
    }
    if setup.originates > 0 {
        writeln!(text, "protocol static own {{ ipv4;")?;
        for number in 0..setup.originates {
            writeln!(text, "route {} blackhole;", super::originated(number))?;
        }
        writeln!(text, "}}")?;
    }
    for neighbor in &setup.neighbors {
        bgp(&mut text, at, neighbor)?;
    }
    Ok(text)
}

fn bgp(text: &mut String, at: &Seat, neighbor: &Neighbor) -> Result<()> {
    let setup = &at.setup;
    writeln!(
        text,
        "protocol bgp {} {{\n local {} as {};\n neighbor {} as {};\n strict bind on;\n connect retry time 2;\n error wait time 1, 2;\n enable extended messages on;\n debug {{ states }};",
        protocol(neighbor.address),
        neighbor.local(&at.place),
        setup.asn,
        neighbor.address,
        neighbor.asn
    )?;
    if neighbor.ttl_security {
        writeln!(text, " ttl security on;")?;
    }
    if neighbor.passive {
        writeln!(text, " passive on;")?;
    }
    if let Some(password) = &neighbor.password {
        writeln!(text, " password \"{password}\";")?;
    }
    if let Some(hops) = neighbor.multihop(setup.asn) {
        writeln!(text, " multihop {hops};")?;
    }
    if let Some((hold, keepalive)) = neighbor.timers {
        writeln!(text, " hold time {hold};\n keepalive time {keepalive};")?;
    }
    for family in &neighbor.families {
        let mut options = String::from("import all; export where source = RTS_STATIC;");
        if neighbor.extended_next_hop && *family == Family::V4 {
            options.push_str(" extended next hop on;");
        }
        if neighbor.add_path {
            options.push_str(" add paths rx;");
        }
        if let Some(most) = neighbor.most_prefixes {
            write!(options, " receive limit {most} action disable;")?;
        }
        writeln!(text, " {} {{ {options} }};", family.ip())?;
    }
    writeln!(text, "}}")?;
    Ok(())
}

/// Adds these lines to the configuration and lets it be read again, as somebody would with an editor.
pub fn configure(at: &Seat, lines: &str) -> Result<()> {
    fs::write(at.file("bird.conf"), configuration(at)? + lines)?;
    let answer = birdc(at, "configure")?;
    ensure!(answer.contains("Reconfigured"), "BIRD says: {answer}");
    Ok(())
}

fn birdc(at: &Seat, command: &str) -> Result<String> {
    let socket = at.file("ctl");
    let mut words = vec!["-s", socket.as_str()];
    words.extend(command.split_whitespace());
    host::run("birdc", &words)
}

/// Each protocol with all that is indented below it.
fn blocks(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let mut all: Vec<Vec<&str>> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        match all.last_mut() {
            Some(block) if line.starts_with(' ') => block.push(line),
            _ => all.push(vec![line]),
        }
    }
    all.into_iter()
}

fn session(block: &[&str], log: &str) -> Option<Session> {
    let value = |key: &str| {
        let line = block.iter().find_map(|line| line.trim().strip_prefix(key));
        line.map(str::trim)
    };
    let peer: IpAddr = value("Neighbor address:")?.parse().ok()?;
    let name = format!(" {}: ", protocol(peer));
    let said: Vec<&str> = log.lines().filter(|line| line.contains(&name)).collect();
    let ups = said.iter().filter(|line| line.ends_with("changed to up"));
    // What it was told or found wrong, of which it keeps nothing once a session is up.
    let wrong = |line: &&&str| line.contains("<RMT>") || line.contains("<ERR>");
    // Received, rejected, filtered, ignored, accepted; one line for each channel.
    let updates = block
        .iter()
        .filter_map(|line| line.trim().strip_prefix("Import updates:"))
        .filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .sum();
    Some(Session {
        peer,
        established: value("BGP state:") == Some("Established"),
        life: ups.count().to_string(),
        last_error: said.iter().rev().find(wrong).map(|line| (*line).to_owned()),
        updates,
        // `Routes: 1 imported, 2 exported, 1 preferred`, for each channel.
        told: Some(
            block
                .iter()
                .filter_map(|line| line.trim().strip_prefix("Routes:"))
                .filter_map(|line| line.split(", ").find_map(|n| n.strip_suffix(" exported")))
                .filter_map(|number| number.trim().parse::<u64>().ok())
                .sum(),
        ),
        hold_time: value("Hold timer:")
            .and_then(|timer| timer.split('/').nth(1))
            .and_then(|all| all.trim().parse().ok()),
        peer_id: value("Neighbor ID:").and_then(|id| id.parse().ok()),
    })
}

/// The routes in an answer to `show route PREFIX all`. A route of another source than BGP is none of them.
fn routes(text: &str, neighbors: &[Neighbor]) -> Result<Vec<Route>> {
    let mut found: Vec<Route> = Vec::new();
    let mut current = None;
    for line in text.lines() {
        // The line that begins a route names its protocol in brackets: `[n10_10_0_11 2026-11-27 17:40:00.000]`.
        if let Some(name) = line
            .split_once('[')
            .filter(|_| !line.trim_start().starts_with("BGP."))
            .and_then(|(_, rest)| rest.split([' ', ']']).next())
        {
            let neighbor = neighbors.iter().find(|n| protocol(n.address) == name);
            current = neighbor.map(|n| n.address);
            if let Some(from) = current {
                found.push(Route {
                    from,
                    next_hop: from,
                    as_path: Vec::new(),
                    local_pref: None,
                    communities: Default::default(),
                    large_communities: Default::default(),
                });
            }
            continue;
        }
        let Some((key, value)) = line.trim().split_once(':') else {
            continue;
        };
        let (Some(route), Some(_)) = (found.last_mut(), current) else {
            continue;
        };
        let value = value.trim();
        match key {
            "BGP.as_path" => {
                let numbers = value.split_whitespace().map(str::parse);
                route.as_path = numbers.collect::<Result<_, _>>()?;
            }
            "BGP.next_hop" => {
                // A link-local address may follow the global one.
                let first = value.split_whitespace().next().unwrap_or_default();
                route.next_hop = first
                    .parse()
                    .with_context(|| format!("BIRD's next hop {value}"))?;
            }
            "BGP.local_pref" => route.local_pref = Some(value.parse()?),
            "BGP.community" => route.communities = tuples(value),
            "BGP.large_community" => route.large_communities = tuples(value),
            _ => {}
        }
    }
    Ok(found)
}

/// `(64512,1) (64512,2)` or `(64512, 1, 2)` with colons instead.
fn tuples(value: &str) -> std::collections::BTreeSet<String> {
    value
        .split(['(', ')'])
        .map(|part| part.replace(' ', "").replace(',', ":"))
        .filter(|part| !part.is_empty())
        .collect()
}
