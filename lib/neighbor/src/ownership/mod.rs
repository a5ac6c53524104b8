//! Is an address ours to answer for, and what if another station says that it is its own?
//!
//! Address conflict detection after RFC 5227, for IPv6 with the frames of RFC 4862 section 5.4:
//!
//! - **Before the first claim** of an address the segment is asked for it ([`Effect::Probe`]). What counts is questions that
//!   left ([`Ownership::asked`]): without a link nothing is claimed.
//! - **Who takes over** from another node of the cluster claims at once and asks when that node's last word is over; under
//!   [`OnConflict::Withhold`] it asks before, with hardly a pause.
//! - **While it is held**, a frame by which another station claims it starts a period of [`CONFIRM`]. It is no conflict if
//!   the address is not ours any more when that is over: a planned move looks like this to the node that is left. Else it
//!   is reported and defended, once per [`DEFEND_INTERVAL`] however many claims there are (RFC 5227 section 2.4, (c)).
//!   What is heard within that time after a takeover is the former node's and no conflict either.
//! - Under [`OnConflict::Withhold`] an address that is in use is not claimed. One that is held is asked for with the defence, and
//!   given up if that is answered or it is claimed again within the interval (RFC 5227 section 2.4, (b)).
//! - A conflict is over when two questions that left were not answered.
//!
//! What a node of the cluster claims ([`Claimant::Node`]) is no conflict at any time.
//!
//! The pauses of RFC 5227 between probes, seconds, are for hosts that settle down for hours. Here a Service waits, so a
//! probe is a matter of milliseconds, and an answer that comes later is noticed all the same, as a claim.
//!
//! **Alone**: a node that hears no other node of its cluster although there should be some is more likely cut off than the
//! last one. While that is so ([`Ownership::set_alone`]) it leaves an address to a node that is heard to claim it.
//!
//! **Handing over**: a node that is no longer the one to announce an address answers on until it hears the other one's
//! claim, but not longer than [`HAND_OVER`]. So there is no moment without an answer in a planned move.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::moment::{Moment, Origin};
use crate::schedule::GratuitousSchedule;

mod address;
mod conflicts;
mod terms;

use address::{Address, Kept, Phase, Question};
pub use terms::{Before, Claimant, Effect, OnConflict, Standing, Terms};

/// Probes before a first claim.
const PROBES: u8 = 2;
/// Pause after each probe before a first claim. A station on the segment answers within a millisecond, and an answer that
/// comes later is a claim.
const PROBE_PAUSE: Duration = Duration::from_millis(1);
/// The same where an address in use must not be claimed: slow stations, too, shall have answered.
const PATIENT_PROBE_PAUSE: Duration = Duration::from_millis(250);
/// The same for who takes over, when clients wait already.
const HASTY_PROBE_PAUSE: Duration = Duration::from_millis(5);
/// How long a claim by another station may be the beginning of a planned move.
pub const CONFIRM: Duration = Duration::from_secs(1);
/// At most one defence in this time (RFC 5227 section 1.1).
pub const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// A question that did not leave, for want of a link, is asked again after this pause.
const RETRY: Duration = Duration::from_secs(1);
/// What comes within this time after a question is its answer.
const ANSWER: Duration = Duration::from_secs(1);
/// Pause between the questions whether a conflict lasts while the address is held.
const ASK_AGAIN: Duration = Duration::from_secs(20);
/// The same for an address that is withheld: nobody else serves it, so its clients wait for us.
const WITHHELD_ASK_AGAIN: Duration = Duration::from_secs(3);
/// A conflict is over when so many questions were not answered.
const UNANSWERED: u8 = 2;
/// Pause between the questions for addresses that were taken over: there may be thousands.
const QUESTION: Duration = Duration::from_millis(5);
/// How long an address is answered for that another node shall announce, if that is not heard.
pub const HAND_OVER: Duration = Duration::from_secs(1);

/// The addresses that are ours, or about to be.
#[derive(Debug, Default)]
pub struct Ownership {
    addresses: BTreeMap<IpAddr, Address>,
    schedule: GratuitousSchedule,
    /// When an address needs attention for another reason than its gratuitous frames.
    timers: BTreeSet<(Moment, IpAddr)>,
    effects: VecDeque<Effect>,
    /// No other node of the cluster is heard although there should be some.
    alone: bool,
    /// When the next question for an address that was taken over may be asked.
    question: Option<Moment>,
    origin: Origin,
}

impl Ownership {
    /// Nothing is ours. `seed` is where the jitter of refreshes comes from.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            schedule: GratuitousSchedule::new(seed),
            ..Self::default()
        }
    }

    /// How we stand to an address; `None` if it is not ours.
    #[must_use]
    pub fn standing(&self, ip: IpAddr) -> Option<Standing> {
        Some(match self.addresses.get(&ip)?.phase {
            Phase::Held | Phase::HandingOver => Standing::Held,
            Phase::Probing(_) | Phase::Withheld => Standing::Watched,
        })
    }

    /// This node is the one to announce an address, on these terms. Says nothing new where it is already.
    pub fn announce(&mut self, ip: IpAddr, terms: Terms, before: Before, now: Instant) {
        let now = self.origin.moment(now);
        let terms = Kept::from(terms);
        match self.addresses.get_mut(&ip) {
            Some(address) if address.phase == Phase::HandingOver => {
                address.terms = terms;
                address.moved = Some(now);
                self.hold(ip, now);
            }
            Some(address) => {
                address.terms = terms;
                let goes_on = address.phase == Phase::Withheld
                    && !address.yielded
                    && terms.on_conflict == OnConflict::Warn;
                if !goes_on {
                    self.schedule.set_refresh(ip, terms.refresh, now);
                    self.doubt(ip);
                    return;
                }
                if let Some(conflict) = &address.conflict {
                    let (mac, withheld) = (conflict.mac, false);
                    self.effects
                        .push_back(Effect::Conflict { ip, mac, withheld });
                }
                self.hold(ip, now);
            }
            None => {
                let taken_over = before == Before::TheCluster;
                let at_once = taken_over && terms.on_conflict == OnConflict::Warn;
                let address = Address {
                    terms,
                    phase: Phase::Probing(0),
                    conflict: None,
                    wake: None,
                    moved: taken_over.then_some(now),
                    node: None,
                    yielded: false,
                    question: Question::default(),
                };
                self.addresses.insert(ip, address);
                if at_once {
                    self.hold(ip, now);
                } else {
                    self.effects.push_back(Effect::Standing(ip));
                    self.ask(ip, now);
                }
            }
        }
    }

    /// A question ([`Effect::Probe`]) has left by at least one interface.
    pub fn asked(&mut self, ip: IpAddr, now: Instant) {
        let now = self.origin.moment(now);
        let Some(address) = self.addresses.get_mut(&ip) else {
            return;
        };
        let question = &mut address.question;
        if !std::mem::take(&mut question.pending) {
            return;
        }
        question.unanswered = question.unanswered.saturating_add(1);
        question.left = Some(now);
        match &mut address.phase {
            Phase::Probing(sent) => {
                *sent += 1;
                let pause = match (address.terms.on_conflict, address.moved) {
                    (OnConflict::Warn, _) => PROBE_PAUSE,
                    (OnConflict::Withhold, None) => PATIENT_PROBE_PAUSE,
                    (OnConflict::Withhold, Some(_)) => HASTY_PROBE_PAUSE,
                };
                self.set_wake(ip, Some(now + pause));
            }
            Phase::Withheld => self.set_wake(ip, Some(now + WITHHELD_ASK_AGAIN)),
            Phase::Held | Phase::HandingOver => {}
        }
    }

    /// Announces an address once more, with a burst, and asks for it: what it reaches has changed.
    pub fn announce_again(&mut self, ip: IpAddr, now: Instant) {
        let now = self.origin.moment(now);
        let Some(address) = self.addresses.get(&ip) else {
            return;
        };
        match address.phase {
            Phase::Held => {
                self.schedule.restart(ip, address.terms.refresh, now);
                self.put_question(ip);
            }
            Phase::Probing(_) => self.ask(ip, now),
            Phase::Withheld | Phase::HandingOver => {}
        }
    }

    /// The same without a burst, as soon as the pace allows, for many at a time.
    pub fn refresh(&mut self, ip: IpAddr, now: Instant) {
        let now = self.origin.moment(now);
        let Some(address) = self.addresses.get(&ip) else {
            return;
        };
        match address.phase {
            Phase::Held => {
                let free = address.conflict.is_none() && address.wake.is_none();
                self.schedule.refresh_soon(ip, now);
                if free {
                    self.ask_later(ip, now);
                }
            }
            Phase::Probing(_) => self.ask(ip, now),
            Phase::Withheld | Phase::HandingOver => {}
        }
    }

    /// Announces every address once more, with bursts: others may have been told otherwise all the time.
    pub fn announce_all_again(&mut self, now: Instant) {
        let now = self.origin.moment(now);
        let mut unsure = Vec::new();
        for (ip, address) in &mut self.addresses {
            address.moved = Some(now);
            if address.phase == Phase::Held {
                self.schedule.restart(*ip, address.terms.refresh, now);
                if address.conflict.is_none() && address.wake.is_none() {
                    unsure.push(*ip);
                }
            }
        }
        for ip in unsure {
            self.ask_later(ip, now);
        }
    }

    /// Refreshes every address as soon as the pace allows: another node may have announced some of them meanwhile.
    pub fn refresh_all(&mut self, now: Instant) {
        let now = self.origin.moment(now);
        for (ip, address) in &mut self.addresses {
            address.moved = Some(now);
            if address.phase == Phase::Held {
                self.schedule.refresh_soon(*ip, now);
            }
        }
    }

    /// Another node is the one to announce an address now.
    pub fn hand_over(&mut self, ip: IpAddr, now: Instant) {
        let now = self.origin.moment(now);
        self.hand_over_one(ip, now);
    }

    fn hand_over_one(&mut self, ip: IpAddr, now: Moment) {
        let Some(address) = self.addresses.get_mut(&ip) else {
            return;
        };
        // The other node may have been faster than the news of it.
        let untold = address.conflict.as_ref().filter(|conflict| !conflict.told);
        let claims = untold.map(|conflict| conflict.last).into_iter();
        let heard = claims.chain(address.node).any(|at| now < at + CONFIRM);
        match address.phase {
            Phase::Held if !heard => {
                address.phase = Phase::HandingOver;
                self.resolve(ip);
                self.schedule.withdraw(ip);
                self.set_wake(ip, Some(now + HAND_OVER));
            }
            Phase::HandingOver => {}
            Phase::Held | Phase::Probing(_) | Phase::Withheld => self.withdraw(ip),
        }
    }

    /// Whether this node hears no other of its cluster although there should be some.
    pub fn set_alone(&mut self, alone: bool, now: Instant) {
        let now = self.origin.moment(now);
        if !std::mem::replace(&mut self.alone, alone) || alone {
            return;
        }
        // What was left to others only for this is a matter of the cluster again.
        let left: Vec<IpAddr> = self
            .addresses
            .iter()
            .filter(|(_, address)| address.yielded)
            .map(|(ip, _)| *ip)
            .collect();
        for ip in left {
            self.resolve(ip);
            if let Some(address) = self.addresses.get_mut(&ip) {
                address.moved = Some(now);
            }
            self.hold(ip, now);
        }
    }

    /// Hands over every address, for a node that leaves.
    pub fn hand_over_all(&mut self, now: Instant) {
        let now = self.origin.moment(now);
        let all: Vec<IpAddr> = self.addresses.keys().copied().collect();
        for ip in all {
            self.hand_over_one(ip, now);
        }
    }

    /// Lays the addresses out anew, in less room: where many came one after the other, half of it is empty.
    pub fn repack(&mut self) {
        self.addresses = std::mem::take(&mut self.addresses).into_iter().collect();
        self.schedule.repack();
    }

    /// Nobody announces an address any more.
    pub fn withdraw(&mut self, ip: IpAddr) {
        self.set_wake(ip, None);
        self.schedule.withdraw(ip);
        self.resolve(ip);
        if self.addresses.remove(&ip).is_some() {
            self.effects.push_back(Effect::Standing(ip));
        }
    }

    /// Does what is due. To be called at [`Self::deadline`].
    pub fn tick(&mut self, now: Instant) {
        let now = self.origin.moment(now);
        while let Some(&(at, ip)) = self.timers.first()
            && at <= now
        {
            self.set_wake(ip, None);
            self.wake(ip, now);
        }
        let due = self.schedule.due(now);
        self.effects.extend(due.into_iter().map(Effect::Announce));
    }

    /// When [`Self::tick`] has to be called next.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|&(at, _)| at);
        let next = timer.into_iter().chain(self.schedule.deadline()).min();
        self.origin.instant(next?)
    }

    /// Whether there is something for [`Self::poll_effect`].
    #[must_use]
    pub fn has_effects(&self) -> bool {
        !self.effects.is_empty()
    }

    /// What is to be done next, oldest first. To be called until it is empty after every other call.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn wake(&mut self, ip: IpAddr, now: Moment) {
        let Some(address) = self.addresses.get_mut(&ip) else {
            return;
        };
        match address.phase {
            Phase::Probing(sent) if sent < PROBES => self.ask(ip, now),
            Phase::Probing(_) => self.hold(ip, now),
            Phase::HandingOver => self.withdraw(ip),
            Phase::Held if address.conflict.is_none() => self.put_question(ip),
            Phase::Held => self.judge_conflict(ip, now),
            Phase::Withheld if address.question.unanswered < UNANSWERED => self.ask(ip, now),
            Phase::Withheld => {
                self.resolve(ip);
                self.hold(ip, now);
            }
        }
    }

    fn put_question(&mut self, ip: IpAddr) {
        if let Some(address) = self.addresses.get_mut(&ip) {
            address.question.pending = true;
            self.effects.push_back(Effect::Probe(ip));
        }
    }

    /// Asks until that has left, and takes its time from then on.
    fn ask(&mut self, ip: IpAddr, now: Moment) {
        self.put_question(ip);
        self.set_wake(ip, Some(now + RETRY));
    }

    /// Asks for an address that was taken over when what the former node said is over, and after those that wait for the same.
    fn ask_later(&mut self, ip: IpAddr, now: Moment) {
        let at = self
            .question
            .map_or(now + CONFIRM, |next| next.max(now + CONFIRM));
        self.question = Some(at + QUESTION);
        self.set_wake(ip, Some(at));
    }

    fn hold(&mut self, ip: IpAddr, now: Moment) {
        let Some(address) = self.addresses.get_mut(&ip) else {
            return;
        };
        address.phase = Phase::Held;
        address.yielded = false;
        let taken_over = address.moved == Some(now);
        let wake = address.conflict.as_ref().map(|_| now + ASK_AGAIN);
        let refresh = address.terms.refresh;
        self.effects.push_back(Effect::Standing(ip));
        self.schedule.announce(ip, refresh, now);
        if wake.is_none() && taken_over {
            self.ask_later(ip, now);
        } else {
            self.set_wake(ip, wake);
        }
    }

    fn set_wake(&mut self, ip: IpAddr, wake: Option<Moment>) {
        let Some(address) = self.addresses.get_mut(&ip) else {
            return;
        };
        if let Some(former) = std::mem::replace(&mut address.wake, wake) {
            self.timers.remove(&(former, ip));
        }
        self.timers.extend(wake.map(|wake| (wake, ip)));
    }
}

#[cfg(test)]
mod histories;
#[cfg(test)]
mod tests;
