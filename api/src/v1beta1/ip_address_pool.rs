//! Which addresses Services may get (reference section 1.1).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::CustomResource;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use validator::Validate;

use crate::in_force::InForce;

/// Addresses that FerroLB may hand out, and to whom.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "IPAddressPool",
    plural = "ipaddresspools",
    namespaced,
    status = "IPAddressPoolStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "IPAddressPool is a set of addresses that Services of type LoadBalancer may get.",
    printcolumn(
        name = "Auto Assign",
        type_ = "boolean",
        json_path = ".spec.autoAssign"
    ),
    printcolumn(
        name = "Avoid Buggy IPs",
        type_ = "boolean",
        json_path = ".spec.avoidBuggyIPs"
    ),
    printcolumn(name = "Addresses", type_ = "string", json_path = ".spec.addresses")
)]
#[serde(rename_all = "camelCase")]
pub struct IPAddressPoolSpec {
    /// CIDR prefixes such as 192.0.2.0/24 and ranges such as 192.0.2.10-192.0.2.20, of IPv4 and IPv6. At least one, at most
    /// 10000; no two overlap.
    #[schemars(schema_with = "crate::cel::addresses::pool_addresses")]
    pub addresses: Vec<String>,

    /// When false, an address is handed out only to a Service that asks for it or for this pool.
    #[serde(default = "yes")]
    pub auto_assign: bool,

    /// When true, IPv4 addresses that end in .0 or .255 are never handed out.
    #[serde(default, rename = "avoidBuggyIPs")]
    pub avoid_buggy_ips: bool,

    /// Restricts which Services may use the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_allocation: Option<ServiceAllocation>,
}

impl Default for IPAddressPoolSpec {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            auto_assign: yes(),
            avoid_buggy_ips: false,
            service_allocation: None,
        }
    }
}

fn yes() -> bool {
    true
}

/// Which Services may use a pool, and how early the pool is tried. The namespace condition and the Service condition must
/// both hold; the entries within one list are alternatives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAllocation {
    /// The pool with the smallest priority is tried first; 0 or unset is tried last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,

    /// Names of namespaces whose Services may use the pool, united with namespaceSelectors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,

    /// Labels of namespaces whose Services may use the pool, united with namespaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::label_selectors")]
    pub namespace_selectors: Vec<LabelSelector>,

    /// Labels of Services that may use the pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::label_selectors")]
    pub service_selectors: Vec<LabelSelector>,
}

/// How full the pool is. The operator owns it and puts manual changes back.
///
/// The schema requires the four counters, as MetalLB's does; reading does not, because an admission request can carry a
/// status of nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = counters_are_required)]
pub struct IPAddressPoolStatus {
    /// How many IPv4 addresses are in use; an address that Services share counts once.
    #[serde(rename = "assignedIPv4")]
    pub assigned_ipv4: i64,

    /// How many IPv6 addresses are in use; an address that Services share counts once.
    #[serde(rename = "assignedIPv6")]
    pub assigned_ipv6: i64,

    /// How many IPv4 addresses are free.
    #[serde(rename = "availableIPv4")]
    pub available_ipv4: i64,

    /// How many IPv6 addresses are free.
    #[serde(rename = "availableIPv6")]
    pub available_ipv6: i64,

    /// Addresses that were freed a short time ago and are not given to another Service yet (ferrolb.io/reuse-hold).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held_addresses: Vec<HeldAddresses>,

    /// What FerroLB found out about the pool.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,

    /// In which form the object is in force; absent where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_force: Option<InForce>,
}

/// Addresses that wait for the end of the pool's ferrolb.io/reuse-hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldAddresses {
    /// One address such as 192.0.2.1, or the first and the last such as 192.0.2.1-192.0.2.9.
    pub addresses: String,

    /// When they may be given to any Service, in RFC 3339 with whole seconds.
    pub until: String,

    /// The Service that had them and may have them back before, as namespace/name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

fn counters_are_required(schema: &mut Schema) {
    const COUNTERS: [&str; 4] = [
        "assignedIPv4",
        "assignedIPv6",
        "availableIPv4",
        "availableIPv6",
    ];
    if let Some(properties) = schema
        .get_mut("properties")
        .and_then(|properties| properties.as_object_mut())
    {
        for counter in COUNTERS {
            if let Some(property) = properties
                .get_mut(counter)
                .and_then(|property| property.as_object_mut())
            {
                property.remove("default");
            }
        }
    }
    schema.insert("required".to_owned(), COUNTERS.into());
    schema.remove("default");
}
