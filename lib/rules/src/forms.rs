//! The objects in the form in which they are in force, kept so that it can be written down and recalled.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use ferrolb_api::v1beta1::{
    BGPAdvertisement, Community, CommunityAlias, IPAddressPool, L2Advertisement,
};
use ferrolb_api::v1beta2::BGPPeer;
use ferrolb_api::{StaysInForce, form_of};
use kube::ResourceExt;

use crate::all_objects::AllObjects;
use crate::configuration::Configuration;

/// An object in the form in which it is in force.
#[derive(Clone, Debug)]
pub(crate) struct InForceAs<K> {
    pub(crate) object: Arc<K>,
    /// The same as JSON, once somebody asked for it.
    json: OnceLock<Arc<str>>,
}

impl<K: StaysInForce> InForceAs<K> {
    fn json(&self) -> &Arc<str> {
        self.json.get_or_init(|| form_of(&*self.object).into())
    }
}

impl<K> From<Arc<K>> for InForceAs<K> {
    fn from(object: Arc<K>) -> Self {
        InForceAs {
            object,
            json: OnceLock::new(),
        }
    }
}

/// One object of each kind and name that is in force. Those that are in force as they are written are shared with who
/// wrote them down.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forms {
    pub(crate) pools: BTreeMap<String, InForceAs<IPAddressPool>>,
    pub(crate) l2_advertisements: BTreeMap<String, InForceAs<L2Advertisement>>,
    pub(crate) bgp_advertisements: BTreeMap<String, InForceAs<BGPAdvertisement>>,
    pub(crate) peers: BTreeMap<String, InForceAs<BGPPeer>>,
    communities: BTreeMap<String, InForceAs<Community>>,
}

impl Forms {
    /// The form of the object of this kind and name, as JSON.
    pub(crate) fn of(&self, kind: &str, name: &str) -> Option<Arc<str>> {
        fn form<K: StaysInForce>(
            all: &BTreeMap<String, InForceAs<K>>,
            name: &str,
        ) -> Option<Arc<str>> {
            all.get(name).map(|form| Arc::clone(form.json()))
        }
        match kind {
            "IPAddressPool" => form(&self.pools, name),
            "L2Advertisement" => form(&self.l2_advertisements, name),
            "BGPAdvertisement" => form(&self.bgp_advertisements, name),
            "BGPPeer" => form(&self.peers, name),
            "Community" => form(&self.communities, name),
            _ => None,
        }
    }

    /// Whether the object of this kind and name is in force as it is written in this very object.
    pub(crate) fn holds<K>(&self, kind: &str, name: &str, object: &Arc<K>) -> bool {
        fn at<K>(all: &BTreeMap<String, InForceAs<K>>, name: &str) -> Option<*const ()> {
            all.get(name).map(|form| Arc::as_ptr(&form.object).cast())
        }
        let held = match kind {
            "IPAddressPool" => at(&self.pools, name),
            "L2Advertisement" => at(&self.l2_advertisements, name),
            "BGPAdvertisement" => at(&self.bgp_advertisements, name),
            "BGPPeer" => at(&self.peers, name),
            _ => None,
        };
        held == Some(Arc::as_ptr(object).cast())
    }

    /// Whether objects of this kind that are not kept as they were are in force just as they are written: aliases are
    /// resolved in BGPAdvertisements, and in force one by one.
    pub(crate) fn are_as_written(kind: &str) -> bool {
        ["IPAddressPool", "L2Advertisement", "BGPPeer"].contains(&kind)
    }

    /// Takes in what is in force now. `keeps` says which objects are so as they were before.
    pub(crate) fn follow(
        &mut self,
        objects: &AllObjects,
        configuration: &Configuration,
        keeps: impl Fn(&'static str, &str) -> bool,
    ) {
        let pools = &configuration.pools;
        follow(&mut self.pools, &objects.pools, |name| {
            (pools.contains_key(name), keeps("IPAddressPool", name))
        });
        let peers = &configuration.peers;
        follow(&mut self.peers, &objects.peers, |name| {
            (peers.contains_key(name), keeps("BGPPeer", name))
        });
        let all = &configuration.l2_advertisements;
        follow(
            &mut self.l2_advertisements,
            &objects.l2_advertisements,
            |name| {
                let found = all.binary_search_by(|other| other.name.as_str().cmp(name));
                (found.is_ok(), keeps("L2Advertisement", name))
            },
        );
        let all = &configuration.bgp_advertisements;
        follow(
            &mut self.bgp_advertisements,
            &objects.bgp_advertisements,
            |name| {
                let found = all.binary_search_by(|other| other.name.as_str().cmp(name));
                (found.is_ok(), keeps("BGPAdvertisement", name))
            },
        );
        self.resolve_aliases(configuration);
        self.communities = communities(objects, configuration);
    }

    /// What an advertisement stands for must not depend on a Community that somebody may delete.
    fn resolve_aliases(&mut self, configuration: &Configuration) {
        let all = &configuration.bgp_advertisements;
        let forms = self.bgp_advertisements.values_mut();
        for form in forms.filter(|form| {
            let mut communities = form.object.spec.communities.iter();
            communities.any(|community| !community.contains(':'))
        }) {
            let name = form.object.name_any();
            let found = all.binary_search_by(|other| other.name.cmp(&name));
            if let Some(advertisement) = found.ok().and_then(|at| all.get(at)) {
                let communities = advertisement.communities.iter();
                let mut resolved = BGPAdvertisement::clone(&form.object);
                resolved.spec.communities = communities.map(ToString::to_string).collect();
                *form = Arc::new(resolved).into();
            }
        }
    }
}

/// Those that are in force, each as it was where it `is` so as before and as it is written otherwise.
fn follow<K: ResourceExt>(
    forms: &mut BTreeMap<String, InForceAs<K>>,
    objects: &[Arc<K>],
    is: impl Fn(&str) -> (bool, bool),
) {
    let mut before = std::mem::take(forms);
    for object in objects {
        let name = object.name_any();
        let form = match is(&name) {
            (false, _) => None,
            (true, true) => before.remove(&name),
            (true, false) => before
                .remove(&name)
                .filter(|form| Arc::ptr_eq(&form.object, object))
                .or_else(|| Some(Arc::clone(object).into())),
        };
        forms.extend(form.map(|form| (name, form)));
    }
}

/// Aliases are in force one by one, so a Community is in force as what is so of it.
fn communities(
    objects: &AllObjects,
    configuration: &Configuration,
) -> BTreeMap<String, InForceAs<Community>> {
    let mut of: BTreeMap<&str, Vec<CommunityAlias>> = BTreeMap::new();
    for (name, alias) in &configuration.aliases {
        let aliases = of.entry(&alias.object).or_default();
        aliases.push(CommunityAlias {
            name: name.clone(),
            value: alias.community.to_string(),
        });
    }
    let communities = objects.communities.iter().filter_map(|object| {
        let name = object.name_any();
        let mut form = Community::clone(object);
        form.spec.communities = of.remove(name.as_str())?;
        Some((name, Arc::new(form).into()))
    });
    communities.collect()
}
