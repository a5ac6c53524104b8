//! What new objects are judged beside, kept ready while the cluster changes.

use std::sync::{Arc, PoisonError, RwLock};

use ferrolb_cluster::{Client, ConfigurationStores, Status, Store, WatchConfig, watch};
use ferrolb_rules::{Known, LastGood, Node};
use ferrolb_serving::Readiness;
use k8s_openapi::api::core::v1 as core;
use tokio::sync::Notify;

/// The newest [`Known`]. Cheap to clone; all clones share it.
#[derive(Clone, Default)]
pub struct Snapshot(Arc<RwLock<Option<Arc<Known>>>>);

impl Snapshot {
    /// What is known, once every kind is listed.
    #[must_use]
    pub fn known(&self) -> Option<Arc<Known>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Replaces what is known.
    pub fn replace(&self, known: Known) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(known));
    }
}

/// The watches.
pub struct Watched {
    configuration: ConfigurationStores,
    nodes: Store<Node>,
}

impl Watched {
    /// Watches our kinds in `namespace`, where alone they count (reference section 1), and the nodes.
    pub fn begin(client: &Client, namespace: &str) -> Self {
        // An answer based on an older list could let an overlap pass that was applied a moment ago.
        let config = WatchConfig::most_recent();
        Self {
            configuration: ConfigurationStores::watch(client, namespace, &config, Status::Dropped),
            nodes: watch(client, WatchConfig::most_recent(), |node: &core::Node| {
                Some(Node::from(node))
            }),
        }
    }

    /// Makes readiness depend on each store, and on what is prepared of them.
    pub fn require(&self, readiness: &Readiness, snapshot: &Snapshot) {
        let stores = self.configuration.clone();
        macro_rules! listed {
            ($($store:ident: $what:literal),*) => {$(
                let store = stores.$store.clone();
                readiness.require(concat!($what, " are listed"), move || store.is_ready());
            )*};
        }
        listed!(
            pools: "IPAddressPools",
            l2_advertisements: "L2Advertisements",
            bgp_advertisements: "BGPAdvertisements",
            peers: "BGPPeers",
            bfd_profiles: "BFDProfiles",
            communities: "Communities"
        );
        let nodes = self.nodes.clone();
        readiness.require("Nodes are listed", move || nodes.is_ready());
        let snapshot = snapshot.clone();
        readiness.require("what is listed is read", move || snapshot.known().is_some());
    }

    /// Keeps `snapshot` up to date for ever. The work of a change grows with the objects there are (about 1 µs each) and lies
    /// beside the path of answers.
    pub async fn keep(self, snapshot: Snapshot) {
        let changed = Arc::new(Notify::new());
        let feed = self.configuration.subscribe_with(&changed);
        let node_feed = self.nodes.subscribe_with(changed.clone());
        self.configuration.ready().await;
        self.nodes.ready().await;
        let mut last_good = LastGood::default();
        loop {
            // Both are emptied before reading, so that a change meanwhile wakes again.
            let (_, _) = (feed.take(), node_feed.take());
            let nodes = self.nodes.snapshot();
            let nodes = nodes.values().map(|node| Node::clone(node.value()));
            let objects = self.configuration.objects();
            let known = Known::new(objects, &mut last_good, Some(nodes.collect()));
            snapshot.replace(known);
            changed.notified().await;
        }
    }
}
