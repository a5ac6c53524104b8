//! Which BGP sessions does this node keep, and with which parameters?

use std::collections::BTreeMap;

use ferrolb_announcement::{Node, RouteAttributes};
use ferrolb_api::ObjectKey;
use ferrolb_rules::{Community, Configuration, Password, Peer, PeerAsn, PeerTarget, any_matches};

use crate::bgp::{self, Attributes, Families, PeerAs, PeerSpec, Secret, Target};
use crate::project::Key;

/// The keys that peers of this node have, by their Secrets. One that was there stays in force while its Secret is away, as it is for a
/// moment when somebody replaces it: only another key begins a session anew (reference 2.3).
#[derive(Debug, Default)]
pub struct Keys(BTreeMap<ObjectKey, Key>);

/// The sessions of this node, and by their names why other peers of it have none. A peer whose key was never there has none until the
/// key is: a session without it would only fail, or worse, succeed.
pub fn sessions(
    configuration: &Configuration,
    node: Option<&Node>,
    namespace: &str,
    keys: &mut Keys,
    password: impl Fn(&ObjectKey) -> Option<Key>,
) -> (BTreeMap<String, PeerSpec>, BTreeMap<String, String>) {
    let (mut sessions, mut reasons) = (BTreeMap::new(), BTreeMap::new());
    let Some(node) = node else {
        return (sessions, reasons);
    };
    let mut former = std::mem::take(&mut keys.0);
    let mut password = |secret: ObjectKey| {
        let key = keys.0.get(&secret).cloned();
        let key = key
            .or_else(|| password(&secret))
            .or_else(|| former.remove(&secret))?;
        keys.0.insert(secret, key.clone());
        Some(key)
    };
    for peer in configuration
        .peers
        .values()
        .filter(|peer| any_matches(&peer.nodes, &node.labels))
    {
        match session(peer, namespace, &mut password) {
            Ok(session) => {
                sessions.insert(peer.name.clone(), session);
            }
            Err(reason) => {
                reasons.insert(peer.name.clone(), reason);
            }
        }
    }
    (sessions, reasons)
}

fn session(
    peer: &Peer,
    namespace: &str,
    password: &mut impl FnMut(ObjectKey) -> Option<Key>,
) -> Result<PeerSpec, String> {
    let password = match &peer.password {
        Password::None => None,
        Password::Plain(password) => Some(Secret::new(password)),
        Password::Secret(name) => match password(ObjectKey::new(namespace, name)) {
            Some(Key(password)) => Some(Secret::new(&password)),
            None => {
                return Err(format!(
                    "the Secret {name:?} is missing, is not of type kubernetes.io/basic-auth or has no password"
                ));
            }
        },
    };
    Ok(PeerSpec {
        name: peer.name.clone(),
        target: match &peer.target {
            PeerTarget::Address(address) => Target::Address(*address),
            PeerTarget::Interface(interface) => Target::Interface(interface.clone()),
        },
        port: peer.port,
        my_asn: peer.local_asn.unwrap_or(peer.my_asn),
        peer_asn: match peer.peer_asn {
            PeerAsn::Exactly(asn) => PeerAs::Exact(asn),
            PeerAsn::Internal => PeerAs::Internal,
            PeerAsn::External => PeerAs::External,
        },
        hold_time: peer.hold_time,
        keepalive_time: peer.keepalive_time,
        connect_time: peer.connect_time,
        router_id: peer.router_id,
        source_address: peer.source_address,
        vrf: peer.vrf.clone(),
        password,
        ebgp_multihop: peer.ebgp_multihop,
        ttl_security: peer.ttl_security,
        passive: peer.passive,
        graceful_restart: peer.graceful_restart,
        graceful_shutdown: peer.graceful_shutdown.filter(|_| !peer.graceful_restart),
        families: families(peer),
    })
}

/// A session carries the family of its addresses unless both are asked for, or it has an interface and no address
/// (reference 4.6, family filter).
fn families(peer: &Peer) -> Families {
    match peer.target {
        PeerTarget::Address(address) if !peer.dual_stack => Families {
            ipv4: address.is_ipv4(),
            ipv6: address.is_ipv6(),
        },
        PeerTarget::Address(_) | PeerTarget::Interface(_) => Families::BOTH,
    }
}

/// Attributes as BGP writes them. A local preference of 0 is one that nobody set (reference 4.7, frr-k8s mode).
#[must_use]
pub fn attributes(route: &RouteAttributes) -> Attributes {
    let mut attributes = Attributes {
        local_pref: (route.local_pref != 0).then_some(route.local_pref),
        ..Attributes::default()
    };
    for community in &route.communities {
        match *community {
            Community::Standard(value) => {
                attributes.communities.insert(bgp::Community(value));
            }
            Community::Large(global, first, second) => {
                attributes.large_communities.insert(bgp::LargeCommunity {
                    global,
                    local1: first,
                    local2: second,
                });
            }
        }
    }
    attributes
}
