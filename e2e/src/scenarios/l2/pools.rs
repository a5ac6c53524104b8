//! Addresses of pools of every form are reached (L7, L10), and those of another's class are left alone (L20). What is
//! allocated and why is shown by the group `allocation`.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::handles::{
    LIMIT, advertise, created, ip, nobody_answers, path, reachable, service, settles_on,
};
use super::scenario;
use crate::cluster::{Site, service_path};
use crate::objects;
use crate::scenarios::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "addresses-of-ranges-and-prefixes",
        "L7: a pool written as a range, and one written as a prefix, of either family: the address is inside and reached",
        forms,
    ),
    scenario(
        "a-pool-that-is-asked-for",
        "L10: a Service gets and announces an address of the pool that it asks for, with autoAssign and without, and earlier ones stay",
        asked_for,
    ),
    scenario(
        "class-of-another",
        "L20: a Service with a loadBalancerClass gets no address, and one that another writes into its status is not announced",
        class,
    ),
];

fn make_pool(site: &Site, name: &str, range: &str, auto_assign: bool) -> Result<()> {
    let mut pool = objects::pool(name, &[range]);
    pool["spec"]["autoAssign"] = json!(auto_assign);
    site.create(&path("ipaddresspools", ""), &pool)?;
    advertise(site, name, name, &json!({}))
}

fn of_family(name: &str, pool: &str, range: &str) -> Value {
    let mut service = objects::service(name, pool);
    let family = if range.contains(':') { "IPv6" } else { "IPv4" };
    service["spec"]["ipFamilies"] = json!([family]);
    service
}

/// Whether an address lies in a range, which is written with a hyphen or as a prefix.
fn is_inside(address: &str, range: &str) -> Result<bool> {
    let address = ip(address)?;
    Ok(match range.split_once('-') {
        Some((first, last)) => ip(first)? <= address && address <= ip(last)?,
        None => range.parse::<ipnet::IpNet>()?.contains(&address),
    })
}

fn forms(site: &Site) -> Result<String> {
    let forms = BTreeMap::from([
        ("range-v4", "10.10.30.5-10.10.30.9"),
        ("prefix-v4", "10.10.31.16/29"),
        ("range-v6", "fd00:10:0:0:30::5-fd00:10:0:0:30::9"),
        ("prefix-v6", "fd00:10:0:0:31::10/125"),
    ]);
    let mut notes = Vec::new();
    for (name, range) in forms {
        make_pool(site, name, range, false)?;
        let address = created(site, &of_family(name, name, range), 1)?.remove(0);
        ensure!(
            is_inside(&address, range)?,
            "{address} is not inside {range}"
        );
        super::announcer(site, &address)?;
        reachable(site, &address)?;
        notes.push(format!("{address} of {range}"));
    }
    Ok(notes.join(", "))
}

fn asked_for(site: &Site) -> Result<String> {
    let mut earlier = Vec::new();
    let cases = [
        ("asked-v4-auto", "10.10.32.16/29", true),
        ("asked-v4", "10.10.33.16/29", false),
        ("asked-v6-auto", "fd00:10:0:0:32::10/125", true),
        ("asked-v6", "fd00:10:0:0:33::10/125", false),
    ];
    for (name, range, auto_assign) in cases {
        make_pool(site, name, range, auto_assign)?;
        let address = created(site, &of_family(name, name, range), 1)?.remove(0);
        ensure!(
            is_inside(&address, range)?,
            "{address} is not of the pool {name}"
        );
        let object = site.get(&service_path(name))?.unwrap_or_default();
        let recorded = &object["metadata"]["annotations"]["metallb.io/ip-allocated-from-pool"];
        ensure!(recorded == name, "the Service records the pool {recorded}");
        let node = super::announcer(site, &address)?;
        earlier.push((name, address, node));
    }
    for (name, address, node) in &earlier {
        ensure!(
            site.addresses_now(name)? == [address.clone()],
            "{name} has another address"
        );
        settles_on(site, address, node)?;
    }
    Ok(format!("{earlier:?}"))
}

fn class(site: &Site) -> Result<String> {
    let mut other = objects::service("of-another-class", "layer2");
    other["spec"]["loadBalancerClass"] = json!("example.com/another");
    site.create("/api/v1/namespaces/default/services", &other)?;
    // One that comes later has its address, so the earlier was looked at.
    let own = service(site, "of-no-class", "layer2")?;
    super::announcer(site, &own)?;
    let addresses = site.addresses_now("of-another-class")?;
    ensure!(addresses.is_empty(), "it was given {addresses:?}");
    // The other implementation gives it an address, even one of our pools.
    let address = "10.10.1.222";
    site.patch(
        &format!("{}/status", service_path("of-another-class")),
        &json!({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}}),
    )?;
    nobody_answers(site, address)?;
    site.wait_for("our own is still announced", LIMIT, || {
        super::announcer(site, &own).map(|_| true)
    })?;
    Ok(format!("{address} of another, {own} ours"))
}
