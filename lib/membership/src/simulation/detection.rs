//! How long does it take until everyone knows of a lost node, and what does watching cost?

use super::farewell::farewell;
use super::hearing::restart;
use super::*;

/// For `runs` seeds: how long until the last one has noticed that a node died.
fn times_to_notice(count: usize, runs: u64) -> Vec<Duration> {
    let mut times = Vec::new();
    for seed in 0..runs {
        let mut cluster = Cluster::settled(count, seed);
        let phase = cluster.rng.random_range(0..3_000);
        cluster.run(milliseconds(phase));
        let died = cluster.elapsed();
        cluster.kill(count - 1);
        cluster.run(seconds(6));
        let noticed = cluster.told_of(&Output::Down(name(count - 1)));
        assert_eq!(noticed.len(), count - 1, "of {count} nodes, seed {seed}");
        assert_eq!(cluster.told.len(), count - 1, "nobody else was missed");
        times.push(*noticed.iter().max().unwrap() - died);
    }
    times
}

/// Median and worst must be within these milliseconds.
fn is_noticed_within(count: usize, runs: u64, median: u64, worst: u64) {
    let mut times = times_to_notice(count, runs);
    let (middle, last) = median_and_worst(&mut times);
    let share = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!(
        "{count} nodes, {runs} runs: the last one knows after {middle:?} (median), {:?} (95 %), {:?} (99 %), {last:?} (worst)",
        share(95),
        share(99)
    );
    assert!(middle <= milliseconds(median), "median {middle:?}");
    assert!(last <= milliseconds(worst), "worst {last:?}");
}

#[test]
fn of_three_nodes_a_lost_one_is_noticed_by_all_in_time_in_a_thousand_runs() {
    is_noticed_within(3, 1000, 1600, 2300);
}

#[test]
fn of_two_and_of_ten_nodes_a_lost_one_is_noticed_by_all_in_time() {
    is_noticed_within(2, 100, 1600, 1800);
    is_noticed_within(10, 100, 1900, 3000);
}

#[test]
fn of_a_hundred_nodes_a_lost_one_is_noticed_by_all_in_time() {
    is_noticed_within(100, 5, 2200, 3300);
}

/// Watches a cluster in which nothing happens.
fn watching_costs_little(cluster: &mut Cluster) {
    let (before, watched) = (cluster.sent, seconds(30));
    cluster.run(watched);
    let count = cluster.machines.len();
    let per_node = |sent: usize| sent / count / watched.as_secs() as usize;
    let datagrams = per_node(cluster.sent.0 - before.0);
    let bytes = per_node(cluster.sent.1 - before.1);
    println!("{count} nodes: each sends {datagrams} datagrams and {bytes} bytes per second");
    assert!(datagrams <= 12 && bytes <= 1_500);
    assert_eq!(cluster.told, []);
}

/// One test for all questions: it takes long until so many have met.
#[test]
fn five_hundred_nodes_notice_a_loss_a_farewell_and_a_restart_in_time_at_a_fair_price() {
    let count = 500;
    let mut cluster = Cluster::settled(count, 1);
    cluster.run(seconds(10));
    watching_costs_little(&mut cluster);

    let (took, known) = restart(&mut cluster, 7);
    println!("{count} nodes: one that restarts has heard of all after {took:?}");
    assert!(took <= milliseconds(200));
    assert_eq!(known, count);
    cluster.run(seconds(5));
    assert_eq!(cluster.downs(), []);

    let took = farewell(&mut cluster, 11);
    println!("{count} nodes: a farewell is known to all after {took:?}");
    assert!(took <= milliseconds(500));

    cluster.told.clear();
    let (died, before) = (cluster.elapsed(), cluster.sent);
    cluster.kill(count - 1);
    cluster.run(seconds(5));
    let noticed = cluster.told_of(&Output::Down(name(count - 1)));
    assert_eq!((noticed.len(), cluster.told.len()), (count - 2, count - 2));
    let last = *noticed.iter().max().unwrap() - died;
    let bytes = (cluster.sent.1 - before.1) / count / 5;
    println!(
        "{count} nodes: the last one knows of a loss after {last:?}; each sends {bytes} bytes per second meanwhile"
    );
    assert!(last <= milliseconds(3500));
}

#[test]
fn nobody_is_missed_while_all_are_there() {
    let mut cluster = Cluster::settled(12, 1);
    watching_costs_little(&mut cluster);
    cluster.run(seconds(300));
    assert_eq!(cluster.told, []);
    assert_eq!(cluster.dropped, BTreeMap::new());
}

#[test]
fn every_twentieth_datagram_may_get_lost() {
    let mut cluster = Cluster::settled(10, 2);
    cluster.loss = 0.05;
    cluster.run(seconds(600));
    assert_eq!(cluster.told, []);
}

#[test]
fn where_every_fifth_datagram_gets_lost_hardly_anybody_is_missed_in_ten_minutes() {
    for (count, seeds, most) in [(2, 10, 20), (3, 10, 4), (10, 2, 2)] {
        let mut missed = 0;
        for seed in 0..seeds {
            let mut cluster = Cluster::settled(count, seed);
            cluster.loss = 0.2;
            cluster.run(seconds(600));
            missed += cluster.downs().len();
            cluster.loss = 0.0;
            cluster.until(seconds(10), |cluster| cluster.agree_on(count));
        }
        println!("{count} nodes, 20 % loss: {missed} false losses in {seeds} times 10 minutes");
        assert!(missed <= most);
    }
}
