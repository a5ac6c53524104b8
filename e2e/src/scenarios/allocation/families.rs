//! Services with addresses of two families.

use anyhow::{Result, ensure};
use serde_json::json;

use super::handles::{NewPool, NewService, Pool, Service, create_pools, others_are_served};
use super::scenario;
use super::surroundings::with_samples_on_request;
use crate::cluster::Site;
use crate::scenarios::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "dual-stack",
        "a dual-stack Service gets one address of each family from one pool",
        dual_stack,
    ),
    scenario(
        "both-preferred-and-there",
        "A13: PreferDualStack takes both addresses from the pool that has both, before a pool of one family",
        both,
    ),
    scenario(
        "both-preferred-pools-of-one-family",
        "A14: PreferDualStack with pools of one family each gets one IPv4 address",
        one_v4,
    ),
    scenario(
        "both-preferred-ipv6-first",
        "A15: the same with IPv6 first in ipFamilies gets one IPv6 address",
        one_v6,
    ),
    scenario(
        "pool-becomes-dual",
        "A16: a PreferDualStack Service gets its second address when its pool becomes dual, and keeps the first (also 3.7)",
        becomes_dual,
    ),
    scenario(
        "both-preferred-then-required-and-back",
        "A17: on a pool of one family: one address preferred, none required, one preferred again (also 3.7, Require to Prefer)",
        required_and_back,
    ),
    scenario(
        "both-required-until-a-dual-pool-exists",
        "3.7: PreferDualStack becomes RequireDualStack: the address goes, and both come once a dual pool exists",
        until_dual,
    ),
    scenario(
        "require-becomes-prefer",
        "3.7: a RequireDualStack Service that waits gets one address when it comes to prefer both; with both it keeps both",
        require_becomes_prefer,
    ),
    scenario(
        "dual-pool-appears-elsewhere",
        "A18: a PreferDualStack Service with one address does not jump to a dual pool that appears (also 3.7)",
        appears,
    ),
    scenario(
        "dual-pool-loses-a-family",
        "A19: a Service moves to the other dual pool when its own shrinks to one family (also 3.7)",
        loses_family,
    ),
];

fn dual_stack(site: &Site) -> Result<String> {
    let service = NewService::named("dual")
        .pool("layer2")
        .requiring_both()
        .create(site)?;
    let given = service.gets_some(2)?;
    ensure!(
        !given[0].contains(':') && given[1].contains(':'),
        "not one of each family: {given:?}"
    );
    Ok(given.join(" "))
}

fn both(site: &Site) -> Result<String> {
    create_pools(
        site,
        [
            NewPool::for_case("a13-a-v4", &["10.10.60.16/28"], "a13").priority(10),
            NewPool::for_case("a13-b-v6", &["fd10:60::10/124"], "a13").priority(20),
            NewPool::for_case("a13-c-both", &["10.10.60.0/28", "fd10:60::/124"], "a13")
                .priority(30),
        ],
    )?;
    let service = NewService::named("both")
        .of_case("a13")
        .preferring_both()
        .create(site)?;
    service.gets(&["10.10.60.0", "fd10:60::"])?;
    service.is_recorded_in(Some("a13-c-both"))?;
    Ok(String::new())
}

fn one_v4(site: &Site) -> Result<String> {
    create_pools(
        site,
        [
            NewPool::for_case("a14-a-v6", &["fd10:61::/124"], "a14").priority(10),
            NewPool::for_case("a14-b-v4", &["10.10.61.0/28"], "a14").priority(20),
        ],
    )?;
    let service = NewService::named("one-v4")
        .of_case("a14")
        .preferring_both()
        .create(site)?;
    service.gets(&["10.10.61.0"])?;
    // What else is to be said of it is said by then.
    others_are_served(site)?;
    let version = service.version()?;
    others_are_served(site)?;
    service.is_still(&version)?;
    service.was_given_once()?;
    Ok(String::new())
}

fn one_v6(site: &Site) -> Result<String> {
    create_pools(
        site,
        [
            NewPool::for_case("a15-a-v4", &["10.10.62.0/28"], "a15").priority(10),
            NewPool::for_case("a15-b-v6", &["fd10:62::/124"], "a15").priority(20),
        ],
    )?;
    let service = NewService::named("one-v6")
        .of_case("a15")
        .families("PreferDualStack", &["IPv6", "IPv4"])
        .create(site)?;
    service.gets(&["fd10:62::"])?;
    // What else is to be said of it is said by then.
    others_are_served(site)?;
    let version = service.version()?;
    others_are_served(site)?;
    service.is_still(&version)?;
    service.was_given_once()?;
    Ok(String::new())
}

/// A Service that prefers both families, from a pool of this case that has one IPv4 range.
fn on_single_pool<'a>(
    site: &'a Site,
    case: &str,
    range: &str,
    address: &str,
) -> Result<(Pool<'a>, Service<'a>)> {
    let new = NewPool::for_case(&format!("{case}-single"), &[range], case);
    let [pool] = create_pools(site, [new])?;
    let service = NewService::named("prefers")
        .of_case(case)
        .preferring_both()
        .create(site)?;
    service.gets(&[address])?;
    Ok((pool, service))
}

fn becomes_dual(site: &Site) -> Result<String> {
    let (pool, service) = on_single_pool(site, "a16", "10.10.63.4/30", "10.10.63.4")?;
    // An IPv4 address below the one in use is free from now on, and must not tempt.
    pool.change(&json!({"addresses": ["10.10.63.0/29", "fd10:63::8/125"]}))?;
    service.gets(&["10.10.63.4", "fd10:63::8"])?;
    let version = service.version()?;
    others_are_served(site)?;
    service.is_still(&version)?;
    Ok(String::new())
}

fn policy(service: &Service<'_>, policy: &str) -> Result<()> {
    service
        .patch(&json!({"spec": {"ipFamilyPolicy": policy}}))
        .map(drop)
}

fn required_and_back(site: &Site) -> Result<String> {
    with_samples_on_request(site, || {
        let (_, service) = on_single_pool(site, "a17", "10.10.64.0/30", "10.10.64.0")?;
        policy(&service, "RequireDualStack")?;
        service.gets(&[])?;
        service.is_recorded_in(None)?;
        service.waits()?;
        policy(&service, "PreferDualStack")?;
        service.gets(&["10.10.64.0"])?;
        Ok(String::new())
    })
}

fn until_dual(site: &Site) -> Result<String> {
    with_samples_on_request(site, || {
        let (_, service) = on_single_pool(site, "ud", "10.10.65.0/30", "10.10.65.0")?;
        policy(&service, "RequireDualStack")?;
        service.gets(&[])?;
        let ranges = ["10.10.65.8/30", "fd10:65::8/126"];
        create_pools(site, [NewPool::for_case("ud-dual", &ranges, "ud")])?;
        service.gets(&["10.10.65.8", "fd10:65::8"])?;
        Ok(String::new())
    })
}

fn require_becomes_prefer(site: &Site) -> Result<String> {
    with_samples_on_request(site, || {
        let ranges = ["10.10.66.0/32", "fd10:66::/128"];
        create_pools(
            site,
            [
                NewPool::for_case("rp-a-dual", &ranges, "rp").priority(10),
                NewPool::for_case("rp-b-single", &["10.10.66.8/30"], "rp").priority(20),
            ],
        )?;
        let requiring = |name| {
            NewService::named(name)
                .of_case("rp")
                .requiring_both()
                .create(site)
        };
        let served = requiring("served")?;
        served.gets(&["10.10.66.0", "fd10:66::"])?;
        let waiting = requiring("waiting")?;
        waiting.waits()?;
        policy(&served, "PreferDualStack")?;
        let version = served.version()?;
        policy(&waiting, "PreferDualStack")?;
        waiting.gets(&["10.10.66.8"])?;
        others_are_served(site)?;
        served.is_still(&version)?;
        served.gets(&["10.10.66.0", "fd10:66::"])?;
        Ok(String::new())
    })
}

fn appears(site: &Site) -> Result<String> {
    let (_, service) = on_single_pool(site, "a18", "10.10.67.0/30", "10.10.67.0")?;
    let ranges = ["10.10.67.8/30", "fd10:67::8/126"];
    create_pools(
        site,
        [NewPool::for_case("a18-dual", &ranges, "a18").priority(1)],
    )?;
    // Another, made now, is served by the new pool.
    NewService::named("later")
        .of_case("a18")
        .preferring_both()
        .create(site)?
        .gets(&["10.10.67.8", "fd10:67::8"])?;
    others_are_served(site)?;
    // Its status may come to say something else about the second family, but not about the first.
    service.gets(&["10.10.67.0"])?;
    service.was_given_once()?;
    Ok(String::new())
}

fn loses_family(site: &Site) -> Result<String> {
    let dual = |name, v4, v6| NewPool::for_case(name, &[v4, v6], "a19");
    let [first, _] = create_pools(
        site,
        [
            dual("a19-a", "10.10.68.0/30", "fd10:68::/126").priority(10),
            dual("a19-b", "10.10.68.8/30", "fd10:68::8/126").priority(20),
        ],
    )?;
    let service = NewService::named("moved")
        .of_case("a19")
        .preferring_both()
        .create(site)?;
    service.gets(&["10.10.68.0", "fd10:68::"])?;
    first.change(&json!({"addresses": ["10.10.68.0/30"]}))?;
    service.gets(&["10.10.68.8", "fd10:68::8"])?;
    service.is_recorded_in(Some("a19-b"))?;
    Ok(String::new())
}
