//! The speaker: one on each node, in the node's own network.

use k8s_openapi::api::apps::v1::{
    DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet,
};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, KeyToPath, PodSecurityContext,
    PodSpec, SecretVolumeSource, SecurityContext, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::{Component, Installation, names, pod, ports};

/// Where the speaker finds the membership secret.
const MEMBERSHIP_FOLDER: &str = "/etc/ml_secret_key";
/// Where the speaker finds the list of excluded interfaces.
const CONFIGURATION_FOLDER: &str = "/etc/metallb";

impl Installation {
    /// The speakers' workload.
    pub fn speaker(&self) -> DaemonSet {
        let component = Component::Speaker;
        let mut container = pod::container(self, component, ("24Mi", "256Mi"));
        if let Some(variables) = &mut container.env {
            variables.extend([
                pod::from_field("METALLB_NODE_NAME", "spec.nodeName"),
                // With its name the owner of what it writes.
                pod::from_field("METALLB_POD_UID", "metadata.uid"),
                pod::from_field("METALLB_HOST", "status.hostIP"),
                pod::from_field("METALLB_ML_BIND_ADDR", "status.podIP"),
                pod::variable("METALLB_ML_LABELS", &selector_text(component)),
                pod::variable("METALLB_ML_SECRET_KEY_PATH", MEMBERSHIP_FOLDER),
            ]);
        }
        // The health port is on the host's loopback, so that it is not offered to the segment.
        const LOOPBACK: Option<&str> = Some("127.0.0.1");
        let container = Container {
            ports: Some(vec![host_port("membership", ports::MEMBERSHIP, "UDP")]),
            liveness_probe: pod::alive(LOOPBACK),
            readiness_probe: pod::ready(LOOPBACK),
            security_context: Some(raw_sockets()),
            volume_mounts: Some(vec![
                mount("membership", MEMBERSHIP_FOLDER),
                mount("excluded-interfaces", CONFIGURATION_FOLDER),
            ]),
            ..container
        };
        let spec = PodSpec {
            containers: vec![container],
            security_context: Some(PodSecurityContext {
                seccomp_profile: pod::runtime_default(),
                ..PodSecurityContext::default()
            }),
            host_network: Some(true),
            // Without this the pod would not find a collector of traces by its name in the cluster.
            dns_policy: Some("ClusterFirstWithHostNet".to_owned()),
            priority_class_name: Some("system-node-critical".to_owned()),
            // Long enough to withdraw routes and to tell the other speakers.
            termination_grace_period_seconds: Some(10),
            tolerations: Some(
                [
                    "node-role.kubernetes.io/control-plane",
                    "node-role.kubernetes.io/master",
                ]
                .map(tolerated)
                .into(),
            ),
            volumes: Some(vec![membership_volume(), excluded_interfaces_volume()]),
            ..PodSpec::default()
        };
        DaemonSet {
            metadata: self.metadata(component, component.name()),
            spec: Some(DaemonSetSpec {
                selector: LabelSelector {
                    match_labels: Some(component.selector()),
                    ..LabelSelector::default()
                },
                template: pod::template(component, spec),
                // Two speakers cannot share a node's ports, so the old one goes first; one node at a time keeps every
                // address announced by the others.
                update_strategy: Some(DaemonSetUpdateStrategy {
                    type_: Some("RollingUpdate".to_owned()),
                    rolling_update: Some(RollingUpdateDaemonSet {
                        max_unavailable: Some(IntOrString::Int(1)),
                        max_surge: None,
                    }),
                }),
                ..DaemonSetSpec::default()
            }),
            ..DaemonSet::default()
        }
    }
}

/// Root, because capabilities of a container reach only root; and of root's capabilities only the one for raw sockets.
fn raw_sockets() -> SecurityContext {
    SecurityContext {
        run_as_user: Some(0),
        capabilities: Some(Capabilities {
            add: Some(vec!["NET_RAW".to_owned()]),
            drop: Some(vec!["ALL".to_owned()]),
        }),
        ..pod::unprivileged_container()
    }
}

/// On the host's network a port of the container is one of the host; the scheduler then keeps a second speaker, such as
/// MetalLB's during a migration, off the node instead of letting it fail.
fn host_port(name: &str, number: i32, protocol: &str) -> ContainerPort {
    ContainerPort {
        host_port: Some(number),
        protocol: Some(protocol.to_owned()),
        ..pod::port(name, number)
    }
}

fn tolerated(key: &str) -> Toleration {
    Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some("NoSchedule".to_owned()),
        ..Toleration::default()
    }
}

fn mount(volume: &str, folder: &str) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: folder.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

/// Not optional: a speaker without the secret would be alone in its membership and announce everything.
fn membership_volume() -> Volume {
    Volume {
        name: "membership".to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(names::MEMBERSHIP_SECRET.to_owned()),
            default_mode: Some(0o400),
            items: Some(vec![KeyToPath {
                key: "secretkey".to_owned(),
                path: "secretkey".to_owned(),
                mode: None,
            }]),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// Optional, and not ours to write: without it the speaker takes its own list, and who has one of his own keeps it.
fn excluded_interfaces_volume() -> Volume {
    Volume {
        name: "excluded-interfaces".to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: names::EXCLUDED_INTERFACES.to_owned(),
            optional: Some(true),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn selector_text(component: Component) -> String {
    let pairs: Vec<String> = component
        .selector()
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(",")
}
