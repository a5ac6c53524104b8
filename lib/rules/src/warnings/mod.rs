//! What is legal and probably wrong: one module per kind.
//!
//! Nothing here decides anything. A warning says what will happen and what to do if that is not meant, in 256 characters
//! with its field, since the API server cuts the rest.

pub(crate) mod advertisements;
mod annotations;
pub(crate) mod communities;
pub(crate) mod peers;
pub(crate) mod pools;
mod selectors;
pub(crate) mod services;

pub(crate) use annotations::warn as annotations;

use crate::names;
use crate::nodes::Node;
use crate::selector::{Selector, any_matches};
use crate::verdict::{Verdict, cut};

/// Whether nodes are known and none of them is selected.
fn selects_no_node(selectors: &[Selector], nodes: Option<&[Node]>) -> bool {
    nodes.is_some_and(|nodes| {
        !nodes.is_empty()
            && !nodes
                .iter()
                .any(|node| any_matches(selectors, &node.labels))
    })
}

/// The longest text that a warning repeats, so that its remedy is not cut off.
const QUOTED_AT_MOST: usize = 32;

/// What somebody wrote, in quotes and cut where it is long.
pub(crate) fn quoted(text: &str) -> String {
    format!("{:?}", cut(text.to_owned(), QUOTED_AT_MOST))
}

/// Warns of a name that no interface has.
fn interface(field: String, name: &str, so: &str, verdict: &mut Verdict) {
    if !names::is_interface(name) {
        verdict.warn(
            field,
            format!(
                "no interface can be called {}, {so}; a name has 1 to 15 bytes without '/', ':' and blanks, such as eth0",
                quoted(name)
            ),
        );
    }
}
