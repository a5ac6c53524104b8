//! What a speaker watches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ferrolb_announcement::Endpoints;
use ferrolb_api::ObjectKey;
use ferrolb_cluster::{
    ChangeFeed, Changes, Client, ConfigurationFeed, ConfigurationStores, Status, Store,
    WatchConfig, watch, watch_part,
};
use ferrolb_rules::BASIC_AUTH;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use smallvec::SmallVec;
use tokio::sync::Notify;

use crate::parts;
use crate::project::{self, Key, NodeSets, Observed, ObservedNode, Seed, Slice};

/// One store for each kind.
#[derive(Clone)]
pub struct Stores {
    /// Services of type LoadBalancer.
    pub services: Store<Observed>,
    /// EndpointSlices.
    pub slices: Store<Slice>,
    /// Nodes.
    pub nodes: Store<ObservedNode>,
    /// Where the other speakers are.
    pub seeds: Store<Seed>,
    /// Secrets that may hold TCP-MD5 keys.
    pub passwords: Store<Key>,
    /// What people configured.
    pub configuration: ConfigurationStores,
}

/// What the watches are restricted to.
pub struct Scope<'a> {
    /// The install namespace.
    pub namespace: &'a str,
    /// `--lb-class`.
    pub class: Option<String>,
    /// Labels of speaker pods.
    pub member_labels: &'a str,
    /// The port of membership.
    pub member_port: u16,
}

impl Stores {
    /// Starts every watch.
    #[must_use]
    pub fn watch(client: &Client, scope: Scope<'_>) -> Self {
        let Scope {
            namespace,
            class,
            member_labels,
            member_port,
        } = scope;
        let node_sets = NodeSets::default();
        Stores {
            services: watch_part::<Service, _, _>(
                client,
                WatchConfig::streamed().fields("spec.type=LoadBalancer"),
                move |object: &parts::Service| project::service(object, class.as_deref()),
            ),
            slices: watch_part::<EndpointSlice, _, _>(
                client,
                WatchConfig::streamed(),
                move |object: &parts::EndpointSlice| project::slice(object, &node_sets),
            ),
            nodes: watch_part::<Node, _, _>(client, WatchConfig::streamed(), project::node),
            seeds: watch_part::<Pod, _, _>(
                client,
                WatchConfig::streamed()
                    .in_namespace(namespace)
                    .labels(member_labels),
                move |object: &parts::Pod| project::seed(object, member_port),
            ),
            passwords: watch(
                client,
                WatchConfig::streamed()
                    .in_namespace(namespace)
                    .fields(format!("type={BASIC_AUTH}")),
                project::password,
            ),
            configuration: ConfigurationStores::watch(
                client,
                namespace,
                &WatchConfig::streamed(),
                Status::Dropped,
            ),
        }
    }

    /// Whether every store is complete.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.services.is_ready()
            && self.slices.is_ready()
            && self.nodes.is_ready()
            && self.seeds.is_ready()
            && self.passwords.is_ready()
            && self.configuration.is_ready()
    }

    /// Waits until every store is complete.
    pub async fn ready(&self) {
        self.services.ready().await;
        self.slices.ready().await;
        self.nodes.ready().await;
        self.seeds.ready().await;
        self.passwords.ready().await;
        self.configuration.ready().await;
    }
}

/// One feed for each store, all of which wake one [`Notify`].
pub struct Feeds {
    /// Woken by every feed.
    pub notify: Arc<Notify>,
    services: ChangeFeed,
    slices: ChangeFeed,
    nodes: ChangeFeed,
    seeds: ChangeFeed,
    passwords: ChangeFeed,
    configuration: ConfigurationFeed,
}

/// What changed since the last look.
pub struct Dirty {
    /// Services and slices, to be decided again one by one.
    pub services: Changes,
    /// Slices that changed.
    pub slices: Changes,
    /// Something that every decision reads: decide all again.
    pub everything: bool,
    /// Configuration or keys: sessions may have to change.
    pub configuration: bool,
    /// The other speakers' addresses.
    pub seeds: bool,
}

impl Feeds {
    /// Feeds over all stores.
    #[must_use]
    pub fn of(stores: &Stores) -> Self {
        let notify = Arc::new(Notify::new());
        Feeds {
            services: stores.services.subscribe_with(notify.clone()),
            slices: stores.slices.subscribe_with(notify.clone()),
            nodes: stores.nodes.subscribe_with(notify.clone()),
            seeds: stores.seeds.subscribe_with(notify.clone()),
            passwords: stores.passwords.subscribe_with(notify.clone()),
            configuration: stores.configuration.subscribe_with(&notify),
            notify,
        }
    }

    /// Takes what changed.
    #[must_use]
    pub fn take(&self) -> Dirty {
        let configured = self.configuration.take();
        let relabelled = !self.nodes.take().is_empty();
        let keyed = !self.passwords.take().is_empty();
        Dirty {
            services: self.services.take(),
            slices: self.slices.take(),
            everything: configured || relabelled,
            configuration: configured || relabelled || keyed,
            seeds: !self.seeds.take().is_empty(),
        }
    }
}

/// Which slices make up the endpoints of a Service. A slice that is gone no longer says whose it was, so that is kept.
#[derive(Default)]
pub struct SliceIndex {
    /// Mostly one slice each, or one of each family.
    services: BTreeMap<ObjectKey, SmallVec<[ObjectKey; 2]>>,
    /// The Service of each slice; both are in one namespace.
    slices: BTreeMap<ObjectKey, ObjectKey>,
}

impl SliceIndex {
    /// Takes in a changed slice. Returns the Services that it concerns: its own, and the one that it was of before.
    pub fn update(&mut self, key: &ObjectKey, slice: Option<&Slice>) -> BTreeSet<ObjectKey> {
        let mut concerned = BTreeSet::new();
        let after = slice.map(|slice| slice.service.clone());
        let before = match &after {
            Some(after) => self.slices.insert(key.clone(), after.clone()),
            None => self.slices.remove(key),
        };
        if let Some(before) = before.filter(|before| Some(before) != after.as_ref()) {
            if let Some(slices) = self.services.get_mut(&before) {
                slices.retain(|slice| slice != key);
                if slices.is_empty() {
                    self.services.remove(&before);
                }
            }
            concerned.insert(before);
        }
        if let Some(after) = after {
            let slices = self.services.entry(after.clone()).or_default();
            if !slices.contains(key) {
                slices.push(key.clone());
            }
            concerned.insert(after);
        }
        concerned
    }

    /// The endpoints of a Service from all its slices.
    #[must_use]
    pub fn endpoints(&self, service: &ObjectKey, slices: &Store<Slice>) -> Endpoints {
        let mut endpoints = Endpoints::default();
        for key in self.services.get(service).into_iter().flatten() {
            if let Some(slice) = slices.get(key) {
                endpoints.any |= slice.any;
                endpoints
                    .nodes
                    .extend(slice.nodes.iter().map(ToString::to_string));
            }
        }
        endpoints
    }

    /// Lays everything out anew, in less room.
    pub fn repack(&mut self) {
        self.services = std::mem::take(&mut self.services).into_iter().collect();
        self.slices = std::mem::take(&mut self.slices).into_iter().collect();
    }

    /// Every slice known.
    pub fn known(&self) -> impl Iterator<Item = &ObjectKey> {
        self.slices.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_that_goes_or_changes_hands_concerns_its_former_service() {
        let (slice_key, a, b) = (
            ObjectKey::new("n", "s-1"),
            ObjectKey::new("n", "a"),
            ObjectKey::new("n", "b"),
        );
        let of = |service: &ObjectKey| Slice {
            service: service.clone(),
            any: true,
            nodes: Arc::default(),
        };
        let mut index = SliceIndex::default();
        assert_eq!(
            index.update(&slice_key, Some(&of(&a))),
            BTreeSet::from([a.clone()])
        );
        assert_eq!(
            index.update(&slice_key, Some(&of(&b))),
            BTreeSet::from([a.clone(), b.clone()])
        );
        assert_eq!(index.update(&slice_key, None), BTreeSet::from([b]));
        assert!(index.services.is_empty() && index.slices.is_empty());
        assert!(index.update(&slice_key, None).is_empty());
    }
}
