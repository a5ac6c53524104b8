//! Where the server certificate comes from: a Secret that is watched, or a folder that is read again and again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ferrolb_cluster::{Client, Store, WatchConfig, watch};
use ferrolb_serving::tls::SwappableCertificate;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;

/// How often a folder is looked at. A kubelet itself takes up to a minute or two to renew a mount.
const FOLDER_EVERY: Duration = Duration::from_secs(30);

/// Chain and key as PEM.
#[derive(Clone, PartialEq, Eq)]
struct Pem {
    chain: Vec<u8>,
    key: Vec<u8>,
}

/// Follows the Secret `name`. A Secret that is missing, empty or wrong leaves the certificate in use as it is.
pub async fn follow_secret(
    client: Client,
    namespace: &str,
    name: &str,
    certificate: SwappableCertificate,
) {
    let secrets: Store<Pem> = watch(
        Api::<Secret>::namespaced(client, namespace),
        WatchConfig::most_recent().fields(format!("metadata.name={name}")),
        |secret| {
            let data = secret.data.as_ref()?;
            let entry = |key: &str| {
                data.get(key)
                    .map(|bytes| bytes.0.clone())
                    .filter(|bytes| !bytes.is_empty())
            };
            Some(Pem {
                chain: entry("tls.crt")?,
                key: entry("tls.key")?,
            })
        },
    );
    let changes = secrets.subscribe();
    loop {
        changes.next().await;
        match secrets.snapshot().values().next() {
            Some(pem) => install(pem, &certificate, name),
            None if !certificate.is_present() => {
                tracing::info!(
                    secret = name,
                    "waiting for a certificate: the Secret has no tls.crt and tls.key yet"
                );
            }
            None => tracing::warn!(
                secret = name,
                "the Secret is gone or empty; going on with the last certificate"
            ),
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
    })
}

fn install(pem: &Pem, certificate: &SwappableCertificate, source: &str) {
    match certificate.replace(&pem.chain, &pem.key) {
        Ok(()) => tracing::info!(source, "the server certificate is in use"),
        Err(error) => {
            let error: &(dyn std::error::Error + 'static) = &error;
            tracing::error!(
                source,
                error,
                "the server certificate cannot be used; going on with the last one, if any"
            );
        }
    }
}
