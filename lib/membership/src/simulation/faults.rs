//! Restarts, cuts, stops and loss: nobody's view may stay wrong, and one node's trouble is no other's.

use super::*;

/// All that may go wrong is healed within this time of the end of a fault: two rounds of asking the speakers that the API
/// server lists.
const HEALED: Duration = Duration::from_secs(10);

/// Those who were declared down by others than themselves, but for `node`.
fn shaken(cluster: &Cluster, node: usize) -> Vec<(usize, &str)> {
    let mut downs = cluster.downs();
    downs.retain(|&(by, of)| by != node && of != name(node));
    downs
}

#[test]
fn a_node_that_restarts_within_a_tenth_of_a_second_is_never_missed() {
    for seed in 0..100 {
        let mut cluster = Cluster::settled(5, seed);
        let phase = cluster.rng.random_range(0..2000);
        cluster.run(milliseconds(phase));
        cluster.kill(4);
        let away = cluster.rng.random_range(0..100);
        cluster.run(milliseconds(away));
        cluster.join(4, 2);
        let took = cluster.until(seconds(1), |cluster| cluster.agree_on(5));
        assert!(took <= milliseconds(100), "{took:?}");
        cluster.run(HEALED);
        assert!(cluster.agree_on(5));
        assert_eq!(cluster.downs(), [], "seed {seed}");
    }
}

/// After two seconds it may have been declared down already, and then is up again at once; nobody else is concerned.
#[test]
fn a_node_that_restarts_after_two_seconds_is_there_at_once_and_shakes_nobody() {
    for (seed, away) in (0..50).flat_map(|seed| [(seed, 1_000), (seed, 2_000), (seed, 10_000)]) {
        let mut cluster = Cluster::settled(5, seed);
        cluster.kill(4);
        cluster.run(milliseconds(away));
        cluster.join(4, 2);
        cluster.until(seconds(1), |cluster| cluster.agree_on(5));
        let back = cluster.told.len();
        cluster.run(HEALED);
        assert!(cluster.agree_on(5));
        assert_eq!(shaken(&cluster, 4), [], "seed {seed}, away {away} ms");
        let later = &cluster.told[back..];
        assert!(
            !later
                .iter()
                .any(|(_, _, told)| matches!(told, Output::Down(_))),
            "{later:?}"
        );
    }
}

#[test]
fn a_restart_with_a_clock_that_was_set_back_is_there_at_once_too() {
    for wait in [0, 200, 2_000, 10_000] {
        let mut cluster = Cluster::settled(5, 5);
        cluster.kill(3);
        cluster.join(3, 1_700_000_000_000);
        cluster.run(seconds(3));
        cluster.kill(3);
        cluster.run(milliseconds(wait));
        cluster.told.clear();
        cluster.join(3, 1_600_000_000_000);
        cluster.until(seconds(3), |cluster| cluster.agree_on(5));
        cluster.run(HEALED);
        assert!(cluster.agree_on(5), "restarted after {wait} ms");
        assert_eq!(shaken(&cluster, 3), []);
    }
}

#[test]
fn a_node_that_was_cut_off_is_back_soon_after_and_shakes_nobody() {
    for seed in 0..8 {
        for cut_off_for in [
            300, 500, 700, 900, 1000, 1100, 1300, 1500, 1700, 2000, 3000, 20_000,
        ] {
            let mut cluster = Cluster::settled(6, seed);
            cluster.cut = Box::new(|from, to| from == 5 || to == 5);
            cluster.run(milliseconds(cut_off_for));
            if cut_off_for == 20_000 {
                assert_eq!(cluster.node(5).names().len(), 1, "it sees nobody");
                assert!((0..5).all(|number| cluster.node(number).names().len() == 5));
            }
            cluster.cut = Box::new(|_, _| false);
            let back = cluster.elapsed();
            cluster.run(HEALED);
            assert!(
                cluster.agree_on(6),
                "cut off for {cut_off_for} ms, seed {seed}"
            );
            // The node itself may just be finishing what it has suspected; the others miss nobody but that node.
            cluster.told.retain(|(at, ..)| *at > back);
            assert_eq!(
                shaken(&cluster, 5),
                [],
                "cut off for {cut_off_for} ms, seed {seed}"
            );
        }
    }
}

#[test]
fn a_node_that_hears_but_is_not_heard_shakes_nobody_and_heals() {
    for seed in 0..10 {
        let mut cluster = Cluster::settled(6, seed);
        cluster.cut = Box::new(|from, _| from == 5);
        cluster.run(seconds(10));
        assert!((0..5).all(|number| cluster.node(number).names().len() == 5));
        cluster.cut = Box::new(|_, _| false);
        cluster.until(HEALED, |cluster| cluster.agree_on(6));
        cluster.run(HEALED);
        assert!(cluster.agree_on(6));
        assert_eq!(shaken(&cluster, 5), []);
    }
}

#[test]
fn a_node_that_is_heard_but_does_not_hear_shakes_nobody_and_heals() {
    for seed in 0..10 {
        let mut cluster = Cluster::settled(6, seed);
        cluster.cut = Box::new(|_, to| to == 5);
        cluster.run(seconds(10));
        cluster.told.clear();
        cluster.cut = Box::new(|_, _| false);
        cluster.until(HEALED, |cluster| cluster.agree_on(6));
        cluster.run(HEALED);
        assert!(cluster.agree_on(6));
        assert_eq!(shaken(&cluster, 5), []);
    }
}

#[test]
fn two_of_which_one_does_not_hear_the_other_are_told_by_a_third() {
    for seed in 0..10 {
        let mut cluster = Cluster::settled(3, seed);
        cluster.cut = Box::new(|from, to| (from, to) == (0, 1));
        cluster.run(seconds(60));
        assert_eq!(cluster.downs(), [], "seed {seed}");
        assert!(cluster.agree_on(3));
    }
}

#[test]
fn two_alone_of_which_one_does_not_hear_the_other_heal() {
    for seed in 0..10 {
        let mut cluster = Cluster::settled(2, seed);
        cluster.cut = Box::new(|from, to| (from, to) == (0, 1));
        cluster.run(seconds(20));
        assert_eq!(cluster.node(1).names().len(), 1, "it hears nobody");
        cluster.cut = Box::new(|_, _| false);
        cluster.until(HEALED, |cluster| cluster.agree_on(2));
        cluster.run(HEALED);
        assert!(cluster.agree_on(2));
    }
}

#[test]
fn halves_that_were_parted_find_together() {
    for seed in 0..10 {
        let mut cluster = Cluster::settled(8, seed);
        cluster.cut = Box::new(|from, to| (from < 3) != (to < 3));
        cluster.run(seconds(20));
        assert!((0..3).all(|number| cluster.node(number).names().len() == 3));
        assert!((3..8).all(|number| cluster.node(number).names().len() == 5));
        cluster.cut = Box::new(|_, _| false);
        cluster.until(HEALED, |cluster| cluster.agree_on(8));
        cluster.told.clear();
        cluster.run(HEALED);
        assert_eq!(cluster.downs(), [], "seed {seed}");
    }
}

#[test]
fn nodes_that_all_lost_each_other_find_together() {
    let mut cluster = Cluster::settled(5, 8);
    cluster.cut = Box::new(|_, _| true);
    cluster.run(seconds(20));
    assert!(cluster.agree_on(1));
    cluster.cut = Box::new(|_, _| false);
    cluster.until(HEALED, |cluster| cluster.agree_on(5));
}

#[test]
fn a_process_that_was_stopped_says_so_at_once_and_knows_all_again_at_once() {
    let mut slowest = Duration::ZERO;
    for (seed, stopped_for) in (0..30).flat_map(|seed| [(seed, 2), (seed, 10), (seed, 100)]) {
        let mut cluster = Cluster::settled(5, seed);
        cluster.stop(4);
        cluster.run(seconds(stopped_for));
        assert!((0..4).all(|number| cluster.node(number).names().len() == 4));
        cluster.told.clear();
        cluster.go_on(4);
        let first = cluster.told.first();
        assert!(
            matches!(first, Some((_, _, Output::Lapsed { .. }))),
            "{first:?}"
        );
        assert!(!cluster.node(4).heard_all());
        let took = cluster.until(seconds(1), |cluster| cluster.node(4).heard_all());
        slowest = slowest.max(took);
        // It never takes itself for the only one: it believes that all are there until it hears otherwise.
        assert_eq!(cluster.node(4).names().len(), 5);
        cluster.until(seconds(1), |cluster| cluster.agree_on(5));
        cluster.run(HEALED);
        assert!(cluster.agree_on(5));
        assert_eq!(
            cluster.downs(),
            [],
            "stopped for {stopped_for} s, seed {seed}"
        );
    }
    println!("a process that goes on has heard of all again after {slowest:?} at most");
    assert!(slowest <= milliseconds(100));
}

#[test]
fn a_process_that_goes_on_after_others_were_lost_learns_it_from_the_rest() {
    for seed in 0..10 {
        let mut cluster = Cluster::settled(5, seed);
        cluster.stop(4);
        cluster.run(seconds(1));
        cluster.kill(0);
        cluster.run(seconds(10));
        cluster.go_on(4);
        cluster.until(seconds(4), |cluster| cluster.agree_on(4));
        cluster.run(HEALED);
        assert!(cluster.agree_on(4));
    }
}

#[test]
fn a_process_that_goes_on_alone_knows_it_when_its_time_is_over() {
    let mut cluster = Cluster::settled(3, 1);
    cluster.stop(2);
    cluster.run(seconds(5));
    (0..2).for_each(|number| cluster.kill(number));
    cluster.go_on(2);
    let took = cluster.until(seconds(4), |cluster| cluster.node(2).heard_all());
    assert!(took >= milliseconds(2900));
    assert_eq!(cluster.node(2).names().len(), 1);
}

#[test]
fn a_short_pause_is_no_lapse() {
    let mut cluster = Cluster::settled(5, 7);
    for _ in 0..50 {
        cluster.stop(4);
        cluster.run(milliseconds(500));
        cluster.go_on(4);
        cluster.run(seconds(1));
    }
    assert_eq!(cluster.told, []);
}

#[test]
fn faults_of_all_kinds_on_a_lossy_network_leave_no_view_wrong() {
    for seed in 0..30 {
        let count = 6;
        let mut cluster = Cluster::settled(count, seed);
        let mut generation = 1;
        for _ in 0..10 {
            let node = cluster.rng.random_range(0..count);
            cluster.loss = [0.0, 0.05, 0.2, 0.4][cluster.rng.random_range(0..4)];
            let lasts = milliseconds(cluster.rng.random_range(50..6_000));
            match cluster.rng.random_range(0..5) {
                0 => {
                    cluster.kill(node);
                    cluster.run(lasts);
                    generation += 1;
                    cluster.join(node, generation);
                }
                1 => {
                    cluster.stop(node);
                    cluster.run(lasts);
                    cluster.go_on(node);
                }
                2 => cluster.cut = Box::new(move |from, _| from == node),
                3 => cluster.cut = Box::new(move |_, to| to == node),
                _ => cluster.cut = Box::new(move |from, to| (from < node) != (to < node)),
            }
            cluster.run(lasts);
            cluster.cut = Box::new(|_, _| false);
            let between = cluster.rng.random_range(0..3_000);
            cluster.run(milliseconds(between));
        }
        cluster.loss = 0.0;
        cluster.run(HEALED + HEALED);
        assert!(cluster.agree_on(count), "seed {seed}");
        cluster.told.clear();
        cluster.run(seconds(30));
        assert_eq!(cluster.told, [], "seed {seed}");
    }
}
