//! What was in force before: an edit that breaks an object does not take away what the object said before it.
//!
//! MetalLB keeps its whole last configuration while anything is wrong (reference 2.6). Here each object that breaks a rule
//! keeps the last form in which it broke none, and everything else goes on. A process remembers those forms; one that starts
//! recalls them from the statuses, where the operator's leader has written down what is in force of each object.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ferrolb_api::v1beta1::{BGPAdvertisement, Community};
use ferrolb_api::{InForce, StaysInForce, form_of, in_form};
use kube::ResourceExt;

use crate::advertisements::{self, Aliases};
use crate::all_objects::AllObjects;
use crate::communities;
use crate::configuration::Configuration;
use crate::forms::Forms;
use crate::peers;
use crate::pools;
use crate::reading::{self, Read};
use crate::refusal::Refusal;

/// What was in force at the last reading.
#[derive(Clone, Debug, Default)]
pub struct LastGood {
    pub(crate) configuration: Configuration,
    /// The uid of each object at the last reading, by kind and name: one that was made anew has no former form.
    uids: BTreeMap<(&'static str, String), Option<String>>,
    kept: BTreeSet<(&'static str, String)>,
    forms: Forms,
    /// Whether statuses say what this one found. It does not learn from them what it knows then.
    writes: bool,
}

impl LastGood {
    /// For the one process whose readings are written into the statuses. Every other one follows what stands there.
    #[must_use]
    pub fn of_the_writer() -> Self {
        LastGood {
            writes: true,
            ..LastGood::default()
        }
    }

    /// Reads all objects as [`Configuration::from_objects`] does, but that one that breaks a rule stays in force as it was.
    pub fn read(&mut self, objects: &AllObjects) -> (Configuration, Vec<Refusal>) {
        let read = self.read_all(objects);
        (read.configuration, read.refusals)
    }

    /// The same, with everything that was found out.
    pub(crate) fn read_all(&mut self, objects: &AllObjects) -> Read {
        self.recall(objects);
        let read = objects.with(|objects| reading::read(objects, self));
        fn uids<'a, K: ResourceExt + 'a>(
            kind: &'static str,
            objects: &'a [Arc<K>],
        ) -> impl Iterator<Item = ((&'static str, String), Option<String>)> {
            objects
                .iter()
                .map(move |object| ((kind, object.name_any()), object.uid()))
        }
        self.uids = uids("IPAddressPool", &objects.pools)
            .chain(uids("L2Advertisement", &objects.l2_advertisements))
            .chain(uids("BGPAdvertisement", &objects.bgp_advertisements))
            .chain(uids("BGPPeer", &objects.peers))
            .chain(uids("Community", &objects.communities))
            .collect();
        self.kept = read.kept.iter().cloned().collect();
        self.configuration = read.configuration.clone();
        let kept = &self.kept;
        let keeps = |kind, name: &str| !kept.is_empty() && kept.contains(&(kind, name.to_owned()));
        self.forms.follow(objects, &self.configuration, keeps);
        read
    }

    /// What is in force since the last reading.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Whether this object breaks a rule and is in force as it was before.
    #[must_use]
    pub fn keeps(&self, kind: &'static str, name: &str) -> bool {
        !self.kept.is_empty() && self.kept.contains(&(kind, name.to_owned()))
    }

    /// In which form the object of this kind and name is in force, to be written into its status.
    #[must_use]
    pub fn in_force(&self, kind: &str, name: &str, generation: Option<i64>) -> Option<InForce> {
        let form = self.forms.of(kind, name)?;
        Some(InForce {
            observed_generation: generation,
            form,
        })
    }

    /// Whether this is the object that had this name at the last reading.
    pub(crate) fn knows(&self, kind: &'static str, object: &impl ResourceExt) -> bool {
        self.uids
            .get(&(kind, object.name_any()))
            .is_some_and(|uid| *uid == object.uid())
    }

    /// Takes for having been in force what statuses say of objects that are not known yet.
    fn recall(&mut self, objects: &AllObjects) {
        for object in &objects.communities {
            if let Some(former) = self.former("Community", object) {
                self.recall_aliases(&former);
            }
        }
        for object in &objects.pools {
            if let Some(former) = self.former("IPAddressPool", object)
                && let Ok(pool) = pools::parse(&former)
            {
                self.configuration.pools.insert(pool.name.clone(), pool);
                self.forms.pools.insert(former.name_any(), Arc::new(former));
            }
        }
        for object in &objects.l2_advertisements {
            if let Some(former) = self.former("L2Advertisement", object)
                && let Ok(advertisement) = advertisements::parse_l2(&former)
            {
                let all = &mut self.configuration.l2_advertisements;
                let forms = &mut self.forms.l2_advertisements;
                let replaced = forms.insert(former.name_any(), Arc::new(former));
                if replaced.is_some() {
                    all.retain(|other| other.name != advertisement.name);
                }
                all.push(advertisement);
            }
        }
        let aliases = reading::aliases_of(&self.configuration);
        for object in &objects.bgp_advertisements {
            if let Some(former) = self.former("BGPAdvertisement", object) {
                self.recall_bgp_advertisement(former, &aliases);
            }
        }
        for object in &objects.peers {
            if let Some(former) = self.former("BGPPeer", object)
                && let Ok(peer) = peers::parse(&former)
            {
                self.configuration.peers.insert(peer.name.clone(), peer);
                self.forms.peers.insert(former.name_any(), Arc::new(former));
            }
        }
    }

    fn recall_aliases(&mut self, former: &Community) {
        let name = former.name_any();
        let aliases = &mut self.configuration.aliases;
        aliases.retain(|_, alias| alias.object != name);
        for (index, alias) in former.spec.communities.iter().enumerate() {
            if let Ok(parsed) = communities::parse_alias(&name, index, alias) {
                aliases.entry(alias.name.clone()).or_insert(parsed);
            }
        }
    }

    fn recall_bgp_advertisement(&mut self, former: BGPAdvertisement, aliases: &Aliases) {
        let Ok(advertisement) = advertisements::parse_bgp(&former, Some(aliases)) else {
            return;
        };
        let all = &mut self.configuration.bgp_advertisements;
        let forms = &mut self.forms.bgp_advertisements;
        let replaced = forms.insert(former.name_any(), Arc::new(former));
        if replaced.is_some() {
            all.retain(|other| other.name != advertisement.name);
        }
        all.push(advertisement);
    }

    /// The object as its status says that it is in force, where that is to be taken over: of an object that is not known,
    /// and of one of which the writer, who has seen it as it is now, says another form than is remembered. (Of two edits one
    /// after the other a watch may show the second alone, and not to all.)
    fn former<K: StaysInForce>(&mut self, kind: &'static str, object: &Arc<K>) -> Option<K> {
        let record = object.in_force()?;
        let name = object.name_any();
        if self.knows(kind, &**object) {
            let decided = !self.writes && record.observed_generation == object.meta().generation;
            if !decided || record.is_as_written() {
                return None;
            }
            let former = in_form(&**object)?;
            let remembered = self.forms.of(kind, &name);
            return (remembered != Some(form_of(&former))).then_some(former);
        }
        let former = in_form(&**object)?;
        self.uids.insert((kind, name), object.uid());
        Some(former)
    }
}
