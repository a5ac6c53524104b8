//! What a Service is told while pools come and go under it: each loss once, each time, and of its own wish.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::handles::{LIMIT, NewPool, NewService, Service, Told, create_pools, others_are_served};
use super::scenario;
use super::surroundings::{replace_operators, with_samples_on_request};
use crate::cluster::Site;
use crate::scenarios::{Scenario, bad_input};

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "pools-deleted-in-a-row",
        "four pools are deleted in a moment: one ClearAssignment for each address that the Service loses, and no second for any",
        deleted_in_a_row,
    ),
    scenario(
        "pool-comes-and-goes",
        "the pool that a Service asks for is made and deleted three times: each event counts to three, within seconds",
        comes_and_goes,
    ),
    scenario(
        "leaving-a-pool-that-is-set-aside",
        "after a restart, a Service on a pool that breaks a rule keeps its address until it asks for another pool: then it moves, or loses it",
        leaves_set_aside,
    ),
];

const POOL: &str = "metallb.io/address-pool";
const LOST: &str = "ClearAssignment";

/// How often it was told of this reason and these words.
fn told(service: &Service<'_>, reason: &str, words: &str) -> Result<u64> {
    let events = service.events()?;
    let of = |told: &&Told| told.reason == reason && told.message.contains(words);
    Ok(events.iter().filter(of).map(|told| told.count).sum())
}

fn deleted_in_a_row(site: &Site) -> Result<String> {
    const ROUNDS: usize = 5;
    const ADDRESSES: [&str; 4] = ["10.10.130.1", "10.10.131.1", "10.10.132.1", "10.10.133.1"];
    let mut lost = 0;
    with_samples_on_request(site, || {
        for round in 0..ROUNDS {
            let mut number = 0;
            let pools = ADDRESSES.map(|address| {
                number += 1;
                let range = format!("{address}/32");
                NewPool::for_case(&format!("dr-{number}"), &[&range], "dr").priority(number)
            });
            let pools = create_pools(site, pools)?;
            let name = format!("loser-{round}");
            let service = NewService::named(&name).of_case("dr").create(site)?;
            service.gets(&[ADDRESSES[0]])?;
            pools.iter().try_for_each(|pool| pool.delete())?;
            service.lacks("NoPoolMatches")?;
            service.gets(&[])?;
            service.is_told(LOST)?;
            others_are_served(site)?;
            for address in ADDRESSES {
                let times = told(&service, LOST, &format!("{address:?}"))?;
                lost += times;
                ensure!(
                    times <= 1 && (times == 1 || address != ADDRESSES[0]),
                    "{name} was told {times} times that it loses {address}: {:?}",
                    service.events()?
                );
            }
            service.delete()?;
        }
        Ok(())
    })?;
    Ok(format!("{lost} addresses lost in {ROUNDS} rounds"))
}

fn comes_and_goes(site: &Site) -> Result<String> {
    const TIMES: u64 = 3;
    let service = NewService::named("asking").pool("cg").create(site)?;
    service.lacks("UnknownPool")?;
    for _ in 0..TIMES {
        let new = NewPool::on_request("cg", &["10.10.134.1/32"]);
        let [pool] = create_pools(site, [new])?;
        service.gets(&["10.10.134.1"])?;
        pool.delete()?;
        service.gets(&[])?;
        service.lacks("UnknownPool")?;
    }
    for (reason, times) in [
        ("IPAllocated", TIMES),
        (LOST, TIMES),
        ("AllocationFailed", TIMES + 1),
    ] {
        site.wait_for(&format!("{times} times {reason}"), LIMIT, || {
            Ok(told(&service, reason, "")? == times)
        })?;
        let events = service.events()?;
        let objects = events.iter().filter(|told| told.reason == reason).count();
        ensure!(objects == 1, "{reason} is {objects} events: {events:?}");
    }
    Ok(String::new())
}

fn leaves_set_aside(site: &Site) -> Result<String> {
    let [_, broken, _] = create_pools(
        site,
        [
            NewPool::on_request("ls-a-older", &["10.10.135.0/29"]),
            NewPool::on_request("ls-broken", &["10.10.136.0/29"]),
            NewPool::on_request("ls-good", &["10.10.137.0/29"]),
        ],
    )?;
    let holder = |name: &str, address: &str| -> Result<Service<'_>> {
        let service = NewService::named(name).pool("ls-broken").create(site)?;
        service.gets(&[address])?;
        Ok(service)
    };
    let stays = holder("stays", "10.10.136.0")?;
    let moves = holder("moves", "10.10.136.1")?;
    let loses = holder("loses", "10.10.136.2")?;
    let version = stays.version()?;
    bad_input::take_webhook_away(site)?;
    // It comes to overlap with an older pool. The API server may not have heard yet that the webhook is gone.
    let overlapping = json!({"spec": {"addresses": ["10.10.135.0/29"]}});
    site.wait("the edit gets in", Duration::from_secs(20), || {
        site.patch(&broken.path(), &overlapping).map(Some)
    })?;
    broken.is("Accepted", false)?;
    bad_input::bring_webhook_back(site)?;
    replace_operators(site)?;
    others_are_served(site)?;
    stays.is_still(&version)?;

    moves.annotate(POOL, Some("ls-good"))?;
    moves.gets(&["10.10.137.0"])?;
    moves.is_recorded_in(Some("ls-good"))?;
    loses.annotate(POOL, Some("ls-none"))?;
    let condition = loses.lacks("UnknownPool")?;
    loses.gets(&[])?;
    for (service, asked) in [(&moves, "ls-good"), (&loses, "ls-none")] {
        let said = service.is_told(LOST)?;
        let cause = format!("the Service asks for an address of pool {asked}");
        ensure!(said.contains(&cause), "{} was told {said:?}", service.name);
    }
    stays.is_still(&version)?;
    Ok(condition["message"].as_str().unwrap_or_default().to_owned())
}
