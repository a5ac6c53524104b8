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

/// Whether nodes are known and none of them is selected.
fn selects_no_node(selectors: &[Selector], nodes: Option<&[Node]>) -> bool {
    nodes.is_some_and(|nodes| {
        !nodes.is_empty()
            && !nodes
                .iter()
                .any(|node| any_matches(selectors, &node.labels))
    })
}
