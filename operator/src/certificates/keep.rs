//! Keeps the Secret and the caBundle of the webhook configuration right.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ferrolb_api::ObjectKey;
use ferrolb_cluster::{Backoff, Client, Leadership, Outcome, Store, WatchConfig, Writer, watch};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::bundle::{Bundle, Due};

/// How often expiry is looked at when nothing else happens (reference 5.7).
const LOOK_EVERY: Duration = Duration::from_hours(12);

/// Where certificates live and what they are for.
#[derive(Clone, Debug)]
pub struct CertificateNames {
    /// The install namespace.
    pub namespace: String,
    /// The Secret.
    pub secret: String,
    /// The DNS name that the API server calls.
    pub dns_name: String,
    /// The ValidatingWebhookConfiguration.
    pub webhook_configuration: String,
}

/// The webhooks of the configuration: name and present caBundle, in order.
type Webhooks = Vec<(String, Option<Vec<u8>>)>;

/// Runs until `shutdown`, writing only while `leadership` lasts. Needs nothing but the two objects that it names.
pub async fn keep(
    client: Client,
    names: CertificateNames,
    leadership: Leadership,
    shutdown: CancellationToken,
) {
    let writer = Writer::new(client.clone());
    let secrets = watch(
        Api::<Secret>::namespaced(client.clone(), &names.namespace),
        WatchConfig::most_recent().fields(format!("metadata.name={}", names.secret)),
        |secret: &Secret| {
            Some(
                secret
                    .data
                    .iter()
                    .flatten()
                    .map(|(name, value)| (name.clone(), value.0.clone()))
                    .collect(),
            )
        },
    );
    let configurations = watch(
        Api::<ValidatingWebhookConfiguration>::all(client),
        WatchConfig::most_recent().fields(format!("metadata.name={}", names.webhook_configuration)),
        |configuration: &ValidatingWebhookConfiguration| Some(webhooks(configuration)),
    );
    let (secret_feed, configuration_feed) = (secrets.subscribe(), configurations.subscribe());
    secrets.ready().await;
    configurations.ready().await;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    loop {
        let done = if leadership.leads() {
            settle(&writer, &names, &secrets, &configurations).await
        } else {
            false
        };
        let pause = if done {
            backoff.succeeded();
            LOOK_EVERY
        } else {
            backoff.failed()
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = secret_feed.next() => {}
            _ = configuration_feed.next() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Brings both objects up to date. True if nothing is left to do.
async fn settle(
    writer: &Writer,
    names: &CertificateNames,
    secrets: &Store<BTreeMap<String, Vec<u8>>>,
    configurations: &Store<Webhooks>,
) -> bool {
    let key = ObjectKey::new(&names.namespace, &names.secret);
    let stored = secrets.get(&key);
    let present = stored.as_ref().and_then(|entries| Bundle::read(entries));
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(0));
    let due = match &present {
        Some(bundle) => bundle.due(&names.dns_name, now),
        None => Some(Due::Unusable("there is none".to_owned())),
    };
    let bundle = match (present, due) {
        (Some(bundle), None) => bundle,
        (present, due) => {
            let due = due.unwrap_or(Due::Unusable(String::new()));
            let next = match &present {
                Some(bundle) => bundle.renew(&due, &names.dns_name, now),
                None => Bundle::issue(&names.dns_name, now),
            };
            let next = match next {
                Ok(next) => next,
                Err(error) => {
                    warn!(%error, "the webhook certificate cannot be made; trying again");
                    return false;
                }
            };
            // A new authority is trusted before anyone serves with it.
            if matches!(due, Due::AuthorityExpires)
                && !publish(writer, names, configurations, &next.ca_crt).await
            {
                return false;
            }
            let outcome = match &stored {
                Some(stored) => {
                    let data: BTreeMap<String, ByteString> = next
                        .entries()
                        .into_iter()
                        .map(|(name, value)| (name, ByteString(value)))
                        .collect();
                    writer
                        .patch::<Secret>(
                            &key,
                            Some(stored.resource_version()),
                            json!({"data": data}),
                        )
                        .await
                }
                None => {
                    writer
                        .create(&names.namespace, &secret(&names.secret, &next))
                        .await
                }
            };
            match outcome {
                Outcome::Done(_) => {
                    info!(secret = %key, reason = ?due, "wrote a new webhook certificate")
                }
                // The watch shows the other's and we look again.
                Outcome::Conflict => return false,
                Outcome::Gone | Outcome::Invalid(_) | Outcome::Unavailable(_) => {
                    warn!(secret = %key, ?outcome, "the webhook certificate cannot be stored; trying again");
                    return false;
                }
            }
            next
        }
    };
    publish(writer, names, configurations, &bundle.ca_crt).await
}

/// Writes the authority into every webhook that has another one. True if all have it, or there is no configuration:
/// FerroLB works without its webhook.
async fn publish(
    writer: &Writer,
    names: &CertificateNames,
    configurations: &Store<Webhooks>,
    ca_crt: &str,
) -> bool {
    let key = ObjectKey::new("", &names.webhook_configuration);
    let Some(stored) = configurations.get(&key) else {
        return true;
    };
    if stored
        .iter()
        .all(|(_, present)| present.as_deref() == Some(ca_crt.as_bytes()))
    {
        return true;
    }
    let change = inject(&stored, ca_crt);
    let outcome = writer
        .patch_strategic::<ValidatingWebhookConfiguration>(&key, stored.resource_version(), change)
        .await;
    match outcome {
        Outcome::Done(_) => {
            info!(configuration = %key, "the webhook configuration trusts the certificate's authority");
            true
        }
        Outcome::Gone => true,
        Outcome::Conflict => false,
        Outcome::Invalid(reason) | Outcome::Unavailable(reason) => {
            warn!(configuration = %key, %reason, "the webhook configuration cannot be written; trying again");
            false
        }
    }
}

fn webhooks(configuration: &ValidatingWebhookConfiguration) -> Webhooks {
    configuration
        .webhooks
        .iter()
        .flatten()
        .map(|webhook| {
            (
                webhook.name.clone(),
                webhook
                    .client_config
                    .ca_bundle
                    .as_ref()
                    .map(|bundle| bundle.0.clone()),
            )
        })
        .collect()
}

/// A strategic merge patch: webhooks are merged by name, so everything else of them stays as it is.
fn inject(webhooks: &Webhooks, ca_crt: &str) -> Value {
    let bundle = ByteString(ca_crt.as_bytes().to_vec());
    let webhooks: Vec<Value> = webhooks
        .iter()
        .map(|(name, _)| json!({"name": name, "clientConfig": {"caBundle": bundle}}))
        .collect();
    json!({"webhooks": webhooks})
}

fn secret(name: &str, bundle: &Bundle) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(
            bundle
                .entries()
                .into_iter()
                .map(|(name, value)| (name, ByteString(value)))
                .collect(),
        ),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}
