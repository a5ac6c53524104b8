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
    shows: Shows,
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

/// What kubectl prints when `object` is applied, and whether it was accepted.
fn apply(site: &Site, object: &Value) -> Result<(bool, String)> {
    let arguments = ["apply", "--dry-run=server", "-f", "-"];
    site.kubectl_prints(&arguments, &object.to_string())
}

pub fn run(site: &Site) -> Result<String> {
    let text = fs::read_to_string(folder().join("cases.yaml"))?;
    let cases: Cases = serde_saphyr::from_str(&text).context("reading cases.yaml")?;
    for beside in &cases.beside {
        site.apply(&object(&beside.kind, None, &beside.name, &beside.spec).to_string())?;
    }
    wait_until_known(site, &cases)?;
    let mut printed = String::from(
        "# What kubectl prints, case by case. `BLESS=1 make e2e NAME=every-rule` writes it from a real API server.\n",
    );
    let (mut accepted, mut refused, mut wrong) = (0, 0, Vec::new());
    for case in &cases.cases {
        printed.push_str(&format!("\n## {} {}\n", case.kind, case.rule));
        for (verdict, change) in [("accepted", &case.good), ("refused", &case.bad)] {
            let Some(change) = change else { continue };
            let (passes, text) = apply(
                site,
                &cases.object(&case.kind, case.version.as_deref(), change)?,
            )?;
            printed.push_str(&format!("{verdict}: {change}\n"));
            add(&mut printed, &text);
            if passes != (verdict == "accepted") {
                wrong.push(format!(
                    "{} {}: {verdict} was expected: {text}",
                    case.kind, case.rule
                ));
            }
            accepted += usize::from(passes);
            refused += usize::from(!passes);
        }
        if let Some(name) = &case.delete {
            let arguments = ["-n", SYSTEM, "delete", "--dry-run=server", &case.kind, name];
            let (passes, text) = site.kubectl_prints(&arguments, "")?;
            printed.push_str(&format!("refused: delete {name}\n"));
            add(&mut printed, &text);
            ensure!(!passes, "{name} could be deleted");
            refused += 1;
        }
    }
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
            let shows = &beside.shows;
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
