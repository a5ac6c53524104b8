//! What a speaker tells people by objects of its own: which Services its node announces by layer 2 (`l2`) and by BGP (`bgp`), and
//! whether it can use the configuration, which interfaces there are (`configuration`) and how its sessions are doing (`sessions`).
//!
//! ```text
//! the loop --set--> what shall be there --+
//! API server --watch--> what is there ----+--> what is different (pure) --> one write at a time for each object
//! ```
//!
//! Architecture Invariant: nothing here is read by what announces, and whoever tells something here never waits. Objects follow
//! when the API server can be reached.

mod bgp;
mod configuration;
mod l2;
mod service;
mod sessions;

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use sha2::{Digest, Sha256};

pub use bgp::BgpStatuses;
pub use configuration::ConfigurationReport;
pub use l2::L2Statuses;
pub use service::WRITES_AT_ONCE;
pub use sessions::SessionReport;

/// Who writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reporter {
    /// The install namespace, where the objects are.
    pub namespace: String,
    /// The node.
    pub node: String,
    /// The speaker's own Pod, with which the objects go; `None` outside of one.
    pub pod: Option<Pod>,
}

/// A Pod, as an owner of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Reporter {
    /// The node as the value of a label.
    fn node_label(&self) -> Cow<'_, str> {
        ferrolb_api::node_label(&self.node)
    }

    /// The Pod as the owner, so that the garbage collector takes the objects of a speaker that is gone (reference 9, row 32).
    fn owner(&self) -> Option<OwnerReference> {
        let pod = self.pod.as_ref()?;
        Some(OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            ..OwnerReference::default()
        })
    }

    /// Whether the Pod is the one owner among these. Outside of a Pod nobody needs to be.
    fn owns(&self, owners: Option<&[OwnerReference]>) -> bool {
        match (&self.pod, owners.unwrap_or_default()) {
            (None, _) => true,
            (Some(pod), [owner]) => owner.kind == "Pod" && owner.uid == pod.uid,
            (Some(_), _) => false,
        }
    }
}

/// The first 64 bits of the SHA-256 of a text: nobody finds a second text for one.
fn hash(text: &str) -> u64 {
    let digest = Sha256::digest(text);
    digest
        .iter()
        .take(8)
        .fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_the_beginning_of_the_sha_256() {
        assert_eq!(hash("abc"), 0xba78_16bf_8f01_cfea);
    }
}
