//! How closely BFD watches the path to a router (reference section 1.6).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use validator::Validate;

use crate::absent::absent_is_default;

/// Timers and modes of the BFD sessions that use the profile. Intervals are in milliseconds.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate,
)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "BFDProfile",
    plural = "bfdprofiles",
    namespaced,
    status = "BFDProfileStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "BFDProfile says how closely BFD watches the path to a BGP peer.",
    printcolumn(
        name = "Passive Mode",
        type_ = "boolean",
        json_path = ".spec.passiveMode"
    ),
    printcolumn(
        name = "Transmit Interval",
        type_ = "integer",
        json_path = ".spec.transmitInterval"
    ),
    printcolumn(
        name = "Receive Interval",
        type_ = "integer",
        json_path = ".spec.receiveInterval"
    ),
    printcolumn(
        name = "Multiplier",
        type_ = "integer",
        json_path = ".spec.detectMultiplier"
    )
)]
#[serde(rename_all = "camelCase", remote = "Self")]
#[schemars(transform = crate::cel::ranges::told)]
pub struct BFDProfileSpec {
    /// The shortest interval at which we can receive, in milliseconds; 300 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[validate(range(min = 10, max = 60000))]
    pub receive_interval: Option<i32>,

    /// The shortest interval at which we want to send, in milliseconds; 300 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[validate(range(min = 10, max = 60000))]
    pub transmit_interval: Option<i32>,

    /// How many packets may be missing before the path counts as down; 3 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[validate(range(min = 2, max = 255))]
    pub detect_multiplier: Option<i32>,

    /// The interval of echo packets, in milliseconds; 50 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[validate(range(min = 10, max = 60000))]
    pub echo_interval: Option<i32>,

    /// Sends echo packets that the router loops back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo_mode: Option<bool>,

    /// Waits for the router to send first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passive_mode: Option<bool>,

    /// For sessions over several hops: the lowest TTL that is accepted; 254 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[validate(range(min = 1, max = 254))]
    pub minimum_ttl: Option<i32>,
}

absent_is_default!(BFDProfileSpec);

/// What FerroLB found out about the profile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BFDProfileStatus {
    /// Accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,
}
