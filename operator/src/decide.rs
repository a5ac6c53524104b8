//! From what is seen of Services to what is to be done about them. Pure but for the spans that tell of it.

use std::collections::{BTreeMap, BTreeSet};

use ferrolb_allocation::{
    Allocator, EventKind, Hold, Namespace, Namespaces, Outcome, PoolCounters,
};
use ferrolb_api::ObjectKey;
use ferrolb_api::conditions::{ADDRESS_CONFLICT, ADDRESSES_ALLOCATED, reason, status};
use ferrolb_cluster::{Changes, Store};
use ferrolb_rules::Pool;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use tracing::{info_span, warn};

use crate::carry_out::Sent;
use crate::effects::{Effect, SpanOf};
use crate::project::{Observed, is_ours};

/// The allocator with what it takes to drive it.
#[derive(Default)]
pub struct Decider {
    allocator: Allocator,
}

/// A Service as the store has it.
pub struct Seen<'a> {
    /// What is decided on.
    pub observed: &'a Observed,
    /// The version that a write must name.
    pub resource_version: &'a str,
}

impl Decider {
    /// Puts pools in force, and names those that exist and are not. Every Service must be decided again afterwards.
    pub fn use_pools(&mut self, pools: &BTreeMap<String, Pool>, set_aside: BTreeSet<String>) {
        self.allocator.set_pools(pools.values().cloned());
        self.allocator.set_aside(set_aside);
    }

    /// What is read of every namespace. Every Service must be decided again afterwards.
    pub fn use_namespaces(&mut self, namespaces: Namespaces) {
        self.allocator.set_namespaces(namespaces);
    }

    /// What is read of one namespace. Every Service in it must be decided again afterwards.
    pub fn use_namespace(&mut self, name: &str, namespace: Option<Namespace>) {
        self.allocator.set_namespace(name, namespace);
    }

    /// Claims what statuses record, the oldest Service first, before anything is decided. Where two statuses name one
    /// address the older Service keeps it. Then keeps what a former process kept back.
    pub fn claim<'a>(
        &mut self,
        services: impl IntoIterator<Item = Seen<'a>>,
        holds: impl IntoIterator<Item = Hold>,
        now: Timestamp,
    ) {
        self.allocator.tick(now.as_millisecond());
        let mut holders: Vec<Seen<'_>> = services
            .into_iter()
            .filter(|seen| !seen.observed.service.current.is_empty())
            .collect();
        holders.sort_by(|one, other| order(one.observed).cmp(&order(other.observed)));
        for seen in holders {
            let (service, version) = (&seen.observed.service, seen.resource_version);
            if seen.observed.wanted {
                self.allocator.claim(service, version);
            } else {
                self.allocator.release(service, version);
            }
        }
        for hold in holds {
            self.allocator.restore_hold(hold);
        }
    }

    /// Decides about everything that may follow from `changes`, the oldest Service first, and hands each decision to
    /// `each`, which tells the writes that it began.
    pub fn decide_changes(
        &mut self,
        changes: &Changes,
        services: &Store<Observed>,
        now: Timestamp,
        mut each: impl FnMut(&ObjectKey, Option<&Observed>, Vec<Effect>) -> Vec<Sent>,
    ) {
        self.allocator.tick(now.as_millisecond());
        let mut decide = |decider: &mut Self, key: &ObjectKey| {
            let stored = services.get(key);
            let seen = stored.as_ref().map(|stored| Seen {
                observed: stored,
                resource_version: stored.resource_version(),
            });
            let effects = decider.decide(key, seen, now);
            for sent in each(key, stored.as_deref(), effects) {
                decider.sent(&sent);
            }
        };
        // What one Service gives up may serve another that waits, and does before a younger one is looked at. Nobody is looked
        // at without end: the bound is there so that a mistake in the allocator is not a process that hangs.
        let mut bound = 1_000 + 64 * services.len();
        for key in self.concerned(changes, services) {
            decide(self, &key);
            self.retry(&mut bound, &mut decide);
        }
        self.retry(&mut bound, &mut decide);
        if bound == 0 {
            debug_assert!(false, "Services are looked at without end");
            warn!("Services are looked at without end; going on with the next change");
        }
    }

    fn retry(&mut self, bound: &mut usize, decide: &mut impl FnMut(&mut Self, &ObjectKey)) {
        while *bound > 0
            && let Some(key) = self.allocator.next_to_retry()
        {
            *bound -= 1;
            decide(self, &key);
        }
    }

    /// A status write was begun: nobody else gets its addresses until it is clear what became of it.
    pub fn sent(&mut self, sent: &Sent) {
        self.allocator
            .sent(&sent.key, &sent.version, &sent.addresses);
    }

    /// Who is to be looked at: first those that are gone, then the oldest first.
    fn concerned(&self, changes: &Changes, services: &Store<Observed>) -> Vec<ObjectKey> {
        if !changes.all {
            let mut keys: Vec<ObjectKey> = changes.keys.iter().cloned().collect();
            if keys.len() > 1 {
                keys.sort_by_cached_key(|key| {
                    let created = services.get(key).map(|stored| stored.service.created);
                    (created, key.clone())
                });
            }
            return keys;
        }
        let snapshot = services.snapshot();
        // A set of changes that says "all" does not name those that are gone.
        let gone: BTreeSet<ObjectKey> = self
            .allocator
            .known()
            .filter(|key| !snapshot.contains_key(*key))
            .cloned()
            .collect();
        let mut known: Vec<_> = snapshot.iter().collect();
        known.sort_by(|(_, one), (_, other)| order(one).cmp(&order(other)));
        let known = known.into_iter().map(|(key, _)| key.clone());
        gone.into_iter().chain(known).collect()
    }

    /// Decides about one Service; `None` where there is none any more.
    pub fn decide(
        &mut self,
        key: &ObjectKey,
        seen: Option<Seen<'_>>,
        now: Timestamp,
    ) -> Vec<Effect> {
        let Some(Seen {
            observed,
            resource_version,
        }) = seen
        else {
            self.allocator.forget(key);
            return Vec::new();
        };
        let service = &observed.service;
        // Its labels and its limit decide, and they are on their way.
        if service.current.is_empty()
            && observed.wanted
            && !self.allocator.knows_namespace(key.namespace())
        {
            return Vec::new();
        }
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
            self.allocator.reconcile(service, resource_version)
        } else {
            self.allocator.release(service, resource_version);
            Outcome::default()
        };
        let conditions = conditions(observed, &outcome, &Time(now));
        let say = |kind, message| Effect::Say {
            key: key.clone(),
            uid: observed.uid.clone(),
            kind,
            message,
        };
        let mut effects: Vec<Effect> = outcome
            .events
            .into_iter()
            .map(|event| say(event.kind, event.message))
            .collect();
        let same = outcome.addresses == service.current
            && outcome.pool == service.recorded_pool
            && conditions.is_none()
            && !(observed.foreign_ingress && observed.wanted);
        if !same {
            // Said when something changes anyway, as MetalLB does (reference 3.1).
            effects.extend(observed.deprecated.iter().map(|annotation| {
                let message = format!(
                    "Service uses deprecated annotation {}; write {} in its place",
                    annotation.deprecated, annotation.current
                );
                say(EventKind::DeprecatedAnnotation, message)
            }));
            effects.insert(
                0,
                Effect::WriteStatus {
                    key: key.clone(),
                    resource_version: resource_version.to_owned(),
                    addresses: outcome.addresses,
                    pool: outcome.pool,
                    conditions,
                    span: SpanOf(decided),
                },
            );
        }
        effects
    }

    /// The counters of a pool in force.
    #[must_use]
    pub fn counters(&self, pool: &str) -> Option<PoolCounters> {
        self.allocator.counters(pool)
    }

    /// What is kept back for former owners, by pool.
    #[must_use]
    pub fn holds(&self) -> BTreeMap<String, Vec<Hold>> {
        self.allocator.holds()
    }

    /// When to decide again although nothing changes.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        Timestamp::from_millisecond(self.allocator.wake_at()?).ok()
    }
}

/// The conditions that a Service shall have; `None` where it has them.
fn conditions(observed: &Observed, outcome: &Outcome, now: &Time) -> Option<Vec<Condition>> {
    let mut wanted = Vec::new();
    if let Some(verdict) = &outcome.verdict {
        let reason = verdict.reason.to_string();
        wanted.push((
            ADDRESSES_ALLOCATED,
            status::FALSE,
            reason,
            verdict.message.clone(),
        ));
    }
    let known = |type_: &str| ferrolb_api::conditions::find(&observed.conditions, type_);
    if let Some(conflict) = &outcome.conflict {
        let reason = reason::OLDER_SERVICE_KEEPS_ADDRESS.to_owned();
        wanted.push((ADDRESS_CONFLICT, status::TRUE, reason, conflict.clone()));
    }
    // Told for as long as the Service has what it got in its place.
    let kept = known(ADDRESS_CONFLICT).filter(|_| {
        outcome.conflict.is_none()
            && observed.wanted
            && outcome.addresses == observed.service.current
    });
    let wanted: Vec<Condition> = wanted
        .into_iter()
        .map(|(type_, answer, reason, message)| {
            let since = known(type_)
                .filter(|before| before.status == answer)
                .map_or(now, |before| &before.last_transition_time);
            Condition {
                type_: type_.to_owned(),
                status: answer.to_owned(),
                reason,
                message,
                observed_generation: None,
                last_transition_time: since.clone(),
            }
        })
        .chain(kept.cloned())
        .collect();
    let ours = observed
        .conditions
        .iter()
        .filter(|condition| is_ours(condition));
    let same = ours.clone().count() == wanted.len()
        && wanted
            .iter()
            .all(|condition| observed.conditions.contains(condition));
    (!same).then(|| {
        let others = observed
            .conditions
            .iter()
            .filter(|condition| !is_ours(condition));
        others.cloned().chain(wanted).collect()
    })
}

/// Older Services are served first; the name breaks a tie.
#[must_use]
pub fn order(observed: &Observed) -> (i64, &ObjectKey) {
    (observed.service.created, &observed.service.key)
}

#[cfg(test)]
mod tests {
    use ferrolb_api::v1beta1::{IPAddressPool, IPAddressPoolSpec};
    use ferrolb_rules::{Configuration, Objects};
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
        decider.use_pools(&configuration.pools, BTreeSet::new());
        decider.use_namespace("shop", Some(Namespace::default()));
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
            Timestamp::UNIX_EPOCH,
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
        let seen = |observed| Seen {
            observed,
            resource_version: "7",
        };
        decider.claim([seen(&young), seen(&old)], [], Timestamp::UNIX_EPOCH);
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

    #[test]
    fn what_others_wrote_beside_our_addresses_goes() {
        let mut decider = decider(&["10.0.0.0/24"]);
        let hostname = service(json!({
            "metadata": {"annotations": {"metallb.io/ip-allocated-from-pool": "p"}},
            "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.9"}, {"hostname": "lb.example.org"}]}},
        }));
        let effects = decide(&mut decider, &hostname);
        assert!(
            matches!(effects.as_slice(), [Effect::WriteStatus { addresses, .. }] if *addresses == hostname.service.current),
            "{effects:?}"
        );
    }

    #[test]
    fn nothing_is_decided_of_a_service_before_its_namespace_is_known() {
        let mut decider = decider(&["10.0.0.0/24"]);
        let early = service(json!({"metadata": {"namespace": "new"}}));
        assert!(decide(&mut decider, &early).is_empty());
        decider.use_namespace("new", Some(Namespace::default()));
        assert!(!decide(&mut decider, &early).is_empty());
    }
}
