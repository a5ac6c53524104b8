//! Which node answers ARP and NDP for a Service, and how does this one if it is it (reference 4.2, 4.3)?

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ferrolb_rules::{InterfaceNames, L2Advertisement, OnConflict, any_matches};

use crate::ranks::Ranks;
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

/// How a node announces an address by layer 2.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Layer2Announcement {
    /// On which interfaces.
    pub interfaces: Interfaces,
    /// How often it is announced again unasked; `None` is never.
    pub refresh: Option<Duration>,
    /// What is done if another host has the address.
    pub on_conflict: OnConflict,
}

impl Layer2Announcement {
    /// What both say: the interfaces of either, the shorter interval, and the more careful way with conflicts.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Layer2Announcement {
            interfaces: self.interfaces.union(other.interfaces),
            refresh: self.refresh.into_iter().chain(other.refresh).min(),
            on_conflict: self.on_conflict.max(other.on_conflict),
        }
    }
}

/// Who announces a Service by layer 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer2Decision<'a> {
    /// The node that does, if one can.
    pub owner: Option<&'a str>,
    /// How this node does, or why it does not.
    pub here: Result<Arc<Layer2Announcement>, Withdrawn>,
}

/// Decides about Services one after the other while everything else stays the same. What depends on the advertisements
/// alone, and not on the Service, is worked out once for all Services that have the same.
pub struct Layer2Round<'a> {
    view: View<'a>,
    ranks: &'a mut Ranks,
    names: Vec<&'a str>,
    nodes: Vec<&'a Node>,
    /// By the places of the advertisements in the configuration.
    candidates: BTreeMap<Vec<usize>, Arc<Candidates>>,
}

/// What a set of advertisements makes of the nodes.
struct Candidates {
    /// The preference of each node that may announce; `None` for one that may not.
    scores: Vec<Option<i64>>,
    best: Option<i64>,
    here: Result<Arc<Layer2Announcement>, Withdrawn>,
}

impl<'a> Layer2Round<'a> {
    /// `ranks` is what earlier rounds found out; it may be empty.
    #[must_use]
    pub fn new(view: View<'a>, ranks: &'a mut Ranks) -> Self {
        let (names, nodes): (Vec<_>, Vec<_>) = view
            .nodes
            .iter()
            .map(|(name, node)| (name.as_str(), node))
            .unzip();
        ranks.set_nodes(&names);
        Layer2Round {
            view,
            ranks,
            names,
            nodes,
            candidates: BTreeMap::new(),
        }
    }

    /// What the round decides on.
    #[must_use]
    pub fn view(&self) -> &View<'a> {
        &self.view
    }

    /// Which node announces the addresses of `service`.
    pub fn decide(&mut self, service: &Service, endpoints: &Endpoints) -> Layer2Decision<'a> {
        let nobody = |reason| Layer2Decision {
            owner: None,
            here: Err(reason),
        };
        let candidates = match self.candidates_for(service, endpoints) {
            Ok(candidates) => candidates,
            Err(reason) => return nobody(reason),
        };
        let Some(address) = service.ingress.first() else {
            return nobody(Withdrawn::NoIPAllocated);
        };
        let owner = match service.traffic_policy {
            TrafficPolicy::Cluster => self.first_of_all(*address, &candidates),
            TrafficPolicy::Local => self.first_of(
                endpoints
                    .nodes
                    .iter()
                    .filter_map(|name| self.names.binary_search(&name.as_str()).ok()),
                *address,
                &candidates,
            ),
        };
        let here = match &candidates.here {
            Ok(_) if owner != Some(self.view.me) => Err(Withdrawn::NotOwner),
            other => other.clone(),
        };
        Layer2Decision { owner, here }
    }

    fn candidates_for(
        &mut self,
        service: &Service,
        endpoints: &Endpoints,
    ) -> Result<Arc<Candidates>, Withdrawn> {
        let configuration = self.view.configuration;
        let pool = self.view.pool_of(service)?;
        if !endpoints.any {
            return Err(Withdrawn::NotOwner);
        }
        let advertisements = &configuration.l2_advertisements;
        let mut places = Vec::new();
        for (place, adv) in advertisements.iter().enumerate() {
            if adv.pools.selects(pool) && any_matches(&adv.services, &service.labels) {
                places.push(place);
                if service.shares_address && !adv.services.is_empty() {
                    return Err(Withdrawn::SharedIPWithServiceSelector);
                }
            }
        }
        if let Some(known) = self.candidates.get(places.as_slice()) {
            return Ok(Arc::clone(known));
        }
        let these: Vec<&L2Advertisement> = places
            .iter()
            .filter_map(|place| advertisements.get(*place))
            .collect();
        let candidates = Arc::new(self.candidates_of(&these));
        self.candidates.insert(places, Arc::clone(&candidates));
        Ok(candidates)
    }

    fn candidates_of(&self, advertisements: &[&L2Advertisement]) -> Candidates {
        let view = &self.view;
        let scores: Vec<Option<i64>> = self
            .names
            .iter()
            .zip(&self.nodes)
            .map(|(name, node)| {
                let alive = view.members.is_none_or(|members| members.contains(*name));
                if alive && view.is_available(node) {
                    preference(advertisements, node)
                } else {
                    None
                }
            })
            .collect();
        Candidates {
            best: scores.iter().flatten().max().copied(),
            scores,
            here: self.announcement(advertisements).map(Arc::new),
        }
    }

    /// How this node announces what these advertisements cover, if it is the one.
    fn announcement(
        &self,
        advertisements: &[&L2Advertisement],
    ) -> Result<Layer2Announcement, Withdrawn> {
        let mine = self.view.my_node().ok_or(Withdrawn::NotOwner)?;
        advertisements
            .iter()
            .filter(|adv| any_matches(&adv.nodes, &mine.labels))
            .map(|adv| Layer2Announcement {
                interfaces: if adv.interfaces.is_empty() {
                    Interfaces::All
                } else {
                    Interfaces::Only(adv.interfaces.clone())
                },
                refresh: adv.refresh,
                on_conflict: adv.on_conflict,
            })
            .reduce(Layer2Announcement::union)
            .ok_or(Withdrawn::NoMatchingAdvertisement)
    }

    fn first_of_all(&mut self, address: IpAddr, candidates: &Candidates) -> Option<&'a str> {
        let best = candidates.best?;
        let stands = |place: &usize| candidates.scores.get(*place) == Some(&Some(best));
        let ranked = self.ranks.of(address, &self.names);
        if let Some(place) = ranked.into_iter().map(usize::from).find(stands) {
            return self.names.get(place).copied();
        }
        self.first_of(0..self.names.len(), address, candidates)
    }

    /// The first of some nodes, given by their places.
    fn first_of(
        &self,
        places: impl Iterator<Item = usize>,
        address: IpAddr,
        candidates: &Candidates,
    ) -> Option<&'a str> {
        let scored: Vec<(usize, i64)> = places
            .filter_map(|place| Some((place, (*candidates.scores.get(place)?)?)))
            .collect();
        // Only those of the best preference are worth a hash.
        let best = scored.iter().map(|(_, score)| *score).max()?;
        let names = scored
            .into_iter()
            .filter(|(_, score)| *score == best)
            .filter_map(|(place, score)| Some((*self.names.get(place)?, score)));
        first(names, address)
    }
}

/// The summed weights of the preferences that match, each advertisement scoring only nodes that it selects; `None` if none
/// selects the node.
fn preference(advertisements: &[&L2Advertisement], node: &Node) -> Option<i64> {
    let selecting = advertisements
        .iter()
        .filter(|adv| any_matches(&adv.nodes, &node.labels));
    selecting
        .map(|adv| {
            let matching = adv
                .preferred
                .iter()
                .filter(|(_, selector)| selector.matches(&node.labels));
            matching.map(|(weight, _)| i64::from(*weight)).sum::<i64>()
        })
        .reduce(|one, other| one + other)
}
