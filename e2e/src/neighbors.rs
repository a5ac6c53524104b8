//! Which node answers for an address on the segment? Asked by real ARP and NDP tools from the client's side.

use anyhow::{Context, Result};
use pnet::datalink::{self, Channel};

use crate::host;
use crate::plan::{self, CLIENT_L2};
use crate::prober;
use crate::run::Run;

/// Asks once (ARP for IPv4, NDP for IPv6) and returns the machines that answered.
pub fn who_answers(run: &Run, address: &str) -> Result<Vec<&'static str>> {
    let namespace = run.namespace(CLIENT_L2.name);
    let text = if address.contains(':') {
        // Ends unsuccessfully when nobody answers.
        host::run_in(
            &namespace,
            "ndisc6",
            &["-q", "-m", "-n", "-r", "1", "-w", "300", address, "eth0"],
        )
        .unwrap_or_default()
    } else {
        host::run_in(
            &namespace,
            "arping",
            &["-r", "-c", "1", "-w", "0.3", "-i", "eth0", address],
        )
        .unwrap_or_default()
    };
    let mut names: Vec<_> = text.split_whitespace().filter_map(machine_of).collect();
    names.sort_unstable();
    Ok(names)
}

fn machine_of(mac: &str) -> Option<&'static str> {
    plan::machines()
        .iter()
        .find(|m| m.mac.eq_ignore_ascii_case(mac))
        .map(|m| m.name)
}

/// Sends raw frames from the client's interface.
pub fn send_frames(run: &Run, frames: Vec<Vec<u8>>) -> Result<()> {
    prober::run_in(run, CLIENT_L2.name, move || {
        let interface = datalink::interfaces()
            .into_iter()
            .find(|i| i.name == "eth0")
            .context("the client has no eth0")?;
        let Channel::Ethernet(mut sender, _) =
            datalink::channel(&interface, datalink::Config::default())?
        else {
            anyhow::bail!("eth0 is no Ethernet interface")
        };
        for frame in frames {
            sender
                .send_to(&frame, None)
                .context("the frame does not fit")??;
        }
        Ok(())
    })
}
