//! What about a BGPPeer is legal and probably wrong?

use ferrolb_api::v1beta2::BGPPeer;
use kube::ResourceExt;

use super::selects_no_node;
use crate::addresses;
use crate::known::Known;
use crate::peers::{KIND, Password, Peer, PeerTarget};
use crate::selector::any_matches;
use crate::verdict::Verdict;

/// What MetalLB says about a field that stopped to matter; scripts and people know the sentence (reference 2.2).
const DISABLE_MP: &str =
    "disable mp is deprecated and has no effect since it's the default behavior now";

pub(crate) fn warn(object: &BGPPeer, peer: &Peer, known: &Known, verdict: &mut Verdict) {
    super::annotations(KIND, object.annotations(), verdict);
    if object.spec.disable_mp {
        verdict.warn("spec.disableMP", DISABLE_MP);
    }
    if matches!(peer.password, Password::Plain(_)) {
        verdict.warn(
            "spec.password",
            "everyone who may read BGPPeers can read this password; put it into a Secret and name that in spec.passwordSecret",
        );
    }
    if let PeerTarget::Address(address) = peer.target
        && let Some((network, purpose)) = addresses::reserved(&address.into())
    {
        verdict.warn(
            "spec.peerAddress",
            format!("{address} is of {network} ({purpose}), where no router of another host is reached; write the router's own address"),
        );
    }
    if let Some(what) = peer.not_carried_out() {
        verdict.warn("spec", what);
    }
    if !known.something {
        return;
    }
    if let Some(unresolved) = known.references().of_peer(object) {
        verdict.warn(unresolved.field, unresolved.text);
    }
    let advertised = known
        .configuration()
        .bgp_advertisements
        .iter()
        .any(|advertisement| {
            advertisement.peers.is_empty() || advertisement.peers.contains(&peer.name)
        });
    if !advertised {
        verdict.warn(
            "metadata.name",
            format!(
                "no BGPAdvertisement in force advertises anything to BGPPeer {:?}; create one",
                peer.name
            ),
        );
    }
    if selects_no_node(&peer.nodes, known.nodes.as_deref()) {
        verdict.warn(
            "spec.nodeSelectors",
            "no node has such labels, so nobody keeps this session; label a node, or correct the selector",
        );
    }
    for (other, nodes) in known.routers.possible(peer).take(3) {
        let both = known.nodes.iter().flatten().find(|node| {
            any_matches(nodes, &node.labels) && any_matches(&peer.nodes, &node.labels)
        });
        if let Some(node) = both {
            let target = match &peer.target {
                PeerTarget::Address(address) => address.to_string(),
                PeerTarget::Interface(interface) => interface.clone(),
            };
            verdict.warn(
                "spec.nodeSelectors",
                format!("node {:?} is selected by BGPPeer {other:?} too, which has the same router {target}; a router keeps one session with a node", node.name),
            );
        }
    }
}
