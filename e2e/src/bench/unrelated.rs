//! Changes of a cluster's configuration, at random, that concern no Service and no session of those that are watched.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::MANY;
use crate::cluster::{SYSTEM, Site};
use crate::plan::{self, NODES};

/// Addresses that none of the watched Services has.
const ASIDE: &str = "10.99.0.0/24";
/// An address that nobody has.
const NOBODY: &str = "10.10.0.250";

/// The changes, from a seed that is told.
pub struct Unrelated<'a> {
    site: &'a Site,
    random: StdRng,
    seed: u64,
    made: BTreeMap<&'static str, u32>,
    /// The objects that are there now, by their paths.
    there: BTreeSet<String>,
    version: u32,
}

/// A kind of object that comes, changes and goes.
struct Kind {
    what: &'static str,
    collection: String,
    names: u32,
    object: fn(&str, u32) -> Value,
}

fn ours(plural: &str, version: &str) -> String {
    format!("/apis/metallb.io/{version}/namespaces/{SYSTEM}/{plural}")
}

fn object(kind: &str, version: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": format!("metallb.io/{version}"), "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn kinds() -> Vec<Kind> {
    vec![
        Kind {
            what: "Service",
            collection: "/api/v1/namespaces/default/services".to_owned(),
            names: 5,
            object: |name, version| {
                json!({
                    "apiVersion": "v1", "kind": "Service",
                    "metadata": {"name": name, "labels": {"bench": "aside", "version": version.to_string()}, "annotations": {"metallb.io/address-pool": "aside"}},
                    "spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "selector": {"app": "echo"},
                        "ports": [{"port": 80 + version % 100, "targetPort": 8080}]},
                })
            },
        },
        Kind {
            what: "IPAddressPool",
            collection: ours("ipaddresspools", "v1beta1"),
            names: 3,
            object: |name, version| {
                let digit = name.len() + name.bytes().map(usize::from).sum::<usize>() % 50;
                let ranges = [format!("10.98.{digit}.0/{}", 24 + version % 4)];
                object(
                    "IPAddressPool",
                    "v1beta1",
                    name,
                    &json!({"addresses": ranges, "autoAssign": false}),
                )
            },
        },
        Kind {
            what: "BGPAdvertisement",
            collection: ours("bgpadvertisements", "v1beta1"),
            names: 2,
            object: |name, version| {
                let community = format!("64512:{}", version % 60_000);
                object(
                    "BGPAdvertisement",
                    "v1beta1",
                    name,
                    &json!({"ipAddressPools": ["aside"], "communities": [community]}),
                )
            },
        },
        Kind {
            what: "Community",
            collection: ours("communities", "v1beta1"),
            names: 2,
            object: |name, version| {
                let alias = json!({"name": name, "value": format!("64512:{}", version % 60_000)});
                object(
                    "Community",
                    "v1beta1",
                    name,
                    &json!({"communities": [alias]}),
                )
            },
        },
        Kind {
            what: "BGPPeer",
            collection: ours("bgppeers", "v1beta2"),
            names: 1,
            object: |name, version| {
                let spec = json!({"myASN": plan::SPEAKER_ASN, "peerASN": 64_999, "peerAddress": NOBODY, "holdTime": format!("{}s", 30 + version % 60)});
                object("BGPPeer", "v1beta2", name, &spec)
            },
        },
        Kind {
            what: "BFDProfile",
            collection: ours("bfdprofiles", "v1beta1"),
            names: 2,
            object: |name, version| {
                object(
                    "BFDProfile",
                    "v1beta1",
                    name,
                    &json!({"receiveInterval": 50 + version % 100}),
                )
            },
        },
        Kind {
            what: "L2Advertisement",
            collection: ours("l2advertisements", "v1beta1"),
            names: 2,
            object: |name, version| {
                let pools = json!({"ipAddressPools": ["aside"], "interfaces": [format!("eth{}", version % 3)]});
                object("L2Advertisement", "v1beta1", name, &pools)
            },
        },
    ]
}

impl<'a> Unrelated<'a> {
    pub fn new(site: &'a Site, seed: u64) -> Self {
        Self {
            site,
            random: StdRng::seed_from_u64(seed),
            seed,
            made: BTreeMap::new(),
            there: BTreeSet::new(),
            version: 0,
        }
    }

    /// Makes one change.
    pub fn next(&mut self) -> Result<()> {
        self.version += 1;
        if self.version == 1 {
            let pool = object(
                "IPAddressPool",
                "v1beta1",
                "aside",
                &json!({"addresses": [ASIDE], "autoAssign": false}),
            );
            return self.create(
                "IPAddressPool",
                &ours("ipaddresspools", "v1beta1"),
                "aside",
                &pool,
            );
        }
        let kinds = kinds();
        // Two more: the label of a node that nothing selects by, and that of a Service that is watched.
        let chosen = self.random.random_range(0..kinds.len() + 2);
        let Some(kind) = kinds.get(chosen) else {
            let label =
                json!({"metadata": {"labels": {"lab.ferrolb.io/aside": self.version.to_string()}}});
            let (what, path) = if chosen == kinds.len() {
                let node = NODES.first().map_or("", |node| node.name);
                ("label of the node", format!("/api/v1/nodes/{node}"))
            } else {
                let number = self.random.random_range(0..100);
                let path = format!("/api/v1/namespaces/default/services/{MANY}-{number}");
                ("label of a watched Service", path)
            };
            self.count(what);
            return self.site.patch(&path, &label).map(drop);
        };
        let name = format!("aside-{}", self.random.random_range(0..kind.names));
        let path = format!("{}/{name}", kind.collection);
        let object = (kind.object)(&name, self.version);
        if !self.there.contains(&path) {
            return self.create(kind.what, &kind.collection, &name, &object);
        }
        self.count(kind.what);
        if self.random.random_bool(0.5) {
            self.there.remove(&path);
            return self.site.delete(&path);
        }
        self.site
            .patch(&path, &json!({"spec": object["spec"]}))
            .map(drop)
    }

    fn create(
        &mut self,
        what: &'static str,
        collection: &str,
        name: &str,
        object: &Value,
    ) -> Result<()> {
        self.count(what);
        self.there.insert(format!("{collection}/{name}"));
        self.site.create(collection, object).map(drop)
    }

    fn count(&mut self, what: &'static str) {
        *self.made.entry(what).or_default() += 1;
    }

    /// Takes away what is left of it.
    pub fn clean_up(&mut self) -> Result<()> {
        for path in std::mem::take(&mut self.there) {
            self.site.delete(&path)?;
        }
        Ok(())
    }

    /// How many of which, and the seed.
    pub fn summary(&self) -> String {
        let made = self
            .made
            .iter()
            .map(|(what, count)| format!("{what} {count}"));
        format!(
            "{} (seed {})",
            made.collect::<Vec<_>>().join(", "),
            self.seed
        )
    }
}
