//! The loop that moves datagrams and time into the membership and carries out what it wants.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrolb_membership::{ACCEPT_FORMER, DropReason, LONGEST_DATAGRAM, Membership, Output};
use rand::Rng;
use rand::seq::IndexedRandom;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::key::KeyFile;
use super::metrics::MembersMetrics;

/// Datagrams that are taken in before time goes on, see [`Membership::tick`]. More are a flood.
const AT_A_TIME: usize = 1024;
/// Seeds that are asked per round; each answer tells of others.
const SEEDS_AT_A_TIME: usize = 16;
/// Bounds of the pause between rounds, drawn anew each time so that nodes do not speak in step.
const ROUND_MILLISECONDS: std::ops::Range<u64> = 2000..4000;
/// The same while nobody has answered yet: a datagram that got lost must not make this node take itself for the only one.
const FIRST_ROUNDS_MILLISECONDS: std::ops::Range<u64> = 80..120;
/// How long a speaker with another key is taken for alive after a datagram of its: longer than the pause between its rounds.
const STRANGE_FOR: Duration = Duration::from_secs(5);
/// How soon again a speaker with another key is answered, so that two do not speak without end.
const ANSWER_AGAIN: Duration = Duration::from_secs(1);
/// A socket that takes nothing for this long loses the datagram.
const PATIENCE: Duration = Duration::from_millis(50);
/// Between two looks at the file of the key.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often the farewell is said, and how soon again.
const FAREWELLS: u32 = 3;
const FAREWELL_AGAIN: Duration = Duration::from_millis(20);
/// Between two warnings of one kind.
const WARN_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Run {
    pub(super) socket: UdpSocket,
    pub(super) own: SocketAddr,
    pub(super) membership: Membership,
    pub(super) key: Option<KeyFile>,
    pub(super) seeds: watch::Receiver<BTreeSet<SocketAddr>>,
    pub(super) names: watch::Sender<Arc<BTreeSet<String>>>,
    pub(super) heard_all: watch::Sender<bool>,
    pub(super) unheard: watch::Sender<bool>,
    /// The hardware addresses of this node, and of the others.
    pub(super) own_macs: watch::Receiver<Vec<[u8; 6]>>,
    pub(super) macs: watch::Sender<Arc<BTreeSet<[u8; 6]>>>,
    pub(super) knows_all_macs: watch::Sender<bool>,
    pub(super) other_key: watch::Sender<bool>,
    /// When a datagram last came from a seed that did not authenticate.
    pub(super) strangers: BTreeMap<SocketAddr, Instant>,
    /// The farewell is wished for, and said.
    pub(super) leaving: CancellationToken,
    pub(super) left: CancellationToken,
    pub(super) metrics: MembersMetrics,
    /// When it was last said that a speaker has another key.
    pub(super) warned: Option<Instant>,
    /// When a speaker with another key was last answered.
    pub(super) answered: Option<Instant>,
}

impl Run {
    pub(super) async fn until(mut self, shutdown: CancellationToken) {
        // One byte more than is taken, or a longer one would pass for one that fits.
        let mut buffer = vec![0; LONGEST_DATAGRAM + 1];
        let mut next_round = Instant::now();
        let mut next_look = next_round + LOOK_EVERY;
        loop {
            self.carry_out().await;
            let deadline = self.membership.deadline().min(next_round).min(next_look);
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.leaving.cancelled(), if !self.left.is_cancelled() => self.say_farewell(&mut buffer).await,
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((length, from)) => self.take_in(buffer.get(..length).unwrap_or_default(), from),
                    Err(error) => debug!(%error, "cannot receive a membership datagram"),
                },
                Ok(()) = self.seeds.changed() => next_round = Instant::now(),
                Ok(()) = self.own_macs.changed() => {}
                () = sleep_until(deadline.into()) => {}
            }
            let now = Instant::now();
            // Before anybody is asked: the question tells them.
            let macs = self.own_macs.borrow_and_update().clone();
            self.membership.set_macs(now, macs);
            if next_look <= now {
                self.look_at_key(now);
                next_look = now + LOOK_EVERY;
            }
            if next_round <= now && !self.left.is_cancelled() {
                self.ask_seeds(now);
            }
            if next_round <= now {
                let is_new = !self.membership.heard_all()
                    && self.membership.names().len() <= 1
                    && !self.seeds.borrow().is_empty();
                let pause = rand::rng().random_range(if is_new {
                    FIRST_ROUNDS_MILLISECONDS
                } else {
                    ROUND_MILLISECONDS
                });
                next_round = now + Duration::from_millis(pause);
            }
            if self.membership.deadline() <= now {
                self.take_in_what_waits(&mut buffer);
                if let Err(fault) = self.membership.tick(now) {
                    warn!(
                        error = &fault as &dyn std::error::Error,
                        "the membership protocol complains"
                    );
                }
            }
        }
        if !self.left.is_cancelled() {
            self.say_farewell(&mut buffer).await;
        }
    }

    async fn say_farewell(&mut self, buffer: &mut [u8]) {
        for said in 0..FAREWELLS {
            if said > 0 {
                tokio::time::sleep(FAREWELL_AGAIN).await;
            }
            // Who has joined a moment ago may yet have to learn of whom to part.
            self.take_in_what_waits(buffer);
            if let Err(fault) = self.membership.leave(Instant::now()) {
                warn!(
                    error = &fault as &dyn std::error::Error,
                    "no farewell to the other speakers"
                );
            }
            self.carry_out().await;
        }
        info!("said farewell to the other speakers");
        self.left.cancel();
    }

    fn look_at_key(&mut self, now: Instant) {
        let Some(key) = &mut self.key else {
            return;
        };
        if key.look_again() && self.membership.change_secret(now, key.key()) {
            info!(
                former_for_seconds = ACCEPT_FORMER.as_secs(),
                "the membership key has changed; the former one stays valid for speakers that have not read the new one"
            );
        }
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
            let known = self.seeds.borrow().contains(&from) && from != self.own;
            if !known || reason != DropReason::Authentication {
                return;
            }
            self.strangers.insert(from, now);
            // So that one that has just started learns of us before it takes itself for the only one.
            if self.answered.is_none_or(|at| now - at > ANSWER_AGAIN) && !self.left.is_cancelled() {
                self.answered = Some(now);
                if let Err(fault) = self.membership.announce_to(now, from) {
                    debug!(
                        error = &fault as &dyn std::error::Error,
                        "cannot answer a speaker with another key"
                    );
                }
            }
            if self.warned.is_none_or(|at| now - at > WARN_EVERY) {
                self.warned = Some(now);
                warn!(
                    %from,
                    "a speaker of this cluster has another membership key, so each takes the other for lost and both may \
                     announce the same addresses; a changed key reaches every node within about two minutes, and if this \
                     goes on, restart all speakers: kubectl rollout restart daemonset ferrolb-speaker"
                );
            }
        }
    }

    /// Those who have another key and are no members: of a member others can tell.
    fn look_for_strangers(&mut self) {
        let now = Instant::now();
        self.strangers.retain(|_, at| now < *at + STRANGE_FOR);
        let members: BTreeSet<_> = self.membership.addresses().collect();
        let are_there = self.strangers.keys().any(|addr| !members.contains(addr));
        self.other_key
            .send_if_modified(|were_there| std::mem::replace(were_there, are_there) != are_there);
    }

    fn ask_seeds(&mut self, now: Instant) {
        if !self.seeds.borrow().is_empty() {
            self.membership.expect_answers(now);
        }
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
        let (mut changed, mut macs, mut heard_all) = (false, false, None);
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
                Output::Macs => macs = true,
                Output::HeardAll => heard_all = Some(true),
                Output::Lapsed { late } => {
                    warn!(
                        late_milliseconds = late.as_millis(),
                        "this process was stopped or starved for a while; asking the other speakers who is alive"
                    );
                    self.metrics.lapses.inc();
                    heard_all = Some(false);
                    // Not after the datagrams that follow: whoever looks meanwhile must not rely on what was.
                    self.heard_all.send_replace(false);
                }
            }
        }
        if macs {
            self.macs.send_replace(Arc::new(self.membership.macs()));
        }
        let knows_all = self.membership.knows_all_macs();
        self.knows_all_macs
            .send_if_modified(|knew| std::mem::replace(knew, knows_all) != knows_all);
        if changed {
            self.metrics.alive.set(self.membership.names().len() as i64);
            self.names
                .send_replace(Arc::new(self.membership.names().clone()));
        }
        if let Some(heard_all) = heard_all {
            self.heard_all.send_replace(heard_all);
        }
        if !self.strangers.is_empty() || *self.other_key.borrow() {
            self.look_for_strangers();
        }
        let is_unheard = self.membership.is_unheard(Instant::now());
        self.unheard
            .send_if_modified(|unheard| std::mem::replace(unheard, is_unheard) != is_unheard);
    }
}
