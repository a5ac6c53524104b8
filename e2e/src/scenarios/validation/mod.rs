//! Is what is wrong refused at the first place that can see it, and is it the same wherever it is seen?

mod agreement;
mod every_rule;
mod limits;
mod migration;
mod objects;
mod stored_before;
mod texts;

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::Scenario;
use crate::cluster::{SYSTEM, Site};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        group: "validation",
        name: "every-rule-says-what-to-do",
        doc: "kubectl prints of each rule, in both verdicts, what stands in e2e/validation/printed.txt",
        run: every_rule::run,
    },
    Scenario {
        group: "validation",
        name: "layers-agree",
        doc: "the API server by itself and the rules say the same of 3,000 objects, right and wrong, of every kind",
        run: agreement::run,
    },
    Scenario {
        group: "validation",
        name: "stored-before-a-rule",
        doc: "an object that was stored before a rule came can be labelled, reported on and mended, but not made worse",
        run: stored_before::run,
    },
    Scenario {
        group: "validation",
        name: "storage-migration",
        doc: "a BGPPeer keeps every word while the version in which it is stored becomes v1beta1 and v1beta2 again",
        run: migration::run,
    },
    Scenario {
        group: "validation",
        name: "longest-lists",
        doc: "a pool of 10,000 ranges is judged within what the API server grants a request; one more is refused",
        run: limits::run,
    },
];

/// Does something while no webhook judges our kinds, so that only the API server's own rules count.
pub fn without_judging_webhooks<T>(site: &Site, act: impl FnOnce() -> Result<T>) -> Result<T> {
    const PATH: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    let judges_ours = |configuration: &&Value| {
        let webhooks = configuration["webhooks"].as_array();
        let rules = webhooks
            .into_iter()
            .flatten()
            .filter_map(|webhook| webhook["rules"].as_array())
            .flatten();
        rules
            .filter_map(|rule| rule["apiGroups"].as_array())
            .flatten()
            .any(|group| group == ferrolb_api::GROUP)
    };
    let all = site.get(PATH)?.unwrap_or_default();
    let mut ours: Vec<Value> = all["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(judges_ours)
        .cloned()
        .collect();
    for configuration in &mut ours {
        let name = configuration["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        site.delete(&format!("{PATH}/{name}"))?;
        if let Some(metadata) = configuration["metadata"].as_object_mut() {
            metadata.retain(|key, _| ["name", "labels", "annotations"].contains(&key.as_str()));
        }
    }
    let result = unjudged(site).and_then(|()| act());
    for configuration in &ours {
        site.create(PATH, configuration)?;
    }
    result
}

/// Waits until the API server knows that there is no webhook: it then takes what only a webhook refuses.
fn unjudged(site: &Site) -> Result<()> {
    let pools = format!("/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/ipaddresspools?dryRun=All");
    let twice = crate::objects::pool("unjudged", &["10.96.0.0/24", "10.96.0.0/24"]);
    site.wait("no webhook judges", Duration::from_secs(20), || {
        site.create(&pools, &twice).map(|_| Some(()))
    })
}
