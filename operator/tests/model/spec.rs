//! What people may write in the model: Services and pools, each small enough to be enumerated.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferrolb_allocation::{Limit, Namespace, Namespaces};
use ferrolb_api::ObjectKey;
use ferrolb_rules::{AddressRange, Configuration, Labels, Pool, Selector, ServiceAllocation};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use proptest::prelude::*;
use serde_json::json;

pub const NAMESPACES: [&str; 2] = ["red", "blue"];
pub const POOLS: usize = 3;

/// A Service as somebody wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub load_balancer: bool,
    pub families: &'static [&'static str],
    pub policy: &'static str,
    /// The text of the annotation.
    pub wants: Option<String>,
    pub pool: Option<String>,
    pub share: Option<u8>,
    pub port: u16,
    pub local: bool,
    pub labelled: bool,
}

impl Spec {
    pub fn wanted(&self) -> Option<Vec<IpAddr>> {
        let text = self.wants.as_ref()?;
        text.split(',').map(|part| part.parse().ok()).collect()
    }

    pub fn is_dual(&self) -> bool {
        self.families.len() == 2
    }
}

/// The addresses of block `block`: four of IPv4 and two of IPv6 at most.
pub fn address(block: usize, six: bool, index: usize) -> IpAddr {
    let text = if six {
        format!("fd00:{block}::{index:x}")
    } else {
        format!("10.0.{block}.{index}")
    };
    text.parse().unwrap()
}

pub fn spec() -> impl Strategy<Value = Spec> {
    let families = prop_oneof![
        5 => Just((&["IPv4"][..], "SingleStack")),
        1 => Just((&["IPv6"][..], "SingleStack")),
        2 => Just((&["IPv4", "IPv6"][..], "PreferDualStack")),
        1 => Just((&["IPv6", "IPv4"][..], "PreferDualStack")),
        2 => Just((&["IPv4", "IPv6"][..], "RequireDualStack")),
        1 => Just((&["IPv4"][..], "PreferDualStack")),
        1 => Just((&["IPv4"][..], "RequireDualStack")),
    ];
    let one = (0..POOLS, any::<bool>(), 0usize..5)
        .prop_map(|(block, six, index)| address(block, six, index).to_string());
    let pair = (0..POOLS, 0..POOLS, 0usize..5, 0usize..3)
        .prop_map(|(a, b, i, j)| format!("{},{}", address(a, false, i), address(b, true, j)));
    let wants = prop_oneof![
        6 => Just(None),
        2 => one.prop_map(Some),
        1 => pair.prop_map(Some),
        1 => Just(Some("nonsense".to_owned())),
    ];
    let pool = prop_oneof![
        6 => Just(None),
        2 => (0..POOLS).prop_map(|pool| Some(format!("pool-{pool}"))),
        1 => Just(Some("unknown".to_owned())),
    ];
    let share = prop_oneof![3 => Just(None), 2 => (0u8..2).prop_map(Some)];
    let rest = (
        prop::bool::weighted(0.92),
        80u16..83,
        prop::bool::weighted(0.2),
        any::<bool>(),
    );
    (families, wants, pool, share, rest).prop_map(
        |((families, policy), wants, pool, share, (load_balancer, port, local, labelled))| Spec {
            load_balancer,
            families,
            policy,
            wants,
            pool,
            share,
            port,
            local,
            labelled,
        },
    )
}

/// The object that the API server would hold.
pub fn object(
    key: &ObjectKey,
    created: i64,
    spec: &Spec,
    pool: Option<&String>,
    status: &core::ServiceStatus,
) -> core::Service {
    let mut annotations = BTreeMap::new();
    let mut annotate = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            annotations.insert(key.to_owned(), value);
        }
    };
    annotate("metallb.io/loadBalancerIPs", spec.wants.clone());
    annotate("metallb.io/address-pool", spec.pool.clone());
    annotate(
        "metallb.io/allow-shared-ip",
        spec.share.map(|share| format!("key-{share}")),
    );
    annotate("metallb.io/ip-allocated-from-pool", pool.cloned());
    let cluster_ips: Vec<&str> = spec
        .families
        .iter()
        .map(|family| {
            if *family == "IPv4" {
                "10.96.0.1"
            } else {
                "fd96::1"
            }
        })
        .collect();
    let labels = if spec.labelled {
        json!({"app": "web"})
    } else {
        json!({})
    };
    let mut service: core::Service = serde_json::from_value(json!({
        "metadata": {
            "namespace": key.namespace(), "name": key.name(), "uid": "u", "labels": labels, "annotations": annotations,
            "creationTimestamp": k8s_openapi::jiff::Timestamp::from_second(created).unwrap().to_string(),
        },
        "spec": {
            "type": if spec.load_balancer { "LoadBalancer" } else { "ClusterIP" },
            "clusterIPs": cluster_ips, "ipFamilies": spec.families, "ipFamilyPolicy": spec.policy,
            "externalTrafficPolicy": if spec.local { "Local" } else { "Cluster" },
            "selector": {"app": "web"}, "ports": [{"port": spec.port}],
        },
    }))
    .unwrap();
    service.status = Some(status.clone());
    service
}

/// What is configured at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub pools: [Option<PoolSpec>; POOLS],
    /// Of each namespace: labelled, and its limit.
    pub namespaces: [(bool, Option<u32>); 2],
}

#[derive(Clone, Debug, PartialEq)]
pub struct PoolSpec {
    /// Whose addresses it has: pools may exchange theirs.
    pub block: usize,
    pub size4: usize,
    pub size6: usize,
    pub auto: bool,
    pub avoid_buggy: bool,
    pub exclude: Option<usize>,
    pub hold: bool,
    pub limit: Option<u32>,
    /// Priority, namespace, namespace label, Service label.
    pub allocation: Option<(i32, Option<usize>, bool, bool)>,
}

pub fn config() -> impl Strategy<Value = Config> {
    let allocation = prop::option::weighted(
        0.4,
        (
            0i32..3,
            prop::option::weighted(0.4, 0usize..2),
            prop::bool::weighted(0.2),
            prop::bool::weighted(0.3),
        ),
    );
    let pool = (
        (
            1usize..5,
            0usize..3,
            prop::bool::weighted(0.85),
            prop::bool::weighted(0.15),
        ),
        prop::option::weighted(0.2, 0usize..4),
        prop::bool::weighted(0.3),
        prop::option::weighted(0.15, 0u32..4),
        allocation,
    )
        .prop_map(
            |((size4, size6, auto, avoid_buggy), exclude, hold, limit, allocation)| PoolSpec {
                block: 0,
                size4,
                size6,
                auto,
                avoid_buggy,
                exclude,
                hold,
                limit,
                allocation,
            },
        );
    let pools = prop::array::uniform3(prop::option::weighted(0.85, pool));
    let namespace = (any::<bool>(), prop::option::weighted(0.15, 0u32..5));
    (
        pools,
        prop::array::uniform2(namespace),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(mut pools, namespaces, exchanged)| {
            for (index, pool) in pools.iter_mut().enumerate() {
                if let Some(pool) = pool {
                    pool.block = if exchanged {
                        (index + 1) % POOLS
                    } else {
                        index
                    };
                }
            }
            Config { pools, namespaces }
        })
}

impl PoolSpec {
    /// Every address that it may give, in no order.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        let four = (0..self.size4).map(|index| address(self.block, false, index));
        let six = (0..self.size6).map(|index| address(self.block, true, index));
        let excluded = self.exclude.map(|index| address(self.block, false, index));
        let buggy = |at: &IpAddr| matches!(at, IpAddr::V4(v4) if v4.octets()[3] == 0);
        four.chain(six)
            .filter(|at| Some(*at) != excluded && !(self.avoid_buggy && buggy(at)))
            .collect()
    }
}

impl Config {
    pub fn pools(&self) -> impl Iterator<Item = (usize, &PoolSpec)> {
        self.pools
            .iter()
            .enumerate()
            .filter_map(|(index, pool)| Some((index, pool.as_ref()?)))
    }

    /// As the rules would hand it over.
    pub fn checked(&self) -> Configuration {
        let mut configuration = Configuration::default();
        for (index, spec) in self.pools() {
            let range = |six, size: usize| -> Option<AddressRange> {
                let last = size.checked_sub(1)?;
                let (first, last) = (address(spec.block, six, 0), address(spec.block, six, last));
                Some(format!("{first}-{last}").parse().unwrap())
            };
            let ranges = range(false, spec.size4)
                .into_iter()
                .chain(range(true, spec.size6));
            let mut pool = Pool::new(format!("pool-{index}"), ranges.collect());
            pool.auto_assign = spec.auto;
            pool.avoid_buggy_ips = spec.avoid_buggy;
            pool.exclude = spec
                .exclude
                .filter(|at| *at < spec.size4)
                .map(|at| AddressRange::from(address(spec.block, false, at)))
                .into_iter()
                .collect();
            pool.reuse_hold = if spec.hold { 60 } else { 0 };
            pool.max_addresses_per_namespace = spec.limit;
            let selector = |key: &str, value: &str| {
                let labels = [(key.to_owned(), value.to_owned())].into();
                Selector::parse(&LabelSelector {
                    match_labels: Some(labels),
                    match_expressions: None,
                })
                .unwrap()
            };
            pool.service_allocation = spec.allocation.map(
                |(priority, namespace, labelled, service)| ServiceAllocation {
                    priority,
                    namespaces: namespace
                        .map(|index| NAMESPACES[index].to_owned())
                        .into_iter()
                        .collect(),
                    namespace_selectors: labelled
                        .then(|| selector("tier", "front"))
                        .into_iter()
                        .collect(),
                    service_selectors: service
                        .then(|| selector("app", "web"))
                        .into_iter()
                        .collect(),
                },
            );
            configuration.pools.insert(pool.name.clone(), pool);
        }
        configuration
    }

    pub fn checked_namespaces(&self) -> Namespaces {
        let each = NAMESPACES
            .iter()
            .zip(&self.namespaces)
            .map(|(name, (labelled, limit))| {
                let tier = labelled.then(|| ("tier".to_owned(), "front".to_owned()));
                let namespace = Namespace {
                    labels: tier.into_iter().collect(),
                    limit: limit.map_or(Limit::None, Limit::At),
                };
                ((*name).to_owned(), namespace)
            });
        each.collect()
    }

    /// Whether a pool serves a Service at all (reference 3.5), by the book.
    pub fn serves(&self, pool: &PoolSpec, key: &ObjectKey, spec: &Spec) -> bool {
        let Some((_, namespace, labelled, service)) = pool.allocation else {
            return true;
        };
        let index = NAMESPACES
            .iter()
            .position(|name| *name == key.namespace())
            .unwrap();
        let named = namespace == Some(index);
        let selected = labelled && self.namespaces[index].0;
        let restricted = namespace.is_some() || labelled;
        (!restricted || named || selected) && (!service || spec.labelled)
    }
}

#[test]
fn labels_are_what_selectors_see() {
    // The model and the code under test must mean the same by "labelled".
    let labels = Labels::from(&BTreeMap::from([("app".to_owned(), "web".to_owned())]));
    assert_ne!(labels, Labels::default());
}
