//! Objects as people write them, as JSON, so that tests go through the same parsers as the real thing.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Any object from JSON.
pub fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

/// A Service of type LoadBalancer with one TCP port.
pub fn service(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "namespace": namespace, "name": name },
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "10.96.0.10",
            "clusterIPs": ["10.96.0.10"],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "externalTrafficPolicy": "Cluster",
            "selector": { "app": name },
            "ports": [{ "name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080, "nodePort": 30080 }],
        },
        "status": { "loadBalancer": {} },
    })
}

/// An IPAddressPool of these ranges.
pub fn pool(namespace: &str, name: &str, addresses: &[&str]) -> Value {
    json!({
        "apiVersion": "metallb.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": { "namespace": namespace, "name": name },
        "spec": { "addresses": addresses },
    })
}

/// A Node that is ready.
pub fn node(name: &str, internal_ip: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
        "status": {
            "addresses": [{ "type": "InternalIP", "address": internal_ip }, { "type": "Hostname", "address": name }],
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })
}

/// A Secret of these entries.
pub fn secret(namespace: &str, name: &str, entries: &[(&str, &[u8])]) -> Value {
    let mut secret = k8s_openapi::api::core::v1::Secret::default();
    secret.metadata.namespace = Some(namespace.to_owned());
    secret.metadata.name = Some(name.to_owned());
    secret.data = Some(
        entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), k8s_openapi::ByteString(value.to_vec())))
            .collect(),
    );
    serde_json::to_value(secret).unwrap()
}
