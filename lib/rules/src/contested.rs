//! Of which objects depends what is said of another, while not all of their kind are in force as they are written?
//!
//! Those that are come first at a reading and stand in nobody's way among themselves. So an object depends on those of them that it
//! contradicts, and on all that are not in force as they are written: what it changes may bring one of these in, or keep it
//! out. For one of these it is enough to know a single object that keeps it out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ferrolb_api::v1beta1::{Community, IPAddressPool};
use ferrolb_api::v1beta2::BGPPeer;
use kube::ResourceExt;

use crate::addresses::AddressRange;
use crate::configuration::Configuration;
use crate::peers::{self, Peer};
use crate::pools;
use crate::reading::place;
use crate::routers::Routers;
use crate::taken::Taken;

/// Pools, prepared for the question on which of them another depends.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContestedPools {
    /// The addresses of those in force as they are written.
    settled: Taken,
    contested: Contested<IPAddressPool>,
}

/// Peers, prepared for the same question.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContestedPeers {
    /// The routers of those in force as they are written, in the order in which they are read.
    settled: Routers,
    contested: Contested<BGPPeer>,
}

/// Communities by the aliases that they define. Each alias is judged by itself, so an object depends on those that define one of
/// its own, whatever is in force.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContestedAliases(BTreeMap<String, Vec<Arc<Community>>>);

#[derive(Clone, Debug)]
struct Contested<K> {
    /// In force as they are written, by name.
    settled: BTreeMap<String, Arc<K>>,
    /// Those that are not, and what keeps them out: whatever is asked about depends on them.
    always: BTreeMap<String, Arc<K>>,
}

// Derived, it would ask for a default of `K`.
impl<K> Default for Contested<K> {
    fn default() -> Self {
        Contested {
            settled: BTreeMap::new(),
            always: BTreeMap::new(),
        }
    }
}

impl<K: ResourceExt> Contested<K> {
    /// `against` names settled objects that an object contradicts, but for one name.
    fn new(
        settled: &[&Arc<K>],
        unsettled: &[&Arc<K>],
        against: impl Fn(&K, &str) -> BTreeSet<String>,
    ) -> Self {
        let by_name = |object: &&Arc<K>| (object.name_any(), Arc::clone(object));
        let settled: BTreeMap<_, _> = settled.iter().map(by_name).collect();
        let mut always: BTreeMap<_, _> = unsettled.iter().map(by_name).collect();
        for object in unsettled {
            // Of two, one is left when the other is what is asked about.
            let first = against(object, &object.name_any()).pop_first();
            let second = first
                .as_ref()
                .and_then(|first| against(object, first).pop_first());
            let keep_it_out = [first, second].into_iter().flatten();
            always.extend(keep_it_out.filter_map(|name| entry(&settled, name)));
        }
        Contested { settled, always }
    }

    /// What has to be read beside `object`, which is `against` these.
    fn beside(&self, object: &K, against: impl IntoIterator<Item = String>) -> Vec<Arc<K>> {
        let against = against.into_iter();
        let mut all = self.always.clone();
        all.extend(against.filter_map(|name| entry(&self.settled, name)));
        all.remove(&object.name_any());
        all.into_values().collect()
    }
}

fn entry<K>(all: &BTreeMap<String, Arc<K>>, name: String) -> Option<(String, Arc<K>)> {
    let object = Arc::clone(all.get(&name)?);
    Some((name, object))
}

impl ContestedPools {
    pub(crate) fn new(objects: &[Arc<IPAddressPool>], now: &Configuration) -> Self {
        let as_written = |object: &&Arc<IPAddressPool>| {
            pools::parse(object).is_ok_and(|pool| now.pools.get(&pool.name) == Some(&pool))
        };
        let (in_force, others): (Vec<_>, Vec<_>) = objects.iter().partition(as_written);
        let mut settled = Taken::default();
        for object in &in_force {
            for (text, range) in entries(object) {
                settled.insert(&object.name_any(), text, range);
            }
        }
        let contested = Contested::new(&in_force, &others, |object, but| {
            against_pools(&settled, object, but)
        });
        ContestedPools { settled, contested }
    }

    /// The pools on which it depends what is said of `object`.
    pub(crate) fn beside(&self, object: &IPAddressPool) -> Vec<Arc<IPAddressPool>> {
        let against = against_pools(&self.settled, object, &object.name_any());
        self.contested.beside(object, against)
    }
}

fn entries(object: &IPAddressPool) -> impl Iterator<Item = (&str, AddressRange)> {
    let texts = object.spec.addresses.iter();
    texts.filter_map(|text| Some((text.as_str(), text.parse().ok()?)))
}

/// Of each entry the pool that its refusal would name.
fn against_pools(settled: &Taken, object: &IPAddressPool, but: &str) -> BTreeSet<String> {
    entries(object)
        .filter_map(|(_, range)| settled.overlapping(range, Some(but)))
        .map(|(pool, _)| pool.to_owned())
        .collect()
}

impl ContestedPeers {
    pub(crate) fn new(objects: &[Arc<BGPPeer>], now: &Configuration) -> Self {
        let as_written =
            |peer: &Peer| -> bool { now.peers.get(&peer.name).is_some_and(|now| now == peer) };
        let (mut in_force, mut others) = (Vec::new(), Vec::new());
        for object in objects {
            match peers::parse(object) {
                Ok(peer) if as_written(&peer) => in_force.push((object, peer)),
                _ => others.push(object),
            }
        }
        in_force.sort_by_cached_key(|(object, peer)| {
            place(&***object, &Ok::<_, ()>(peer), Some(&peer), |_, _| true)
        });
        let mut settled = Routers::default();
        in_force.iter().for_each(|(_, peer)| settled.insert(peer));
        let in_force: Vec<_> = in_force.into_iter().map(|(object, _)| object).collect();
        let contested = Contested::new(&in_force, &others, |object, but| {
            let peer = peers::parse(object).ok();
            let keeper = peer.and_then(|peer| settled.keeper(&peer, but).map(str::to_owned));
            keeper.into_iter().collect()
        });
        ContestedPeers { settled, contested }
    }

    /// The peers on which it depends what is said of `object`, which says `peer`.
    pub(crate) fn beside(&self, object: &BGPPeer, peer: &Peer) -> Vec<Arc<BGPPeer>> {
        let keeper = self.settled.keeper(peer, &peer.name);
        self.contested.beside(object, keeper.map(str::to_owned))
    }
}

impl ContestedAliases {
    pub(crate) fn new(objects: &[Arc<Community>]) -> Self {
        let mut by_alias: BTreeMap<String, Vec<Arc<Community>>> = BTreeMap::new();
        for object in objects {
            for alias in &object.spec.communities {
                let definers = by_alias.entry(alias.name.clone()).or_default();
                definers.push(Arc::clone(object));
            }
        }
        ContestedAliases(by_alias)
    }

    /// The Communities on which it depends what is said of `object`.
    pub(crate) fn beside(&self, object: &Community) -> Vec<Arc<Community>> {
        let aliases = object.spec.communities.iter();
        let definers = aliases
            .filter_map(|alias| self.0.get(&alias.name))
            .flatten();
        let mut all: BTreeMap<String, Arc<Community>> = definers
            .map(|definer| (definer.name_any(), Arc::clone(definer)))
            .collect();
        all.remove(&object.name_any());
        all.into_values().collect()
    }
}
