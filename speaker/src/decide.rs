//! What this node announces, Service by Service, and what that makes in all. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use ferrolb_announcement::{
    Endpoints, Layer2Announcement, Layer2Round, Route, RouteAttributes, Tally, Terms, Withdrawn,
    bgp, route,
};
use ferrolb_api::ObjectKey;
use ferrolb_neighbor::{Before, OnConflict};
use ipnet::IpNet;

use crate::layer2::{Announcement, Wish};

use crate::project::Observed;

/// What is announced for one Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Its addresses.
    pub ingress: Arc<[IpAddr]>,
    /// How by layer 2, or why not.
    pub layer2: Result<Arc<Layer2Announcement>, Withdrawn>,
    /// Which routes by BGP, or why none.
    pub bgp: Result<Box<[Route]>, Withdrawn>,
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
    addresses: Tally<IpAddr, Arc<Layer2Announcement>>,
    /// The Services that some node has announced by layer 2, with their first address: who takes one over does not ask the
    /// segment for what that node has, or had until a moment ago.
    claimed: BTreeMap<ObjectKey, IpAddr>,
    prefixes: Tally<IpNet, Arc<Terms>>,
    /// The terms in use: thousands of Services mostly share a handful, and each is held once.
    terms: BTreeSet<Arc<Terms>>,
}

/// What may have changed in all since the protocols were told last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Addresses of layer 2, and what is known of the nodes that announced them or will.
    pub addresses: BTreeMap<IpAddr, Others>,
    /// Prefixes of BGP.
    pub prefixes: BTreeSet<IpNet>,
}

/// What other nodes have to do with an address that is touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// One of them announced it, or this one did before.
    pub did: bool,
    /// One of them does now.
    pub do_now: bool,
}

impl Decider {
    /// Decides about one Service; `None` where there is none any more. The changes are empty where nothing changes on
    /// the wire; what they mean for the whole is added to `touched`.
    pub fn decide(
        &mut self,
        key: &ObjectKey,
        observed: Option<&Observed>,
        endpoints: &Endpoints,
        round: &mut Layer2Round<'_>,
        touched: &mut Touched,
    ) -> Vec<Change> {
        let (mut owned, mut elsewhere) = (false, false);
        let now = observed.map(|observed| {
            let service = &observed.service;
            let decision = round.decide(service, endpoints);
            owned = decision.owner.is_some();
            elsewhere = owned && decision.here.is_err();
            Announced {
                ingress: Arc::clone(&service.ingress),
                layer2: decision.here,
                bgp: bgp(round.view(), service, endpoints).map(Vec::into_boxed_slice),
            }
        });
        let first = now.as_ref().and_then(|now| now.ingress.first()).copied();
        let claimed = self.claimed.get(key).copied();
        match first {
            Some(first) if owned => drop(self.claimed.insert(key.clone(), first)),
            Some(first) if claimed == Some(first) => {}
            _ => drop(self.claimed.remove(key)),
        }
        let left_to_others: Vec<IpAddr> = match &now {
            Some(now) if elsewhere => now.ingress.to_vec(),
            _ => Vec::new(),
        };
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
            self.say(now, claimed.is_some() && claimed == first, touched);
        }
        let before = match now {
            Some(now) => services.insert(key.clone(), now),
            None => services.remove(key),
        };
        if let Some(before) = before {
            self.take_back(before, &left_to_others, touched);
        }
        changes
    }

    /// What becomes of an address that was touched. One that Services share is announced where and how any of them is.
    /// `before` is who announced it where nothing is known of that.
    #[must_use]
    pub fn layer2(&self, address: &IpAddr, others: Others, before: Before) -> Wish {
        let said = self
            .addresses
            .of(address)
            .map(|announcement| announcement.as_ref().clone())
            .reduce(Layer2Announcement::union);
        match said {
            Some(announcement) => {
                let before = if others.did {
                    Before::TheCluster
                } else {
                    before
                };
                Wish::Announce(wire_terms(announcement), before)
            }
            None if others.do_now => Wish::HandOver,
            None => Wish::Withdraw,
        }
    }

    /// Lays everything out anew, in less room, after many Services have changed: half of a map is empty whose keys came in
    /// order, as they do at a start and when a node is lost.
    pub fn repack(&mut self) {
        let mut services = self
            .services
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *services = std::mem::take(&mut *services).into_iter().collect();
        drop(services);
        self.claimed = std::mem::take(&mut self.claimed).into_iter().collect();
        self.addresses.repack();
        self.prefixes.repack();
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

    fn say(&mut self, announced: &Announced, claimed: bool, touched: &mut Touched) {
        if let Ok(announcement) = &announced.layer2 {
            for address in announced.ingress.iter() {
                self.addresses.add(*address, Arc::clone(announcement));
                touched.addresses.entry(*address).or_default().did |= claimed;
            }
        }
        for route in announced.bgp.iter().flatten() {
            self.prefixes.add(route.prefix, Arc::clone(&route.terms));
            touched.prefixes.insert(route.prefix);
        }
    }

    fn take_back(
        &mut self,
        announced: Announced,
        left_to_others: &[IpAddr],
        touched: &mut Touched,
    ) {
        if let Ok(announcement) = &announced.layer2 {
            for address in announced.ingress.iter() {
                self.addresses.remove(address, announcement);
                touched.addresses.entry(*address).or_default().do_now |=
                    left_to_others.contains(address);
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

/// The same in the words of the wire.
fn wire_terms(announcement: Layer2Announcement) -> Announcement {
    Announcement {
        interfaces: announcement.interfaces,
        terms: ferrolb_neighbor::Terms {
            refresh: announcement.refresh,
            on_conflict: match announcement.on_conflict {
                ferrolb_rules::OnConflict::Warn => OnConflict::Warn,
                ferrolb_rules::OnConflict::Withhold => OnConflict::Withhold,
            },
        },
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
) -> (Option<&Layer2Announcement>, Option<&[Route]>) {
    match (announced, protocol) {
        (None, _) => (None, None),
        (Some(announced), Protocol::Layer2) => (announced.layer2.as_deref().ok(), None),
        (Some(announced), Protocol::Bgp) => (None, announced.bgp.as_deref().ok()),
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
#[path = "decide_tests.rs"]
mod tests;
