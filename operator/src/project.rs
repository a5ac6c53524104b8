//! A Service of the API server, reduced to what allocation reads (reference 3.1).

use std::net::IpAddr;

use ferrolb_allocation::{Families, Limit, Namespace, Policy, Port, Protocol, Requested, Service};
use ferrolb_api::{ObjectKey, annotations, conditions};
use ferrolb_rules::{Family, Labels, parse_max_addresses};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

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
            requested: Requested::parse(
                annotation(&annotations::LOAD_BALANCER_IPS),
                spec.load_balancer_ip.as_deref(),
            ),
            requested_pool: annotation(&annotations::ADDRESS_POOL)
                .filter(|pool| !pool.is_empty())
                .map(ToOwned::to_owned),
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
