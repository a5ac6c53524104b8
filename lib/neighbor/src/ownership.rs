//! Is an address ours to answer for, and what if another station says that it is its own?
//!
//! Address conflict detection after RFC 5227, for IPv6 with the frames of RFC 4862 section 5.4:
//!
//! - **Before the first claim** of an address the segment is asked for it ([`Effect::Probe`]). Who takes over from another
//!   node of the cluster does not ask: the answer would be that node's.
//! - **While it is held**, a frame by which another station claims it starts a period of [`CONFIRM`]. It is no conflict if
//!   the address is not ours any more when that is over: a planned move looks like this to the node that is left. Else it
//!   is reported and defended, once per [`DEFEND_INTERVAL`] however many claims there are (RFC 5227 section 2.4, (c)).
//!   What is heard within that time after a takeover is the former node's and no conflict either.
//! - Under [`OnConflict::Withhold`] an address that is in use is not claimed, and one that is claimed again within the
//!   interval after a defence is given up (RFC 5227 section 2.4, (b)); it is asked for until nobody answers.
//!
//! The pauses of RFC 5227 between probes, seconds, are for hosts that settle down for hours. Here a Service waits, so a
//! probe is a matter of milliseconds, and an answer that comes later is noticed all the same, as a claim.
//!
//! **Alone**: a node that hears no other node of its cluster although there should be some is more likely cut off than the
//! last one. While that is so ([`Ownership::set_alone`]) it leaves an address to whoever is heard to claim it.
//!
//! **Handing over**: a node that is no longer the one to announce an address answers on until it hears the other one's
//! claim, but not longer than [`HAND_OVER`]. So there is no moment without an answer in a planned move.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use pnet::util::MacAddr;

use crate::schedule::GratuitousSchedule;

/// Probes before a first claim.
const PROBES: u8 = 2;
/// Pause after each probe before a first claim. A station on the segment answers within a millisecond.
const PROBE_PAUSE: Duration = Duration::from_millis(5);
/// The same where an address in use must not be claimed: slow stations, too, shall have answered.
const PATIENT_PROBE_PAUSE: Duration = Duration::from_millis(250);
/// How long a claim by another station may be the beginning of a planned move.
pub const CONFIRM: Duration = Duration::from_secs(1);
/// At most one defence in this time (RFC 5227 section 1.1).
pub const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// Pause between the questions whether a conflict lasts while the address is held.
const ASK_AGAIN: Duration = Duration::from_secs(20);
/// A conflict of which nothing was heard for this long, with two questions unanswered, is over.
const FORGET: Duration = Duration::from_secs(45);
/// The same pauses for an address that is withheld: nobody else serves it, so its clients wait for us.
const WITHHELD_ASK_AGAIN: Duration = Duration::from_secs(3);
const WITHHELD_FORGET: Duration = Duration::from_secs(7);
/// How long an address is answered for that another node shall announce, if that is not heard.
pub const HAND_OVER: Duration = Duration::from_secs(1);

/// What to do about an address that another station claims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnConflict {
    /// Announce it all the same, tell, and defend it.
    #[default]
    Warn,
    /// Leave it to the other station, and tell.
    Withhold,
}

/// On which terms an address is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// How often it is announced again unasked; `None`: not.
    pub refresh: Option<Duration>,
    /// What happens if another station claims it.
    pub on_conflict: OnConflict,
}

/// Who held an address before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nobody that we know of.
    Nobody,
    /// A node of the cluster: another one, or this one in an earlier life.
    TheCluster,
}

/// How we stand to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is answered for.
    Held,
    /// It is not, but what others say of it matters.
    Watched,
}

/// What is to be done or known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send one gratuitous round.
    Announce(IpAddr),
    /// Ask whether another station has the address.
    Probe(IpAddr),
    /// The standing of the address is another now, or gone.
    Standing(IpAddr),
    /// Another station has the address. Told once until [`Effect::Resolved`], and once more when it is withheld.
    Conflict {
        /// The address.
        ip: IpAddr,
        /// The station.
        mac: MacAddr,
        /// Whether we do not announce it for this.
        withheld: bool,
    },
    /// Nothing has been heard of the other station for a while.
    Resolved(IpAddr),
}

/// The addresses that are ours, or about to be.
#[derive(Debug, Default)]
pub struct Ownership {
    addresses: BTreeMap<IpAddr, Address>,
    schedule: GratuitousSchedule,
    /// When an address needs attention for another reason than its gratuitous frames.
    timers: BTreeSet<(Instant, IpAddr)>,
    effects: VecDeque<Effect>,
    /// No other node of the cluster is heard although there should be some.
    alone: bool,
}

#[derive(Debug)]
struct Address {
    terms: Terms,
    phase: Phase,
    /// What is known of another station that claims it. Rare, so it lies elsewhere.
    conflict: Option<Box<Conflict>>,
    wake: Option<Instant>,
    /// When it was last taken over, or may have been announced by another node too.
    moved: Option<Instant>,
    /// It is withheld only because this node is alone and another claims it.
    yielded: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The segment is being asked; so many probes are sent.
    Probing(u8),
    Held,
    HandingOver,
    Withheld,
}

#[derive(Clone, Copy, Debug)]
struct Conflict {
    mac: MacAddr,
    last: Instant,
    /// It has been told.
    told: bool,
    defended: Option<Instant>,
    ask: Instant,
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
                let phase = match before {
                    Before::Nobody => Phase::Probing(0),
                    Before::TheCluster => Phase::Held,
                };
                let address = Address {
                    terms,
                    phase,
                    conflict: None,
                    wake: None,
                    moved: (before == Before::TheCluster).then_some(now),
                    yielded: false,
                };
                self.addresses.insert(ip, address);
                match before {
                    Before::Nobody => {
                        self.effects.push_back(Effect::Standing(ip));
                        self.probe(ip, now);
                    }
                    Before::TheCluster => self.hold(ip, now),
                }
            }
        }
    }

    /// Announces an address once more, with a burst: what it reaches has changed, or others may have been told otherwise.
    pub fn announce_again(&mut self, ip: IpAddr, now: Instant) {
        if let Some(address) = self.addresses.get(&ip)
            && address.phase == Phase::Held
        {
            self.schedule.restart(ip, address.terms.refresh, now);
        }
    }

    /// Announces every address once more, with bursts: others may have been told otherwise all the time.
    pub fn announce_all_again(&mut self, now: Instant) {
        for (ip, address) in &mut self.addresses {
            address.moved = Some(now);
            if address.phase == Phase::Held {
                self.schedule.restart(*ip, address.terms.refresh, now);
            }
        }
    }

    /// Refreshes every address as soon as the pace allows: another node may have announced some of them meanwhile.
    pub fn refresh_all(&mut self, now: Instant) {
        for (ip, address) in &mut self.addresses {
            address.moved = Some(now);
            if address.phase == Phase::Held {
                self.schedule.refresh_soon(*ip, now);
            }
        }
    }

    /// Another node is the one to announce an address now.
    pub fn hand_over(&mut self, ip: IpAddr, now: Instant) {
        let Some(address) = self.addresses.get_mut(&ip) else {
            return;
        };
        // The other node may have been faster than the news of it.
        let heard = address
            .conflict
            .as_ref()
            .is_some_and(|conflict| now < conflict.last + CONFIRM && !conflict.told);
        match address.phase {
            Phase::Held if !heard => {
                address.phase = Phase::HandingOver;
                if address
                    .conflict
                    .take()
                    .is_some_and(|conflict| conflict.told)
                {
                    self.effects.push_back(Effect::Resolved(ip));
                }
                self.schedule.withdraw(ip);
                self.set_wake(ip, Some(now + HAND_OVER));
            }
            Phase::HandingOver => {}
            Phase::Held | Phase::Probing(_) | Phase::Withheld => self.withdraw(ip),
        }
    }

    /// Whether this node hears no other of its cluster although there should be some.
    pub fn set_alone(&mut self, alone: bool, now: Instant) {
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
            if let Some(address) = self.addresses.get_mut(&ip) {
                if address
                    .conflict
                    .take()
                    .is_some_and(|conflict| conflict.told)
                {
                    self.effects.push_back(Effect::Resolved(ip));
                }
                address.moved = Some(now);
            }
            self.hold(ip, now);
        }
    }

    /// Hands over every address, for a node that leaves.
    pub fn hand_over_all(&mut self, now: Instant) {
        let all: Vec<IpAddr> = self.addresses.keys().copied().collect();
        for ip in all {
            self.hand_over(ip, now);
        }
    }

    /// Nobody announces an address any more.
    pub fn withdraw(&mut self, ip: IpAddr) {
        self.set_wake(ip, None);
        self.schedule.withdraw(ip);
        if let Some(address) = self.addresses.remove(&ip) {
            if address.conflict.is_some_and(|conflict| conflict.told) {
                self.effects.push_back(Effect::Resolved(ip));
            }
            self.effects.push_back(Effect::Standing(ip));
        }
    }

    /// Another station says that it has an address.
    pub fn claimed(&mut self, ip: IpAddr, mac: MacAddr, now: Instant) {
        let Some(address) = self.addresses.get_mut(&ip) else {
            return;
        };
        if address.phase == Phase::HandingOver {
            self.withdraw(ip);
            return;
        }
        let known = address.conflict.is_some();
        let moves = address.moved.is_some_and(|at| now < at + CONFIRM);
        if address.phase == Phase::Held && !known && moves && !self.alone {
            return;
        }
        let conflict = address.conflict.get_or_insert_with(|| {
            Box::new(Conflict {
                mac,
                last: now,
                told: false,
                defended: None,
                ask: now + ASK_AGAIN,
            })
        });
        conflict.last = now;
        conflict.mac = mac;
        let on_conflict = address.terms.on_conflict;
        match address.phase {
            // A planned move does not ask, so this is an answer.
            Phase::Probing(_) if on_conflict == OnConflict::Withhold => self.withhold(ip, now),
            Phase::Probing(_) => {
                if !std::mem::replace(&mut conflict.told, true) {
                    let withheld = false;
                    self.effects
                        .push_back(Effect::Conflict { ip, mac, withheld });
                }
            }
            Phase::Held if self.alone => {
                address.yielded = true;
                self.withhold(ip, now);
            }
            Phase::Held if !conflict.told => {
                if !known {
                    self.set_wake(ip, Some(now + CONFIRM));
                }
            }
            Phase::Held => {
                let lately = conflict
                    .defended
                    .is_some_and(|at| now < at + DEFEND_INTERVAL);
                if !lately {
                    conflict.defended = Some(now);
                    self.effects.push_back(Effect::Announce(ip));
                } else if on_conflict == OnConflict::Withhold {
                    self.withhold(ip, now);
                }
            }
            Phase::Withheld | Phase::HandingOver => {}
        }
    }

    /// Does what is due. To be called at [`Self::deadline`].
    pub fn tick(&mut self, now: Instant) {
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
        timer.into_iter().chain(self.schedule.deadline()).min()
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

    fn wake(&mut self, ip: IpAddr, now: Instant) {
        let Some(address) = self.addresses.get_mut(&ip) else {
            return;
        };
        match address.phase {
            Phase::Probing(sent) if sent < PROBES => self.probe(ip, now),
            Phase::Probing(_) => self.hold(ip, now),
            Phase::HandingOver => self.withdraw(ip),
            Phase::Held => self.judge_conflict(ip, now),
            Phase::Withheld => self.judge_withheld(ip, now),
        }
    }

    fn probe(&mut self, ip: IpAddr, now: Instant) {
        let Some(address) = self.addresses.get_mut(&ip) else {
            return;
        };
        if let Phase::Probing(sent) = &mut address.phase {
            *sent += 1;
        }
        let pause = match address.terms.on_conflict {
            OnConflict::Warn => PROBE_PAUSE,
            OnConflict::Withhold => PATIENT_PROBE_PAUSE,
        };
        self.effects.push_back(Effect::Probe(ip));
        self.set_wake(ip, Some(now + pause));
    }

    fn hold(&mut self, ip: IpAddr, now: Instant) {
        let Some(address) = self.addresses.get_mut(&ip) else {
            return;
        };
        address.phase = Phase::Held;
        address.yielded = false;
        let wake = address.conflict.as_ref().map(|conflict| conflict.ask);
        let refresh = address.terms.refresh;
        self.effects.push_back(Effect::Standing(ip));
        self.schedule.announce(ip, refresh, now);
        self.set_wake(ip, wake);
    }

    fn withhold(&mut self, ip: IpAddr, now: Instant) {
        let Some(address) = self.addresses.get_mut(&ip) else {
            return;
        };
        address.phase = Phase::Withheld;
        // Whom this node yields to because it is alone is most likely a node of its cluster, and nothing to tell.
        if let Some(conflict) = &mut address.conflict
            && !address.yielded
        {
            conflict.told = true;
            let mac = conflict.mac;
            let withheld = true;
            self.effects
                .push_back(Effect::Conflict { ip, mac, withheld });
        }
        self.effects.push_back(Effect::Standing(ip));
        self.schedule.withdraw(ip);
        self.set_wake(ip, Some(now + WITHHELD_ASK_AGAIN));
    }

    /// A claim has lasted for the time that a planned move takes, or a conflict is to be asked after.
    fn judge_conflict(&mut self, ip: IpAddr, now: Instant) {
        let Some(address) = self.addresses.get_mut(&ip) else {
            return;
        };
        let Some(conflict) = &mut address.conflict else {
            return;
        };
        if !conflict.told && address.moved.is_some_and(|at| at >= conflict.last) {
            address.conflict = None;
        } else if !conflict.told {
            conflict.told = true;
            conflict.defended = Some(now);
            conflict.ask = now + ASK_AGAIN;
            let (mac, ask, withheld) = (conflict.mac, conflict.ask, false);
            self.effects
                .push_back(Effect::Conflict { ip, mac, withheld });
            self.effects.push_back(Effect::Announce(ip));
            self.set_wake(ip, Some(ask));
        } else if now >= conflict.last + FORGET {
            address.conflict = None;
            self.effects.push_back(Effect::Resolved(ip));
        } else {
            conflict.ask = now + ASK_AGAIN;
            let ask = conflict.ask;
            self.effects.push_back(Effect::Probe(ip));
            self.set_wake(ip, Some(ask));
        }
    }

    fn judge_withheld(&mut self, ip: IpAddr, now: Instant) {
        let Some(address) = self.addresses.get_mut(&ip) else {
            return;
        };
        let over = address
            .conflict
            .as_ref()
            .is_none_or(|conflict| now >= conflict.last + WITHHELD_FORGET);
        if over {
            if address
                .conflict
                .take()
                .is_some_and(|conflict| conflict.told)
            {
                self.effects.push_back(Effect::Resolved(ip));
            }
            self.hold(ip, now);
        } else {
            self.effects.push_back(Effect::Probe(ip));
            self.set_wake(ip, Some(now + WITHHELD_ASK_AGAIN));
        }
    }

    fn set_wake(&mut self, ip: IpAddr, wake: Option<Instant>) {
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
#[path = "ownership_tests.rs"]
mod tests;
