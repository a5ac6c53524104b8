//! What does each peer get, when several Services say something of one prefix?

use std::collections::{BTreeMap, BTreeSet};

use ferrolb_rules::Community;
use ipnet::IpNet;

use crate::bgp::Route;

/// What is said of a prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct RouteAttributes {
    /// LOCAL_PREF; reaches iBGP peers only.
    pub local_pref: u32,
    /// Communities, standard and large.
    pub communities: BTreeSet<Community>,
}

/// The prefixes of one peer: those meant for it, duplicates merged. Communities are united and the local preference
/// of the first is kept, as MetalLB does (reference 4.7, duplicate prefix); an aggregate stays while one Service in it does.
#[must_use]
pub fn routes<'a>(
    peer: &str,
    all: impl IntoIterator<Item = &'a Route>,
) -> BTreeMap<IpNet, RouteAttributes> {
    let mut merged: BTreeMap<IpNet, RouteAttributes> = BTreeMap::new();
    for route in all
        .into_iter()
        .filter(|route| route.peers.is_empty() || route.peers.contains(peer))
    {
        merged
            .entry(route.prefix)
            .and_modify(|attributes| attributes.communities.extend(&route.attributes.communities))
            .or_insert_with(|| route.attributes.clone());
    }
    merged
}
