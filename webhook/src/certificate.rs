//! Where the server certificate comes from: a Secret that is watched, or a folder that is read again and again.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ferrolb_cluster::{Client, Store, WatchConfig, watch};
use ferrolb_serving::tls::SwappableCertificate;
use k8s_openapi::api::core::v1::Secret;

/// How often a folder is looked at. A kubelet itself takes up to a minute or two to renew a mount.
const FOLDER_EVERY: Duration = Duration::from_secs(30);

/// How long a certificate of another authority waits before it takes the place of a good one. Whoever changed the Secret, the
/// operator publishes its authority within moments, and API servers learn of it a moment later; until then they trust
/// what is served already.
const AUTHORITY_SEEN: Duration = Duration::from_secs(10);

/// Chain and key as PEM, and the authority that others shall trust, where it is given.
#[derive(Clone, PartialEq, Eq)]
struct Pem {
    chain: Vec<u8>,
    key: Vec<u8>,
    authority: Vec<u8>,
}

/// Follows the Secret `name`. A Secret that is missing, empty or wrong leaves the certificate in use as it is.
pub async fn follow_secret(
    client: Client,
    namespace: &str,
    name: &str,
    certificate: SwappableCertificate,
) {
    follow_secret_with(client, namespace, name, certificate, AUTHORITY_SEEN).await;
}

/// [`follow_secret`], where a certificate of another authority waits for this long.
pub async fn follow_secret_with(
    client: Client,
    namespace: &str,
    name: &str,
    certificate: SwappableCertificate,
    authority_seen: Duration,
) {
    let secrets: Store<Pem> = watch(
        &client,
        WatchConfig::most_recent()
            .in_namespace(namespace)
            .fields(format!("metadata.name={name}")),
        |secret: &Secret| {
            let data = secret.data.as_ref()?;
            let entry = |key: &str| {
                data.get(key)
                    .map(|bytes| bytes.0.clone())
                    .filter(|bytes| !bytes.is_empty())
            };
            Some(Pem {
                chain: entry("tls.crt")?,
                key: entry("tls.key")?,
                authority: entry("ca.crt").unwrap_or_default(),
            })
        },
    );
    let changes = secrets.subscribe();
    // The authority of the certificate in use, and another that waits, since when. One that takes the place of what waits has
    // the whole time before it.
    let mut served: Option<Vec<u8>> = None;
    let mut waiting: Option<(Vec<u8>, Instant)> = None;
    loop {
        let rest = waiting
            .as_ref()
            .map(|(_, since)| authority_seen.saturating_sub(since.elapsed()));
        tokio::select! {
            _ = changes.next() => {}
            () = tokio::time::sleep(rest.unwrap_or_default()), if rest.is_some() => {}
        }
        let Some(pem) = secrets.snapshot().values().next().cloned() else {
            waiting = None;
            if certificate.is_present() {
                tracing::warn!(
                    secret = name,
                    "the Secret is gone or empty; going on with the last certificate"
                );
            } else {
                tracing::info!(
                    secret = name,
                    "waiting for a certificate: the Secret has no tls.crt and tls.key yet"
                );
            }
            continue;
        };
        let pem = pem.value();
        if served
            .as_ref()
            .is_some_and(|authority| *authority != pem.authority)
        {
            let since = match &waiting {
                Some((authority, since)) if *authority == pem.authority => *since,
                _ => {
                    tracing::info!(
                        secret = name,
                        "a certificate of another authority waits until API servers can know that authority"
                    );
                    let now = Instant::now();
                    waiting = Some((pem.authority.clone(), now));
                    now
                }
            };
            if since.elapsed() < authority_seen {
                continue;
            }
        }
        waiting = None;
        if install(pem, &certificate, name) {
            served = Some(pem.authority.clone());
        }
    }
}

/// Follows `tls.crt` and `tls.key` in a folder.
pub async fn follow_folder(folder: PathBuf, certificate: SwappableCertificate) {
    let mut current = None;
    let mut complained = false;
    loop {
        match read(&folder).await {
            Ok(pem) => {
                complained = false;
                if current.as_ref() != Some(&pem) {
                    install(&pem, &certificate, &folder.display().to_string());
                    current = Some(pem);
                }
            }
            Err(error) if !complained => {
                complained = true;
                tracing::warn!(folder = %folder.display(), %error, "waiting for a certificate: tls.crt and tls.key cannot be read");
            }
            Err(_) => (),
        }
        tokio::time::sleep(FOLDER_EVERY).await;
    }
}

async fn read(folder: &Path) -> std::io::Result<Pem> {
    Ok(Pem {
        chain: tokio::fs::read(folder.join("tls.crt")).await?,
        key: tokio::fs::read(folder.join("tls.key")).await?,
        // Whoever mounts a certificate has published its authority, and a kubelet is slower than any watch.
        authority: Vec::new(),
    })
}

/// True if it is in use now.
fn install(pem: &Pem, certificate: &SwappableCertificate, source: &str) -> bool {
    match certificate.replace(&pem.chain, &pem.key) {
        Ok(()) => {
            tracing::info!(source, "the server certificate is in use");
            true
        }
        Err(error) => {
            let error: &(dyn std::error::Error + 'static) = &error;
            tracing::error!(
                source,
                error,
                "the server certificate cannot be used; going on with the last one, if any"
            );
            false
        }
    }
}
