//! In which ways a session has carried routes. Next hops change while it lasts, and before it ends its routes are marked; what
//! was sent before stays as it was until it is sent again.

use super::export::Export;
use crate::family::Family;
use crate::wire::NextHop;

/// What of an [`Export`] may become another during a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    next_hop_v4: Option<NextHop>,
    next_hop_v6: Option<NextHop>,
    /// Routes say that they are about to go away.
    pub(super) leaving: bool,
}

impl Way {
    fn of(export: &Export) -> Way {
        Way {
            next_hop_v4: export.next_hop_v4,
            next_hop_v6: export.next_hop_v6,
            leaving: export.graceful_shutdown,
        }
    }

    pub(super) fn next_hop(&self, family: Family) -> Option<NextHop> {
        match family {
            Family::Ipv4Unicast => self.next_hop_v4,
            Family::Ipv6Unicast => self.next_hop_v6,
        }
    }
}

/// All ways of a session, by number: no more than its end had sets of addresses, twice.
#[derive(Debug)]
pub(super) struct Ways {
    all: Vec<Way>,
    current: u32,
}

impl Ways {
    pub(super) fn new(export: &Export) -> Ways {
        Ways {
            all: vec![Way::of(export)],
            current: 0,
        }
    }

    /// Routes that are sent from now on are sent like this.
    pub(super) fn go_on(&mut self, export: &Export) {
        let way = Way::of(export);
        let known = self.all.iter().position(|known| *known == way);
        let number = known.unwrap_or_else(|| {
            self.all.push(way);
            self.all.len() - 1
        });
        self.current = u32::try_from(number).unwrap_or(u32::MAX);
    }

    pub(super) fn current(&self) -> u32 {
        self.current
    }

    pub(super) fn get(&self, number: u32) -> Option<&Way> {
        self.all.get(usize::try_from(number).ok()?)
    }
}
