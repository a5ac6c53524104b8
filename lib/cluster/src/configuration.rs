//! What people configured: the objects of our kinds in our namespace, watched.

use std::collections::BTreeMap;
use std::sync::Arc;

use ferrolb_api::v1beta1::{
    BFDProfile, BGPAdvertisement, Community, IPAddressPool, L2Advertisement,
};
use ferrolb_api::v1beta2::BGPPeer;
use ferrolb_api::{StaysInForce, keep_what_is_in_force};
use ferrolb_rules::{AllObjects, Configuration, LastGood, Refusal};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use tokio::sync::Notify;

use crate::changes::ChangeFeed;
use crate::store::{Broken, Store};
use crate::watch::{WatchConfig, watch};
use crate::{Client, ObjectKey};

/// One store for each kind that a person writes. Only objects of our namespace count (reference 1).
#[derive(Clone)]
pub struct ConfigurationStores {
    /// IPAddressPools.
    pub pools: Store<Arc<IPAddressPool>>,
    /// L2Advertisements.
    pub l2_advertisements: Store<Arc<L2Advertisement>>,
    /// BGPAdvertisements.
    pub bgp_advertisements: Store<Arc<BGPAdvertisement>>,
    /// BGPPeers, in the version that is stored.
    pub peers: Store<Arc<BGPPeer>>,
    /// BFDProfiles.
    pub bfd_profiles: Store<Arc<BFDProfile>>,
    /// Communities.
    pub communities: Store<Arc<Community>>,
}

/// Whether an object's status is kept. Who writes it needs it; to anyone else it is noise that would wake them, but for what
/// it says of a form that is in force and is not the object as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Kept.
    Kept,
    /// Dropped, but for `inForce`.
    Dropped,
}

/// Whether something changed in any of the stores.
pub struct ConfigurationFeed(Vec<ChangeFeed>);

impl ConfigurationStores {
    /// Watches all six kinds.
    pub fn watch(client: &Client, namespace: &str, config: &WatchConfig, status: Status) -> Self {
        macro_rules! kind {
            ($kind:ty, $annotations:expr, $drop:expr) => {
                watch(
                    client,
                    config.clone().in_namespace(namespace),
                    move |object: &$kind| {
                        let mut kept = object.clone();
                        kept.metadata = essential(&object.metadata, $annotations);
                        if status == Status::Dropped {
                            $drop(&mut kept);
                        }
                        Some(Arc::new(kept))
                    },
                )
            };
            ($kind:ty) => {
                kind!(
                    $kind,
                    <$kind as StaysInForce>::ANNOTATIONS,
                    keep_what_is_in_force
                )
            };
        }
        ConfigurationStores {
            pools: kind!(IPAddressPool),
            l2_advertisements: kind!(L2Advertisement),
            bgp_advertisements: kind!(BGPAdvertisement),
            peers: kind!(BGPPeer),
            bfd_profiles: kind!(BFDProfile, &[], |profile: &mut BFDProfile| {
                profile.status = None;
            }),
            communities: kind!(Community),
        }
    }

    /// Whether every store is complete.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.pools.is_ready()
            && self.l2_advertisements.is_ready()
            && self.bgp_advertisements.is_ready()
            && self.peers.is_ready()
            && self.bfd_profiles.is_ready()
            && self.communities.is_ready()
    }

    /// Waits until every store is complete.
    pub async fn ready(&self) {
        self.pools.ready().await;
        self.l2_advertisements.ready().await;
        self.bgp_advertisements.ready().await;
        self.peers.ready().await;
        self.bfd_profiles.ready().await;
        self.communities.ready().await;
    }

    /// Reads everything again; see [`Store::relist`].
    pub async fn relist(&self) {
        tokio::join!(
            self.pools.relist(),
            self.l2_advertisements.relist(),
            self.bgp_advertisements.relist(),
            self.peers.relist(),
            self.bfd_profiles.relist(),
            self.communities.relist(),
        );
    }

    /// A feed over all stores that wakes `notify`.
    #[must_use]
    pub fn subscribe_with(&self, notify: &Arc<Notify>) -> ConfigurationFeed {
        ConfigurationFeed(vec![
            self.pools.subscribe_with(notify.clone()),
            self.l2_advertisements.subscribe_with(notify.clone()),
            self.bgp_advertisements.subscribe_with(notify.clone()),
            self.peers.subscribe_with(notify.clone()),
            self.bfd_profiles.subscribe_with(notify.clone()),
            self.communities.subscribe_with(notify.clone()),
        ])
    }

    /// What is in force now, beside what was in force `before`, and what is set aside.
    pub fn read(&self, before: &mut LastGood) -> (Configuration, Vec<Refusal>) {
        before.read(&self.objects())
    }

    /// All objects as they are now.
    #[must_use]
    pub fn objects(&self) -> AllObjects {
        AllObjects {
            pools: values(&self.pools),
            l2_advertisements: values(&self.l2_advertisements),
            bgp_advertisements: values(&self.bgp_advertisements),
            peers: values(&self.peers),
            bfd_profiles: values(&self.bfd_profiles),
            communities: values(&self.communities),
        }
    }

    /// Objects that the API server holds and that do not parse, by kind and key.
    #[must_use]
    pub fn broken(&self) -> BTreeMap<(&'static str, ObjectKey), Broken> {
        fn of<K: Resource<DynamicType = ()>>(
            kind: &'static str,
            store: &Store<Arc<K>>,
        ) -> impl Iterator<Item = ((&'static str, ObjectKey), Broken)> {
            debug_assert_eq!(kind, K::kind(&()));
            store
                .broken()
                .into_iter()
                .map(move |(key, broken)| ((kind, key), broken))
        }
        of("IPAddressPool", &self.pools)
            .chain(of("L2Advertisement", &self.l2_advertisements))
            .chain(of("BGPAdvertisement", &self.bgp_advertisements))
            .chain(of("BGPPeer", &self.peers))
            .chain(of("BFDProfile", &self.bfd_profiles))
            .chain(of("Community", &self.communities))
            .collect()
    }
}

impl ConfigurationFeed {
    /// Whether anything changed since the last call.
    #[must_use]
    pub fn take(&self) -> bool {
        // Every feed is emptied, so no short cut.
        self.0
            .iter()
            .map(ChangeFeed::take)
            .filter(|changes| !changes.is_empty())
            .count()
            > 0
    }
}

fn values<T>(store: &Store<Arc<T>>) -> Vec<Arc<T>> {
    store.with(|all| all.values().map(|stored| stored.value().clone()).collect())
}

/// What decisions and statuses read of an object's metadata, of annotations those with one of these keys: for the rest the
/// object does not change. The resource version is kept by the store itself.
fn essential(metadata: &ObjectMeta, annotations: &[&str]) -> ObjectMeta {
    let all = metadata.annotations.iter().flatten();
    let read: BTreeMap<String, String> = all
        .filter(|(key, _)| annotations.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    ObjectMeta {
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        uid: metadata.uid.clone(),
        labels: metadata.labels.clone(),
        annotations: (!read.is_empty()).then_some(read),
        generation: metadata.generation,
        creation_timestamp: metadata.creation_timestamp.clone(),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_read_is_kept_of_annotations() {
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let mut metadata = ObjectMeta::default();
        let kept = |metadata: &ObjectMeta| {
            essential(metadata, <IPAddressPool as StaysInForce>::ANNOTATIONS).annotations
        };
        assert_eq!(kept(&metadata), None);
        let all = [("kubectl.kubernetes.io/last-applied-configuration", "{}")];
        metadata.annotations = Some(all.map(owned).into());
        assert_eq!(kept(&metadata), None);
        let hold = owned(("ferrolb.io/reuse-hold", "10m"));
        metadata
            .annotations
            .get_or_insert_default()
            .extend([hold.clone()]);
        assert_eq!(kept(&metadata), Some([hold].into()));
    }
}
