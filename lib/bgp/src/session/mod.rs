//! The session with one peer: the state machine of RFC 4271 section 8.
//!
//! [`Session::handle`] takes what happened and the time, and returns what to do; [`Session::deadline`] says when to call
//! again at the latest. A session has two slots for connections, one for the connection that we open and one for the
//! connection that the peer opens; each goes through the states by itself until RFC 4271 section 6.8 leaves one.
//!
//! The files: [`events`] (what goes in and out), `state` (what is remembered), `transitions` (what follows from what),
//! `timers` (how long), [`negotiation`] (what two OPENs agree on), [`graceful`] (how routes outlive this process),
//! `counts` (how many messages).

mod counts;
pub mod events;
pub mod graceful;
pub mod negotiation;
mod state;
mod timers;
mod transitions;

pub use counts::MessageCounts;
pub use events::{ConnId, EndReason, Endpoint, Input, Output, Side};
pub use graceful::KeepsRoutes;
pub use negotiation::{Negotiated, PeerAs};
pub use state::{Session, State};

use crate::family::Families;
use std::time::Duration;

/// The hold time that is proposed unless configured otherwise (RFC 4271 section 10; reference 4.7).
pub const DEFAULT_HOLD_TIME: Duration = Duration::from_secs(90);

/// What an administrator says about a session. A change of any of it needs a new session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Our AS.
    pub local_as: u32,
    /// The AS that the peer must have.
    pub peer_as: PeerAs,
    /// The hold time to propose, in whole seconds: 0 for none, or at least 3.
    pub hold_time: Duration,
    /// How often to send KEEPALIVEs; a third of the negotiated hold time if not given or if that is less.
    pub keepalive_time: Option<Duration>,
    /// How long to wait between attempts to connect; growing from 0 to 30 s if not given.
    pub connect_time: Option<Duration>,
    /// The families to offer.
    pub families: Families,
    /// Never connect, only take the connections that the peer opens (the PassiveTcpEstablishment of RFC 4271 section 8.1.1).
    pub passive: bool,
    /// How long the peer shall keep our routes while this process is replaced, up to 4,095 s (RFC 4724); not at all if not
    /// given.
    pub graceful_restart: Option<Duration>,
}
