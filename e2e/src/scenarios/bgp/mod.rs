//! BGP in full: each row of the acceptance list (reference 6.4) that a speaker without BFD can do, against FRR, BIRD, GoBGP and ExaBGP at once, and what routers do to us besides.
//!
//! | Row | Scenario |
//! |---|---|
//! | B1 | `all-nodes-announce` |
//! | B2, B10 | `graceful-restart` |
//! | B3 | `no-graceful-restart` |
//! | B4 | `node-cannot-serve` |
//! | B5 | `local-traffic-policy` |
//! | B7 | `shared-address-over-bgp` |
//! | B8 | `addresses-of-ranges-and-prefixes-over-bgp` |
//! | B9 | `router-ids` |
//! | B11 | `another-local-as` |
//! | B12 | `passwords-from-secrets` |
//! | B13 | `bgp-status-per-node` |
//! | B15 | `configured-step-by-step` |
//! | B16 | `peers-one-at-a-time` |
//! | B17 | `attributes` |
//! | B18 | `communities-are-united` |
//! | B19 | `attributes-change-in-place` |
//! | B20 | `incoming-routes-are-ignored` |
//! | B23 | `peer-changed`, `connect-time`, `timers` |
//! | B24 | `layer-2-beside-bgp` |
//! | B25 | `dynamic-as` |
//! | B26 | `families` |
//! | B27 | `attributes-of-both-families` |
//! | B28 | `peers-of-an-advertisement` |
//! | B29 | `communities-by-peer` |
//! | B30, B31 | `metrics-of-sessions` |
//! | B33 | `all-are-killed-while-broken` of group `bad-input` |
//! | B34 | `nodes-of-advertisements` |
//! | B35 | `nodes-of-two-advertisements` |
//! | B36 | `node-labelled-later-over-bgp` |
//! | B37 | `selector-that-stops-matching` |
//! | B38 | `peers-of-selected-nodes` |
//! | B39 | `another-as-on-each-node` |
//! | B40, B41 | `service-selector-and-pool-over-bgp` |
//! | B42, B43 | `service-selectors-are-edited` |
//! | B44 | `exact-and-aggregated` |
//! | B45, B46 | `communities-by-service` |
//! | B47 | `unnumbered` |
//!
//! Every node has a session with each router over IPv4 and another over IPv6. Each row is tried in some styles (eBGP or
//! iBGP, on the same link or behind a router, with or without TCP-MD5), and with `--full` in all eight.

mod as_numbers;
mod attributes;
mod failures;
mod families;
mod handles;
mod incoming;
mod links;
mod messages;
mod one_router;
mod outlasting;
mod peers;
mod reaching;
mod refusals;
mod selectors;
mod services;
mod speakers;
mod spreading;
mod steady;
mod table;

use anyhow::Result;

use super::Scenario;
use crate::cluster::Site;

pub use one_router::spread_over_all;

/// The scenarios, by theme.
pub const THEMES: [&[Scenario]; 17] = [
    one_router::SCENARIOS,
    services::SCENARIOS,
    peers::SCENARIOS,
    as_numbers::SCENARIOS,
    attributes::SCENARIOS,
    selectors::SCENARIOS,
    families::SCENARIOS,
    incoming::SCENARIOS,
    messages::SCENARIOS,
    refusals::SCENARIOS,
    failures::SCENARIOS,
    speakers::SCENARIOS,
    spreading::SCENARIOS,
    steady::SCENARIOS,
    reaching::SCENARIOS,
    links::SCENARIOS,
    outlasting::SCENARIOS,
];

/// A scenario of this group. `doc` begins with the rows of the reference that it shows.
const fn scenario(
    name: &'static str,
    doc: &'static str,
    run: fn(&Site) -> Result<String>,
) -> Scenario {
    Scenario {
        group: "bgp",
        name,
        doc,
        run,
    }
}
