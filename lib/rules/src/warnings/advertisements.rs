//! What about an advertisement is legal and probably wrong?

use ferrolb_api::v1beta1::{BGPAdvertisement, L2Advertisement};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;

use super::{selectors, selects_no_node};
use crate::advertisements::{self as checked, PoolSelection};
use crate::interfaces;
use crate::known::Known;
use crate::names;
use crate::references::Unresolved;
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
    let lists = [
        &spec.ip_address_pool_selectors,
        &spec.node_selectors,
        &spec.service_selectors,
    ];
    warn_of_labels(lists, verdict);
    for (index, preferred) in spec.preferred_node_selectors.iter().enumerate() {
        let field = format!("spec.preferredNodeSelectors[{index}].preference");
        selectors::warn_one(&field, &preferred.preference, verdict);
    }
    for (index, name) in spec.interfaces.iter().enumerate() {
        let field = format!("spec.interfaces[{index}]");
        if interfaces::is_pattern(name) {
            continue;
        }
        if names::is_interface(name) && interfaces::looks_like_a_pattern(name) {
            verdict.warn(
                field,
                format!(
                    "{} is taken for the whole name of an interface; if it is meant as a pattern, write it between slashes, such as /eth[0-9]+/",
                    super::quoted(name)
                ),
            );
            continue;
        }
        super::interface(field, name, "so nothing is announced on it", verdict);
    }
    if known.something {
        unresolved_are_told(&known.references().of_l2_advertisement(object), verdict);
        warn_of_selectors(&advertisement.pools, known, verdict);
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
    let lists = [
        &spec.ip_address_pool_selectors,
        &spec.node_selectors,
        &spec.service_selectors,
    ];
    warn_of_labels(lists, verdict);
    if !known.something {
        return;
    }
    let unresolved = known.references().of_bgp_advertisement(object);
    let no_peer = known.configuration().peers.is_empty() && object.spec.peers.is_empty();
    unresolved_are_told(&unresolved, verdict);
    warn_of_selectors(&advertisement.pools, known, verdict);
    warn_of_nodes(&advertisement.nodes, known, verdict);
    if no_peer {
        verdict.warn(
            "spec.peers",
            "there is no BGPPeer in force, so nothing is advertised to anyone; create one",
        );
    }
}

/// Both kinds of advertisement have the same three lists of selectors.
fn warn_of_labels(lists: [&Vec<LabelSelector>; 3], verdict: &mut Verdict) {
    const FIELDS: [&str; 3] = [
        "spec.ipAddressPoolSelectors",
        "spec.nodeSelectors",
        "spec.serviceSelectors",
    ];
    for (field, list) in FIELDS.into_iter().zip(lists) {
        selectors::warn(field, list, verdict);
    }
}

fn unresolved_are_told(unresolved: &[Unresolved], verdict: &mut Verdict) {
    for Unresolved { field, text, .. } in unresolved {
        verdict.warn(field, text);
    }
}

/// Names are told apart; with selectors alone nobody may be selected.
fn warn_of_selectors(selection: &PoolSelection, known: &Known, verdict: &mut Verdict) {
    let mut pools = known.configuration().pools.values();
    if selection.names.is_empty()
        && !selection.selectors.is_empty()
        && !pools.any(|pool| selection.selects(pool))
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
