//! When may this node announce by layer 2? Pure.
//!
//! Who stands first for an address depends on who is alive. A speaker that starts, and one that was stopped for a while, may
//! be wrong about that, and keeps quiet until it has heard of the others or nobody answers.

use std::time::{Duration, Instant};

/// How long a speaker waits to hear of the others before it takes itself for the only one. Mostly one of them tells of all
/// within milliseconds; only where all start at once and some are dead does it wait this long.
pub const SETTLE: Duration = Duration::from_secs(3);
/// How long a speaker waits at least for an answer while other speakers are listed, whatever is said of their nodes: their kubelets
/// may be dead and they alive. On the way there and back twice, for the keys, an answer takes some milliseconds; it is asked for
/// every tenth of a second.
pub const ANSWER: Duration = Duration::from_millis(300);
/// How long a speaker keeps quiet at most because others have another key. A changed Secret is on every node after two minutes.
pub const OTHER_KEY: Duration = Duration::from_secs(3 * 60);
/// How long a process that did not run for a while waits at least before it goes on announcing. The membership notices by then
/// that it has to hear who is alive.
const RESUME: Duration = Duration::from_millis(300);

/// What is known of the other speakers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Whether all that there are have been heard of; `None` where membership is switched off.
    pub all: Option<bool>,
    /// Members that are alive and of whom all is known, this node among them.
    pub members: usize,
    /// Nodes that are Ready and run a speaker, or may in a moment.
    pub expected: usize,
    /// Whether other speakers are listed, of whatever state.
    pub others: bool,
    /// Whether speakers that are no members are alive with another key.
    pub other_key: bool,
}

/// What follows from what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Announce, for the first time.
    Begin,
    /// Wait on although the time is over: there are speakers with another key. Said once.
    Hold,
    /// Neither answer nor say anything.
    Suspend,
    /// Go on, after deciding anew.
    Resume,
}

/// The gate, closed at first.
#[derive(Debug)]
pub struct Gate {
    began: Instant,
    settled: bool,
    /// It was said that there are speakers with another key.
    held: bool,
    /// Since when this node is quiet after a lapse, and until when at least.
    quiet: Option<(Instant, Instant)>,
    /// What was known of all when it was last asked.
    all: Option<bool>,
}

impl Gate {
    /// A gate that waits from `now` on.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Gate {
            began: now,
            settled: false,
            held: false,
            quiet: None,
            all: None,
        }
    }

    /// Whether this node decides by who is alive yet.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// This process did not run for a while, and layer 2 has suspended itself.
    pub fn lapsed(&mut self, now: Instant) {
        let (since, _) = self.quiet.unwrap_or((now, now));
        self.quiet = Some((since, now + RESUME));
    }

    /// What to do now, if something is.
    pub fn step(&mut self, heard: Heard, now: Instant) -> Option<Step> {
        let before = std::mem::replace(&mut self.all, heard.all);
        if !self.settled {
            if heard.other_key && now < self.began + OTHER_KEY {
                let told = std::mem::replace(&mut self.held, true);
                return (!told).then_some(Step::Hold);
            }
            let are_all_there = heard.members >= heard.expected.max(1);
            let answered = !heard.others || now >= self.began + ANSWER;
            self.settled = heard.all != Some(false)
                || (are_all_there && answered)
                || now >= self.began + SETTLE;
            return self.settled.then_some(Step::Begin);
        }
        match self.quiet {
            // Only what was known and is not any more: who settled without hearing of all waits for nothing else.
            None if before == Some(true) && heard.all == Some(false) => {
                self.quiet = Some((now, now));
                Some(Step::Suspend)
            }
            Some((since, until)) if now >= until => {
                let hears = heard.all != Some(false);
                (hears || now >= since + SETTLE).then(|| {
                    self.quiet = None;
                    Step::Resume
                })
            }
            _ => None,
        }
    }

    /// When to ask again although nothing has changed.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        match (self.settled, self.quiet) {
            (false, _) => {
                let times = [ANSWER, SETTLE, OTHER_KEY].map(|time| self.began + time);
                times.into_iter().find(|time| *time > now)
            }
            (true, None) => None,
            (true, Some((_, until))) if self.all != Some(false) => Some(until),
            (true, Some((since, until))) => Some(until.max(since + SETTLE)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(all: Option<bool>, members: usize, expected: usize) -> Heard {
        Heard {
            all,
            members,
            expected,
            others: expected > 1,
            other_key: false,
        }
    }

    fn at(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    #[test]
    fn it_opens_once_all_are_heard_of_or_nobody_else_is_there_or_the_time_is_over() {
        let start = Instant::now();
        for (what, milliseconds, opens) in [
            (heard(Some(false), 1, 3), 2999, false),
            (heard(Some(false), 1, 3), 3000, true),
            (heard(Some(true), 2, 3), 10, true),
            (heard(Some(false), 3, 3), 299, false),
            (heard(Some(false), 3, 3), 300, true),
            (heard(Some(false), 1, 1), 0, true),
            (heard(Some(false), 1, 0), 0, true),
            (heard(None, 0, 3), 0, true),
        ] {
            let mut gate = Gate::new(start);
            assert_eq!(gate.deadline(start), Some(at(start, 300)));
            assert_eq!(gate.deadline(at(start, 300)), Some(at(start, 3000)));
            let step = gate.step(what, at(start, milliseconds));
            assert_eq!(step, opens.then_some(Step::Begin), "{what:?}");
            assert_eq!(gate.is_settled(), opens);
        }
    }

    #[test]
    fn it_waits_for_an_answer_though_no_other_node_is_ready() {
        let start = Instant::now();
        let no_kubelets = Heard {
            others: true,
            ..heard(Some(false), 1, 1)
        };
        let mut gate = Gate::new(start);
        assert_eq!(gate.step(no_kubelets, start), None);
        assert_eq!(gate.step(no_kubelets, at(start, 299)), None);
        // One has told of all.
        let all = Heard {
            members: 3,
            all: Some(true),
            ..no_kubelets
        };
        assert_eq!(gate.step(all, at(start, 299)), Some(Step::Begin));
        // Nobody answers.
        let mut gate = Gate::new(start);
        assert_eq!(gate.step(no_kubelets, at(start, 300)), Some(Step::Begin));
    }

    #[test]
    fn it_stays_shut_beside_speakers_with_another_key_but_not_for_ever() {
        let start = Instant::now();
        // Two that restarted on the new key have waited for the time of silence.
        let two = heard(Some(true), 2, 3);
        let beside_another = Heard {
            other_key: true,
            ..two
        };
        let mut gate = Gate::new(start);
        assert_eq!(gate.step(beside_another, at(start, 3)), Some(Step::Hold));
        assert_eq!(
            gate.step(beside_another, at(start, 3000)),
            None,
            "said once"
        );
        assert_eq!(gate.deadline(at(start, 3000)), Some(at(start, 180_000)));
        assert_eq!(gate.step(beside_another, at(start, 179_999)), None);
        assert_eq!(gate.step(two, at(start, 179_999)), Some(Step::Begin));
        let mut gate = Gate::new(start);
        let over = gate.step(beside_another, at(start, 180_000));
        assert_eq!(over, Some(Step::Begin));
        // Later it is no reason to fall silent.
        assert_eq!(gate.step(beside_another, at(start, 180_010)), None);
    }

    #[test]
    fn who_settled_without_hearing_of_all_is_not_suspended_for_that() {
        let start = Instant::now();
        let mut gate = Gate::new(start);
        let alone = heard(Some(false), 1, 1);
        assert_eq!(gate.step(alone, start), Some(Step::Begin));
        assert_eq!(gate.step(alone, at(start, 10)), None);
        assert_eq!(gate.deadline(start), None);
        assert_eq!(gate.step(heard(Some(true), 1, 1), at(start, 3000)), None);
    }

    #[test]
    fn after_a_lapse_it_waits_to_hear_who_is_alive_but_not_for_ever() {
        let start = Instant::now();
        let all = heard(Some(true), 3, 3);
        let not_all = heard(Some(false), 3, 3);
        let settled = || {
            let mut gate = Gate::new(start);
            gate.step(all, start);
            gate
        };
        let mut gate = settled();
        assert_eq!(gate.step(not_all, at(start, 100)), Some(Step::Suspend));
        assert_eq!(gate.step(not_all, at(start, 200)), None);
        assert_eq!(gate.step(all, at(start, 210)), Some(Step::Resume));
        assert_eq!(gate.step(all, at(start, 220)), None);
        // Nobody answers.
        let mut gate = settled();
        assert_eq!(gate.step(not_all, at(start, 100)), Some(Step::Suspend));
        assert_eq!(gate.deadline(at(start, 100)), Some(at(start, 3100)));
        assert_eq!(gate.step(not_all, at(start, 3099)), None);
        assert_eq!(gate.step(not_all, at(start, 3100)), Some(Step::Resume));
        // Layer 2 noticed first, and the membership a moment later.
        let mut gate = settled();
        gate.lapsed(at(start, 100));
        assert_eq!(gate.step(all, at(start, 150)), None);
        assert_eq!(gate.step(not_all, at(start, 160)), None);
        assert_eq!(gate.step(not_all, at(start, 500)), None);
        assert_eq!(gate.step(all, at(start, 510)), Some(Step::Resume));
        // Without a membership only the time counts.
        let mut gate = Gate::new(start);
        gate.step(heard(None, 0, 0), start);
        gate.lapsed(at(start, 100));
        assert_eq!(gate.step(heard(None, 0, 0), at(start, 399)), None);
        let resumes = gate.step(heard(None, 0, 0), at(start, 400));
        assert_eq!(resumes, Some(Step::Resume));
    }
}
