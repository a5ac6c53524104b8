//! The API server's own rules and these say the same of the same mistake. What the API server prints is taken from a real one
//! (e2e/validation/printed.txt).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;

use ferrolb_api::conversion::convert_bgp_peer;
use ferrolb_rules::{Known, Refusal};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const PRINTED: &str = include_str!("../../../e2e/validation/printed.txt");
const CASES: &str = include_str!("../../../e2e/validation/cases.yaml");

/// What has to be said in other words, and why.
const OTHERWISE: [(&str, &str); 5] = [
    // A rule about `spec` does not see whose it is.
    ("spec.password", "can not have both password and secret ref"),
    // MetalLB's schema and its parser have a sentence each, and tools may match on either.
    (
        "spec.serviceSelectors",
        "serviceSelectors and aggregationLength",
    ),
    // There is no telling in CEL what is wrong with a duration.
    ("Time", "is not a duration from 0s to 65535s"),
    // The rules read a selector up to its first mistake.
    ("matchExpressions[1]", "remove the values"),
    // It is about a change, of which only the API server knows both sides.
    (
        "spec.enableGracefulRestart",
        "cannot be changed after creation",
    ),
];

#[derive(Deserialize)]
struct Cases {
    kinds: BTreeMap<String, Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    rule: String,
    kind: String,
    version: Option<String>,
    bad: Option<Value>,
}

impl Case {
    /// What the rules say; nothing where the object has not even the form of its kind.
    fn judged(&self, cases: &Cases) -> Vec<Refusal> {
        let version = match (&self.version, self.kind.as_str()) {
            (Some(version), _) => version,
            (None, "BGPPeer") => "v1beta2",
            (None, _) => "v1beta1",
        };
        let mut object = json!({
            "apiVersion": format!("metallb.io/{version}"), "kind": self.kind, "metadata": {"name": "vg"},
            "spec": cases.kinds[&self.kind],
        });
        let mut change = self.bad.clone().unwrap_or_default();
        let metadata = change.as_object_mut().unwrap().remove("metadata");
        json_patch::merge(
            &mut object,
            &json!({"spec": change, "metadata": metadata.unwrap_or_else(|| json!({}))}),
        );
        let known = Known::default();
        fn read<K: DeserializeOwned>(object: Value) -> Option<K> {
            serde_json::from_value(object).ok()
        }
        let verdict = match self.kind.as_str() {
            "IPAddressPool" => read(object).map(|object| known.pool(&object)),
            "L2Advertisement" => read(object).map(|object| known.l2_advertisement(&object)),
            "BGPAdvertisement" => read(object).map(|object| known.bgp_advertisement(&object)),
            "BGPPeer" => read(convert_bgp_peer(object, "metallb.io/v1beta2").unwrap())
                .map(|object| known.peer(&object)),
            "BFDProfile" => read(object).map(|object| known.bfd_profile(&object)),
            "Community" => read(object).map(|object| known.community(&object)),
            _ => None,
        };
        verdict.map_or_else(Vec::new, |verdict| verdict.refusals)
    }

    /// What the API server printed of a rule: field, value where it is shown, and sentence.
    fn printed(&self) -> Vec<(&str, &str)> {
        let title = format!("## {} {}\n", self.kind, self.rule);
        let section = PRINTED.split_once(&title).unwrap().1;
        let section = section.split("\n\n").next().unwrap();
        let refused = section
            .split_once("\nrefused: ")
            .map_or("", |(_, text)| text);
        let told = refused.lines().filter_map(|line| {
            let (start, sentence) = line
                .split_once(": Invalid value: ")
                .or_else(|| line.split_once(": Required value: "))?;
            let field = start.rsplit([' ', ':']).next()?;
            // The words of the schema are not ours.
            (field.starts_with("spec") && !sentence.contains("in body should be"))
                .then_some((field, sentence))
        });
        told.collect()
    }
}

/// Whether a sentence of the API server is that of a refusal. It names the value before the sentence, and a refusal in it; a
/// refusal begins with the object where MetalLB's does.
fn same(sentence: &str, refusal: &Refusal) -> bool {
    let of_object = ["parsing address pool vg: ", "parsing community "];
    let reason = of_object
        .iter()
        .find_map(|start| refusal.reason.strip_prefix(start))
        .unwrap_or(&refusal.reason);
    let reason = match refusal.kind {
        "Community" => reason
            .split_once("\": ")
            .map_or(reason, |(_, reason)| reason),
        _ => reason,
    };
    let Some((value, told)) = sentence
        .split_once(": ")
        .filter(|(value, _)| is_json(value))
    else {
        return sentence == reason;
    };
    // A number cannot be put into a sentence there: as a text it counts as one of any length, which costs too much.
    let without = [format!(", is {value}"), format!(" {value}")];
    told == reason
        || without
            .iter()
            .any(|value| told == reason.replace(value, ""))
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok()
}

#[test]
fn the_api_server_says_of_a_mistake_what_the_rules_say() {
    let cases: Cases = serde_saphyr::from_str(CASES).unwrap();
    let (mut compared, mut otherwise, mut differ) = (0, [0; OTHERWISE.len()], Vec::new());
    for case in cases.cases.iter().filter(|case| case.bad.is_some()) {
        let refusals = case.judged(&cases);
        for (field, sentence) in case.printed() {
            let excused = OTHERWISE
                .iter()
                .position(|(at, words)| field.contains(at) && sentence.contains(words));
            if let Some(excused) = excused {
                otherwise[excused] += 1;
                continue;
            }
            let at: Vec<&Refusal> = refusals
                .iter()
                .filter(|refusal| field.starts_with(&refusal.field))
                .collect();
            compared += 1;
            if !at.iter().any(|refusal| same(sentence, refusal)) {
                let reasons: Vec<&str> = at.iter().map(|refusal| refusal.reason.as_str()).collect();
                differ.push(format!("{field}: {sentence}\n    {reasons:?}"));
            }
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    assert!(compared >= 30, "{compared} sentences were found");
    assert!(
        otherwise.iter().all(|found| *found > 0),
        "an exception is none: {otherwise:?}"
    );
}
