//! Services get the addresses that they ask for.

use anyhow::{Result, ensure};
use serde_json::json;

use super::Scenario;
use crate::cluster::{Site, service_path};
use crate::objects;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        group: "allocation",
        name: "requested-address",
        doc: "a Service gets the address that its annotation requests",
        run: requested,
    },
    Scenario {
        group: "allocation",
        name: "dual-stack",
        doc: "a dual-stack Service gets one address of each family from one pool",
        run: dual_stack,
    },
    Scenario {
        group: "allocation",
        name: "freed-address-is-given-again",
        doc: "an address that a deleted Service had can be requested by the next",
        run: freed,
    },
];

/// An address of the pool `layer2` that automatic allocation does not reach.
const REQUESTED: &str = "10.10.1.77";

fn request(site: &Site, name: &str) -> Result<()> {
    let mut service = objects::service(name, "layer2");
    service["metadata"]["annotations"] = json!({"metallb.io/loadBalancerIPs": REQUESTED});
    site.create("/api/v1/namespaces/default/services", &service)?;
    let given = site.addresses(name, 1)?;
    ensure!(given == [REQUESTED], "{name} got {given:?}");
    Ok(())
}

fn requested(site: &Site) -> Result<String> {
    request(site, "requested")?;
    Ok(REQUESTED.to_owned())
}

fn dual_stack(site: &Site) -> Result<String> {
    site.create(
        "/api/v1/namespaces/default/services",
        &objects::dual_stack("dual", "layer2"),
    )?;
    let given = site.addresses("dual", 2)?;
    ensure!(
        given.iter().filter(|a| a.contains(':')).count() == 1,
        "not one of each family: {given:?}"
    );
    Ok(given.join(" "))
}

fn freed(site: &Site) -> Result<String> {
    request(site, "first-owner")?;
    site.delete(&service_path("first-owner"))?;
    request(site, "second-owner")?;
    Ok(REQUESTED.to_owned())
}
