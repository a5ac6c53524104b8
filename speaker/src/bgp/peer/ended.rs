//! Why there is no session, or a route is not in it, in words for whoever looks at the peer.

use ferrolb_bgp::wire::{Notification, code};
use ferrolb_bgp::{EndReason, Family, PeerAs};

use super::super::connection;
use super::super::discovery::Discovery;
use super::super::spec::Target;
use super::Peer;

/// Of a session that ended for a change of its BGPPeer, with the names of the fields.
pub(super) fn by_change(fields: &str) -> String {
    format!("ended because the BGPPeer changed: {fields}")
}

/// Bad Peer AS (RFC 4271 section 6.2).
fn is_bad_peer_as(notification: &Notification) -> bool {
    (notification.code, notification.subcode) == (code::OPEN, 2)
}

fn is_refusal(why: &str) -> bool {
    let number = why.strip_prefix("Connection refused (os error ");
    number.is_some_and(|rest| rest.trim_end_matches(')').parse::<u32>().is_ok())
}

impl Peer {
    pub(super) fn ended(&mut self, was_established: bool, reason: &EndReason) {
        if was_established {
            self.rib.down();
            self.metrics.session_up(false);
            self.status.negotiated = None;
            self.count_not_advertised();
        }
        if *reason == EndReason::Collision {
            tracing::debug!(peer = %self.name, "a second connection with the peer is closed");
            return;
        }
        let mut text = self.explain(was_established, reason);
        // Where this node listens, it may have called itself.
        if let (false, Target::Address(peer)) = (was_established, &self.setting.spec.target)
            && self.setting.listening
            && let Some(hint) = connection::about_own(*peer)
            && !text.contains(&hint)
        {
            text = format!("{text}; {hint}");
        }
        // The next attempt may meet a peer that is still at ending the session.
        if let Some(changed) = &self.setting.changed {
            text = format!("{}; since then: {text}", by_change(changed));
        }
        // Said once, not at every attempt.
        if self.status.last_error.as_deref() != Some(&text) && *reason != EndReason::Stopped {
            tracing::warn!(peer = %self.name, address = %self.setting.spec.label(), was_established, reason = %text, "no BGP session");
        } else {
            tracing::debug!(peer = %self.name, was_established, reason = %text, "no BGP session");
        }
        self.status.last_error = Some(text);
    }

    /// A passive peer has not connected for a while: the kernel drops what has a wrong signature without a word.
    pub(super) fn nobody_calls(&mut self) {
        self.patient_until = None;
        let text = if self.setting.spec.password.is_some() {
            "the peer is passive (ferrolb.io/passive) and has not connected: authentication (is the password right on both \
             sides?) or reachability"
        } else {
            "the peer is passive (ferrolb.io/passive) and has not connected: reachability, or it uses a password"
        };
        tracing::warn!(peer = %self.name, address = %self.setting.spec.label(), reason = text, "no BGP session");
        self.status.last_error = Some(text.to_owned());
    }

    fn explain(&mut self, was_established: bool, reason: &EndReason) -> String {
        match (reason, &self.told) {
            (EndReason::Received(_) | EndReason::Sent { .. }, _) => {
                let text = match (reason, self.setting.spec.peer_asn) {
                    (EndReason::Sent { notification, .. }, asn) if is_bad_peer_as(notification) => {
                        let field = match asn {
                            PeerAs::Exact(_) => "peerASN",
                            PeerAs::Internal | PeerAs::External => "dynamicASN",
                        };
                        format!("{reason}: correct spec.{field} or the router")
                    }
                    _ => reason.to_string(),
                };
                self.told = Some(text.clone());
                text
            }
            // A router that has ended a session for a reason usually closes the next connections without a word.
            (EndReason::ClosedByPeer | EndReason::Broken(_), Some(told)) if !was_established => {
                format!("{told}; since then the peer closes every connection")
            }
            // Or listens no more, for any of its peers.
            (EndReason::ConnectFailed(_), Some(told)) if !was_established => {
                format!("{told}; since then {reason}")
            }
            // The kernel drops segments with a wrong signature without a word, so silence is all that can be seen.
            (EndReason::ConnectTimeout, _) if self.discovery.as_ref().is_some_and(Discovery::is_alone) => format!(
                "no router has advertised itself on {}: is the link up, and does the router send router advertisements there?",
                self.setting.spec.label()
            ),
            (EndReason::ConnectTimeout, _) if self.setting.spec.password.is_some() => {
                "cannot connect: no answer from the peer: authentication (is the password right on both sides?) or \
                 reachability"
                    .to_owned()
            }
            (EndReason::ConnectTimeout, _) => {
                "cannot connect: no answer from the peer: reachability, or the peer expects a password".to_owned()
            }
            // The kernel's words for it and nothing besides.
            (EndReason::ConnectFailed(why), _) if is_refusal(why) => format!(
                "cannot connect: connection refused: nothing listens there on port {}, or the router knows no neighbor of this \
                 node's address",
                self.setting.spec.port
            ),
            _ => reason.to_string(),
        }
    }

    /// What the session cannot carry changes with the routes and with the session, not when something is sent.
    pub(super) fn count_not_advertised(&mut self) {
        // That a session has no part in the other family is how it is meant (reference 4.6).
        let families = self.setting.spec.families;
        let refused = self.rib.not_advertised();
        let mut refused = refused.filter(|(prefix, _)| families.contains(Family::of(prefix)));
        let first = refused.next();
        self.status.prefixes_not_advertised = usize::from(first.is_some()) + refused.count();
        let first = first.map(|(prefix, reason)| format!("{prefix}: {reason}"));
        if first.is_some() && first != self.status.not_advertised_because {
            tracing::warn!(
                peer = %self.name,
                count = self.status.prefixes_not_advertised,
                first,
                "the BGP session cannot carry some routes",
            );
        }
        self.status.not_advertised_because = first;
    }
}
