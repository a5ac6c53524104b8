//! Which pool serves a Service that asks for nothing, and what pools count.

use anyhow::{Result, ensure};
use serde_json::json;

use super::handles::{NewPool, NewService, Service, create_pools, labelled};
use super::scenario;
use super::surroundings::{with_namespaces, with_samples_on_request};
use crate::cluster::Site;
use crate::scenarios::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "pools-of-a-namespace",
        "A7: a namespace's pools are used by priority, the next when one is full, then the default pool; others get the default pool",
        of_a_namespace,
    ),
    scenario(
        "pools-by-priority",
        "A8: pools that differ only in priority are used in its order, the one without priority last",
        by_priority,
    ),
    scenario(
        "pools-of-namespaces-by-name-or-label",
        "A9: a pool serves the namespaces that it lists and those that it selects by label, in the order of priorities",
        by_name_or_label,
    ),
    scenario(
        "pools-by-service-label",
        "A10: a pool serves Services that one of its selectors matches, in the order of priorities, and no others",
        by_service_label,
    ),
    scenario(
        "pools-by-namespace-and-service-label",
        "A11: a pool with namespaces and service selectors serves only Services that match both",
        by_both,
    ),
    scenario(
        "namespace-label-added-later",
        "A12: once its namespace has the label, a new Service uses the pool of higher priority and the old one stays",
        label_added,
    ),
    scenario(
        "pool-status-counts",
        "A20: a pool's status counts addresses free and in use, follows a wider range, and is put back after an edit by hand",
        counts,
    ),
];

/// Its one address is of none of these pools' networks.
fn is_served_elsewhere(service: &Service<'_>, networks: &[&str]) -> Result<()> {
    let found = service.gets_some(1)?;
    let inside = |address: &String| networks.iter().any(|network| address.starts_with(network));
    ensure!(
        !found.iter().any(inside),
        "{} got {found:?} from a pool that does not serve it",
        service.name
    );
    Ok(())
}

fn of_a_namespace(site: &Site) -> Result<String> {
    let of_default = json!(["default"]);
    let pool =
        |name, address| NewPool::for_all(name, &[address]).allocation("namespaces", &of_default);
    with_samples_on_request(site, || {
        with_namespaces(site, &[("alloc-other", json!({}))], || {
            create_pools(
                site,
                [
                    NewPool::for_all("a7-a-default", &["10.10.40.200/31"]),
                    pool("a7-b-second", "10.10.40.2/32").priority(20),
                    pool("a7-c-first", "10.10.40.1/32").priority(10),
                ],
            )?;
            let other = NewService::named("other")
                .in_namespace("alloc-other")
                .create(site)?;
            other.gets(&["10.10.40.200"])?;
            for (name, address) in [
                ("one", "10.10.40.1"),
                ("two", "10.10.40.2"),
                ("three", "10.10.40.201"),
            ] {
                NewService::named(name).create(site)?.gets(&[address])?;
            }
            NewService::named("four").create(site)?.waits()
        })
    })
}

fn by_priority(site: &Site) -> Result<String> {
    let pool = |name, address| NewPool::for_case(name, &[address], "a8");
    create_pools(
        site,
        [
            pool("a8-a-unset", "10.10.41.3/32"),
            pool("a8-b-second", "10.10.41.2/32").priority(20),
            pool("a8-c-first", "10.10.41.1/32").priority(10),
        ],
    )?;
    for (name, address) in [
        ("one", "10.10.41.1"),
        ("two", "10.10.41.2"),
        ("three", "10.10.41.3"),
    ] {
        NewService::named(name)
            .of_case("a8")
            .create(site)?
            .gets(&[address])?;
    }
    Ok(String::new())
}

/// The label of namespaces that pools select.
const TIER: &str = "lab.ferrolb.io/tier";

fn by_name_or_label(site: &Site) -> Result<String> {
    let namespaces = [
        ("alloc-listed", json!({})),
        ("alloc-labelled", json!({"labels": {TIER: "gold"}})),
    ];
    with_namespaces(site, &namespaces, || {
        create_pools(
            site,
            [
                NewPool::for_all("a9-a-both", &["10.10.42.8/29"])
                    .allocation("namespaces", &json!(["alloc-listed"]))
                    .allocation("namespaceSelectors", &labelled(TIER, "gold"))
                    .priority(20),
                NewPool::for_all("a9-b-labelled", &["10.10.42.1/32"])
                    .allocation("namespaceSelectors", &labelled(TIER, "gold"))
                    .priority(10),
            ],
        )?;
        let service = |namespace, name| NewService::named(name).in_namespace(namespace);
        // Served only once the operator has seen the label of the namespace.
        let first = service("alloc-labelled", "first")
            .pool("a9-b-labelled")
            .create(site)?;
        first.gets(&["10.10.42.1"])?;
        first.delete()?;
        service("alloc-labelled", "one")
            .create(site)?
            .gets(&["10.10.42.1"])?;
        service("alloc-labelled", "two")
            .create(site)?
            .gets(&["10.10.42.8"])?;
        service("alloc-listed", "three")
            .create(site)?
            .gets(&["10.10.42.9"])?;
        let outsider = service("default", "four").create(site)?;
        is_served_elsewhere(&outsider, &["10.10.42."])
    })?;
    Ok(String::new())
}

fn by_service_label(site: &Site) -> Result<String> {
    const TEAM: &str = "lab.ferrolb.io/team";
    let red_or_blue = json!([{"matchLabels": {TEAM: "red"}}, {"matchLabels": {TEAM: "blue"}}]);
    create_pools(
        site,
        [
            NewPool::for_all("a10-a-low", &["10.10.43.8/29"])
                .allocation("serviceSelectors", &red_or_blue)
                .priority(20),
            NewPool::for_all("a10-b-high", &["10.10.43.1/32"])
                .allocation("serviceSelectors", &labelled(TEAM, "red"))
                .priority(10),
        ],
    )?;
    for (name, team, address) in [
        ("one", "blue", "10.10.43.8"),
        ("two", "red", "10.10.43.1"),
        ("three", "red", "10.10.43.9"),
    ] {
        NewService::named(name)
            .labelled(TEAM, team)
            .create(site)?
            .gets(&[address])?;
    }
    let green = NewService::named("four")
        .labelled(TEAM, "green")
        .create(site)?;
    is_served_elsewhere(&green, &["10.10.43."])?;
    let unlabelled = NewService::named("five").create(site)?;
    is_served_elsewhere(&unlabelled, &["10.10.43."])?;
    Ok(String::new())
}

fn by_both(site: &Site) -> Result<String> {
    with_namespaces(site, &[("alloc-both", json!({}))], || {
        create_pools(
            site,
            [
                NewPool::for_case("a11-a-low", &["10.10.44.8/29"], "a11")
                    .allocation("namespaces", &json!(["alloc-both"]))
                    .priority(20),
                NewPool::for_case("a11-b-high", &["10.10.44.1/32"], "a11")
                    .allocation("namespaces", &json!(["alloc-both"]))
                    .priority(10),
            ],
        )?;
        let service = |namespace, name| NewService::named(name).in_namespace(namespace);
        service("alloc-both", "one")
            .of_case("a11")
            .create(site)?
            .gets(&["10.10.44.1"])?;
        service("alloc-both", "two")
            .of_case("a11")
            .create(site)?
            .gets(&["10.10.44.8"])?;
        let unlabelled = service("alloc-both", "three").create(site)?;
        is_served_elsewhere(&unlabelled, &["10.10.44."])?;
        let foreign = service("default", "four").of_case("a11").create(site)?;
        is_served_elsewhere(&foreign, &["10.10.44."])
    })?;
    Ok(String::new())
}

fn label_added(site: &Site) -> Result<String> {
    with_namespaces(site, &[("alloc-later", json!({}))], || {
        let silver = labelled(TIER, "silver");
        create_pools(
            site,
            [
                NewPool::for_all("a12-a-low", &["10.10.45.2/31"])
                    .allocation("namespaces", &json!(["alloc-later"]))
                    .priority(20),
                NewPool::for_all("a12-b-high", &["10.10.45.0/31"])
                    .allocation("namespaceSelectors", &silver)
                    .priority(10),
                NewPool::on_request("a12-c-mark", &["10.10.45.9/32"])
                    .allocation("namespaceSelectors", &silver),
            ],
        )?;
        let service = |name| NewService::named(name).in_namespace("alloc-later");
        let early = service("early").create(site)?;
        early.gets(&["10.10.45.2"])?;
        // Served as soon as the operator has seen the label.
        let mark = service("mark").pool("a12-c-mark").create(site)?;
        mark.waits()?;
        let version = early.version()?;
        site.patch(
            "/api/v1/namespaces/alloc-later",
            &json!({"metadata": {"labels": {TIER: "silver"}}}),
        )?;
        mark.gets(&["10.10.45.9"])?;
        service("late").create(site)?.gets(&["10.10.45.0"])?;
        early.is_still(&version)
    })?;
    Ok(String::new())
}

fn counts(site: &Site) -> Result<String> {
    let new = NewPool::on_request("a20", &["10.10.46.0/30", "fd10:46::/126"]);
    let [pool] = create_pools(site, [new])?;
    pool.counts([4, 0, 4, 0])?;
    let service = NewService::named("counted")
        .pool("a20")
        .requiring_both()
        .create(site)?;
    service.gets(&["10.10.46.0", "fd10:46::"])?;
    pool.counts([3, 1, 3, 1])?;
    pool.change(&json!({"addresses": ["10.10.46.0/29", "fd10:46::/125"]}))?;
    pool.counts([7, 1, 7, 1])?;
    let edited = site.patch(
        &format!("{}/status", pool.path()),
        &json!({"status": {"availableIPv4": 99, "assignedIPv6": 99}}),
    )?;
    ensure!(
        edited["status"]["availableIPv4"] == 99,
        "the edit did not get in"
    );
    pool.counts([7, 1, 7, 1])?;
    service.delete()?;
    pool.counts([8, 0, 8, 0])?;
    Ok(String::new())
}
