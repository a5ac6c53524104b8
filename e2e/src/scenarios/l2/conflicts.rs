//! A foreign host has the same address, before us or after us (RFC 5227, RFC 4862), and one that has others is left alone.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::faults::{fresh_speakers, speaker};
use super::handles::{
    LIMIT, Metrics, advertise_with, all_nodes, announcer, created, dual_service, ip, only, others,
    pool, readvertise, settles_on,
};
use super::scenario;
use super::status::statuses;
use super::watched::{mac_of, node_of};
use crate::capture::{Capture, Heard};
use crate::cluster::{Site, condition, service_path};
use crate::frames;
use crate::scenarios::{Scenario, workloads};
use crate::segment::ForeignHost;
use crate::{host, neighbors, network, objects};

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "probe-before-the-first-claim",
        "before an address is claimed it is asked for: an ARP probe, and duplicate address detection",
        probe,
    ),
    scenario(
        "conflict-is-told",
        "a foreign host has the address already: it is announced all the same, and event, metric and condition name the host",
        warn,
    ),
    scenario(
        "conflict-withholds",
        "with ferrolb.io/address-conflict: withhold nobody of ours says a word until the foreign host is gone, and then it is announced",
        withhold,
    ),
    scenario(
        "withheld-whoever-takes-over",
        "a withheld address stays so when its speaker is killed and restarted and when its node is lost to another",
        withheld_on,
    ),
    scenario(
        "conflict-goes-along",
        "a conflict is told of by the node that the address is moved to, too",
        goes_along,
    ),
    scenario(
        "claimed-while-held",
        "a foreign host claims an address that we hold: event, metric, and one defence in ten seconds whatever the storm",
        claimed,
    ),
    scenario(
        "another-clusters-addresses",
        "another cluster's 200 addresses on the segment are neither answered for nor claimed nor taken for conflicts",
        another_cluster,
    ),
];

const METRIC: &str = "ferrolb_layer2_address_conflicts_total";
/// RFC 5227 section 2.4 allows one defence in this time (DEFEND_INTERVAL).
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// How long the burst of a new announcement goes on, with a round to spare.
const BURST: Duration = Duration::from_secs(7);

fn pass(time: Duration) -> Result<()> {
    let began = SystemTime::now();
    host::wait_until("the time is over", time * 2, || {
        Ok(began.elapsed().unwrap_or_default() > time)
    })
}

/// Whether a node of ours sent it.
fn is_ours(heard: &Heard) -> bool {
    node_of(heard.message.from()).is_some()
}

fn speaks_for(heard: &Heard, address: IpAddr) -> bool {
    heard.message.answers_for(address) || heard.message.claims(address)
}

fn conflicts(site: &Site) -> Result<f64> {
    all_nodes()
        .iter()
        .map(|node| Ok(Metrics::of(site, node)?.sum(METRIC, &[])))
        .sum()
}

/// A pool that is not told again by itself, which would look like a defence.
fn ground(site: &Site, name: &str, annotations: &Value) -> Result<()> {
    let mut all = json!({"ferrolb.io/refresh-interval": "0"});
    if let (Some(all), Some(more)) = (all.as_object_mut(), annotations.as_object()) {
        all.extend(more.clone());
    }
    pool(site, name)?;
    advertise_with(site, name, name, &json!({}), &all)
}

fn probe(site: &Site) -> Result<String> {
    ground(site, "probed", &json!({}))?;
    let capture = Capture::of_neighbours(&site.run)?;
    let addresses = dual_service(site, "probed", "probed")?;
    let mut notes = Vec::new();
    for address in &addresses {
        let address = ip(address)?;
        let claim = capture.wait(&format!("{address} is claimed"), LIMIT, |heard| {
            heard.message.claims(address)
        })?;
        let heard = capture.heard()?;
        let probe = heard
            .iter()
            .find(|h| h.message.probes(address) && h.message.from() == claim.message.from())
            .with_context(|| format!("{address} was claimed and never asked for"))?;
        let before = claim.at.duration_since(probe.at);
        let before = before.with_context(|| format!("{address} was asked for after the claim"))?;
        notes.push(format!("{address} {} ms", before.as_millis()));
    }
    Ok(format!(
        "asked for before it was claimed: {}",
        notes.join(", ")
    ))
}

/// Waits until the Service is told of the conflict with this host, and the conflict is counted.
fn is_told(site: &Site, service: &str, host: &ForeignHost, before: f64) -> Result<String> {
    let mac = frames::text(host.mac);
    let mut events = Vec::new();
    let event = site.wait("the event AddressConflict", LIMIT, || {
        events = site.events("default", "Service", service)?;
        let told =
            |e: &&String| e.starts_with("AddressConflict") && e.to_lowercase().contains(&mac);
        Ok(events.iter().find(told).cloned())
    });
    let event = event.with_context(|| format!("it is told {events:?}, nothing of {mac}"))?;
    site.wait_for("the conflict is counted", LIMIT, || {
        Ok(conflicts(site)? > before)
    })?;
    Ok(event)
}

/// Waits until the status of the announced Service has the condition.
fn is_in_the_status(site: &Site, service: &str) -> Result<()> {
    let mut last = Vec::new();
    let said = site.wait_for("the condition AddressConflict", LIMIT, || {
        last = statuses(site, service)?;
        let conflict =
            |s: &Value| condition(s, "AddressConflict").is_some_and(|c| c["status"] == "True");
        Ok(last.iter().any(conflict))
    });
    said.with_context(|| format!("its status is {last:?}"))
}

/// The address that a Service of this pool will ask for, one for each family.
fn next_addresses(site: &Site, pool: &str) -> Result<[String; 2]> {
    let addresses = dual_service(site, "first-of-pool", pool)?;
    site.delete(&service_path("first-of-pool"))?;
    for address in &addresses {
        super::handles::nobody_answers(site, address)?;
    }
    Ok(addresses)
}

fn asking_for(name: &str, pool: &str, addresses: &[String]) -> Value {
    let mut service = objects::dual_stack(name, pool);
    service["metadata"]["annotations"]["metallb.io/loadBalancerIPs"] = json!(addresses.join(","));
    service
}

fn warn(site: &Site) -> Result<String> {
    ground(site, "warned", &json!({}))?;
    let addresses = next_addresses(site, "warned")?;
    let foreign = ForeignHost::join(&site.run, "foreign", 1)?;
    for address in &addresses {
        foreign.take(address)?;
    }
    let before = conflicts(site)?;
    created(site, &asking_for("warned", "warned", &addresses), 2)?;
    for address in &addresses {
        site.wait_for(&format!("a node answers for {address}"), LIMIT, || {
            let macs = neighbors::macs_answering(&site.run, "eth0", address)?;
            Ok(macs.iter().any(|mac| *mac != frames::text(foreign.mac)))
        })?;
    }
    let event = is_told(site, "warned", &foreign, before)?;
    is_in_the_status(site, "warned")?;
    // It is over when the host gives the address up.
    for address in &addresses {
        foreign.give_up(address)?;
        announcer(site, address)?;
    }
    Ok(event)
}

fn withhold(site: &Site) -> Result<String> {
    const SOON: Duration = Duration::from_secs(15);
    let annotations = json!({"ferrolb.io/address-conflict": "withhold"});
    ground(site, "withheld", &annotations)?;
    let addresses = next_addresses(site, "withheld")?;
    let foreign = ForeignHost::join(&site.run, "foreign", 2)?;
    for address in &addresses {
        foreign.take(address)?;
    }
    let before = conflicts(site)?;
    let capture = Capture::of_neighbours(&site.run)?;
    created(site, &asking_for("withheld", "withheld", &addresses), 2)?;
    let told = is_told(site, "withheld", &foreign, before);
    pass(Duration::from_secs(5))?;
    for address in &addresses {
        let macs = neighbors::macs_answering(&site.run, "eth0", address)?;
        ensure!(
            macs == [frames::text(foreign.mac)],
            "{macs:?} answer for {address}"
        );
    }
    let heard = capture.heard()?;
    for address in &addresses {
        let address = ip(address)?;
        let ours = heard.iter().find(|h| is_ours(h) && speaks_for(h, address));
        ensure!(ours.is_none(), "{ours:?} while the address is withheld");
    }
    let told = told?;
    let gone = SystemTime::now();
    drop(foreign);
    let mut slowest = Duration::ZERO;
    for address in &addresses {
        let address = ip(address)?;
        let what = format!("{address} is announced");
        let claim = capture.wait(&what, SOON, |h| is_ours(h) && h.message.claims(address))?;
        slowest = slowest.max(claim.at.duration_since(gone).unwrap_or_default());
    }
    ensure!(slowest < SOON, "announced only after {slowest:?}");
    for address in &addresses {
        announcer(site, address)?;
    }
    Ok(format!(
        "announced {} ms after the host was gone; {told}",
        slowest.as_millis()
    ))
}

/// The node that stands for a Service.
fn standing_for(site: &Site, service: &str) -> Result<&'static str> {
    site.wait("a node stands for the Service", LIMIT, || {
        let statuses = statuses(site, service)?;
        let node = statuses.first().map(|s| s["status"]["node"].clone());
        let is = |name: &&'static str| node.as_ref().is_some_and(|node| node == *name);
        Ok(all_nodes().into_iter().find(is))
    })
}

fn withheld_on(site: &Site) -> Result<String> {
    const NAME: &str = "withheld-on";
    let annotations = json!({"ferrolb.io/address-conflict": "withhold"});
    ground(site, NAME, &annotations)?;
    let addresses = next_addresses(site, NAME)?;
    let foreign = ForeignHost::join(&site.run, "foreign", 4)?;
    for address in &addresses {
        foreign.take(address)?;
    }
    let before = conflicts(site)?;
    let capture = Capture::of_neighbours(&site.run)?;
    created(site, &asking_for(NAME, NAME, &addresses), 2)?;
    is_told(site, NAME, &foreign, before)?;
    let node = standing_for(site, NAME)?;

    let restarts = workloads::restarts(site, "speaker")?;
    speaker(site, node)?.kill();
    site.wait_for("the speaker is started again", LIMIT, || {
        Ok(workloads::restarts(site, "speaker")? > restarts)
    })?;
    // Who goes on with it, or had it meanwhile, has found the host, too.
    let told = |told_by: &str| {
        site.wait_for(&format!("{told_by} tells of the host"), LIMIT, || {
            let events = site.events("default", "Service", NAME)?;
            let by = |e: &String| {
                e.starts_with("AddressConflict") && e.contains(&format!("node \"{told_by}\""))
            };
            Ok(events.iter().any(by))
        })
    };
    told(node)?;
    network::set_link(&site.run, node, false)?;
    let heir = others(node);
    let successor = site.wait("another tells of the host", LIMIT, || {
        let events = site.events("default", "Service", NAME)?;
        let by = |name: &&str| {
            events
                .iter()
                .any(|e| e.contains(&format!("node \"{name}\"")))
        };
        Ok(heir.iter().copied().find(by))
    })?;
    network::set_link(&site.run, node, true)?;
    pass(Duration::from_secs(5))?;
    let heard = capture.heard()?;
    for address in &addresses {
        let address = ip(address)?;
        let ours = heard.iter().find(|h| is_ours(h) && speaks_for(h, address));
        ensure!(ours.is_none(), "{ours:?} while the address is withheld");
    }
    drop(foreign);
    for address in &addresses {
        announcer(site, address)?;
    }
    fresh_speakers(site, &[node])?;
    Ok(format!(
        "{node} restarted, {successor} took over, and neither said a word of the addresses"
    ))
}

fn goes_along(site: &Site) -> Result<String> {
    const NAME: &str = "goes-along";
    ground(site, NAME, &json!({}))?;
    let addresses = next_addresses(site, NAME)?;
    let foreign = ForeignHost::join(&site.run, "foreign", 5)?;
    foreign.take(&addresses[0])?;
    let before = conflicts(site)?;
    created(site, &asking_for(NAME, NAME, &addresses), 2)?;
    is_told(site, NAME, &foreign, before)?;
    let node = standing_for(site, NAME)?;
    let other = others(node)[0];
    let began = SystemTime::now();
    readvertise(site, NAME, &json!({"nodeSelectors": [only(other)]}))?;
    let event = site.wait("the other node tells of it", LIMIT, || {
        let events = site.events("default", "Service", NAME)?;
        let by = |e: &&String| {
            e.starts_with("AddressConflict") && e.contains(&format!("node \"{other}\""))
        };
        Ok(events.iter().find(by).cloned())
    })?;
    let after = began.elapsed().unwrap_or_default();
    is_in_the_status(site, NAME)?;
    Ok(format!("{} ms after the move: {event}", after.as_millis()))
}

/// The rounds in which a node defended an address after a moment: frames that follow each other at once are one round.
fn defences(heard: &[Heard], node: &str, address: IpAddr, since: SystemTime) -> Result<Vec<u128>> {
    const ONE_ROUND: Duration = Duration::from_millis(200);
    let mac = mac_of(node)?;
    let mut rounds: Vec<SystemTime> = Vec::new();
    for defence in heard
        .iter()
        .filter(|h| h.at > since && h.message.claims(address) && h.message.from() == mac)
    {
        let new = rounds.last().is_none_or(|last| {
            defence
                .at
                .duration_since(*last)
                .is_ok_and(|d| d > ONE_ROUND)
        });
        if new {
            rounds.push(defence.at);
        }
    }
    let after = |at: SystemTime| at.duration_since(since).unwrap_or_default().as_millis();
    Ok(rounds.into_iter().map(after).collect())
}

fn claimed(site: &Site) -> Result<String> {
    const STORM: usize = 1000;
    ground(site, "claimed", &json!({}))?;
    let addresses = dual_service(site, "claimed", "claimed")?;
    let node = announcer(site, &addresses[0])?;
    settles_on(site, &addresses[1], node)?;
    let foreign = ForeignHost::join(&site.run, "foreign", 3)?;
    pass(BURST)?;
    let before = conflicts(site)?;
    let capture = Capture::of_neighbours(&site.run)?;
    let mut notes = Vec::new();
    let began = SystemTime::now();
    for address in &addresses {
        foreign.send(vec![foreign.claim(ip(address)?)])?;
    }
    // A storm of a second, in ten parts.
    for _ in 0..10 {
        for address in &addresses {
            foreign.send(vec![foreign.claim(ip(address)?); STORM / 10])?;
        }
        pass(Duration::from_millis(50))?;
    }
    let told = is_told(site, "claimed", &foreign, before);
    pass(DEFEND_INTERVAL.saturating_sub(began.elapsed().unwrap_or_default()))?;
    let heard = capture.heard()?;
    for address in &addresses {
        let address = ip(address)?;
        let claims = heard
            .iter()
            .filter(|h| h.message.claims(address) && h.message.from() == foreign.mac)
            .count();
        let rounds = defences(&heard, node, address, began)?;
        ensure!(
            rounds.len() == 1,
            "{claims} claims of {address}: {node} defended it after {rounds:?} ms"
        );
        notes.push(format!(
            "{claims} claims of {address}, one defence after {} ms",
            rounds[0]
        ));
    }
    let told = told?;
    // The next claim after the interval, which began with the defence a second after the first, is answered again.
    pass(Duration::from_secs(2))?;
    let again = SystemTime::now();
    for address in &addresses {
        foreign.send(vec![foreign.claim(ip(address)?)])?;
        let address = ip(address)?;
        let mac = mac_of(node)?;
        capture.wait("a defence against the next claim", LIMIT / 4, |h| {
            h.at > again && h.message.claims(address) && h.message.from() == mac
        })?;
    }
    Ok(format!("{}; {told}", notes.join(", ")))
}

fn another_cluster(site: &Site) -> Result<String> {
    const ADDRESSES: u8 = 200;
    ground(site, "beside-another", &json!({}))?;
    let own = dual_service(site, "beside-another", "beside-another")?;
    let node = announcer(site, &own[0])?;
    let foreign = ForeignHost::join(&site.run, "foreign", 4)?;
    foreign.answer_for("10.10.200.0/24")?;
    foreign.take("10.10.200.1")?;
    let before = conflicts(site)?;
    let capture = Capture::of_neighbours(&site.run)?;
    let addresses: Vec<IpAddr> = (1..=ADDRESSES)
        .map(|last| ip(&format!("10.10.200.{last}")))
        .collect::<Result<_>>()?;
    // It tells of each, and the asker asks for each.
    foreign.send(addresses.iter().map(|a| foreign.claim(*a)).collect())?;
    let questions = addresses
        .iter()
        .map(|a| crate::segment::question(*a))
        .collect::<Result<Vec<_>>>()?;
    neighbors::send_frames(&site.run, questions)?;
    let mut unanswered = Vec::new();
    let all = host::wait_until("the foreign host answers for all", LIMIT, || {
        let heard = capture.heard()?;
        unanswered = addresses
            .iter()
            .filter(|a| !heard.iter().any(|h| h.message.answers_for(**a)))
            .collect();
        Ok(unanswered.is_empty())
    });
    all.with_context(|| format!("{} were not answered for", unanswered.len()))?;
    let heard = capture.finish()?;
    for address in &addresses {
        let ours = heard.iter().find(|h| is_ours(h) && speaks_for(h, *address));
        ensure!(ours.is_none(), "{ours:?}");
    }
    ensure!(
        conflicts(site)? <= before,
        "the other cluster's addresses were taken for conflicts"
    );
    for address in &own {
        settles_on(site, address, node)?;
    }
    Ok(format!("{ADDRESSES} addresses of another, {own:?} ours"))
}
