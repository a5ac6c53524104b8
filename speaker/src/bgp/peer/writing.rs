//! UPDATEs go from the adj-RIB-out into the connection, as fast as the router reads.

use std::sync::Arc;
use std::time::Instant;

use ferrolb_bgp::wire::MessageType;
use ferrolb_bgp::{ConnId, Input};
use ipnet::IpNet;
use smallvec::SmallVec;

use super::super::status::RoutesSent;
use super::Peer;

/// No more is fetched from the adj-RIB-out while this many octets wait for the kernel.
const ENOUGH_WAITING: usize = 64 * 1024;

/// How much is fetched at a time.
const PORTION: usize = 16 * 1024;

impl Peer {
    pub(super) fn write(&mut self) {
        let all: SmallVec<[ConnId; 2]> = self.connections.iter().map(|one| one.conn).collect();
        for conn in all {
            self.write_to(conn);
        }
    }

    /// Fetches UPDATEs where the session is established, and hands what there is to the kernel, until one of both has enough.
    fn write_to(&mut self, conn: ConnId) {
        loop {
            let established = self.established == Some(conn);
            let mut connections = self.connections.iter_mut();
            let Some(connection) = connections.find(|connection| connection.conn == conn) else {
                return;
            };
            let (mut queued, mut fetched) = (false, false);
            while established && connection.waiting() < ENOUGH_WAITING {
                let Some(batch) = self.rib.next_batch(PORTION) else {
                    break;
                };
                connection.push(&batch.bytes);
                connection.mark(batch.announced);
                self.metrics.updates(batch.updates);
                for (kind, count) in [
                    (MessageType::Update, batch.updates),
                    (MessageType::RouteRefresh, batch.refreshes),
                ] {
                    let count = u64::try_from(count).unwrap_or(u64::MAX);
                    self.messages.sent.add(kind, count);
                }
                // Other messages do not begin the peer's hold time anew (RFC 4271 section 4.4).
                queued |= batch.updates > 0;
                fetched = true;
            }
            let written = connection.write();
            let waiting = connection.waiting();
            if queued {
                self.input(Input::UpdateQueued);
            }
            match written {
                Ok(written) => {
                    if written.progress {
                        self.input(Input::Progress { conn });
                    }
                    self.tell(written.announced);
                }
                Err(error) => {
                    // A peer that closes says why first, and that is worth more than the error of writing after it.
                    self.read_last_words(conn);
                    return self.broken(conn, &error);
                }
            }
            if waiting > 0 || !fetched {
                return;
            }
        }
    }

    fn tell(&self, prefixes: Vec<IpNet>) {
        if !prefixes.is_empty() {
            let event = RoutesSent {
                peer: Arc::clone(&self.name),
                prefixes,
                at: Instant::now(),
            };
            if self.setting.events.try_send(event).is_err() {
                tracing::debug!(peer = %self.name, "nobody reads which routes were sent");
            }
        }
    }
}
