//! What does kubectl print of each rule, in both verdicts?

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cluster::{SYSTEM, Site};
use crate::objects::LABEL;
use crate::run::repository;
use crate::scenarios::workloads;

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
    /// Nothing for what no webhook knows.
    shows: Option<Shows>,
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

/// By which answer a webhook shows that it knows an object.
#[derive(Deserialize)]
struct Shows {
    /// The question: the good object of this kind with this change.
    kind: String,
    change: Value,
    /// What the answer has in it, or has not any more.
    says: Option<String>,
    omits: Option<String>,
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

impl Cases {
    /// The good object of a kind, changed.
    fn object(&self, kind: &str, version: Option<&str>, change: &Value) -> Result<Value> {
        let spec = self
            .kinds
            .get(kind)
            .context("a kind without a good object")?;
        let mut object = object(kind, version, "vg", spec);
        let mut change = change.clone();
        let metadata = change
            .as_object_mut()
            .and_then(|change| change.remove("metadata"))
            .unwrap_or_else(|| json!({}));
        json_patch::merge(&mut object, &json!({"spec": change, "metadata": metadata}));
        Ok(object)
    }
}

impl Case {
    fn object(&self, cases: &Cases, change: &Value) -> Result<Value> {
        cases.object(&self.kind, self.version.as_deref(), change)
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
    wait_until_known(site, &cases)?;
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

/// Each replica of the webhook knows what is away.
fn wait_until_said(site: &Site, case: &Case, cases: &Cases) -> Result<()> {
    let change = case.good.as_ref().context("nothing to apply")?;
    let object = case.object(cases, change)?;
    for pod in workloads::pods(site, "webhook")? {
        let pod = pod["metadata"]["name"].as_str().context("a nameless pod")?;
        let what = format!("{pod} says {:?}", case.until);
        site.wait_for(&what, Duration::from_secs(20), || {
            Ok(ask(site, pod, &case.kind, &object)?.contains(&case.until))
        })?;
    }
    Ok(())
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

/// Each replica of the webhook knows every object beside which the others are judged. Which of them the API server asks is not
/// ours to choose, so each is asked itself.
fn wait_until_known(site: &Site, cases: &Cases) -> Result<()> {
    let limit = Duration::from_secs(20);
    for pod in workloads::pods(site, "webhook")? {
        let pod = pod["metadata"]["name"].as_str().context("a nameless pod")?;
        for beside in &cases.beside {
            let Some(shows) = &beside.shows else {
                continue;
            };
            let object = cases.object(&shows.kind, None, &shows.change)?;
            let what = format!("{pod} knows {} {}", beside.kind, beside.name);
            site.wait_for(&what, limit, || {
                let answer = ask(site, pod, &shows.kind, &object)?;
                let has = |part: &Option<String>| part.as_ref().map(|part| answer.contains(part));
                Ok(has(&shows.says) != Some(false) && has(&shows.omits) != Some(true))
            })?;
        }
    }
    Ok(())
}

/// What one webhook answers about a new object.
fn ask(site: &Site, pod: &str, kind: &str, object: &Value) -> Result<String> {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let path = format!(
        "validate-{}-{}",
        version.replace(['.', '/'], "-"),
        kind.to_lowercase()
    );
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "every-rule", "operation": "CREATE", "object": object,
            "name": object["metadata"]["name"], "namespace": object["metadata"]["namespace"],
        },
    });
    let proxied = format!("/api/v1/namespaces/{SYSTEM}/pods/https:{pod}:9443/proxy/{path}");
    let request = http::Request::post(proxied)
        .header("content-type", "application/json")
        .body(review.to_string().into_bytes())?;
    let answer: Value = site.runtime().block_on(site.client.request(request))?;
    let response = &answer["response"];
    ensure!(response["allowed"].is_boolean(), "{pod} answers {answer}");
    Ok(response.to_string())
}
