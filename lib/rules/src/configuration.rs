//! All objects together: what is in force, and what is set aside.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ferrolb_api::v1beta1::{
    BFDProfile, BGPAdvertisement, Community as CommunityObject, IPAddressPool,
};
use ferrolb_api::{v1beta1, v1beta2};
use kube::ResourceExt;

use crate::advertisements::{BgpAdvertisement, L2Advertisement};
use crate::communities::Alias;
use crate::fields;
use crate::last_good::LastGood;
use crate::peers::Peer;
use crate::pools::Pool;
use crate::reading;
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
    /// What aliases of communities stand for, and who says so.
    pub aliases: BTreeMap<String, Alias>,
}

impl Configuration {
    /// Reads all objects. One that breaks a rule is set aside with its refusals and stops nothing else (MetalLB
    /// would not take over anything new at all, reference 2.6). Of two pools that overlap the older stays in force.
    #[must_use]
    pub fn from_objects(objects: &Objects<'_>) -> (Configuration, Vec<Refusal>) {
        let read = reading::read(objects, &LastGood::default());
        (read.configuration, read.refusals)
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

    /// The layer 2 advertisement of this name.
    #[must_use]
    pub fn l2_advertisement(&self, name: &str) -> Option<&L2Advertisement> {
        let all = &self.l2_advertisements;
        let found = all.binary_search_by(|other| other.name.as_str().cmp(name));
        found.ok().and_then(|at| all.get(at))
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
pub(crate) fn check_bfd_profile(candidate: &BFDProfile) -> Vec<Refusal> {
    fields::check("BFDProfile", &candidate.name_any(), &candidate.spec, &[])
}
