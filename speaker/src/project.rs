//! Objects of the API server, reduced to what announcing reads.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use ferrolb_announcement::{Node, Service, TrafficPolicy};
use ferrolb_api::annotations::{ALLOW_SHARED_IP, TRACEPARENT};
use ferrolb_api::{ObjectKey, Uid};
use ferrolb_rules::{Labels, password_of};
use k8s_openapi::api::core::v1::Secret;

use crate::parts;

/// The label by which nodes ask to be left alone (reference 4.1).
const EXCLUDE_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// The label by which a slice names its Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// A Service with what effects need beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// What announcing reads.
    pub service: Service,
    /// The uid, for events.
    pub uid: Uid,
    /// The trace that the change belongs to.
    pub traceparent: Option<Box<str>>,
}

/// One EndpointSlice.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// The Service that it belongs to, which is in the slice's own namespace.
    pub service: ObjectKey,
    /// Whether some endpoint can serve.
    pub any: bool,
    /// The nodes of those that can, sorted.
    pub nodes: NodeSet,
}

/// Names of nodes, sorted.
pub type NodeSet = Arc<[Box<str>]>;

/// The sets of nodes in use, each held once: thousands of Services mostly have their endpoints on a few.
#[derive(Default)]
pub struct NodeSets(Mutex<BTreeSet<NodeSet>>);

impl NodeSets {
    /// The one copy of these names.
    pub(crate) fn share(&self, nodes: Vec<Box<str>>) -> NodeSet {
        let mut sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = sets.get(nodes.as_slice()) {
            return Arc::clone(known);
        }
        // Each time that their number has doubled, those go that nobody has any more.
        if sets.len().is_power_of_two() {
            sets.retain(|set| Arc::strong_count(set) > 1);
        }
        let shared: NodeSet = nodes.into();
        sets.insert(Arc::clone(&shared));
        shared
    }
}

/// The TCP-MD5 key in a Secret; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(pub String);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<retracted>")
    }
}

/// A Service of type LoadBalancer and of our class.
#[must_use]
pub fn service(object: &parts::Service, class: Option<&str>) -> Option<Observed> {
    let spec = &object.spec;
    if spec.type_.as_deref() != Some("LoadBalancer") || spec.load_balancer_class.as_deref() != class
    {
        return None;
    }
    let ingress = object.status.load_balancer.ingress.iter().flatten();
    let ingress: Arc<[IpAddr]> = ingress
        .filter_map(|entry| entry.ip.as_deref()?.parse().ok())
        .collect();
    let metadata = &object.metadata;
    let no_annotations = BTreeMap::new();
    let annotations = metadata.annotations.as_ref().unwrap_or(&no_annotations);
    Some(Observed {
        service: Service {
            ingress,
            labels: metadata
                .labels
                .as_ref()
                .map(Labels::from)
                .unwrap_or_default(),
            traffic_policy: match spec.external_traffic_policy.as_deref() {
                Some("Local") => TrafficPolicy::Local,
                _ => TrafficPolicy::Cluster,
            },
            shares_address: ALLOW_SHARED_IP.find(annotations).is_some(),
        },
        uid: metadata.uid.as_deref().unwrap_or_default().into(),
        traceparent: annotations
            .get(TRACEPARENT)
            .map(|text| text.as_str().into()),
    })
}

/// An EndpointSlice of a Service. An endpoint can serve when ready is absent or true, or serving is true (reference 4.1).
#[must_use]
pub fn slice(object: &parts::EndpointSlice, sets: &NodeSets) -> Option<Slice> {
    let metadata = &object.metadata;
    let service = metadata.labels.as_ref()?.get(SERVICE_LABEL)?;
    let can_serve = object.endpoints.iter().flatten().filter(|endpoint| {
        let ready = endpoint.conditions.ready.unwrap_or(true);
        let serving = endpoint.conditions.serving.unwrap_or(false);
        let has_address = endpoint
            .addresses
            .as_ref()
            .is_some_and(|all| !all.is_empty());
        (ready || serving) && has_address
    });
    let mut any = false;
    let mut nodes: Vec<Box<str>> = Vec::new();
    for endpoint in can_serve {
        any = true;
        nodes.extend(endpoint.node_name.clone());
    }
    nodes.sort();
    nodes.dedup();
    Some(Slice {
        service: ObjectKey::new(metadata.namespace.as_deref().unwrap_or_default(), service),
        any,
        nodes: sets.share(nodes),
    })
}

/// A Node with what a speaker that starts reads beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedNode {
    /// What announcing reads.
    pub node: Node,
    /// Whether it is Ready: the speaker of one that is not may never be heard of.
    pub ready: bool,
}

/// A Node.
#[must_use]
pub fn node(object: &parts::Node) -> Option<ObservedNode> {
    let is_true = |type_: &str| {
        let mut conditions = object.status.conditions.iter().flatten();
        conditions.any(|condition| {
            condition.type_.as_deref() == Some(type_) && condition.status.as_deref() == Some("True")
        })
    };
    let labels = object.metadata.labels.clone().unwrap_or_default();
    Some(ObservedNode {
        node: Node {
            network_unavailable: is_true("NetworkUnavailable"),
            excluded: labels.contains_key(EXCLUDE_LABEL),
            labels,
        },
        ready: is_true("Ready"),
    })
}

/// The speaker in a Pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Seed {
    /// Where the others reach it.
    pub address: SocketAddr,
    /// The node that it runs on.
    pub node: Box<str>,
    /// What its kubelet last said of it.
    pub presence: Presence,
}

/// Whether a speaker can be heard, by what its kubelet last said. That stays as it was for some 40 s after a node is lost or cut
/// off, until the Node is no longer Ready: whoever survives knows meanwhile that somebody should be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It takes part: it is ready, or runs and was ready since it was started. One that is only cut off from the API server, or whose
    /// probe failed, still announces.
    Serves,
    /// It is not there yet; it may start any moment.
    Starts,
    /// It has ended and waits to be started again: whoever looks now hears nothing of it.
    Failed,
}

/// The speaker in a Pod, once that has an address and as long as it may run.
#[must_use]
pub fn seed(object: &parts::Pod, port: u16) -> Option<Seed> {
    let status = &object.status;
    let phase = status.phase.as_deref().unwrap_or_default();
    if matches!(phase, "Failed" | "Succeeded") {
        return None;
    }
    let ip: IpAddr = status.pod_ip.as_deref()?.parse().ok()?;
    Some(Seed {
        address: SocketAddr::new(ip, port),
        node: object.spec.node_name.clone()?,
        presence: presence(status),
    })
}

fn presence(status: &parts::PodStatus) -> Presence {
    let mut containers = status.container_statuses.iter().flatten();
    let has_failed = containers.any(|container| {
        let (state, before) = (&container.state, &container.last_state);
        let has_run = container.restart_count > 0 || before.terminated.is_some();
        state.terminated.is_some() || (state.waiting.is_some() && has_run)
    });
    if has_failed {
        return Presence::Failed;
    }
    let mut conditions = status.conditions.iter().flatten();
    let ready = conditions.find(|condition| condition.type_.as_deref() == Some("Ready"));
    let Some(ready) = ready.filter(|_| status.phase.as_deref() == Some("Running")) else {
        return Presence::Starts;
    };
    // Both times are of one clock, the kubelet's. A pod that was started again has not been ready since.
    let was_ready = || {
        let ended = ready.last_transition_time.as_ref();
        let mut containers = status.container_statuses.iter().flatten().peekable();
        containers.peek().is_some()
            && containers.all(|container| {
                let running = container.state.running.as_ref();
                let started = running.and_then(|running| running.started_at.as_ref());
                started
                    .zip(ended)
                    .is_some_and(|(started, ended)| ended.0 > started.0)
            })
    };
    if ready.status.as_deref() == Some("True") || was_ready() {
        Presence::Serves
    } else {
        Presence::Starts
    }
}

/// The TCP-MD5 key of a Secret of type basic-auth (reference 1.4, passwordSecret).
#[must_use]
pub fn password(object: &Secret) -> Option<Key> {
    password_of(object).ok().map(Key)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_endpoint_that_is_not_ready_and_not_serving_cannot_serve() {
        let slice_of = |endpoints: serde_json::Value| {
            let object: parts::EndpointSlice = serde_json::from_value(json!({
                "metadata": {"name": "web-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
                "addressType": "IPv4", "ports": [], "endpoints": endpoints,
            }))
            .unwrap();
            slice(&object, &NodeSets::default()).unwrap()
        };
        let endpoint = |conditions: serde_json::Value, node: &str| json!({"addresses": ["10.1.0.1"], "conditions": conditions, "nodeName": node});
        let slice = slice_of(json!([
            endpoint(json!({"ready": false, "serving": false}), "a"),
            endpoint(json!({"ready": false, "serving": true}), "b"),
            endpoint(json!({}), "c"),
            endpoint(json!({"ready": true}), "c"),
        ]));
        assert_eq!(
            slice,
            Slice {
                service: ObjectKey::new("shop", "web"),
                any: true,
                nodes: ["b".into(), "c".into()].into()
            }
        );
        assert!(!slice_of(json!([endpoint(json!({"ready": false}), "a")])).any);
    }

    #[test]
    fn equal_sets_of_nodes_are_one_and_unused_ones_go() {
        let sets = NodeSets::default();
        let of = |name: &str| sets.share(vec![name.into()]);
        let (one, same) = (of("a"), of("a"));
        assert!(Arc::ptr_eq(&one, &same));
        for n in 0..1000 {
            of(&format!("gone-{n}"));
        }
        assert!(sets.0.lock().unwrap().len() < 10);
        assert!(Arc::ptr_eq(&one, &of("a")));
    }

    #[test]
    fn a_speaker_is_expected_while_it_runs_and_was_ready_and_not_while_it_crashes() {
        let running = |since: &str| json!({"running": {"startedAt": since}});
        let crashed = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let creating = json!({"waiting": {"reason": "ContainerCreating"}});
        let ended = json!({"terminated": {"exitCode": 1}});
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-01T00:10:00Z");
        for (what, phase, ready, since, state, restarts, expected) in [
            (
                "ready",
                "Running",
                "True",
                late,
                running(early),
                0,
                Some(Presence::Serves),
            ),
            (
                "ready again after a crash",
                "Running",
                "True",
                late,
                running(early),
                5,
                Some(Presence::Serves),
            ),
            (
                "its probe failed",
                "Running",
                "False",
                late,
                running(early),
                0,
                Some(Presence::Serves),
            ),
            (
                "started again, not ready yet",
                "Running",
                "False",
                early,
                running(late),
                1,
                Some(Presence::Starts),
            ),
            (
                "in the same second",
                "Running",
                "False",
                late,
                running(late),
                1,
                Some(Presence::Starts),
            ),
            (
                "just started",
                "Running",
                "False",
                early,
                running(early),
                0,
                Some(Presence::Starts),
            ),
            (
                "being created",
                "Pending",
                "False",
                early,
                creating,
                0,
                Some(Presence::Starts),
            ),
            (
                "waits after a crash",
                "Running",
                "False",
                late,
                crashed,
                7,
                Some(Presence::Failed),
            ),
            (
                "has just crashed",
                "Running",
                "True",
                early,
                ended.clone(),
                0,
                Some(Presence::Failed),
            ),
            ("was evicted", "Failed", "False", late, ended, 0, None),
        ] {
            // The API server says of a container that never ended that its last state is none of all.
            let last = if restarts > 0 {
                json!({"terminated": {"exitCode": 1}})
            } else {
                json!({})
            };
            let object: parts::Pod = serde_json::from_value(json!({
                "metadata": {"name": "speaker-x", "namespace": "metallb-system"},
                "spec": {"nodeName": "a", "containers": []},
                "status": {
                    "phase": phase, "podIP": "192.0.2.1",
                    "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": since}],
                    "containerStatuses": [{
                        "name": "speaker", "image": "", "imageID": "", "ready": ready == "True",
                        "restartCount": restarts, "state": state, "lastState": last,
                    }],
                },
            }))
            .unwrap();
            let presence = seed(&object, 7946).map(|seed| seed.presence);
            assert_eq!(presence, expected, "{what}");
        }
    }

    #[test]
    fn a_service_of_another_class_is_not_ours() {
        let object: parts::Service = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"type": "LoadBalancer", "loadBalancerClass": "other"},
        }))
        .unwrap();
        assert!(service(&object, None).is_none());
        assert!(service(&object, Some("other")).is_some());
    }
}
