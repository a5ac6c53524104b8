//! The deprecated form of `BGPPeer`; [`crate::v1beta2::BGPPeer`] is the one that is stored and read (reference section 1.5).

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use validator::Validate;

use crate::v1beta2::BGPPeerStatus;

/// One router, as it was written before v1beta2.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate,
)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "BGPPeer",
    plural = "bgppeers",
    namespaced,
    status = "BGPPeerStatus",
    derive = "PartialEq",
    derive = "Default",
    storage = false,
    deprecated = "v1beta1 is deprecated, please use v1beta2",
    doc = "BGPPeer is a router that nodes keep a BGP session with.",
    printcolumn(name = "Address", type_ = "string", json_path = ".spec.peerAddress"),
    printcolumn(name = "ASN", type_ = "string", json_path = ".spec.peerASN"),
    printcolumn(name = "BFD Profile", type_ = "string", json_path = ".spec.bfdProfile"),
    printcolumn(
        name = "Multi Hops",
        type_ = "string",
        json_path = ".spec.ebgpMultiHop"
    ),
    printcolumn(
        name = "Established",
        type_ = "string",
        json_path = ".status.established"
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::cel::peers::v1beta1()))]
#[schemars(transform = crate::cel::ranges::told)]
pub struct BGPPeerSpec {
    /// The autonomous system of our side of the session, 1 to 4294967295.
    #[serde(rename = "myASN")]
    #[schemars(extend("x-kubernetes-validations" = crate::cel::peers::my_asn()))]
    #[validate(range(min = 0i64, max = 4_294_967_295i64))]
    pub my_asn: i64,

    /// The autonomous system of the router. 0 stands for dynamicASN, which only v1beta2 has.
    #[serde(rename = "peerASN")]
    #[validate(range(min = 0i64, max = 4_294_967_295i64))]
    pub peer_asn: i64,

    /// The address of the router. Empty where v1beta2 has an interface in its place.
    #[schemars(extend("x-kubernetes-validations" = crate::cel::addresses::address("invalid BGPPeer address", "an IPv4 or IPv6 address")))]
    pub peer_address: String,

    /// The address that our side of the session has, of the family of peerAddress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = crate::cel::addresses::address("invalid source IP", "an address of the nodes")))]
    pub source_address: Option<String>,

    /// The TCP port of the router; 0 or absent means 179.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[validate(range(min = 0, max = 16384))]
    pub peer_port: Option<i32>,

    /// The hold time to propose, such as 90s: 3s to 65535s; three times keepaliveTime if absent or 0s and that is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100), extend("x-kubernetes-validations" = crate::cel::peers::hold_time()))]
    pub hold_time: Option<String>,

    /// The time between keepalives, such as 30s; not longer than the hold time, a third of it if absent or 0s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100), extend("x-kubernetes-validations" = crate::cel::peers::keepalive_time()))]
    pub keepalive_time: Option<String>,

    /// The BGP identifier of the node, written as an IPv4 address other than 0.0.0.0.
    #[serde(default, rename = "routerID", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = crate::cel::addresses::router_id()))]
    pub router_id: Option<String>,

    /// Labels of the nodes that keep the session; empty means every node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10000))]
    pub node_selectors: Vec<NodeSelector>,

    /// The password for TCP MD5 signatures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,

    /// The name of a BFDProfile; a BFD session then watches the path to the router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd_profile: Option<String>,

    /// The router is more than one hop away although it is in another autonomous system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebgp_multi_hop: Option<bool>,
}

/// Selects nodes by their labels; every condition must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeSelector {
    /// Labels that must be there with exactly this value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,

    /// Conditions on single labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 25))]
    pub match_expressions: Vec<MatchExpression>,
}

/// A condition on one label.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::cel::selectors::expression()))]
pub struct MatchExpression {
    /// The label's key.
    pub key: String,
    /// In, NotIn, Exists or DoesNotExist.
    pub operator: String,
    // MetalLB's schema wants at least one, so a peer that asks in v1beta2 for a label to exist would break it as v1beta1.
    /// The values for In and NotIn; empty for the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}
