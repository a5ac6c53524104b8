//! What the pods of all components have in common.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction,
    ObjectFieldSelector, PodAffinityTerm, PodAntiAffinity, PodSecurityContext, PodSpec,
    PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile, SecurityContext,
    WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::{Component, Installation, ports};

/// The user that owns nothing; the image has no other.
const NOBODY: i64 = 65534;

/// The pod of a component around its one container.
pub(crate) fn template(component: Component, spec: PodSpec) -> PodTemplateSpec {
    let annotations = [(
        "kubectl.kubernetes.io/default-container".to_owned(),
        component.name().to_owned(),
    )];
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(component.selector()),
            annotations: Some(annotations.into()),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(component.name().to_owned()),
            node_selector: Some([("kubernetes.io/os".to_owned(), "linux".to_owned())].into()),
            // Nothing here finds Services by environment variables, and a large namespace makes hundreds of them.
            enable_service_links: Some(false),
            ..spec
        }),
    }
}

/// The container of a component. `memory` is what it asks for and the most it gets; a limit on the processor would only delay
/// announcements.
pub(crate) fn container(
    installation: &Installation,
    component: Component,
    memory: (&str, &str),
) -> Container {
    let quantity = |text: &str| Quantity(text.to_owned());
    let (requested, most) = memory;
    let requests: BTreeMap<String, Quantity> = [
        ("cpu".to_owned(), quantity("20m")),
        ("memory".to_owned(), quantity(requested)),
    ]
    .into();
    Container {
        name: component.name().to_owned(),
        image: Some(installation.image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(vec![format!("/{}", component.name())]),
        env: Some(vec![
            from_field("METALLB_NAMESPACE", "metadata.namespace"),
            from_field("METALLB_POD_NAME", "metadata.name"),
        ]),
        resources: Some(ResourceRequirements {
            requests: Some(requests),
            limits: Some([("memory".to_owned(), quantity(most))].into()),
            ..ResourceRequirements::default()
        }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

/// Nothing but its own memory: no user of the host, no capability, no file that it could change.
pub(crate) fn unprivileged_container() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: None,
        }),
        ..SecurityContext::default()
    }
}

/// See [`unprivileged_container`].
pub(crate) fn unprivileged_pod() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(NOBODY),
        run_as_group: Some(NOBODY),
        fs_group: Some(NOBODY),
        seccomp_profile: runtime_default(),
        ..PodSecurityContext::default()
    }
}

/// The container runtime's own list of system calls.
pub(crate) fn runtime_default() -> Option<SeccompProfile> {
    Some(SeccompProfile {
        type_: "RuntimeDefault".to_owned(),
        ..SeccompProfile::default()
    })
}

/// An environment variable that holds a field of the pod.
pub(crate) fn from_field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.to_owned(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

/// An environment variable with a value.
pub(crate) fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..EnvVar::default()
    }
}

/// A named TCP port.
pub(crate) fn port(name: &str, number: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

/// Restarts a process that no longer answers. `host` is where it listens, unless on the pod's address.
pub(crate) fn alive(host: Option<&str>) -> Option<Probe> {
    Some(Probe {
        http_get: Some(ask("/healthz", host)),
        period_seconds: Some(10),
        timeout_seconds: Some(3),
        failure_threshold: Some(3),
        ..Probe::default()
    })
}

/// Counts a process as ready once its view of the cluster is complete. Asked often, because a roll-out waits for it.
pub(crate) fn ready(host: Option<&str>) -> Option<Probe> {
    Some(Probe {
        http_get: Some(ask("/readyz", host)),
        period_seconds: Some(2),
        timeout_seconds: Some(2),
        failure_threshold: Some(3),
        ..Probe::default()
    })
}

/// A Deployment of two such pods.
pub(crate) fn two_replicas(
    installation: &Installation,
    component: Component,
    spec: PodSpec,
) -> Deployment {
    Deployment {
        metadata: installation.metadata(component, component.name()),
        spec: Some(DeploymentSpec {
            replicas: Some(2),
            selector: LabelSelector {
                match_labels: Some(component.selector()),
                ..LabelSelector::default()
            },
            template: template(component, spec),
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn ask(path: &str, host: Option<&str>) -> HTTPGetAction {
    HTTPGetAction {
        path: Some(path.to_owned()),
        host: host.map(str::to_owned),
        port: IntOrString::Int(ports::HEALTH),
        ..HTTPGetAction::default()
    }
}

/// Puts replicas on different nodes where there are enough; one node is enough for all of them.
pub(crate) fn apart(component: Component) -> Option<Affinity> {
    let elsewhere = PodAffinityTerm {
        label_selector: Some(LabelSelector {
            match_labels: Some(component.selector()),
            ..LabelSelector::default()
        }),
        topology_key: "kubernetes.io/hostname".to_owned(),
        ..PodAffinityTerm::default()
    };
    Some(Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![
                WeightedPodAffinityTerm {
                    weight: 100,
                    pod_affinity_term: elsewhere,
                },
            ]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    })
}
