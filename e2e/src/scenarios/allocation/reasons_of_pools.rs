//! A Service whose pool cannot serve it says why, once, and stops no other.

use anyhow::{Result, ensure};
use serde_json::json;

use super::handles::{NewPool, NewService, create_pools};
use super::reasons::{Complaint, complains};
use super::scenario;
use super::surroundings::without_pools;
use crate::cluster::Site;
use crate::scenarios::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "unknown-pool",
        "a pool that does not exist: UnknownPool, with the pools that do",
        unknown_pool,
    ),
    scenario(
        "pool-of-another-namespace",
        "a pool that serves another namespace: NoPoolMatches, with pool and namespace",
        other_namespace,
    ),
    scenario(
        "pool-exhausted",
        "a pool without a free address: PoolExhausted, with the pool",
        exhausted,
    ),
    scenario(
        "second-family-unavailable",
        "both families preferred, one there: SecondFamilyUnavailable beside the first address, until the pool is dual",
        second_family,
    ),
    scenario(
        "no-pools",
        "no pool at all: NoPools, until there is one",
        no_pools,
    ),
];

fn unknown_pool(site: &Site) -> Result<String> {
    create_pools(site, [NewPool::on_request("up", &["10.10.103.0/29"])])?;
    let service = NewService::named("lost").pool("misspelt").create(site)?;
    let repair = || service.annotate("metallb.io/address-pool", Some("up"));
    let names = ["misspelt", "layer2"];
    complains(
        site,
        &service,
        "UnknownPool",
        &names,
        repair,
        &["10.10.103.0"],
    )
}

fn other_namespace(site: &Site) -> Result<String> {
    let new = NewPool::on_request("reserved", &["10.10.112.0/29"])
        .allocation("namespaces", &json!(["alloc-elsewhere"]));
    let [pool] = create_pools(site, [new])?;
    let service = NewService::named("outsider")
        .pool("reserved")
        .create(site)?;
    let repair = || pool.change(&json!({"serviceAllocation": null}));
    let names = ["reserved", "namespace", "default"];
    complains(
        site,
        &service,
        "NoPoolMatches",
        &names,
        repair,
        &["10.10.112.0"],
    )
}

fn exhausted(site: &Site) -> Result<String> {
    create_pools(site, [NewPool::on_request("small", &["10.10.113.1/32"])])?;
    let holder = NewService::named("holder").pool("small").create(site)?;
    holder.gets(&["10.10.113.1"])?;
    let service = NewService::named("late").pool("small").create(site)?;
    let repair = || holder.delete();
    let names = ["small", "IPv4"];
    complains(
        site,
        &service,
        "PoolExhausted",
        &names,
        repair,
        &["10.10.113.1"],
    )
}

fn second_family(site: &Site) -> Result<String> {
    let new = NewPool::on_request("single", &["10.10.114.0/29"]);
    let [pool] = create_pools(site, [new])?;
    let service = NewService::named("half-served")
        .pool("single")
        .preferring_both()
        .create(site)?;
    let complaint = Complaint {
        reason: "SecondFamilyUnavailable",
        event: "AdditionalAssignFailed",
        names: &["IPv6", "single"],
        keeps: &["10.10.114.0"],
    };
    let message = complaint.is_made(site, &service)?;
    pool.change(&json!({"addresses": ["10.10.114.0/29", "fd10:114::/125"]}))?;
    service.gets(&["10.10.114.0", "fd10:114::"])?;
    service.lacks_nothing()?;
    Ok(message)
}

fn no_pools(site: &Site) -> Result<String> {
    let service = NewService::named("early").pool("layer2").create(site)?;
    service.gets_some(1)?;
    let condition = without_pools(site, || service.lacks("NoPools"))?;
    let message = condition["message"].as_str().unwrap_or_default();
    ensure!(
        message.contains("IPAddressPool"),
        "what to make is not named: {message}"
    );
    service.gets_some(1)?;
    service.lacks_nothing()?;
    Ok(message.to_owned())
}
