//! What is in force, prepared so that an object can be judged beside it without a look at every other object.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ferrolb_api::v1beta1::{
    BFDProfile, BGPAdvertisement, Community, IPAddressPool, L2Advertisement,
};
use ferrolb_api::v1beta2::BGPPeer;
use kube::ResourceExt;

use crate::advertisements::{self, BgpAdvertisement};
use crate::all_objects::AllObjects;
use crate::configuration::{Configuration, Objects, check_bfd_profile};
use crate::contested::{ContestedAliases, ContestedPeers, ContestedPools};
use crate::last_good::LastGood;
use crate::nodes::Node;
use crate::peers;
use crate::pools;
use crate::reading::{self, Place, Read};
use crate::references::{Names, References};
use crate::refusal::Refusal;
use crate::routers::Routers;
use crate::taken::Taken;
use crate::verdict::Verdict;
use crate::warnings;

/// What an object is judged beside.
///
/// The verdict is what [`LastGood::read`] will say of the object once it is stored as the last change. Only what its
/// fields name and what may still come (a BFDProfile, a pool, an alias) is warned of and not refused, so that the order in
/// which objects are applied does not matter (reference 2.2).
///
/// `Known::default()` knows nothing: an object is judged by itself.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// What exists.
    names: Names,
    /// What is in force.
    last_good: LastGood,
    /// Kinds of which an object is not in force as it is written. Of the others the next three are empty.
    unclean: BTreeSet<&'static str>,
    contested_pools: ContestedPools,
    contested_peers: ContestedPeers,
    /// The form in which each BGPAdvertisement was in force, and its place at the next reading.
    contested_advertisements: Vec<(Place, BgpAdvertisement)>,
    contested_aliases: ContestedAliases,
    pub(crate) taken: Taken,
    pub(crate) routers: Routers,
    /// Addresses of pools that are not in force.
    pub(crate) set_aside: Taken,
    /// Who uses which BFDProfile.
    bfd_profile_users: BTreeMap<String, String>,
    /// The nodes; `None` where they are not known, so that nothing is said of them.
    pub(crate) nodes: Option<Vec<Node>>,
    /// Whether anything at all is known, so that something can be missing.
    pub(crate) something: bool,
}

impl Known {
    /// Prepares what is in force of `objects` beside what was `before`.
    pub fn new(objects: AllObjects, before: &mut LastGood, nodes: Option<Vec<Node>>) -> Self {
        let Read {
            configuration,
            refusals,
            taken,
            routers,
            ..
        } = before.read_all(&objects);
        let mut set_aside = Taken::default();
        for object in &objects.pools {
            let name = object.name_any();
            if configuration.pools.contains_key(&name) {
                continue;
            }
            for text in &object.spec.addresses {
                if let Ok(range) = text.parse() {
                    set_aside.insert(&name, text, range);
                }
            }
        }
        let bfd_profile_users = objects
            .peers
            .iter()
            .filter_map(|peer| {
                let profile = ferrolb_api::given(&peer.spec.bfd_profile)?;
                Some((profile.to_owned(), peer.name_any()))
            })
            .collect();
        let unclean: BTreeSet<_> = refusals.iter().map(|refusal| refusal.kind).collect();
        let mut known = Known {
            last_good: before.clone(),
            contested_aliases: ContestedAliases::new(&objects.communities),
            taken,
            routers,
            set_aside,
            bfd_profile_users,
            nodes,
            something: true,
            ..Known::default()
        };
        if unclean.contains(pools::KIND) {
            known.contested_pools = ContestedPools::new(&objects.pools, &configuration);
        }
        if unclean.contains(peers::KIND) {
            known.contested_peers = ContestedPeers::new(&objects.peers, &configuration);
        }
        if unclean.contains("BGPAdvertisement") {
            known.contested_advertisements = in_turn(&objects.bgp_advertisements, &known.last_good);
        }
        known.unclean = unclean;
        known.names = Names::of(&objects);
        known
    }

    /// What is in force.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        self.last_good.configuration()
    }

    /// Adds an object that exists, too, and cannot be in force, so that nobody is asked to create it.
    pub fn exists_too(&mut self, kind: &str, name: &str) {
        self.names.add(kind, name);
    }

    /// What can be named.
    pub(crate) fn references(&self) -> References<'_> {
        References {
            configuration: self.configuration(),
            names: &self.names,
        }
    }

    /// Judges an IPAddressPool.
    #[must_use]
    pub fn pool(&self, object: &IPAddressPool) -> Verdict {
        if self.unclean.contains(pools::KIND) {
            let others = self.contested_pools.beside(object);
            let refusals = self.beside(
                pools::KIND,
                object,
                others,
                |all| &mut all.pools,
                Read::pools,
            );
            if !refusals.is_empty() {
                return Verdict::of(refusals).sorted();
            }
        }
        let parsed = pools::parse(object);
        let conflicts = self.taken.conflicts(object);
        match parsed {
            Ok(pool) if conflicts.is_empty() || self.unclean.contains(pools::KIND) => {
                let mut verdict = Verdict::default();
                warnings::pools::warn(object, &pool, self, &mut verdict);
                verdict.sorted()
            }
            Ok(_) => Verdict::of(conflicts).sorted(),
            Err(wrong) => Verdict::of(wrong.into_iter().chain(conflicts).collect()).sorted(),
        }
    }

    /// What reading all objects of the kind anew with `object` says of it. On those that are not among `others` it does not
    /// depend.
    ///
    /// Where all objects of the kind are in force as they are written, those in force stay so beside whatever comes, and
    /// asking [`Taken`] and [`Routers`] gives the same answer without reading any. Where one is not, what
    /// `object` changes may bring it in or keep it out first.
    fn beside<K: ResourceExt + Clone>(
        &self,
        kind: &'static str,
        object: &K,
        others: Vec<Arc<K>>,
        list: impl FnOnce(&mut AllObjects) -> &mut Vec<Arc<K>>,
        read: impl FnOnce(&mut Read, &Objects<'_>, &LastGood),
    ) -> Vec<Refusal> {
        let mut objects = AllObjects::default();
        let all = list(&mut objects);
        let name = object.name_any();
        all.extend(others);
        all.push(Arc::new(object.clone()));
        let mut anew = Read::default();
        objects.with(|objects| read(&mut anew, objects, &self.last_good));
        let ours = |refusal: &Refusal| refusal.kind == kind && refusal.name == name;
        anew.refusals.into_iter().filter(ours).collect()
    }

    /// Judges an L2Advertisement.
    #[must_use]
    pub fn l2_advertisement(&self, object: &L2Advertisement) -> Verdict {
        match advertisements::parse_l2(object) {
            Ok(advertisement) => {
                let mut verdict = Verdict::default();
                warnings::advertisements::warn_l2(object, &advertisement, self, &mut verdict);
                verdict.sorted()
            }
            Err(wrong) => Verdict::of(wrong).sorted(),
        }
    }

    /// Judges a BGPAdvertisement. An alias that no Community defines may be defined later.
    #[must_use]
    pub fn bgp_advertisement(&self, object: &BGPAdvertisement) -> Verdict {
        let advertisement = match advertisements::parse_bgp(object, None) {
            Ok(advertisement) => advertisement,
            Err(wrong) => return Verdict::of(wrong).sorted(),
        };
        let pools = &self.configuration().pools;
        let misfits = if self.unclean.contains("BGPAdvertisement") {
            self.misfits_in_turn(object, &advertisement)
        } else {
            let others = &self.configuration().bgp_advertisements;
            let misfits = advertisements::misfits(&advertisement, others, pools.values());
            misfits.into_iter().map(|misfit| misfit.refusal).collect()
        };
        let mut verdict = Verdict::of(misfits);
        if verdict.refusals.is_empty() {
            warnings::advertisements::warn_bgp(object, &advertisement, self, &mut verdict);
        }
        verdict.sorted()
    }

    /// The pools that an advertisement does not fit once all are settled anew.
    fn misfits_in_turn(
        &self,
        object: &BGPAdvertisement,
        advertisement: &BgpAdvertisement,
    ) -> Vec<Refusal> {
        let same = advertisements::contends_alike;
        let former = reading::former_advertisement(object, &self.last_good);
        let parsed: Result<_, ()> = Ok(advertisement.clone());
        let place = reading::place(object, &parsed, former.as_ref(), same);
        let others = self.contested_advertisements.iter().cloned();
        let others = others.filter(|(_, other)| other.name != advertisement.name);
        let in_turn = others.chain([(place, advertisement.clone())]).collect();
        let (_, refusals) = reading::settle(in_turn, &self.configuration().pools);
        let ours = |refusal: &Refusal| refusal.name == advertisement.name;
        refusals.into_iter().filter(ours).collect()
    }

    /// Judges a BGPPeer. The Secret and the BFDProfile that it names may come later.
    #[must_use]
    pub fn peer(&self, object: &BGPPeer) -> Verdict {
        let peer = match peers::parse(object) {
            Ok(peer) => peer,
            Err(wrong) => return Verdict::of(wrong).sorted(),
        };
        let conflicts = if self.unclean.contains(peers::KIND) {
            let others = self.contested_peers.beside(object, &peer);
            self.beside(
                peers::KIND,
                object,
                others,
                |all| &mut all.peers,
                Read::peers,
            )
        } else {
            self.routers.conflict(&peer).into_iter().collect()
        };
        let mut verdict = Verdict::of(conflicts);
        if verdict.refusals.is_empty() {
            warnings::peers::warn(object, &peer, self, &mut verdict);
        }
        verdict.sorted()
    }

    /// Judges a BFDProfile.
    #[must_use]
    pub fn bfd_profile(&self, object: &BFDProfile) -> Verdict {
        let mut verdict = Verdict::of(check_bfd_profile(object));
        if verdict.refusals.is_empty() {
            warnings::annotations("BFDProfile", object.annotations(), &mut verdict);
        }
        verdict.sorted()
    }

    /// Judges a Community.
    #[must_use]
    pub fn community(&self, object: &Community) -> Verdict {
        let others = self.contested_aliases.beside(object);
        let mut verdict = Verdict::of(self.beside(
            "Community",
            object,
            others,
            |all| &mut all.communities,
            Read::communities,
        ));
        if verdict.refusals.is_empty() {
            warnings::communities::warn(object, &mut verdict);
        }
        verdict.sorted()
    }

    /// Why the BFDProfile of this name must not be deleted (reference 2.2).
    #[must_use]
    pub fn removal_of_bfd_profile(&self, name: &str) -> Option<Refusal> {
        let peer = self.bfd_profile_users.get(name)?;
        let refusal = Refusal::new(
            "BFDProfile",
            name,
            "metadata.name",
            format!(
                "failed to delete BFDProfile {name}, used by BGPPeer {peer}; remove spec.bfdProfile there first"
            ),
        );
        Some(refusal.conflicting())
    }
}

/// The advertisements in force, each with its place at the next reading.
fn in_turn(objects: &[Arc<BGPAdvertisement>], now: &LastGood) -> Vec<(Place, BgpAdvertisement)> {
    let aliases = reading::aliases_of(now.configuration());
    let placed = objects.iter().filter_map(|object| {
        let former = reading::former_advertisement(object, now)?;
        let parsed = advertisements::parse_bgp(object, Some(&aliases));
        let same = advertisements::contends_alike;
        let place = reading::place(&**object, &parsed, Some(&former), same);
        Some((place, former))
    });
    placed.collect()
}
