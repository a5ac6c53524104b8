//! How fast does everybody know that a member leaves?

use super::*;

/// As the speaker says it: three times, 20 ms apart; then the process is gone. How long until the last one knows.
pub(super) fn farewell(cluster: &mut Cluster, leaving: usize) -> Duration {
    cluster.told.clear();
    let left = cluster.elapsed();
    for _ in 0..3 {
        cluster.with(leaving, |node, now| node.leave(now)).unwrap();
        cluster.run(milliseconds(20));
    }
    cluster.kill(leaving);
    cluster.run(seconds(1));
    let known = cluster.told_of(&Output::Down(name(leaving)));
    assert_eq!(
        (known.len(), cluster.told.len()),
        (cluster.machines.len(), cluster.machines.len()),
        "all know, and only the one that left is missed: {:?}",
        cluster.told
    );
    *known.iter().max().unwrap() - left
}

#[test]
fn a_farewell_is_heard_by_up_to_a_hundred_and_twenty_eight_others_at_once() {
    for (count, seeds) in [(2, 50), (3, 50), (50, 5)] {
        let mut times: Vec<_> = (0..seeds)
            .map(|seed| farewell(&mut Cluster::settled(count, seed), 1))
            .collect();
        let (median, worst) = median_and_worst(&mut times);
        println!(
            "{count} nodes: a farewell is known to all after {median:?} (median), {worst:?} (worst)"
        );
        assert!(worst <= milliseconds(5), "{count} nodes: {worst:?}");
    }
}

#[test]
fn a_farewell_is_heard_where_every_fifth_datagram_gets_lost() {
    let mut times: Vec<_> = (0..100)
        .map(|seed| {
            let mut cluster = Cluster::settled(3, seed);
            cluster.loss = 0.2;
            farewell(&mut cluster, 1)
        })
        .collect();
    let (median, worst) = median_and_worst(&mut times);
    println!(
        "3 nodes, 20 % loss: a farewell is known to all after {median:?} (median), {worst:?} (worst)"
    );
    assert!(
        median <= milliseconds(25) && worst <= milliseconds(500),
        "{median:?} {worst:?}"
    );
}

#[test]
fn a_member_that_leaves_keeps_what_it_knows() {
    let mut cluster = Cluster::settled(4, 1);
    cluster.with(0, |node, now| node.leave(now)).unwrap();
    cluster.run(milliseconds(10));
    assert!((1..4).all(|number| cluster.node(number).names().len() == 3));
    cluster.run(seconds(60));
    assert_eq!(cluster.node(0).names().len(), 4);
    assert_eq!(cluster.downs().len(), 3);
}

#[test]
fn a_member_that_leaves_in_the_middle_of_trouble_stays_away() {
    for seed in 0..20 {
        let mut cluster = Cluster::settled(4, seed);
        cluster.cut = Box::new(|from, to| from == 0 || to == 0);
        let trouble = cluster.rng.random_range(0..3_000);
        cluster.run(milliseconds(trouble));
        cluster.cut = Box::new(|_, _| false);
        cluster.with(0, |node, now| node.leave(now)).unwrap();
        cluster.run(milliseconds(10));
        cluster.told.clear();
        // Stopped and gone on in the end, too.
        cluster.run(seconds(10));
        cluster.stop(0);
        cluster.run(seconds(5));
        cluster.go_on(0);
        cluster.run(seconds(10));
        assert_eq!(cluster.told_of(&Output::Up(name(0))), [], "seed {seed}");
        assert!((1..4).all(|number| cluster.node(number).names().len() == 3));
    }
}
