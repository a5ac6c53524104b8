//! What the machine wants done or known, and why it did not use a datagram.

use std::net::SocketAddr;
use std::time::Duration;

/// What the machine wants done, or wants known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this datagram; it may get lost.
    Send {
        /// Where to.
        to: SocketAddr,
        /// The datagram, envelope included.
        bytes: Vec<u8>,
    },
    /// The node of this name is alive.
    Up(String),
    /// The node of this name has left or is lost.
    Down(String),
    /// The hardware addresses of others are not what they were, see [`crate::Membership::macs`].
    Macs,
    /// Who is alive is known as far as it can be: a member that knew told all that it knew, or nobody answered for
    /// [`crate::Timing::settle`]. See [`crate::Membership::heard_all`].
    HeardAll,
    /// Time has gone on without this process, for so long that the others may have given it up: it was stopped, or got no
    /// processor. What it believes may be out of date, until [`Output::HeardAll`].
    Lapsed {
        /// By how much it is late.
        late: Duration,
    },
}

/// Why a datagram was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum DropReason {
    /// It ends before its envelope does.
    #[error("the datagram ends before its envelope does")]
    Truncated,
    /// It is longer than [`crate::LONGEST_DATAGRAM`].
    #[error("the datagram is longer than any that a speaker sends")]
    Oversized,
    /// The envelope has a version that we do not know.
    #[error("the envelope has an unknown version")]
    Version,
    /// It is not encrypted although we have a secret.
    #[error("the datagram is not encrypted, but this node has a secret")]
    Unencrypted,
    /// It is encrypted although we have no secret.
    #[error("the datagram is encrypted, but this node has no secret")]
    Encrypted,
    /// It was sealed with another secret, or changed on its way.
    #[error("the datagram was sealed with another secret or changed on its way")]
    Authentication,
    /// It was used before.
    #[error("the datagram was received before")]
    Replayed,
    /// It belongs to a former life of its sender or of this node. A few are normal after a restart.
    #[error("the datagram belongs to a former life of its sender or of this node")]
    OldEpoch,
    /// Its content is not a membership message.
    #[error("the content is not a membership message")]
    Malformed,
    /// It claims to come from ourselves: two nodes have one address, or the network sends back what we sent.
    #[error("the sender has our own address")]
    OwnAddress,
    /// It would make [`crate::MOST_KNOWN`] members more.
    #[error("no more members can be kept")]
    Full,
}

impl DropReason {
    /// Every reason, so that each can be counted from zero.
    pub const ALL: [Self; 11] = [
        Self::Truncated,
        Self::Oversized,
        Self::Version,
        Self::Unencrypted,
        Self::Encrypted,
        Self::Authentication,
        Self::Replayed,
        Self::OldEpoch,
        Self::Malformed,
        Self::OwnAddress,
        Self::Full,
    ];

    /// The reason as a metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Oversized => "oversized",
            Self::Version => "version",
            Self::Unencrypted => "unencrypted",
            Self::Encrypted => "encrypted",
            Self::Authentication => "authentication",
            Self::Replayed => "replayed",
            Self::OldEpoch => "old_epoch",
            Self::Malformed => "malformed",
            Self::OwnAddress => "own_address",
            Self::Full => "full",
        }
    }
}

/// The protocol complained about its own state. It goes on; worth a line in the log.
#[derive(Debug, thiserror::Error)]
#[error("run a step of the membership protocol")]
pub struct Fault(#[source] pub(crate) foca::Error);
