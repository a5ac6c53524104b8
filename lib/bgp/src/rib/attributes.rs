//! What an administrator says about a route.

use crate::wire::{Community, LargeCommunity};
use std::collections::BTreeSet;

/// The attributes of a route that do not follow from the session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Attributes {
    /// Sent to peers in our own AS only, 100 if not set (RFC 4271 section 5.1.5 has LOCAL_PREF always there; 100 is what
    /// routers take by default).
    pub local_pref: Option<u32>,
    /// Communities (RFC 1997).
    pub communities: BTreeSet<Community>,
    /// Large communities (RFC 8092).
    pub large_communities: BTreeSet<LargeCommunity>,
}
