//! A Service that asks for addresses that it cannot have says why, once, and stops no other.

use anyhow::{Result, ensure};
use serde_json::json;

use super::handles::{ALLOCATED, NewPool, NewService, Service, create_pools, others_are_served};
use super::{past_the_webhook, scenario};
use crate::cluster::Site;
use crate::scenarios::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "malformed-request",
        "a request that is no address: InvalidRequest, with the text",
        |site| past_the_webhook(site, malformed),
    ),
    scenario(
        "malformed-request-with-an-address-held",
        "a request that becomes unreadable: InvalidRequest and LoadBalancerFailed, and the address stays",
        |site| past_the_webhook(site, malformed_while_held),
    ),
    scenario(
        "two-ways-of-requesting",
        "spec.loadBalancerIP beside the annotation: InvalidRequest, with both named",
        |site| past_the_webhook(site, both_ways),
    ),
    scenario(
        "address-of-the-wrong-family",
        "an IPv6 address for an IPv4 Service: FamilyMismatch, with address and family",
        wrong_family,
    ),
    scenario(
        "address-outside-the-pools",
        "an address that no pool has: AddressNotInPools, with the pools",
        outside,
    ),
    scenario(
        "half-a-pair-where-both-are-required",
        "one address under RequireDualStack: FamilyMismatch, with address and policy",
        half_a_pair,
    ),
    scenario(
        "two-addresses-of-one-family",
        "two IPv4 addresses: InvalidRequest, with both",
        |site| past_the_webhook(site, two_of_one_family),
    ),
    scenario(
        "pair-from-two-pools",
        "a pair whose halves are in two pools: AddressNotInPools, with both pools",
        from_two_pools,
    ),
    scenario(
        "shared-address-port-clash",
        "a shared address whose port is taken: SharingConflict, with port and holder",
        port_clash,
    ),
    scenario(
        "shared-address-other-key",
        "a shared address with another key: SharingConflict, with holder and annotation",
        other_key,
    ),
    scenario(
        "address-in-use",
        "an address that another holds and does not share: AddressInUse, with the holder",
        in_use,
    ),
];

const ADDRESSES: &str = "metallb.io/loadBalancerIPs";

/// What must be said of a Service that does not have all that it asks for.
pub struct Complaint<'a> {
    /// The reason of the condition.
    pub reason: &'a str,
    /// The reason of the event.
    pub event: &'a str,
    /// What stands in the way, and what would put it right.
    pub names: &'a [&'a str],
    /// What it has all the same.
    pub keeps: &'a [&'a str],
}

impl Complaint<'_> {
    /// Waits for it, and checks that it is said once and well while another Service is served. Returns the message.
    pub fn is_made(&self, site: &Site, service: &Service<'_>) -> Result<String> {
        let condition = service.lacks(self.reason)?;
        let message = condition["message"].as_str().unwrap_or_default().to_owned();
        for name in self.names {
            ensure!(message.contains(name), "{name} is not named: {message}");
        }
        let told = service.is_told(self.event)?;
        ensure!(
            told.contains(&message),
            "the event says {told:?} and the condition {message:?}"
        );
        // Looked at again for a reason that changes nothing.
        service.patch(&json!({"metadata": {"labels": {"lab.ferrolb.io/touched": "yes"}}}))?;
        others_are_served(site)?;
        service.gets(self.keeps)?;
        let events = service.events()?;
        let count: u64 = events
            .iter()
            .filter(|told| told.reason == self.event)
            .map(|told| told.count)
            .sum();
        ensure!(count == 1, "told {count} times: {events:?}");
        let now = service.condition(ALLOCATED)?;
        ensure!(
            now.as_ref() == Some(&condition),
            "the condition was {condition} and is {now:?}"
        );
        Ok(message)
    }
}

/// The usual complaint: no address, AllocationFailed. `repair` puts it right, and then the Service has `afterwards`.
pub fn complains(
    site: &Site,
    service: &Service<'_>,
    reason: &str,
    names: &[&str],
    repair: impl FnOnce() -> Result<()>,
    afterwards: &[&str],
) -> Result<String> {
    let complaint = Complaint {
        reason,
        event: "AllocationFailed",
        names,
        keeps: &[],
    };
    let message = complaint.is_made(site, service)?;
    repair()?;
    service.gets(afterwards)?;
    service.lacks_nothing()?;
    Ok(message)
}

fn malformed(site: &Site) -> Result<String> {
    create_pools(site, [NewPool::on_request("ma", &["10.10.100.0/29"])])?;
    let service = NewService::named("malformed")
        .requesting("10.10.100.x")
        .create(site)?;
    let repair = || service.annotate(ADDRESSES, Some("10.10.100.1"));
    let names = ["10.10.100.x", ADDRESSES];
    complains(
        site,
        &service,
        "InvalidRequest",
        &names,
        repair,
        &["10.10.100.1"],
    )
}

fn malformed_while_held(site: &Site) -> Result<String> {
    create_pools(site, [NewPool::on_request("mh", &["10.10.101.0/29"])])?;
    let service = NewService::named("holder")
        .requesting("10.10.101.1")
        .create(site)?;
    service.gets(&["10.10.101.1"])?;
    service.annotate(ADDRESSES, Some("10.10.101.x"))?;
    let complaint = Complaint {
        reason: "InvalidRequest",
        event: "LoadBalancerFailed",
        names: &["10.10.101.x", ADDRESSES],
        keeps: &["10.10.101.1"],
    };
    let message = complaint.is_made(site, &service)?;
    service.annotate(ADDRESSES, None)?;
    service.lacks_nothing()?;
    service.gets(&["10.10.101.1"])?;
    service.was_given_once()?;
    Ok(message)
}

fn both_ways(site: &Site) -> Result<String> {
    create_pools(site, [NewPool::on_request("bw", &["10.10.102.0/29"])])?;
    let service = NewService::named("both-ways")
        .requesting("10.10.102.1")
        .load_balancer_ip("10.10.102.2")
        .create(site)?;
    let repair = || {
        let patch = json!({"spec": {"loadBalancerIP": null}});
        service.patch(&patch).map(drop)
    };
    let names = [ADDRESSES, "spec.loadBalancerIP"];
    complains(
        site,
        &service,
        "InvalidRequest",
        &names,
        repair,
        &["10.10.102.1"],
    )
}

fn wrong_family(site: &Site) -> Result<String> {
    let ranges = ["10.10.104.0/29", "fd10:104::/125"];
    create_pools(site, [NewPool::on_request("wf", &ranges)])?;
    let service = NewService::named("wrong-family")
        .families("SingleStack", &["IPv4"])
        .requesting("fd10:104::1")
        .create(site)?;
    let repair = || service.annotate(ADDRESSES, Some("10.10.104.1"));
    let names = ["fd10:104::1", "IPv4"];
    complains(
        site,
        &service,
        "FamilyMismatch",
        &names,
        repair,
        &["10.10.104.1"],
    )
}

fn outside(site: &Site) -> Result<String> {
    create_pools(
        site,
        [NewPool::on_request("elsewhere", &["10.10.105.0/29"])],
    )?;
    let service = NewService::named("outside")
        .requesting("10.10.105.9")
        .create(site)?;
    let repair = || service.annotate(ADDRESSES, Some("10.10.105.1"));
    let names = ["10.10.105.9", "elsewhere"];
    complains(
        site,
        &service,
        "AddressNotInPools",
        &names,
        repair,
        &["10.10.105.1"],
    )
}

fn half_a_pair(site: &Site) -> Result<String> {
    let ranges = ["10.10.106.0/29", "fd10:106::/125"];
    create_pools(site, [NewPool::on_request("hp", &ranges)])?;
    let service = NewService::named("half")
        .requiring_both()
        .requesting("10.10.106.1")
        .create(site)?;
    let repair = || service.annotate(ADDRESSES, Some("10.10.106.1,fd10:106::1"));
    let pair = ["10.10.106.1", "fd10:106::1"];
    let names = ["10.10.106.1", "RequireDualStack"];
    complains(site, &service, "FamilyMismatch", &names, repair, &pair)
}

fn two_of_one_family(site: &Site) -> Result<String> {
    create_pools(site, [NewPool::on_request("tf", &["10.10.107.0/29"])])?;
    let service = NewService::named("greedy")
        .requesting("10.10.107.1,10.10.107.2")
        .create(site)?;
    let repair = || service.annotate(ADDRESSES, Some("10.10.107.2"));
    let names = ["10.10.107.1", "10.10.107.2", "one address"];
    complains(
        site,
        &service,
        "InvalidRequest",
        &names,
        repair,
        &["10.10.107.2"],
    )
}

fn from_two_pools(site: &Site) -> Result<String> {
    create_pools(
        site,
        [
            NewPool::on_request("tp-a", &["10.10.108.0/29", "fd10:108::/125"]),
            NewPool::on_request("tp-b", &["fd10:108::8/125"]),
        ],
    )?;
    let service = NewService::named("pair")
        .requiring_both()
        .requesting("10.10.108.1,fd10:108::9")
        .create(site)?;
    let repair = || service.annotate(ADDRESSES, Some("10.10.108.1,fd10:108::1"));
    let pair = ["10.10.108.1", "fd10:108::1"];
    let names = ["10.10.108.1", "tp-a", "fd10:108::9", "tp-b"];
    complains(site, &service, "AddressNotInPools", &names, repair, &pair)
}

/// A Service with the address, a sharing key or none, and port TCP/80.
fn holder<'a>(site: &'a Site, key: Option<&str>, address: &str) -> Result<Service<'a>> {
    let mut new = NewService::named("holder").requesting(address);
    if let Some(key) = key {
        new = new.sharing(key);
    }
    let service = new.create(site)?;
    service.gets(&[address])?;
    Ok(service)
}

fn port_clash(site: &Site) -> Result<String> {
    create_pools(site, [NewPool::on_request("cl", &["10.10.109.0/29"])])?;
    let holder = holder(site, Some("k"), "10.10.109.1")?;
    let version = holder.version()?;
    let service = NewService::named("clash")
        .requesting("10.10.109.1")
        .sharing("k")
        .create(site)?;
    let repair = || {
        let patch = json!({"spec": {"ports": [{"port": 81, "protocol": "TCP"}]}});
        service.patch(&patch).map(drop)
    };
    let names = ["TCP/80", "default/holder", "10.10.109.1"];
    let afterwards = ["10.10.109.1"];
    let message = complains(
        site,
        &service,
        "SharingConflict",
        &names,
        repair,
        &afterwards,
    )?;
    holder.is_still(&version)?;
    Ok(message)
}

fn other_key(site: &Site) -> Result<String> {
    const KEY: &str = "metallb.io/allow-shared-ip";
    create_pools(site, [NewPool::on_request("ok", &["10.10.110.0/29"])])?;
    let holder = holder(site, Some("k"), "10.10.110.1")?;
    let version = holder.version()?;
    let service = NewService::named("other-key")
        .requesting("10.10.110.1")
        .sharing("another")
        .port("TCP", 81)
        .create(site)?;
    let repair = || service.annotate(KEY, Some("k"));
    let names = [KEY, "default/holder", "10.10.110.1"];
    let afterwards = ["10.10.110.1"];
    let message = complains(
        site,
        &service,
        "SharingConflict",
        &names,
        repair,
        &afterwards,
    )?;
    holder.is_still(&version)?;
    Ok(message)
}

fn in_use(site: &Site) -> Result<String> {
    create_pools(site, [NewPool::on_request("iu", &["10.10.111.0/29"])])?;
    let holder = holder(site, None, "10.10.111.1")?;
    let version = holder.version()?;
    let service = NewService::named("late")
        .requesting("10.10.111.1")
        .port("TCP", 81)
        .create(site)?;
    let repair = || service.annotate(ADDRESSES, Some("10.10.111.2"));
    let names = ["default/holder", "10.10.111.1"];
    let message = complains(
        site,
        &service,
        "AddressInUse",
        &names,
        repair,
        &["10.10.111.2"],
    )?;
    holder.is_still(&version)?;
    Ok(message)
}
