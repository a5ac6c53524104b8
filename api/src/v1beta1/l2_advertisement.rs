//! Which pools are announced on the local segment, and from where (reference section 1.2).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use validator::Validate;

use crate::absent::absent_is_default;
use crate::in_force::InForce;

/// What to announce by ARP and NDP. With neither pool names nor pool selectors it covers every pool.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate,
)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "L2Advertisement",
    plural = "l2advertisements",
    namespaced,
    status = "L2AdvertisementStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "L2Advertisement makes nodes answer ARP and NDP for addresses of pools.",
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
    printcolumn(name = "Interfaces", type_ = "string", json_path = ".spec.interfaces"),
    printcolumn(
        name = "Node Selectors",
        type_ = "string",
        json_path = ".spec.nodeSelectors",
        priority = 10
    )
)]
#[serde(rename_all = "camelCase", remote = "Self")]
pub struct L2AdvertisementSpec {
    /// Names of pools. A name that no pool has selects nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_address_pools: Vec<String>,

    /// Labels of pools, united with ipAddressPools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::label_selectors")]
    pub ip_address_pool_selectors: Vec<LabelSelector>,

    /// Labels of the nodes that may announce; empty means every node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::label_selectors")]
    pub node_selectors: Vec<LabelSelector>,

    /// Host interfaces on which to answer, by name; empty means all. An entry between slashes, such as /eth[0-9]+/, is a
    /// regular expression for the whole name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<String>,

    /// Labels of the Services that are covered; empty means every Service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::label_selectors")]
    pub service_selectors: Vec<LabelSelector>,

    /// Nodes that announce rather than others, as long as they can.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10000))]
    #[validate(nested)]
    pub preferred_node_selectors: Vec<PreferredNodeSelector>,
}

absent_is_default!(L2AdvertisementSpec);

/// How much a node is preferred when its labels match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = crate::cel::ranges::told)]
pub struct PreferredNodeSelector {
    /// Added to the score of each node that matches, 1 to 100.
    #[validate(range(min = 1, max = 100))]
    pub weight: i32,

    /// Labels of the node; an empty selector matches every node.
    #[schemars(schema_with = "crate::schema::label_selector")]
    pub preference: LabelSelector,
}

/// What FerroLB found out about the advertisement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct L2AdvertisementStatus {
    /// Accepted, ResolvedRefs, and InterfacesFound where interfaces are named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,

    /// In which form the object is in force; absent where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force: Option<InForce>,
}
