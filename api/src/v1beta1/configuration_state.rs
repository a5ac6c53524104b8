//! Whether a component could use the configuration. FerroLB writes it, people read it (reference section 1.10).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Empty, and not even on the wire: the kind has only a status.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "ConfigurationState",
    plural = "configurationstates",
    namespaced,
    no_spec,
    status = "ConfigurationStateStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "ConfigurationState says whether a component of FerroLB could use the configuration.",
    printcolumn(name = "Result", type_ = "string", json_path = ".status.result"),
    printcolumn(
        name = "ErrorSummary",
        type_ = "string",
        json_path = ".status.errorSummary"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
pub struct ConfigurationStateSpec {}

/// What the component reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationStateStatus {
    /// Whether the configuration is valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ConfigurationResult>,

    /// The messages of the conditions that fail, one on each line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_summary: Option<String>,

    /// What each part of the component reports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,

    /// How the BGP sessions of a speaker's node are doing; FerroLB's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["peer"]))]
    pub bgp_sessions: Vec<BGPSession>,
}

/// How the session of one node with one BGP peer is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BGPSession {
    /// The name of the BGPPeer.
    pub peer: String,

    /// Whether the session is established.
    pub state: SessionState,

    /// Since when, to the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::time")]
    pub since: Option<Time>,

    /// Why the session, or the last attempt to have one, ended, or why there is none. Kept while a later session is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,

    /// Prefixes that the peer was told. While nothing else changes it may be 30 seconds late.
    #[serde(default)]
    pub prefixes_sent: i64,

    /// Prefixes that the session cannot carry.
    #[serde(default)]
    pub prefixes_not_advertised: i64,

    /// Why the first of those cannot be carried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_advertised_because: Option<String>,
}

/// How far a node is with a peer. The states in which a session comes about alternate every few seconds while there is none, so
/// they count as one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum SessionState {
    /// Nobody has said how it is.
    #[default]
    Unknown,
    /// The node does not try to have one, for a reason that is told.
    NoSession,
    /// The node tries to have one.
    NotEstablished,
    /// Routes are exchanged.
    Established,
}

/// Whether a configuration is valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConfigurationResult {
    /// The configuration is in use.
    Valid,
    /// The configuration is wrong and the last good one stays in use.
    Invalid,
    /// Nothing was reported yet.
    #[default]
    Unknown,
}
