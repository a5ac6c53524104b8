//! Planned moves: the new node announces before the old one falls silent, and a client that asks all the time loses
//! nothing.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::faults::{Taint, pod_on};
use super::handles::{
    LIMIT, Label, advertise, announcer, baseline, only, others, pool, prefer, readvertise, service,
};
use super::scenario;
use super::status::statuses;
use super::watched::Watched;
use crate::cluster::Site;
use crate::scenarios::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "moved-by-node-selector",
        "the node selector is changed: the new node announces first, and the client loses nothing",
        by_selector,
    ),
    scenario(
        "moved-by-preference",
        "another node comes to be preferred: the new node announces first, and the client loses nothing",
        by_preference,
    ),
    scenario(
        "moved-by-exclusion",
        "the announcing node is labelled to be excluded: the new node announces first, and the client loses nothing",
        by_exclusion,
    ),
    scenario(
        "moved-by-drain",
        "the announcing speaker is deleted gracefully, and its node takes no new one: the new node announces first, and the client loses nothing",
        by_drain,
    ),
];

/// For so long "who has" may stay unanswered during a planned move, and the client that sends datagrams go without. The
/// promise is 50 ms, which `lab bench --failover` measures on a machine that does nothing else. Here a speaker waits for a
/// processor as long as that by itself, and the server in its pod, which has a part in the second only, for longer.
pub const GAP: Duration = Duration::from_millis(100);
pub const PAUSE: Duration = Duration::from_millis(250);

/// A Service of a pool of its own, whose address moves from the node that announces it to another by some change. What the
/// change returns lasts until the address has moved.
fn moves<'a, T>(
    site: &'a Site,
    name: &str,
    change: impl FnOnce(&'a Site, &'static str, &'static str) -> Result<T>,
) -> Result<String> {
    pool(site, name)?;
    advertise(site, name, name, &json!({}))?;
    let address = service(site, name, name)?;
    let old = announcer(site, &address)?;
    let new = baseline(&address, &others(old))?;
    let watched = Watched::start(site, &address)?;
    let began = SystemTime::now();
    let lasting = change(site, old, new)?;
    watched.settles_on(site, new, LIMIT)?;
    std::thread::sleep(Duration::from_millis(1500)); // a node that took the other's claim for a conflict would tell it after a second
    let record = watched.finish()?;
    let told = statuses(site, name)?;
    ensure!(
        told.iter()
            .all(|status| status["status"]["conditions"].is_null()),
        "a move was told as a conflict: {told:?}"
    );
    drop(lasting);
    let claimed = record.first_claim(new, began)?;
    let claimed = claimed.with_context(|| format!("{new} announced nothing"))?;
    let fell_silent = record.last_answer(old)?;
    let fell_silent = fell_silent.with_context(|| format!("{old} never answered"))?;
    // The old node falls silent when it hears the new one. A question that was on its way just then is nobody's.
    let nobody = record.asked_between(fell_silent, claimed);
    ensure!(
        nobody <= 1,
        "{new} announced only {} ms after the last answer of {old}, which {nobody} questions fell into; {}",
        claimed
            .duration_since(fell_silent)
            .unwrap_or_default()
            .as_millis(),
        record.told()
    );
    let both = record.two_owners(began);
    ensure!(
        both < Duration::from_secs(1),
        "{old} and {new} both answered for {} ms",
        both.as_millis()
    );
    ensure!(
        record.served.lost == 0 && record.served.outage < PAUSE && record.unanswered() < GAP,
        "from {old} to {new}: {}",
        record.told()
    );
    Ok(format!(
        "from {old} to {new}, which announced with {nobody} questions unanswered; both answered for {} ms; {}",
        both.as_millis(),
        record.told()
    ))
}

fn by_selector(site: &Site) -> Result<String> {
    moves(site, "by-selector", |site, _, new| {
        readvertise(site, "by-selector", &json!({"nodeSelectors": [only(new)]}))
    })
}

fn by_preference(site: &Site) -> Result<String> {
    moves(site, "by-preference", |site, _, new| {
        let preferred = json!({"preferredNodeSelectors": [prefer(100, &only(new))]});
        readvertise(site, "by-preference", &preferred)
    })
}

fn by_exclusion(site: &Site) -> Result<String> {
    moves(site, "by-exclusion", |site, old, _| {
        let key = "node.kubernetes.io/exclude-from-external-load-balancers";
        Label::put(site, old, key, "")
    })
}

fn by_drain(site: &Site) -> Result<String> {
    moves(site, "by-drain", |site, old, _| {
        let taint = Taint::put(site, old)?;
        site.delete(&pod_on(site, old)?.context("no speaker runs there")?)?;
        Ok(taint)
    })
}
