//! Services get the addresses that they ask for, and keep them or get others when something changes.
//!
//! Each scenario has pools and ranges of its own: a former scenario's pool may still be in a cache when the next begins.
//! Pools are invisible to automatic allocation (`on_request`) or serve the Services of one case only (`for_case`), so that
//! no scenario sees the pools of config/samples or of another.

mod changes;
mod families;
mod handles;
mod limits;
mod ownership;
mod pools;
mod reasons;
mod reasons_of_pools;
mod requests;
mod restarts;
mod sharing;
pub mod surroundings;
mod telling;

use anyhow::Result;

use super::Scenario;
use crate::cluster::Site;

/// The scenarios, by theme.
pub const THEMES: [&[Scenario]; 11] = [
    requests::SCENARIOS,
    pools::SCENARIOS,
    families::SCENARIOS,
    sharing::SCENARIOS,
    changes::SCENARIOS,
    restarts::SCENARIOS,
    reasons::SCENARIOS,
    reasons_of_pools::SCENARIOS,
    limits::SCENARIOS,
    ownership::SCENARIOS,
    telling::SCENARIOS,
];

/// Runs a scenario in which somebody writes what the webhook refuses: what the operator makes of it counts where the webhook was
/// away.
fn past_the_webhook(site: &Site, run: fn(&Site) -> Result<String>) -> Result<String> {
    super::validation::without_judging_webhooks(site, || run(site))
}

/// A scenario of this group. `doc` begins with the row of the reference that it shows: A1 to A20 are those of 6.3.
const fn scenario(
    name: &'static str,
    doc: &'static str,
    run: fn(&Site) -> Result<String>,
) -> Scenario {
    Scenario {
        group: "allocation",
        name,
        doc,
        run,
    }
}
