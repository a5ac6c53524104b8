//! The objects that scenarios, demo and benches work with: echo servers, and Services in front of them.

use serde_json::{Value, json};

use crate::plan::NODES;

/// Marks what a scenario makes, so that the runner can remove it whatever happened.
pub const LABEL: &str = "lab.ferrolb.io/scenario";

/// One echo server on each node. Each also carries, for every other node, a label that says it is not there: a Service
/// can so choose servers that survive the loss of one node, and then the announcement alone is what fails over.
pub fn echo_servers() -> Value {
    let items: Vec<Value> = NODES.iter().map(|node| echo_server(node.name)).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

fn echo_server(node: &str) -> Value {
    let mut labels = json!({"app": "echo", "on": node});
    for other in NODES.iter().filter(|n| n.name != node) {
        labels[away_from(other.name)] = json!("yes");
    }
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": format!("echo-{node}"), "namespace": "default"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "echo", "on": node}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "nodeSelector": {"kubernetes.io/hostname": node},
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "echo", "image": "ferrolb/echo:lab",
                        "ports": [{"containerPort": 8080}, {"containerPort": 8080, "protocol": "UDP"}],
                        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
                        "env": [{"name": "POD_NAME", "valueFrom": field("metadata.name")}, {"name": "NODE_NAME", "valueFrom": field("spec.nodeName")}],
                    }],
                },
            },
        },
    })
}

/// The label of servers that are not on this node.
pub fn away_from(node: &str) -> String {
    format!("away-from-{node}")
}

/// A Service in front of all echo servers, from this pool.
pub fn service(name: &str, pool: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "labels": {LABEL: "yes"}, "annotations": {"metallb.io/address-pool": pool}},
        "spec": {
            "type": "LoadBalancer",
            "selector": {"app": "echo"},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}, {"name": "echo", "port": 80, "targetPort": 8080, "protocol": "UDP"}],
        },
    })
}

/// A Service in front of nothing: enough to be given addresses, and no work for kube-proxy.
pub fn service_without_endpoints(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": {LABEL: "yes"}, "annotations": {}},
        "spec": {
            "type": "LoadBalancer",
            "allocateLoadBalancerNodePorts": false,
            "ports": [{"port": 80, "protocol": "TCP"}],
        },
    })
}

/// [`service`] with an address of each family.
pub fn dual_stack(name: &str, pool: &str) -> Value {
    let mut service = service(name, pool);
    service["spec"]["ipFamilyPolicy"] = json!("RequireDualStack");
    service
}

/// A pool of the install namespace.
pub fn pool(name: &str, addresses: &[&str]) -> Value {
    json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
        "metadata": {"name": name, "namespace": crate::cluster::SYSTEM, "labels": {LABEL: "yes"}},
        "spec": {"addresses": addresses},
    })
}
