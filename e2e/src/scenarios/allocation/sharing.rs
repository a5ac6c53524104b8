//! Services that hold one address together.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::handles::{NewPool, NewService, create_pools, others_are_served};
use super::scenario;
use crate::cluster::Site;
use crate::scenarios::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "sharing-is-evaluated-again",
        "A4: Services on one address part and come together again as their traffic policies and selectors change",
        evaluated_again,
    ),
    scenario(
        "sharing-key-changed",
        "3.7: a Service that no longer fits loses the shared address, the other keeps it, and one that fits now gets it",
        key_changed,
    ),
];

fn evaluated_again(site: &Site) -> Result<String> {
    const ADDRESS: &str = "10.10.70.1";
    create_pools(site, [NewPool::on_request("a4", &["10.10.70.1/32"])])?;
    let service = |name, port| {
        NewService::named(name)
            .pool("a4")
            .sharing("together")
            .port("TCP", port)
            .selecting("red")
            .create(site)
    };
    let (first, second) = (service("first", 80)?, service("second", 81)?);
    first.gets(&[ADDRESS])?;
    second.gets(&[ADDRESS])?;
    let local = json!({"spec": {"externalTrafficPolicy": "Local"}});

    let version = first.version()?;
    second.patch(&local)?;
    second.gets(&[])?;
    second.waits()?;
    first.stays_for(Duration::from_secs(5), &version)?;

    first.patch(&local)?;
    second.gets(&[ADDRESS])?;
    first.gets(&[ADDRESS])?;

    let version = second.version()?;
    let blue = json!({"spec": {"selector": {"app": "blue"}}});
    first.patch(&blue)?;
    first.gets(&[])?;
    others_are_served(site)?;
    second.is_still(&version)?;

    second.patch(&blue)?;
    first.gets(&[ADDRESS])?;
    second.gets(&[ADDRESS])?;
    Ok(String::new())
}

fn key_changed(site: &Site) -> Result<String> {
    const ADDRESS: &str = "10.10.71.1";
    const KEY: &str = "metallb.io/allow-shared-ip";
    create_pools(site, [NewPool::on_request("sk", &["10.10.71.0/30"])])?;
    let service = |name, key, port| {
        NewService::named(name)
            .requesting(ADDRESS)
            .sharing(key)
            .port("TCP", port)
            .create(site)
    };
    let (first, second) = (service("first", "old", 80)?, service("second", "old", 81)?);
    first.gets(&[ADDRESS])?;
    second.gets(&[ADDRESS])?;
    let third = service("third", "new", 82)?;
    third.waits()?;

    // Not beside the first, who stays.
    let version = first.version()?;
    second.annotate(KEY, Some("new"))?;
    second.gets(&[])?;
    others_are_served(site)?;
    first.is_still(&version)?;
    third.gets(&[])?;

    // The only holder changes its key in place, and those that wait fit.
    first.annotate(KEY, Some("new"))?;
    second.gets(&[ADDRESS])?;
    third.gets(&[ADDRESS])?;
    first.gets(&[ADDRESS])?;
    Ok(String::new())
}
