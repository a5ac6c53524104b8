//! Histories at random keep the rules.

use proptest::prelude::*;

use super::tests::{Bench, ip, millis};
use super::*;

#[derive(Clone, Debug)]
enum Step {
    Alone(bool),
    Announce(OnConflict, Before, bool),
    HandOver,
    Withdraw,
    Claim(Claimant),
    Link(bool),
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
        Just(Step::Claim(Claimant::Stranger)),
        Just(Step::Claim(Claimant::Node)),
        any::<bool>().prop_map(Step::Link),
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
                Step::Claim(by) => bench.claim_by(by),
                Step::Link(link) => bench.link = link,
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
