//! Does this node answer ARP and NDP for a Service, and on which interfaces (reference 4.2, 4.3)?

use ferrolb_rules::{InterfaceNames, L2Advertisement, any_matches};

use crate::view::{Endpoints, Node, Service, TrafficPolicy, View, Withdrawn};
use crate::which_node_announces::first;

/// The interfaces to answer on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interfaces {
    /// Every one that can.
    All,
    /// Those that are named.
    Only(InterfaceNames),
}

impl Interfaces {
    /// Whether the interface of this name is among them.
    #[must_use]
    pub fn contain(&self, name: &str) -> bool {
        match self {
            Interfaces::All => true,
            Interfaces::Only(names) => names.contain(name),
        }
    }

    /// Whether some interface is among them that is not among `others`.
    #[must_use]
    pub fn reach_beyond(&self, others: &Interfaces) -> bool {
        match (self, others) {
            (_, Interfaces::All) => false,
            (Interfaces::All, Interfaces::Only(_)) => true,
            (Interfaces::Only(names), Interfaces::Only(others)) => !names.is_subset(others),
        }
    }

    /// The interfaces of both.
    #[must_use]
    pub fn union(self, other: Interfaces) -> Interfaces {
        match (self, other) {
            (Interfaces::Only(one), Interfaces::Only(other)) => Interfaces::Only(one.union(&other)),
            _ => Interfaces::All,
        }
    }
}

/// Whether this node announces the addresses of `service` by layer 2.
///
/// # Errors
/// Why it does not.
pub fn layer2(
    view: &View<'_>,
    service: &Service,
    endpoints: &Endpoints,
) -> Result<Interfaces, Withdrawn> {
    let pool = view.pool_of(service)?;
    let Some(address) = service.ingress.first() else {
        return Err(Withdrawn::NoIPAllocated);
    };
    if !endpoints.any {
        return Err(Withdrawn::NotOwner);
    }
    let advertisements: Vec<&L2Advertisement> = view
        .configuration
        .l2_advertisements_of(pool)
        .filter(|adv| any_matches(&adv.services, &service.labels))
        .collect();
    if service.shares_address && advertisements.iter().any(|adv| !adv.services.is_empty()) {
        return Err(Withdrawn::SharedIPWithServiceSelector);
    }
    let covers = |node: &Node| {
        advertisements
            .iter()
            .any(|adv| any_matches(&adv.nodes, &node.labels))
    };
    let mine = view.my_node().ok_or(Withdrawn::NotOwner)?;
    if !covers(mine) {
        return Err(Withdrawn::NoMatchingAdvertisement);
    }
    let candidates = view.nodes.iter().filter(|(name, node)| {
        view.members.is_none_or(|members| members.contains(*name))
            && view.is_available(node)
            && covers(node)
            && (service.traffic_policy == TrafficPolicy::Cluster || endpoints.nodes.contains(*name))
    });
    let scored = candidates.map(|(name, node)| (name.as_str(), preference(&advertisements, node)));
    if first(scored, *address) != Some(view.me) {
        return Err(Withdrawn::NotOwner);
    }
    let mut interfaces: Option<Interfaces> = None;
    for adv in advertisements
        .iter()
        .filter(|adv| any_matches(&adv.nodes, &mine.labels))
    {
        let these = if adv.interfaces.is_empty() {
            Interfaces::All
        } else {
            Interfaces::Only(adv.interfaces.clone())
        };
        interfaces = Some(match interfaces {
            Some(others) => others.union(these),
            None => these,
        });
    }
    interfaces.ok_or(Withdrawn::NoMatchingAdvertisement)
}

/// The summed weights of the preferences that match, each advertisement scoring only nodes that it selects.
fn preference(advertisements: &[&L2Advertisement], node: &Node) -> i64 {
    advertisements
        .iter()
        .filter(|adv| any_matches(&adv.nodes, &node.labels))
        .flat_map(|adv| &adv.preferred)
        .filter(|(_, selector)| selector.matches(&node.labels))
        .map(|(weight, _)| i64::from(*weight))
        .sum()
}
