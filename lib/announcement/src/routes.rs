//! What does a peer get of one prefix, when several Services say something of it?

use std::collections::BTreeSet;

use ferrolb_rules::Community;

use crate::bgp::Terms;

/// What is said of a prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct RouteAttributes {
    /// LOCAL_PREF; reaches iBGP peers only.
    pub local_pref: u32,
    /// Communities, standard and large.
    pub communities: BTreeSet<Community>,
}

/// The route that `peer` gets, from the different terms on which the prefix is advertised; `None` where none of them is
/// meant for it.
///
/// Communities are united, as MetalLB does. Where Services differ in the local preference, MetalLB keeps the one that it
/// meets first (reference 4.7, duplicate prefix); here it is the highest, so that every node says the same.
#[must_use]
pub fn route<'a>(
    peer: &str,
    terms: impl IntoIterator<Item = &'a Terms>,
) -> Option<RouteAttributes> {
    terms
        .into_iter()
        .filter(|terms| terms.peers.is_empty() || terms.peers.contains(peer))
        .map(|terms| &terms.attributes)
        .fold(None, |merged: Option<RouteAttributes>, attributes| {
            let Some(mut merged) = merged else {
                return Some(attributes.clone());
            };
            merged.local_pref = merged.local_pref.max(attributes.local_pref);
            merged.communities.extend(&attributes.communities);
            Some(merged)
        })
}
