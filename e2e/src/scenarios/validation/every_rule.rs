//! What does kubectl print of each rule, in both verdicts?

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cluster::{SYSTEM, Site};
use crate::objects::LABEL;
use crate::run::repository;

/// The cases, as people write them.
#[derive(Deserialize)]
struct Cases {
    beside: Vec<Beside>,
    /// The specification of a good object of each kind.
    kinds: BTreeMap<String, Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Beside {
    kind: String,
    name: String,
    spec: Value,
    namespace: Option<String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    /// The webhook would refuse it; what got in while it was away is judged all the same.
    #[serde(default)]
    past_the_webhook: bool,
}

impl Beside {
    fn object(&self) -> Value {
        let mut object = object(&self.kind, None, &self.name, &self.spec);
        object["metadata"]["annotations"] = json!(self.annotations);
        if let Some(namespace) = &self.namespace {
            object["metadata"]["namespace"] = json!(namespace);
        }
        object
    }
}

#[derive(Deserialize)]
struct Case {
    rule: String,
    kind: String,
    version: Option<String>,
    /// Merge patches to the good object of the kind.
    good: Option<Value>,
    bad: Option<Value>,
    /// The name of an object that must not be deleted.
    delete: Option<String>,
    /// Objects that are away meanwhile, as kind/name.
    #[serde(default)]
    without: Vec<String>,
    /// Words that show that the webhook knows it.
    #[serde(default)]
    until: String,
}

fn folder() -> PathBuf {
    repository().join("e2e/validation")
}

fn object(kind: &str, version: Option<&str>, name: &str, spec: &Value) -> Value {
    let version = match (kind, version) {
        ("Service" | "Namespace", _) => "v1".to_owned(),
        (_, Some(version)) => format!("metallb.io/{version}"),
        ("BGPPeer", None) => "metallb.io/v1beta2".to_owned(),
        _ => "metallb.io/v1beta1".to_owned(),
    };
    let mut metadata = json!({"name": name, "labels": {LABEL: "yes"}});
    match kind {
        "Namespace" => {}
        "Service" => metadata["namespace"] = json!("default"),
        _ => metadata["namespace"] = json!(SYSTEM),
    }
    json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})
}

impl Case {
    fn object(&self, cases: &Cases, change: &Value) -> Result<Value> {
        let spec = cases
            .kinds
            .get(&self.kind)
            .context("a kind without a good object")?;
        let mut object = object(&self.kind, self.version.as_deref(), "vg", spec);
        let mut change = change.clone();
        let metadata = change
            .as_object_mut()
            .and_then(|change| change.remove("metadata"))
            .unwrap_or_else(|| json!({}));
        json_patch::merge(&mut object, &json!({"spec": change, "metadata": metadata}));
        Ok(object)
    }

    /// Writes down what kubectl prints of each verdict.
    fn ask(
        &self,
        site: &Site,
        cases: &Cases,
        printed: &mut String,
        tally: &mut Tally,
    ) -> Result<()> {
        printed.push_str(&format!("\n## {} {}\n", self.kind, self.rule));
        if !self.until.is_empty() {
            wait_until_said(site, self, cases)?;
        }
        for (verdict, change) in [("accepted", &self.good), ("refused", &self.bad)] {
            let Some(change) = change else { continue };
            let (passes, text) = apply(site, &self.object(cases, change)?)?;
            printed.push_str(&format!("{verdict}: {change}\n"));
            add(printed, &text);
            if passes != (verdict == "accepted") {
                tally.wrong.push(format!(
                    "{} {}: {verdict} was expected: {text}",
                    self.kind, self.rule
                ));
            }
            tally.accepted += usize::from(passes);
            tally.refused += usize::from(!passes);
        }
        if let Some(name) = &self.delete {
            let arguments = ["-n", SYSTEM, "delete", "--dry-run=server", &self.kind, name];
            let (passes, text) = site.kubectl_prints(&arguments, "")?;
            printed.push_str(&format!("refused: delete {name}\n"));
            add(printed, &text);
            ensure!(!passes, "{name} could be deleted");
            tally.refused += 1;
        }
        Ok(())
    }
}

/// What came out of all cases.
#[derive(Default)]
struct Tally {
    accepted: usize,
    refused: usize,
    wrong: Vec<String>,
}

/// What kubectl prints when `object` is applied, and whether it was accepted.
fn apply(site: &Site, object: &Value) -> Result<(bool, String)> {
    let arguments = ["apply", "--dry-run=server", "-f", "-"];
    site.kubectl_prints(&arguments, &object.to_string())
}

pub fn run(site: &Site) -> Result<String> {
    let text = fs::read_to_string(folder().join("cases.yaml"))?;
    let cases: Cases = serde_saphyr::from_str(&text).context("reading cases.yaml")?;
    let (unjudged, judged): (Vec<_>, Vec<_>) = cases
        .beside
        .iter()
        .partition(|beside| beside.past_the_webhook);
    for beside in judged {
        site.apply(&beside.object().to_string())?;
    }
    super::without_judging_webhooks(site, || {
        for beside in unjudged {
            site.apply(&beside.object().to_string())?;
        }
        Ok(())
    })?;
    wait_until_known(site)?;
    let mut printed = String::from(
        "# What kubectl prints, case by case. `BLESS=1 make e2e NAME=every-rule` writes it from a real API server.\n",
    );
    let mut tally = Tally::default();
    for case in &cases.cases {
        let away = Away::take(site, &case.without)?;
        let asked = case.ask(site, &cases, &mut printed, &mut tally);
        away.put_back(site)?;
        asked?;
    }
    let Tally {
        accepted,
        refused,
        wrong,
    } = tally;
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    let golden = folder().join("printed.txt");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&golden, &printed)?;
    }
    let expected = fs::read_to_string(&golden).unwrap_or_default();
    if let Some((line, (now, before))) = printed
        .lines()
        .zip(expected.lines().chain(std::iter::repeat("")))
        .enumerate()
        .find(|(_, (now, before))| now != before)
    {
        bail!(
            "printed.txt, line {}: {now:?} is printed and {before:?} was expected",
            line + 1
        );
    }
    ensure!(
        printed.lines().count() == expected.lines().count(),
        "printed.txt has more"
    );
    Ok(format!(
        "{} rules: {accepted} accepted, {refused} refused, each in its words",
        cases.cases.len()
    ))
}

/// Objects that were taken out of the cluster, to be put back.
struct Away(Vec<Value>);

impl Away {
    fn take(site: &Site, names: &[String]) -> Result<Self> {
        let mut taken = Vec::new();
        for name in names {
            let text = site.kubectl(&["-n", SYSTEM, "get", name, "-o", "json"])?;
            let mut object: Value = serde_json::from_str(&text)?;
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.retain(|key, _| ["name", "namespace", "labels"].contains(&key.as_str()));
            }
            taken.push(json!({
                "apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": object["metadata"],
                "spec": object["spec"],
            }));
            site.kubectl(&["-n", SYSTEM, "delete", name])?;
        }
        Ok(Away(taken))
    }

    fn put_back(self, site: &Site) -> Result<()> {
        for object in self.0 {
            site.apply(&object.to_string())?;
        }
        Ok(())
    }
}

/// Both replicas of the webhook know what is away: ten answers in a row say so.
fn wait_until_said(site: &Site, case: &Case, cases: &Cases) -> Result<()> {
    let change = case.good.as_ref().context("nothing to apply")?;
    let object = case.object(cases, change)?;
    let limit = std::time::Duration::from_secs(20);
    site.wait_for(&format!("the webhook says {:?}", case.until), limit, || {
        for _ in 0..10 {
            if !apply(site, &object)?.1.contains(&case.until) {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// The API server finds what breaks a schema in no order.
fn add(printed: &mut String, text: &str) {
    let (mut listed, mut others): (Vec<_>, Vec<_>) =
        text.lines().partition(|line| line.starts_with("* "));
    listed.sort_unstable();
    others.extend(listed);
    for line in others {
        printed.push_str(&format!("    {line}\n"));
    }
}

/// Both replicas of the webhook know the objects beside which the others are judged: none of ten answers in a row, which the
/// API server spreads over them, misses one.
fn wait_until_known(site: &Site) -> Result<()> {
    let overlapping = object(
        "IPAddressPool",
        None,
        "vg",
        &json!({"addresses": ["10.60.1.3/32"]}),
    );
    let twin = json!({"myASN": 64512, "peerASN": 64513, "peerAddress": "10.61.0.1"});
    let twin = object("BGPPeer", None, "vg", &twin);
    let limit = std::time::Duration::from_secs(20);
    site.wait_for("the webhook knows what is beside", limit, || {
        for _ in 0..5 {
            for object in [&overlapping, &twin] {
                if apply(site, object)?.0 {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    })
}
