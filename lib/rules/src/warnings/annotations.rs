//! Which annotations look like ours and are read by nobody?

use std::collections::BTreeMap;

use ferrolb_api::annotations::{
    ADDRESS_POOL, ALLOW_SHARED_IP, BGP_PEER_V1BETA2, IP_ALLOCATED_FROM_POOL, LOAD_BALANCER_IPS,
    MAX_ADDRESSES, OF_A_BGP_PEER, OF_A_POOL, OF_AN_L2_ADVERTISEMENT, TRACEPARENT,
};

use crate::spelling::closest;
use crate::verdict::Verdict;

/// Our own prefix.
const OWN: &str = "ferrolb.io/";
/// MetalLB's prefixes: the one of today and the older one.
const METALLB: [&str; 2] = ["metallb.io/", "metallb.universe.tf/"];

/// The longest key of an annotation: a prefix of 253 characters, a slash and a name of 63.
const KEY_AT_MOST: usize = 317;

/// What a misspelt key may be off by.
const CHANGES_AT_MOST: usize = 4;

/// The keys that are read on a kind, of those that have any.
fn read_on(kind: &str) -> Vec<&'static str> {
    match kind {
        "IPAddressPool" => OF_A_POOL.to_vec(),
        "L2Advertisement" => OF_AN_L2_ADVERTISEMENT.to_vec(),
        "Namespace" => vec![MAX_ADDRESSES],
        "BGPPeer" => OF_A_BGP_PEER
            .into_iter()
            .chain([BGP_PEER_V1BETA2])
            .collect(),
        "Service" => [LOAD_BALANCER_IPS, ADDRESS_POOL, ALLOW_SHARED_IP]
            .into_iter()
            .flat_map(|key| [key.current, key.deprecated])
            .chain([IP_ALLOCATED_FROM_POOL, TRACEPARENT])
            .collect(),
        _ => Vec::new(),
    }
}

/// The kind that a key is read on, as one speaks of it.
fn home_of(key: &str) -> Option<&'static str> {
    [
        ("IPAddressPool", "an IPAddressPool"),
        ("L2Advertisement", "an L2Advertisement"),
        ("Namespace", "a Namespace"),
        ("BGPPeer", "a BGPPeer"),
        ("Service", "a Service"),
    ]
    .into_iter()
    .find_map(|(kind, spoken)| read_on(kind).contains(&key).then_some(spoken))
}

/// Warns of keys with our prefix, or with one of MetalLB's, that mean nothing on this kind of object.
pub(crate) fn warn(kind: &str, annotations: &BTreeMap<String, String>, verdict: &mut Verdict) {
    let read = read_on(kind);
    for key in annotations.keys() {
        let ours = key.starts_with(OWN) || METALLB.iter().any(|prefix| key.starts_with(prefix));
        if !ours || read.contains(&key.as_str()) {
            continue;
        }
        let field = format!("metadata.annotations[{key}]");
        // The API server lets no longer key in.
        let candidates = read
            .iter()
            .filter(|_| key.len() <= KEY_AT_MOST)
            .filter(|known| known.starts_with(OWN) == key.starts_with(OWN));
        let meant = closest(key, candidates.copied(), CHANGES_AT_MOST);
        match (home_of(key), meant) {
            (Some(home), _) => verdict.warn(
                field,
                format!("is read on {home} only and does nothing here; move it"),
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

#[cfg(test)]
mod tests {
    use super::*;

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
            ("L2Advertisement", "ferrolb.io/refresh-interval", None),
            (
                "L2Advertisement",
                "ferrolb.io/adress-conflict",
                Some("is read by nobody; did you mean ferrolb.io/address-conflict?"),
            ),
            (
                "BGPAdvertisement",
                "ferrolb.io/refresh-interval",
                Some("is read on an L2Advertisement only and does nothing here; move it"),
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
            ("BGPPeer", "ferrolb.io/bgppeer-v1beta2", None),
            (
                "BFDProfile",
                "ferrolb.io/bgppeer-v1beta2",
                Some("is read on a BGPPeer only and does nothing here; move it"),
            ),
            (
                "IPAddressPool",
                "metallb.universe.tf/address-pool",
                Some("is read on a Service only and does nothing here; move it"),
            ),
            (
                "Community",
                "metallb.io/frobnicate",
                Some("is read by nobody on a Community; remove it, or correct its name"),
            ),
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
