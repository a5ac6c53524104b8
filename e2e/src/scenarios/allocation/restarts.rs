//! The operator ends and comes back; Services have what they had.

use anyhow::Result;
use serde_json::json;

use super::handles::{NewPool, NewService, create_pools, others_are_served};
use super::scenario;
use super::surroundings::{replace_operators, without_operator};
use crate::cluster::Site;
use crate::scenarios::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "operator-restarted",
        "A3: the operator is restarted with four Services, and every Service keeps its address",
        restarted,
    ),
    scenario(
        "pool-split-and-renamed",
        "3.7: a pool is split, and a part gets another name: Services keep addresses that are in a pool, and the record follows",
        split,
    ),
];

fn restarted(site: &Site) -> Result<String> {
    let ranges = ["10.10.90.0/29", "fd10:90::/125"];
    create_pools(site, [NewPool::on_request("a3", &ranges)])?;
    let mut services = Vec::new();
    // Not in the order in which anything would be allocated again: the youngest has the first address, and one was freed.
    for (name, address) in [
        ("d", "10.10.90.6"),
        ("c", "10.10.90.3"),
        ("b", "10.10.90.0"),
    ] {
        let service = NewService::named(name).requesting(address).create(site)?;
        service.gets(&[address])?;
        service.annotate("metallb.io/loadBalancerIPs", None)?;
        services.push((service, vec![address]));
    }
    let dual = NewService::named("a")
        .pool("a3")
        .requiring_both()
        .create(site)?;
    dual.gets(&["10.10.90.1", "fd10:90::"])?;
    services.push((dual, vec!["10.10.90.1", "fd10:90::"]));
    others_are_served(site)?;
    let versions = services
        .iter()
        .map(|(service, _)| service.version())
        .collect::<Result<Vec<_>>>()?;
    replace_operators(site)?;
    others_are_served(site)?;
    for ((service, addresses), version) in services.iter().zip(versions) {
        service.is_still(&version)?;
        service.gets(addresses)?;
    }
    Ok(String::new())
}

/// Two objects cannot change at one moment, and between two changes an address would be in no pool. So nobody looks
/// meanwhile.
fn split(site: &Site) -> Result<String> {
    let new = NewPool::on_request("sp-old", &["10.10.91.0/30", "10.10.91.8/30"]);
    let [old] = create_pools(site, [new])?;
    let stays = NewService::named("stays")
        .requesting("10.10.91.1")
        .create(site)?;
    stays.gets(&["10.10.91.1"])?;
    let renamed = NewService::named("renamed")
        .requesting("10.10.91.9")
        .create(site)?;
    renamed.gets(&["10.10.91.9"])?;
    renamed.is_recorded_in(Some("sp-old"))?;
    let version = stays.version()?;
    let part = crate::objects::pool("sp-new", &["10.10.91.8/30"]);
    without_operator(site, || {
        site.patch(
            &old.path(),
            &json!({"spec": {"addresses": ["10.10.91.0/30"]}}),
        )?;
        site.wait("the part is accepted", super::handles::LIMIT, || {
            site.create(super::handles::POOLS, &part).map(Some)
        })
    })?;
    renamed.is_recorded_in(Some("sp-new"))?;
    renamed.gets(&["10.10.91.9"])?;
    others_are_served(site)?;
    stays.is_still(&version)?;
    let cleared = renamed
        .events()?
        .into_iter()
        .find(|told| told.reason == "ClearAssignment");
    anyhow::ensure!(cleared.is_none(), "the address was taken away: {cleared:?}");
    Ok(String::new())
}
