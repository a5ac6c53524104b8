//! When does a node that starts know everybody?

use super::*;

/// How long until `number`, restarted, has heard of all; and how many it knew then.
pub(super) fn restart(cluster: &mut Cluster, number: usize) -> (Duration, usize) {
    cluster.kill(number);
    cluster.join(number, 2);
    let took = cluster.until(seconds(5), |cluster| cluster.node(number).heard_all());
    (took, cluster.node(number).names().len())
}

#[test]
fn a_node_that_restarts_beside_a_dead_one_has_heard_of_all_at_once() {
    for count in [3, 10, 100] {
        let mut cluster = Cluster::settled(count, 1);
        // Its pod stays listed.
        cluster.kill(0);
        cluster.run(seconds(6));
        let (took, known) = restart(&mut cluster, count - 1);
        println!("{count} nodes, one of them dead: all heard of after {took:?}");
        assert!(took <= milliseconds(100), "{took:?}");
        assert_eq!(known, count - 1);
    }
}

#[test]
fn the_list_gets_through_where_every_fifth_datagram_gets_lost() {
    for seed in 0..20 {
        let mut cluster = Cluster::settled(40, seed);
        cluster.loss = 0.2;
        let (took, known) = restart(&mut cluster, 39);
        assert!(took <= milliseconds(3010), "{took:?}");
        assert_eq!(known, 40, "seed {seed}");
    }
}

#[test]
fn where_all_start_at_once_nobody_has_heard_of_all_before_the_time_is_over() {
    let mut cluster = Cluster::new(5, 1);
    cluster.run(milliseconds(2900));
    assert!(cluster.agree_on(5));
    assert!((0..5).all(|number| !cluster.node(number).heard_all()));
    cluster.run(milliseconds(200));
    assert!((0..5).all(|number| cluster.node(number).heard_all()));
    for number in 0..5 {
        let told = cluster.told.iter();
        let heard = told.filter(|(_, by, told)| *by == addr(number) && *told == Output::HeardAll);
        assert_eq!(heard.count(), 1, "it is said once");
    }
}

#[test]
fn a_node_that_knows_nobody_to_ask_waits_for_ever() {
    let mut cluster = Cluster::empty(1);
    let own = Node::new(name(0), addr(0), 1);
    let mut node = Membership::new(own, None, [1; 32], Timing::default(), cluster.now);
    let mut ticks = |node: &mut Membership| {
        for _ in 0..100 {
            cluster.now = node.deadline();
            node.tick(cluster.now).unwrap();
        }
        cluster.now
    };
    let now = ticks(&mut node);
    assert!(!node.heard_all());
    node.expect_answers(now);
    ticks(&mut node);
    assert!(node.heard_all());
}
