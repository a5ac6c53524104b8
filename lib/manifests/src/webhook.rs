//! The webhook: how it is run and reached.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, PodSpec, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::{Component, Installation, names, pod, ports};

impl Installation {
    /// The webhook's workload. Every replica answers from its own view of the cluster.
    pub fn webhook(&self) -> Deployment {
        let component = Component::Webhook;
        let container = Container {
            ports: Some(vec![
                pod::port("webhook", ports::WEBHOOK),
                pod::port("health", ports::HEALTH),
            ]),
            liveness_probe: pod::alive(None),
            readiness_probe: pod::ready(None),
            security_context: Some(pod::unprivileged_container()),
            ..pod::container(self, component, ("24Mi", "256Mi"))
        };
        let spec = PodSpec {
            containers: vec![container],
            security_context: Some(pod::unprivileged_pod()),
            affinity: pod::apart(component),
            priority_class_name: Some("system-cluster-critical".to_owned()),
            // Requests keep arriving until every API server has seen that the pod is going.
            termination_grace_period_seconds: Some(20),
            ..PodSpec::default()
        };
        pod::two_replicas(self, component, spec)
    }

    /// How API servers reach the webhook to have objects judged.
    pub fn webhook_service(&self) -> Service {
        self.service(names::WEBHOOK_SERVICE, None)
    }

    /// How API servers reach the webhook to have objects converted, also while it is not ready. It becomes ready once it has
    /// listed the BGPPeers, and a list of objects that were stored in the older version needs the conversion: through the
    /// other Service each would wait for the other for ever. Converting needs nothing but the object.
    pub fn conversion_service(&self) -> Service {
        self.service(names::CONVERSION_SERVICE, Some(true))
    }

    fn service(&self, name: &str, publish_not_ready_addresses: Option<bool>) -> Service {
        Service {
            metadata: self.metadata(Component::Webhook, name),
            spec: Some(ServiceSpec {
                publish_not_ready_addresses,
                selector: Some(Component::Webhook.selector()),
                ports: Some(vec![ServicePort {
                    name: Some("webhook".to_owned()),
                    port: 443,
                    protocol: Some("TCP".to_owned()),
                    target_port: Some(IntOrString::Int(ports::WEBHOOK)),
                    ..ServicePort::default()
                }]),
                ..ServiceSpec::default()
            }),
            ..Service::default()
        }
    }

    /// Keeps one replica while nodes are drained.
    pub fn webhook_disruption_budget(&self) -> PodDisruptionBudget {
        PodDisruptionBudget {
            metadata: self.metadata(Component::Webhook, Component::Webhook.name()),
            spec: Some(PodDisruptionBudgetSpec {
                max_unavailable: Some(IntOrString::Int(1)),
                selector: Some(LabelSelector {
                    match_labels: Some(Component::Webhook.selector()),
                    ..LabelSelector::default()
                }),
                ..PodDisruptionBudgetSpec::default()
            }),
            ..PodDisruptionBudget::default()
        }
    }
}
