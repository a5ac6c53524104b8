//! Which routes does this node advertise for a Service (reference 4.6)?

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ferrolb_rules::{BgpAdvertisement, any_matches};
use ipnet::IpNet;

use crate::routes::RouteAttributes;
use crate::view::{Endpoints, Service, TrafficPolicy, View, Withdrawn};

/// A prefix with the terms on which it is advertised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// What is advertised.
    pub prefix: IpNet,
    /// How and to whom.
    pub terms: Arc<Terms>,
}

/// How and to whom something is advertised: what an advertisement says of every route that it makes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Terms {
    /// The attributes of the route.
    pub attributes: RouteAttributes,
    /// The names of the peers that get it; empty means all.
    pub peers: BTreeSet<String>,
}

/// The routes that this node advertises for `service`.
///
/// # Errors
/// Why it advertises none.
pub fn bgp(
    view: &View<'_>,
    service: &Service,
    endpoints: &Endpoints,
) -> Result<Vec<Route>, Withdrawn> {
    let pool = view.pool_of(service)?;
    let node = view.my_node().ok_or(Withdrawn::NotOwner)?;
    let here: Vec<&BgpAdvertisement> = view
        .configuration
        .bgp_advertisements_of(pool)
        .filter(|adv| any_matches(&adv.nodes, &node.labels))
        .collect();
    if here.is_empty() {
        return Err(Withdrawn::NotOwner);
    }
    let matching: Vec<&BgpAdvertisement> = here
        .into_iter()
        .filter(|adv| any_matches(&adv.services, &service.labels))
        .collect();
    if matching.is_empty() {
        return Err(Withdrawn::NoMatchingAdvertisement);
    }
    if conflict(&matching, &service.ingress) {
        return Err(Withdrawn::ConflictingAdvertisements);
    }
    if node.network_unavailable {
        return Err(Withdrawn::NodeNetworkUnavailable);
    }
    if node.excluded && !view.ignore_exclude_label {
        return Err(Withdrawn::NodeLabeledExcludeBalancers);
    }
    match service.traffic_policy {
        TrafficPolicy::Local if !endpoints.nodes.contains(view.me) => {
            return Err(Withdrawn::NoLocalEndpoints);
        }
        TrafficPolicy::Cluster if !endpoints.any => return Err(Withdrawn::NoEndpoints),
        _ => {}
    }
    let mut routes = Vec::with_capacity(matching.len() * service.ingress.len());
    for adv in &matching {
        let terms = Arc::new(Terms {
            attributes: RouteAttributes {
                local_pref: adv.local_pref,
                communities: adv.communities.clone(),
            },
            peers: adv.peers.clone(),
        });
        for address in service.ingress.iter() {
            let Ok(prefix) = IpNet::new(*address, length_for(adv, *address)) else {
                continue;
            };
            routes.push(Route {
                prefix: prefix.trunc(),
                terms: Arc::clone(&terms),
            });
        }
    }
    Ok(routes)
}

fn length_for(adv: &BgpAdvertisement, address: IpAddr) -> u8 {
    if address.is_ipv4() {
        adv.aggregation_length
    } else {
        adv.aggregation_length_v6
    }
}

/// Whether two advertisements give one prefix different local preferences to one peer (reference 2.3).
fn conflict(advertisements: &[&BgpAdvertisement], addresses: &[IpAddr]) -> bool {
    let apart = |one: &BgpAdvertisement, other: &BgpAdvertisement| {
        !one.peers.is_empty() && !other.peers.is_empty() && one.peers.is_disjoint(&other.peers)
    };
    advertisements.iter().enumerate().any(|(index, one)| {
        advertisements.iter().skip(index + 1).any(|other| {
            one.local_pref != other.local_pref
                && !apart(one, other)
                && addresses
                    .iter()
                    .any(|address| length_for(one, *address) == length_for(other, *address))
        })
    })
}
