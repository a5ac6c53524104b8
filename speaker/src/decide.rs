//! What this node announces, Service by Service, and what that makes in all. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use ferrolb_announcement::{
    Endpoints, Interfaces, Route, RouteAttributes, Tally, Terms, View, Withdrawn, bgp, layer2,
    route,
};
use ferrolb_api::ObjectKey;
use ipnet::IpNet;

use crate::project::Observed;

/// What is announced for one Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Its addresses.
    pub ingress: Vec<IpAddr>,
    /// On which interfaces by layer 2, or why not.
    pub layer2: Result<Interfaces, Withdrawn>,
    /// Which routes by BGP, or why none.
    pub bgp: Result<Vec<Route>, Withdrawn>,
}

/// A protocol, under MetalLB's names for metrics and events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// ARP and NDP.
    Layer2,
    /// BGP.
    Bgp,
}

impl Protocol {
    /// `layer2` or `bgp`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Layer2 => "layer2",
            Protocol::Bgp => "bgp",
        }
    }
}

/// How one Service's announcement changed. Without an address that begins or ends it is the how that changed: the
/// interfaces, or the routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The Service.
    pub service: ObjectKey,
    /// The protocol.
    pub protocol: Protocol,
    /// Addresses that are announced now and were not.
    pub begun: Vec<IpAddr>,
    /// Addresses that were announced and are not now.
    pub ended: Vec<IpAddr>,
}

/// What is announced for every Service; metrics read it when they are asked for.
pub type Announcements = Arc<RwLock<BTreeMap<ObjectKey, Announced>>>;

/// Decides, and holds what it decided.
#[derive(Default)]
pub struct Decider {
    services: Announcements,
    addresses: Tally<IpAddr, Interfaces>,
    prefixes: Tally<IpNet, Arc<Terms>>,
    /// The terms in use: thousands of Services mostly share a handful, and each is held once.
    terms: BTreeSet<Arc<Terms>>,
}

/// What may have changed in all since the protocols were told last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Addresses of layer 2.
    pub addresses: BTreeSet<IpAddr>,
    /// Prefixes of BGP.
    pub prefixes: BTreeSet<IpNet>,
}

impl Decider {
    /// Decides about one Service; `None` where there is none any more. The changes are empty where nothing changes on
    /// the wire; what they mean for the whole is added to `touched`.
    pub fn decide(
        &mut self,
        key: &ObjectKey,
        observed: Option<&Observed>,
        endpoints: &Endpoints,
        view: &View<'_>,
        touched: &mut Touched,
    ) -> Vec<Change> {
        let now = observed.map(|observed| Announced {
            ingress: observed.service.ingress.clone(),
            layer2: layer2(view, &observed.service, endpoints),
            bgp: bgp(view, &observed.service, endpoints),
        });
        // Most Services of a cluster are announced elsewhere or not yet: those take no room.
        let mut now = now.filter(|now| now.layer2.is_ok() || now.bgp.is_ok());
        let services = Arc::clone(&self.services);
        let mut services = services.write().unwrap_or_else(PoisonError::into_inner);
        let before = services.get(key);
        let changes = changes(key, before, now.as_ref());
        if changes.is_empty() {
            // Reasons for saying nothing may differ; nobody but the metrics looks, and they only ask whether it is said.
            return changes;
        }
        if let Some(now) = &mut now {
            self.share_terms(now);
            self.say(now, touched);
        }
        let before = match now {
            Some(now) => services.insert(key.clone(), now),
            None => services.remove(key),
        };
        if let Some(before) = before {
            self.take_back(before, touched);
        }
        changes
    }

    /// On which interfaces to answer ARP or NDP for an address; `None` if on none. An address that Services share is
    /// answered where any of them is.
    #[must_use]
    pub fn layer2(&self, address: &IpAddr) -> Option<Interfaces> {
        self.addresses
            .of(address)
            .cloned()
            .reduce(Interfaces::union)
    }

    /// What a peer gets of one prefix.
    #[must_use]
    pub fn route(&self, peer: &str, prefix: &IpNet) -> Option<RouteAttributes> {
        route(peer, self.prefixes.of(prefix).map(Arc::as_ref))
    }

    /// All that a peer gets.
    pub fn routes(&self, peer: &str) -> impl Iterator<Item = (IpNet, RouteAttributes)> {
        self.prefixes
            .keys()
            .filter_map(move |prefix| Some((*prefix, self.route(peer, prefix)?)))
    }

    /// The Services that something is announced for.
    #[must_use]
    pub fn services(&self) -> Vec<ObjectKey> {
        self.read().keys().cloned().collect()
    }

    /// What is announced, to be looked at from elsewhere.
    #[must_use]
    pub fn announcements(&self) -> Announcements {
        self.services.clone()
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<ObjectKey, Announced>> {
        // Nothing panics while it holds the lock, and the map would be whole even then.
        self.services.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn share_terms(&mut self, announced: &mut Announced) {
        for route in announced.bgp.iter_mut().flatten() {
            match self.terms.get(&route.terms) {
                Some(known) => route.terms = Arc::clone(known),
                None => {
                    self.terms.insert(Arc::clone(&route.terms));
                }
            }
        }
    }

    fn say(&mut self, announced: &Announced, touched: &mut Touched) {
        if let Ok(interfaces) = &announced.layer2 {
            for address in &announced.ingress {
                self.addresses.add(*address, interfaces.clone());
                touched.addresses.insert(*address);
            }
        }
        for route in announced.bgp.iter().flatten() {
            self.prefixes.add(route.prefix, Arc::clone(&route.terms));
            touched.prefixes.insert(route.prefix);
        }
    }

    fn take_back(&mut self, announced: Announced, touched: &mut Touched) {
        if let Ok(interfaces) = &announced.layer2 {
            for address in &announced.ingress {
                self.addresses.remove(address, interfaces);
                touched.addresses.insert(*address);
            }
        }
        for Route { prefix, terms } in announced.bgp.into_iter().flatten() {
            self.prefixes.remove(&prefix, &terms);
            touched.prefixes.insert(prefix);
            // One count is the set's and one is `terms`.
            if Arc::strong_count(&terms) <= 2 {
                self.terms.remove(&terms);
            }
        }
    }
}

/// How what is said of one Service changed, protocol by protocol.
fn changes(key: &ObjectKey, before: Option<&Announced>, now: Option<&Announced>) -> Vec<Change> {
    let mut changes = Vec::new();
    for protocol in [Protocol::Layer2, Protocol::Bgp] {
        let (old, new) = (addresses(before, protocol), addresses(now, protocol));
        if old != new || says(before, protocol) != says(now, protocol) {
            changes.push(Change {
                service: key.clone(),
                protocol,
                begun: new.difference(&old).copied().collect(),
                ended: old.difference(&new).copied().collect(),
            });
        }
    }
    changes
}

/// What is said on the wire, apart from reasons for saying nothing.
fn says(
    announced: Option<&Announced>,
    protocol: Protocol,
) -> (Option<&Interfaces>, Option<&Vec<Route>>) {
    match (announced, protocol) {
        (None, _) => (None, None),
        (Some(announced), Protocol::Layer2) => (announced.layer2.as_ref().ok(), None),
        (Some(announced), Protocol::Bgp) => (None, announced.bgp.as_ref().ok()),
    }
}

fn addresses(announced: Option<&Announced>, protocol: Protocol) -> BTreeSet<IpAddr> {
    let Some(announced) = announced else {
        return BTreeSet::new();
    };
    let does = match protocol {
        Protocol::Layer2 => announced.layer2.is_ok(),
        Protocol::Bgp => announced.bgp.is_ok(),
    };
    if does {
        announced.ingress.iter().copied().collect()
    } else {
        BTreeSet::new()
    }
}

#[cfg(test)]
mod tests {
    use ferrolb_announcement::{Node, Service, TrafficPolicy};
    use ferrolb_api::v1beta1::{
        BGPAdvertisement, IPAddressPool, IPAddressPoolSpec, L2Advertisement,
    };
    use ferrolb_rules::{Configuration, Objects};

    use super::*;

    fn observed(address: &str) -> Observed {
        Observed {
            service: Service {
                ingress: vec![address.parse().unwrap()],
                labels: Default::default(),
                traffic_policy: TrafficPolicy::Cluster,
                shares_address: true,
            },
            uid: "".into(),
            traceparent: None,
        }
    }

    #[test]
    fn a_change_of_routes_alone_is_a_change() {
        let pool = IPAddressPool::new(
            "p",
            IPAddressPoolSpec {
                addresses: vec!["10.0.0.0/24".into()],
                ..Default::default()
            },
        );
        let mut adv = BGPAdvertisement::default();
        let configured = |adv: &BGPAdvertisement| {
            let objects = Objects {
                pools: &[&pool],
                bgp_advertisements: &[adv],
                ..Objects::default()
            };
            Configuration::from_objects(&objects).0
        };
        let nodes = BTreeMap::from([("me".to_owned(), Node::default())]);
        let endpoints = Endpoints {
            any: true,
            nodes: BTreeSet::new(),
        };
        let (key, web) = (ObjectKey::new("shop", "web"), observed("10.0.0.1"));
        let mut decider = Decider::default();
        let mut decide = |configuration: &Configuration| {
            let view = View {
                me: "me",
                configuration,
                nodes: &nodes,
                members: None,
                ignore_exclude_label: false,
            };
            decider.decide(&key, Some(&web), &endpoints, &view, &mut Touched::default())
        };
        assert_eq!(decide(&configured(&adv)).len(), 1);
        assert!(decide(&configured(&adv)).is_empty());
        adv.spec.communities = vec!["64512:1".into()];
        let changes = decide(&configured(&adv));
        assert_eq!(changes.len(), 1);
        assert!(changes[0].begun.is_empty() && changes[0].ended.is_empty());
    }

    #[test]
    fn a_shared_address_is_announced_until_its_last_service_is_gone() {
        let pool = IPAddressPool::new(
            "p",
            IPAddressPoolSpec {
                addresses: vec!["10.0.0.0/24".into()],
                ..Default::default()
            },
        );
        let (l2, adv) = (L2Advertisement::default(), BGPAdvertisement::default());
        let (configuration, refusals) = Configuration::from_objects(&Objects {
            pools: &[&pool],
            l2_advertisements: &[&l2],
            bgp_advertisements: &[&adv],
            ..Objects::default()
        });
        assert!(refusals.is_empty(), "{refusals:?}");
        let nodes = BTreeMap::from([("me".to_owned(), Node::default())]);
        let view = View {
            me: "me",
            configuration: &configuration,
            nodes: &nodes,
            members: None,
            ignore_exclude_label: false,
        };
        let endpoints = Endpoints {
            any: true,
            nodes: BTreeSet::new(),
        };
        let mut decider = Decider::default();
        let (key_a, key_b) = (ObjectKey::new("shop", "a"), ObjectKey::new("shop", "b"));
        let (a, b) = (observed("10.0.0.1"), observed("10.0.0.1"));
        let (address, prefix) = (a.service.ingress[0], "10.0.0.1/32".parse().unwrap());
        let mut touched = Touched::default();
        let changes = decider.decide(&key_a, Some(&a), &endpoints, &view, &mut touched);
        assert_eq!(changes.len(), 2, "one for each protocol");
        assert_eq!(
            touched,
            Touched {
                addresses: [address].into(),
                prefixes: [prefix].into()
            }
        );
        let mut untouched = Touched::default();
        assert!(
            decider
                .decide(&key_a, Some(&a), &endpoints, &view, &mut untouched)
                .is_empty()
        );
        assert_eq!(untouched, Touched::default());
        decider.decide(&key_b, Some(&b), &endpoints, &view, &mut touched);
        decider.decide(&key_a, None, &endpoints, &view, &mut touched);
        assert_eq!(decider.layer2(&address), Some(Interfaces::All));
        assert!(decider.route("any", &prefix).is_some());
        let ended = decider.decide(&key_b, Some(&b), &Endpoints::default(), &view, &mut touched);
        assert_eq!(ended[0].ended, b.service.ingress);
        assert_eq!(decider.layer2(&address), None);
        assert_eq!(decider.routes("any").count(), 0);
        assert_eq!(decider.services().len(), 0);
        assert!(decider.terms.is_empty());
    }
}
