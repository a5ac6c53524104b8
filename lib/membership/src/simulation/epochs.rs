//! What can be done with recorded datagrams?

use super::*;

/// A cluster, and all that was said in it from its beginning.
fn recorded(count: usize) -> (Cluster, Vec<(SocketAddr, Vec<u8>)>) {
    let mut cluster = Cluster::empty(1);
    cluster.recorded = Some(Vec::new());
    cluster.listed = count;
    (0..count).for_each(|number| cluster.join(number, 1));
    cluster.run(seconds(10));
    assert!(cluster.agree_on(count));
    let recorded = cluster.recorded.take().unwrap();
    (cluster, recorded)
}

/// Sends all of it again, each datagram to every node.
fn replay(cluster: &mut Cluster, recorded: &[(SocketAddr, Vec<u8>)]) {
    let nodes: Vec<_> = cluster.machines.keys().copied().collect();
    for (_, datagram) in recorded {
        nodes
            .iter()
            .for_each(|&node| cluster.receive(node, datagram));
        cluster.run(Duration::from_micros(100));
    }
}

#[test]
fn what_was_received_once_is_not_taken_again() {
    let (mut cluster, recorded) = recorded(4);
    let before = cluster.dropped.clone();
    cluster.told.clear();
    for (to, datagram) in &recorded {
        cluster.receive(*to, datagram);
    }
    let count =
        |reason| cluster.dropped.get(&reason).unwrap_or(&0) - before.get(&reason).unwrap_or(&0);
    let greetings = recorded.len() - count(DropReason::Replayed);
    assert!(
        greetings < 50,
        "only first greetings are answered: {greetings}"
    );
    assert_eq!(count(DropReason::Authentication), 0);
    cluster.run(seconds(10));
    assert_eq!(cluster.told, []);
}

#[test]
fn a_lost_node_is_not_raised_by_what_it_once_said() {
    let (mut cluster, recorded) = recorded(4);
    cluster.kill(3);
    cluster.run(seconds(5));
    assert!(cluster.agree_on(3));
    cluster.told.clear();
    replay(&mut cluster, &recorded);
    // Nor when it is forgotten that it was lost.
    cluster.run(seconds(31 * 60));
    replay(&mut cluster, &recorded);
    cluster.run(seconds(10));
    assert_eq!(cluster.told, []);
}

#[test]
fn a_node_that_has_just_started_believes_no_recording() {
    let (_, recorded) = recorded(4);
    let mut cluster = Cluster::empty(2);
    cluster.join(0, 2);
    cluster.told.clear();
    replay(&mut cluster, &recorded);
    cluster.run(seconds(2));
    assert_eq!(cluster.told, []);
    assert!(cluster.agree_on(1));
    assert!(cluster.dropped[&DropReason::OldEpoch] > 100);
}

#[test]
fn a_former_life_says_nothing_once_the_next_one_has_spoken() {
    let (mut cluster, recorded) = recorded(4);
    cluster.kill(3);
    cluster.join(3, 2);
    cluster.run(seconds(3));
    cluster.told.clear();
    replay(&mut cluster, &recorded);
    cluster.run(seconds(10));
    assert_eq!(cluster.told, []);
    assert!(cluster.agree_on(4));
}

#[test]
fn a_recording_that_is_sent_all_the_time_keeps_nobody_from_joining() {
    let (mut cluster, recorded) = recorded(4);
    cluster.kill(3);
    cluster.run(seconds(5));
    cluster.join(3, 2);
    replay(&mut cluster, &recorded);
    assert!(cluster.agree_on(4));
}
