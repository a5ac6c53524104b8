//! The objects that a new one is judged beside: those of our own namespace, reduced to what rules read.

use ferrolb_api::v1beta1::{BGPAdvertisement, Community, IPAddressPool};
use ferrolb_api::v1beta2::BGPPeer;
use ferrolb_cluster::{Client, Store, WatchConfig, watch_guarded};
use ferrolb_rules::pool_annotations;
use ferrolb_serving::Readiness;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;

/// Stores of every kind that some rule needs beside the object at hand.
#[derive(Clone)]
pub struct Known {
    /// Pools, for overlaps and for the aggregation lengths of BGPAdvertisements.
    pub pools: Store<IPAddressPool>,
    /// BGPAdvertisements, for local preferences that contradict each other.
    pub bgp_advertisements: Store<BGPAdvertisement>,
    /// Communities, for aliases that stand twice.
    pub communities: Store<Community>,
    /// The BFDProfile of each BGPPeer, so that one in use is not deleted.
    pub bfd_profile_of_peer: Store<String>,
}

impl Known {
    /// Watches them in `namespace`; only objects there count (reference section 1).
    pub fn watch(client: &Client, namespace: &str) -> Self {
        // An answer based on an older list could let an overlap pass that was applied a moment ago.
        let config = WatchConfig::most_recent;
        Self {
            pools: watch_guarded(
                Api::namespaced(client.clone(), namespace),
                config(),
                |pool: &IPAddressPool| {
                    Some(IPAddressPool {
                        metadata: identity(&pool.metadata),
                        spec: pool.spec.clone(),
                        status: None,
                    })
                },
            ),
            bgp_advertisements: watch_guarded(
                Api::namespaced(client.clone(), namespace),
                config(),
                |advertisement: &BGPAdvertisement| {
                    Some(BGPAdvertisement {
                        metadata: identity(&advertisement.metadata),
                        spec: advertisement.spec.clone(),
                        status: None,
                    })
                },
            ),
            communities: watch_guarded(
                Api::namespaced(client.clone(), namespace),
                config(),
                |community: &Community| {
                    Some(Community {
                        metadata: identity(&community.metadata),
                        spec: community.spec.clone(),
                        status: None,
                    })
                },
            ),
            bfd_profile_of_peer: watch_guarded(
                Api::namespaced(client.clone(), namespace),
                config(),
                |peer: &BGPPeer| {
                    peer.spec
                        .bfd_profile
                        .clone()
                        .filter(|profile| !profile.is_empty())
                },
            ),
        }
    }

    /// Whether every store is complete, so that an answer is one.
    pub fn is_complete(&self) -> bool {
        self.pools.is_ready()
            && self.bgp_advertisements.is_ready()
            && self.communities.is_ready()
            && self.bfd_profile_of_peer.is_ready()
    }

    /// Makes readiness depend on each store.
    pub fn require(&self, readiness: &Readiness) {
        let Self {
            pools,
            bgp_advertisements,
            communities,
            bfd_profile_of_peer,
        } = self.clone();
        readiness.require("IPAddressPools are listed", move || pools.is_ready());
        readiness.require("BGPAdvertisements are listed", move || {
            bgp_advertisements.is_ready()
        });
        readiness.require("Communities are listed", move || communities.is_ready());
        readiness.require("BGPPeers are listed", move || {
            bfd_profile_of_peer.is_ready()
        });
    }
}

/// What rules read of an object's metadata. Leaving out the rest keeps managed fields and the annotations of
/// others out of memory.
fn identity(metadata: &ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        labels: metadata.labels.clone(),
        annotations: pool_annotations(metadata),
        creation_timestamp: metadata.creation_timestamp.clone(),
        ..ObjectMeta::default()
    }
}
