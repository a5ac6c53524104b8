//! The secret is exchanged while the cluster runs.

use super::*;
use crate::ACCEPT_FORMER;

const NEW: &[u8] = b"the new secret";

/// What the kubelets take to bring a changed Secret to all nodes.
const SPREAD: u64 = 120_000;

fn change(cluster: &mut Cluster, number: usize) {
    assert!(cluster.with(number, |node, now| node.change_secret(now, NEW)));
}

#[test]
fn another_secret_is_another_cluster() {
    let mut cluster = Cluster::settled(3, 9);
    cluster.secret = Some(NEW);
    cluster.listed = 4;
    cluster.join(3, 1);
    cluster.told.clear();
    cluster.run(seconds(20));
    assert_eq!(cluster.downs(), []);
    assert_eq!(cluster.node(3).names().len(), 1);
    assert!((0..3).all(|number| cluster.node(number).names().len() == 3));
    assert!(cluster.dropped[&DropReason::Authentication] > 0);
    assert_eq!(cluster.dropped.len(), 1, "{:?}", cluster.dropped);
}

#[test]
fn a_secret_that_reaches_the_nodes_minutes_apart_parts_nobody() {
    for seed in 0..10 {
        let count = 5;
        let mut cluster = Cluster::settled(count, seed);
        let mut times: Vec<_> = (0..count)
            .map(|number| (cluster.rng.random_range(0..SPREAD), number))
            .collect();
        times.sort();
        let mut at = 0;
        for (time, number) in times {
            cluster.run(milliseconds(time - at));
            at = time;
            change(&mut cluster, number);
        }
        cluster.run(seconds(10));
        // Nobody seals with the former one any more, long before it is given up.
        cluster.recorded = Some(Vec::new());
        cluster.run(seconds(5));
        let recorded = cluster.recorded.take().unwrap();
        let mut former = Cluster::empty(seed);
        former.join(9, 1);
        for (_, datagram) in &recorded {
            former.receive(addr(9), datagram);
        }
        let authentication = former.dropped[&DropReason::Authentication];
        assert_eq!(authentication, recorded.len());

        cluster.run(ACCEPT_FORMER + seconds(10));
        assert_eq!(cluster.told, [], "seed {seed}");
        assert_eq!(cluster.dropped, BTreeMap::new(), "seed {seed}");
    }
}

#[test]
fn nodes_that_join_and_restart_during_the_exchange_find_all() {
    for seed in 0..10 {
        let mut cluster = Cluster::settled(6, seed);
        (0..3).for_each(|number| change(&mut cluster, number));
        // One that knows but the new one, among some that know but the former one.
        cluster.kill(5);
        cluster.secret = Some(NEW);
        cluster.join(5, 2);
        let took = cluster.until(seconds(3), |cluster| {
            cluster.agree_on(6) && cluster.node(5).heard_all()
        });
        cluster.told.clear();
        cluster.run(seconds(SPREAD / 1000));
        assert_eq!(cluster.told, [], "seed {seed}, met after {took:?}");
        (3..5).for_each(|number| change(&mut cluster, number));
        cluster.run(ACCEPT_FORMER + seconds(10));
        assert_eq!(cluster.told, [], "seed {seed}");
    }
}

#[test]
fn a_node_that_never_reads_the_new_secret_is_out_when_the_former_one_is_given_up() {
    let mut cluster = Cluster::settled(4, 3);
    (0..3).for_each(|number| change(&mut cluster, number));
    cluster.run(ACCEPT_FORMER - seconds(5));
    assert_eq!(cluster.told, []);
    cluster.run(seconds(15));
    assert!((0..3).all(|number| cluster.node(number).names().len() == 3));
    assert_eq!(cluster.node(3).names().len(), 1);
    // It is in again as soon as it has read it.
    change(&mut cluster, 3);
    cluster.until(seconds(10), |cluster| cluster.agree_on(4));
}

#[test]
fn a_change_that_is_taken_back_parts_nobody() {
    let mut cluster = Cluster::settled(4, 4);
    (0..2).for_each(|number| change(&mut cluster, number));
    cluster.run(seconds(30));
    for number in 0..2 {
        assert!(cluster.with(number, |node, now| node.change_secret(now, SECRET)));
        cluster.run(seconds(10));
    }
    cluster.run(ACCEPT_FORMER * 2);
    assert_eq!(cluster.told, []);
}

/// The third one knows but the new secret, the second but the former; each hears of the other by the first alone.
#[test]
fn two_without_a_common_secret_are_kept_together_by_a_third_that_has_both() {
    for seed in 0..20 {
        let mut cluster = Cluster::settled(2, seed);
        cluster.listed = 3;
        cluster.secret = Some(NEW);
        cluster.join(2, 1);
        cluster.run(seconds(5));
        assert_eq!(cluster.node(2).names().len(), 1);
        change(&mut cluster, 0);
        cluster.until(seconds(5), |cluster| cluster.agree_on(3));
        cluster.told.clear();
        cluster.run(seconds(120));
        assert_eq!(cluster.told, [], "seed {seed}");
    }
}
