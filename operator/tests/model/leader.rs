//! The one process that leads: a real decider between a watch that is late and writes that take their time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use ferrolb_allocation::EventKind;
use ferrolb_api::ObjectKey;
use ferrolb_cluster::store::{StoreWriter, store};
use ferrolb_cluster::{ChangeFeed, Changes, Store};
use ferrolb_operator::decide::Decider;
use ferrolb_operator::effects::Effect;
use ferrolb_operator::project::Observed;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;

use crate::spec::{Config, NAMESPACES};

/// A status write, as the operator would send it.
#[derive(Clone, Debug)]
pub struct Write {
    pub key: ObjectKey,
    pub version: String,
    pub addresses: Vec<IpAddr>,
    pub pool: Option<String>,
    pub conditions: Option<Vec<Condition>>,
}

/// The process that leads.
pub struct Leader {
    pub decider: Decider,
    pub store: Store<Observed>,
    pub writer: StoreWriter<Observed>,
    pub feed: ChangeFeed,
    /// Watch events on their way.
    pub events: VecDeque<(ObjectKey, String, Option<Observed>)>,
    /// Which configuration is in force here.
    pub config: usize,
    pub retry: BTreeSet<ObjectKey>,
    pub waiting: BTreeMap<ObjectKey, Write>,
    pub under_way: BTreeMap<ObjectKey, Write>,
    /// The version of each Service at which it was told last that it loses its addresses.
    losses: BTreeMap<ObjectKey, String>,
    /// Who was told twice of one loss.
    pub findings: Vec<String>,
}

impl Leader {
    pub fn new() -> Self {
        let (writer, store) = store("Service");
        let feed = store.subscribe();
        Leader {
            decider: Decider::default(),
            store,
            writer,
            feed,
            events: VecDeque::new(),
            config: 0,
            retry: BTreeSet::new(),
            waiting: BTreeMap::new(),
            under_way: BTreeMap::new(),
            losses: BTreeMap::new(),
            findings: Vec::new(),
        }
    }

    /// Writes that it has decided on and not sent.
    pub fn undone(&self) -> Vec<Write> {
        self.waiting.values().cloned().collect()
    }

    pub fn use_pools(&mut self, config: &Config) {
        self.decider
            .use_pools(&config.checked().pools, BTreeSet::new());
    }

    /// Takes in the newest configuration as the operator's loop does.
    pub fn configure(&mut self, configs: &[Config], changes: &mut Changes) {
        let (before, newest) = (&configs[self.config], configs.last().unwrap());
        if before.pools != newest.pools {
            self.use_pools(newest);
            changes.all = true;
        }
        let namespaces = newest.checked_namespaces();
        for (index, name) in NAMESPACES.iter().enumerate() {
            if before.namespaces[index] != newest.namespaces[index] {
                self.decider
                    .use_namespace(name, namespaces.get(*name).cloned());
                self.store.with(|services| {
                    let inside = services.keys().filter(|key| key.namespace() == *name);
                    changes.keys.extend(inside.cloned());
                });
            }
        }
        if changes.all {
            changes.keys.clear();
        }
        self.config = configs.len() - 1;
    }

    pub fn decide(&mut self, changes: &Changes, now: Timestamp) {
        let (waiting, losses, findings) = (&mut self.waiting, &mut self.losses, &mut self.findings);
        let store = self.store.clone();
        self.decider
            .decide_changes(changes, &self.store, now, |key, _, effects| {
                waiting.remove(key);
                for effect in effects {
                    if let Effect::WriteStatus {
                        key,
                        resource_version,
                        addresses,
                        pool,
                        conditions,
                        ..
                    } = effect
                    {
                        let write = Write {
                            key: key.clone(),
                            version: resource_version,
                            addresses,
                            pool,
                            conditions,
                        };
                        waiting.insert(key, write);
                    } else if let Effect::Say {
                        key,
                        kind: EventKind::ClearAssignment,
                        message,
                        ..
                    } = effect
                    {
                        let version = store
                            .get(&key)
                            .map(|seen| seen.resource_version().to_owned());
                        let version = version.unwrap_or_default();
                        if losses.insert(key.clone(), version.clone()) == Some(version) {
                            findings.push(format!("{key} is told once more: {message}"));
                        }
                    }
                }
                Vec::new()
            });
    }
}
