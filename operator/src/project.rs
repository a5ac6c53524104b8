//! A Service of the API server, reduced to what allocation reads (reference 3.1).

use std::net::IpAddr;

use ferrolb_allocation::{Families, Limit, Namespace, Policy, Port, Protocol, Service};
use ferrolb_api::{ObjectKey, annotations, conditions};
use ferrolb_rules::{Family, Labels, Request, parse_max_addresses};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// What the operator keeps of a Service: what is decided on, and what effects need to name it.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// What allocation reads.
    pub service: Service,
    /// The uid, for events.
    pub uid: String,
    /// Whether it shall have an address. False for one that is no load balancer any more and still records our pool.
    pub wanted: bool,
    /// The trace that `kubectl apply` began, where one is recorded.
    pub traceparent: Option<String>,
    /// Whether `status.loadBalancer` holds anything that is not an address of ours, a hostname for example.
    pub foreign_ingress: bool,
    /// The annotation keys with the deprecated prefix that it uses.
    pub deprecated: Vec<&'static annotations::AnnotationKey>,
    /// The conditions in its status, ours and others'. Nearly every Service has none.
    pub conditions: Vec<Condition>,
}

/// A Service, whatever its conditions are. Whoever may write a status can put a time there that Kubernetes takes and nobody here
/// can read; a Service that were set aside for this would lose its address to another. Such a condition counts as none.
pub struct Readable(pub core::Service);

impl<'de> Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let parse = |text: &str| serde_json::from_str(text).map(Self);
        parse(text.get()).or_else(|error| {
            let mut object = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
            if !keep_readable_conditions(&mut object) {
                return Err(D::Error::custom(error));
            }
            parse(&object.to_string()).map_err(D::Error::custom)
        })
    }
}

/// Takes the conditions away that cannot be read; whether there are any.
fn keep_readable_conditions(object: &mut Value) -> bool {
    let conditions = object.pointer_mut("/status/conditions");
    let Some(conditions) = conditions.and_then(Value::as_array_mut) else {
        return false;
    };
    let before = conditions.len();
    conditions.retain(|condition| Condition::deserialize(condition).is_ok());
    conditions.len() < before
}

/// What allocation reads of a Namespace.
#[must_use]
pub fn observe_namespace(object: &core::Namespace) -> Namespace {
    let metadata = &object.metadata;
    let limit = metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(annotations::MAX_ADDRESSES));
    Namespace {
        labels: metadata.labels.clone().unwrap_or_default(),
        limit: match limit.map(|text| parse_max_addresses(text)) {
            None => Limit::None,
            Some(Ok(limit)) => Limit::At(limit),
            Some(Err(why)) => Limit::Invalid(format!(
                "the annotation {} of Namespace {} cannot be understood: {why}",
                annotations::MAX_ADDRESSES,
                metadata.name.as_deref().unwrap_or_default()
            )),
        },
    }
}

/// Reduces `service`; `None` where it is not ours: not of type LoadBalancer, or of another class.
///
/// A Service that is no longer of type LoadBalancer but still records our pool is ours until its status is cleared: the
/// API server has cleared its class, so the class is no reason to leave it (reference 9, row 14).
#[must_use]
pub fn observe(service: &core::Service, class: Option<&str>) -> Option<Observed> {
    let spec = service.spec.as_ref()?;
    let metadata = &service.metadata;
    let annotation = |key: &annotations::AnnotationKey| {
        key.find(metadata.annotations.as_ref()?)
            .map(|(value, _)| value)
    };
    let recorded_pool = metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(annotations::IP_ALLOCATED_FROM_POOL))
        .cloned();
    let conditions = service
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let wanted = spec.type_.as_deref() == Some("LoadBalancer");
    let ours = recorded_pool.is_some() || conditions.iter().any(is_ours);
    if wanted && spec.load_balancer_class.as_deref() != class || !wanted && !ours {
        return None;
    }
    let cluster_ips: Vec<&str> = match spec.cluster_ips.as_deref() {
        Some(ips) if !ips.is_empty() => ips.iter().map(String::as_str).collect(),
        _ => spec.cluster_ip.iter().map(String::as_str).collect(),
    };
    let cluster_ips: Vec<&str> = cluster_ips
        .into_iter()
        .filter(|ip| !ip.is_empty())
        .collect();
    let parsed: Vec<IpAddr> = cluster_ips
        .iter()
        .filter_map(|ip| ip.parse().ok())
        .collect();
    let families = if parsed.len() == cluster_ips.len() {
        Families::of(&parsed)
    } else {
        Families::Unknown
    };
    let ingress = service
        .status
        .iter()
        .filter_map(|status| status.load_balancer.as_ref())
        .flat_map(|lb| lb.ingress.iter().flatten());
    let mut current = Vec::new();
    let mut foreign_ingress = false;
    for entry in ingress {
        match entry.ip.as_deref().and_then(|ip| ip.parse().ok()) {
            Some(ip) => current.push(ip),
            None => foreign_ingress = true,
        }
    }
    let local = spec.external_traffic_policy.as_deref() == Some("Local");
    let selector: Vec<String> = spec
        .selector
        .iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let deprecated = [
        &annotations::LOAD_BALANCER_IPS,
        &annotations::ADDRESS_POOL,
        &annotations::ALLOW_SHARED_IP,
    ]
    .into_iter()
    .filter_map(|key| Some((key, key.find(metadata.annotations.as_ref()?)?.1)))
    .filter(|(key, found)| *found == key.deprecated)
    .map(|(key, _)| key)
    .collect();
    let request = Request::of(service);
    Some(Observed {
        service: Service {
            key: ObjectKey::namespaced(service),
            created: metadata
                .creation_timestamp
                .as_ref()
                .map_or(i64::MAX, |time| time.0.as_second()),
            labels: metadata
                .labels
                .as_ref()
                .map(Labels::from)
                .unwrap_or_default(),
            families,
            policy: match spec.ip_family_policy.as_deref() {
                Some("PreferDualStack") => Policy::PreferDualStack,
                Some("RequireDualStack") => Policy::RequireDualStack,
                _ => Policy::SingleStack,
            },
            primary: match spec
                .ip_families
                .as_deref()
                .and_then(<[String]>::first)
                .map(String::as_str)
            {
                Some("IPv6") => Family::V6,
                _ => Family::V4,
            },
            requested: request.addresses,
            requested_pool: request.pool.map(|(pool, _)| pool.to_owned()),
            sharing_key: annotation(&annotations::ALLOW_SHARED_IP)
                .unwrap_or_default()
                .to_owned(),
            backend_key: if local {
                selector.join(",")
            } else {
                String::new()
            },
            ports: spec
                .ports
                .iter()
                .flatten()
                .map(|port| Port {
                    protocol: match port.protocol.as_deref() {
                        Some("UDP") => Protocol::Udp,
                        Some("SCTP") => Protocol::Sctp,
                        _ => Protocol::Tcp,
                    },
                    number: u16::try_from(port.port).unwrap_or_default(),
                })
                .collect(),
            current,
            recorded_pool,
            told: conditions::find(&conditions, conditions::ADDRESSES_ALLOCATED)
                .map(|condition| condition.message.as_str().into()),
        },
        conditions,
        wanted,
        uid: metadata.uid.clone().unwrap_or_default(),
        traceparent: metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(annotations::TRACEPARENT).cloned()),
        foreign_ingress,
        deprecated,
    })
}

/// Whether this condition of a Service is one that FerroLB writes.
#[must_use]
pub fn is_ours(condition: &Condition) -> bool {
    [
        conditions::ADDRESSES_ALLOCATED,
        conditions::ADDRESS_CONFLICT,
    ]
    .contains(&condition.type_.as_str())
}

#[cfg(test)]
mod tests {
    use ferrolb_rules::Requested;
    use serde_json::json;

    use super::*;

    fn seen(change: serde_json::Value, class: Option<&str>) -> Option<Observed> {
        let mut object = json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.1"], "ports": [{"port": 80}]},
        });
        json_patch::merge(&mut object, &change);
        observe(&serde_json::from_value(object).unwrap(), class)
    }

    #[test]
    fn a_condition_that_cannot_be_read_is_none_and_the_service_is_there() {
        let condition = |kind: &str, at: &str| json!({"type": kind, "status": "True", "reason": "R", "message": "", "lastTransitionTime": at});
        let object = json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"type": "LoadBalancer"},
            "status": {
                "loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]},
                "conditions": [condition("Late", "9999-12-31T23:59:59Z"), condition("Good", "2026-01-01T00:00:00Z")],
            },
        });
        let Readable(service) = serde_json::from_str(&object.to_string()).unwrap();
        let observed = observe(&service, None).unwrap();
        assert_eq!(
            observed.service.current,
            ["192.0.2.1".parse::<IpAddr>().unwrap()]
        );
        let kinds: Vec<_> = observed.conditions.iter().map(|one| &one.type_).collect();
        assert_eq!(kinds, ["Good"]);
        let broken = r#"{"metadata":{"name":"web"},"spec":{"ports":5},"status":{"conditions":[]}}"#;
        assert!(serde_json::from_str::<Readable>(broken).is_err());
    }

    /// Reference 3.3, and reference 9, row 14.
    #[test]
    fn the_class_decides_whose_a_service_is_until_it_is_no_load_balancer_any_more() {
        let of = |class: &str| json!({"spec": {"loadBalancerClass": class}});
        for (service, own, ours) in [
            (json!({}), None, true),
            (of("other"), None, false),
            (json!({}), Some("own"), false),
            (of("own"), Some("own"), true),
            (of("other"), Some("own"), false),
        ] {
            assert_eq!(seen(service.clone(), own).is_some(), ours, "{service}");
        }
        // The API server clears the class together with the type.
        let former = json!({
            "metadata": {"annotations": {"metallb.io/ip-allocated-from-pool": "p"}},
            "spec": {"type": "ClusterIP"},
        });
        assert!(!seen(former, Some("own")).unwrap().wanted);
        assert!(seen(json!({"spec": {"type": "ClusterIP"}}), None).is_none());
    }

    /// Reference 3.1: the present prefix wins where both are there, even with an empty value.
    #[test]
    fn annotations_are_read_under_both_prefixes() {
        let read = |annotations: serde_json::Value| {
            seen(json!({"metadata": {"annotations": annotations}}), None).unwrap()
        };
        let old = read(json!({
            "metallb.universe.tf/loadBalancerIPs": " 10.0.0.1 , fd00::1",
            "metallb.universe.tf/address-pool": "p",
            "metallb.universe.tf/allow-shared-ip": "key",
        }));
        let wanted = vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        assert_eq!(old.service.requested, Requested::Addresses(wanted));
        assert_eq!(old.service.requested_pool.as_deref(), Some("p"));
        assert_eq!(old.service.sharing_key, "key");
        assert_eq!(old.deprecated.len(), 3);
        let both = read(json!({
            "metallb.universe.tf/address-pool": "old",
            "metallb.io/address-pool": "",
            "metallb.universe.tf/allow-shared-ip": "old",
            "metallb.io/allow-shared-ip": "new",
        }));
        assert_eq!(both.service.requested_pool, None);
        assert_eq!(both.service.sharing_key, "new");
        assert!(both.deprecated.is_empty());
    }

    #[test]
    fn the_address_of_the_spec_counts_as_the_annotation_and_both_are_an_error() {
        let spec = json!({"spec": {"loadBalancerIP": "10.0.0.1"}});
        let wanted = vec!["10.0.0.1".parse().unwrap()];
        assert_eq!(
            seen(spec.clone(), None).unwrap().service.requested,
            Requested::Addresses(wanted)
        );
        let mut both = spec;
        both["metadata"] = json!({"annotations": {"metallb.io/loadBalancerIPs": "10.0.0.1"}});
        let Requested::Invalid(why) = seen(both, None).unwrap().service.requested else {
            panic!("two ways to ask are one too many");
        };
        assert!(why.contains("remove spec.loadBalancerIP"), "{why}");
    }

    /// Reference 3.1: families by the cluster addresses, the older field where the newer is absent.
    #[test]
    fn families_are_those_of_the_cluster_addresses() {
        let families =
            |spec: serde_json::Value| seen(json!({"spec": spec}), None).unwrap().service.families;
        for (spec, wanted) in [
            (json!({}), Families::Single(Family::V4)),
            (
                json!({"clusterIPs": ["fd96::1"]}),
                Families::Single(Family::V6),
            ),
            (
                json!({"clusterIPs": ["fd96::1", "10.96.0.1"]}),
                Families::Dual,
            ),
            (
                json!({"clusterIPs": ["10.96.0.1", "10.96.0.2"]}),
                Families::Unknown,
            ),
            (
                json!({"clusterIPs": null, "clusterIP": "fd96::1"}),
                Families::Single(Family::V6),
            ),
            (
                json!({"clusterIPs": null, "clusterIP": null}),
                Families::None,
            ),
            (json!({"clusterIPs": ["None"]}), Families::Unknown),
        ] {
            assert_eq!(families(spec.clone()), wanted, "{spec}");
        }
    }

    #[test]
    fn services_share_by_selector_only_where_the_traffic_policy_is_local() {
        let backend = |policy: &str| {
            let spec = json!({"externalTrafficPolicy": policy, "selector": {"b": "2", "a": "1"}});
            seen(json!({"spec": spec}), None)
                .unwrap()
                .service
                .backend_key
        };
        assert_eq!(backend("Cluster"), "");
        assert_eq!(backend("Local"), "a=1,b=2");
    }
}
