//! Does an object say who it is in a way that an API server takes?

use ferrolb_rules::names::{is_dns_label, is_dns_subdomain, is_label_key, is_label_value};
use serde_json::{Map, Value};

use super::schema::type_of;
use crate::kind::Kind;

const OF_A_LABEL: &str = "write 1 to 63 of a-z, 0-9 and '-', the latter neither first nor last";
const OF_A_SUBDOMAIN: &str = "write up to 253 of a-z, 0-9, '-' and '.', beginning and ending with a letter or digit on both sides \
                              of each '.'";
const OF_A_KEY: &str =
    "write 1 to 63 letters, digits, '-', '_' or '.', after a prefix such as example.com/ or alone";
const OF_A_VALUE: &str =
    "write up to 63 letters, digits, '-', '_' or '.', the last three neither first nor last";

/// What of `metadata` is judged; the rest is the API server's.
pub(super) const READ: [&str; 5] = ["name", "generateName", "namespace", "labels", "annotations"];

/// The problems of an object, as field and reason.
pub(super) fn check(kind: Kind, object: &Value) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    let mut tell = |field: String, problem: String| problems.push((field, problem));
    let metadata = match object.get("metadata") {
        None | Some(Value::Null) => &Map::new(),
        Some(Value::Object(metadata)) => metadata,
        Some(other) => {
            tell("metadata".to_owned(), of_type("object", other, ""));
            return problems;
        }
    };
    let given = |field: &str| metadata.get(field).filter(|value| !value.is_null());
    if given("name").is_none() && given("generateName").is_none() {
        tell("metadata.name".to_owned(), "is missing; add it".to_owned());
    }
    let of_the_kind: (fn(&str) -> bool, &str) = match kind.is_foreign() {
        true => (is_dns_label, OF_A_LABEL),
        false => (is_dns_subdomain, OF_A_SUBDOMAIN),
    };
    for (field, (fits, rule)) in [
        ("name", of_the_kind),
        ("namespace", (is_dns_label, OF_A_LABEL)),
    ] {
        let path = || format!("metadata.{field}");
        match given(field) {
            None => {}
            Some(Value::String(text)) if fits(text) => {}
            // No namespace is the one that it is applied in.
            Some(Value::String(text)) if field == "namespace" && text.is_empty() => {}
            Some(Value::String(text)) => {
                tell(path(), format!("nothing can be called {text:?}; {rule}"));
            }
            Some(other) => tell(path(), of_type("string", other, "; write it in quotes")),
        }
    }
    for field in ["labels", "annotations"] {
        let entries = match given(field) {
            None => continue,
            Some(Value::Object(entries)) => entries,
            Some(other) => {
                tell(format!("metadata.{field}"), of_type("object", other, ""));
                continue;
            }
        };
        for (key, value) in entries {
            let path = || format!("metadata.{field}[{key}]");
            // The prefix of an annotation may have capitals.
            let readable = match field {
                "labels" => is_label_key(key),
                _ => is_label_key(&key.to_lowercase()),
            };
            if !readable {
                tell(path(), format!("there can be no such key; {OF_A_KEY}"));
            }
            match value {
                Value::String(text) if field == "labels" && !is_label_value(text) => tell(
                    path(),
                    format!("no label has the value {text:?}; {OF_A_VALUE}"),
                ),
                Value::String(_) => {}
                other => tell(path(), of_type("string", other, "; write it in quotes")),
            }
        }
    }
    problems
}

fn of_type(wanted: &str, found: &Value, remedy: &str) -> String {
    format!("must be of type {wanted}, is {}{remedy}", type_of(found))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_an_api_server_does_not_take_is_told_with_its_field() {
        let fields = |kind: Kind, metadata: Value| -> Vec<String> {
            let problems = check(kind, &json!({ "metadata": metadata }));
            problems.into_iter().map(|(field, _)| field).collect()
        };
        let none: [&str; 0] = [];
        let good = json!({
            "name": "office.2", "namespace": "", "labels": {"a/b": "", "c": "D"},
            "annotations": {"Example.com/Key": "anything, really"}, "creationTimestamp": null,
        });
        assert_eq!(fields(Kind::IPAddressPool, good.clone()), none);
        assert_eq!(fields(Kind::Service, good), ["metadata.name"]);
        assert_eq!(fields(Kind::Namespace, json!({"generateName": "a-"})), none);
        assert_eq!(fields(Kind::Namespace, json!("shop")), ["metadata"]);
        for (bad, told) in [
            (json!({}), "metadata.name"),
            (json!({"name": null}), "metadata.name"),
            (json!({"name": "Office"}), "metadata.name"),
            (json!({"name": 7}), "metadata.name"),
            (json!({"name": "a", "namespace": "A"}), "metadata.namespace"),
            (json!({"name": "a", "labels": ["b"]}), "metadata.labels"),
            (
                json!({"name": "a", "labels": {"b": "c d"}}),
                "metadata.labels[b]",
            ),
            (
                json!({"name": "a", "labels": {"b c": "d"}}),
                "metadata.labels[b c]",
            ),
            (
                json!({"name": "a", "annotations": {"b": 3}}),
                "metadata.annotations[b]",
            ),
            (
                json!({"name": "a", "annotations": {"b/c/d": ""}}),
                "metadata.annotations[b/c/d]",
            ),
        ] {
            assert_eq!(fields(Kind::IPAddressPool, bad.clone()), [told], "{bad}");
        }
    }
}
