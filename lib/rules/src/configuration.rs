//! All objects together: what is in force, and what is set aside.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ferrolb_api::v1beta1::{
    BFDProfile, BGPAdvertisement, Community as CommunityObject, IPAddressPool,
};
use ferrolb_api::{v1beta1, v1beta2};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::advertisements::{self, Aliases, BgpAdvertisement, L2Advertisement};
use crate::communities::Community;
use crate::fields;
use crate::last_good::LastGood;
use crate::overlaps::Taken;
use crate::peers::{self, Peer};
use crate::pools::{self, Pool};
use crate::refusal::Refusal;

/// The objects that people wrote, all of our own namespace.
#[derive(Clone, Copy, Debug, Default)]
pub struct Objects<'a> {
    /// Every IPAddressPool.
    pub pools: &'a [&'a IPAddressPool],
    /// Every L2Advertisement.
    pub l2_advertisements: &'a [&'a v1beta1::L2Advertisement],
    /// Every BGPAdvertisement.
    pub bgp_advertisements: &'a [&'a BGPAdvertisement],
    /// Every BGPPeer.
    pub peers: &'a [&'a v1beta2::BGPPeer],
    /// Every BFDProfile.
    pub bfd_profiles: &'a [&'a BFDProfile],
    /// Every Community.
    pub communities: &'a [&'a CommunityObject],
}

/// What is in force. Whatever is in here has passed every rule.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Configuration {
    /// The pools by name.
    pub pools: BTreeMap<String, Pool>,
    /// The layer 2 advertisements by name.
    pub l2_advertisements: Vec<L2Advertisement>,
    /// The BGP advertisements by name.
    pub bgp_advertisements: Vec<BgpAdvertisement>,
    /// The peers by name.
    pub peers: BTreeMap<String, Peer>,
}

impl Configuration {
    /// Reads all objects. One that breaks a rule is set aside with its refusals and stops nothing else (MetalLB
    /// would not take over anything new at all, reference 2.6). Of two pools that overlap the older stays in force.
    #[must_use]
    pub fn from_objects(objects: &Objects<'_>) -> (Configuration, Vec<Refusal>) {
        LastGood::default().read(objects)
    }

    /// Reads all objects beside what was in force `before`. What is in force and unchanged comes first, so that a mistake in
    /// another object takes nothing from it; then the older object. Returns also which objects stay in force as they were.
    pub(crate) fn read(
        objects: &Objects<'_>,
        before: &LastGood,
    ) -> (Configuration, Vec<Refusal>, Vec<(&'static str, String)>) {
        let mut configuration = Configuration::default();
        let mut refusals = Vec::new();
        let mut kept = Vec::new();
        configuration.read_pools(objects.pools, before, &mut refusals, &mut kept);
        let (aliases, wrong) = aliases(objects.communities);
        refusals.extend(wrong);
        for object in objects.bfd_profiles {
            refusals.extend(check_bfd_profile(object));
        }
        for object in objects.l2_advertisements {
            const KIND: &str = "L2Advertisement";
            let former = || {
                let all = &before.configuration.l2_advertisements;
                named(all, &object.name_any(), |former| &former.name)
            };
            match advertisements::parse_l2(object) {
                Ok(advertisement) => configuration.l2_advertisements.push(advertisement),
                Err(wrong) => {
                    refusals.extend(wrong);
                    if let Some(former) = former().filter(|_| before.knows(KIND, *object)) {
                        configuration.l2_advertisements.push(former.clone());
                        kept.push((KIND, former.name.clone()));
                    }
                }
            }
        }
        configuration.read_bgp_advertisements(
            objects.bgp_advertisements,
            &aliases,
            before,
            &mut refusals,
            &mut kept,
        );
        for object in objects.peers {
            const KIND: &str = "BGPPeer";
            match peers::parse(object) {
                Ok(peer) => {
                    configuration.peers.insert(peer.name.clone(), peer);
                }
                Err(wrong) => {
                    refusals.extend(wrong);
                    let former = before.configuration.peers.get(&object.name_any());
                    if let Some(former) = former.filter(|_| before.knows(KIND, *object)) {
                        configuration
                            .peers
                            .insert(former.name.clone(), former.clone());
                        kept.push((KIND, former.name.clone()));
                    }
                }
            }
        }
        configuration
            .l2_advertisements
            .sort_by(|one, other| one.name.cmp(&other.name));
        configuration
            .bgp_advertisements
            .sort_by(|one, other| one.name.cmp(&other.name));
        (configuration, refusals, kept)
    }

    fn read_pools(
        &mut self,
        objects: &[&IPAddressPool],
        before: &LastGood,
        refusals: &mut Vec<Refusal>,
        kept: &mut Vec<(&'static str, String)>,
    ) {
        const KIND: &str = "IPAddressPool";
        let mut in_turn: Vec<_> = objects
            .iter()
            .map(|object| {
                let former = before.configuration.pools.get(&object.name_any());
                let former = former.filter(|_| before.knows(KIND, *object));
                (*object, pools::parse(object), former)
            })
            .collect();
        in_turn.sort_by_cached_key(|(object, parsed, former)| {
            // What stays as it was, what will have to, what changes, what is new.
            let rank = match (former, parsed) {
                (Some(former), Ok(pool)) if pool == *former => 0,
                (Some(_), Err(_)) => 1,
                (Some(_), Ok(_)) => 2,
                (None, _) => 3,
            };
            (rank, age(*object))
        });
        let mut taken = Taken::default();
        for (object, parsed, former) in in_turn {
            let conflicts = taken.conflicts(object);
            match parsed {
                Ok(pool) if conflicts.is_empty() => {
                    for (text, range) in object.spec.addresses.iter().zip(&pool.ranges) {
                        taken.insert(&pool.name, text, *range);
                    }
                    self.pools.insert(pool.name.clone(), pool);
                    continue;
                }
                Ok(_) => refusals.extend(conflicts),
                Err(wrong) => refusals.extend(wrong.into_iter().chain(conflicts)),
            }
            // Another may have taken its addresses while it was out of force.
            let free = |former: &&Pool| former.ranges.iter().all(|range| taken.is_free(*range));
            if let Some(former) = former.filter(free) {
                for range in &former.ranges {
                    taken.insert(&former.name, &range.to_string(), *range);
                }
                self.pools.insert(former.name.clone(), former.clone());
                kept.push((KIND, former.name.clone()));
            }
        }
    }

    fn read_bgp_advertisements(
        &mut self,
        objects: &[&BGPAdvertisement],
        aliases: &Aliases,
        before: &LastGood,
        refusals: &mut Vec<Refusal>,
        kept: &mut Vec<(&'static str, String)>,
    ) {
        const KIND: &str = "BGPAdvertisement";
        let mut in_turn = Vec::new();
        for object in objects {
            let all = &before.configuration.bgp_advertisements;
            let former = named(all, &object.name_any(), |former| &former.name);
            // Which pools do not fit is found out anew.
            let former = former
                .filter(|_| before.knows(KIND, *object))
                .map(|former| {
                    let mut former = former.clone();
                    former.pools.left_out.clear();
                    former
                });
            let (advertisement, unchanged) = match advertisements::parse_bgp(object, Some(aliases))
            {
                Ok(advertisement) => {
                    let unchanged = former.as_ref() == Some(&advertisement);
                    (advertisement, unchanged)
                }
                Err(wrong) => {
                    refusals.extend(wrong);
                    let Some(former) = former else { continue };
                    kept.push((KIND, former.name.clone()));
                    (former, true)
                }
            };
            in_turn.push(((!unchanged, age(*object)), advertisement));
        }
        in_turn.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (_, mut advertisement) in in_turn {
            // A pool that does not fit is left out; the advertisement goes on for the others.
            for pool in self.pools.values() {
                let refusal =
                    advertisements::check_aggregation(&advertisement, pool).or_else(|| {
                        let others = &self.bgp_advertisements;
                        advertisements::check_local_pref(&advertisement, others, pool)
                    });
                if let Some(refusal) = refusal {
                    refusals.push(refusal);
                    advertisement.pools.left_out.insert(pool.name.clone());
                }
            }
            self.bgp_advertisements.push(advertisement);
        }
    }

    /// The one pool that all of `addresses` are in.
    #[must_use]
    pub fn pool_of(&self, addresses: &[IpAddr]) -> Option<&Pool> {
        self.pools.values().find(|pool| {
            addresses
                .iter()
                .all(|address| pool.ranges.iter().any(|range| range.contains(*address)))
        })
    }

    /// The layer 2 advertisements that cover a pool.
    pub fn l2_advertisements_of<'a>(
        &'a self,
        pool: &'a Pool,
    ) -> impl Iterator<Item = &'a L2Advertisement> {
        self.l2_advertisements
            .iter()
            .filter(|advertisement| advertisement.pools.selects(pool))
    }

    /// The BGP advertisements that cover a pool.
    pub fn bgp_advertisements_of<'a>(
        &'a self,
        pool: &'a Pool,
    ) -> impl Iterator<Item = &'a BgpAdvertisement> {
        self.bgp_advertisements
            .iter()
            .filter(|advertisement| advertisement.pools.selects(pool))
    }
}

/// Older objects first; the name breaks a tie.
fn age(object: &impl ResourceExt) -> (Option<Timestamp>, String) {
    let created = object.creation_timestamp().map(|time| time.0);
    (created, object.name_any())
}

/// The entry of this name.
fn named<'a, T>(all: &'a [T], name: &str, of: impl Fn(&T) -> &str) -> Option<&'a T> {
    all.iter().find(|entry| of(entry) == name)
}

/// What is wrong with a BFDProfile.
#[must_use]
pub fn check_bfd_profile(candidate: &BFDProfile) -> Vec<Refusal> {
    fields::check("BFDProfile", &candidate.name_any(), &candidate.spec, &[])
}

/// What is wrong with a Community by itself or beside `others`.
pub fn check_community<'a>(
    candidate: &'a CommunityObject,
    others: impl IntoIterator<Item = &'a CommunityObject>,
) -> Vec<Refusal> {
    let others = others
        .into_iter()
        .filter(|other| other.metadata.name != candidate.metadata.name);
    let all: Vec<&CommunityObject> = others.chain([candidate]).collect();
    let name = candidate.name_any();
    // The candidate comes last, so an alias that stands twice is refused where it is added.
    aliases_in_order(&all)
        .1
        .into_iter()
        .filter(|refusal| refusal.name == name)
        .collect()
}

/// The aliases of all Community objects; one alias may be defined once only (reference 1.7).
fn aliases(objects: &[&CommunityObject]) -> (Aliases, Vec<Refusal>) {
    let mut oldest_first = objects.to_vec();
    oldest_first.sort_by_cached_key(|object| age(*object));
    aliases_in_order(&oldest_first)
}

fn aliases_in_order(objects: &[&CommunityObject]) -> (Aliases, Vec<Refusal>) {
    let mut aliases = Aliases::new();
    let mut refusals = Vec::new();
    for object in objects {
        for (index, alias) in object.spec.communities.iter().enumerate() {
            let field = format!("spec.communities[{index}]");
            let mut refuse = |reason: String| {
                refusals.push(Refusal::new(
                    "Community",
                    &object.name_any(),
                    &field,
                    reason,
                ))
            };
            match alias.value.parse::<Community>() {
                Err(error) => refuse(format!("parsing community {:?}: {error}", alias.name)),
                Ok(_) if aliases.contains_key(&alias.name) => {
                    refuse(format!(
                        "duplicate definition of community {:?}; give it another name",
                        alias.name
                    ));
                }
                Ok(community) => {
                    aliases.insert(alias.name.clone(), community);
                }
            }
        }
    }
    (aliases, refusals)
}
