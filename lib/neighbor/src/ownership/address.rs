//! What is remembered of one address?

use pnet::util::MacAddr;

use super::{OnConflict, Terms};
use crate::moment::{Moment, Pause};

#[derive(Debug)]
pub(super) struct Address {
    pub(super) terms: Kept,
    pub(super) phase: Phase,
    /// What is known of another station that claims it. Rare, so it lies elsewhere.
    pub(super) conflict: Option<Box<Conflict>>,
    pub(super) wake: Option<Moment>,
    /// When it was last taken over, or may have been announced by another node too.
    pub(super) moved: Option<Moment>,
    /// When a node of the cluster last claimed it.
    pub(super) node: Option<Moment>,
    /// It is withheld only because this node is alone and another claims it.
    pub(super) yielded: bool,
    pub(super) question: Question,
}

/// What the segment was asked about an address.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Question {
    /// One is on its way out.
    pub(super) pending: bool,
    /// Questions that left since the last claim.
    pub(super) unanswered: u8,
    /// When the last one left.
    pub(super) left: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The segment is being asked; so many probes have left.
    Probing(u8),
    Held,
    HandingOver,
    Withheld,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Conflict {
    pub(super) mac: MacAddr,
    pub(super) last: Moment,
    /// It has been told.
    pub(super) told: bool,
    pub(super) defended: Option<Moment>,
}

impl Conflict {
    pub(super) fn by(mac: MacAddr, now: Moment) -> Box<Self> {
        Box::new(Self {
            mac,
            last: now,
            told: false,
            defended: None,
        })
    }
}

/// [`Terms`] in little room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    pub(super) refresh: Option<Pause>,
    pub(super) on_conflict: OnConflict,
}

impl From<Terms> for Kept {
    fn from(terms: Terms) -> Self {
        Self {
            refresh: terms.refresh.map(Pause::from),
            on_conflict: terms.on_conflict,
        }
    }
}
