//! The objects in the form in which they are in force, kept so that it can be written down and recalled.

use std::collections::BTreeMap;
use std::sync::Arc;

use ferrolb_api::v1beta1::{
    BGPAdvertisement, Community, CommunityAlias, IPAddressPool, L2Advertisement,
};
use ferrolb_api::v1beta2::BGPPeer;
use ferrolb_api::{StaysInForce, form_of};
use kube::ResourceExt;

use crate::all_objects::AllObjects;
use crate::configuration::Configuration;

/// One object of each kind and name that is in force. Those that are in force as they are written are shared with who
/// wrote them down.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forms {
    pub(crate) pools: BTreeMap<String, Arc<IPAddressPool>>,
    pub(crate) l2_advertisements: BTreeMap<String, Arc<L2Advertisement>>,
    pub(crate) bgp_advertisements: BTreeMap<String, Arc<BGPAdvertisement>>,
    pub(crate) peers: BTreeMap<String, Arc<BGPPeer>>,
    communities: BTreeMap<String, Arc<Community>>,
}

impl Forms {
    /// The form of the object of this kind and name, as JSON.
    pub(crate) fn of(&self, kind: &str, name: &str) -> Option<String> {
        fn form<K: StaysInForce>(all: &BTreeMap<String, Arc<K>>, name: &str) -> Option<String> {
            all.get(name).map(|object| form_of(&**object))
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
            let mut communities = form.spec.communities.iter();
            communities.any(|community| !community.contains(':'))
        }) {
            let name = form.name_any();
            let found = all.binary_search_by(|other| other.name.cmp(&name));
            if let Some(advertisement) = found.ok().and_then(|at| all.get(at)) {
                let communities = advertisement.communities.iter();
                Arc::make_mut(form).spec.communities =
                    communities.map(ToString::to_string).collect();
            }
        }
    }
}

/// Those that are in force, each as it was where it `is` so as before and as it is written otherwise.
fn follow<K: ResourceExt>(
    forms: &mut BTreeMap<String, Arc<K>>,
    objects: &[Arc<K>],
    is: impl Fn(&str) -> (bool, bool),
) {
    let mut before = std::mem::take(forms);
    for object in objects {
        let name = object.name_any();
        let form = match is(&name) {
            (false, _) => None,
            (true, true) => before.remove(&name),
            (true, false) => Some(Arc::clone(object)),
        };
        forms.extend(form.map(|form| (name, form)));
    }
}

/// Aliases are in force one by one, so a Community is in force as what is so of it.
fn communities(
    objects: &AllObjects,
    configuration: &Configuration,
) -> BTreeMap<String, Arc<Community>> {
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
        Some((name, Arc::new(form)))
    });
    communities.collect()
}
