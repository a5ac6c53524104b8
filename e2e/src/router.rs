//! The router at the edge of the site: FRR's zebra and bgpd, run by hand in the router's namespace.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::host;
use crate::plan::{self, NODES, ROUTER};
use crate::run::Run;

fn directory(run: &Run) -> PathBuf {
    run.registry.join("frr")
}

/// Starts both daemons; returns when bgpd answers.
pub fn start(run: &Run) -> Result<()> {
    let directory = directory(run);
    fs::create_dir_all(&directory)?;
    let path = |name: &str| directory.join(name).display().to_string();
    fs::write(directory.join("zebra.conf"), "hostname router\n")?;
    fs::write(directory.join("bgpd.conf"), configuration()?)?;
    // FRR insists on dropping to its own user, who must be able to make sockets here.
    host::run("chown", &["-R", "frr:frr", &path("")])?;
    for name in ["zebra", "bgpd"] {
        let arguments = [
            "-P",
            "0",
            "-f",
            &path(&format!("{name}.conf")),
            "-i",
            &path(&format!("{name}.pid")),
            "-z",
            &path("zserv.api"),
            "--vty_socket",
            &path(""),
        ]
        .map(str::to_owned);
        let mut arguments = arguments.to_vec();
        if name == "bgpd" {
            // Only the router's own addresses, so that tests can play other routers beside it.
            arguments.extend(["-l", ROUTER.v4, "-l", ROUTER.v6].map(str::to_owned));
        }
        run.daemon(name, ROUTER.name, format!("/usr/lib/frr/{name}"), arguments)
            .start()?;
        host::wait_until("FRR answers", Duration::from_secs(10), || {
            Ok(directory.join(format!("{name}.vty")).exists())
        })
        .with_context(|| host::tail(&run.log(name), 10))?;
    }
    Ok(())
}

fn configuration() -> Result<String> {
    let mut text = format!(
        "hostname router\nrouter bgp {}\n bgp router-id {}\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n bgp bestpath as-path multipath-relax\n neighbor nodes peer-group\n neighbor nodes remote-as {}\n",
        plan::ROUTER_ASN,
        ROUTER.v4,
        plan::SPEAKER_ASN
    );
    for node in NODES {
        writeln!(text, " neighbor {} peer-group nodes", node.v4)?;
    }
    for family in ["ipv4", "ipv6"] {
        writeln!(
            text,
            " address-family {family} unicast\n  neighbor nodes activate\n  maximum-paths 8\n exit-address-family"
        )?;
    }
    Ok(text)
}

/// Asks the router something at its own command line.
pub fn vtysh(run: &Run, command: &str) -> Result<String> {
    host::run(
        "vtysh",
        &[
            "--vty_socket",
            &directory(run).display().to_string(),
            "-c",
            command,
        ],
    )
}

/// Tells the router to do one thing after the other, such as in its configuration.
pub fn tell(run: &Run, commands: &[&str]) -> Result<()> {
    let directory = directory(run).display().to_string();
    let mut arguments = vec!["--vty_socket", &directory];
    arguments.extend(commands.iter().flat_map(|command| ["-c", *command]));
    host::run("vtysh", &arguments).map(drop)
}

/// Asks for an answer in JSON.
pub fn ask(run: &Run, command: &str) -> Result<Value> {
    let text = vtysh(run, &format!("{command} json"))?;
    serde_json::from_str(&text).with_context(|| format!("FRR's answer to {command:?}: {text}"))
}

/// The next hops that the router's kernel has for this address, sorted.
pub fn next_hops(run: &Run, address: &str) -> Result<Vec<String>> {
    next_hops_in(&run.namespace(ROUTER.name), address)
}

/// The next hops that the kernel of a namespace has for this address, sorted.
pub fn next_hops_in(namespace: &str, address: &str) -> Result<Vec<String>> {
    let family = if address.contains(':') { "-6" } else { "-4" };
    let prefix = format!("{address}/{}", if address.contains(':') { 128 } else { 32 });
    let text = host::run(
        "ip",
        &[
            "-n", namespace, "-j", family, "route", "show", "exact", &prefix,
        ],
    )?;
    let routes: Value = serde_json::from_str(text.trim()).unwrap_or(Value::Null);
    let mut hops = Vec::new();
    for route in routes.as_array().into_iter().flatten() {
        hops.extend(route["gateway"].as_str().map(str::to_owned));
        for hop in route["nexthops"].as_array().into_iter().flatten() {
            hops.extend(hop["gateway"].as_str().map(str::to_owned));
        }
    }
    hops.sort();
    Ok(hops)
}

/// A BGP session as the router sees it.
pub struct Session {
    pub peer: String,
    pub established: bool,
    /// How often it came up; an unchanged number means that it never went down.
    pub times_established: u64,
}

pub fn sessions(run: &Run) -> Result<Vec<Session>> {
    let neighbors = ask(run, "show bgp neighbors")?;
    let all = neighbors.as_object().context("FRR lists no neighbors")?;
    Ok(all
        .iter()
        .map(|(peer, state)| Session {
            peer: peer.clone(),
            established: state["bgpState"] == "Established",
            times_established: state["connectionsEstablished"].as_u64().unwrap_or_default(),
        })
        .collect())
}
