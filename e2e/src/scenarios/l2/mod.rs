//! Layer 2 in full: each row of the acceptance list (reference 6.2), the packets, conflicts, moves and faults, seen from
//! the client's side of the segment by arping, hand-made frames and captures.
//!
//! | Row | Scenario |
//! |---|---|
//! | L1 | `apply-to-arp-answer`, `apply-to-ndp-answer` |
//! | L2 | `status-follows-the-announcer` |
//! | L3 | `local-traffic-policy` |
//! | L4 | `mixed-protocols` |
//! | L5 | `network-unavailable` |
//! | L6 | `excluded-by-label` |
//! | L7 | `addresses-of-ranges-and-prefixes` |
//! | L8 | `shared-addresses` |
//! | L9 | `metrics` |
//! | L10 | `a-pool-that-is-asked-for` |
//! | L11 | `one-selected-node` |
//! | L12 | `several-selected-nodes` |
//! | L13 | `node-labelled-later` |
//! | L14 | `status-names-the-interfaces` |
//! | L15, L16 | `selected-interface` |
//! | L17 | `interface-that-is-not-there` |
//! | L18 | `interfaces-of-two-advertisements` |
//! | L19 | `interface-and-node-selected` |
//! | L20 | `class-of-another` |
//! | L21 | `preferred-node` |
//! | L22 | `preference-for-no-node` |
//! | L23 | `preferred-node-excluded` |
//! | L24 | `preference-edited` |
//! | L25 | `preference-among-selected-nodes` |
//! | L26 | `preference-for-a-node-that-is-not-selected` |
//! | L27 | `weights-are-summed` |
//! | L28 | `preference-for-some-services` |
//! | L29 | `service-selector-and-pool` |
//! | L30 | `two-advertisements-one-announcer` |
//! | L31 | `no-advertisement-for-service-and-node` |
//! | L32 | `several-service-selectors` |
//! | L33 | `speaker-deleted` |
//!
//! Packets (reference 4.4): `gratuitous` what is told unasked, `packets` what is answered, `groups` what is asked for. `conflicts`: foreign hosts
//! (RFC 5227). `moves`: planned ones. `faults`: the others. `restarts`:
//! speakers that are killed and come back.

mod answering;
mod bare;
mod conflicts;
pub mod faults;
mod gratuitous;
mod groups;
pub mod handles;
mod interfaces;
mod last;
mod moves;
mod nodes;
mod packets;
mod pools;
mod preferences;
mod restarts;
mod status;
pub mod watched;

use anyhow::Result;

use super::Scenario;
use crate::cluster::Site;

pub use faults::lose_announcer;
pub use handles::{announced, announcer};

/// The scenarios, by theme.
pub const THEMES: [&[Scenario]; 14] = [
    answering::SCENARIOS,
    pools::SCENARIOS,
    nodes::SCENARIOS,
    preferences::SCENARIOS,
    interfaces::SCENARIOS,
    status::SCENARIOS,
    gratuitous::SCENARIOS,
    packets::SCENARIOS,
    groups::SCENARIOS,
    conflicts::SCENARIOS,
    moves::SCENARIOS,
    faults::SCENARIOS,
    last::SCENARIOS,
    restarts::SCENARIOS,
];

/// A scenario of this group. `doc` begins with the rows of the reference that it shows.
const fn scenario(
    name: &'static str,
    doc: &'static str,
    run: fn(&Site) -> Result<String>,
) -> Scenario {
    Scenario {
        group: "l2",
        name,
        doc,
        run,
    }
}
