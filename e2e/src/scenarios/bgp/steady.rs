//! Changes that have nothing to do with a session leave it alone, and routes that nobody changed stay.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::attributes::withdrawals;
use super::handles::{self, only};
use super::scenario;
use super::table::{Lives, PLAIN, Style, Table, Want, in_styles};
use crate::cluster::{Site, service_path};
use crate::objects;
use crate::scenarios::{Scenario, is_full};

pub const SCENARIOS: &[Scenario] = &[scenario(
    "unrelated-changes",
    "100 random changes (with --full once 1,000) of Services, pools, advertisements, aliases and other peers: no session is reset, no route is lost",
    |site| in_styles(site, &[PLAIN], unrelated),
)];

/// What is there besides the route that must stay.
#[derive(Default)]
struct Others {
    services: BTreeSet<String>,
    pools: BTreeSet<String>,
    advertisements: BTreeSet<String>,
    peers: BTreeSet<String>,
    aliases: usize,
    next: usize,
}

fn unrelated(site: &Site, style: Style) -> Result<String> {
    let table = Table::lay(site, style)?;
    handles::advertised_pool(site, "steady", &json!({"communities": ["64512:1"]}))?;
    let addresses = handles::dual_service(site, "steady", "steady")?;
    let want = Want::communities(&["64512:1"]);
    table.hear_all(&addresses, &want)?;
    let (lives, lost) = (table.lives()?, withdrawals(&table, &addresses)?);
    let seed: u64 = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let changes = if is_full() && style == PLAIN {
        1000
    } else {
        100
    };
    let mut others = Others::default();
    let mut kinds = std::collections::BTreeMap::<&str, usize>::new();
    for number in 0..changes {
        let what = change(site, &mut others, &mut random)
            .with_context(|| format!("change {number} with seed {seed}"))?;
        *kinds.entry(what).or_default() += 1;
        if number % 20 == 19 {
            check(site, &table, &lives, &others)
                .with_context(|| format!("after change {number} with seed {seed}"))?;
        }
    }
    table.hear_all(&addresses, &want)?;
    let lost = withdrawals(&table, &addresses)? - lost;
    ensure!(
        lost == 0,
        "the route was withdrawn {lost} times, with seed {seed}"
    );
    table.unbroken_since(&lives)?;
    Ok(format!(
        "{changes} changes ({kinds:?}): {} sessions, 0 resets, 0 routes lost",
        lives.len()
    ))
}

/// A route that is made after the changes is heard: the speakers have seen all of them.
fn check(site: &Site, table: &Table<'_>, lives: &Lives, others: &Others) -> Result<()> {
    let name = format!("marker-{}", others.next);
    let marker = handles::dual_service(site, &name, "steady")?;
    table.hear_all(&marker, &Want::communities(&["64512:1"]))?;
    site.delete(&service_path(&name))?;
    table.unbroken_since(lives)
}

/// One change that concerns neither the sessions nor the route that must stay.
fn change(site: &Site, others: &mut Others, random: &mut StdRng) -> Result<&'static str> {
    others.next += 1;
    let name = format!("other-{}", others.next);
    let any = |all: &BTreeSet<String>, random: &mut StdRng| {
        let all: Vec<_> = all.iter().cloned().collect();
        all.choose(random).cloned()
    };
    match random.random_range(0..10) {
        0 | 1 => {
            let pool = any(&others.pools, random).unwrap_or_else(|| "steady".to_owned());
            let service = objects::dual_stack(&name, &pool);
            site.create("/api/v1/namespaces/default/services", &service)?;
            others.services.insert(name);
            return Ok("Service made");
        }
        2 => {
            if let Some(service) = any(&others.services, random) {
                site.delete(&service_path(&service))?;
                others.services.remove(&service);
                return Ok("Service deleted");
            }
        }
        3 => {
            if let Some(service) = any(&others.services, random) {
                let policy = ["Local", "Cluster"].choose(random).copied();
                let patch = json!({"spec": {"externalTrafficPolicy": policy}});
                site.patch(&service_path(&service), &patch)?;
                return Ok("Service edited");
            }
        }
        4 => {
            handles::pool(site, &name)?;
            others.pools.insert(name);
            return Ok("pool made");
        }
        5 => {
            // Of another pool than the steady one, to whose route it would add its communities.
            if let Some(pool) = any(&others.pools, random) {
                let spec = json!({"communities": ["64512:66"]});
                handles::advertise(site, &name, &pool, &spec)?;
                others.advertisements.insert(name);
                return Ok("advertisement made");
            }
        }
        6 => {
            if let Some(advertisement) = any(&others.advertisements, random) {
                let nodes = json!([only(
                    handles::all_nodes()
                        .choose(random)
                        .copied()
                        .unwrap_or("node-1")
                )]);
                let community = format!("64512:{}", random.random_range(1..60_000));
                let spec = json!({"communities": [community], "nodeSelectors": nodes});
                handles::readvertise(site, &advertisement, &spec)?;
                return Ok("advertisement edited");
            }
        }
        7 => {
            // Nobody is there.
            let (third, fourth) = (9 + others.next / 250, others.next % 250 + 1);
            let address = format!("10.10.{third}.{fourth}");
            let spec = json!({"myASN": 64512, "peerASN": 64990, "peerAddress": address});
            handles::peer(site, &name, &spec)?;
            others.peers.insert(name);
            return Ok("peer made");
        }
        8 => {
            if let Some(peer) = any(&others.peers, random) {
                if random.random_bool(0.5) {
                    handles::remove_peer(site, &peer)?;
                    others.peers.remove(&peer);
                    return Ok("peer deleted");
                }
                let spec = json!({"holdTime": format!("{}s", random.random_range(3..300)), "keepaliveTime": "1s"});
                handles::change_peer(site, &peer, &spec)?;
                return Ok("peer edited");
            }
        }
        _ => {}
    }
    others.aliases += 1;
    handles::alias(
        site,
        &format!("alias-{}", others.aliases),
        &format!("1:{}", others.aliases),
    )?;
    Ok("alias made")
}
