//! With which routers do nodes keep sessions already?

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::peers::{KIND, Peer, PeerTarget};
use crate::refusal::Refusal;
use crate::selector::Selector;

/// The routers of peers, to find two peers that are one session.
///
/// A router knows a session by the two addresses and its own port, so of two peers that agree in these a node could only
/// ever have one (reference 2.4 refuses them too, whatever their ports; MetalLB's native mode lets them fight).
#[derive(Clone, Debug, Default)]
pub(crate) struct Routers(BTreeMap<Router, Vec<Session>>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Router {
    target: PeerTarget,
    port: u16,
    vrf: Option<String>,
    source: Option<IpAddr>,
}

#[derive(Clone, Debug)]
struct Session {
    peer: String,
    nodes: Vec<Selector>,
}

impl Router {
    fn of(peer: &Peer) -> Self {
        Router {
            target: peer.target.clone(),
            port: peer.port,
            vrf: peer.vrf.clone(),
            source: peer.source_address,
        }
    }
}

impl Routers {
    pub(crate) fn insert(&mut self, peer: &Peer) {
        let session = Session {
            peer: peer.name.clone(),
            nodes: peer.nodes.clone(),
        };
        self.0.entry(Router::of(peer)).or_default().push(session);
    }

    /// The refusal of a peer that would be the session that another already is, on nodes that both select for certain.
    pub(crate) fn conflict(&self, peer: &Peer) -> Option<Refusal> {
        let other = self.keeper(peer, &peer.name)?;
        let (field, target) = match &peer.target {
            PeerTarget::Address(address) => ("spec.peerAddress", address.to_string()),
            PeerTarget::Interface(interface) => ("spec.interface", interface.clone()),
        };
        let refusal = Refusal::new(
            KIND,
            &peer.name,
            field,
            format!(
                "peer {target} already exists: the same nodes keep a session with it for BGPPeer {:?}; remove one of the two, \
                 or give them different nodeSelectors",
                other
            ),
        );
        Some(refusal.conflicting())
    }

    /// The first peer but for that of the name `but` that is the same session on nodes that both select for certain.
    pub(crate) fn keeper<'a>(&'a self, peer: &Peer, but: &str) -> Option<&'a str> {
        let sessions = self.0.get(&Router::of(peer))?;
        let mut others = sessions.iter().filter(|other| other.peer != but);
        let keeper = others.find(|other| surely_meet(&other.nodes, &peer.nodes));
        keeper.map(|keeper| keeper.peer.as_str())
    }

    /// The peers that are the same session wherever a node happens to match the selectors of both, by name.
    pub(crate) fn possible<'a>(
        &'a self,
        peer: &'a Peer,
    ) -> impl Iterator<Item = (&'a str, &'a [Selector])> {
        self.others(peer)
            .filter(|other| !surely_meet(&other.nodes, &peer.nodes))
            .map(|other| (other.peer.as_str(), other.nodes.as_slice()))
    }

    /// The sessions of other peers with the same router.
    fn others<'a>(&'a self, peer: &'a Peer) -> impl Iterator<Item = &'a Session> {
        self.0
            .get(&Router::of(peer))
            .into_iter()
            .flatten()
            .filter(|session| session.peer != peer.name)
    }
}

/// Whether two forms of a peer are the same session on the same nodes.
pub(crate) fn same_session(one: &Peer, other: &Peer) -> bool {
    Router::of(one) == Router::of(other) && one.nodes == other.nodes
}

/// Whether some node is sure to be selected by both, whatever nodes there are: no selector selects all of them.
fn surely_meet(one: &[Selector], other: &[Selector]) -> bool {
    one.is_empty() || other.is_empty() || one.iter().any(|selector| other.contains(selector))
}
