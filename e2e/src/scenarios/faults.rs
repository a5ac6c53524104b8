//! Parts are killed and come back; addresses stay, and packets go on.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Scenario, bgp, l2, workloads};
use crate::cluster::Site;
use crate::plan::{CLIENT, CLIENT_L2};
use crate::prober::{Prober, Seen};
use crate::{control_plane, install, objects, prober, site};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        group: "faults",
        name: "operator-killed",
        doc: "all operators are killed -9 and come back; no address changes, no packet is lost",
        run: operator,
    },
    Scenario {
        group: "faults",
        name: "api-server-killed",
        doc: "the API server is killed -9, away for a while, and comes back; no address changes, no packet is lost, nobody spins",
        run: api_server,
    },
    Scenario {
        group: "faults",
        name: "speaker-killed",
        doc: "the announcing speaker is killed -9 and comes back; no address changes and the client is served",
        run: speaker,
    },
    Scenario {
        group: "faults",
        name: "all-speakers-killed",
        doc: "every speaker is killed -9; all sessions and routes come back with the same addresses",
        run: all_speakers,
    },
];

const LIMIT: Duration = Duration::from_secs(60);

/// A Service of each kind with a client that never stops asking it.
struct Watched {
    layer2: String,
    bgp: String,
    announcer: &'static str,
    clients: [Prober; 2],
}

fn watch(site: &Site) -> Result<Watched> {
    let (layer2, announcer) = l2::announced(site, "steady-layer2")?;
    site.create(
        "/api/v1/namespaces/default/services",
        &objects::service("steady-bgp", "bgp"),
    )?;
    let bgp = site.addresses("steady-bgp", 1)?.remove(0);
    bgp::spread_over_all(site, &bgp)?;
    // Both ways must serve before the first packet counts; kube-proxy may be a moment behind the announcement on any node.
    for (place, address) in [(CLIENT_L2.name, &layer2), (CLIENT, &bgp)] {
        let mut in_a_row = 0;
        site.wait_for("the client is served", LIMIT, || {
            in_a_row = if prober::http(&site.run, place, address).is_ok() {
                in_a_row + 1
            } else {
                0
            };
            Ok(in_a_row >= 12)
        })?;
    }
    let clients = [
        Prober::start(&site.run, CLIENT_L2.name, layer2.parse()?, 80)?,
        Prober::start(&site.run, CLIENT, bgp.parse()?, 80)?,
    ];
    Ok(Watched {
        layer2,
        bgp,
        announcer,
        clients,
    })
}

impl Watched {
    /// Ends the clients, after checking that both Services still have their addresses.
    fn finish(self, site: &Site) -> Result<[Seen; 2]> {
        for (service, address) in [("steady-layer2", &self.layer2), ("steady-bgp", &self.bgp)] {
            let now = site.addresses_now(service)?;
            ensure!(
                now == [address.clone()],
                "{service} had {address} and has {now:?}"
            );
        }
        let [layer2, bgp] = self.clients;
        Ok([layer2.finish()?, bgp.finish()?])
    }
}

fn nothing_lost(seen: [Seen; 2]) -> Result<String> {
    for (how, seen) in ["layer 2", "BGP"].iter().zip(seen) {
        ensure!(
            seen.sent > 100,
            "the {how} client sent only {} packets",
            seen.sent
        );
        ensure!(
            seen.lost == 0,
            "the {how} client lost {} of {} packets, and was not served for {} ms",
            seen.lost,
            seen.sent,
            seen.outage.as_millis()
        );
    }
    Ok(format!(
        "{} packets, none lost",
        seen.iter().map(|s| s.sent).sum::<usize>()
    ))
}

/// Kills every process of this program in the site's containers, and waits until as many were started again.
fn kill_containers(site: &Site, component: &str, on: Option<&str>) -> Result<usize> {
    let before = workloads::restarts(site, component)?;
    let processes = site
        .run
        .container_processes(&format!("/ferrolb-{component}"), on);
    ensure!(!processes.is_empty(), "no {component} runs");
    for process in &processes {
        process.kill();
    }
    let count = processes.len();
    site.wait_for(&format!("{component} is started again"), LIMIT, || {
        Ok(workloads::restarts(site, component)? >= before + u64::try_from(count)?)
    })?;
    install::rolled_out(site)?;
    Ok(count)
}

/// A new Service gets an address: whoever decides is at work again.
fn still_allocates(site: &Site, name: &str) -> Result<()> {
    site.create(
        "/api/v1/namespaces/default/services",
        &objects::service(name, "layer2"),
    )?;
    site.wait_for("a new Service gets an address", LIMIT, || {
        Ok(!site.addresses_now(name)?.is_empty())
    })
}

fn operator(site: &Site) -> Result<String> {
    let watched = watch(site)?;
    let started = Instant::now();
    kill_containers(site, "operator", None)?;
    still_allocates(site, "after-the-operator")?;
    let elapsed = started.elapsed().as_secs_f64();
    let note = nothing_lost(watched.finish(site)?)?;
    Ok(format!(
        "{note}; a new Service had its address {elapsed:.1} s after the kill"
    ))
}

fn api_server(site: &Site) -> Result<String> {
    /// How long the cluster must do without.
    const AWAY: Duration = Duration::from_secs(5);
    let watched = watch(site)?;
    let mut daemon = site.run.started_daemon(control_plane::API_SERVER)?;
    daemon.kill()?;
    let ours: Vec<_> = ["operator", "webhook", "speaker"]
        .iter()
        .flat_map(|c| site.run.container_processes(&format!("/ferrolb-{c}"), None))
        .collect();
    let busy = || ours.iter().map(|p| p.processor_time()).sum::<Duration>();
    let before = busy();
    std::thread::sleep(AWAY);
    let spent = busy().saturating_sub(before);
    ensure!(
        spent < AWAY / 10,
        "{} processes spent {spent:?} of processor time asking in vain",
        ours.len()
    );
    let daemon = site::kill_and_restart(&site.run, control_plane::API_SERVER)?;
    control_plane::wait_ready(&site.run, &daemon)?;
    still_allocates(site, "after-the-api-server")?;
    let note = nothing_lost(watched.finish(site)?)?;
    let milliseconds = spent.as_millis();
    Ok(format!(
        "{note}; {} processes spent {milliseconds} ms of processor time without it",
        ours.len()
    ))
}

fn speaker(site: &Site) -> Result<String> {
    let watched = watch(site)?;
    kill_containers(site, "speaker", Some(watched.announcer))?;
    l2::announcer(site, &watched.layer2)?;
    bgp::spread_over_all(site, &watched.bgp)?;
    let [layer2, bgp] = watched.finish(site)?;
    ensure!(
        layer2.outage < l2::faults::LOST,
        "the layer 2 client waited {:?}",
        layer2.outage
    );
    ensure!(
        bgp.outage < Duration::from_secs(5),
        "the BGP client waited {:?}",
        bgp.outage
    );
    Ok(format!(
        "not served for at most: layer 2 {} ms, BGP {} ms",
        layer2.outage.as_millis(),
        bgp.outage.as_millis()
    ))
}

fn all_speakers(site: &Site) -> Result<String> {
    let watched = watch(site)?;
    let killed = kill_containers(site, "speaker", None)?;
    install::sessions_established(site)?;
    bgp::spread_over_all(site, &watched.bgp)?;
    l2::announcer(site, &watched.layer2)?;
    let [layer2, bgp] = watched.finish(site)?;
    for (client, seen) in [("layer 2", &layer2), ("BGP", &bgp)] {
        ensure!(
            seen.outage < Duration::from_secs(10),
            "the {client} client waited {:?}",
            seen.outage
        );
    }
    Ok(format!(
        "{killed} killed; not served for at most: layer 2 {} ms, BGP {} ms",
        layer2.outage.as_millis(),
        bgp.outage.as_millis()
    ))
}
