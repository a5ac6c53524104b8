//! What about a BGPPeer is legal and probably wrong?

use std::net::IpAddr;
use std::time::Duration;

use ferrolb_api::annotations::BGP_PEER_V1BETA2;
use ferrolb_api::conversion;
use ferrolb_api::given;
use ferrolb_api::v1beta2::BGPPeer;
use kube::ResourceExt;

use super::{selectors, selects_no_node};
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
    if let PeerTarget::Address(address) = peer.target {
        warn_of_address(address, verdict);
    }
    for (field, name) in [
        ("spec.interface", &object.spec.interface),
        ("spec.vrf", &object.spec.vrf),
    ] {
        if let Some(name) = given(name) {
            super::interface(
                field.to_owned(),
                name,
                "so no session is opened over it",
                verdict,
            );
        }
    }
    selectors::warn("spec.nodeSelectors", &object.spec.node_selectors, verdict);
    warn_of_times(object, peer, verdict);
    if let Some(text) = object.annotations().get(BGP_PEER_V1BETA2) {
        warn_of_luggage(text, verdict);
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

fn warn_of_address(address: IpAddr, verdict: &mut Verdict) {
    let Some((network, purpose)) = addresses::reserved(&address.into()) else {
        return;
    };
    // An address of RFC 4291 section 2.5.6 says nothing without the link that it is on, and peerAddress takes no zone.
    let warning = if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        format!(
            "{address} is link-local, and behind which interface the router is cannot be said beside it; write an address of the \
             router that is not of {network}"
        )
    } else {
        format!(
            "{address} is of {network} ({purpose}), where no router of another host is reached; write the router's own address"
        )
    };
    verdict.warn("spec.peerAddress", warning);
}

/// RFC 4271 section 4.4: keepalives come at least three times in a hold time, and section 10 has three of them make one.
fn warn_of_times(object: &BGPPeer, peer: &Peer, verdict: &mut Verdict) {
    let (Some(keepalive), Some(hold)) = (peer.keepalive_time, peer.hold_time) else {
        return;
    };
    let written = object.spec.keepalive_time.as_deref().unwrap_or_default();
    let third = hold / 3;
    let warning = if object.spec.hold_time.is_none() && hold.is_zero() {
        format!(
            "without holdTime {written:?} makes the hold time 0s, and a router that went silent is never noticed; set holdTime, or \
             remove keepaliveTime"
        )
    } else if object.spec.hold_time.is_none() {
        format!(
            "without holdTime {written:?} makes the hold time {}, three times as long; set holdTime to say so, or another",
            seconds(hold)
        )
    } else if keepalive > third {
        format!(
            "{written:?} is longer than a third of holdTime, so keepalives are sent every {}; lower it to that, or raise holdTime",
            seconds(third)
        )
    } else {
        return;
    };
    verdict.warn("spec.keepaliveTime", warning);
}

fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs_f64())
}

/// What a peer of v1beta1 carries is put into the spec by the conversion, which takes the annotation off; here it is left over.
fn warn_of_luggage(text: &str, verdict: &mut Verdict) {
    let warning = if conversion::is_luggage(text) {
        "is read on a BGPPeer of v1beta1 only and does nothing here; write the fields that it holds into spec, and remove it"
    } else {
        "cannot be read, so what a BGPPeer of v1beta1 carries in it (passwordSecret, dynamicASN, interface and others) is not set; \
         set that in v1beta2, and remove it"
    };
    verdict.warn(format!("metadata.annotations[{BGP_PEER_V1BETA2}]"), warning);
}
