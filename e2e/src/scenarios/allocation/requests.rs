//! What a Service asks for, when it waits, and what follows when it changes its mind.

use anyhow::{Result, ensure};
use serde_json::json;

use super::handles::{NewPool, NewService, Service, create_pools, others_are_served};
use super::scenario;
use crate::cluster::Site;
use crate::scenarios::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "requested-address",
        "a Service gets the address that its annotation requests",
        requested,
    ),
    scenario(
        "freed-address-is-given-again",
        "an address that a deleted Service had can be requested by the next",
        freed,
    ),
    scenario(
        "waiting-service-after-a-type-change",
        "A1: a one-address pool: the first Service becomes ClusterIP and the waiting one gets the address (also 3.7, type changed)",
        after_type_change,
    ),
    scenario(
        "waiting-service-after-a-deletion",
        "A2: a one-address pool: the first Service is deleted and the waiting one gets the address (also 3.7, deleted)",
        after_deletion,
    ),
    scenario(
        "pool-annotation-changed",
        "3.7: a Service moves to the pool that its annotation comes to name, and loses its address where that is impossible",
        pool_changed,
    ),
    scenario(
        "requests-removed",
        "3.7: a Service whose annotation for a pool or an address is removed keeps its address",
        removed,
    ),
    scenario(
        "requested-address-changed",
        "3.7: a Service moves to the address that it comes to ask for, and loses its own where that is in use",
        address_changed,
    ),
    scenario(
        "status-edited-by-hand",
        "3.7: an edited status is put back or claimed by the same rules, and no other Service loses anything by it",
        status_edited,
    ),
];

/// An address of the pool `layer2` that automatic allocation does not reach.
const REQUESTED: &str = "10.10.1.77";

fn requested(site: &Site) -> Result<String> {
    NewService::named("requested")
        .requesting(REQUESTED)
        .create(site)?
        .gets(&[REQUESTED])?;
    Ok(REQUESTED.to_owned())
}

fn freed(site: &Site) -> Result<String> {
    let request = |name| NewService::named(name).requesting(REQUESTED).create(site);
    let first = request("first-owner")?;
    first.gets(&[REQUESTED])?;
    first.delete()?;
    request("second-owner")?.gets(&[REQUESTED])?;
    Ok(REQUESTED.to_owned())
}

/// A Service with the only address of a pool, and one that waits for it.
fn holder_and_waiting<'a>(
    site: &'a Site,
    pool: &str,
    address: &str,
) -> Result<(Service<'a>, Service<'a>)> {
    let range = format!("{address}/32");
    create_pools(site, [NewPool::on_request(pool, &[&range])])?;
    let holder = NewService::named("holder").pool(pool).create(site)?;
    holder.gets(&[address])?;
    let waiting = NewService::named("waiting").pool(pool).create(site)?;
    waiting.waits()?;
    Ok((holder, waiting))
}

fn after_type_change(site: &Site) -> Result<String> {
    let (holder, waiting) = holder_and_waiting(site, "a1", "10.10.47.1")?;
    holder.patch(&json!({"spec": {"type": "ClusterIP"}}))?;
    waiting.gets(&["10.10.47.1"])?;
    holder.gets(&[])?;
    holder.is_recorded_in(None)?;
    Ok(String::new())
}

fn after_deletion(site: &Site) -> Result<String> {
    let (holder, waiting) = holder_and_waiting(site, "a2", "10.10.48.1")?;
    holder.delete()?;
    waiting.gets(&["10.10.48.1"])?;
    Ok(String::new())
}

const POOL: &str = "metallb.io/address-pool";
const ADDRESSES: &str = "metallb.io/loadBalancerIPs";

fn pool_changed(site: &Site) -> Result<String> {
    create_pools(
        site,
        [
            NewPool::for_case("pc-a", &["10.10.49.1/32"], "pc"),
            NewPool::on_request("pc-b", &["10.10.49.2/32"]),
            NewPool::on_request("pc-full", &["10.10.49.3/32"]),
        ],
    )?;
    let full = NewService::named("full").pool("pc-full").create(site)?;
    full.gets(&["10.10.49.3"])?;
    let service = NewService::named("moved").of_case("pc").create(site)?;
    service.gets(&["10.10.49.1"])?;
    let untouched = full.version()?;
    // Added,
    service.annotate(POOL, Some("pc-b"))?;
    service.gets(&["10.10.49.2"])?;
    service.is_recorded_in(Some("pc-b"))?;
    // changed,
    service.annotate(POOL, Some("pc-a"))?;
    service.gets(&["10.10.49.1"])?;
    // and changed to what cannot be.
    service.annotate(POOL, Some("pc-full"))?;
    service.gets(&[])?;
    service.is_recorded_in(None)?;
    let message = service.waits()?;
    full.is_still(&untouched)?;
    Ok(message)
}

fn removed(site: &Site) -> Result<String> {
    create_pools(site, [NewPool::on_request("rr", &["10.10.50.0/29"])])?;
    let of_pool = NewService::named("of-pool").pool("rr").create(site)?;
    of_pool.gets(&["10.10.50.0"])?;
    let of_address = NewService::named("of-address")
        .requesting("10.10.50.5")
        .create(site)?;
    of_address.gets(&["10.10.50.5"])?;
    of_pool.annotate(POOL, None)?;
    of_address.annotate(ADDRESSES, None)?;
    let versions = [of_pool.version()?, of_address.version()?];
    // The operator hears of Services in the order in which they changed.
    others_are_served(site)?;
    of_pool.is_still(&versions[0])?;
    of_address.is_still(&versions[1])?;
    of_pool.gets(&["10.10.50.0"])?;
    of_address.gets(&["10.10.50.5"])?;
    Ok(String::new())
}

fn address_changed(site: &Site) -> Result<String> {
    create_pools(site, [NewPool::on_request("ac", &["10.10.51.0/29"])])?;
    let service = NewService::named("moved")
        .requesting("10.10.51.1")
        .create(site)?;
    service.gets(&["10.10.51.1"])?;
    let other = NewService::named("other")
        .requesting("10.10.51.2")
        .create(site)?;
    other.gets(&["10.10.51.2"])?;
    let untouched = other.version()?;
    service.annotate(ADDRESSES, Some("10.10.51.6"))?;
    service.gets(&["10.10.51.6"])?;
    service.annotate(ADDRESSES, Some("10.10.51.2"))?;
    service.gets(&[])?;
    let message = service.waits()?;
    // What it left is free again.
    NewService::named("next")
        .requesting("10.10.51.6")
        .create(site)?
        .gets(&["10.10.51.6"])?;
    other.is_still(&untouched)?;
    Ok(message)
}

fn status_edited(site: &Site) -> Result<String> {
    create_pools(site, [NewPool::on_request("se", &["10.10.52.0/29"])])?;
    // The older of the two, by name where both are made within one second: of two statuses it is right.
    let neighbour = NewService::named("a-neighbour").pool("se").create(site)?;
    neighbour.gets(&["10.10.52.0"])?;
    let edited = NewService::named("edited").pool("se").create(site)?;
    edited.gets(&["10.10.52.1"])?;
    let untouched = neighbour.version()?;
    // Nothing: the address comes back.
    edited.edit_status(&[])?;
    edited.gets(&["10.10.52.1"])?;
    // An address of no pool, and one that is another's.
    for foreign in ["192.0.2.1", "10.10.52.0"] {
        edited.edit_status(&[foreign])?;
        site.wait_for(
            &format!("{foreign} goes from the status"),
            super::handles::LIMIT,
            || {
                let now = edited.addresses()?;
                Ok(now.len() == 1 && now[0].starts_with("10.10.52.") && now[0] != foreign)
            },
        )?;
    }
    // A free address of the pool: the one before comes back, or this one is claimed.
    let before = edited.addresses()?;
    edited.edit_status(&["10.10.52.6"])?;
    others_are_served(site)?;
    let now = edited.addresses()?;
    ensure!(
        now == before || now == ["10.10.52.6"],
        "{before:?} was changed by hand to 10.10.52.6, and now it is {now:?}"
    );
    let settled = edited.version()?;
    others_are_served(site)?;
    edited.is_still(&settled)?;
    edited.is_recorded_in(Some("se"))?;
    // Whichever it is, nobody else gets it.
    let next = NewService::named("next").requesting(&now[0]).create(site)?;
    next.waits()?;
    neighbour.is_still(&untouched)?;
    Ok(String::new())
}
