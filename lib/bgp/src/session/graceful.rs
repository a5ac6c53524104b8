//! Graceful restart (RFC 4724): a peer keeps our routes while this process is replaced, since the kernel goes on forwarding.
//!
//! That is the part of a speaker that takes no routes: it asks the peer to keep its own, says whether it has just restarted
//! and whether its traffic was forwarded meanwhile, and ends without telling the peer to drop them.
//!
//! What is the caller's:
//! - to end by [`Input::Restart`](super::Input::Restart) where another process follows, by
//!   [`Input::Stop`](super::Input::Stop) where none does;
//! - to begin by [`Session::returned`](super::Session::returned) in that other process, if the node forwarded all the while;
//! - to have everything in the adj-RIB-out that the peer shall keep before it is fetched from, because the End-of-RIB marker
//!   makes the peer drop what was not announced before it.

use crate::family::Families;
use crate::wire::{Capability, GracefulRestart, Open, RestartFamily};
use std::time::Duration;

/// What a peer does that keeps our routes over a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepsRoutes {
    /// It keeps them after a NOTIFICATION too, unless that is a hard reset (RFC 8538).
    pub after_notifications: bool,
}

/// What is remembered between the connections of a session.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memory {
    /// Another process had the session before, and its routes were forwarded all the while.
    pub(super) returned: bool,
    /// The session was established since.
    pub(super) established: bool,
}

impl Memory {
    /// The capability to offer. The peer may take up to `time` for granted until we are back.
    ///
    /// Forwarding was preserved if the process before had it or if only the connection was lost; a process that is the first
    /// knows of nothing that it could preserve. Restarted is who has not had a session since.
    pub(super) fn offer(self, time: Duration, families: Families) -> Capability {
        let forwarding = self.returned || self.established;
        let restarted = self.returned && !self.established;
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let families = families.iter().map(|family| RestartFamily {
            afi: family.afi(),
            safi: family.safi(),
            flags: flag(forwarding, RestartFamily::FORWARDING),
        });
        Capability::GracefulRestart(GracefulRestart {
            flags: flag(restarted, GracefulRestart::RESTARTED) | GracefulRestart::NOTIFICATIONS,
            time: u16::try_from(time.as_secs())
                .unwrap_or(u16::MAX)
                .min(GracefulRestart::LONGEST),
            families: families.collect(),
        })
    }
}

/// Whether the peer of this OPEN keeps our routes. One that asks for nothing itself does so too (RFC 4724 section 3).
pub(super) fn keeps_routes(open: &Open) -> Option<KeepsRoutes> {
    open.graceful_restart().map(|restart| KeepsRoutes {
        after_notifications: restart.flags & GracefulRestart::NOTIFICATIONS != 0,
    })
}
