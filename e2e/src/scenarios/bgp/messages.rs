//! What is in messages beyond routes: UPDATEs longer than 4,096 octets, and the words with which a session is ended.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::handles::{self, LIMIT};
use super::scenario;
use super::table::{PLAIN, Style, Table, in_styles, peer_name};
use crate::cluster::Site;
use crate::objects;
use crate::plan::NODES;
use crate::routers::{BOTH, Family};
use crate::scenarios::Scenario;
use crate::scenarios::l2::handles::Metrics;

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "extended-messages",
        "routes with communities that 4,096 octets do not hold: one UPDATE for a router that takes extended messages (RFC 8654), several for others",
        |site| in_styles(site, &[PLAIN], extended),
    ),
    scenario(
        "shut-down-with-a-reason",
        "routers end sessions administratively and say why (RFC 9003): condition and event have their words, and the session comes back",
        |site| in_styles(site, &[PLAIN], shut_down),
    ),
];

/// Routes of 17 octets each, and communities of 4: together more than 4,096 octets.
const ROUTES: usize = 90;
const COMMUNITIES: usize = 700;

fn extended(site: &Site, style: Style) -> Result<String> {
    let communities: Vec<String> = (1..=COMMUNITIES).map(|n| format!("64512:{n}")).collect();
    handles::advertised_pool(site, "long", &json!({"communities": communities}))?;
    let name = |number: usize| format!("long-{number}");
    for number in 0..ROUTES {
        let mut service = objects::service(&name(number), "long");
        json_patch::merge(
            &mut service["spec"],
            &json!({"ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack"}),
        );
        site.create("/api/v1/namespaces/default/services", &service)?;
    }
    let mut addresses = Vec::new();
    for number in 0..ROUTES {
        addresses.extend(site.addresses(&name(number), 1)?);
    }
    // Every node means to announce all of them before a session begins.
    for node in &NODES {
        site.wait_for(&format!("{} announces all", node.name), LIMIT, || {
            let metrics = Metrics::of(site, node.name)?;
            let ours = ["protocol=\"bgp\"", "service=\"default/long-"];
            Ok(metrics.series("metallb_speaker_announced", &ours).len() == addresses.len())
        })?;
    }
    let table = Table::lay(site, style)?;
    // Asking for all of them takes some routers long.
    let asked: Vec<String> = addresses.iter().step_by(16).cloned().collect();
    for router in &table.routers {
        for address in &asked {
            let prefix = handles::whole(address)?;
            let what = format!("{} hears {prefix} of every node", router.name());
            // BIRD's command does not print all of the communities.
            site.wait_for(&what, LIMIT, || {
                Ok(router.routes(prefix)?.len() == NODES.len())
            })?;
        }
    }
    let mut updates: BTreeMap<bool, Vec<(f64, &str)>> = BTreeMap::new();
    for router in &table.routers {
        let label = format!("peer=\"[{}]:179\"", router.seat.place.v6);
        let name = peer_name(router, Family::V6);
        for node in &NODES {
            let agreed = handles::negotiated(site, node.name, &name)?["extendedMessages"].as_bool();
            let agreed = agreed.context("extendedMessages is no boolean")?;
            let metrics = Metrics::of(site, node.name)?;
            let count = metrics.sum("metallb_bgp_updates_total", &[&label]);
            updates
                .entry(agreed)
                .or_default()
                .push((count, router.name()));
        }
    }
    let with = updates
        .get(&true)
        .context("no router takes extended messages")?;
    let without = updates
        .get(&false)
        .context("every router takes extended messages")?;
    let most = with.iter().map(|(count, _)| *count).fold(0.0, f64::max);
    let least = without
        .iter()
        .map(|(count, _)| *count)
        .fold(f64::INFINITY, f64::min);
    ensure!(
        most < least,
        "UPDATEs to routers with extended messages {with:?}, to others {without:?}"
    );
    let names = |of: &[(f64, &str)]| {
        let mut names: Vec<_> = of.iter().map(|(_, name)| (*name).to_owned()).collect();
        names.dedup();
        names.join(", ")
    };
    Ok(format!(
        "{} routes in {most} UPDATEs to {}, in {least} to {}",
        addresses.len(),
        names(with),
        names(without)
    ))
}

fn shut_down(site: &Site, style: Style) -> Result<String> {
    const REASON: &str = "rack 12 gets a new switch until 18:00";
    let table = Table::lay(site, style)?;
    let mut who = Vec::new();
    for router in &table.routers {
        let tell = |reason: Option<&str>| -> Result<bool> {
            let mut told = true;
            for neighbor in &router.seat.setup.neighbors {
                told &= router.shut_down(neighbor.address, reason)?;
            }
            Ok(told)
        };
        if !tell(Some(REASON))? {
            continue;
        }
        for family in BOTH {
            handles::told_on_object(
                site,
                &peer_name(router, family),
                &["administrative shutdown", REASON],
            )?;
        }
        who.push(router.name());
        tell(None)?;
    }
    ensure!(who.len() == 3, "only {who:?} were told to");
    table.established()?;
    Ok(who.join(", "))
}
