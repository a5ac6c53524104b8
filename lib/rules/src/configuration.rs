//! All objects together: what is in force, and what is set aside.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ferrolb_api::v1beta1::{
    BFDProfile, BGPAdvertisement, Community as CommunityObject, IPAddressPool,
};
use ferrolb_api::{v1beta1, v1beta2};
use kube::ResourceExt;

use crate::advertisements::{self, Aliases, BgpAdvertisement, L2Advertisement};
use crate::communities::Community;
use crate::fields;
use crate::peers::{self, Peer};
use crate::pools::{self, Pool, Taken};
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
        let mut configuration = Configuration::default();
        let mut refusals = Vec::new();
        let mut oldest_first = objects.pools.to_vec();
        oldest_first.sort_by_key(|pool| {
            (
                pool.creation_timestamp().map(|time| time.0),
                pool.name_any(),
            )
        });
        let mut taken = Taken::default();
        for object in oldest_first {
            let conflicts = taken.conflicts(object);
            match pools::parse(object) {
                Ok(pool) if conflicts.is_empty() => {
                    for (text, range) in object.spec.addresses.iter().zip(&pool.ranges) {
                        taken.insert(&pool.name, text, *range);
                    }
                    configuration.pools.insert(pool.name.clone(), pool);
                }
                Ok(_) => refusals.extend(conflicts),
                Err(wrong) => refusals.extend(wrong.into_iter().chain(conflicts)),
            }
        }
        let (aliases, wrong) = aliases(objects.communities);
        refusals.extend(wrong);
        for object in objects.bfd_profiles {
            refusals.extend(check_bfd_profile(object));
        }
        for object in objects.l2_advertisements {
            match advertisements::parse_l2(object) {
                Ok(advertisement) => configuration.l2_advertisements.push(advertisement),
                Err(wrong) => refusals.extend(wrong),
            }
        }
        for object in objects.bgp_advertisements {
            match advertisements::parse_bgp(object, Some(&aliases)) {
                Ok(mut advertisement) => {
                    // A pool that does not fit is left out; the advertisement goes on for the others.
                    for pool in configuration.pools.values() {
                        if let Some(refusal) =
                            advertisements::check_aggregation(&advertisement, pool)
                        {
                            refusals.push(refusal);
                            advertisement.pools.left_out.insert(pool.name.clone());
                        }
                    }
                    configuration.bgp_advertisements.push(advertisement);
                }
                Err(wrong) => refusals.extend(wrong),
            }
        }
        for object in objects.peers {
            match peers::parse(object) {
                Ok(peer) => {
                    configuration.peers.insert(peer.name.clone(), peer);
                }
                Err(wrong) => refusals.extend(wrong),
            }
        }
        configuration
            .l2_advertisements
            .sort_by(|one, other| one.name.cmp(&other.name));
        configuration
            .bgp_advertisements
            .sort_by(|one, other| one.name.cmp(&other.name));
        (configuration, refusals)
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
    oldest_first.sort_by_key(|object| {
        (
            object.creation_timestamp().map(|time| time.0),
            object.name_any(),
        )
    });
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
