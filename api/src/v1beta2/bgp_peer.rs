//! Which router to speak BGP with, and how (reference section 1.4).

use k8s_openapi::api::core::v1::SecretReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use validator::Validate;

use crate::in_force::InForce;
use crate::v1beta1::SessionState;

/// One router, and the session that each selected node keeps with it.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[kube(
    group = "metallb.io",
    version = "v1beta2",
    kind = "BGPPeer",
    plural = "bgppeers",
    namespaced,
    status = "BGPPeerStatus",
    derive = "PartialEq",
    derive = "Default",
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
#[schemars(extend("x-kubernetes-validations" = crate::cel::peers::v1beta2()))]
#[schemars(transform = crate::cel::ranges::told)]
pub struct BGPPeerSpec {
    /// The autonomous system of our side of the session, 1 to 4294967295.
    #[serde(rename = "myASN")]
    #[schemars(extend("x-kubernetes-validations" = crate::cel::peers::my_asn()))]
    #[validate(range(min = 0i64, max = 4_294_967_295i64))]
    pub my_asn: i64,

    /// The autonomous system of the router; 0 counts as absent. Either this or dynamicASN is given.
    #[serde(default, rename = "peerASN", skip_serializing_if = "Option::is_none")]
    #[validate(range(min = 0i64, max = 4_294_967_295i64))]
    pub peer_asn: Option<i64>,

    /// Learns the router's autonomous system: internal accepts only our own, external only another.
    #[serde(
        default,
        rename = "dynamicASN",
        skip_serializing_if = "Option::is_none"
    )]
    pub dynamic_asn: Option<DynamicASN>,

    /// An autonomous system to show this router in place of myASN, 1 to 4294967295.
    #[serde(default, rename = "localASN", skip_serializing_if = "Option::is_none")]
    #[validate(range(min = 1i64, max = 4_294_967_295i64))]
    pub local_asn: Option<i64>,

    /// The address of the router. Either this or interface is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = crate::cel::addresses::address("invalid BGPPeer address", "an IPv4 or IPv6 address")))]
    pub peer_address: Option<String>,

    /// The host interface behind which the router is found by its link-local address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,

    /// The address that our side of the session has, of the family of peerAddress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = crate::cel::addresses::address("invalid source IP", "an address of the nodes")))]
    pub source_address: Option<String>,

    /// The TCP port of the router, 1 to 16384.
    #[serde(default = "bgp_port")]
    #[validate(range(min = 1, max = 16384))]
    pub peer_port: i32,

    /// The hold time to propose, such as 90s: 0s, or 3s to 65535s; three times keepaliveTime if absent and that is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100), extend("x-kubernetes-validations" = crate::cel::peers::hold_time()))]
    pub hold_time: Option<String>,

    /// The time between keepalives, such as 30s; not longer than the hold time, a third of it if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100), extend("x-kubernetes-validations" = crate::cel::peers::keepalive_time()))]
    pub keepalive_time: Option<String>,

    /// The time between attempts to connect, in whole seconds from 1s to 65535s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100), extend("x-kubernetes-validations" = crate::cel::peers::connect_time()))]
    pub connect_time: Option<String>,

    /// The BGP identifier of the node, written as an IPv4 address other than 0.0.0.0.
    #[serde(default, rename = "routerID", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = crate::cel::addresses::router_id()))]
    pub router_id: Option<String>,

    /// Labels of the nodes that keep the session; empty means every node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::label_selectors")]
    pub node_selectors: Vec<LabelSelector>,

    /// The password for TCP MD5 signatures. A Secret is the better place; see passwordSecret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,

    /// A Secret of type kubernetes.io/basic-auth in FerroLB's namespace, whose key password is used for TCP MD5 signatures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::secret_reference")]
    pub password_secret: Option<SecretReference>,

    /// The name of a BFDProfile; a BFD session then watches the path to the router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd_profile: Option<String>,

    /// Offers graceful restart (RFC 4724), so that the router keeps our routes while the speaker restarts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "self == oldSelf",
        "message": "EnableGracefulRestart cannot be changed after creation; put it back, or delete the peer and create it anew"
    }]))]
    pub enable_graceful_restart: Option<bool>,

    /// The router is more than one hop away although it is in another autonomous system; not for one in our own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebgp_multi_hop: Option<bool>,

    /// The Linux VRF that the session uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vrf: Option<String>,

    /// Deprecated and without effect.
    #[serde(default, rename = "disableMP")]
    pub disable_mp: bool,

    /// Carries both address families over the one session.
    #[serde(default)]
    pub dual_stack_address_family: bool,
}

impl Default for BGPPeerSpec {
    fn default() -> Self {
        Self {
            my_asn: 0,
            peer_asn: None,
            dynamic_asn: None,
            local_asn: None,
            peer_address: None,
            interface: None,
            source_address: None,
            peer_port: bgp_port(),
            hold_time: None,
            keepalive_time: None,
            connect_time: None,
            router_id: None,
            node_selectors: Vec::new(),
            password: None,
            password_secret: None,
            bfd_profile: None,
            enable_graceful_restart: None,
            ebgp_multi_hop: None,
            vrf: None,
            disable_mp: false,
            dual_stack_address_family: false,
        }
    }
}

/// RFC 4271 section 8.2.1.
fn bgp_port() -> i32 {
    179
}

/// How the router's autonomous system is learned. The schema has had this enum for as long as the field exists, so no
/// other value can be stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DynamicASN {
    /// The router is in our own autonomous system (iBGP).
    #[default]
    Internal,
    /// The router is in another autonomous system (eBGP).
    External,
}

/// What FerroLB found out about the peer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BGPPeerStatus {
    /// Accepted, ResolvedRefs and Programmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,

    /// In which form the object is in force; absent where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force: Option<InForce>,

    /// On how many of the nodes that nodeSelectors select the session is established, such as 2/3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub established: Option<String>,

    /// How many nodes have an established session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub established_nodes: Option<i64>,

    /// How many nodes nodeSelectors select.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected_nodes: Option<i64>,

    /// The session of each node that nodeSelectors select, those that are not established first; at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["node"]))]
    pub sessions: Vec<NodeSession>,
}

/// How the session of one node is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeSession {
    /// The name of the node.
    pub node: String,

    /// Whether the session is established.
    pub state: SessionState,

    /// Since when, to the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::time")]
    pub since: Option<Time>,

    /// Why the session, or the last attempt to have one, ended, or why there is none. Kept while a later session is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,

    /// Prefixes that the peer was told. While nothing else changes it may be a minute late.
    #[serde(default)]
    pub prefixes_sent: i64,
}
