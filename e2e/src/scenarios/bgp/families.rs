//! Which family goes over which session, and with which next hop.

use anyhow::{Result, ensure};
use serde_json::json;

use super::handles;
use super::scenario;
use super::table::{INTERNAL, Laying, PLAIN, Style, Table, Want, hears, in_styles, peer_name};
use crate::cluster::Site;
use crate::plan::NODES;
use crate::routers::{BOTH, Family, Router, Setup};
use crate::scenarios::Scenario;
use crate::scenarios::l2::handles::Metrics;

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "families",
        "B26: over IPv4, over IPv6, over both: each session carries its own family, and both where dualStackAddressFamily says so",
        |site| in_styles(site, &[INTERNAL], families),
    ),
    scenario(
        "extended-next-hop",
        "IPv4 routes over IPv6 sessions: with the IPv6 next hop where the router takes it (RFC 8950), else with the node's IPv4 address; the same from them is read",
        |site| in_styles(site, &[PLAIN], extended_next_hop),
    ),
];

/// Announces to one family's peers, then to the other's, then to both, and says what every router must hear each time.
fn families(site: &Site, style: Style) -> Result<String> {
    for dual in [false, true] {
        let mut laying = Laying::of(style);
        laying.dual = dual;
        let table = Table::lay_with(site, &laying)?;
        handles::advertised_pool(site, "families", &json!({}))?;
        let addresses = handles::dual_service(site, "families", "families")?;
        for only in [Some(Family::V4), Some(Family::V6), None] {
            let names = |router: &Router| {
                let families = BOTH.into_iter().filter(|f| only.is_none_or(|o| o == *f));
                families.map(|f| peer_name(router, f)).collect::<Vec<_>>()
            };
            let peers: Vec<String> = table.routers.iter().flat_map(names).collect();
            handles::readvertise(site, "families", &json!({"peers": peers}))?;
            for address in &addresses {
                let prefix = handles::whole(address)?;
                for router in &table.routers {
                    let want = Want {
                        over: only,
                        ..Want::all()
                    };
                    hears(site, router, prefix, &want)?;
                }
            }
        }
        drop(table);
        crate::scenarios::remove_objects(site)?;
    }
    Ok("each alone, and both together".into())
}

fn extended_next_hop(site: &Site, style: Style) -> Result<String> {
    /// How many IPv4 routes FRR and BIRD announce to us, with such a next hop too where that was agreed on.
    const THEIRS: u32 = 5;
    for offered in [false, true] {
        let mut laying = Laying::of(style);
        laying.dual = true;
        laying.change = Box::new(move |setup: &mut Setup| {
            for neighbor in &mut setup.neighbors {
                neighbor.extended_next_hop = offered && neighbor.address.is_ipv6();
            }
            setup.originates = THEIRS;
        });
        let table = Table::lay_with(site, &laying)?;
        handles::advertised_pool(site, "hops", &json!({}))?;
        let addresses = handles::dual_service(site, "hops", "hops")?;
        table.hear_all(&addresses, &Want::all())?;
        let routes = table
            .router("FRR")?
            .routes(handles::whole(&addresses[0])?)?;
        let over_v6 = routes.iter().filter(|route| route.from.is_ipv6());
        let as_offered = over_v6
            .clone()
            .all(|route| route.next_hop.is_ipv6() == offered);
        ensure!(as_offered && over_v6.count() == 3, "FRR heard {routes:?}");
        for address in &addresses {
            super::services::reached_from_routers(&table, address, 80)?;
        }
        let lives = table.lives()?;
        for name in ["FRR", "BIRD"] {
            let router = table.router(name)?;
            let label = format!("peer=\"[{}]:179\"", router.seat.place.v6);
            for node in &NODES {
                let what = format!("{} has read {name}'s routes", node.name);
                site.wait_for(&what, handles::LIMIT, || {
                    let metrics = Metrics::of(site, node.name)?;
                    let read = metrics.sum("metallb_bgp_updates_total_received", &[&label]);
                    let told = router.told(node.v6.parse()?)?;
                    // Their routes, and after those an End-of-RIB marker for each family.
                    Ok(told >= u64::from(THEIRS) && read >= 3.0)
                })?;
                let metrics = Metrics::of(site, node.name)?;
                let wrong = metrics.sum("ferrolb_bgp_malformed_updates_total", &[&label]);
                ensure!(wrong == 0.0, "{wrong} UPDATEs of {name} count as malformed");
            }
        }
        table.unbroken_since(&lives)?;
        drop(table);
        crate::scenarios::remove_objects(site)?;
    }
    Ok("an IPv4 next hop at FRR, BIRD and ExaBGP, then an IPv6 one; at GoBGP always that".into())
}
