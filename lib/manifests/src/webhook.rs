//! The webhook: who asks it about what, and how it is run.

use ferrolb_api::GROUP;
use k8s_openapi::api::admissionregistration::v1::{
    RuleWithOperations, ServiceReference, ValidatingWebhook, ValidatingWebhookConfiguration,
    WebhookClientConfig,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, PodSpec, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::{Component, Installation, names, pod, ports};

/// One kind that the webhook is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The entry's name in the registration (reference section 2.1).
    pub name: &'static str,
    /// The kind's plural.
    pub plural: &'static str,
    /// The version in which objects are sent; the API server converts from others.
    pub version: &'static str,
    /// Where the API server sends the object.
    pub path: &'static str,
    /// The changes that it is asked about.
    pub operations: &'static [&'static str],
}

/// The kinds that the webhook is asked about.
pub fn endpoints() -> [Endpoint; 6] {
    const CHANGES: &[&str] = &["CREATE", "UPDATE"];
    [
        Endpoint {
            name: "bfdprofilevalidationwebhook.metallb.io",
            plural: "bfdprofiles",
            version: "v1beta1",
            path: "/validate-metallb-io-v1beta1-bfdprofile",
            // A profile must not vanish under a peer. MetalLB does not ask about updates; the same rules hold for them.
            operations: &["CREATE", "UPDATE", "DELETE"],
        },
        Endpoint {
            name: "bgpadvertisementvalidationwebhook.metallb.io",
            plural: "bgpadvertisements",
            version: "v1beta1",
            path: "/validate-metallb-io-v1beta1-bgpadvertisement",
            operations: CHANGES,
        },
        Endpoint {
            name: "bgppeersvalidationwebhook.metallb.io",
            plural: "bgppeers",
            version: "v1beta2",
            path: "/validate-metallb-io-v1beta2-bgppeer",
            operations: CHANGES,
        },
        Endpoint {
            name: "communityvalidationwebhook.metallb.io",
            plural: "communities",
            version: "v1beta1",
            path: "/validate-metallb-io-v1beta1-community",
            operations: CHANGES,
        },
        Endpoint {
            name: "ipaddresspoolvalidationwebhook.metallb.io",
            plural: "ipaddresspools",
            version: "v1beta1",
            path: "/validate-metallb-io-v1beta1-ipaddresspool",
            operations: CHANGES,
        },
        Endpoint {
            name: "l2advertisementvalidationwebhook.metallb.io",
            plural: "l2advertisements",
            version: "v1beta1",
            path: "/validate-metallb-io-v1beta1-l2advertisement",
            operations: CHANGES,
        },
    ]
}

impl Endpoint {
    /// What the API server is to ask about.
    pub fn rule(&self) -> RuleWithOperations {
        RuleWithOperations {
            api_groups: Some(vec![GROUP.to_owned()]),
            api_versions: Some(vec![self.version.to_owned()]),
            operations: Some(
                self.operations
                    .iter()
                    .map(|&operation| operation.to_owned())
                    .collect(),
            ),
            resources: Some(vec![self.plural.to_owned()]),
            scope: Some("Namespaced".to_owned()),
        }
    }
}

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

    /// How API servers reach the webhook.
    pub fn webhook_service(&self) -> Service {
        Service {
            metadata: self.metadata(Component::Webhook, names::WEBHOOK_SERVICE),
            spec: Some(ServiceSpec {
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

    /// Tells API servers what to ask. The operator adds the certificate authority, so applying this again does not touch it.
    ///
    /// A webhook that does not answer lets changes pass: the same rules hold at run time, and a cluster whose webhook is
    /// down must still be repairable. Objects in every namespace are sent, so that one in the wrong namespace is refused
    /// rather than silently without effect.
    pub fn webhook_configuration(&self) -> ValidatingWebhookConfiguration {
        let mut metadata = self.metadata(Component::Webhook, names::WEBHOOK_CONFIGURATION);
        metadata.namespace = None;
        let entry = |endpoint: Endpoint| ValidatingWebhook {
            name: endpoint.name.to_owned(),
            admission_review_versions: vec!["v1".to_owned()],
            client_config: WebhookClientConfig {
                service: Some(ServiceReference {
                    name: names::WEBHOOK_SERVICE.to_owned(),
                    namespace: self.namespace.clone(),
                    path: Some(endpoint.path.to_owned()),
                    port: Some(443),
                }),
                ..WebhookClientConfig::default()
            },
            failure_policy: Some("Ignore".to_owned()),
            match_policy: Some("Equivalent".to_owned()),
            rules: Some(vec![endpoint.rule()]),
            side_effects: "None".to_owned(),
            timeout_seconds: Some(5),
            ..ValidatingWebhook::default()
        };
        ValidatingWebhookConfiguration {
            metadata,
            webhooks: Some(endpoints().map(entry).to_vec()),
        }
    }
}
