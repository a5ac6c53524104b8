//! What a speaker knows when it decides.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ferrolb_rules::{Configuration, Labels, Pool};

/// Everything but the Service and its endpoints.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The node that this speaker runs on.
    pub me: &'a str,
    /// What people configured.
    pub configuration: &'a Configuration,
    /// Every node of the cluster.
    pub nodes: &'a BTreeMap<String, Node>,
    /// The nodes whose speakers are alive; `None` where membership is switched off (then every node counts).
    pub members: Option<&'a BTreeSet<String>>,
    /// `--ignore-exclude-lb`: the exclude label means nothing.
    pub ignore_exclude_label: bool,
}

/// What announcing reads of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The addresses in its status, in their order.
    pub ingress: Arc<[IpAddr]>,
    /// Labels, for the service selectors of advertisements.
    pub labels: Labels,
    /// `spec.externalTrafficPolicy`.
    pub traffic_policy: TrafficPolicy,
    /// Whether it carries an allow-shared-ip annotation.
    pub shares_address: bool,
}

/// `spec.externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// Any node forwards to any endpoint.
    Cluster,
    /// A node serves only from endpoints of its own.
    Local,
}

/// The endpoints of a Service that can serve: ready is absent or true, or serving is true (reference 4.1).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Endpoints {
    /// Whether there is one at all.
    pub any: bool,
    /// The nodes that host one.
    pub nodes: BTreeSet<String>,
}

/// What announcing reads of a Node.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Node {
    /// Labels, for node selectors.
    pub labels: BTreeMap<String, String>,
    /// Whether the condition NetworkUnavailable is True.
    pub network_unavailable: bool,
    /// Whether it carries `node.kubernetes.io/exclude-from-external-load-balancers`.
    pub excluded: bool,
}

/// Why this node does not announce a Service (reference 4.1, 4.2, 4.6); the names are MetalLB's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Withdrawn {
    /// The status names no address.
    NoIPAllocated,
    /// The addresses are not all in one pool.
    IpNotAllowed,
    /// Another node announces it, or none can.
    NotOwner,
    /// No advertisement matches both the Service and this node.
    NoMatchingAdvertisement,
    /// It shares an address and an advertisement selects Services.
    SharedIPWithServiceSelector,
    /// Its advertisements contradict each other in local preference.
    ConflictingAdvertisements,
    /// This node's network is unavailable.
    NodeNetworkUnavailable,
    /// This node is labelled to carry no load balancer.
    NodeLabeledExcludeBalancers,
    /// The traffic policy is Local and no endpoint here can serve.
    NoLocalEndpoints,
    /// No endpoint can serve.
    NoEndpoints,
}

impl View<'_> {
    /// The one pool that the addresses of a Service are in.
    pub(crate) fn pool_of(&self, service: &Service) -> Result<&Pool, Withdrawn> {
        if service.ingress.is_empty() {
            return Err(Withdrawn::NoIPAllocated);
        }
        self.configuration
            .pool_of(&service.ingress)
            .ok_or(Withdrawn::IpNotAllowed)
    }

    /// This speaker's own node, with no labels while the API has not shown it.
    pub(crate) fn my_node(&self) -> Option<&Node> {
        self.nodes.get(self.me)
    }

    /// Whether a node may carry load balancer traffic at all.
    pub(crate) fn is_available(&self, node: &Node) -> bool {
        !node.network_unavailable && (self.ignore_exclude_label || !node.excluded)
    }
}
