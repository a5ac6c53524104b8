//! Speakers that end and come back: what routers make of it, with graceful restart and without, and with a warning before.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::handles;
use super::scenario;
use super::table::{Laying, PLAIN, Table, Want, peer_name};
use crate::cluster::{SYSTEM, Site};
use crate::plan::NODES;
use crate::routers::{BOTH, Bird, Family, Frr};
use crate::scenarios::Scenario;
use crate::{host, interrupt};

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "graceful-restart",
        "B2, B10: with enableGracefulRestart the routes of a node stay in the kernels of FRR and BIRD while its speaker is stopped or killed, and comes back",
        |site| outlasted(site, true),
    ),
    scenario(
        "no-graceful-restart",
        "B3: without it they go at once, and come back with the speaker",
        |site| outlasted(site, false),
    ),
    scenario(
        "graceful-shutdown",
        "a speaker that is stopped first says with GRACEFUL_SHUTDOWN (RFC 8326) that its routes are about to go",
        marked,
    ),
];

/// The node whose speaker ends.
const NODE: usize = 1;

fn laying() -> Laying {
    Laying {
        who: vec![&Frr, &Bird],
        ..Laying::of(PLAIN)
    }
}

/// How often the kernel of a router had no next hop over the node, asked again and again until this is finished.
struct Watch {
    stop: Arc<AtomicBool>,
    missing: Arc<AtomicU32>,
    asked: Arc<AtomicU32>,
    thread: std::thread::JoinHandle<Result<()>>,
}

impl Watch {
    fn start(namespace: String, address: String, hop: &'static str) -> Self {
        let (stop, missing, asked) = (
            Arc::<AtomicBool>::default(),
            Arc::<AtomicU32>::default(),
            Arc::<AtomicU32>::default(),
        );
        let (stopped, misses, count) = (stop.clone(), missing.clone(), asked.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                interrupt::check()?;
                let is_there = leads_over(&namespace, &address, hop)?;
                misses.fetch_add(u32::from(!is_there), Ordering::Relaxed);
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        Self {
            stop,
            missing,
            asked,
            thread,
        }
    }

    fn finish(self) -> Result<(u32, u32)> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join();
        ended.map_err(|_| anyhow::anyhow!("the watch panicked"))??;
        Ok((
            self.missing.load(Ordering::Relaxed),
            self.asked.load(Ordering::Relaxed),
        ))
    }
}

fn leads_over(namespace: &str, address: &str, hop: &str) -> Result<bool> {
    let family = if address.contains(':') { "-6" } else { "-4" };
    let routes = host::run_in(namespace, "ip", &[family, "route", "show", address])?;
    Ok(routes.split_whitespace().any(|word| word == hop))
}

fn outlasted(site: &Site, graceful: bool) -> Result<String> {
    let table = Table::routers_alone(site, &laying())?;
    for router in &table.routers {
        table.peer_with(router, &json!({"enableGracefulRestart": graceful}))?;
    }
    table.established()?;
    let name = if graceful { "outlasting" } else { "ending" };
    handles::advertised_pool(site, name, &json!({}))?;
    let addresses = handles::dual_service(site, name, name)?;
    table.hear_all(&addresses, &Want::all())?;
    let node = NODES.get(NODE).context("there is such a node")?;
    let hop = |address: &String| {
        if address.contains(':') {
            node.v6
        } else {
            node.v4
        }
    };
    let mut notes = Vec::new();
    for how in ["stopped", "killed"] {
        let lives = table.lives()?;
        let mut watches = Vec::new();
        for router in &table.routers {
            for address in &addresses {
                // What BGP has heard is in the kernel a little later.
                let namespace = router.seat.place.namespace();
                let what = format!("the kernel of {} leads over {}", router.name(), node.name);
                site.wait_for(&what, Duration::from_secs(20), || {
                    leads_over(&namespace, address, hop(address))
                })?;
                let family = Family::of(address.parse()?).ip();
                let watch = Watch::start(namespace, address.clone(), hop(address));
                watches.push((format!("{}, {family}", router.name()), watch));
            }
        }
        let speakers = site
            .run
            .container_processes("/ferrolb-speaker", Some(node.name));
        let [speaker] = speakers.as_slice() else {
            anyhow::bail!("{} speakers on {}", speakers.len(), node.name);
        };
        if how == "stopped" {
            let selector = format!("spec.nodeName={}", node.name);
            site.kubectl(&[
                "-n",
                SYSTEM,
                "delete",
                "pod",
                "-l",
                "app.kubernetes.io/component=speaker",
                "--field-selector",
                &selector,
            ])?;
        } else {
            speaker.kill();
        }
        // Each router has another session with the node than before, over both families.
        site.wait_for("the node has new sessions", Duration::from_secs(90), || {
            let Ok(now) = table.lives() else {
                return Ok(false);
            };
            let renewed = lives
                .iter()
                .filter(|(of, life)| now.get(*of) != Some(*life));
            Ok(renewed.count() == 2 * table.routers.len())
        })?;
        table.hear_all(&addresses, &Want::all())?;
        for (router, watch) in watches {
            let (missing, asked) = watch.finish()?;
            ensure!(asked > 50, "the kernel was asked {asked} times only");
            if graceful {
                ensure!(
                    missing == 0,
                    "{router} had no route over {} {missing} times of {asked} while the speaker was {how}",
                    node.name
                );
            } else {
                ensure!(
                    missing > 0,
                    "{router} never lost the route although the speaker was {how}"
                );
            }
            notes.push(format!(
                "{router}, {how}: without the route {missing} of {asked} times"
            ));
        }
    }
    Ok(notes.join("; "))
}

fn marked(site: &Site) -> Result<String> {
    let table = Table::lay_with(site, &laying())?;
    let lives = table.lives()?;
    for router in &table.routers {
        for family in BOTH {
            let annotations =
                json!({"metadata": {"annotations": {"ferrolb.io/graceful-shutdown": "4s"}}});
            site.patch(
                &handles::peers_path(&peer_name(router, family)),
                &annotations,
            )?;
        }
    }
    handles::advertised_pool(site, "marked", &json!({}))?;
    let addresses = handles::dual_service(site, "marked", "marked")?;
    table.hear_all(&addresses, &Want::all())?;
    // How a session ends is no part of it.
    table.unbroken_since(&lives)?;
    let address = handles::whole(addresses.first().context("it has an address")?)?;
    let node = NODES.get(NODE).context("there is such a node")?;
    let selector = format!("spec.nodeName={}", node.name);
    site.kubectl(&[
        "-n",
        SYSTEM,
        "delete",
        "pod",
        "--wait=false",
        "-l",
        "app.kubernetes.io/component=speaker",
        "--field-selector",
        &selector,
    ])?;
    for router in &table.routers {
        let own: IpAddr = node.v4.parse()?;
        site.wait_for(
            &format!("{} hears the mark", router.name()),
            Duration::from_secs(10),
            || {
                let routes = router.routes(address)?;
                let marked = |route: &crate::routers::Route| {
                    route.from == own
                        && route.communities.iter().any(|text| {
                            text == "65535:0"
                                || text == "gracefulShutdown"
                                || text == "graceful-shutdown"
                        })
                };
                Ok(routes.iter().any(marked))
            },
        )?;
    }
    table.established()?;
    table.hear_all(&addresses, &Want::all())?;
    Ok(format!("FRR and BIRD heard it of {}", node.name))
}
