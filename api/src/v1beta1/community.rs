//! Names for BGP communities (reference section 1.7).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use validator::Validate;

use crate::absent::absent_is_default;
use crate::in_force::InForce;

/// Aliases that a BGPAdvertisement may use in place of community values. They are global across
/// all Community objects.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate,
)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "Community",
    plural = "communities",
    namespaced,
    status = "CommunityStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Community gives names to BGP communities."
)]
#[serde(rename_all = "camelCase", remote = "Self")]
pub struct CommunitySpec {
    /// The names and what they stand for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub communities: Vec<CommunityAlias>,
}

absent_is_default!(CommunitySpec);

/// One name and the community that it stands for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::cel::communities::alias()))]
pub struct CommunityAlias {
    /// The name; it is defined once among all Community objects.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,

    /// The community: 16bit:16bit or large:32bit:32bit:32bit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-validations" = crate::cel::communities::of_an_alias()))]
    pub value: String,
}

/// What FerroLB found out about the aliases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommunityStatus {
    /// Accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,

    /// In which form the object is in force; absent where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force: Option<InForce>,
}
