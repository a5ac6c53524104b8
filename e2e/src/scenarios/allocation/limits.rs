//! What annotations keep back: addresses of a pool, addresses that were in use a moment ago, more than a namespace's share;
//! and what pools say of themselves.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use super::handles::{LIMIT, NewPool, NewService, POOLS, Pool, create_pools, others_are_served};
use super::surroundings::{kill_operators, with_namespaces};
use super::{past_the_webhook, scenario};
use crate::cluster::Site;
use crate::objects;
use crate::scenarios::{Scenario, bad_input};

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "excluded-addresses",
        "addresses that ferrolb.io/exclude names are not given, by itself or by request, and a Service on one moves",
        excluded,
    ),
    scenario(
        "freed-address-on-hold",
        "ferrolb.io/reuse-hold: an address freed by a deletion is given to another Service only after the time",
        held_for_a_while,
    ),
    scenario(
        "freed-address-comes-back-to-its-service",
        "ferrolb.io/reuse-hold: a Service of the same name gets its address back at once",
        held_for_the_same,
    ),
    scenario(
        "freed-address-on-hold-over-a-restart",
        "ferrolb.io/reuse-hold: the hold outlives operators that are killed",
        held_over_a_restart,
    ),
    scenario(
        "limit-of-a-pool",
        "ferrolb.io/max-addresses-per-namespace: the next Service waits until one goes or the limit is raised; holders keep theirs",
        pool_limit,
    ),
    scenario(
        "limit-of-a-namespace",
        "ferrolb.io/max-addresses: the same for a namespace; a limit that is no number lets nothing through and is quoted",
        |site| past_the_webhook(site, namespace_limit),
    ),
    scenario(
        "pool-says-that-it-is-exhausted",
        "a pool's condition Exhausted comes with the last address and goes when one returns",
        says_exhausted,
    ),
    scenario(
        "pools-say-that-they-overlap",
        "two pools that got in with a common address both say Overlapping, until one is gone",
        say_overlapping,
    ),
];

const EXCLUDE: &str = "ferrolb.io/exclude";
const HOLD: &str = "ferrolb.io/reuse-hold";
const OF_POOL: &str = "ferrolb.io/max-addresses-per-namespace";
const OF_NAMESPACE: &str = "ferrolb.io/max-addresses";

/// The message of a condition names all of these.
fn names(condition: &serde_json::Value, words: &[&str]) -> Result<String> {
    let message = condition["message"].as_str().unwrap_or_default();
    for word in words {
        ensure!(message.contains(word), "{word} is not named: {message}");
    }
    Ok(message.to_owned())
}

fn excluded(site: &Site) -> Result<String> {
    let new = NewPool::on_request("xc", &["10.10.115.0/29"])
        .annotated(EXCLUDE, "10.10.115.0,10.10.115.4-10.10.115.6");
    let [pool] = create_pools(site, [new])?;
    let mut services = Vec::new();
    for (name, address) in [
        ("one", "10.10.115.1"),
        ("two", "10.10.115.2"),
        ("three", "10.10.115.3"),
        ("four", "10.10.115.7"),
    ] {
        let service = NewService::named(name).pool("xc").create(site)?;
        service.gets(&[address])?;
        services.push(service);
    }
    let fifth = NewService::named("five").pool("xc").create(site)?;
    fifth.lacks("PoolExhausted")?;
    let asking = NewService::named("asking")
        .requesting("10.10.115.5")
        .create(site)?;
    let condition = asking.lacks("AddressExcluded")?;
    let message = names(&condition, &["10.10.115.5", "xc", EXCLUDE])?;
    asking.delete()?;
    fifth.delete()?;
    // One in use is excluded, and another is not any more.
    let versions = services[1..]
        .iter()
        .map(|service| service.version())
        .collect::<Result<Vec<_>>>()?;
    pool.annotate(
        EXCLUDE,
        Some("10.10.115.0-10.10.115.1,10.10.115.4-10.10.115.5"),
    )?;
    services[0].gets(&["10.10.115.6"])?;
    let told = services[0].is_told("ClearAssignment")?;
    ensure!(told.contains("10.10.115.1"), "the event says {told:?}");
    others_are_served(site)?;
    for (service, version) in services[1..].iter().zip(versions) {
        service.is_still(&version)?;
    }
    Ok(message)
}

fn held_for_a_while(site: &Site) -> Result<String> {
    const TIME: Duration = Duration::from_secs(5);
    let new = NewPool::on_request("hw", &["10.10.116.1/32"]).annotated(HOLD, "5s");
    create_pools(site, [new])?;
    let first = NewService::named("first").pool("hw").create(site)?;
    first.gets(&["10.10.116.1"])?;
    let second = NewService::named("second").pool("hw").create(site)?;
    second.lacks("PoolExhausted")?;
    // The operator hears of the deletion after this moment, so the hold ends no earlier than this plus the time.
    let deleted = Instant::now();
    first.delete()?;
    let asking = NewService::named("asking")
        .requesting("10.10.116.1")
        .create(site)?;
    let condition = asking.lacks("AddressOnHold")?;
    let message = names(&condition, &["10.10.116.1", HOLD])?;
    asking.delete()?;
    second.gets(&["10.10.116.1"])?;
    let waited = deleted.elapsed();
    ensure!(
        waited >= TIME,
        "the address was given again after {waited:?}"
    );
    ensure!(
        waited < TIME * 2,
        "the address was given again only after {waited:?}"
    );
    second.lacks_nothing()?;
    Ok(message)
}

fn held_for_the_same(site: &Site) -> Result<String> {
    let new = NewPool::on_request("hs", &["10.10.117.1/32"]).annotated(HOLD, "60s");
    create_pools(site, [new])?;
    let first = || NewService::named("first").pool("hs").create(site);
    let before = first()?;
    before.gets(&["10.10.117.1"])?;
    let other = NewService::named("a-other").pool("hs").create(site)?;
    other.lacks("PoolExhausted")?;
    before.delete()?;
    others_are_served(site)?;
    other.gets(&[])?;
    let started = Instant::now();
    first()?.gets(&["10.10.117.1"])?;
    let waited = started.elapsed();
    ensure!(waited < Duration::from_secs(5), "only after {waited:?}");
    other.gets(&[])?;
    Ok(format!("after {} ms", waited.as_millis()))
}

/// Waits until the pool's status lists this address as held.
fn is_held(site: &Site, pool: &Pool<'_>, address: &str) -> Result<()> {
    site.wait_for(
        &format!("status.heldAddresses of {} has {address}", pool.name),
        LIMIT,
        || {
            let held = &pool.object()?["status"]["heldAddresses"];
            Ok(held.to_string().contains(&format!("\"{address}\"")))
        },
    )
}

fn held_over_a_restart(site: &Site) -> Result<String> {
    let new = NewPool::on_request("hr", &["10.10.118.1/32"]).annotated(HOLD, "60s");
    let [pool] = create_pools(site, [new])?;
    let first = || NewService::named("first").pool("hr").create(site);
    let before = first()?;
    before.gets(&["10.10.118.1"])?;
    let other = NewService::named("a-other").pool("hr").create(site)?;
    other.lacks("PoolExhausted")?;
    let deleted = Instant::now();
    before.delete()?;
    is_held(site, &pool, "10.10.118.1")?;
    kill_operators(site)?;
    others_are_served(site)?;
    other.gets(&[])?;
    is_held(site, &pool, "10.10.118.1")?;
    first()?.gets(&["10.10.118.1"])?;
    let elapsed = deleted.elapsed().as_secs_f64();
    ensure!(
        elapsed < 60.0,
        "{elapsed:.1} s went by, so this shows nothing"
    );
    other.gets(&[])?;
    Ok(format!("given back after {elapsed:.1} s"))
}

fn pool_limit(site: &Site) -> Result<String> {
    let new = NewPool::on_request("lp", &["10.10.119.0/29"]).annotated(OF_POOL, "2");
    let [pool] = create_pools(site, [new])?;
    let service = |name| NewService::named(name).pool("lp");
    let one = service("one").create(site)?;
    one.gets(&["10.10.119.0"])?;
    let two = service("two").create(site)?;
    two.gets(&["10.10.119.1"])?;
    let three = service("three").create(site)?;
    let condition = three.lacks("LimitReached")?;
    let message = names(&condition, &[OF_POOL, "lp", "default"])?;
    with_namespaces(site, &[("alloc-unlimited", json!({}))], || {
        let other = service("other").in_namespace("alloc-unlimited");
        other.create(site)?.gets_some(1).map(drop)
    })?;
    three.gets(&[])?;
    one.delete()?;
    three.gets_some(1)?;
    three.lacks_nothing()?;

    let four = service("four").create(site)?;
    four.lacks("LimitReached")?;
    pool.annotate(OF_POOL, Some("3"))?;
    four.gets_some(1)?;

    // Lowered, it takes nothing from those who have an address; the next is told the new one.
    let versions = [two.version()?, three.version()?, four.version()?];
    let five = service("five").create(site)?;
    five.lacks("LimitReached")?;
    pool.annotate(OF_POOL, Some("1"))?;
    // An annotation alone leaves no trace in the status; with a change after it, it is known to be in force.
    pool.change(&json!({"addresses": ["10.10.119.0/28"]}))?;
    five.lacks("LimitReached")?;
    others_are_served(site)?;
    for (holder, version) in [&two, &three, &four].iter().zip(versions) {
        holder.is_still(&version)?;
    }
    Ok(message)
}

fn namespace_limit(site: &Site) -> Result<String> {
    const NAME: &str = "alloc-limited";
    let limited = json!({"annotations": {OF_NAMESPACE: "1"}});
    let limit = |value: Option<&str>| {
        let patch = json!({"metadata": {"annotations": {OF_NAMESPACE: value}}});
        let path = format!("/api/v1/namespaces/{NAME}");
        site.patch(&path, &patch).map(drop)
    };
    let service = |name| NewService::named(name).in_namespace(NAME).pool("ln");
    with_namespaces(site, &[(NAME, limited)], || {
        create_pools(site, [NewPool::on_request("ln", &["10.10.120.0/29"])])?;
        let one = service("one").create(site)?;
        one.gets(&["10.10.120.0"])?;
        let two = service("two").create(site)?;
        let condition = two.lacks("LimitReached")?;
        let message = names(&condition, &[OF_NAMESPACE, NAME])?;
        limit(Some("2"))?;
        two.gets(&["10.10.120.1"])?;
        two.lacks_nothing()?;

        let three = service("three").create(site)?;
        three.lacks("LimitReached")?;
        one.delete()?;
        three.gets(&["10.10.120.0"])?;

        let versions = [two.version()?, three.version()?];
        limit(Some("1"))?;
        let four = service("four").create(site)?;
        four.lacks("LimitReached")?;
        limit(Some("many"))?;
        site.wait_for("the limit that is no number is quoted", LIMIT, || {
            let condition = four.lacks("LimitReached")?;
            Ok(names(&condition, &["many", OF_NAMESPACE, NAME]).is_ok())
        })?;
        others_are_served(site)?;
        for (holder, version) in [&two, &three].iter().zip(versions) {
            holder.is_still(&version)?;
        }
        limit(None)?;
        four.gets(&["10.10.120.2"])?;
        Ok(message)
    })
}

fn says_exhausted(site: &Site) -> Result<String> {
    let new = NewPool::on_request("se-pool", &["10.10.121.0/31"]);
    let [pool] = create_pools(site, [new])?;
    let service = |name| NewService::named(name).pool("se-pool").create(site);
    service("one")?.gets(&["10.10.121.0"])?;
    pool.counts([1, 1, 0, 0])?;
    pool.is("Exhausted", false)?;
    let last = service("two")?;
    let message = pool.is("Exhausted", true)?;
    last.delete()?;
    pool.is("Exhausted", false)?;
    Ok(message)
}

fn say_overlapping(site: &Site) -> Result<String> {
    bad_input::take_webhook_away(site)?;
    for (name, range) in [("ov-a", "10.10.122.0/30"), ("ov-b", "10.10.122.2/31")] {
        // The API server may not have heard yet that the webhook is gone.
        let pool = objects::pool(name, &[range]);
        site.wait("the pool gets in", Duration::from_secs(20), || {
            site.create(POOLS, &pool).map(Some)
        })?;
    }
    let (first, second) = (Pool::named(site, "ov-a"), Pool::named(site, "ov-b"));
    let message = first.is("Overlapping", true)?;
    ensure!(message.contains("ov-b"), "ov-a says {message:?}");
    let other = second.is("Overlapping", true)?;
    ensure!(other.contains("ov-a"), "ov-b says {other:?}");
    second.delete()?;
    first.is("Overlapping", false)?;
    Ok(message)
}
