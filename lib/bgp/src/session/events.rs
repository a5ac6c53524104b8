//! What happens to a session and what it wants done.

use super::negotiation::Negotiated;
use super::state::State;
use crate::family::Family;
use crate::wire::{AttributeFault, Cease, Notification};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// We did.
    Active,
    /// The peer did.
    Passive,
}

/// Names a connection. Numbers are never used twice by one session, so what is said about a connection that is gone can be
/// told apart and is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// Who opened it.
    pub side: Side,
    /// Distinguishes the connections of one side.
    pub number: u64,
}

/// What the sockets of a connection tell about our end of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// Our address of the connection.
    pub local: IpAddr,
    /// The BGP identifier to present; it may depend on the local address (reference 4.7).
    pub router_id: Ipv4Addr,
    /// An IPv4 address of the same interface, for IPv4 routes where `local` is IPv6.
    pub next_hop_v4: Option<Ipv4Addr>,
    /// An IPv6 address of the same interface, for IPv6 routes where `local` is IPv4.
    pub next_hop_v6: Option<Ipv6Addr>,
}

/// What happened. The numbers are the events of RFC 4271 section 8.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<'a> {
    /// The session shall be (event 1).
    Start,
    /// The session shall end (event 2).
    Stop {
        /// What the peer is told.
        reason: Cease,
        /// What its administrator is told (RFC 9003), if `reason` carries a text.
        text: &'a str,
    },
    /// The session shall end because this process does, and another that follows shall have it: where the peer agreed to
    /// that, it keeps our routes meanwhile (RFC 4724).
    Restart {
        /// What its administrator is told (RFC 9003), where that does not make it drop our routes.
        text: &'a str,
    },
    /// The [deadline](super::Session::deadline) is reached (events 9 to 13 and event 29, RFC 9687).
    Tick,
    /// A connection that was asked for is there (event 16).
    Connected {
        /// Which.
        conn: ConnId,
        /// Our end of it.
        endpoint: Endpoint,
    },
    /// A connection that was asked for could not be had (event 18).
    ConnectFailed {
        /// Which.
        conn: ConnId,
        /// Why, for people.
        error: String,
    },
    /// The peer opened a connection (event 17). Answered by [`Output::Accept`] or [`Output::Refuse`].
    Accepted {
        /// Our end of it.
        endpoint: Endpoint,
    },
    /// The peer sent octets, in any portions (events 19 to 28).
    Bytes {
        /// On which connection.
        conn: ConnId,
        /// What.
        bytes: &'a [u8],
    },
    /// A connection is gone (event 18).
    Closed {
        /// Which.
        conn: ConnId,
        /// Why, unless the peer closed it in order.
        error: Option<String>,
    },
    /// The kernel took octets for sending, so the peer is taking some (RFC 9687).
    Progress {
        /// On which connection.
        conn: ConnId,
    },
    /// UPDATEs were put behind what was to be sent, so no KEEPALIVE is needed for a while (RFC 4271 section 4.4).
    UpdateQueued,
}

/// What to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Open a connection to the peer, and tell how that went under this name.
    Connect {
        /// The name.
        conn: ConnId,
    },
    /// The connection of [`Input::Accepted`] is used under this name.
    Accept {
        /// The name.
        conn: ConnId,
    },
    /// The connection of [`Input::Accepted`] is not used: close it.
    Refuse,
    /// Send these octets.
    Send {
        /// On which connection.
        conn: ConnId,
        /// What.
        bytes: Vec<u8>,
    },
    /// Close the connection (or stop opening it) after what was to be sent, as far as the peer still takes it.
    Close {
        /// Which.
        conn: ConnId,
    },
    /// Routes may be sent now, on this connection.
    Established {
        /// On which connection.
        conn: ConnId,
        /// What both sides agreed on.
        negotiated: Negotiated,
    },
    /// The peer asks for all routes of a family again.
    Refresh(Family),
    /// The peer sent routes, which are not wanted and were forgotten.
    UpdateIgnored {
        /// Set if the UPDATE was malformed in a way that does not end the session (RFC 7606).
        fault: Option<AttributeFault>,
    },
    /// A connection, or the attempt to have one, came to its end.
    Ended {
        /// Which.
        conn: ConnId,
        /// Whether the session was established on it: the peer has dropped our routes.
        was_established: bool,
        /// Why.
        reason: EndReason,
    },
    /// The state is another than after the input before.
    StateChanged(State),
}

/// Why a connection came to its end, in words for a status or a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndReason {
    /// By [`Input::Stop`].
    #[error("stopped")]
    Stopped,
    /// It could not be opened.
    #[error("cannot connect: {0}")]
    ConnectFailed(String),
    /// Opening it took too long.
    #[error("cannot connect: no answer from the peer")]
    ConnectTimeout,
    /// The peer closed it without saying why.
    #[error("the peer closed the connection")]
    ClosedByPeer,
    /// It broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The peer said why.
    #[error("the peer ended the session: {0}")]
    Received(Notification),
    /// We found an error and told the peer.
    #[error("{why}")]
    Sent {
        /// What the peer was told.
        notification: Notification,
        /// What we found, in words.
        why: String,
    },
    /// The peer sent a NOTIFICATION that cannot be read, which must not be answered.
    #[error("the peer ended the session with a malformed NOTIFICATION")]
    MalformedNotification,
    /// Another connection to the same peer is used instead.
    #[error("another connection to the peer is used instead")]
    Collision,
}
