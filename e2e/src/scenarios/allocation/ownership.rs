//! Who has an address keeps it: against another claim of it, and when all operators die.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::jiff::Timestamp;

use super::handles::{LIMIT, NewPool, NewService, create_pools, others_are_served};
use super::scenario;
use super::surroundings::{kill_operators, without_operator};
use crate::cluster::Site;
use crate::scenarios::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "two-statuses-claim-one-address",
        "two statuses claim one address: the older Service keeps it, the younger gets another and is told of the older",
        two_claims,
    ),
    scenario(
        "operators-killed-with-services-waiting",
        "all operators are killed with eight Services, three of them waiting: the next leader writes none of them",
        killed,
    ),
];

fn two_claims(site: &Site) -> Result<String> {
    create_pools(site, [NewPool::on_request("tc", &["10.10.123.0/29"])])?;
    // By name the younger one comes first.
    let older = NewService::named("z-older").pool("tc").create(site)?;
    older.gets(&["10.10.123.0"])?;
    let created = |object: serde_json::Value| object["metadata"]["creationTimestamp"].to_string();
    let first = created(older.object()?);
    let younger = without_operator(site, || {
        // Times of creation are whole seconds.
        site.wait_for("the next second has begun", Duration::from_secs(3), || {
            let now = Timestamp::from_second(Timestamp::now().as_second())?;
            Ok(format!("\"{now}\"") > first)
        })?;
        let younger = NewService::named("a-younger").pool("tc").create(site)?;
        ensure!(
            created(younger.object()?) > first,
            "both were made in one second, so this shows nothing"
        );
        younger.edit_status(&["10.10.123.0"])?;
        Ok(younger)
    })?;
    let version = older.version()?;
    younger.gets(&["10.10.123.1"])?;
    let condition = site.wait("the condition ferrolb.io/AddressConflict", LIMIT, || {
        let condition = younger.condition("ferrolb.io/AddressConflict")?;
        Ok(condition.filter(|condition| condition["status"] == "True"))
    })?;
    let message = condition["message"].as_str().unwrap_or_default();
    let told = younger.is_told("ClearAssignment")?;
    for text in [message, &told] {
        ensure!(
            text.contains("default/z-older") && text.contains("10.10.123.0"),
            "the older Service and the address are not named: {text}"
        );
    }
    others_are_served(site)?;
    older.is_still(&version)?;
    older.gets(&["10.10.123.0"])?;
    older.was_given_once()?;
    Ok(message.to_owned())
}

fn killed(site: &Site) -> Result<String> {
    create_pools(
        site,
        [NewPool::on_request("kl", &["10.10.124.0-10.10.124.4"])],
    )?;
    let mut services = Vec::new();
    for number in 0..5 {
        let service = NewService::named(&format!("z-{number}"))
            .pool("kl")
            .create(site)?;
        service.gets(&[&format!("10.10.124.{number}")])?;
        services.push(service);
    }
    // These sort before the holders, by name. One asks for an address that is in use.
    for number in 0..2 {
        let service = NewService::named(&format!("a-{number}"))
            .pool("kl")
            .create(site)?;
        service.lacks("PoolExhausted")?;
        services.push(service);
    }
    let asking = NewService::named("a-2")
        .requesting("10.10.124.3")
        .create(site)?;
    asking.lacks("AddressInUse")?;
    services.push(asking);
    others_are_served(site)?;
    let versions = services
        .iter()
        .map(|service| service.version())
        .collect::<Result<Vec<_>>>()?;
    kill_operators(site)?;
    others_are_served(site)?;
    for (service, version) in services.iter().zip(versions) {
        service.is_still(&version)?;
    }
    Ok(format!("{} Services", services.len()))
}
