//! What was in force before: an edit that breaks an object does not take away what the object said before it.
//!
//! MetalLB keeps its whole last configuration while anything is wrong (reference 2.6). Here each object that breaks a rule
//! keeps the last form in which it broke none, and everything else goes on. The memory is that of the process: after a
//! restart an object that breaks a rule is out of force.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;

use crate::configuration::{Configuration, Objects};
use crate::reading::{self, Read};
use crate::refusal::Refusal;

/// What was in force at the last reading.
#[derive(Clone, Debug, Default)]
pub struct LastGood {
    pub(crate) configuration: Configuration,
    /// The uid of each object at the last reading, by kind and name: one that was made anew has no former form.
    uids: BTreeMap<(&'static str, String), Option<String>>,
    kept: BTreeSet<(&'static str, String)>,
}

impl LastGood {
    /// Reads all objects as [`Configuration::from_objects`] does, but that one that breaks a rule stays in force as it was.
    pub fn read(&mut self, objects: &Objects<'_>) -> (Configuration, Vec<Refusal>) {
        let read = self.read_all(objects);
        (read.configuration, read.refusals)
    }

    /// The same, with everything that was found out.
    pub(crate) fn read_all(&mut self, objects: &Objects<'_>) -> Read {
        let read = reading::read(objects, self);
        fn uids<'a, K: ResourceExt + 'a>(
            kind: &'static str,
            objects: &'a [&'a K],
        ) -> impl Iterator<Item = ((&'static str, String), Option<String>)> {
            objects
                .iter()
                .map(move |object| ((kind, object.name_any()), object.uid()))
        }
        self.uids = uids("IPAddressPool", objects.pools)
            .chain(uids("L2Advertisement", objects.l2_advertisements))
            .chain(uids("BGPAdvertisement", objects.bgp_advertisements))
            .chain(uids("BGPPeer", objects.peers))
            .chain(uids("Community", objects.communities))
            .collect();
        self.kept = read.kept.iter().cloned().collect();
        self.configuration = read.configuration.clone();
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

    /// Whether this is the object that had this name at the last reading.
    pub(crate) fn knows(&self, kind: &'static str, object: &impl ResourceExt) -> bool {
        self.uids
            .get(&(kind, object.name_any()))
            .is_some_and(|uid| *uid == object.uid())
    }
}
