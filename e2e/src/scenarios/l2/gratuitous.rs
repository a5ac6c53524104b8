//! What a node tells unasked (reference 4.4): a burst for a new announcement, and refreshes afterwards.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::handles::{
    LIMIT, advertise, advertise_with, announcer, dual_service, ip, pool, service,
};
use super::packets::listen_until;
use super::scenario;
use super::watched::{mac_of, node_of};
use crate::capture::{Capture, Heard};
use crate::cluster::Site;
use crate::frames::{self, Arp, BROADCAST, Mac, Message, Ndp, NdpKind, OVERRIDE};
use crate::scenarios::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "gratuitous-burst",
        "a new announcement is told at once and five times in five seconds: ARP request and reply, unsolicited NA with override, each field as in reference 4.4",
        burst,
    ),
    scenario(
        "refresh-interval",
        "after the burst an address is told again every ferrolb.io/refresh-interval (2 s, jittered)",
        refresh,
    ),
    scenario(
        "refresh-by-default-and-off",
        "without the annotation an address is told again within a minute and a half; with 0 never",
        refresh_default,
    ),
];

/// How long a burst goes on, and the pause between its rounds (reference 4.4).
const BURST: Duration = Duration::from_secs(5);
const ROUND: Duration = Duration::from_millis(1100);
/// What this machine may be late.
const LATE: Duration = Duration::from_millis(400);
fn since(earlier: SystemTime, later: SystemTime) -> Duration {
    later.duration_since(earlier).unwrap_or_default()
}

/// The claims of an address in rounds: frames that follow each other at once are one round.
fn rounds(heard: &[Heard], address: IpAddr) -> Vec<Vec<Heard>> {
    let mut rounds: Vec<Vec<Heard>> = Vec::new();
    for claim in heard.iter().filter(|h| h.message.claims(address)) {
        let follows = rounds
            .last()
            .and_then(|round| round.last())
            .is_some_and(|last| since(last.at, claim.at) < ROUND / 3);
        match rounds.last_mut() {
            Some(round) if follows => round.push(*claim),
            _ => rounds.push(vec![*claim]),
        }
    }
    rounds
}

fn check_arp_round(round: &[Heard], mac: Mac, address: Ipv4Addr) -> Result<()> {
    let expected = [frames::REQUEST, frames::REPLY].map(|operation| {
        Message::Arp(Arp {
            to: BROADCAST,
            from: mac,
            operation,
            sender: (mac, address),
            target: (BROADCAST, address),
        })
    });
    let found: Vec<_> = round.iter().map(|h| h.message).collect();
    ensure!(found == expected, "{found:?} instead of {expected:?}");
    Ok(())
}

fn check_na_round(round: &[Heard], mac: Mac, address: Ipv6Addr) -> Result<()> {
    let [
        Heard {
            message: Message::Ndp(found),
            ..
        },
    ] = round
    else {
        bail!("{round:?} is not one advertisement")
    };
    ensure!(
        found.source.is_unicast_link_local(),
        "{} is not link-local",
        found.source
    );
    let mut expected = Ndp::claim(mac, address);
    expected.source = found.source;
    expected.kind = NdpKind::Advertisement { flags: OVERRIDE };
    ensure!(*found == expected, "{found:?} instead of {expected:?}");
    Ok(())
}

fn burst(site: &Site) -> Result<String> {
    pool(site, "burst")?;
    let off = json!({"ferrolb.io/refresh-interval": "0"});
    advertise_with(site, "burst", "burst", &json!({}), &off)?;
    let capture = Capture::of_neighbours(&site.run)?;
    let addresses = dual_service(site, "burst", "burst")?;
    let first = capture.wait("the first gratuitous frame", LIMIT, |heard| {
        ip(&addresses[0]).is_ok_and(|address| heard.message.claims(address))
    })?;
    let node = node_of(first.message.from()).context("it came from no node")?;
    let mac = mac_of(node)?;
    listen_until(first.at, BURST + ROUND * 4)?;
    let heard = capture.finish()?;
    let mut notes = Vec::new();
    for address in &addresses {
        let rounds = rounds(&heard, ip(address)?);
        for round in &rounds {
            match ip(address)? {
                IpAddr::V4(address) => check_arp_round(round, mac, address)?,
                IpAddr::V6(address) => check_na_round(round, mac, address)?,
            }
        }
        // Each family from its own first frame: what is done before the first claim may take one longer.
        let starts = rounds.iter().filter_map(|round| Some(round.first()?.at));
        let starts: Vec<_> = starts.collect();
        let times: Vec<_> = starts.iter().map(|at| since(starts[0], *at)).collect();
        let told: Vec<_> = times.iter().map(Duration::as_millis).collect();
        let expected = (0..5).map(|n| ROUND * n);
        let fits = times.len() == 5
            && times
                .iter()
                .zip(expected)
                .all(|(at, wanted)| at.abs_diff(wanted) < LATE);
        ensure!(fits, "rounds for {address} after {told:?} ms");
        notes.push(format!("{address} after {told:?} ms"));
    }
    Ok(format!("{node}: {}", notes.join(", ")))
}

fn refresh(site: &Site) -> Result<String> {
    const INTERVAL: Duration = Duration::from_secs(2);
    const LISTENED: Duration = Duration::from_secs(12);
    pool(site, "refreshed")?;
    let often = json!({"ferrolb.io/refresh-interval": "2s"});
    advertise_with(site, "refreshed", "refreshed", &json!({}), &often)?;
    let addresses = dual_service(site, "refreshed", "refreshed")?;
    let node = announcer(site, &addresses[0])?;
    let mac = mac_of(node)?;
    listen_until(SystemTime::now(), BURST)?;
    let capture = Capture::of_neighbours(&site.run)?;
    let began = SystemTime::now();
    listen_until(began, LISTENED)?;
    let heard = capture.finish()?;
    let mut notes = Vec::new();
    for address in &addresses {
        let rounds = rounds(&heard, ip(address)?);
        for round in &rounds {
            match ip(address)? {
                IpAddr::V4(address) => check_arp_round(round, mac, address)?,
                IpAddr::V6(address) => check_na_round(round, mac, address)?,
            }
        }
        let times: Vec<_> = rounds
            .iter()
            .filter_map(|round| Some(since(began, round.first()?.at)))
            .collect();
        let told: Vec<_> = times.iter().map(Duration::as_millis).collect();
        // Jittered, so that each pause may be half as long or half as long again.
        let steady = times
            .windows(2)
            .all(|pair| (pair[1] - pair[0]).abs_diff(INTERVAL) <= INTERVAL / 2 + LATE);
        ensure!(
            (4..=10).contains(&times.len()) && steady,
            "in {} s {address} was told after {told:?} ms",
            LISTENED.as_secs()
        );
        notes.push(format!("{address} after {told:?} ms"));
    }
    Ok(notes.join(", "))
}

fn refresh_default(site: &Site) -> Result<String> {
    // A minute, and half of it for the jitter.
    const LISTENED: Duration = Duration::from_secs(90);
    pool(site, "by-default")?;
    advertise(site, "by-default", "by-default", &json!({}))?;
    pool(site, "never")?;
    let off = json!({"ferrolb.io/refresh-interval": "0"});
    advertise_with(site, "never", "never", &json!({}), &off)?;
    let by_default = service(site, "by-default", "by-default")?;
    let never = service(site, "never", "never")?;
    for address in [&by_default, &never] {
        announcer(site, address)?;
    }
    listen_until(SystemTime::now(), BURST + ROUND)?;
    let capture = Capture::of_neighbours(&site.run)?;
    let began = SystemTime::now();
    let address = ip(&by_default)?;
    let first = capture.wait("a refresh by default", LISTENED, |heard| {
        heard.message.claims(address)
    })?;
    let heard = capture.finish()?;
    let unasked = rounds(&heard, ip(&never)?).len();
    ensure!(unasked == 0, "{never} was told {unasked} times");
    let count = rounds(&heard, address).len();
    ensure!(count == 1, "{by_default} was told {count} times at once");
    Ok(format!(
        "{by_default} again {} s after its burst; {never} never",
        since(began, first.at).as_secs()
    ))
}
