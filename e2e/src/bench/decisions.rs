//! How long does one decision take, and one BGP message? Read from the estimates that criterion left (`make bench-decision`).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::rows::{Rows, at_most};

/// The groups of benchmarks in lib/allocation/benches and lib/announcement/benches, each with what one of it is called and
/// the milliseconds that it may take. The allocator's is one decision with 10,000 Services and 50 pools; what is announced by
/// layer 2 is decided with 10,000 addresses and 500 nodes.
const GROUPS: [(&str, &str, Option<f64>); 4] = [
    ("decision", "one decision", Some(2.0)),
    (
        "announcing all",
        "who announces what, 10,000 addresses and 500 nodes",
        Some(20.0),
    ),
    (
        "announcing one",
        "who announces what, 10,000 addresses and 500 nodes",
        Some(1.0),
    ),
    (
        "announcing first",
        "who announces what, 10,000 addresses and 500 nodes",
        None,
    ),
];

/// The groups of lib/bgp/benches, each with a benchmark of our codec and of both oracles.
const CODEC: [&str; 6] = [
    "writing an UPDATE of 1",
    "writing an UPDATE of 800",
    "writing an OPEN",
    "reading an UPDATE of 1",
    "reading an UPDATE of 800",
    "reading an OPEN",
];

/// Ours in the groups of [`CODEC`]: not slower than the others.
const OURS: &str = "ferrolb";

/// A benchmark and its mean.
pub struct Decision {
    what: String,
    mean: f64,
    unit: &'static str,
    target: Option<f64>,
}

/// Reads the newest estimate of every benchmark below criterion's folder.
pub fn read(criterion: &Path) -> Result<Vec<Decision>> {
    let mut all = Vec::new();
    for (group, what, target) in GROUPS {
        for (name, milliseconds) in read_group(criterion, group)? {
            all.push(Decision {
                what: format!("{what}: {name}"),
                mean: milliseconds,
                unit: "ms",
                target,
            });
        }
    }
    for group in CODEC {
        let means = read_group(criterion, group)?;
        let others = means.iter().filter(|(name, _)| name != OURS);
        let fastest = others.map(|(_, mean)| mean * 1e3).min_by(f64::total_cmp);
        all.extend(means.iter().map(|(name, milliseconds)| Decision {
            what: format!("{group}: {name}"),
            mean: milliseconds * 1e3,
            unit: "µs",
            target: fastest.filter(|_| name == OURS),
        }));
    }
    Ok(all)
}

fn read_group(criterion: &Path, group: &str) -> Result<Vec<(String, f64)>> {
    let group = criterion.join(group);
    let hint = || format!("{}; `make bench-decision` makes it", group.display());
    let mut decisions = Vec::new();
    for entry in fs::read_dir(&group).with_context(hint)? {
        // Beside one folder for each benchmark there may be one for a report.
        let newest = entry?.path().join("new");
        if newest.join("estimates.json").exists() {
            decisions.push((
                text(&newest.join("benchmark.json"), "/function_id")?,
                number(&newest.join("estimates.json"), "/mean/point_estimate")? / 1e6,
            ));
        }
    }
    ensure!(!decisions.is_empty(), "no estimates in {}", hint());
    decisions.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(decisions)
}

impl Rows {
    /// How long decisions take, beside what they may take.
    pub fn decisions(&mut self, decisions: &[Decision]) {
        for decision in decisions {
            let target = decision.target.and_then(at_most);
            self.add(&decision.what, decision.mean, decision.unit, target);
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
    use serde_json::json;
    use std::path::PathBuf;

    /// A folder as criterion leaves it, with this benchmark.
    fn measured(criterion: &Path, group: &str, name: &str, nanoseconds: f64) {
        let newest = criterion.join(group).join(name).join("new");
        fs::create_dir_all(&newest).unwrap();
        let write = |file: &str, value: Value| fs::write(newest.join(file), value.to_string());
        write("benchmark.json", json!({"function_id": name})).unwrap();
        let estimates = json!({"mean": {"point_estimate": nanoseconds}});
        write("estimates.json", estimates).unwrap();
    }

    fn folder(name: &str) -> PathBuf {
        let process = std::process::id();
        std::env::temp_dir().join(format!("ferrolb-criterion-{name}-{process}"))
    }

    #[test]
    fn the_mean_of_the_newest_run_counts_and_an_absent_one_names_the_remedy() {
        let folder = folder("one");
        measured(&folder, "decision", "a new Service", 9500.0);
        fs::create_dir_all(folder.join("decision/report")).unwrap();
        let read = |folder: &Path| read_group(folder, "decision");
        assert_eq!(
            read(&folder).unwrap(),
            [("a new Service".to_owned(), 0.0095)]
        );
        fs::remove_dir_all(&folder).unwrap();
        let error = read(&folder).err().unwrap().to_string();
        assert!(error.contains("make bench-decision"), "{error}");
    }

    #[test]
    fn our_codec_is_held_against_the_faster_of_the_others() {
        let folder = folder("all");
        for (group, ..) in GROUPS {
            measured(&folder, group, "something", 1e6);
        }
        for group in CODEC {
            for (name, nanoseconds) in [(OURS, 120.0), ("netgauze", 200.0), ("rustbgpd", 500.0)] {
                measured(&folder, group, name, nanoseconds);
            }
        }
        let all = read(&folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let codec: Vec<_> = all.iter().filter(|one| one.unit == "µs").collect();
        assert_eq!(codec.len(), 3 * CODEC.len());
        for one in codec {
            let ours = one.what.ends_with(": ferrolb");
            assert_eq!(one.target, ours.then_some(0.2), "{}", one.what);
            assert!(!ours || (one.mean - 0.12).abs() < 1e-9, "{}", one.mean);
        }
    }
}
