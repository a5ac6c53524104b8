//! Which node answers for an address on the segment? Asked by ARP and NDP, from a machine whose own cache is the only one
//! that the answer changes.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::frames::{self, Message};
use crate::plan::{self, ASKER, CLIENT_L2};
use crate::run::Run;
use crate::{host, prober, segment};

/// How long answers are waited for: all of them, so that a second machine that answers is seen.
const PATIENCE: Duration = Duration::from_millis(300);

/// Asks once (ARP for IPv4, NDP for IPv6) and returns the machines that answered.
pub fn who_answers(run: &Run, address: &str) -> Result<Vec<&'static str>> {
    Ok(machines_of(&macs_answering(run, "eth0", address)?))
}

/// Asks once from an interface of the asker, and returns the hardware addresses that were told.
pub fn macs_answering(run: &Run, interface: &str, address: &str) -> Result<Vec<String>> {
    if !address.contains(':') {
        return Ok(arping(run, interface, address));
    }
    let (interface, address) = (interface.to_owned(), address.parse()?);
    prober::run_in(run, ASKER.name, move || solicit(&interface, address))
}

fn arping(run: &Run, interface: &str, address: &str) -> Vec<String> {
    let seconds = PATIENCE.as_secs_f64().to_string();
    let mut arguments = vec!["-r", "-c", "1", "-w", &seconds, "-i", interface];
    if interface != "eth0" {
        // It has no address of its own to ask with.
        arguments.extend(["-S", ASKER.v4]);
    }
    arguments.push(address);
    // Ends unsuccessfully when nobody answers.
    let text = host::run_in(&run.namespace(ASKER.name), "arping", &arguments).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

fn machines_of(macs: &[String]) -> Vec<&'static str> {
    let mut names: Vec<_> = macs.iter().filter_map(|mac| machine_of(mac)).collect();
    names.sort_unstable();
    names
}

/// The machine that the client's kernel would send packets for this address to, without asking anew.
pub fn cached(run: &Run, address: &str) -> Result<Option<&'static str>> {
    let text = host::run(
        "ip",
        &[
            "-n",
            &run.namespace(CLIENT_L2.name),
            "neighbor",
            "show",
            address,
            "dev",
            "eth0",
        ],
    )?;
    let words: Vec<_> = text.split_whitespace().collect();
    let mac = words.windows(2).find_map(|pair| match pair {
        ["lladdr", mac] => Some(*mac),
        _ => None,
    });
    Ok(mac.and_then(machine_of))
}

/// The client's kernel asks nobody anew about the addresses that it knows, until this is dropped: its cache follows what it
/// hears unasked, or nothing. Otherwise it would ask after some seconds of silence, and nobody could tell what moved it.
pub struct FollowsOnly {
    run: Run,
    address: String,
    before: Vec<String>,
}

/// How long an entry counts as confirmed, in milliseconds, and how long one in doubt is used before it is asked for, in
/// seconds (arp(7)).
const TIMES: [&str; 4] = [
    "net.ipv4.neigh.eth0.base_reachable_time_ms",
    "net.ipv4.neigh.eth0.delay_first_probe_time",
    "net.ipv6.neigh.eth0.base_reachable_time_ms",
    "net.ipv6.neigh.eth0.delay_first_probe_time",
];
const FOR_EVER: [&str; 4] = ["3600000", "3600", "3600000", "3600"];

impl FollowsOnly {
    /// Begins with a cache that knows nothing of this address.
    pub fn start(run: &Run, address: &str) -> Result<Self> {
        let words: Vec<_> = ["-n"].into_iter().chain(TIMES).collect();
        let before = host::run_in(&run.namespace(CLIENT_L2.name), "sysctl", &words)?;
        let follows = Self {
            run: run.clone(),
            address: address.to_owned(),
            before: before.split_whitespace().map(str::to_owned).collect(),
        };
        follows.set(&FOR_EVER)?;
        Ok(follows)
    }

    /// Sets the times, and forgets the entry that lived under other ones.
    fn set(&self, values: &[&str]) -> Result<()> {
        let namespace = self.run.namespace(CLIENT_L2.name);
        let net = format!("--net=/var/run/netns/{namespace}");
        let mut words = vec![net, "sysctl".into(), "-q".into(), "-w".into()];
        words.extend(TIMES.iter().zip(values).map(|(k, v)| format!("{k}={v}")));
        host::run_always("nsenter", &words)?;
        let flush = ["-n", &namespace, "neighbor", "flush", "to", &self.address];
        host::run_always("ip", &flush).map(drop)
    }
}

impl Drop for FollowsOnly {
    fn drop(&mut self) {
        let before: Vec<_> = self.before.iter().map(String::as_str).collect();
        if let Err(error) = self.set(&before) {
            println!("the client's cache keeps its times: {error:#}");
        }
    }
}

/// Asks once by NDP, and who sent an advertisement for the target.
///
/// By hand, because ndisc6 ignores answers that come from a node's link-local address.
fn solicit(interface: &str, target: Ipv6Addr) -> Result<Vec<String>> {
    let (mut sender, mut receiver) = segment::open(interface)?;
    sender
        .send_to(&segment::question(target.into())?, None)
        .context("the frame does not fit")??;
    let (mut macs, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    while Instant::now() < deadline {
        let Ok(frame) = receiver.next() else { continue };
        if let Some(message) = Message::read(frame)
            && message.answers_for(target.into())
        {
            macs.push(frames::text(message.from()));
        }
    }
    Ok(macs)
}

fn machine_of(mac: &str) -> Option<&'static str> {
    plan::machines()
        .iter()
        .find(|m| m.mac.eq_ignore_ascii_case(mac))
        .map(|m| m.name)
}

/// Sends raw frames from the asker's interface.
pub fn send_frames(run: &Run, frames: Vec<Vec<u8>>) -> Result<()> {
    segment::send_from(run, ASKER.name, "eth0", frames)
}
