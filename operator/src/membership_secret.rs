//! The key that speakers of one cluster know each other by (reference 3.10).

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ferrolb_cluster::{
    Backoff, Client, Leadership, ObjectKey, Outcome, WatchConfig, Writer, watch,
};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rand::RngCore;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The entry of the Secret that holds the key.
const ENTRY: &str = "secretkey";

/// Keeps the Secret there, until `shutdown`. One that exists is left alone, whoever made it: an exchange of the key would
/// part the speakers that have read the old one from those that have read the new. For the same reason one that goes is made
/// again with the key that it had, as long as this process has seen it.
pub async fn keep(
    client: Client,
    namespace: String,
    name: String,
    leadership: Leadership,
    shutdown: CancellationToken,
) {
    let writer = Writer::new(client.clone());
    let config = WatchConfig::most_recent()
        .in_namespace(&namespace)
        .fields(format!("metadata.name={name}"));
    let secrets = watch(&client, config, |secret: &Secret| {
        secret.data.as_ref()?.get(ENTRY).cloned()
    });
    let key = ObjectKey::new(&namespace, &name);
    let feed = secrets.subscribe();
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    let mut last = None;
    loop {
        let mut again = None;
        if let Some(stored) = secrets.get(&key) {
            last = Some(stored.value().clone());
        } else if secrets.is_ready() && leadership.leads() {
            let key = last.get_or_insert_with(|| new_key(rand::rng())).clone();
            if create(&writer, &namespace, &name, key).await {
                backoff.succeeded();
            } else {
                again = Some(backoff.failed());
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = feed.next() => {}
            () = tokio::time::sleep(again.unwrap_or_default()), if again.is_some() => {}
        }
    }
}

/// True once it exists.
async fn create(writer: &Writer, namespace: &str, name: &str, key: ByteString) -> bool {
    match writer.create(namespace, &secret(name, key)).await {
        Outcome::Done(_) => {
            info!(secret = name, "made the key of the speakers' membership");
            true
        }
        // The watch will show it.
        Outcome::Conflict => true,
        Outcome::Gone => {
            warn!(
                secret = name,
                namespace, "cannot make the membership key: the namespace does not exist"
            );
            false
        }
        Outcome::Invalid(reason) | Outcome::Unavailable(reason) => {
            warn!(secret = name, %reason, "cannot make the membership key; trying again");
            false
        }
    }
}

fn new_key(mut random: impl RngCore) -> ByteString {
    let mut key = [0; 16];
    random.fill_bytes(&mut key);
    ByteString(STANDARD_NO_PAD.encode(key).into_bytes())
}

fn secret(name: &str, key: ByteString) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(ENTRY.to_owned(), key)])),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_22_characters_of_base64() {
        let key = new_key(rand::rng());
        assert_eq!(key.0.len(), 22);
        assert_ne!(key, new_key(rand::rng()));
    }
}
