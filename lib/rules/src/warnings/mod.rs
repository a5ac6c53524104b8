//! What is legal and probably wrong: one module per kind.
//!
//! Nothing here decides anything. A warning says what will happen and what to do if that is not meant, in 256 characters
//! with its field, since the API server cuts the rest.

pub(crate) mod advertisements;
mod annotations;
pub(crate) mod peers;
pub(crate) mod pools;

pub(crate) use annotations::warn as annotations;

use crate::nodes::Node;
use crate::selector::{Selector, any_matches};

/// `"a", "b" and 3 more`.
fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const AT_MOST: usize = 3;
    let names: Vec<String> = names.into_iter().map(|name| format!("{name:?}")).collect();
    let shown = names.get(..AT_MOST).unwrap_or(&names).join(", ");
    match names.len().saturating_sub(AT_MOST) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Whether nodes are known and none of them is selected.
fn selects_no_node(selectors: &[Selector], nodes: Option<&[Node]>) -> bool {
    nodes.is_some_and(|nodes| {
        !nodes.is_empty()
            && !nodes
                .iter()
                .any(|node| any_matches(selectors, &node.labels))
    })
}
