//! Objects of the API server, reduced to what announcing reads.

use std::net::{IpAddr, SocketAddr};

use ferrolb_announcement::{Node, Service, TrafficPolicy};
use ferrolb_api::annotations;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;

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
    pub uid: String,
    /// The trace that the change belongs to.
    pub traceparent: Option<String>,
}

/// One EndpointSlice.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// The name of the Service that it belongs to, in the slice's own namespace.
    pub service: Box<str>,
    /// Whether some endpoint can serve.
    pub any: bool,
    /// The nodes of those that can, sorted.
    pub nodes: Box<[Box<str>]>,
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
pub fn service(object: &core::Service, class: Option<&str>) -> Option<Observed> {
    let spec = object.spec.as_ref()?;
    if spec.type_.as_deref() != Some("LoadBalancer") || spec.load_balancer_class.as_deref() != class
    {
        return None;
    }
    let ingress: Vec<IpAddr> = object
        .status
        .iter()
        .filter_map(|status| status.load_balancer.as_ref())
        .flat_map(|balancer| balancer.ingress.iter().flatten())
        .filter_map(|entry| entry.ip.as_deref()?.parse().ok())
        .collect();
    Some(Observed {
        service: Service {
            ingress,
            labels: object.labels().into(),
            traffic_policy: match spec.external_traffic_policy.as_deref() {
                Some("Local") => TrafficPolicy::Local,
                _ => TrafficPolicy::Cluster,
            },
            shares_address: annotations::ALLOW_SHARED_IP
                .find(object.annotations())
                .is_some(),
        },
        uid: object.uid().unwrap_or_default(),
        traceparent: object.annotations().get(annotations::TRACEPARENT).cloned(),
    })
}

/// An EndpointSlice of a Service. An endpoint can serve when ready is absent or true, or serving is true (reference 4.1).
#[must_use]
pub fn slice(object: &EndpointSlice) -> Option<Slice> {
    let service = object.labels().get(SERVICE_LABEL)?;
    let can_serve = object.endpoints.iter().filter(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        let ready = conditions
            .and_then(|conditions| conditions.ready)
            .unwrap_or(true);
        let serving = conditions
            .and_then(|conditions| conditions.serving)
            .unwrap_or(false);
        (ready || serving) && !endpoint.addresses.is_empty()
    });
    let mut any = false;
    let mut nodes: Vec<Box<str>> = Vec::new();
    for endpoint in can_serve {
        any = true;
        nodes.extend(endpoint.node_name.as_deref().map(Box::from));
    }
    nodes.sort();
    nodes.dedup();
    Some(Slice {
        service: service.as_str().into(),
        any,
        nodes: nodes.into(),
    })
}

/// A Node.
#[must_use]
pub fn node(object: &core::Node) -> Option<Node> {
    let conditions = object
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    Some(Node {
        labels: object.labels().clone(),
        network_unavailable: conditions
            .filter(|condition| condition.type_ == "NetworkUnavailable")
            .any(|condition| condition.status == "True"),
        excluded: object.labels().contains_key(EXCLUDE_LABEL),
    })
}

/// Where the speaker in a Pod is reached by the others.
#[must_use]
pub fn seed(object: &core::Pod, port: u16) -> Option<SocketAddr> {
    let ip: IpAddr = object.status.as_ref()?.pod_ip.as_deref()?.parse().ok()?;
    Some(SocketAddr::new(ip, port))
}

/// The TCP-MD5 key of a Secret of type basic-auth (reference 1.4, passwordSecret).
#[must_use]
pub fn password(object: &core::Secret) -> Option<Key> {
    let value = object.data.as_ref()?.get("password")?;
    String::from_utf8(value.0.clone()).ok().map(Key)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_endpoint_that_is_not_ready_and_not_serving_cannot_serve() {
        let slice_of = |endpoints: serde_json::Value| {
            let object: EndpointSlice = serde_json::from_value(json!({
                "metadata": {"name": "web-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
                "addressType": "IPv4", "ports": [], "endpoints": endpoints,
            }))
            .unwrap();
            slice(&object).unwrap()
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
                service: "web".into(),
                any: true,
                nodes: ["b".into(), "c".into()].into()
            }
        );
        assert!(!slice_of(json!([endpoint(json!({"ready": false}), "a")])).any);
    }

    #[test]
    fn a_service_of_another_class_is_not_ours() {
        let object: core::Service = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"type": "LoadBalancer", "loadBalancerClass": "other"},
        }))
        .unwrap();
        assert!(service(&object, None).is_none());
        assert!(service(&object, Some("other")).is_some());
    }
}
