//! Pools change while their addresses are in use.

use anyhow::{Result, ensure};
use serde_json::json;

use super::handles::{NewPool, NewService, create_pools, others_are_served, serving};
use super::scenario;
use super::surroundings::without_pools;
use crate::cluster::Site;
use crate::scenarios::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "pool-in-use-grows",
        "3.7: a pool in use is expanded and its Service is not touched",
        grows,
    ),
    scenario(
        "pool-in-use-shrinks",
        "3.7: a pool in use shrinks: who loses an address gets another, then none and an event; the others stay",
        shrinks,
    ),
    scenario(
        "pool-in-use-is-deleted",
        "A6: the pool in use is deleted and its Service gets an address of the other pool (also 3.7, pool removed)",
        deleted,
    ),
    scenario(
        "all-pools-deleted",
        "A5: every pool is deleted and all statuses are cleared; with pools there are addresses again (also 3.7)",
        all_deleted,
    ),
    scenario(
        "buggy-addresses-come-to-be-avoided",
        "3.7: avoidBuggyIPs is turned on: Services on .0 and .255 move, the others stay",
        buggy,
    ),
    scenario(
        "pool-no-longer-for-its-service",
        "3.7: serviceAllocation no longer matches: the Service is told ClearAssignment and gets an address of another pool",
        no_longer_matches,
    ),
    scenario(
        "auto-assign-turned-off",
        "3.7: autoAssign is turned off: who has an address keeps it, the next gets one elsewhere",
        auto_assign_off,
    ),
    scenario(
        "pool-of-better-priority-appears",
        "3.7: a pool with better priority appears: who has an address keeps it, the next gets one of the new pool",
        better_priority,
    ),
];

fn grows(site: &Site) -> Result<String> {
    let new = NewPool::on_request("gr", &["10.10.80.4/32"]);
    let [pool] = create_pools(site, [new])?;
    let service = NewService::named("stays").pool("gr").create(site)?;
    service.gets(&["10.10.80.4"])?;
    let waiting = NewService::named("waiting").pool("gr").create(site)?;
    waiting.waits()?;
    let version = service.version()?;
    pool.change(&json!({"addresses": ["10.10.80.0/29"]}))?;
    // Another entry for the same addresses is as good, and who waits is served.
    waiting.gets(&["10.10.80.0"])?;
    pool.counts([6, 2, 0, 0])?;
    others_are_served(site)?;
    service.is_still(&version)?;
    Ok(String::new())
}

fn shrinks(site: &Site) -> Result<String> {
    let new = NewPool::on_request("sh", &["10.10.81.0/30"]);
    let [pool] = create_pools(site, [new])?;
    let request = |name| NewService::named(name).pool("sh").create(site);
    let (moved, stays) = (request("moved")?, request("stays")?);
    moved.gets(&["10.10.81.0"])?;
    stays.gets(&["10.10.81.1"])?;
    let version = stays.version()?;
    pool.change(&json!({"addresses": ["10.10.81.1-10.10.81.2"]}))?;
    moved.gets(&["10.10.81.2"])?;
    moved.is_told("ClearAssignment")?;
    pool.change(&json!({"addresses": ["10.10.81.1/32"]}))?;
    moved.gets(&[])?;
    moved.is_recorded_in(None)?;
    let message = moved.waits()?;
    others_are_served(site)?;
    stays.is_still(&version)?;
    pool.counts([0, 1, 0, 0])?;
    Ok(message)
}

fn deleted(site: &Site) -> Result<String> {
    let pool = |name, range| NewPool::for_case(name, &[range], "a6");
    let [first, _] = create_pools(
        site,
        [
            pool("a6-a", "10.10.82.0/30").priority(10),
            pool("a6-b", "10.10.82.8/30").priority(20),
        ],
    )?;
    let service = NewService::named("moved").of_case("a6").create(site)?;
    service.gets(&["10.10.82.0"])?;
    first.delete()?;
    service.gets(&["10.10.82.8"])?;
    service.is_recorded_in(Some("a6-b"))?;
    Ok(String::new())
}

fn all_deleted(site: &Site) -> Result<String> {
    let ranges = ["10.10.83.0/30", "fd10:83::/126"];
    create_pools(site, [NewPool::on_request("a5", &ranges)])?;
    let ours = NewService::named("ours")
        .pool("a5")
        .requiring_both()
        .create(site)?;
    ours.gets(&["10.10.83.0", "fd10:83::"])?;
    let samples = NewService::named("samples").pool("layer2").create(site)?;
    samples.gets_some(1)?;
    without_pools(site, || {
        for service in [&ours, &samples] {
            service.gets(&[])?;
            service.is_recorded_in(None)?;
        }
        Ok(())
    })?;
    samples.gets_some(1)?;
    ensure!(
        ours.addresses()?.is_empty(),
        "an address came back without its pool"
    );
    Ok(String::new())
}

fn buggy(site: &Site) -> Result<String> {
    let new = NewPool::on_request("ab", &["10.10.84.255-10.10.85.3"]);
    let [pool] = create_pools(site, [new])?;
    let mut services = Vec::new();
    for (name, address) in [
        ("broadcast", "10.10.84.255"),
        ("network", "10.10.85.0"),
        ("ordinary", "10.10.85.1"),
    ] {
        let service = NewService::named(name).pool("ab").create(site)?;
        service.gets(&[address])?;
        services.push(service);
    }
    let version = services[2].version()?;
    pool.change(&json!({"avoidBuggyIPs": true}))?;
    let mut moved = Vec::new();
    for service in &services[..2] {
        site.wait_for(
            &format!("{} moves", service.name),
            super::handles::LIMIT,
            || {
                let now = service.addresses()?;
                Ok(now == ["10.10.85.2"] || now == ["10.10.85.3"])
            },
        )?;
        service.is_told("ClearAssignment")?;
        moved.extend(service.addresses()?);
    }
    ensure!(moved[0] != moved[1], "both have {moved:?}");
    others_are_served(site)?;
    services[2].is_still(&version)?;
    pool.counts([0, 3, 0, 0])?;
    Ok(moved.join(" "))
}

fn no_longer_matches(site: &Site) -> Result<String> {
    let pool = |name, range| NewPool::for_case(name, &[range], "nm");
    let [first, _] = create_pools(
        site,
        [
            pool("nm-a", "10.10.86.0/30").priority(10),
            pool("nm-b", "10.10.86.8/30").priority(20),
        ],
    )?;
    let service = NewService::named("moved").of_case("nm").create(site)?;
    service.gets(&["10.10.86.0"])?;
    first.change(&json!({"serviceAllocation": {"serviceSelectors": serving("another")}}))?;
    service.gets(&["10.10.86.8"])?;
    service.is_recorded_in(Some("nm-b"))?;
    service.is_told("ClearAssignment")
}

fn auto_assign_off(site: &Site) -> Result<String> {
    let pool = |name, range| NewPool::for_case(name, &[range], "ao");
    let [first, _] = create_pools(
        site,
        [
            pool("ao-a", "10.10.87.0/30").priority(10),
            pool("ao-b", "10.10.87.8/30").priority(20),
        ],
    )?;
    let service = |name| NewService::named(name).of_case("ao").create(site);
    let stays = service("stays")?;
    stays.gets(&["10.10.87.0"])?;
    let version = stays.version()?;
    first.change(&json!({"autoAssign": false}))?;
    service("next")?.gets(&["10.10.87.8"])?;
    others_are_served(site)?;
    stays.is_still(&version)?;
    Ok(String::new())
}

fn better_priority(site: &Site) -> Result<String> {
    let pool = |name, range| NewPool::for_case(name, &[range], "bp");
    create_pools(site, [pool("bp-a", "10.10.88.0/30").priority(20)])?;
    let service = |name| NewService::named(name).of_case("bp").create(site);
    let stays = service("stays")?;
    stays.gets(&["10.10.88.0"])?;
    let version = stays.version()?;
    create_pools(site, [pool("bp-b", "10.10.88.8/30").priority(10)])?;
    service("next")?.gets(&["10.10.88.8"])?;
    others_are_served(site)?;
    stays.is_still(&version)?;
    Ok(String::new())
}
