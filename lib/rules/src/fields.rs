//! What the field rules of the API types say, as refusals.

use std::collections::BTreeSet;
use std::fmt::Display;

use validator::{Validate, ValidationErrors, ValidationErrorsKind};

use crate::refusal::Refusal;

/// The field rules that `spec` breaks, but for fields about which `said` has a more telling sentence already.
pub(crate) fn check(
    kind: &'static str,
    name: &str,
    spec: &impl Validate,
    said: &[Refusal],
) -> Vec<Refusal> {
    let mut found = Vec::new();
    if let Err(errors) = spec.validate() {
        collect("spec", &errors, &mut |field, message| {
            found.push(Refusal::new(kind, name, field, message))
        });
    }
    found.retain(|refusal| {
        !said
            .iter()
            .any(|other| other.field.starts_with(&refusal.field))
    });
    found.sort();
    found
}

/// Refuses every entry of `list` that stands in it twice (reference 2.3, duplicates).
pub(crate) fn duplicates<'a, T: Ord>(
    list: &'a [T],
    what: &'a str,
    show: impl Fn(&T) -> String + 'a,
) -> impl Iterator<Item = (usize, String)> + 'a {
    let mut seen = BTreeSet::new();
    list.iter()
        .enumerate()
        .filter(move |(_, entry)| !seen.insert(*entry))
        .map(move |(index, entry)| {
            (
                index,
                format!(
                    "duplicate definition of {what} {}; remove one of the two",
                    show(entry)
                ),
            )
        })
}

fn collect(path: &str, errors: &ValidationErrors, found: &mut impl FnMut(String, String)) {
    for (field, kind) in errors.errors() {
        let path = format!("{path}.{}", json_name(field));
        match kind {
            ValidationErrorsKind::Field(errors) => {
                for error in errors {
                    found(path.clone(), describe(error));
                }
            }
            ValidationErrorsKind::Struct(errors) => collect(&path, errors, found),
            ValidationErrorsKind::List(list) => {
                for (index, errors) in list {
                    collect(&format!("{path}[{index}]"), errors, found);
                }
            }
        }
    }
}

/// A sentence for a rule about one field, which is a range.
fn describe(error: &validator::ValidationError) -> String {
    let parameter = |name: &str| error.params.get(name).map(|value| value as &dyn Display);
    let value = parameter("value")
        .map(|value| format!(", is {value}"))
        .unwrap_or_default();
    match (parameter("min"), parameter("max")) {
        (Some(min), Some(max)) => {
            format!("must be from {min} to {max}{value}; write a number in that range")
        }
        (Some(min), None) => format!("must be at least {min}{value}"),
        (None, Some(max)) => format!("must be at most {max}{value}"),
        (None, None) => format!("breaks the rule {:?}{value}", error.code),
    }
}

/// The name of a field as people write it.
fn json_name(field: &str) -> String {
    match field {
        "my_asn" => "myASN".to_owned(),
        "peer_asn" => "peerASN".to_owned(),
        "dynamic_asn" => "dynamicASN".to_owned(),
        "local_asn" => "localASN".to_owned(),
        "router_id" => "routerID".to_owned(),
        "disable_mp" => "disableMP".to_owned(),
        "avoid_buggy_ips" => "avoidBuggyIPs".to_owned(),
        "ip_address_pools" => "ipAddressPools".to_owned(),
        "aggregation_length_v6" => "aggregationLengthV6".to_owned(),
        other => {
            let mut upper = false;
            other
                .chars()
                .filter_map(|c| {
                    if c == '_' {
                        upper = true;
                        return None;
                    }
                    Some(if std::mem::take(&mut upper) {
                        c.to_ascii_uppercase()
                    } else {
                        c
                    })
                })
                .collect()
        }
    }
}
