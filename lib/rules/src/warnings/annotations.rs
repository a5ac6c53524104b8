//! Which annotations look like ours and are read by nobody?

use std::collections::BTreeMap;

use ferrolb_api::annotations::{
    ADDRESS_POOL, ALLOW_SHARED_IP, IP_ALLOCATED_FROM_POOL, LOAD_BALANCER_IPS, MAX_ADDRESSES,
    OF_A_POOL, TRACEPARENT,
};

use crate::verdict::Verdict;

/// Our own prefix.
const OWN: &str = "ferrolb.io/";
/// MetalLB's prefixes: the one of today and the older one.
const METALLB: [&str; 2] = ["metallb.io/", "metallb.universe.tf/"];

/// The longest key of an annotation: a prefix of 253 characters, a slash and a name of 63.
const KEY_AT_MOST: usize = 317;

/// Warns of keys with our prefix, or with one of MetalLB's, that mean nothing on this kind of object.
pub(crate) fn warn(kind: &str, annotations: &BTreeMap<String, String>, verdict: &mut Verdict) {
    let read: Vec<&str> = match kind {
        "IPAddressPool" => OF_A_POOL.to_vec(),
        "Namespace" => vec![MAX_ADDRESSES],
        "Service" => [LOAD_BALANCER_IPS, ADDRESS_POOL, ALLOW_SHARED_IP]
            .into_iter()
            .flat_map(|key| [key.current, key.deprecated])
            .chain([IP_ALLOCATED_FROM_POOL, TRACEPARENT])
            .collect(),
        _ => Vec::new(),
    };
    for key in annotations.keys() {
        let ours = key.starts_with(OWN)
            || kind == "Service" && METALLB.iter().any(|prefix| key.starts_with(prefix));
        if !ours || read.contains(&key.as_str()) {
            continue;
        }
        let field = format!("metadata.annotations[{key}]");
        // The API server lets no longer key in.
        let meant = read
            .iter()
            .filter(|_| key.len() <= KEY_AT_MOST)
            .filter(|known| known.starts_with(OWN) == key.starts_with(OWN))
            .min_by_key(|known| distance(known, key))
            .filter(|known| distance(known, key) <= 4);
        let elsewhere = match key.as_str() {
            MAX_ADDRESSES => Some("a Namespace"),
            key if OF_A_POOL.contains(&key) => Some("an IPAddressPool"),
            _ => None,
        };
        match (elsewhere, meant) {
            (Some(elsewhere), _) => verdict.warn(
                field,
                format!("is read on {elsewhere} only and does nothing here; move it"),
            ),
            (None, Some(meant)) => {
                verdict.warn(field, format!("is read by nobody; did you mean {meant}?"));
            }
            (None, None) => verdict.warn(
                field,
                format!("is read by nobody on a {kind}; remove it, or correct its name"),
            ),
        }
    }
}

/// How many characters have to be put in, taken out or exchanged to make one text of the other (Levenshtein). Keys are
/// short; the API server limits them to 317 characters.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, character) in one.chars().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        for (cell, candidate) in row.iter_mut().skip(1).zip(&other) {
            let above = *cell;
            let exchanged = diagonal + usize::from(character != *candidate);
            left = exchanged.min(above + 1).min(left + 1);
            diagonal = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_is_the_number_of_changes() {
        for (one, other, changes) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("exclude", "exclud", 1),
            ("a", "b", 1),
        ] {
            assert_eq!(distance(one, other), changes, "{one} {other}");
        }
    }

    #[test]
    fn a_misspelt_key_is_told_what_it_may_be_meant_for() {
        let said = |kind: &str, key: &str| {
            let mut verdict = Verdict::default();
            let annotations = BTreeMap::from([(key.to_owned(), String::new())]);
            warn(kind, &annotations, &mut verdict);
            verdict.warnings.pop().map(|warning| warning.text)
        };
        for (kind, key, text) in [
            ("IPAddressPool", "ferrolb.io/exclude", None),
            (
                "IPAddressPool",
                "ferrolb.io/exclud",
                Some("is read by nobody; did you mean ferrolb.io/exclude?"),
            ),
            (
                "IPAddressPool",
                "ferrolb.io/max-addresses",
                Some("is read on a Namespace only and does nothing here; move it"),
            ),
            (
                "Namespace",
                "ferrolb.io/exclude",
                Some("is read on an IPAddressPool only and does nothing here; move it"),
            ),
            (
                "Service",
                "metallb.io/loadBalancerIP",
                Some("is read by nobody; did you mean metallb.io/loadBalancerIPs?"),
            ),
            ("Service", "metallb.universe.tf/address-pool", None),
            ("Service", "example.com/address-pool", None),
            (
                "Service",
                "ferrolb.io/frobnicate",
                Some("is read by nobody on a Service; remove it, or correct its name"),
            ),
        ] {
            assert_eq!(said(kind, key).as_deref(), text, "{kind} {key}");
        }
    }
}
