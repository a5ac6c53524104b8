//! What about an IPAddressPool is legal and probably wrong?

use std::net::IpAddr;

use ferrolb_api::annotations::EXCLUDE;
use ferrolb_api::v1beta1::{IPAddressPool, ServiceAllocation};
use ipnet::IpNet;
use kube::ResourceExt;

use super::selectors;
use crate::addresses::{self, AddressRange, Family};
use crate::advertisements;
use crate::known::Known;
use crate::names;
use crate::pools::{KIND, Pool};
use crate::verdict::Verdict;

pub(crate) fn warn(object: &IPAddressPool, pool: &Pool, known: &Known, verdict: &mut Verdict) {
    super::annotations(KIND, object.annotations(), verdict);
    if let Some(allocation) = &object.spec.service_allocation {
        warn_of_allocation(allocation, verdict);
    }
    let entries = || object.spec.addresses.iter().zip(&pool.ranges).enumerate();
    for (index, (text, range)) in entries() {
        let field = format!("spec.addresses[{index}]");
        if let Some(network) = whole_network(text) {
            verdict.warn(
                &field,
                format!("{text:?} is the whole network {network}; write that, or a range first-last for less"),
            );
        }
        if let Some((network, purpose)) = addresses::reserved(range) {
            verdict.warn(
                &field,
                format!("{text:?} has addresses of {network} ({purpose}), with which no Service is reached; remove them"),
            );
        } else if !pool.avoid_buggy_ips
            && let Some(address) = confusing(pool, range)
        {
            verdict.warn(
                &field,
                format!("{address} may be given to a Service, and some network gear drops it; set spec.avoidBuggyIPs, or exclude it"),
            );
        }
        if let Some((other, entry)) = known.set_aside.overlapping(*range, Some(&pool.name)) {
            verdict.warn(
                &field,
                format!("{text:?} has addresses of {entry:?} of pool {other:?}, which is not in force and cannot come into force with them"),
            );
        }
        let nodes = known.nodes.iter().flatten();
        let own = nodes.flat_map(|node| node.addresses.iter().map(|address| (&node.name, address)));
        for (node, address) in own.filter(|(_, address)| range.contains(**address)).take(3) {
            if !pool
                .exclude
                .iter()
                .any(|excluded| excluded.contains(*address))
            {
                verdict.warn(
                    &field,
                    format!("{text:?} holds {address}, the address of node {node:?}, and a Service that gets it cuts the node off; exclude it by {EXCLUDE}"),
                );
            }
        }
    }
    if object
        .annotations()
        .get(EXCLUDE)
        .is_some_and(|value| value.trim().is_empty())
    {
        verdict.warn(
            format!("metadata.annotations[{EXCLUDE}]"),
            "is empty and excludes nothing; write addresses, or remove it",
        );
    }
    if known.something {
        warn_of_advertisements(pool, known, verdict);
    }
}

/// Whom no pool can ever serve.
fn warn_of_allocation(allocation: &ServiceAllocation, verdict: &mut Verdict) {
    let at = |field: &str| format!("spec.serviceAllocation.{field}");
    for (index, name) in allocation.namespaces.iter().enumerate() {
        if !names::is_dns_label(name) {
            verdict.warn(
                format!("{}[{index}]", at("namespaces")),
                format!(
                    "no Namespace can be called {}, so it lets nobody in; a name has 1 to 63 of a-z, 0-9 and '-', the latter neither first nor last",
                    super::quoted(name)
                ),
            );
        }
    }
    for (field, list) in [
        ("namespaceSelectors", &allocation.namespace_selectors),
        ("serviceSelectors", &allocation.service_selectors),
    ] {
        selectors::warn(&at(field), list, verdict);
    }
}

fn warn_of_advertisements(pool: &Pool, known: &Known, verdict: &mut Verdict) {
    let configuration = known.configuration();
    let (mut l2, mut bgp) = (
        configuration.l2_advertisements_of(pool),
        configuration.bgp_advertisements_of(pool),
    );
    if l2.next().is_none() && bgp.next().is_none() {
        verdict.warn(
            "metadata.name",
            format!("no L2Advertisement or BGPAdvertisement covers pool {:?}: its addresses are given out and nobody announces them; create one", pool.name),
        );
    }
    for advertisement in &configuration.bgp_advertisements {
        let mut anew = advertisement.clone();
        anew.pools.left_out.clear();
        let others = &configuration.bgp_advertisements;
        for misfit in advertisements::misfits(&anew, others, [pool]) {
            verdict.warn(
                "spec.addresses",
                format!(
                    "BGPAdvertisement {:?} will leave this pool out: {}",
                    anew.name, misfit.refusal.reason
                ),
            );
        }
    }
}

/// The network of a CIDR that is written with host bits.
fn whole_network(text: &str) -> Option<IpNet> {
    let network: IpNet = text.trim().parse().ok()?;
    (network.addr() != network.network()).then(|| network.trunc())
}

/// An IPv4 address that ends in .0 or .255 and would be given out.
fn confusing(pool: &Pool, range: &AddressRange) -> Option<IpAddr> {
    if range.family() != Family::V4 {
        return None;
    }
    // The first of each kind at or after the start.
    let ends = |last: u128| {
        let at = (range.first() & !0xff) | last;
        let at = if at < range.first() { at + 0x100 } else { at };
        (at <= range.last()).then(|| range.family().address(at))
    };
    let left_out = |address: &IpAddr| {
        pool.exclude
            .iter()
            .any(|excluded| excluded.contains(*address))
    };
    [ends(0), ends(255)]
        .into_iter()
        .flatten()
        .find(|address| !left_out(address))
}
