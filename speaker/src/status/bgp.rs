//! Which Services this node announces by BGP, and to which peers, as ServiceBGPStatus objects (reference 1.9).
//!
//! Several nodes announce one Service, so the name is made of the Service's and of the node's. A peer is named for as long as the
//! node shall have a session with it, whether that is up or not. MetalLB names those, too, whose session does not carry the
//! family of any address of the Service; here they are left out, since nothing is ever announced to them (reference 9, row 26).

use std::collections::BTreeSet;
use std::sync::Arc;

use ferrolb_api::ObjectKey;
use ferrolb_api::v1beta1::ServiceBGPStatus;
use ferrolb_cluster::Client;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::project::NodeSets;
use crate::status::service::{About, Kind, Statuses};
use crate::status::{Reporter, hash};

/// Tells which Services are announced, and to whom. Cheap to clone; telling never waits, and the newest counts.
///
/// 10,000 Services announced to four peers take 2.2 MB with what the watch keeps of their objects.
#[derive(Clone)]
pub struct BgpStatuses(Statuses<Bgp>);

/// The kind ServiceBGPStatus. It says the names of peers, sorted; each set of them is held once.
struct Bgp;

impl BgpStatuses {
    /// Starts to keep the objects in a task of its own until `shutdown`. They stay then, until the speaker's Pod ends.
    #[must_use]
    pub fn start(client: &Client, reporter: Reporter, shutdown: CancellationToken) -> Self {
        BgpStatuses(Statuses::start(client, reporter, shutdown))
    }

    /// This node announces a Service to these peers; to nobody if there are none.
    pub fn set(&self, service: &ObjectKey, peers: &BTreeSet<&str>) {
        self.0.change(service, |known| {
            if peers.is_empty() {
                return None;
            }
            let is_known = |known: &Arc<[Box<str>]>| {
                known.len() == peers.len()
                    && known.iter().zip(peers).all(|(one, other)| **one == **other)
            };
            match known.filter(|known| is_known(known)) {
                Some(known) => Some(Arc::clone(known)),
                None => {
                    let peers = peers.iter().map(|peer| Box::from(*peer));
                    Some(self.0.sets().share(peers.collect()))
                }
            }
        });
    }

    /// Lays what is wanted out anew, in less room.
    pub fn repack(&self) {
        self.0.repack();
    }

    /// From now on a Service of which nothing was told is announced to nobody. Until then objects that are there stay.
    pub fn complete(&self) {
        self.0.complete();
    }
}

impl Kind for Bgp {
    type Object = ServiceBGPStatus;
    type Says = Arc<[Box<str>]>;

    const PREFIX: &'static str = "bgp-";
    const CREATED: &'static str = "bgpStatusCreated";

    fn id_of(service: &ObjectKey, node: &str) -> u64 {
        // None of the three has a slash.
        hash(&format!(
            "{}/{}/{node}",
            service.namespace(),
            service.name()
        ))
    }

    fn read<'a>(object: &'a ServiceBGPStatus, sets: &NodeSets) -> (About<'a>, Self::Says) {
        let told = object.status.as_ref();
        let peers = told.into_iter().flat_map(|told| &told.peers);
        let about = About {
            node: told.and_then(|told| told.node.as_deref()),
            namespace: told.and_then(|told| told.service_namespace.as_deref()),
            name: told.and_then(|told| told.service_name.as_deref()),
        };
        let peers = peers.map(|peer| peer.as_str().into());
        (about, sets.share(peers.collect()))
    }

    fn fields(says: &Self::Says) -> Vec<(&'static str, Value)> {
        let peers: &[Box<str>] = says;
        vec![("peers", json!(peers))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::service::testing::{Step, left_to_do, written};

    fn to(peers: &[&str]) -> Arc<[Box<str>]> {
        peers.iter().map(|peer| (*peer).into()).collect()
    }

    #[test]
    fn what_is_written_is_what_the_reference_says_and_nothing_is_left_to_do() {
        let says = to(&["tor-1", "tor-2"]);
        let mut object = written::<Bgp>(&says);
        assert_eq!(left_to_do::<Bgp>(&says, object.clone()), None);
        assert_eq!(
            left_to_do::<Bgp>(&to(&["tor-1"]), object.clone()),
            Some(Step::Show)
        );
        let name = object["metadata"]["name"].take();
        assert_eq!(name.as_str().unwrap().len(), "bgp-".len() + 16);
        assert_eq!(
            object,
            json!({
                "apiVersion": "metallb.io/v1beta1", "kind": "ServiceBGPStatus",
                "metadata": {
                    "name": null, "namespace": "metallb-system", "uid": "u",
                    "labels": {
                        "metallb.io/node": "node-1", "metallb.io/service-name": "web", "metallb.io/service-namespace": "shop",
                    },
                    "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "speaker-abcde", "uid": "uid-of-pod"}],
                },
                "spec": {},
                "status": {
                    "node": "node-1", "serviceName": "web", "serviceNamespace": "shop", "peers": ["tor-1", "tor-2"],
                },
            })
        );
    }

    #[test]
    fn each_node_has_an_object_of_its_own() {
        let web = ObjectKey::new("shop", "web");
        assert_ne!(Bgp::id_of(&web, "node-1"), Bgp::id_of(&web, "node-2"));
        assert_ne!(
            Bgp::id_of(&web, "node-1"),
            Bgp::id_of(&ObjectKey::new("sho", "pweb"), "node-1")
        );
    }
}
