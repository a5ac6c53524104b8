//! Does an object have the form that the schema of its kind says?
//!
//! Fields that do not exist, values of the wrong type, fields that are missing and values that are none of a few: what
//! kubectl and the API server refuse before any rule is asked. Ranges are left to the rules, which say more. What is
//! printed ends in the logs of CI, so a value of the wrong type is never repeated: it may be an unquoted password.

use ferrolb_api::{v1beta1, v1beta2};
use ferrolb_rules::closest;
use kube::CustomResourceExt;
use serde_json::{Value, json};

use crate::kind::Kind;

/// The problems of an object, as field and reason.
pub(super) fn check(kind: Kind, version: &str, object: &Value) -> Vec<(String, String)> {
    let mut problems = check_kind(kind, version, object);
    let metadata = object.get("metadata").and_then(Value::as_object);
    for field in metadata.into_iter().flat_map(|metadata| metadata.keys()) {
        if !OF_THE_METADATA.contains(&field.as_str()) {
            let reason = no_such_field(field, OF_THE_METADATA);
            problems.push((format!("metadata.{field}"), reason));
        }
    }
    problems
}

fn check_kind(kind: Kind, version: &str, object: &Value) -> Vec<(String, String)> {
    let crd = match kind {
        Kind::IPAddressPool => v1beta1::IPAddressPool::crd(),
        Kind::L2Advertisement => v1beta1::L2Advertisement::crd(),
        Kind::BGPAdvertisement => v1beta1::BGPAdvertisement::crd(),
        Kind::BGPPeer if version == "metallb.io/v1beta1" => v1beta1::BGPPeer::crd(),
        Kind::BGPPeer => v1beta2::BGPPeer::crd(),
        Kind::BFDProfile => v1beta1::BFDProfile::crd(),
        Kind::Community => v1beta1::Community::crd(),
        Kind::Service => return check_service(object),
        Kind::Namespace => return Vec::new(),
    };
    let mut problems = Vec::new();
    let served = crd.spec.versions.iter().find(|served| {
        version.split_once('/').map(|(_, version)| version) == Some(served.name.as_str())
    });
    let Some(served) = served else {
        let known: Vec<&str> = crd
            .spec
            .versions
            .iter()
            .map(|served| served.name.as_str())
            .collect();
        let reason = format!(
            "{} has no version {version}; write {}",
            kind.name(),
            known.join(" or ")
        );
        return vec![("apiVersion".to_owned(), reason)];
    };
    let schema = served
        .schema
        .as_ref()
        .and_then(|schema| schema.open_api_v3_schema.as_ref());
    let schema = serde_json::to_value(schema).unwrap_or_default();
    let spec = schema.pointer("/properties/spec").unwrap_or(&Value::Null);
    let of_the_spec = |field: &str| has(spec, field);
    for field in object
        .as_object()
        .into_iter()
        .flat_map(|fields| fields.keys())
    {
        if OF_AN_OBJECT.contains(&field.as_str()) {
            continue;
        }
        let reason = if of_the_spec(field) {
            "belongs into spec; move it there".to_owned()
        } else {
            no_such_field(field, OF_AN_OBJECT)
        };
        problems.push((field.clone(), reason));
    }
    match object.get("spec").filter(|spec| !spec.is_null()) {
        Some(value) => compare("spec", value, spec, &mut problems),
        None if !required(spec).is_empty() => {
            problems.push(("spec".to_owned(), MISSING.to_owned()));
        }
        None => {}
    }
    if kind == Kind::BGPPeer && served.name == "v1beta1" {
        point_to_v1beta2(&mut problems);
    }
    problems
}

fn has(schema: &Value, field: &str) -> bool {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.is_some_and(|properties| properties.contains_key(field))
}

/// Nobody shall remove a field that the newer version has.
fn point_to_v1beta2(problems: &mut [(String, String)]) {
    let newer = serde_json::to_value(v1beta2::BGPPeer::crd()).unwrap_or_default();
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let spec = newer.pointer(spec).unwrap_or(&Value::Null);
    for (path, reason) in problems {
        if reason.starts_with(NO_SUCH_FIELD)
            && path
                .strip_prefix("spec.")
                .is_some_and(|field| has(spec, field))
        {
            "is a field of v1beta2 only; write apiVersion: metallb.io/v1beta2".clone_into(reason);
        }
    }
}

/// What is read of a Service; its other fields are the API server's to judge.
pub(super) const OF_A_SERVICE: [&str; 7] = [
    "type",
    "loadBalancerClass",
    "loadBalancerIP",
    "clusterIP",
    "clusterIPs",
    "ipFamilyPolicy",
    "ipFamilies",
];

fn check_service(object: &Value) -> Vec<(String, String)> {
    let text = json!({ "type": "string" });
    let texts = json!({ "type": "array", "items": text });
    let fields = OF_A_SERVICE.map(|field| {
        let schema = if ["clusterIPs", "ipFamilies"].contains(&field) {
            &texts
        } else {
            &text
        };
        (field.to_owned(), schema.clone())
    });
    let fields: serde_json::Map<_, _> = fields.into_iter().collect();
    let spec = json!({ "type": "object", "additionalProperties": {}, "properties": fields });
    let mut problems = Vec::new();
    let value = object.get("spec").unwrap_or(&Value::Null);
    compare("spec", value, &spec, &mut problems);
    problems
}

const OF_AN_OBJECT: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
/// The fields of every object's metadata (`meta/v1`, ObjectMeta).
const OF_THE_METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];
const MISSING: &str = "is missing; add it";
const NO_SUCH_FIELD: &str = "there is no such field";

/// A field that does not exist, with the one that it may be meant for: a mistake in every third character is another word.
fn no_such_field<'a>(field: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let changes = (field.chars().count() / 3).min(2);
    match closest(field, known, changes) {
        Some(close) => format!("{NO_SUCH_FIELD}; did you mean {close}?"),
        None => format!("{NO_SUCH_FIELD}; remove it"),
    }
}

fn required(schema: &Value) -> Vec<&str> {
    let required = schema.get("required").and_then(Value::as_array);
    required
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn compare(path: &str, value: &Value, schema: &Value, problems: &mut Vec<(String, String)>) {
    // The API server drops a null.
    if value.is_null() {
        return;
    }
    let wanted = schema
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let fits = match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        _ => true,
    };
    if !fits {
        let hint = hint(path, wanted, value);
        problems.push((
            path.to_owned(),
            format!("must be of type {wanted}, is {}{hint}", type_of(value)),
        ));
        return;
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        let allowed: Vec<String> = allowed
            .iter()
            .filter(|value| !value.is_null())
            .map(ToString::to_string)
            .collect();
        problems.push((
            path.to_owned(),
            format!(
                "must be {}, is {}",
                allowed.join(" or "),
                shown(path, value)
            ),
        ));
    }
    if wanted == "integer" && !fits_format(value, schema) {
        let bits = if is_short(schema) { 32 } else { 64 };
        let reason = format!("must be a number of {bits} bits, is {value}; write a smaller one");
        problems.push((path.to_owned(), reason));
    }
    if let Some(problem) = wrong_length(value, schema) {
        problems.push((path.to_owned(), problem));
    }
    match value {
        Value::Array(entries) => {
            if let Some(items) = schema.get("items") {
                for (index, entry) in entries.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    if entry.is_null() {
                        problems.push((path, "is empty; remove it".to_owned()));
                    } else {
                        compare(&path, entry, items, problems);
                    }
                }
            }
        }
        Value::Object(fields) => compare_fields(path, fields, schema, problems),
        _ => {}
    }
}

/// What to write in place of a value of another type.
fn hint(path: &str, wanted: &str, value: &Value) -> &'static str {
    let is_one = value.is_string() || value.is_number() || value.is_boolean();
    match wanted {
        "string" if path.ends_with("Time") && value.is_number() => "; write a duration such as 30s",
        "string" if value.is_number() || value.is_boolean() => "; write it in quotes",
        "array" if is_one => "; write a list, even of one entry: [...]",
        "boolean" => "; write true or false, without quotes",
        "integer" => "; write a whole number, without quotes",
        _ => "",
    }
}

fn is_short(schema: &Value) -> bool {
    schema.get("format").and_then(Value::as_str) == Some("int32")
}

/// Whether an integer has no more bits than the program that reads it has for it.
fn fits_format(value: &Value, schema: &Value) -> bool {
    value
        .as_i64()
        .is_some_and(|value| !is_short(schema) || i32::try_from(value).is_ok())
}

/// Whether a list or a text is longer or shorter than may be. The API server counts characters, not bytes.
fn wrong_length(value: &Value, schema: &Value) -> Option<String> {
    let limit = |key: &str| {
        let limit = schema.get(key).and_then(Value::as_u64);
        limit.and_then(|limit| usize::try_from(limit).ok())
    };
    match value {
        Value::Array(entries) => {
            let length = entries.len();
            let most = limit("maxItems").filter(|most| length > *most);
            let least = limit("minItems").filter(|least| length < *least);
            most.map(|most| format!("has {length} entries, at most {most} are allowed; remove some, or spread them over several objects"))
                .or_else(|| least.map(|least| format!("has {length} entries, at least {least} are needed; add some")))
        }
        Value::String(text) => {
            let length = text.chars().count();
            let most = limit("maxLength").filter(|most| length > *most);
            most.map(|most| {
                format!("has {length} characters, at most {most} are allowed; shorten it")
            })
        }
        _ => None,
    }
}

/// What stands there.
pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a number",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A value as it may be printed.
fn shown(path: &str, value: &Value) -> String {
    if path.to_ascii_lowercase().contains("password") {
        "something else".to_owned()
    } else {
        value.to_string()
    }
}

fn compare_fields(
    path: &str,
    fields: &serde_json::Map<String, Value>,
    schema: &Value,
    problems: &mut Vec<(String, String)>,
) {
    let known = schema.get("properties").and_then(Value::as_object);
    for (field, value) in fields {
        let path = format!("{path}.{field}");
        let further = schema.get("additionalProperties");
        match known.and_then(|known| known.get(field)).or(further) {
            Some(schema) => compare(&path, value, schema, problems),
            None if known.is_some() => {
                let known = known.into_iter().flat_map(|known| known.keys());
                problems.push((path, no_such_field(field, known.map(String::as_str))));
            }
            None => {}
        }
    }
    for field in required(schema) {
        if fields.get(field).is_none_or(Value::is_null) {
            problems.push((format!("{path}.{field}"), MISSING.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_of_a_password_is_printed() {
        let schema = json!({ "type": "object", "properties": {
            "password": { "type": "string", "enum": ["a", "b"] }, "dynamicASN": { "type": "string", "enum": ["a", "b"] }
        } });
        let problems = |value: Value| {
            let mut problems = Vec::new();
            compare("spec", &value, &schema, &mut problems);
            problems
        };
        let said = |field: &str, reason: &str| vec![(format!("spec.{field}"), reason.to_owned())];
        for (value, found) in [
            (json!(123_456), "an integer; write it in quotes"),
            (json!(1.5), "a number; write it in quotes"),
            (json!(true), "a boolean; write it in quotes"),
            (json!(["hunter2"]), "an array"),
            (json!({ "hunter2": "hunter2" }), "an object"),
        ] {
            let reason = format!("must be of type string, is {found}");
            assert_eq!(
                problems(json!({ "password": value })),
                said("password", &reason)
            );
        }
        let reason = "must be \"a\" or \"b\", is something else";
        assert_eq!(
            problems(json!({ "password": "hunter2" })),
            said("password", reason)
        );
        let reason = "must be \"a\" or \"b\", is \"c\"";
        assert_eq!(
            problems(json!({ "dynamicASN": "c" })),
            said("dynamicASN", reason)
        );
    }

    #[test]
    fn a_list_with_too_few_entries_is_a_problem() {
        let mut problems = Vec::new();
        let schema = json!({ "type": "array", "minItems": 1 });
        compare("spec.a", &json!([]), &schema, &mut problems);
        let reason = "has 0 entries, at least 1 are needed; add some".to_owned();
        assert_eq!(problems, [("spec.a".to_owned(), reason)]);
    }
}
