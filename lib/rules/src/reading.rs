//! In which order objects come into force, and what becomes of one that breaks a rule.
//!
//! What is in force and unchanged comes first, so that a mistake in another object takes nothing from it; then the older
//! object. One that breaks a rule stays in force as it was, where that contradicts nothing that came before it.

use std::collections::BTreeMap;

use ferrolb_api::v1beta1::BGPAdvertisement;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::advertisements::{self, Aliases, BgpAdvertisement};
use crate::communities::{self, Alias};
use crate::configuration::{Configuration, Objects, check_bfd_profile};
use crate::last_good::LastGood;
use crate::peers;
use crate::pools::{self, Pool};
use crate::refusal::Refusal;
use crate::routers::{self, Routers};
use crate::taken::Taken;

/// What was found out about all objects.
#[derive(Default)]
pub(crate) struct Read {
    pub(crate) configuration: Configuration,
    pub(crate) refusals: Vec<Refusal>,
    /// Objects that stay in force as they were, by kind and name.
    pub(crate) kept: Vec<(&'static str, String)>,
    /// The addresses of the pools in force.
    pub(crate) taken: Taken,
    /// The routers of the peers in force.
    pub(crate) routers: Routers,
}

/// Reads all objects beside what was in force `before`.
pub(crate) fn read(objects: &Objects<'_>, before: &LastGood) -> Read {
    let mut read = Read::default();
    read.pools(objects, before);
    read.communities(objects, before);
    for object in objects.bfd_profiles {
        read.refusals.extend(check_bfd_profile(object));
    }
    read.l2_advertisements(objects, before);
    read.bgp_advertisements(objects, before);
    read.peers(objects, before);
    read
}

/// The place of an object among those of its kind.
pub(crate) type Place = (u8, Timestamp, String);

/// What stays as it was comes first, then what will have to, what changes, what is new; the older first, and the name breaks
/// a tie. An object without a time of creation is about to be created.
///
/// `same` compares only what others contend for: an edit of anything else must not cost an object its turn.
pub(crate) fn place<T, E>(
    object: &impl ResourceExt,
    parsed: &Result<T, E>,
    former: Option<&T>,
    same: impl FnOnce(&T, &T) -> bool,
) -> Place {
    let rank = match (former, parsed) {
        (Some(former), Ok(parsed)) if same(parsed, former) => 0,
        (Some(_), Err(_)) => 1,
        (Some(_), Ok(_)) => 2,
        (None, _) => 3,
    };
    let created = object.creation_timestamp();
    let created = created.map_or(Timestamp::MAX, |time| time.0);
    (rank, created, object.name_any())
}

impl Read {
    pub(crate) fn pools(&mut self, objects: &Objects<'_>, before: &LastGood) {
        const KIND: &str = "IPAddressPool";
        let mut in_turn: Vec<_> = objects
            .pools
            .iter()
            .map(|object| {
                let former = before.configuration.pools.get(&object.name_any());
                let former = former.filter(|_| before.knows(KIND, *object));
                (*object, pools::parse(object), former)
            })
            .collect();
        in_turn.sort_by_cached_key(|(object, parsed, former)| {
            place(*object, parsed, former.as_ref().copied(), |one, other| {
                one.ranges == other.ranges
            })
        });
        for (object, parsed, former) in in_turn {
            let conflicts = self.taken.conflicts(object);
            match parsed {
                Ok(pool) if conflicts.is_empty() => {
                    for (text, range) in object.spec.addresses.iter().zip(&pool.ranges) {
                        self.taken.insert(&pool.name, text, *range);
                    }
                    self.configuration.pools.insert(pool.name.clone(), pool);
                    continue;
                }
                Ok(_) => self.refusals.extend(conflicts),
                Err(wrong) => self.refusals.extend(wrong.into_iter().chain(conflicts)),
            }
            // Another may have taken its addresses while it was out of force.
            let taken = &mut self.taken;
            if let Some(former) =
                former.filter(|former| former.ranges.iter().all(|range| taken.is_free(*range)))
            {
                for range in &former.ranges {
                    taken.insert(&former.name, &range.to_string(), *range);
                }
                self.configuration
                    .pools
                    .insert(former.name.clone(), former.clone());
                self.kept.push((KIND, former.name.clone()));
            }
        }
    }

    /// Aliases are global across all objects, and one may be defined once only (reference 1.7), so each is judged by itself.
    pub(crate) fn communities(&mut self, objects: &Objects<'_>, before: &LastGood) {
        const KIND: &str = "Community";
        let mut in_turn = Vec::new();
        for object in objects.communities {
            let name = object.name_any();
            let known = before.knows(KIND, *object);
            for (index, alias) in object.spec.communities.iter().enumerate() {
                let parsed = communities::parse_alias(&name, index, alias);
                let former = before.configuration.aliases.get(&alias.name);
                let former = former.filter(|former| known && former.object == name);
                let place = place(*object, &parsed, former, PartialEq::eq);
                in_turn.push((place, index, alias, parsed, former));
            }
        }
        in_turn.sort_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
        for ((_, _, name), index, alias, parsed, former) in in_turn {
            let aliases = &mut self.configuration.aliases;
            let refusal = match parsed {
                Ok(parsed) => match aliases.get(&alias.name) {
                    None => {
                        aliases.insert(alias.name.clone(), parsed);
                        continue;
                    }
                    Some(defined) => communities::defined_twice(&name, index, alias, defined),
                },
                Err(refusal) => refusal,
            };
            self.refusals.push(refusal);
            if let Some(former) = former
                && !aliases.contains_key(&alias.name)
            {
                aliases.insert(alias.name.clone(), former.clone());
                let kept = (KIND, name);
                if !self.kept.contains(&kept) {
                    self.kept.push(kept);
                }
            }
        }
    }

    fn l2_advertisements(&mut self, objects: &Objects<'_>, before: &LastGood) {
        const KIND: &str = "L2Advertisement";
        for object in objects.l2_advertisements {
            match advertisements::parse_l2(object) {
                Ok(advertisement) => self.configuration.l2_advertisements.push(advertisement),
                Err(wrong) => {
                    self.refusals.extend(wrong);
                    let all = &before.configuration.l2_advertisements;
                    let former = named(all, &object.name_any(), |former| &former.name);
                    if let Some(former) = former.filter(|_| before.knows(KIND, *object)) {
                        self.configuration.l2_advertisements.push(former.clone());
                        self.kept.push((KIND, former.name.clone()));
                    }
                }
            }
        }
        self.configuration
            .l2_advertisements
            .sort_by(|one, other| one.name.cmp(&other.name));
    }

    fn bgp_advertisements(&mut self, objects: &Objects<'_>, before: &LastGood) {
        const KIND: &str = "BGPAdvertisement";
        let aliases = aliases_of(&self.configuration);
        let mut in_turn = Vec::new();
        for object in objects.bgp_advertisements {
            let former = former_advertisement(object, before);
            let parsed = advertisements::parse_bgp(object, Some(&aliases));
            let place = place(
                *object,
                &parsed,
                former.as_ref(),
                advertisements::contends_alike,
            );
            match parsed {
                Ok(advertisement) => in_turn.push((place, advertisement)),
                Err(wrong) => {
                    self.refusals.extend(wrong);
                    if let Some(former) = former {
                        self.kept.push((KIND, former.name.clone()));
                        in_turn.push((place, former));
                    }
                }
            }
        }
        let pools = &self.configuration.pools;
        let (settled, refusals) = settle(in_turn, pools);
        self.configuration.bgp_advertisements = settled;
        self.refusals.extend(refusals);
    }

    pub(crate) fn peers(&mut self, objects: &Objects<'_>, before: &LastGood) {
        const KIND: &str = "BGPPeer";
        let mut in_turn: Vec<_> = objects
            .peers
            .iter()
            .map(|object| {
                let former = before.configuration.peers.get(&object.name_any());
                let former = former.filter(|_| before.knows(KIND, *object));
                (*object, peers::parse(object), former)
            })
            .collect();
        in_turn.sort_by_cached_key(|(object, parsed, former)| {
            place(
                *object,
                parsed,
                former.as_ref().copied(),
                routers::same_session,
            )
        });
        for (_, parsed, former) in in_turn {
            let wrong = match parsed {
                Ok(peer) => match self.routers.conflict(&peer) {
                    None => {
                        self.routers.insert(&peer);
                        self.configuration.peers.insert(peer.name.clone(), peer);
                        continue;
                    }
                    Some(conflict) => vec![conflict],
                },
                Err(wrong) => wrong,
            };
            self.refusals.extend(wrong);
            if let Some(former) = former.filter(|former| self.routers.conflict(former).is_none()) {
                self.routers.insert(former);
                self.configuration
                    .peers
                    .insert(former.name.clone(), former.clone());
                self.kept.push((KIND, former.name.clone()));
            }
        }
    }
}

/// What aliases stand for.
pub(crate) fn aliases_of(configuration: &Configuration) -> Aliases {
    let aliases = configuration.aliases.iter();
    aliases
        .map(|(name, Alias { community, .. })| (name.clone(), *community))
        .collect()
}

/// The form of `object` that was in force before. Which pools do not fit is found out anew.
pub(crate) fn former_advertisement(
    object: &BGPAdvertisement,
    before: &LastGood,
) -> Option<BgpAdvertisement> {
    let all = &before.configuration.bgp_advertisements;
    let former = named(all, &object.name_any(), |former| &former.name);
    let mut former = former
        .filter(|_| before.knows("BGPAdvertisement", object))?
        .clone();
    former.pools.left_out.clear();
    Some(former)
}

/// Brings advertisements into force one after the other; those in force are in the order of names. A pool that does not fit
/// one is left out of it, and it goes on for the others.
pub(crate) fn settle(
    mut in_turn: Vec<(Place, BgpAdvertisement)>,
    pools: &BTreeMap<String, Pool>,
) -> (Vec<BgpAdvertisement>, Vec<Refusal>) {
    in_turn.sort_by(|(one, _), (other, _)| one.cmp(other));
    let (mut settled, mut refusals) = (Vec::new(), Vec::new());
    for (_, mut advertisement) in in_turn {
        for misfit in advertisements::misfits(&advertisement, &settled, pools.values()) {
            advertisement.pools.left_out.insert(misfit.pool);
            refusals.push(misfit.refusal);
        }
        settled.push(advertisement);
    }
    settled.sort_by(|one, other| one.name.cmp(&other.name));
    (settled, refusals)
}

/// The entry of this name.
fn named<'a, T>(all: &'a [T], name: &str, of: impl Fn(&T) -> &str) -> Option<&'a T> {
    all.iter().find(|entry| of(entry) == name)
}
