//! The parts of Kubernetes' own objects that a speaker reads, under their names there.
//!
//! A field that is null is one that is not there, as for Kubernetes. Whole objects are many times as large, as is the code that parses them: a Pod alone has thirty kinds of volumes.

#![allow(missing_docs, reason = "the names are those of the Kubernetes API")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

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
    #[serde(deserialize_with = "or_default")]
    pub metadata: Metadata,
    #[serde(deserialize_with = "or_default")]
    pub spec: ServiceSpec,
    #[serde(deserialize_with = "or_default")]
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
    #[serde(deserialize_with = "or_default")]
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
    #[serde(deserialize_with = "or_default")]
    pub metadata: Metadata,
    pub endpoints: Option<Vec<Endpoint>>,
}

/// One of its endpoints.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Endpoint {
    pub addresses: Option<Vec<IgnoredAny>>,
    #[serde(deserialize_with = "or_default")]
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
    #[serde(deserialize_with = "or_default")]
    pub metadata: Metadata,
    #[serde(deserialize_with = "or_default")]
    pub status: NodeStatus,
}

/// Of its `status`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    pub conditions: Option<Vec<NodeCondition>>,
}

/// What holds of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeCondition {
    #[serde(rename = "type")]
    pub type_: Option<String>,
    pub status: Option<String>,
}

/// Of a Pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pod {
    #[serde(deserialize_with = "or_default")]
    pub spec: PodSpec,
    #[serde(deserialize_with = "or_default")]
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
    pub conditions: Option<Vec<PodCondition>>,
    pub container_statuses: Option<Vec<ContainerStatus>>,
}

/// What holds of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodCondition {
    #[serde(rename = "type")]
    pub type_: Option<String>,
    pub status: Option<String>,
    pub last_transition_time: Option<Time>,
}

/// Of one of its containers.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerStatus {
    #[serde(deserialize_with = "or_default")]
    pub restart_count: i32,
    #[serde(deserialize_with = "or_default")]
    pub last_state: ContainerState,
    #[serde(deserialize_with = "or_default")]
    pub state: ContainerState,
}

/// In which of these states it is. What it was in last is none of all as long as it never ended.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<T: for<'de> Deserialize<'de>>(text: &str) -> T {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn what_is_null_is_not_there() {
        for text in [
            r#"{"metadata":null,"spec":null,"status":null}"#,
            r#"{"metadata":{"labels":null,"annotations":null},"status":{"loadBalancer":null}}"#,
            r#"{"status":{"loadBalancer":{"ingress":null}}}"#,
            r#"{"status":{"loadBalancer":{"ingress":[{"ip":null,"hostname":"x"}]}}}"#,
        ] {
            parse::<Service>(text);
        }
        for text in [
            r#"{"endpoints":null}"#,
            r#"{"endpoints":[{"addresses":null,"conditions":null,"nodeName":null}]}"#,
            r#"{"endpoints":[{"addresses":["192.0.2.1"],"conditions":{"ready":null}}]}"#,
        ] {
            parse::<EndpointSlice>(text);
        }
        for text in [
            r#"{"status":null}"#,
            r#"{"status":{"conditions":null}}"#,
            r#"{"status":{"conditions":[{"type":null,"status":null,"lastTransitionTime":"9999-12-31T23:59:59Z"}]}}"#,
        ] {
            parse::<Node>(text);
        }
        for text in [
            r#"{"spec":null,"status":null}"#,
            r#"{"spec":{"nodeName":null},"status":{"phase":null,"podIP":null,"conditions":null,"containerStatuses":null}}"#,
            r#"{"status":{"conditions":[{"type":null,"status":null,"lastTransitionTime":null}]}}"#,
            r#"{"status":{"containerStatuses":[{"restartCount":null,"lastState":null,"state":null}]}}"#,
            r#"{"status":{"containerStatuses":[{"state":{"waiting":{},"running":null,"terminated":null}}]}}"#,
            r#"{"status":{"containerStatuses":[{"state":{"running":{"startedAt":null}}}]}}"#,
        ] {
            parse::<Pod>(text);
        }
    }
}
