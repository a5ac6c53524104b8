//! The webhook's certificate changes while it is asked.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ferrolb_operator::certificates::Bundle;
use serde_json::{Value, json};

use super::{Scenario, applies, workloads};
use crate::cluster::{SYSTEM, Site};
use crate::host;
use crate::plan::CONTROL_PLANE;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        group: "webhook",
        name: "certificate-near-its-end",
        doc: "a certificate that ends soon is renewed while people apply fail-closed; no apply fails and no pod is restarted",
        run: near_its_end,
    },
    Scenario {
        group: "webhook",
        name: "authority-near-its-end",
        doc: "an authority that ends soon is replaced while people apply fail-closed, and no apply fails",
        run: authority_near_its_end,
    },
    Scenario {
        group: "webhook",
        name: "certificate-deleted",
        doc: "the Secret is deleted and made again with another authority while people apply fail-closed, and no apply fails",
        run: deleted,
    },
    Scenario {
        group: "webhook",
        name: "certificate-of-cert-manager",
        doc: "a Secret of another authority is published and served, then ours again, while people apply fail-closed; none fails",
        run: of_cert_manager,
    },
];

const LIMIT: Duration = Duration::from_secs(30);
const SECRET: &str = "/api/v1/namespaces/metallb-system/secrets/metallb-webhook-cert";
const SECRETS: &str = "/api/v1/namespaces/metallb-system/secrets";
const NAME: &str = "metallb-webhook-service.metallb-system.svc";
const REGISTRATIONS: [&str; 2] = [
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/metallb-webhook-configuration",
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/ferrolb-webhook-configuration",
];
const DEFINITION: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/bgppeers.metallb.io";
const DAY: u64 = 24 * 3600;
/// Server certificates are made for a year and authorities for ten; these were made so long ago that less than 90 days, the
/// time of renewal, are left.
const SERVER_MADE_AGO: u64 = 335 * DAY;
const AUTHORITY_MADE_AGO: u64 = (10 * 365 - 80) * DAY;

/// The names that the operator makes certificates for.
fn names() -> Vec<String> {
    vec![
        NAME.to_owned(),
        "ferrolb-webhook-conversion.metallb-system.svc".to_owned(),
    ]
}

/// An entry of the Secret, as text.
fn entry(site: &Site, name: &str) -> Result<String> {
    let secret = site.get(SECRET)?.context("there is no certificate")?;
    let text = secret["data"][name].as_str().unwrap_or_default();
    Ok(String::from_utf8(STANDARD.decode(text)?)?)
}

/// What the operator keeps in the Secret.
fn stored(site: &Site) -> Result<Bundle> {
    let mut entries = BTreeMap::new();
    for name in ["ca.crt", "ca.key", "tls.crt", "tls.key"] {
        entries.insert(name.to_owned(), entry(site, name)?.into_bytes());
    }
    Bundle::read(&entries).context("the Secret lacks one of its four entries")
}

/// The pods of operator and webhook, with how often their containers were started.
fn lives(site: &Site) -> Result<Vec<(Value, u64)>> {
    let mut lives = Vec::new();
    for component in ["operator", "webhook"] {
        for pod in workloads::pods(site, component)? {
            lives.push((
                pod["metadata"]["uid"].clone(),
                workloads::restarts(site, component)?,
            ));
        }
    }
    Ok(lives)
}

/// Seconds since the epoch, this long ago.
fn ago(seconds: u64) -> Result<i64> {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)?
        .as_secs();
    Ok(i64::try_from(now - seconds)?)
}

fn data(entries: BTreeMap<String, Vec<u8>>) -> BTreeMap<String, String> {
    entries
        .into_iter()
        .map(|(name, text)| (name, STANDARD.encode(text)))
        .collect()
}

/// The text that each place has in which API servers read whom to trust.
fn bundles(site: &Site) -> Result<Vec<String>> {
    let mut clients = Vec::new();
    for path in REGISTRATIONS {
        let registration = site.get(path)?.context("a registration is missing")?;
        let entries = registration["webhooks"].as_array().into_iter().flatten();
        clients.extend(entries.map(|entry| entry["clientConfig"].clone()));
    }
    let definition = site.get(DEFINITION)?.context("the definition is missing")?;
    clients.push(definition["spec"]["conversion"]["webhook"]["clientConfig"].clone());
    let mut bundles = Vec::new();
    for client in clients {
        let text = STANDARD.decode(client["caBundle"].as_str().unwrap_or_default())?;
        bundles.push(String::from_utf8(text)?);
    }
    Ok(bundles)
}

/// Waits until API servers are told of this authority, perhaps among others.
fn published(site: &Site, authority: &str) -> Result<()> {
    site.wait_for("API servers are told of the authority", LIMIT, || {
        let bundles = bundles(site)?;
        for bundle in &bundles {
            let count = bundle.matches("BEGIN CERTIFICATE").count();
            ensure!(count <= 3, "{count} authorities are published");
        }
        Ok(bundles
            .iter()
            .all(|bundle| bundle.contains(authority.trim())))
    })
}

/// Waits until every place has an authority.
pub fn published_everywhere(site: &Site) -> Result<()> {
    site.wait_for("every place has an authority", LIMIT, || {
        Ok(bundles(site)?.iter().all(|bundle| !bundle.is_empty()))
    })
}

/// Waits until every pod serves this certificate, as any client sees it that trusts the authority, by either name.
fn served(site: &Site, authority: &str, certificate: &str) -> Result<()> {
    let file = site.run.directory.join("webhook-ca.crt");
    std::fs::write(&file, authority)?;
    for pod in workloads::pods(site, "webhook")? {
        let address = pod["status"]["podIP"]
            .as_str()
            .context("a pod without address")?;
        for name in names() {
            site.wait_for("the pod serves the new certificate", LIMIT, || {
                let served = host::run_in(
                    &site.run.namespace(CONTROL_PLANE.name),
                    "curl",
                    &[
                        "-sS",
                        "--max-time",
                        "2",
                        "--cacert",
                        &file.display().to_string(),
                        "--resolve",
                        &format!("{name}:9443:{address}"),
                        "-o",
                        "/dev/null",
                        "-w",
                        "%{certs}",
                        &format!("https://{name}:9443/"),
                    ],
                )?;
                let line = certificate.trim().lines().nth(1);
                Ok(line.is_some_and(|line| served.contains(line)))
            })?;
        }
    }
    Ok(())
}

/// Waits for a Secret whose authority is none of these; returns its authority once all pods serve under it.
fn replaced(site: &Site, former: &[&str]) -> Result<String> {
    let authority = site.wait("there is a new authority", LIMIT, || {
        let authority = entry(site, "ca.crt")?;
        Ok((!authority.is_empty() && !former.contains(&authority.as_str())).then_some(authority))
    })?;
    served(site, &authority, &entry(site, "tls.crt")?)?;
    published(site, &authority)?;
    Ok(authority)
}

fn near_its_end(site: &Site) -> Result<String> {
    let before = lives(site)?;
    let ours = stored(site)?;
    let old = ours.renew_server(&names(), ago(SERVER_MADE_AGO)?)?;
    let tally = applies::during_fail_closed(site, || {
        site.patch(SECRET, &json!({"data": data(old.entries())}))?;
        let renewed = site.wait("the certificate is renewed", LIMIT, || {
            let now = entry(site, "tls.crt")?;
            Ok((now != old.tls_crt).then_some(now))
        })?;
        served(site, &ours.ca_crt, &renewed)?;
        ensure!(
            entry(site, "ca.crt")? == ours.ca_crt,
            "the authority had years left and was exchanged"
        );
        published(site, &ours.ca_crt)
    })?;
    ensure!(before == lives(site)?, "a pod of {SYSTEM} was restarted");
    Ok(format!(
        "renewed, served and trusted; the authority stayed; {tally}"
    ))
}

fn authority_near_its_end(site: &Site) -> Result<String> {
    let before = lives(site)?;
    let first = entry(site, "ca.crt")?;
    let old = Bundle::issue(&names(), ago(AUTHORITY_MADE_AGO)?)?.renew_server(&names(), ago(0)?)?;
    let tally = applies::during_fail_closed(site, || {
        site.patch(SECRET, &json!({"data": data(old.entries())}))?;
        replaced(site, &[&first, &old.ca_crt]).map(drop)
    })?;
    ensure!(before == lives(site)?, "a pod of {SYSTEM} was restarted");
    Ok(tally.to_string())
}

fn deleted(site: &Site) -> Result<String> {
    let first = entry(site, "ca.crt")?;
    let tally = applies::during_fail_closed(site, || {
        site.delete(SECRET)?;
        replaced(site, &[&first]).map(drop)
    })?;
    Ok(tally.to_string())
}

fn of_cert_manager(site: &Site) -> Result<String> {
    let first = entry(site, "ca.crt")?;
    let theirs = Bundle::issue(&names(), ago(0)?)?;
    let mut entries = theirs.entries();
    // The key of the authority stays with whoever signs.
    entries.remove("ca.key");
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "metallb-webhook-cert", "namespace": SYSTEM},
        "data": data(entries),
    });
    let tally = applies::during_fail_closed(site, || {
        site.delete(SECRET)?;
        let made = site.create(SECRETS, &secret)?;
        served(site, &theirs.ca_crt, &theirs.tls_crt)?;
        published(site, &theirs.ca_crt)?;
        let now = site.get(SECRET)?.context("the Secret is gone")?;
        ensure!(
            now["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"],
            "somebody wrote into the Secret of another"
        );
        site.delete(SECRET)?;
        replaced(site, &[&first, &theirs.ca_crt]).map(drop)
    })?;
    Ok(tally.to_string())
}
