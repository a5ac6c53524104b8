//! Which pools are announced to routers, and how (reference section 1.3).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use validator::Validate;

use crate::absent::absent_is_default;
use crate::cel::{Rule, list};
use crate::in_force::InForce;

/// What to announce by BGP. With neither pool names nor pool selectors it covers every pool.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "BGPAdvertisement",
    plural = "bgpadvertisements",
    namespaced,
    status = "BGPAdvertisementStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "BGPAdvertisement makes nodes announce addresses of pools to BGP peers.",
    printcolumn(
        name = "IPAddressPools",
        type_ = "string",
        json_path = ".spec.ipAddressPools"
    ),
    printcolumn(
        name = "IPAddressPool Selectors",
        type_ = "string",
        json_path = ".spec.ipAddressPoolSelectors"
    ),
    printcolumn(name = "Peers", type_ = "string", json_path = ".spec.peers"),
    printcolumn(
        name = "Node Selectors",
        type_ = "string",
        json_path = ".spec.nodeSelectors",
        priority = 10
    )
)]
#[serde(rename_all = "camelCase", remote = "Self")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.serviceSelectors) || size(self.serviceSelectors) == 0 || ((!has(self.aggregationLength) || self.aggregationLength == 32) && (!has(self.aggregationLengthV6) || self.aggregationLengthV6 == 128))",
    "message": "serviceSelectors and aggregationLength are mutually exclusive, can only be used together with default aggregationLength (32) and aggregationLengthV6 (128); remove the aggregation lengths or the selectors",
    "fieldPath": ".serviceSelectors"
}]))]
#[schemars(transform = crate::cel::ranges::told)]
pub struct BGPAdvertisementSpec {
    /// Length of the IPv4 prefix that is announced for an address, 1 to 32.
    #[serde(default = "whole_ipv4")]
    #[schemars(extend("x-kubernetes-validations" = prefix_length("IPv4", 32)))]
    pub aggregation_length: i32,

    /// Length of the IPv6 prefix that is announced for an address, 1 to 128.
    #[serde(default = "whole_ipv6", rename = "aggregationLengthV6")]
    #[schemars(extend("x-kubernetes-validations" = prefix_length("IPv6", 128)))]
    pub aggregation_length_v6: i32,

    /// LOCAL_PREF of the routes, 0 to 4294967295; only peers in the same autonomous system see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[validate(range(min = 0i64, max = 4_294_967_295i64))]
    pub local_pref: Option<i64>,

    /// Communities of the routes: 16bit:16bit, large:32bit:32bit:32bit, or an alias from a Community object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::cel::communities::of_an_advertisement")]
    pub communities: Vec<String>,

    /// Names of pools. A name that no pool has selects nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_address_pools: Vec<String>,

    /// Labels of pools, united with ipAddressPools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::label_selectors")]
    pub ip_address_pool_selectors: Vec<LabelSelector>,

    /// Labels of the nodes that announce; empty means every node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::label_selectors")]
    pub node_selectors: Vec<LabelSelector>,

    /// Labels of the Services that are covered; empty means every Service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::label_selectors")]
    pub service_selectors: Vec<LabelSelector>,

    /// Names of the BGPPeers that receive the routes; empty means every peer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<String>,
}

absent_is_default!(BGPAdvertisementSpec);

impl Default for BGPAdvertisementSpec {
    fn default() -> Self {
        Self {
            aggregation_length: whole_ipv4(),
            aggregation_length_v6: whole_ipv6(),
            local_pref: None,
            communities: Vec::new(),
            ip_address_pools: Vec::new(),
            ip_address_pool_selectors: Vec::new(),
            node_selectors: Vec::new(),
            service_selectors: Vec::new(),
            peers: Vec::new(),
        }
    }
}

fn prefix_length(family: &str, longest: u8) -> serde_json::Value {
    list([Rule::new(
        format!("1 <= self && self <= {longest}"),
        &format!("invalid aggregation length for {family}; 1 to {longest} is allowed"),
    )])
}

fn whole_ipv4() -> i32 {
    32
}

fn whole_ipv6() -> i32 {
    128
}

/// What FerroLB found out about the advertisement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BGPAdvertisementStatus {
    /// Accepted, ResolvedRefs and Programmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,

    /// In which form the object is in force; absent where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force: Option<InForce>,
}
