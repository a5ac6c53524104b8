//! On which nodes is the session with a BGPPeer established? By what the speakers say in their ConfigurationStates. Pure.
//!
//! What a node says counts for as long as the object in which it says it is there, but not that a session is established where the
//! node is not ready: it may be lost. A node that is selected and says nothing of the peer is told of as one of which nothing is known.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ferrolb_api::conditions::{PROGRAMMED, find, reason};
use ferrolb_api::speaker_state;
use ferrolb_api::v1beta1::{BGPSession, SessionState};
use ferrolb_api::v1beta2::{BGPPeer, BGPPeerStatus, NodeSession};
use ferrolb_rules::{Labels, Peer, any_matches};
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::conditions::Answer;
use crate::inputs::ObservedNode;
use crate::interfaces::some_of;

/// The sessions that a status lists.
const LISTED_AT_MOST: usize = 100;
/// The causes that a condition names. Each is of 500 characters at most, and beside the names of ten nodes.
const CAUSES_AT_MOST: usize = 8;
/// Between two writes to one peer: every speaker, router and process that reads peers is sent each of them.
const EVERY: Duration = Duration::from_secs(3);
/// The same where only figures are different.
const FIGURES_EVERY: Duration = Duration::from_secs(30);

/// What one speaker says of its sessions, in the order of peers.
pub type Said = Arc<[BGPSession]>;

/// What is known of every node, and when each peer was written last.
#[derive(Default)]
pub struct Sessions {
    nodes: BTreeMap<String, Known>,
    written: BTreeMap<String, (Instant, BGPPeerStatus)>,
    look_again_at: Option<Instant>,
}

struct Known {
    labels: Arc<Labels>,
    ready: bool,
    said: Option<Said>,
}

/// What is found out about a peer.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// How many nodes it selects.
    pub selected: usize,
    /// How many of them have an established session.
    pub established: usize,
    /// The session of each, those that are not established first.
    pub sessions: Vec<NodeSession>,
}

/// What the status of a peer shall say and does not.
#[derive(Clone, Debug)]
pub struct News {
    /// The condition.
    pub answer: Answer,
    /// The other fields.
    pub fields: Vec<(&'static str, Value)>,
}

impl Sessions {
    /// Takes in the nodes there are and what their speakers say, `report` being asked by the name of the object.
    pub fn update<'a>(
        &mut self,
        nodes: impl IntoIterator<Item = (&'a str, &'a ObservedNode)>,
        report: impl Fn(&str) -> Option<Said>,
    ) {
        let nodes = nodes.into_iter();
        let known = nodes.map(|(name, node)| {
            let known = Known {
                labels: Arc::clone(&node.labels),
                ready: node.ready,
                said: report(&speaker_state(name)),
            };
            (name.to_owned(), known)
        });
        self.nodes = known.collect();
    }

    /// The statuses that shall be written now, by the name of the peer. `in_force` is asked for what is in force of a peer.
    pub fn news<'a>(
        &mut self,
        peers: impl IntoIterator<Item = &'a BGPPeer>,
        in_force: impl Fn(&str) -> Option<&'a Peer>,
        now: Instant,
    ) -> BTreeMap<String, News> {
        self.look_again_at = None;
        let mut news = BTreeMap::new();
        let mut written = BTreeMap::new();
        for peer in peers {
            let name = peer.name_any();
            let mut last = self.written.remove(&name);
            let found = in_force(&name).map(|peer| self.found(peer));
            let answer = programmed(found.as_ref());
            let wanted = wanted(found);
            let status = peer.status.clone().unwrap_or_default();
            let condition = find(&status.conditions, PROGRAMMED);
            let is_said = answer.is_said_by(condition, peer.metadata.generation);
            // The API server drops the fields while the definition of the kind is from before, and would do so again.
            let is_dropped = status.established.is_none()
                && last.as_ref().is_some_and(|(_, written)| *written == wanted);
            if !is_said || (fields(&wanted) != fields(&status) && !is_dropped) {
                let are_figures = is_said && without_figures(&wanted) == without_figures(&status);
                let rest = if are_figures { FIGURES_EVERY } else { EVERY };
                let due = last.as_ref().map_or(now, |(at, _)| *at + rest);
                if due > now {
                    self.look_again_at = Some(self.look_again_at.map_or(due, |at| at.min(due)));
                } else {
                    let fields = fields(&wanted);
                    news.insert(name.clone(), News { answer, fields });
                    last = Some((now, wanted));
                }
            }
            written.extend(last.map(|last| (name, last)));
        }
        // Of peers that are gone nobody asks.
        self.written = written;
        news
    }

    /// When a peer can be written that had to wait, if one had.
    #[must_use]
    pub fn look_again_at(&self) -> Option<Instant> {
        self.look_again_at
    }

    fn found(&self, peer: &Peer) -> Found {
        let selected = self
            .nodes
            .iter()
            .filter(|(_, known)| any_matches(&peer.nodes, known.labels.as_ref()));
        let mut sessions: Vec<NodeSession> = selected
            .map(|(node, known)| {
                let mut said = known.said.iter().flat_map(|said| said.iter());
                let said = said.find(|session| session.peer == peer.name);
                session_of(node, known.ready, said)
            })
            .collect();
        let is_up = |session: &NodeSession| session.state == SessionState::Established;
        let established = sessions.iter().filter(|session| is_up(session)).count();
        // Stable, and so in the order of nodes.
        sessions.sort_by_key(is_up);
        Found {
            selected: sessions.len(),
            established,
            sessions,
        }
    }
}

/// What a speaker said stays when its node is lost.
const OF_A_LOST_NODE: &str =
    "the node is not ready; what its speaker said last is that the session is established";

fn session_of(node: &str, ready: bool, said: Option<&BGPSession>) -> NodeSession {
    let mut session = NodeSession {
        node: node.to_owned(),
        ..NodeSession::default()
    };
    if let Some(said) = said {
        session.state = said.state;
        session.since = said.since.clone();
        session.last_error = said.last_error.clone();
        session.prefixes_sent = said.prefixes_sent;
    }
    if session.state == SessionState::Established && !ready {
        session.state = SessionState::Unknown;
        session.last_error = Some(OF_A_LOST_NODE.to_owned());
    }
    session
}

/// The status of a peer, but for conditions and what is in force.
fn wanted(found: Option<Found>) -> BGPPeerStatus {
    let Some(found) = found else {
        return BGPPeerStatus::default();
    };
    let count = |count: usize| Some(i64::try_from(count).unwrap_or(i64::MAX));
    let mut sessions = found.sessions;
    sessions.truncate(LISTED_AT_MOST);
    BGPPeerStatus {
        established: Some(format!("{}/{}", found.established, found.selected)),
        established_nodes: count(found.established),
        selected_nodes: count(found.selected),
        sessions,
        ..BGPPeerStatus::default()
    }
}

/// The condition of a peer; nothing is found of one that is not in force.
fn programmed(found: Option<&Found>) -> Answer {
    let no = |reason, message: &str| Answer::new(PROGRAMMED, false, reason, message);
    let Some(found) = found else {
        return no(
            reason::NOT_IN_FORCE,
            "The peer is not in force, so there is no session; see Accepted.",
        );
    };
    if found.selected == 0 {
        return no(
            reason::NO_NODE_SELECTED,
            "No node has the labels of spec.nodeSelectors, so there is no session.",
        );
    }
    let count = match (found.established, found.selected) {
        (established, 1) => format!("Established on {established} of 1 node."),
        (established, selected) => format!("Established on {established} of {selected} nodes."),
    };
    if found.established == found.selected {
        return Answer::new(PROGRAMMED, true, reason::PROGRAMMED, count);
    }
    let nothing_said = |session: &NodeSession| {
        session.state == SessionState::Unknown && session.last_error.is_none()
    };
    if found.sessions.iter().all(nothing_said) {
        return Answer::unknown(
            PROGRAMMED,
            reason::NOT_REPORTED,
            "No node that is selected has said how its session is doing; see that its speaker runs.",
        );
    }
    let word = match found.established {
        0 => reason::NOT_ESTABLISHED,
        _ => reason::PARTLY_ESTABLISHED,
    };
    no(
        word,
        &[vec![count], errors(&found.sessions)].concat().join("\n"),
    )
}

/// Why sessions are not established, one cause on each line with the nodes that it keeps from it.
fn errors(sessions: &[NodeSession]) -> Vec<String> {
    let mut causes: Vec<(String, Vec<String>)> = Vec::new();
    for session in sessions {
        let error = session.last_error.as_deref();
        let cause = match session.state {
            SessionState::Established => continue,
            SessionState::Unknown => {
                error.unwrap_or("nothing is said of the session; see that the speaker runs")
            }
            SessionState::NoSession | SessionState::NotEstablished => {
                error.unwrap_or("not established yet")
            }
        };
        let nodes = match causes.iter_mut().find(|(known, _)| known == cause) {
            Some((_, nodes)) => nodes,
            None => {
                causes.push((cause.to_owned(), Vec::new()));
                let Some((_, nodes)) = causes.last_mut() else {
                    continue;
                };
                nodes
            }
        };
        nodes.push(session.node.clone());
    }
    let more = causes.len().saturating_sub(CAUSES_AT_MOST);
    let named = causes.into_iter().take(CAUSES_AT_MOST);
    let named = named.map(|(cause, nodes)| format!("{}: {cause}", some_of(nodes.into_iter())));
    let mut lines: Vec<String> = named.collect();
    if more > 0 {
        lines.push(format!("and {more} more causes"));
    }
    lines
}

fn without_figures(status: &BGPPeerStatus) -> Vec<(&'static str, Value)> {
    let mut status = status.clone();
    for session in &mut status.sessions {
        session.prefixes_sent = 0;
    }
    fields(&status)
}

/// The fields, as a merge patch has them: null takes away.
fn fields(status: &BGPPeerStatus) -> Vec<(&'static str, Value)> {
    let sessions = match status.sessions.as_slice() {
        [] => Value::Null,
        sessions => json!(sessions),
    };
    vec![
        ("established", json!(status.established)),
        ("establishedNodes", json!(status.established_nodes)),
        ("selectedNodes", json!(status.selected_nodes)),
        ("sessions", sessions),
    ]
}

#[cfg(test)]
#[path = "sessions_tests.rs"]
mod tests;
