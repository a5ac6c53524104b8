//! The loop that moves datagrams and time into the membership and carries out what it wants.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrolb_membership::{DropReason, Membership, Output};
use rand::Rng;
use rand::seq::IndexedRandom;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::metrics::MembersMetrics;

/// Longer than any datagram that we send.
const LONGEST_DATAGRAM: usize = 2048;
/// Datagrams that are taken in before time goes on, see [`Membership::tick`]. More are a flood.
const AT_A_TIME: usize = 1024;
/// Seeds that are asked per round; each answer tells of others.
const SEEDS_AT_A_TIME: usize = 16;
/// Bounds of the pause between rounds, drawn anew each time so that nodes do not speak in step.
const ROUND_MILLISECONDS: std::ops::Range<u64> = 2000..4000;
/// A socket that takes nothing for this long loses the datagram.
const PATIENCE: Duration = Duration::from_millis(50);
/// Between two warnings of one kind.
const WARN_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Run {
    pub(super) socket: UdpSocket,
    pub(super) own: SocketAddr,
    pub(super) membership: Membership,
    pub(super) seeds: watch::Receiver<BTreeSet<SocketAddr>>,
    pub(super) names: watch::Sender<Arc<BTreeSet<String>>>,
    pub(super) metrics: MembersMetrics,
    /// When it was last said that a speaker has another key.
    pub(super) warned: Option<Instant>,
}

impl Run {
    pub(super) async fn until(mut self, shutdown: CancellationToken) {
        let mut buffer = vec![0; LONGEST_DATAGRAM];
        let mut next_round = Instant::now();
        loop {
            self.carry_out().await;
            let deadline = self
                .membership
                .deadline()
                .map_or(next_round, |deadline| deadline.min(next_round));
            tokio::select! {
                () = shutdown.cancelled() => break,
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((length, from)) => self.take_in(buffer.get(..length).unwrap_or_default(), from),
                    Err(error) => debug!(%error, "cannot receive a membership datagram"),
                },
                Ok(()) = self.seeds.changed() => next_round = Instant::now(),
                () = sleep_until(deadline.into()) => {}
            }
            let now = Instant::now();
            if next_round <= now {
                self.ask_seeds(now);
                let pause = rand::rng().random_range(ROUND_MILLISECONDS);
                next_round = now + Duration::from_millis(pause);
            }
            if self
                .membership
                .deadline()
                .is_some_and(|deadline| deadline <= now)
            {
                self.take_in_what_waits(&mut buffer);
                if let Err(fault) = self.membership.tick(now) {
                    warn!(
                        error = &fault as &dyn std::error::Error,
                        "the membership protocol complains"
                    );
                }
            }
        }
        if let Err(fault) = self.membership.leave(Instant::now()) {
            warn!(
                error = &fault as &dyn std::error::Error,
                "no farewell to the other speakers"
            );
        }
        self.carry_out().await;
    }

    fn take_in_what_waits(&mut self, buffer: &mut [u8]) {
        for _ in 0..AT_A_TIME {
            let Ok((length, from)) = self.socket.try_recv_from(buffer) else {
                return;
            };
            self.take_in(buffer.get(..length).unwrap_or_default(), from);
        }
    }

    fn take_in(&mut self, datagram: &[u8], from: SocketAddr) {
        self.metrics.received.inc();
        if let Err(reason) = self.membership.handle_datagram(Instant::now(), datagram) {
            self.metrics.dropped(reason);
            debug!(%from, %reason, "dropped a membership datagram");
            let now = Instant::now();
            let known = self.seeds.borrow().contains(&from);
            if known
                && reason == DropReason::Authentication
                && self.warned.is_none_or(|at| now - at > WARN_EVERY)
            {
                self.warned = Some(now);
                warn!(
                    %from,
                    "a speaker of this cluster has another membership key, so each takes the other for lost and both may \
                     announce the same addresses; restart all speakers: kubectl rollout restart daemonset ferrolb-speaker"
                );
            }
        }
    }

    fn ask_seeds(&mut self, now: Instant) {
        let members: BTreeSet<_> = self.membership.addresses().chain([self.own]).collect();
        let missing: Vec<_> = self
            .seeds
            .borrow_and_update()
            .difference(&members)
            .copied()
            .collect();
        for &addr in missing.choose_multiple(&mut rand::rng(), SEEDS_AT_A_TIME) {
            if let Err(fault) = self.membership.announce_to(now, addr) {
                warn!(
                    error = &fault as &dyn std::error::Error,
                    "cannot ask a speaker to let us join"
                );
            }
        }
    }

    async fn carry_out(&mut self) {
        let mut changed = false;
        while let Some(output) = self.membership.poll_output() {
            match output {
                Output::Send { to, bytes } => {
                    match timeout(PATIENCE, self.socket.send_to(&bytes, to)).await {
                        Ok(Ok(_)) => {
                            self.metrics.sent.inc();
                        }
                        Ok(Err(error)) => debug!(%to, %error, "cannot send a membership datagram"),
                        Err(_elapsed) => debug!(%to, "the membership socket takes nothing"),
                    }
                }
                Output::Up(name) => {
                    info!(node = name, "a speaker is alive");
                    changed = true;
                }
                Output::Down(name) => {
                    info!(node = name, "a speaker has left or is lost");
                    changed = true;
                }
            }
        }
        if changed {
            self.metrics.alive.set(self.membership.names().len() as i64);
            self.names
                .send_replace(Arc::new(self.membership.names().clone()));
        }
    }
}
