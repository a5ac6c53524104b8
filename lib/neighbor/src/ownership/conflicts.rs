//! What follows from it that another station claims an address?

use std::net::IpAddr;
use std::time::Instant;

use pnet::util::MacAddr;

use super::address::{Conflict, Phase, Question};
use super::{
    ANSWER, ASK_AGAIN, CONFIRM, Claimant, DEFEND_INTERVAL, Effect, OnConflict, Ownership,
    UNANSWERED, WITHHELD_ASK_AGAIN,
};
use crate::moment::Moment;

impl Ownership {
    /// Another station says that it has an address.
    pub fn claimed(&mut self, ip: IpAddr, mac: MacAddr, by: Claimant, now: Instant) {
        let now = self.origin.moment(now);
        let Some(address) = self.addresses.get_mut(&ip) else {
            return;
        };
        if address.phase == Phase::HandingOver {
            self.withdraw(ip);
            return;
        }
        if by == Claimant::Node {
            address.node = Some(now);
            self.claimed_by_node(ip, mac, now);
            return;
        }
        let known = address.conflict.is_some();
        let moves = address.moved.is_some_and(|at| now < at + CONFIRM);
        if address.phase == Phase::Held && !known && moves {
            return;
        }
        address.question.unanswered = 0;
        let answers = address.question.left.is_some_and(|at| now < at + ANSWER);
        let conflict = address
            .conflict
            .get_or_insert_with(|| Conflict::by(mac, now));
        conflict.last = now;
        conflict.mac = mac;
        let withholds = address.terms.on_conflict == OnConflict::Withhold;
        match address.phase {
            Phase::Probing(_) if withholds => self.withhold(ip, now),
            Phase::Probing(_) => {
                if !std::mem::replace(&mut conflict.told, true) {
                    let withheld = false;
                    self.effects
                        .push_back(Effect::Conflict { ip, mac, withheld });
                }
            }
            // A planned move does not answer questions.
            Phase::Held if withholds && answers => self.withhold(ip, now),
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
                } else if withholds {
                    self.withhold(ip, now);
                }
            }
            Phase::Withheld | Phase::HandingOver => {}
        }
    }

    /// It is no conflict; but who is alone leaves the address to a node that is heard.
    fn claimed_by_node(&mut self, ip: IpAddr, mac: MacAddr, now: Moment) {
        let Some(address) = self.addresses.get_mut(&ip).filter(|_| self.alone) else {
            return;
        };
        if address.phase == Phase::Held {
            address.yielded = true;
            address
                .conflict
                .get_or_insert_with(|| Conflict::by(mac, now));
            self.withhold(ip, now);
        } else if address.yielded {
            address.question.unanswered = 0;
        }
    }

    pub(super) fn withhold(&mut self, ip: IpAddr, now: Moment) {
        let Some(address) = self.addresses.get_mut(&ip) else {
            return;
        };
        address.phase = Phase::Withheld;
        address.question = Question::default();
        // Whom this node yields to because it is alone is a node of its cluster, and nothing to tell.
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
    pub(super) fn judge_conflict(&mut self, ip: IpAddr, now: Moment) {
        let Some(address) = self.addresses.get_mut(&ip) else {
            return;
        };
        let Some(conflict) = &mut address.conflict else {
            return;
        };
        if !conflict.told && address.moved.is_some_and(|at| at >= conflict.last) {
            address.conflict = None;
            self.ask_later(ip, now);
        } else if !conflict.told {
            conflict.told = true;
            conflict.defended = Some(now);
            let (mac, withheld) = (conflict.mac, false);
            self.effects
                .push_back(Effect::Conflict { ip, mac, withheld });
            self.effects.push_back(Effect::Announce(ip));
            self.set_wake(ip, Some(now + ASK_AGAIN));
            self.doubt(ip);
        } else if address.question.unanswered >= UNANSWERED {
            self.resolve(ip);
        } else {
            self.put_question(ip);
            self.set_wake(ip, Some(now + ASK_AGAIN));
        }
    }

    /// Where an address that is in use is not to be announced, one that is held and in conflict is asked for: an answer decides.
    pub(super) fn doubt(&mut self, ip: IpAddr) {
        let Some(address) = self.addresses.get(&ip) else {
            return;
        };
        if address.phase == Phase::Held
            && address.terms.on_conflict == OnConflict::Withhold
            && address
                .conflict
                .as_ref()
                .is_some_and(|conflict| conflict.told)
        {
            self.put_question(ip);
        }
    }

    /// Nothing is known of another station any more.
    pub(super) fn resolve(&mut self, ip: IpAddr) {
        let conflict = self
            .addresses
            .get_mut(&ip)
            .and_then(|address| address.conflict.take());
        if conflict.is_some_and(|conflict| conflict.told) {
            self.effects.push_back(Effect::Resolved(ip));
        }
    }
}
