//! What API servers ask the webhook about.
//!
//! A webhook that does not answer lets changes pass: the same rules hold at run time, and a cluster whose webhook is down
//! must still be repairable. Of our own kinds, objects in every namespace are sent, so that one in the wrong namespace is
//! refused rather than silently without effect. Services and Namespaces are not ours: only those that concern FerroLB are
//! sent, never for long, and nothing that is being deleted is ever held up.

use ferrolb_api::GROUP;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations,
    ServiceReference, ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::{Component, Installation, names};

/// One thing that the webhook is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The entry's name in the registration (reference section 2.1).
    pub name: &'static str,
    /// The kind's API group.
    pub group: &'static str,
    /// The kind's plural.
    pub plural: &'static str,
    /// The version in which objects are sent; the API server converts from others.
    pub version: &'static str,
    /// `Namespaced` or `Cluster`.
    pub scope: &'static str,
    /// Where the API server sends the object.
    pub path: &'static str,
    /// The changes that it is asked about.
    pub operations: &'static [&'static str],
    /// How many seconds an API server waits.
    pub timeout: i32,
    /// Which objects are sent: each condition's name and CEL expression, all of which must hold.
    pub conditions: &'static [(&'static str, &'static str)],
}

const CHANGES: &[&str] = &["CREATE", "UPDATE"];
const DELETION: &[&str] = &["DELETE"];

/// A finalizer that is taken off is an update, too.
const NOT_BEING_DELETED: (&str, &str) = (
    "not-being-deleted",
    "!has(object.metadata.deletionTimestamp)",
);
const LOAD_BALANCER: (&str, &str) = (
    "load-balancer",
    "has(object.spec.type) && object.spec.type == 'LoadBalancer'",
);

/// The kinds that people write for FerroLB.
///
/// Whoever is not answered may still delete: an entry that is asked about deletions is asked about nothing else, so that it
/// alone can be left at `Ignore`, and the others do not see what is being deleted.
pub fn endpoints() -> [Endpoint; 7] {
    let kind = |name, plural, version, path, operations: &'static [&'static str]| Endpoint {
        name,
        group: GROUP,
        plural,
        version,
        scope: "Namespaced",
        path,
        operations,
        timeout: 5,
        // The object of a deletion is null, and a condition that reads it fails.
        conditions: if operations == DELETION {
            &[]
        } else {
            &[NOT_BEING_DELETED]
        },
    };
    [
        kind(
            "bfdprofilevalidationwebhook.metallb.io",
            "bfdprofiles",
            "v1beta1",
            "/validate-metallb-io-v1beta1-bfdprofile",
            // MetalLB does not ask about updates; the same rules hold for them.
            CHANGES,
        ),
        kind(
            // A profile must not vanish under a peer.
            "bfdprofiledeletionwebhook.metallb.io",
            "bfdprofiles",
            "v1beta1",
            "/validate-metallb-io-v1beta1-bfdprofile",
            DELETION,
        ),
        kind(
            "bgpadvertisementvalidationwebhook.metallb.io",
            "bgpadvertisements",
            "v1beta1",
            "/validate-metallb-io-v1beta1-bgpadvertisement",
            CHANGES,
        ),
        kind(
            "bgppeersvalidationwebhook.metallb.io",
            "bgppeers",
            "v1beta2",
            "/validate-metallb-io-v1beta2-bgppeer",
            CHANGES,
        ),
        kind(
            "communityvalidationwebhook.metallb.io",
            "communities",
            "v1beta1",
            "/validate-metallb-io-v1beta1-community",
            CHANGES,
        ),
        kind(
            "ipaddresspoolvalidationwebhook.metallb.io",
            "ipaddresspools",
            "v1beta1",
            "/validate-metallb-io-v1beta1-ipaddresspool",
            CHANGES,
        ),
        kind(
            "l2advertisementvalidationwebhook.metallb.io",
            "l2advertisements",
            "v1beta1",
            "/validate-metallb-io-v1beta1-l2advertisement",
            CHANGES,
        ),
    ]
}

/// Services and Namespaces, of which only what is written for FerroLB is judged.
pub fn guests() -> [Endpoint; 2] {
    [
        Endpoint {
            name: "namespacevalidationwebhook.ferrolb.io",
            group: "",
            plural: "namespaces",
            version: "v1",
            scope: "Cluster",
            path: "/validate-namespace",
            operations: CHANGES,
            timeout: 2,
            conditions: &[
                NOT_BEING_DELETED,
                (
                    "says-something-to-ferrolb",
                    "has(object.metadata.annotations) && object.metadata.annotations.exists(key, \
                     key.startsWith('metallb.io/') || key.startsWith('metallb.universe.tf/') || key.startsWith('ferrolb.io/'))",
                ),
            ],
        },
        Endpoint {
            name: "servicevalidationwebhook.ferrolb.io",
            group: "",
            plural: "services",
            version: "v1",
            scope: "Namespaced",
            path: "/validate-service",
            operations: CHANGES,
            timeout: 2,
            conditions: &[
                NOT_BEING_DELETED,
                LOAD_BALANCER,
                (
                    "asks-for-something",
                    // Two keys are left by FerroLB itself, on every Service that has an address.
                    "(has(object.spec.loadBalancerIP) && object.spec.loadBalancerIP != '') || \
                     (has(object.metadata.annotations) && object.metadata.annotations.exists(key, \
                     !(key in ['metallb.io/ip-allocated-from-pool', 'ferrolb.io/traceparent']) && \
                     (key.startsWith('metallb.io/') || key.startsWith('metallb.universe.tf/') || key.startsWith('ferrolb.io/'))))",
                ),
            ],
        },
    ]
}

/// Where the trace of whoever applied a Service is left on it. It changes nothing else.
pub fn trace() -> Endpoint {
    Endpoint {
        name: "servicetracewebhook.ferrolb.io",
        group: "",
        plural: "services",
        version: "v1",
        scope: "Namespaced",
        path: "/mutate-trace",
        operations: CHANGES,
        timeout: 2,
        conditions: &[NOT_BEING_DELETED, LOAD_BALANCER],
    }
}

/// The same registration where changes to our own kinds wait for a webhook that answers: only what differs, for a
/// strategic merge. Services and Namespaces are left alone, because a cluster must live without FerroLB's webhook, and so are
/// deletions, without which neither a namespace nor FerroLB itself could be removed.
pub fn fail_closed() -> serde_json::Value {
    let webhooks: Vec<_> = endpoints()
        .iter()
        .filter(|endpoint| endpoint.operations != DELETION)
        .map(|endpoint| serde_json::json!({ "name": endpoint.name, "failurePolicy": "Fail" }))
        .collect();
    serde_json::json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": { "name": names::WEBHOOK_CONFIGURATION },
        "webhooks": webhooks,
    })
}

impl Endpoint {
    /// What the API server is to ask about.
    pub fn rule(&self) -> RuleWithOperations {
        RuleWithOperations {
            api_groups: Some(vec![self.group.to_owned()]),
            api_versions: Some(vec![self.version.to_owned()]),
            operations: Some(
                self.operations
                    .iter()
                    .map(|&operation| operation.to_owned())
                    .collect(),
            ),
            resources: Some(vec![self.plural.to_owned()]),
            scope: Some(self.scope.to_owned()),
        }
    }

    fn conditions(&self) -> Option<Vec<MatchCondition>> {
        let conditions: Vec<_> = self
            .conditions
            .iter()
            .map(|&(name, expression)| MatchCondition {
                name: name.to_owned(),
                expression: expression.to_owned(),
            })
            .collect();
        (!conditions.is_empty()).then_some(conditions)
    }
}

impl Installation {
    /// Tells API servers what to have judged. The operator adds the certificate authority, so applying this again does not
    /// touch it.
    pub fn webhook_configuration(&self) -> ValidatingWebhookConfiguration {
        let entry = |endpoint: Endpoint| ValidatingWebhook {
            name: endpoint.name.to_owned(),
            admission_review_versions: vec!["v1".to_owned()],
            client_config: self.called_at(endpoint.path),
            failure_policy: Some("Ignore".to_owned()),
            match_conditions: endpoint.conditions(),
            match_policy: Some("Equivalent".to_owned()),
            rules: Some(vec![endpoint.rule()]),
            side_effects: "None".to_owned(),
            timeout_seconds: Some(endpoint.timeout),
            ..ValidatingWebhook::default()
        };
        ValidatingWebhookConfiguration {
            metadata: self.registered_as(names::WEBHOOK_CONFIGURATION),
            webhooks: Some(endpoints().into_iter().chain(guests()).map(entry).collect()),
        }
    }

    /// Tells API servers what to have changed: one annotation. See [`trace`].
    pub fn mutating_webhook_configuration(&self) -> MutatingWebhookConfiguration {
        let endpoint = trace();
        MutatingWebhookConfiguration {
            metadata: self.registered_as(names::MUTATING_WEBHOOK_CONFIGURATION),
            webhooks: Some(vec![MutatingWebhook {
                name: endpoint.name.to_owned(),
                admission_review_versions: vec!["v1".to_owned()],
                client_config: self.called_at(endpoint.path),
                failure_policy: Some("Ignore".to_owned()),
                match_conditions: endpoint.conditions(),
                match_policy: Some("Equivalent".to_owned()),
                reinvocation_policy: Some("Never".to_owned()),
                rules: Some(vec![endpoint.rule()]),
                side_effects: "None".to_owned(),
                timeout_seconds: Some(endpoint.timeout),
                ..MutatingWebhook::default()
            }]),
        }
    }

    /// Has BGPPeers converted by the webhook: what differs from the definition, for a strategic merge.
    ///
    /// Through a Service of its own, see [`Installation::conversion_service`]. Only requests in a version other than the stored one
    /// come, and unlike the rest they fail when nobody answers: there is no other answer.
    pub fn conversion(&self) -> serde_json::Value {
        serde_json::json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": { "name": names::CONVERTED_DEFINITION },
            "spec": {
                "conversion": {
                    "strategy": "Webhook",
                    "webhook": {
                        "conversionReviewVersions": ["v1"],
                        "clientConfig": {
                            "service": {
                                "name": names::CONVERSION_SERVICE,
                                "namespace": self.namespace,
                                "path": "/convert",
                                "port": 443,
                            },
                        },
                    },
                },
            },
        })
    }

    fn registered_as(&self, name: &str) -> ObjectMeta {
        let mut metadata = self.metadata(Component::Webhook, name);
        metadata.namespace = None;
        metadata
    }

    fn called_at(&self, path: &str) -> WebhookClientConfig {
        WebhookClientConfig {
            service: Some(ServiceReference {
                name: names::WEBHOOK_SERVICE.to_owned(),
                namespace: self.namespace.clone(),
                path: Some(path.to_owned()),
                port: Some(443),
            }),
            ..WebhookClientConfig::default()
        }
    }
}
