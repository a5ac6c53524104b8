use pnet::util::MacAddr;

use super::*;
use crate::schedule::{BURST, ROUND};

const THEIRS: MacAddr = MacAddr(2, 0, 0, 0, 0, 9);

fn start() -> Instant {
    #[allow(
        clippy::disallowed_methods,
        reason = "an arbitrary origin; only differences are looked at"
    )]
    Instant::now()
}

pub(super) fn ip() -> IpAddr {
    "192.0.2.1".parse().unwrap()
}

/// A machine with a clock that stands where it is put.
pub(super) struct Bench {
    pub(super) ownership: Ownership,
    origin: Instant,
    pub(super) now: Instant,
    /// Frames leave.
    pub(super) link: bool,
}

impl Bench {
    pub(super) fn new() -> Self {
        let origin = start();
        Self {
            ownership: Ownership::new(1),
            origin,
            now: origin,
            link: true,
        }
    }

    fn with(on_conflict: OnConflict, before: Before) -> Self {
        let mut bench = Self::new();
        bench.announce(on_conflict, before);
        bench
    }

    fn announce(&mut self, on_conflict: OnConflict, before: Before) {
        let terms = Terms {
            refresh: None,
            on_conflict,
        };
        self.ownership.announce(ip(), terms, before, self.now);
    }

    fn claim(&mut self) {
        self.claim_by(Claimant::Stranger);
    }

    pub(super) fn claim_by(&mut self, by: Claimant) {
        self.ownership.claimed(ip(), THEIRS, by, self.now);
    }

    /// Lets time pass and returns what was done, with the milliseconds at which it was.
    pub(super) fn pass(&mut self, duration: Duration) -> Vec<(u128, Effect)> {
        let mut done = self.drain();
        let end = self.now + duration;
        while let Some(at) = self.ownership.deadline()
            && at <= end
        {
            self.now = self.now.max(at);
            self.ownership.tick(self.now);
            done.extend(self.drain());
        }
        self.now = end;
        done
    }

    pub(super) fn drain(&mut self) -> Vec<(u128, Effect)> {
        let at = (self.now - self.origin).as_millis();
        let mut done = Vec::new();
        while let Some(effect) = self.ownership.poll_effect() {
            done.push((at, effect));
            if effect == Effect::Probe(ip()) && self.link {
                self.ownership.asked(ip(), self.now);
            }
        }
        done
    }

    pub(super) fn standing(&self) -> Option<Standing> {
        self.ownership.standing(ip())
    }
}

pub(super) fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn conflict(withheld: bool) -> Effect {
    Effect::Conflict {
        ip: ip(),
        mac: THEIRS,
        withheld,
    }
}

#[test]
fn a_first_claim_is_preceded_by_probes_and_follows_within_milliseconds() {
    let mut bench = Bench::with(OnConflict::Warn, Before::Nobody);
    assert_eq!(bench.standing(), Some(Standing::Watched));
    assert_eq!(
        bench.pass(millis(1000)),
        [
            (0, Effect::Standing(ip())),
            (0, Effect::Probe(ip())),
            (1, Effect::Probe(ip())),
            (2, Effect::Standing(ip())),
            (2, Effect::Announce(ip())),
        ]
    );
    assert_eq!(bench.standing(), Some(Standing::Held));
}

#[test]
fn a_takeover_is_announced_at_once_and_asked_for_when_the_former_node_is_quiet() {
    let mut bench = Bench::with(OnConflict::Warn, Before::TheCluster);
    assert_eq!(bench.standing(), Some(Standing::Held));
    let done = bench.pass(millis(1050));
    assert_eq!(
        done,
        [
            (0, Effect::Standing(ip())),
            (0, Effect::Announce(ip())),
            (1000, Effect::Probe(ip())),
        ]
    );
    // A stranger had it all the time, and answers.
    bench.claim();
    let done = bench.pass(millis(1000));
    assert!(done.contains(&(2050, conflict(false))), "{done:?}");
}

#[test]
fn questions_for_what_was_taken_over_are_paced() {
    let mut ownership = Ownership::new(1);
    let now = start();
    for last in 1..=200 {
        let ip = IpAddr::from([192, 0, 2, last]);
        ownership.announce(ip, Terms::default(), Before::TheCluster, now);
    }
    let mut asked = Vec::new();
    while let Some(at) = ownership.deadline()
        && at < now + millis(3000)
    {
        ownership.tick(at);
        while let Some(effect) = ownership.poll_effect() {
            asked.extend(matches!(effect, Effect::Probe(_)).then_some((at - now).as_millis()));
        }
    }
    assert_eq!(asked.len(), 200);
    assert_eq!((asked[0], asked[199]), (1000, 1995));
}

#[test]
fn an_address_that_was_withheld_elsewhere_is_not_announced_by_who_takes_over() {
    let mut bench = Bench::with(OnConflict::Withhold, Before::TheCluster);
    bench.pass(millis(1));
    bench.claim();
    let done = bench.pass(millis(1000));
    assert!(done.contains(&(1, conflict(true))), "{done:?}");
    assert_eq!(bench.standing(), Some(Standing::Watched));
    // Nobody has it: hardly a pause.
    let mut bench = Bench::with(OnConflict::Withhold, Before::TheCluster);
    let done = bench.pass(millis(50));
    assert!(done.contains(&(10, Effect::Announce(ip()))), "{done:?}");
    // A slow stranger answers all the same.
    bench.pass(millis(300));
    bench.ownership.announce_again(ip(), bench.now);
    bench.pass(millis(1500));
    bench.ownership.announce_again(ip(), bench.now);
    bench.pass(millis(500));
    bench.claim();
    assert_eq!(bench.standing(), Some(Standing::Watched));
}

#[test]
fn without_a_link_nothing_is_claimed_and_silence_says_nothing() {
    for on_conflict in [OnConflict::Warn, OnConflict::Withhold] {
        let mut bench = Bench::new();
        bench.link = false;
        bench.announce(on_conflict, Before::Nobody);
        let done = bench.pass(millis(60_000));
        assert_eq!(bench.standing(), Some(Standing::Watched), "{done:?}");
        bench.link = true;
        bench.ownership.announce_again(ip(), bench.now);
        bench.pass(millis(600));
        assert_eq!(bench.standing(), Some(Standing::Held));
    }
    let mut bench = Bench::with(OnConflict::Withhold, Before::Nobody);
    bench.pass(millis(1));
    bench.claim();
    bench.link = false;
    bench.pass(millis(60_000));
    assert_eq!(bench.standing(), Some(Standing::Watched));
    bench.link = true;
    let done = bench.pass(millis(10_000));
    assert!(done.iter().any(|(_, e)| *e == Effect::Resolved(ip())));
    assert_eq!(bench.standing(), Some(Standing::Held));
}

#[test]
fn what_a_node_of_the_cluster_claims_is_never_a_conflict() {
    for on_conflict in [OnConflict::Warn, OnConflict::Withhold] {
        let mut bench = Bench::with(on_conflict, Before::Nobody);
        for _ in 0..100 {
            bench.claim_by(Claimant::Node);
            let done = bench.pass(millis(200));
            let told = |(_, e): &(u128, Effect)| matches!(e, Effect::Conflict { .. });
            assert!(!done.iter().any(told), "{done:?}");
        }
        assert_eq!(bench.standing(), Some(Standing::Held));
        // It was faster than the news of it.
        bench.ownership.hand_over(ip(), bench.now);
        assert_eq!(bench.standing(), None);
    }
}

#[test]
fn an_address_in_use_is_told_and_announced_all_the_same_where_that_is_wanted() {
    let mut bench = Bench::with(OnConflict::Warn, Before::Nobody);
    bench.pass(millis(1));
    bench.claim();
    let done: Vec<Effect> = bench.pass(millis(20)).into_iter().map(|(_, e)| e).collect();
    assert_eq!(done.iter().filter(|e| **e == conflict(false)).count(), 1);
    assert!(done.contains(&Effect::Announce(ip())));
    assert_eq!(bench.standing(), Some(Standing::Held));
}

#[test]
fn an_address_in_use_is_withheld_until_nobody_answers_for_it_any_more() {
    let mut bench = Bench::with(OnConflict::Withhold, Before::Nobody);
    bench.pass(millis(20));
    bench.claim();
    let done = bench.pass(millis(100));
    assert!(done.contains(&(20, conflict(true))));
    // The other station answers every probe for a minute.
    for _ in 0..12 {
        for (_, effect) in bench.pass(millis(5000)) {
            assert!(!matches!(effect, Effect::Announce(_)), "{effect:?}");
            if effect == Effect::Probe(ip()) {
                bench.claim();
            }
        }
        assert_eq!(bench.standing(), Some(Standing::Watched));
    }
    // It is switched off.
    let gone = (bench.now - bench.origin).as_millis();
    let done = bench.pass(millis(15_000));
    let first = done.iter().find(|(_, e)| *e == Effect::Announce(ip()));
    assert!(first.unwrap().0 - gone <= 10_000, "{done:?}");
    assert!(done.iter().any(|(_, e)| *e == Effect::Resolved(ip())));
    assert_eq!(bench.standing(), Some(Standing::Held));
}

#[test]
fn a_claim_is_confirmed_told_once_and_defended_once_per_interval_however_many_there_are() {
    let mut bench = Bench::with(OnConflict::Warn, Before::Nobody);
    bench.pass(BURST + ROUND);
    let from = (bench.now - bench.origin).as_millis();
    let mut done = Vec::new();
    for _ in 0..60_000 {
        bench.claim();
        done.extend(bench.pass(millis(1)));
    }
    let announced: Vec<u128> = done
        .iter()
        .filter(|(_, e)| *e == Effect::Announce(ip()))
        .map(|(at, _)| at - from)
        .collect();
    assert_eq!(announced.len(), 6, "{announced:?}");
    assert_eq!(announced[0], 1000, "after the time that a move may take");
    assert!(announced.windows(2).all(|pair| pair[1] - pair[0] >= 10_000));
    assert_eq!(
        done.iter().filter(|(_, e)| *e == conflict(false)).count(),
        1
    );
}

#[test]
fn a_conflict_is_asked_after_and_over_when_nothing_was_heard_for_long() {
    let mut bench = Bench::with(OnConflict::Warn, Before::Nobody);
    bench.pass(BURST + ROUND);
    bench.claim();
    let done = bench.pass(millis(90_000));
    let probes = done.iter().filter(|(_, e)| *e == Effect::Probe(ip()));
    assert!(probes.count() >= 2, "{done:?}");
    assert_eq!(
        done.iter()
            .filter(|(_, e)| *e == Effect::Resolved(ip()))
            .count(),
        1
    );
    assert_eq!(bench.ownership.deadline(), None, "nothing is left of it");
}

#[test]
fn an_address_claimed_again_right_after_a_defence_is_given_up_where_that_is_wanted() {
    let mut bench = Bench::with(OnConflict::Withhold, Before::Nobody);
    bench.pass(millis(500) + BURST + ROUND);
    bench.claim();
    let done = bench.pass(millis(1500));
    assert!(done.iter().any(|(_, e)| *e == conflict(false)));
    assert_eq!(bench.standing(), Some(Standing::Held));
    bench.claim();
    let done = bench.pass(millis(1));
    assert!(done.iter().any(|(_, e)| *e == conflict(true)), "{done:?}");
    assert_eq!(bench.standing(), Some(Standing::Watched));
}

#[test]
fn a_station_that_claims_once_and_answers_is_left_the_address_where_that_is_wanted() {
    let mut bench = Bench::with(OnConflict::Withhold, Before::Nobody);
    bench.pass(millis(500) + BURST + ROUND);
    bench.claim();
    let done = bench.pass(CONFIRM);
    assert_eq!(done.last().map(|(_, e)| *e), Some(Effect::Probe(ip())));
    bench.pass(millis(1));
    bench.claim();
    assert_eq!(bench.standing(), Some(Standing::Watched));
}

#[test]
fn who_is_to_withhold_from_now_on_asks_at_once_whether_a_conflict_lasts() {
    let mut bench = Bench::with(OnConflict::Warn, Before::Nobody);
    bench.pass(BURST + ROUND);
    bench.claim();
    bench.pass(millis(5000));
    bench.announce(OnConflict::Withhold, Before::Nobody);
    assert_eq!(
        bench.drain().last().map(|(_, e)| *e),
        Some(Effect::Probe(ip()))
    );
    bench.claim();
    assert_eq!(bench.standing(), Some(Standing::Watched));
}

#[test]
fn a_planned_move_is_no_conflict_and_ends_with_the_other_nodes_claim() {
    for news_first in [true, false] {
        let mut bench = Bench::with(OnConflict::Warn, Before::Nobody);
        bench.pass(BURST + ROUND);
        if news_first {
            bench.ownership.hand_over(ip(), bench.now);
            assert_eq!(bench.standing(), Some(Standing::Held), "answers on");
            bench.pass(millis(30));
            bench.claim();
        } else {
            bench.claim();
            bench.pass(millis(30));
            bench.ownership.hand_over(ip(), bench.now);
        }
        assert_eq!(bench.standing(), None);
        let done = bench.pass(millis(5000));
        assert!(
            done.iter().all(|(_, e)| *e == Effect::Standing(ip())),
            "{done:?}"
        );
    }
}

#[test]
fn a_hand_over_that_nobody_takes_ends_by_itself_and_can_be_taken_back() {
    let mut bench = Bench::with(OnConflict::Warn, Before::TheCluster);
    bench.pass(millis(100));
    bench.ownership.hand_over_all(bench.now);
    bench.pass(HAND_OVER / 2);
    assert_eq!(bench.standing(), Some(Standing::Held));
    bench.announce(OnConflict::Warn, Before::TheCluster);
    bench.pass(HAND_OVER * 2);
    assert_eq!(bench.standing(), Some(Standing::Held));
    bench.ownership.hand_over_all(bench.now);
    bench.pass(HAND_OVER);
    assert_eq!(bench.standing(), None);
}

#[test]
fn what_is_heard_right_after_a_takeover_is_the_former_nodes() {
    let mut bench = Bench::with(OnConflict::Warn, Before::TheCluster);
    bench.pass(millis(300));
    bench.claim();
    let done = bench.pass(millis(60_000));
    assert!(!done.iter().any(|(_, e)| *e == conflict(false)), "{done:?}");
    bench.ownership.announce_all_again(bench.now);
    bench.claim();
    let done = bench.pass(millis(60_000));
    assert!(!done.iter().any(|(_, e)| *e == conflict(false)), "{done:?}");
    bench.claim();
    let done = bench.pass(millis(2000));
    assert!(
        done.iter().any(|(_, e)| *e == conflict(false)),
        "later it is one"
    );
}

#[test]
fn a_withheld_address_is_announced_when_that_is_wanted_from_now_on() {
    let mut bench = Bench::with(OnConflict::Withhold, Before::Nobody);
    bench.claim();
    bench.pass(millis(10));
    assert_eq!(bench.standing(), Some(Standing::Watched));
    bench.announce(OnConflict::Warn, Before::Nobody);
    assert_eq!(bench.standing(), Some(Standing::Held));
}

#[test]
fn a_node_that_hears_no_other_leaves_an_address_to_a_node_that_claims_it() {
    for on_conflict in [OnConflict::Warn, OnConflict::Withhold] {
        let mut bench = Bench::with(on_conflict, Before::TheCluster);
        bench.ownership.set_alone(true, bench.now);
        bench.pass(millis(100));
        assert_eq!(
            bench.standing(),
            Some(Standing::Held),
            "nobody else claims it"
        );
        bench.claim_by(Claimant::Node);
        // The same terms again change nothing.
        bench.announce(on_conflict, Before::TheCluster);
        assert_eq!(bench.standing(), Some(Standing::Watched));
        bench.ownership.set_alone(false, bench.now);
        let done = bench.pass(millis(100));
        assert_eq!(bench.standing(), Some(Standing::Held));
        assert!(done.iter().any(|(_, e)| *e == Effect::Announce(ip())));
        let told =
            |(_, e): &(u128, Effect)| matches!(e, Effect::Conflict { .. } | Effect::Resolved(_));
        assert!(!done.iter().any(told), "it is our own cluster");
    }
}

#[test]
fn a_stranger_is_told_of_even_by_a_node_that_hears_no_other() {
    let mut bench = Bench::with(OnConflict::Warn, Before::TheCluster);
    bench.pass(millis(3000));
    bench.ownership.set_alone(true, bench.now);
    bench.claim();
    let done = bench.pass(millis(1500));
    assert!(done.iter().any(|(_, e)| *e == conflict(false)), "{done:?}");
    assert_eq!(bench.standing(), Some(Standing::Held));
}

#[test]
fn what_is_announced_after_all_is_told_as_such() {
    let mut bench = Bench::with(OnConflict::Withhold, Before::Nobody);
    bench.claim();
    bench.pass(millis(10));
    bench.announce(OnConflict::Warn, Before::Nobody);
    let done = bench.pass(millis(1));
    assert!(done.iter().any(|(_, e)| *e == conflict(false)), "{done:?}");
}

#[test]
fn a_decision_that_flips_back_is_no_conflict() {
    let mut bench = Bench::with(OnConflict::Warn, Before::Nobody);
    bench.pass(BURST + ROUND);
    bench.ownership.hand_over(ip(), bench.now);
    bench.pass(millis(50));
    bench.announce(OnConflict::Warn, Before::TheCluster);
    bench.claim();
    let done = bench.pass(millis(5000));
    assert!(!done.iter().any(|(_, e)| *e == conflict(false)), "{done:?}");
}
