//! Keeps the Secret and the published authorities right, for as long as this process leads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ferrolb_api::ObjectKey;
use ferrolb_cluster::{
    Backoff, Client, Leadership, Outcome, Store, Stored, WatchConfig, Writer, watch,
};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::authority::{Authority, authorities, trusts};
use super::bundle::{Bundle, Due, ends, uncovered};
use super::decide::{self, Memory, Step, View, decide};
use super::targets::Targets;

/// A certificate of others that ends this soon is warned about.
const WARN_AHEAD: Duration = Duration::from_hours(14 * 24);
/// How long the watches have to show what was just written, before it is looked at again.
const SHOWN: Duration = Duration::from_secs(1);

/// Where certificates live and what they are for.
#[derive(Clone, Debug)]
pub struct CertificateNames {
    /// The install namespace.
    pub namespace: String,
    /// The Secret.
    pub secret: String,
    /// The DNS names that API servers call.
    pub dns_names: Vec<String>,
    /// The ValidatingWebhookConfiguration.
    pub validating: String,
    /// The MutatingWebhookConfiguration.
    pub mutating: String,
    /// The CustomResourceDefinition whose versions the webhook converts.
    pub converted: String,
}

/// What is read of the Secret.
#[derive(Clone, Debug, PartialEq)]
struct Held {
    entries: BTreeMap<String, Vec<u8>>,
    /// Whether somebody else keeps it: cert-manager, or a person who has certificates from elsewhere.
    others: bool,
}

impl Held {
    fn of(secret: &Secret) -> Self {
        let entries = secret.data.iter().flatten();
        let mut annotations = secret.metadata.annotations.iter().flatten();
        Self {
            entries: entries
                .map(|(name, value)| (name.clone(), value.0.clone()))
                .collect(),
            others: secret.type_.as_deref() == Some("kubernetes.io/tls")
                || annotations.any(|(name, _)| name.starts_with("cert-manager.io/")),
        }
    }

    fn entry(&self, name: &str) -> &[u8] {
        self.entries
            .get(name)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    /// Whether API servers somewhere refuse this certificate and nobody but a person can change that: it does not say of
    /// which authority it is, and that place has none that issued it.
    fn is_unknown_to(&self, published: &[Vec<Authority>]) -> bool {
        authorities(self.entry("ca.crt")).is_empty()
            && !published
                .iter()
                .all(|place| trusts(place, self.entry("tls.crt")))
    }
}

/// Runs until `shutdown`, writing only while `leadership` lasts. Needs nothing but the objects that it names.
pub async fn keep(
    client: Client,
    names: CertificateNames,
    leadership: Leadership,
    shutdown: CancellationToken,
) {
    let secrets = watch(
        &client,
        WatchConfig::most_recent()
            .in_namespace(&names.namespace)
            .fields(format!("metadata.name={}", names.secret)),
        |secret: &Secret| Some(Held::of(secret)),
    );
    let targets = Targets::watch(
        &client,
        &names.validating,
        &names.mutating,
        &names.converted,
    );
    let changed = Arc::new(Notify::new());
    let secret_feed = secrets.subscribe_with(changed.clone());
    let target_feeds = targets.subscribe(&changed);
    let mut keeper = Keeper {
        writer: Writer::new(client),
        key: ObjectKey::new(&names.namespace, &names.secret),
        names,
        secrets,
        targets,
        memory: Memory::default(),
        began: Instant::now(),
        warned: None,
        backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(30)),
    };
    tokio::select! {
        () = shutdown.cancelled() => return,
        () = async { tokio::join!(keeper.secrets.ready(), keeper.targets.ready()); } => {}
    }
    loop {
        secret_feed.take();
        for feed in &target_feeds {
            feed.take();
        }
        let pause = if leadership.leads() {
            keeper.settle().await
        } else {
            keeper.memory = Memory::default();
            keeper.backoff.failed()
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = changed.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

struct Keeper {
    writer: Writer,
    key: ObjectKey,
    names: CertificateNames,
    secrets: Store<Held>,
    targets: Targets,
    memory: Memory,
    began: Instant,
    /// The version of another's Secret that was warned about, and when.
    warned: Option<(String, Instant)>,
    backoff: Backoff,
}

impl Keeper {
    /// Takes one step; returns how long to wait for changes before the next.
    async fn settle(&mut self) -> Duration {
        let stored = self.secrets.get(&self.key);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(0));
        let published = self.targets.published();
        let secret = match &stored {
            None => decide::Secret::Absent,
            Some(stored) if stored.value().others => {
                self.warn_of_others(stored, &published, now);
                decide::Secret::Others(authorities(stored.value().entry("ca.crt")))
            }
            Some(stored) => decide::Secret::Ours(Bundle::read(&stored.value().entries)),
        };
        let view = View {
            secret: &secret,
            published: &published,
            dns_names: &self.names.dns_names,
            now,
            uptime: self.began.elapsed(),
        };
        let done = match decide(&view, &mut self.memory) {
            Ok(Step::Rest(pause)) => {
                self.backoff.succeeded();
                return pause;
            }
            Ok(Step::Publish(trusted)) => self.publish(&trusted).await,
            Ok(Step::Store(bundle, due)) => self.store(stored.as_ref(), &bundle, &due).await,
            Err(error) => {
                warn!(%error, "the webhook certificate cannot be made; trying again");
                false
            }
        };
        if done {
            self.backoff.succeeded();
            SHOWN
        } else {
            self.backoff.failed()
        }
    }

    /// True if every object has them.
    async fn publish(&self, trusted: &[super::Authority]) -> bool {
        let mut done = true;
        for (object, outcome) in self.targets.publish(&self.writer, trusted).await {
            match outcome {
                Outcome::Done(_) => info!(
                    object,
                    authorities = trusted.len(),
                    "API servers are told whom to trust"
                ),
                // It went, so nobody reads it.
                Outcome::Gone => {}
                // The watch shows what it became, and we look again.
                Outcome::Conflict => done = false,
                Outcome::Invalid(reason) | Outcome::Unavailable(reason) => {
                    warn!(object, %reason, "the webhook's authority cannot be published; trying again");
                    done = false;
                }
            }
        }
        done
    }

    /// True if it is written.
    async fn store(&self, stored: Option<&Stored<Held>>, bundle: &Bundle, due: &Due) -> bool {
        let outcome = match stored {
            Some(stored) => {
                self.writer
                    .patch::<Secret>(
                        &self.key,
                        Some(stored.resource_version()),
                        json!({"data": data(bundle)}),
                    )
                    .await
            }
            None => {
                let secret = Secret {
                    metadata: ObjectMeta {
                        name: Some(self.names.secret.clone()),
                        ..ObjectMeta::default()
                    },
                    data: Some(data(bundle)),
                    type_: Some("Opaque".to_owned()),
                    ..Secret::default()
                };
                self.writer.create(&self.names.namespace, &secret).await
            }
        };
        match outcome {
            Outcome::Done(_) => {
                info!(secret = %self.key, reason = ?due, "wrote a new webhook certificate");
                true
            }
            // The watch shows the other's and we look again.
            Outcome::Conflict => false,
            Outcome::Gone | Outcome::Invalid(_) | Outcome::Unavailable(_) => {
                warn!(secret = %self.key, ?outcome, "the webhook certificate cannot be stored; trying again");
                false
            }
        }
    }

    /// Others renew their certificates themselves; that nobody did is worth a line in the log, and so are a name that is
    /// missing and an authority that nobody published. Once for each version of the Secret, and then as often as expiry is looked at.
    fn warn_of_others(&mut self, stored: &Stored<Held>, published: &[Vec<Authority>], now: i64) {
        let version = stored.resource_version();
        let lately = self
            .warned
            .as_ref()
            .is_some_and(|(warned, at)| warned == version && at.elapsed() < decide::LOOK_EVERY);
        if lately {
            return;
        }
        self.warned = Some((version.to_owned(), Instant::now()));
        let certificate = stored.value().entry("tls.crt");
        let Some(ends) = ends(certificate) else {
            warn!(secret = %self.key, "the webhook certificate that others keep cannot be read");
            return;
        };
        let left = ends - now;
        if left < WARN_AHEAD.as_secs() as i64 {
            warn!(secret = %self.key, days = left.div_euclid(24 * 3600), "the webhook certificate that others keep ends soon and is not ours to renew");
        }
        let missing = uncovered(certificate, &self.names.dns_names);
        if !missing.is_empty() {
            warn!(secret = %self.key, ?missing, "the webhook certificate that others keep lacks names that API servers call");
        }
        if stored.value().is_unknown_to(published) {
            warn!(
                secret = %self.key,
                "API servers do not know the authority of the webhook certificate that others keep, and will refuse it; write the \
                 authority's certificate into ca.crt of the Secret, or let cert-manager publish it with the annotation \
                 cert-manager.io/inject-ca-from on the objects that call the webhook"
            );
        }
    }
}

fn data(bundle: &Bundle) -> BTreeMap<String, ByteString> {
    bundle
        .entries()
        .into_iter()
        .map(|(name, value)| (name, ByteString(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_of_cert_manager_is_told_by_its_type_or_by_its_annotations() {
        let secret = |kind: &str, annotation: Option<&str>| {
            let mut secret = Secret {
                type_: Some(kind.to_owned()),
                ..Secret::default()
            };
            secret.metadata.annotations =
                annotation.map(|name| [(name.to_owned(), "webhook".to_owned())].into());
            Held::of(&secret).others
        };
        assert!(secret("kubernetes.io/tls", None));
        // cert-manager keeps the type of a Secret that it finds.
        assert!(secret("Opaque", Some("cert-manager.io/certificate-name")));
        assert!(!secret("Opaque", Some("example.com/note")));
    }

    #[test]
    fn a_certificate_of_others_is_unknown_where_neither_ca_crt_nor_what_is_published_has_its_authority()
     {
        let bundle = |_| Bundle::issue(&["a.svc".to_owned()], 1_790_000_000).unwrap();
        let [theirs, ours] = [(), ()].map(bundle);
        let held = |entries: &[&str]| Held {
            entries: theirs
                .entries()
                .into_iter()
                .filter(|(name, _)| entries.contains(&name.as_str()))
                .collect(),
            others: true,
        };
        let [known, other] = [&theirs, &ours].map(|bundle| authorities(bundle.ca_crt.as_bytes()));
        let silent = held(&["tls.crt", "tls.key"]);
        assert!(silent.is_unknown_to(&[known.clone(), other.clone()]));
        assert!(silent.is_unknown_to(&[vec![]]));
        assert!(!silent.is_unknown_to(&[[other.clone(), known.clone()].concat(), known]));
        // Wherever cert-manager publishes, nothing is left to us.
        assert!(!silent.is_unknown_to(&[]));
        assert!(!held(&["ca.crt", "tls.crt", "tls.key"]).is_unknown_to(&[other]));
    }
}
