//! Where API servers read which authority to trust: two registrations and one definition.

use ferrolb_api::ObjectKey;
use ferrolb_cluster::{ChangeFeed, Client, Outcome, Store, WatchConfig, Writer, watch};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Resource;
use serde_json::{Value, json};
use tokio::sync::Notify;

use std::sync::Arc;

use super::authority::{Authority, authorities};

/// One object with a caBundle, or several.
#[derive(Clone, Debug, PartialEq)]
struct Target {
    /// Name and caBundle of each entry. A definition has one entry without a name.
    entries: Vec<(String, Vec<u8>)>,
}

/// The objects, watched.
pub struct Targets {
    validating: (ObjectKey, Store<Target>),
    mutating: (ObjectKey, Store<Target>),
    definition: (ObjectKey, Store<Target>),
}

impl Targets {
    /// Watches the objects of these names.
    pub fn watch(client: &Client, validating: &str, mutating: &str, definition: &str) -> Self {
        let only = |name: &str| WatchConfig::most_recent().fields(format!("metadata.name={name}"));
        let key = |name: &str| ObjectKey::new("", name);
        Self {
            validating: (
                key(validating),
                watch(
                    client,
                    only(validating),
                    |registration: &ValidatingWebhookConfiguration| {
                        let entries = registration.webhooks.iter().flatten();
                        target(
                            registration,
                            entries.map(|entry| (&entry.name, &entry.client_config)),
                        )
                    },
                ),
            ),
            mutating: (
                key(mutating),
                watch(
                    client,
                    only(mutating),
                    |registration: &MutatingWebhookConfiguration| {
                        let entries = registration.webhooks.iter().flatten();
                        target(
                            registration,
                            entries.map(|entry| (&entry.name, &entry.client_config)),
                        )
                    },
                ),
            ),
            definition: (key(definition), watch(client, only(definition), conversion)),
        }
    }

    fn all(&self) -> [&(ObjectKey, Store<Target>); 3] {
        [&self.validating, &self.mutating, &self.definition]
    }

    /// Wakes `notify` when one of them changes.
    pub fn subscribe(&self, notify: &Arc<Notify>) -> [ChangeFeed; 3] {
        self.all()
            .map(|(_, store)| store.subscribe_with(notify.clone()))
    }

    /// Returns once all of them have been looked for.
    pub async fn ready(&self) {
        for (_, store) in self.all() {
            store.ready().await;
        }
    }

    /// The authorities of each entry of each object that exists and is ours to write.
    pub fn published(&self) -> Vec<Vec<Authority>> {
        self.all()
            .into_iter()
            .filter_map(|(key, store)| store.get(key))
            .flat_map(|stored| stored.value().entries.clone())
            .map(|(_, bundle)| authorities(&bundle))
            .collect()
    }

    /// Writes the authorities wherever others stand. Returns what was written, or why not, by object.
    pub async fn publish(&self, writer: &Writer, trusted: &[Authority]) -> Vec<(String, Outcome)> {
        let bundle = ByteString(super::authority::text(trusted).into_bytes());
        let mut outcomes = Vec::new();
        for (index, (key, store)) in self.all().into_iter().enumerate() {
            let Some(stored) = store.get(key) else {
                continue;
            };
            let entries = &stored.value().entries;
            if entries
                .iter()
                .all(|(_, present)| authorities(present) == trusted)
            {
                continue;
            }
            let version = stored.resource_version();
            let outcome = match index {
                0 => {
                    let change = registration(entries, &bundle);
                    writer
                        .patch_strategic::<ValidatingWebhookConfiguration>(key, version, change)
                        .await
                }
                1 => {
                    let change = registration(entries, &bundle);
                    writer
                        .patch_strategic::<MutatingWebhookConfiguration>(key, version, change)
                        .await
                }
                _ => {
                    let client = json!({"clientConfig": {"caBundle": bundle}});
                    let change = json!({"spec": {"conversion": {"webhook": client}}});
                    writer
                        .patch::<CustomResourceDefinition>(key, Some(version), change)
                        .await
                }
            };
            outcomes.push((key.name().to_owned(), outcome));
        }
        outcomes
    }
}

/// A strategic merge patch: entries are merged by name, so everything else of them stays as it is.
fn registration(entries: &[(String, Vec<u8>)], bundle: &ByteString) -> Value {
    let webhooks: Vec<Value> = entries
        .iter()
        .map(|(name, _)| json!({"name": name, "clientConfig": {"caBundle": bundle}}))
        .collect();
    json!({"webhooks": webhooks})
}

fn target<'a>(
    object: &impl Resource,
    entries: impl Iterator<Item = (&'a String, &'a WebhookClientConfig)>,
) -> Option<Target> {
    let entries: Vec<_> = entries
        .map(|(name, client)| (name.clone(), bytes(client.ca_bundle.as_ref())))
        .collect();
    (!is_injected(object) && !entries.is_empty()).then_some(Target { entries })
}

/// A definition without a conversion webhook has no place for an authority.
fn conversion(definition: &CustomResourceDefinition) -> Option<Target> {
    let conversion = definition.spec.conversion.as_ref()?;
    let client = conversion.webhook.as_ref()?.client_config.as_ref()?;
    let ours = conversion.strategy == "Webhook" && !is_injected(definition);
    ours.then(|| Target {
        entries: vec![(String::new(), bytes(client.ca_bundle.as_ref()))],
    })
}

fn bytes(bundle: Option<&ByteString>) -> Vec<u8> {
    bundle.map(|bundle| bundle.0.clone()).unwrap_or_default()
}

/// Whether cert-manager's injector writes the authority there (`cert-manager.io/inject-ca-from` and its kin): two writers
/// would take turns for ever.
fn is_injected(object: &impl Resource) -> bool {
    object
        .meta()
        .annotations
        .iter()
        .flatten()
        .any(|(name, _)| name.starts_with("cert-manager.io/inject-"))
}
