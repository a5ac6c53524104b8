//! The parts of Kubernetes' own objects that a speaker reads, under their names there.
//!
//! Whole objects are many times as large, as is the code that parses them: a Pod alone has thirty kinds of volumes.

#![allow(missing_docs, reason = "the names are those of the Kubernetes API")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Of `metadata`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Metadata {
    pub namespace: Option<String>,
    pub uid: Option<String>,
    pub labels: Option<BTreeMap<String, String>>,
    pub annotations: Option<BTreeMap<String, String>>,
}

/// Of a Service.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Service {
    pub metadata: Metadata,
    pub spec: ServiceSpec,
    pub status: ServiceStatus,
}

/// Of its `spec`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSpec {
    #[serde(rename = "type")]
    pub type_: Option<String>,
    pub load_balancer_class: Option<String>,
    pub external_traffic_policy: Option<String>,
}

/// Of its `status`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceStatus {
    pub load_balancer: LoadBalancer,
}

/// Of that.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct LoadBalancer {
    pub ingress: Option<Vec<Ingress>>,
}

/// One of its addresses.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Ingress {
    pub ip: Option<String>,
}

/// Of an EndpointSlice.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct EndpointSlice {
    pub metadata: Metadata,
    pub endpoints: Option<Vec<Endpoint>>,
}

/// One of its endpoints.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Endpoint {
    pub addresses: Option<Vec<IgnoredAny>>,
    pub conditions: EndpointConditions,
    pub node_name: Option<Box<str>>,
}

/// What holds of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct EndpointConditions {
    pub ready: Option<bool>,
    pub serving: Option<bool>,
}

/// Of a Node.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    pub metadata: Metadata,
    pub status: NodeStatus,
}

/// Of its `status`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    pub conditions: Option<Vec<Condition>>,
}

/// What holds of a Node or a Pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Condition {
    #[serde(rename = "type")]
    pub type_: String,
    pub status: String,
    pub last_transition_time: Option<Time>,
}

/// Of a Pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pod {
    pub spec: PodSpec,
    pub status: PodStatus,
}

/// Of its `spec`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    pub node_name: Option<Box<str>>,
}

/// Of its `status`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    pub phase: Option<String>,
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    pub conditions: Option<Vec<Condition>>,
    pub container_statuses: Option<Vec<ContainerStatus>>,
}

/// Of one of its containers.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerStatus {
    pub restart_count: i32,
    pub last_state: ContainerState,
    pub state: ContainerState,
}

/// In which of these states it is; in none of them before it was in any.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    pub waiting: Option<IgnoredAny>,
    pub running: Option<Running>,
    pub terminated: Option<IgnoredAny>,
}

/// It runs.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Running {
    pub started_at: Option<Time>,
}
