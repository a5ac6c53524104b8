//! From what is seen of a Service to what is to be done about it. Pure but for the spans that tell of it.

use std::collections::BTreeMap;

use ferrolb_allocation::{Allocator, EventKind, Namespaces, PoolCounters};
use ferrolb_api::ObjectKey;
use ferrolb_rules::Configuration;
use tracing::info_span;

use crate::effects::{Effect, SpanOf};
use crate::project::Observed;

/// The allocator with what it needs to know beside Services.
#[derive(Default)]
pub struct Decider {
    allocator: Allocator,
    namespaces: Namespaces,
}

/// A Service as the store has it.
pub struct Seen<'a> {
    /// What is decided on.
    pub observed: &'a Observed,
    /// The version that a write must name.
    pub resource_version: &'a str,
}

impl Decider {
    /// Puts a configuration in force. Every Service must be decided again afterwards.
    pub fn use_configuration(&mut self, configuration: &Configuration) {
        self.allocator
            .set_pools(configuration.pools.values().cloned());
    }

    /// The labels of every namespace. Every Service must be decided again afterwards.
    pub fn use_namespaces(&mut self, namespaces: BTreeMap<String, BTreeMap<String, String>>) {
        self.namespaces = namespaces;
    }

    /// Claims what statuses record, the oldest Service first, before anything is decided. Where two statuses name one
    /// address the older Service keeps it.
    pub fn claim<'a>(&mut self, services: impl IntoIterator<Item = &'a Observed>) {
        let mut holders: Vec<&Observed> = services
            .into_iter()
            .filter(|observed| observed.wanted && !observed.service.current.is_empty())
            .collect();
        holders.sort_by(|one, other| order(one).cmp(&order(other)));
        for observed in holders {
            self.allocator.claim(&observed.service, &self.namespaces);
        }
    }

    /// Decides about one Service; `None` where there is none any more.
    pub fn decide(&mut self, key: &ObjectKey, seen: Option<Seen<'_>>) -> Vec<Effect> {
        let Some(Seen {
            observed,
            resource_version,
        }) = seen
        else {
            self.allocator.forget(key);
            return Vec::new();
        };
        let service = &observed.service;
        let span = info_span!("allocate", service = %key);
        // Before there is an address, a trace context on the object comes from its admission; later it is our own, of
        // a change that is over.
        if let Some(traceparent) = observed
            .traceparent
            .as_deref()
            .filter(|_| service.current.is_empty())
        {
            ferrolb_serving::set_parent_from_traceparent(&span, traceparent);
        }
        let decided = span.clone();
        let _entered = span.enter();
        let outcome = if observed.wanted {
            self.allocator.reconcile(service, &self.namespaces)
        } else {
            self.allocator.forget(key);
            ferrolb_allocation::Outcome::default()
        };
        let mut effects: Vec<Effect> = outcome
            .events
            .into_iter()
            .map(|event| Effect::Say {
                key: key.clone(),
                uid: observed.uid.clone(),
                kind: event.kind,
                message: event.message,
            })
            .collect();
        let same = outcome.addresses == service.current
            && outcome.pool == service.recorded_pool
            && !(observed.foreign_ingress && observed.wanted);
        if !same {
            // Said when something changes anyway, as MetalLB does (reference 3.1).
            effects.extend(observed.deprecated.iter().map(|annotation| Effect::Say {
                key: key.clone(),
                uid: observed.uid.clone(),
                kind: EventKind::DeprecatedAnnotation,
                message: format!("Service uses deprecated annotation {annotation}"),
            }));
            effects.insert(
                0,
                Effect::WriteStatus {
                    key: key.clone(),
                    resource_version: resource_version.to_owned(),
                    addresses: outcome.addresses,
                    pool: outcome.pool,
                    span: SpanOf(decided),
                },
            );
        }
        effects
    }

    /// Every Service that holds an address or waits for one, as far as is known here: some may be gone.
    pub fn known(&self) -> impl Iterator<Item = &ObjectKey> {
        self.allocator.known()
    }

    /// The Services that wait for an address, if one became free since the last call.
    pub fn to_retry(&mut self) -> Vec<ObjectKey> {
        self.allocator.to_retry()
    }

    /// The counters of a pool in force.
    #[must_use]
    pub fn counters(&self, pool: &str) -> Option<PoolCounters> {
        self.allocator.counters(pool)
    }
}

/// Older Services are served first; the name breaks a tie.
#[must_use]
pub fn order(observed: &Observed) -> (i64, &ObjectKey) {
    (observed.service.created, &observed.service.key)
}

#[cfg(test)]
mod tests {
    use ferrolb_api::v1beta1::{IPAddressPool, IPAddressPoolSpec};
    use ferrolb_rules::Objects;
    use k8s_openapi::api::core::v1::Service;
    use serde_json::json;

    use super::*;
    use crate::project::observe;

    fn decider(addresses: &[&str]) -> Decider {
        let spec = IPAddressPoolSpec {
            addresses: addresses.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        let pool = IPAddressPool::new("p", spec);
        let (configuration, refusals) = Configuration::from_objects(&Objects {
            pools: &[&pool],
            ..Objects::default()
        });
        assert!(refusals.is_empty());
        let mut decider = Decider::default();
        decider.use_configuration(&configuration);
        decider
    }

    fn service(change: serde_json::Value) -> Observed {
        let mut object = json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.1"], "ports": [{"port": 80}]},
        });
        json_patch::merge(&mut object, &change);
        let service: Service = serde_json::from_value(object).unwrap();
        observe(&service, None).unwrap()
    }

    fn decide(decider: &mut Decider, observed: &Observed) -> Vec<Effect> {
        decider.decide(
            &observed.service.key,
            Some(Seen {
                observed,
                resource_version: "7",
            }),
        )
    }

    #[test]
    fn a_new_service_gets_an_address_its_pool_and_an_event() {
        let mut decider = decider(&["10.0.0.0/24"]);
        let effects = decide(&mut decider, &service(json!({})));
        let [
            Effect::WriteStatus {
                resource_version,
                addresses,
                pool,
                ..
            },
            Effect::Say { uid, message, .. },
        ] = effects.as_slice()
        else {
            panic!("{effects:?}")
        };
        assert_eq!(resource_version, "7");
        assert_eq!(
            addresses,
            &["10.0.0.0".parse::<std::net::IpAddr>().unwrap()]
        );
        assert_eq!(pool.as_deref(), Some("p"));
        assert_eq!(
            (uid.as_str(), message.as_str()),
            ("u", "Assigned IP [\"10.0.0.0\"]")
        );
    }

    #[test]
    fn an_annotation_with_the_old_prefix_counts_and_is_named() {
        let mut decider = decider(&["10.0.0.0/24"]);
        let old = json!({"metadata": {"annotations": {"metallb.universe.tf/loadBalancerIPs": "10.0.0.7"}}});
        let effects = decide(&mut decider, &service(old));
        assert!(
            matches!(effects.first(), Some(Effect::WriteStatus { addresses, .. }) if addresses[0].to_string() == "10.0.0.7")
        );
        assert!(effects.iter().any(|effect| matches!(
            effect,
            Effect::Say {
                kind: EventKind::DeprecatedAnnotation,
                ..
            }
        )));
    }

    #[test]
    fn a_service_that_has_what_it_shall_have_is_left_alone() {
        let mut decider = decider(&["10.0.0.0/24"]);
        let settled = service(json!({
            "metadata": {"annotations": {"metallb.io/ip-allocated-from-pool": "p"}},
            "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.9", "ipMode": "VIP"}]}},
        }));
        assert!(decide(&mut decider, &settled).is_empty());
    }

    #[test]
    fn a_service_that_is_no_load_balancer_any_more_is_cleared() {
        let mut decider = decider(&["10.0.0.0/24"]);
        let former = service(json!({
            "metadata": {"annotations": {"metallb.io/ip-allocated-from-pool": "p"}},
            "spec": {"type": "ClusterIP"},
            "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.9"}]}},
        }));
        let effects = decide(&mut decider, &former);
        assert!(
            matches!(effects.as_slice(), [Effect::WriteStatus { addresses, pool: None, .. }] if addresses.is_empty())
        );
        let cleared = service(
            json!({"metadata": {"annotations": {"metallb.io/ip-allocated-from-pool": "p"}}, "spec": {"type": "ClusterIP"}}),
        );
        assert_eq!(
            decide(&mut decider, &cleared).len(),
            1,
            "the annotation goes too"
        );
    }

    #[test]
    fn what_statuses_record_is_claimed_oldest_first() {
        let mut decider = decider(&["10.0.0.0/24"]);
        let status = json!({"loadBalancer": {"ingress": [{"ip": "10.0.0.5"}]}});
        let young = service(
            json!({"metadata": {"name": "a-young", "creationTimestamp": "2026-03-01T00:00:00Z"}, "status": status}),
        );
        let old = service(json!({"metadata": {"name": "z-old"}, "status": status}));
        decider.claim([&young, &old]);
        let kept = decide(&mut decider, &old);
        assert!(
            matches!(kept.as_slice(), [Effect::WriteStatus { addresses, .. }] if *addresses == old.service.current),
            "{kept:?}"
        );
        let moved = decide(&mut decider, &young);
        assert!(
            matches!(moved.first(), Some(Effect::WriteStatus { addresses, .. }) if *addresses != young.service.current)
        );
        assert!(moved.iter().any(|effect| matches!(
            effect,
            Effect::Say {
                kind: ferrolb_allocation::EventKind::ClearAssignment,
                ..
            }
        )));
    }
}
