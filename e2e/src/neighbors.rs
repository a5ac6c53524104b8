//! Which node answers for an address on the segment? Asked from the client's side, by ARP and NDP.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pnet::datalink::{self, Channel, Config, DataLinkReceiver, DataLinkSender};

use crate::host;
use crate::plan::{self, CLIENT_L2};
use crate::prober;
use crate::run::Run;

/// How long answers are waited for: all of them, so that a second machine that answers is seen.
const PATIENCE: Duration = Duration::from_millis(300);

/// Asks once (ARP for IPv4, NDP for IPv6) and returns the machines that answered.
pub fn who_answers(run: &Run, address: &str) -> Result<Vec<&'static str>> {
    if !address.contains(':') {
        return Ok(who_answers_arp(run, CLIENT_L2.name, address));
    }
    let address = address.parse()?;
    let macs = prober::run_in(run, CLIENT_L2.name, move || solicit(address))?;
    Ok(machines_of(&macs))
}

/// Asks once by ARP from some machine on the segment, whose own cache is the only one that the answer changes.
pub fn who_answers_arp(run: &Run, place: &str, address: &str) -> Vec<&'static str> {
    let seconds = PATIENCE.as_secs_f64().to_string();
    let arguments = ["-r", "-c", "1", "-w", &seconds, "-i", "eth0", address];
    // Ends unsuccessfully when nobody answers.
    let text = host::run_in(&run.namespace(place), "arping", &arguments).unwrap_or_default();
    machines_of(
        &text
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>(),
    )
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

/// A neighbor solicitation (RFC 4861 section 4.3), and who sent an advertisement for its target.
///
/// By hand, because ndisc6 ignores answers that come from a node's link-local address.
fn solicit(target: Ipv6Addr) -> Result<Vec<String>> {
    let (mut sender, mut receiver) = open()?;
    let frame = solicitation(target)?;
    sender
        .send_to(&frame, None)
        .context("the frame does not fit")??;
    let (mut macs, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    while Instant::now() < deadline {
        let Ok(frame) = receiver.next() else { continue };
        let is_advertisement = frame.get(12..14) == Some(&[0x86, 0xdd])
            && frame.get(20) == Some(&58)
            && frame.get(54) == Some(&136)
            && frame.get(62..78) == Some(&target.octets());
        if let (true, Some(mac)) = (is_advertisement, frame.get(6..12)) {
            let bytes: Vec<_> = mac.iter().map(|b| format!("{b:02x}")).collect();
            macs.push(bytes.join(":"));
        }
    }
    Ok(macs)
}

fn solicitation(target: Ipv6Addr) -> Result<Vec<u8>> {
    let mac: Vec<u8> = CLIENT_L2
        .mac
        .split(':')
        .map(|b| u8::from_str_radix(b, 16))
        .collect::<Result<_, _>>()?;
    let source: Ipv6Addr = CLIENT_L2.v6.parse()?;
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(a),
        u16::from_be_bytes([b, c]),
    );
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    message.extend([1, 1]);
    message.extend(&mac);
    let checksum = checksum(source, group, &message);
    message.splice(2..4, checksum.to_be_bytes());
    let mut frame = vec![0x33, 0x33, 0xff, a, b, c];
    frame.extend(&mac);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend(u16::try_from(message.len())?.to_be_bytes());
    frame.extend([58, 255]);
    frame.extend(source.octets());
    frame.extend(group.octets());
    frame.extend(message);
    Ok(frame)
}

/// The internet checksum over pseudo-header and message (RFC 8200 section 8.1).
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let mut bytes = [source.octets(), destination.octets()].concat();
    bytes.extend(
        u32::try_from(message.len())
            .unwrap_or_default()
            .to_be_bytes(),
    );
    bytes.extend([0, 0, 0, 58]);
    bytes.extend(message);
    let words = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !u16::try_from(sum).unwrap_or_default()
}

/// A raw socket on the client's interface; the calling thread must be in the client's namespace.
fn open() -> Result<(Box<dyn DataLinkSender>, Box<dyn DataLinkReceiver>)> {
    let interface = datalink::interfaces()
        .into_iter()
        .find(|i| i.name == "eth0")
        .context("the client has no eth0")?;
    let config = Config {
        read_timeout: Some(Duration::from_millis(20)),
        ..Config::default()
    };
    match datalink::channel(&interface, config)? {
        Channel::Ethernet(sender, receiver) => Ok((sender, receiver)),
        _ => bail!("eth0 is no Ethernet interface"),
    }
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
        let (mut sender, _receiver) = open()?;
        for frame in frames {
            sender
                .send_to(&frame, None)
                .context("the frame does not fit")??;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_solicitation_goes_to_the_group_of_its_target_and_sums_up_to_zero() {
        let target = "fd00:10:0:0:1::7".parse().unwrap();
        let frame = solicitation(target).unwrap();
        assert_eq!(frame.get(..6), Some(&[0x33, 0x33, 0xff, 0, 0, 7][..]));
        let address = |range| {
            Ipv6Addr::from(
                <[u8; 16]>::try_from(frame.get::<std::ops::Range<usize>>(range).unwrap()).unwrap(),
            )
        };
        assert_eq!(
            address(38..54),
            "ff02::1:ff00:7".parse::<Ipv6Addr>().unwrap()
        );
        assert_eq!(
            checksum(address(22..38), address(38..54), frame.get(54..).unwrap()),
            0
        );
    }
}
