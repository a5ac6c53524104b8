use proptest::prelude::*;

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

fn ip() -> IpAddr {
    "192.0.2.1".parse().unwrap()
}

/// A machine with a clock that stands where it is put.
struct Bench {
    ownership: Ownership,
    origin: Instant,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let origin = start();
        Self {
            ownership: Ownership::new(1),
            origin,
            now: origin,
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
        self.ownership.claimed(ip(), THEIRS, self.now);
    }

    /// Lets time pass and returns what was done, with the milliseconds at which it was.
    fn pass(&mut self, duration: Duration) -> Vec<(u128, Effect)> {
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

    fn drain(&mut self) -> Vec<(u128, Effect)> {
        let at = (self.now - self.origin).as_millis();
        std::iter::from_fn(|| self.ownership.poll_effect())
            .map(|effect| (at, effect))
            .collect()
    }

    fn standing(&self) -> Option<Standing> {
        self.ownership.standing(ip())
    }
}

fn millis(n: u64) -> Duration {
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
fn a_first_claim_is_preceded_by_probes_and_follows_within_ten_milliseconds() {
    let mut bench = Bench::with(OnConflict::Warn, Before::Nobody);
    assert_eq!(bench.standing(), Some(Standing::Watched));
    assert_eq!(
        bench.pass(millis(1000)),
        [
            (0, Effect::Standing(ip())),
            (0, Effect::Probe(ip())),
            (5, Effect::Probe(ip())),
            (10, Effect::Standing(ip())),
            (10, Effect::Announce(ip())),
        ]
    );
    assert_eq!(bench.standing(), Some(Standing::Held));
}

#[test]
fn a_takeover_does_not_ask() {
    let mut bench = Bench::with(OnConflict::Withhold, Before::TheCluster);
    assert_eq!(bench.standing(), Some(Standing::Held));
    assert_eq!(
        bench.pass(millis(100)),
        [(0, Effect::Standing(ip())), (0, Effect::Announce(ip())),]
    );
}

#[test]
fn an_address_in_use_is_told_and_announced_all_the_same_where_that_is_wanted() {
    let mut bench = Bench::with(OnConflict::Warn, Before::Nobody);
    bench.pass(millis(2));
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
fn a_node_that_hears_no_other_leaves_an_address_to_whoever_claims_it() {
    for on_conflict in [OnConflict::Warn, OnConflict::Withhold] {
        let mut bench = Bench::with(on_conflict, Before::TheCluster);
        bench.ownership.set_alone(true, bench.now);
        bench.pass(millis(100));
        assert_eq!(
            bench.standing(),
            Some(Standing::Held),
            "nobody else claims it"
        );
        bench.claim();
        // The same terms again change nothing.
        bench.announce(on_conflict, Before::TheCluster);
        assert_eq!(bench.standing(), Some(Standing::Watched));
        bench.ownership.set_alone(false, bench.now);
        let done = bench.pass(millis(100));
        assert_eq!(bench.standing(), Some(Standing::Held));
        assert!(done.iter().any(|(_, e)| *e == Effect::Announce(ip())));
        let told =
            |(_, e): &(u128, Effect)| matches!(e, Effect::Conflict { .. } | Effect::Resolved(_));
        assert!(!done.iter().any(told), "most likely it is our own cluster");
    }
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

#[derive(Clone, Debug)]
enum Step {
    Alone(bool),
    Announce(OnConflict, Before, bool),
    HandOver,
    Withdraw,
    Claim,
    Again,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let on_conflict = prop_oneof![Just(OnConflict::Warn), Just(OnConflict::Withhold)];
    let before = prop_oneof![Just(Before::Nobody), Just(Before::TheCluster)];
    prop_oneof![
        (on_conflict, before, any::<bool>()).prop_map(|(c, b, r)| Step::Announce(c, b, r)),
        any::<bool>().prop_map(Step::Alone),
        Just(Step::HandOver),
        Just(Step::Withdraw),
        Just(Step::Claim),
        Just(Step::Again),
        (0u64..15_000).prop_map(Step::Pass),
    ]
}

proptest! {
    /// Whatever happens: frames go out only for what is held, and never often; conflicts are told and resolved in turn; and
    /// what is withdrawn leaves nothing behind.
    #[test]
    fn histories_keep_the_rules(steps in proptest::collection::vec(step(), 1..80)) {
        let mut bench = Bench::new();
        let (mut told, mut withheld) = (false, false);
        let check = |bench: &mut Bench, done: Vec<(u128, Effect)>, told: &mut bool, withheld: &mut bool| {
            for (at, effect) in done {
                match effect {
                    Effect::Conflict { withheld: now, .. } => {
                        assert!(!*told || now != *withheld, "told twice at {at}");
                        (*told, *withheld) = (true, now);
                    }
                    Effect::Resolved(_) => {
                        assert!(*told, "resolved what was not told at {at}");
                        (*told, *withheld) = (false, false);
                    }
                    _ => {}
                }
            }
            if bench.standing().is_none() {
                assert!(!*told);
                assert_eq!(bench.ownership.deadline(), None);
            }
        };
        for step in steps {
            match step {
                Step::Announce(on_conflict, before, refreshed) => {
                    let terms = Terms {
                        refresh: refreshed.then_some(Duration::from_secs(3)),
                        on_conflict,
                    };
                    bench.ownership.announce(ip(), terms, before, bench.now);
                    prop_assert!(bench.standing().is_some());
                }
                Step::Alone(alone) => bench.ownership.set_alone(alone, bench.now),
                Step::HandOver => bench.ownership.hand_over(ip(), bench.now),
                Step::Withdraw => {
                    bench.ownership.withdraw(ip());
                    prop_assert_eq!(bench.standing(), None);
                }
                Step::Claim => bench.claim(),
                Step::Again => bench.ownership.announce_all_again(bench.now),
                Step::Pass(n) => {
                    let held = bench.standing() == Some(Standing::Held);
                    let done = bench.pass(millis(n));
                    if !held && bench.standing() != Some(Standing::Held) {
                        let announced = done.iter().any(|(_, e)| matches!(e, Effect::Announce(_)));
                        prop_assert!(!announced || done.iter().any(|(_, e)| matches!(e, Effect::Standing(_))));
                    }
                    check(&mut bench, done, &mut told, &mut withheld);
                    continue;
                }
            }
            let done = bench.drain();
            check(&mut bench, done, &mut told, &mut withheld);
        }
    }
}
