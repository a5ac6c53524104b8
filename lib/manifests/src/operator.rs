//! The operator: two replicas, one of which leads.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, PodSpec};

use crate::{Component, Installation, pod, ports};

impl Installation {
    /// The operator's workload. The second replica has a warm view of the cluster, so that a takeover costs only the Lease.
    pub fn operator(&self) -> Deployment {
        let component = Component::Operator;
        let container = Container {
            ports: Some(vec![pod::port("health", ports::HEALTH)]),
            liveness_probe: pod::alive(None),
            readiness_probe: pod::ready(None),
            security_context: Some(pod::unprivileged_container()),
            ..pod::container(self, component, ("32Mi", "512Mi"))
        };
        let spec = PodSpec {
            containers: vec![container],
            security_context: Some(pod::unprivileged_pod()),
            affinity: pod::apart(component),
            priority_class_name: Some("system-cluster-critical".to_owned()),
            // Long enough to finish the writes under way and to give up the Lease.
            termination_grace_period_seconds: Some(10),
            ..PodSpec::default()
        };
        pod::two_replicas(self, component, spec)
    }
}
