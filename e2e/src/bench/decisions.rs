//! How long does one decision take? Read from the estimates that criterion left (`make bench-decision`).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::rows::{Rows, at_most};

/// The group of benchmarks in lib/allocation/benches.
const GROUP: &str = "decision";

/// A benchmark and its mean.
pub struct Decision {
    what: String,
    milliseconds: f64,
}

/// Reads the newest estimate of every benchmark of the group below criterion's folder.
pub fn read(criterion: &Path) -> Result<Vec<Decision>> {
    let group = criterion.join(GROUP);
    let hint = || format!("{}; `make bench-decision` makes it", group.display());
    let mut decisions = Vec::new();
    for entry in fs::read_dir(&group).with_context(hint)? {
        // Beside one folder for each benchmark there may be one for a report.
        let newest = entry?.path().join("new");
        if newest.join("estimates.json").exists() {
            decisions.push(Decision {
                what: text(&newest.join("benchmark.json"), "/function_id")?,
                milliseconds: number(&newest.join("estimates.json"), "/mean/point_estimate")? / 1e6,
            });
        }
    }
    ensure!(!decisions.is_empty(), "no estimates in {}", hint());
    decisions.sort_by(|one, other| one.what.cmp(&other.what));
    Ok(decisions)
}

impl Rows {
    /// The target is that of the issue: one decision with 10,000 Services and 50 pools.
    pub fn decisions(&mut self, decisions: &[Decision]) {
        for Decision { what, milliseconds } in decisions {
            let what = format!("one decision: {what}");
            self.add(&what, *milliseconds, "ms", at_most(2.0));
        }
    }
}

fn number(path: &Path, at: &str) -> Result<f64> {
    field(path, at)?
        .as_f64()
        .with_context(|| format!("{}: {at} is no number", path.display()))
}

fn text(path: &Path, at: &str) -> Result<String> {
    let text = field(path, at)?.as_str().map(ToOwned::to_owned);
    text.with_context(|| format!("{}: {at} is no text", path.display()))
}

fn field(path: &Path, at: &str) -> Result<Value> {
    let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let mut value: Value =
        serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))?;
    let field = value.pointer_mut(at).map(Value::take);
    field.with_context(|| format!("{} has no {at}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_the_newest_run_counts_and_an_absent_one_names_the_remedy() {
        let folder = std::env::temp_dir().join(format!("ferrolb-criterion-{}", std::process::id()));
        let newest = folder.join("decision/a new Service/new");
        fs::create_dir_all(&newest).unwrap();
        fs::create_dir_all(folder.join("decision/report")).unwrap();
        let write = |name: &str, text: &str| fs::write(newest.join(name), text).unwrap();
        write("benchmark.json", r#"{"function_id": "a new Service"}"#);
        write("estimates.json", r#"{"mean": {"point_estimate": 9500.0}}"#);
        let [decision] = <[Decision; 1]>::try_from(read(&folder).unwrap())
            .ok()
            .unwrap();
        assert_eq!(
            (decision.what.as_str(), decision.milliseconds),
            ("a new Service", 0.0095)
        );
        fs::remove_dir_all(&folder).unwrap();
        let error = read(&folder).err().unwrap().to_string();
        assert!(error.contains("make bench-decision"), "{error}");
    }
}
