//! Objects that were written for MetalLB are accepted unchanged.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::Scenario;
use crate::cluster::Site;
use crate::run::repository;
use crate::site::kubectl_with_input;

pub const SCENARIOS: &[Scenario] = &[Scenario {
    group: "compatibility",
    name: "metallb-samples-are-accepted",
    doc: "the API server accepts an object of each form that MetalLB's samples and documentation show, with its schema and our webhook",
    run: samples,
}];

fn samples(site: &Site) -> Result<String> {
    let folder = repository().join("api/tests/samples");
    let mut count = 0;
    for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        // A dry run at the server validates and calls the webhook, and stores nothing: samples may contradict each other.
        // Strict validation refuses a field that our schema does not have.
        for document in text.split("\n---").filter(|d| d.contains("metallb.io/")) {
            let in_system = document.replace("metallb-system", crate::cluster::SYSTEM);
            kubectl_with_input(
                &site.run,
                &["apply", "--dry-run=server", "--validate=strict", "-f", "-"],
                &in_system,
            )
            .with_context(|| format!("{}:\n{document}", path.display()))?;
            count += 1;
        }
    }
    ensure!(count > 0, "no sample in {}", folder.display());
    Ok(format!("{count} objects"))
}
