//! The webhook's certificate is renewed while it serves.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ferrolb_operator::certificates::Bundle;
use serde_json::{Value, json};

use super::{Scenario, workloads};
use crate::cluster::{SYSTEM, Site};
use crate::plan::CONTROL_PLANE;
use crate::{host, objects};

pub const SCENARIOS: &[Scenario] = &[Scenario {
    group: "webhook",
    name: "certificate-near-its-end",
    doc: "a certificate that ends soon is renewed; webhook and API server follow, and no pod is restarted",
    run: near_its_end,
}];

const LIMIT: Duration = Duration::from_secs(30);
const SECRET: &str = "/api/v1/namespaces/metallb-system/secrets/metallb-webhook-cert";
const NAME: &str = "metallb-webhook-service.metallb-system.svc";
const CONFIGURATION: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/metallb-webhook-configuration";
/// Certificates are made for a year; this one was made so long ago that a month of it is left.
const MADE_AGO: Duration = Duration::from_hours(24 * 335);

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

fn near_its_end(site: &Site) -> Result<String> {
    let before = lives(site)?;
    let made = SystemTime::now() - MADE_AGO;
    let made = made.duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let old = Bundle::issue(&names(), i64::try_from(made)?)?;
    let data: BTreeMap<String, String> = old
        .entries()
        .into_iter()
        .map(|(name, text)| (name, STANDARD.encode(text)))
        .collect();
    site.patch(SECRET, &json!({"data": data}))?;
    let renewed = site.wait("the certificate is renewed", LIMIT, || {
        let now = entry(site, "tls.crt")?;
        Ok((now != old.tls_crt).then_some(now))
    })?;
    let authority = entry(site, "ca.crt")?;
    ensure!(
        authority == old.ca_crt,
        "the authority had years left and was exchanged"
    );
    site.wait_for("the API server is told of the authority", LIMIT, || {
        let configuration = site.get(CONFIGURATION)?.context("no configuration")?;
        let bundle = STANDARD.encode(&authority);
        Ok(configuration["webhooks"].as_array().is_some_and(|all| {
            all.iter()
                .all(|hook| hook["clientConfig"]["caBundle"] == bundle)
        }))
    })?;
    // What each pod serves, as any client sees it that trusts the authority.
    let file = site.run.directory.join("webhook-ca.crt");
    std::fs::write(&file, &authority)?;
    for pod in workloads::pods(site, "webhook")? {
        let address = pod["status"]["podIP"]
            .as_str()
            .context("a pod without address")?;
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
                    &format!("{NAME}:9443:{address}"),
                    "-o",
                    "/dev/null",
                    "-w",
                    "%{certs}",
                    &format!("https://{NAME}:9443/"),
                ],
            )?;
            Ok(renewed
                .trim()
                .lines()
                .nth(1)
                .is_some_and(|line| served.contains(line)))
        })?;
    }
    site.wait_for("the API server's calls arrive", LIMIT, || {
        // Only the webhook knows of the other pool.
        let pool = objects::pool("overlapping", &["10.10.1.7/32"]).to_string();
        Ok(site
            .apply(&pool)
            .err()
            .is_some_and(|error| format!("{error:#}").contains("overlaps with")))
    })?;
    ensure!(before == lives(site)?, "a pod of {SYSTEM} was restarted");
    Ok("renewed, served and trusted; the authority stayed".to_owned())
}
