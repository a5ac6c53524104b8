//! What about an advertisement is legal and probably wrong?

use ferrolb_api::v1beta1::{BGPAdvertisement, L2Advertisement};
use kube::ResourceExt;

use super::{listed, selectors, selects_no_node};
use crate::advertisements::{self as checked, PoolSelection};
use crate::known::Known;
use crate::selector::Selector;
use crate::verdict::Verdict;

pub(crate) fn warn_l2(
    object: &L2Advertisement,
    advertisement: &checked::L2Advertisement,
    known: &Known,
    verdict: &mut Verdict,
) {
    super::annotations("L2Advertisement", object.annotations(), verdict);
    let spec = &object.spec;
    for (field, list) in [
        (
            "spec.ipAddressPoolSelectors",
            &spec.ip_address_pool_selectors,
        ),
        ("spec.nodeSelectors", &spec.node_selectors),
        ("spec.serviceSelectors", &spec.service_selectors),
    ] {
        selectors::warn(field, list, verdict);
    }
    for (index, preferred) in spec.preferred_node_selectors.iter().enumerate() {
        let field = format!("spec.preferredNodeSelectors[{index}].preference");
        selectors::warn_one(&field, &preferred.preference, verdict);
    }
    for (index, name) in spec.interfaces.iter().enumerate() {
        let field = format!("spec.interfaces[{index}]");
        super::interface(field, name, "so nothing is announced on it", verdict);
    }
    if known.something {
        warn_of_pools(&advertisement.pools, known, verdict);
        warn_of_nodes(&advertisement.nodes, known, verdict);
    }
}

pub(crate) fn warn_bgp(
    object: &BGPAdvertisement,
    advertisement: &checked::BgpAdvertisement,
    known: &Known,
    verdict: &mut Verdict,
) {
    super::annotations("BGPAdvertisement", object.annotations(), verdict);
    let spec = &object.spec;
    for (field, list) in [
        (
            "spec.ipAddressPoolSelectors",
            &spec.ip_address_pool_selectors,
        ),
        ("spec.nodeSelectors", &spec.node_selectors),
        ("spec.serviceSelectors", &spec.service_selectors),
    ] {
        selectors::warn(field, list, verdict);
    }
    if !known.something {
        return;
    }
    warn_of_pools(&advertisement.pools, known, verdict);
    warn_of_nodes(&advertisement.nodes, known, verdict);
    let configuration = known.configuration();
    let missing = advertisement.peers.iter().map(String::as_str);
    let missing: Vec<&str> = missing
        .filter(|peer| !configuration.peers.contains_key(*peer))
        .collect();
    if !missing.is_empty() {
        verdict.warn(
            "spec.peers",
            format!(
                "no BGPPeer in force is called {}; create it, or correct the name",
                listed(missing)
            ),
        );
    } else if configuration.peers.is_empty() {
        verdict.warn(
            "spec.peers",
            "there is no BGPPeer in force, so nothing is advertised to anyone; create one",
        );
    }
    let aliases = object.spec.communities.iter().enumerate();
    for (index, alias) in aliases.filter(|(_, text)| !text.contains(':')) {
        if !configuration.aliases.contains_key(alias) {
            verdict.warn(
                format!("spec.communities[{index}]"),
                format!("no Community object defines the alias {alias:?}; until one does, this advertisement is not in force"),
            );
        }
    }
}

fn warn_of_pools(selection: &PoolSelection, known: &Known, verdict: &mut Verdict) {
    let pools = &known.configuration().pools;
    let missing = selection.names.iter().map(String::as_str);
    let missing: Vec<&str> = missing.filter(|name| !pools.contains_key(*name)).collect();
    if !missing.is_empty() {
        verdict.warn(
            "spec.ipAddressPools",
            format!(
                "no IPAddressPool in force is called {}; create it, or correct the name",
                listed(missing)
            ),
        );
    } else if !selection.selectors.is_empty() && !pools.values().any(|pool| selection.selects(pool))
    {
        verdict.warn(
            "spec.ipAddressPoolSelectors",
            "no IPAddressPool in force has such labels, so nothing is announced; label a pool, or correct the selector",
        );
    }
}

fn warn_of_nodes(nodes: &[Selector], known: &Known, verdict: &mut Verdict) {
    if selects_no_node(nodes, known.nodes.as_deref()) {
        verdict.warn(
            "spec.nodeSelectors",
            "no node has such labels, so nothing is announced; label a node, or correct the selector",
        );
    }
}
