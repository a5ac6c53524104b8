//! What was in force before: an edit that breaks an object does not take away what the object said before it.
//!
//! MetalLB keeps its whole last configuration while anything is wrong (reference 2.6). Here each object that breaks a rule
//! keeps the last form in which it broke none, and everything else goes on. A process remembers those forms; one that starts
//! recalls them from the statuses, where the operator's leader has written down what is in force of each object.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ferrolb_api::{InForce, StaysInForce, fingerprint, form_of};
use kube::ResourceExt;

use crate::all_objects::AllObjects;
use crate::configuration::Configuration;
use crate::forms::Forms;
use crate::reading::{self, Read};
use crate::refusal::Refusal;

/// The longest form that is written into a status, in bytes. An object that is stored has 1.5 MB at most (etcd's default), and its
/// spec and its status are both in it.
const FORM_AT_MOST: usize = 256 * 1024;

/// What was in force at the last reading.
#[derive(Clone, Debug, Default)]
pub struct LastGood {
    pub(crate) configuration: Configuration,
    /// The uid of each object at the last reading, by kind and name: one that was made anew has no former form.
    uids: BTreeMap<(&'static str, String), Option<String>>,
    kept: BTreeSet<(&'static str, String)>,
    pub(crate) forms: Forms,
    /// Whether statuses say what this one found. It does not learn from them what it knows then.
    pub(crate) writes: bool,
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

    /// What is to be written into the status of this object, which is the one that was read: in which form it is in force, or that
    /// it is not. Nothing where that would be too long for a status; a process that starts then knows no former form.
    #[must_use]
    pub fn in_force<K: StaysInForce>(&self, kind: &'static str, object: &K) -> Option<InForce> {
        let name = object.name_any();
        let form = self.forms.of(kind, &name);
        if form.as_ref().is_some_and(|form| form.len() > FORM_AT_MOST) {
            return None;
        }
        let observed = match &form {
            Some(form) if Forms::are_as_written(kind) && !self.keeps(kind, &name) => {
                fingerprint(form)
            }
            _ => fingerprint(&form_of(object)),
        };
        Some(InForce {
            observed_generation: object.meta().generation,
            observed,
            form: form.map(|form| form.as_ref().to_owned()),
        })
    }

    /// Whether this is the object that had this name at the last reading.
    pub(crate) fn knows(&self, kind: &'static str, object: &impl ResourceExt) -> bool {
        self.uids
            .get(&(kind, object.name_any()))
            .is_some_and(|uid| *uid == object.uid())
    }

    /// From now on this is the object of this name.
    pub(crate) fn know(&mut self, kind: &'static str, name: String, uid: Option<String>) {
        self.uids.insert((kind, name), uid);
    }
}
