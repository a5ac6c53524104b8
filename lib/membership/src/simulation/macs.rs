//! Which members know whose hardware addresses, and when?

use super::*;
use crate::hearing::ASK;
use crate::macs::TELL;
use crate::runtime::MESSAGE;

type Mac = [u8; 6];

/// Those of the node in its life of this generation.
fn macs(number: usize, generation: u64) -> [Mac; 2] {
    let [high, low] = (number as u16).to_be_bytes();
    [0, 1].map(|interface| [2, generation as u8, interface, 0, high, low])
}

fn set(cluster: &mut Cluster, number: usize, generation: u64) {
    let macs = macs(number, generation);
    cluster.with(number, |node, now| node.set_macs(now, macs));
}

/// A settled cluster in which all have told their own.
fn settled(count: usize, seed: u64) -> Cluster {
    let mut cluster = Cluster::settled(count, seed);
    (0..count).for_each(|number| set(&mut cluster, number, 1));
    while !all_know_all(&cluster, count) {
        assert!(cluster.elapsed() < seconds(90));
        cluster.run(milliseconds(500));
    }
    cluster
}

fn knows(cluster: &Cluster, number: usize, of: usize, generation: u64) -> bool {
    let known = cluster.node(number).macs();
    macs(of, generation).iter().all(|mac| known.contains(mac))
}

fn all_know(cluster: &Cluster, of: usize, generation: u64) -> bool {
    let mut others = cluster.machines.keys().map(|addr| self::number(*addr));
    others.all(|number| number == of || knows(cluster, number, of, generation))
}

fn all_know_all(cluster: &Cluster, count: usize) -> bool {
    let expected: BTreeSet<_> = (0..count).flat_map(|number| macs(number, 1)).collect();
    (0..count).all(|number| {
        let mut known = cluster.node(number).macs();
        known.extend(macs(number, 1));
        known == expected
    })
}

#[test]
fn the_addresses_of_a_node_that_comes_or_changes_are_known_to_all_within_a_second_or_two() {
    for (count, loss, seeds) in [(3, 0.0, 5), (3, 0.2, 5), (10, 0.2, 5), (100, 0.0, 1)] {
        let mut worst = Duration::ZERO;
        for seed in 0..seeds {
            let mut cluster = settled(count, seed);
            cluster.loss = loss;
            set(&mut cluster, 0, 2);
            let took = cluster.until(seconds(5), |cluster| all_know(cluster, 0, 2));
            assert!(!knows(&cluster, 1, 0, 1), "what was said before is void");
            worst = worst.max(took);
            let other = count - 1;
            cluster.kill(other);
            cluster.join(other, 2);
            set(&mut cluster, other, 2);
            let took = cluster.until(seconds(8), |cluster| all_know(cluster, other, 2));
            worst = worst.max(took);
        }
        println!("{count} nodes, loss {loss}: hardware addresses are known to all after {worst:?}");
        assert!(
            worst <= seconds(if loss > 0.0 { 8 } else { 1 }),
            "{worst:?}"
        );
    }
}

#[test]
fn who_has_heard_of_all_knows_their_addresses() {
    for count in [2, 3, 10, 100] {
        let mut cluster = settled(count, 1);
        cluster.kill(0);
        cluster.join(0, 2);
        cluster.until(seconds(5), |cluster| cluster.node(0).heard_all());
        assert_eq!(cluster.node(0).macs().len(), 2 * (count - 1));
        assert!(cluster.node(0).knows_all_macs());
    }
}

#[test]
fn where_all_start_at_once_they_are_known_before_anybody_has_heard_of_all() {
    let mut cluster = Cluster::new(10, 1);
    (0..10).for_each(|number| set(&mut cluster, number, 1));
    let took = cluster.until(milliseconds(2900), |cluster| all_know_all(cluster, 10));
    println!("10 nodes that start at once know all hardware addresses after {took:?}");
    assert!((0..10).all(|number| cluster.node(number).knows_all_macs()));
}

#[test]
fn those_of_a_lost_member_are_kept_for_ten_minutes_and_those_of_one_that_returns_for_longer() {
    let mut cluster = settled(3, 1);
    cluster.kill(2);
    cluster.run(seconds(595));
    assert!(cluster.agree_on(2));
    assert!(knows(&cluster, 0, 2, 1) && knows(&cluster, 1, 2, 1));
    cluster.run(seconds(15));
    assert!(!knows(&cluster, 0, 2, 1) && !knows(&cluster, 1, 2, 1));

    cluster.cut = Box::new(|from, to| (from == 0) != (to == 0));
    cluster.run(seconds(300));
    cluster.cut = Box::new(|_, _| false);
    cluster.run(seconds(400));
    assert!(knows(&cluster, 0, 1, 1) && knows(&cluster, 1, 0, 1));
    // Parted for so long that each has forgotten the other.
    cluster.cut = Box::new(|from, to| (from == 0) != (to == 0));
    cluster.run(seconds(620));
    assert!(!knows(&cluster, 0, 1, 1) && !knows(&cluster, 1, 0, 1));
    cluster.cut = Box::new(|_, _| false);
    cluster.until(seconds(15), |cluster| {
        knows(cluster, 0, 1, 1) && knows(cluster, 1, 0, 1)
    });
}

#[test]
fn a_node_whose_clock_was_set_back_before_a_restart_is_believed_all_the_same() {
    let mut cluster = settled(3, 1);
    cluster.kill(2);
    cluster.join(2, 500);
    set(&mut cluster, 2, 1);
    cluster.run(seconds(5));
    cluster.kill(2);
    cluster.join(2, 3);
    set(&mut cluster, 2, 3);
    cluster.until(seconds(10), |cluster| all_know(cluster, 2, 3));
}

#[test]
fn no_more_than_sixteen_are_told_and_they_are_sorted_out_by_their_owner() {
    let mut cluster = settled(2, 1);
    let many = (0..100_u8).map(|last| [6, 0, 0, 0, 0, last]);
    cluster.with(0, |node, now| node.set_macs(now, many));
    cluster.until(seconds(5), |cluster| {
        cluster.node(1).macs().len() == crate::MOST_MACS
    });
}

#[test]
fn at_rest_nothing_more_is_said_than_once_in_a_while() {
    let mut cluster = settled(3, 1);
    cluster.run(seconds(10));
    let count = |cluster: &Cluster| {
        let told = cluster.told.iter();
        told.filter(|(.., told)| *told == Output::Macs).count()
    };
    let (told, sent) = (count(&cluster), cluster.sent);
    cluster.run(seconds(60));
    assert_eq!(count(&cluster), told, "nothing is news twice");
    let per_node = (cluster.sent.0 - sent.0) / 3 / 60;
    assert!(per_node <= 9, "{per_node} datagrams per second");
}

/// What a node of a version without hardware addresses sends and understands, in the plain: it knows neither that kind of content
/// nor anything that follows a question.
fn as_before(datagram: &[u8]) -> Option<Vec<u8>> {
    let (&[_, kind], body) = datagram.split_first_chunk()?;
    match kind {
        TELL => None,
        ASK => {
            // This is how it reads a question.
            let read: crate::hearing::Ask = postcard::from_bytes(body).unwrap();
            let (same, rest) = postcard::take_from_bytes(body).unwrap();
            assert_eq!(read, same);
            Some(datagram[..datagram.len() - rest.len()].to_vec())
        }
        kind => {
            assert!(kind == MESSAGE || kind == crate::hearing::PAGE, "{kind}");
            Some(datagram.to_vec())
        }
    }
}

#[test]
fn beside_a_version_without_them_all_else_goes_on() {
    let mut cluster = Cluster::empty(1);
    cluster.secret = None;
    cluster.listed = 3;
    cluster.before = Some(2);
    (0..3).for_each(|number| cluster.join(number, 1));
    (0..2).for_each(|number| set(&mut cluster, number, 1));
    cluster.run(seconds(20));
    assert!(cluster.agree_on(3));
    assert!(knows(&cluster, 0, 1, 1) && knows(&cluster, 1, 0, 1));
    assert!(!cluster.node(0).knows_all_macs());
    // Each may be the one to start.
    for number in 0..3 {
        let (took, known) = hearing::restart(&mut cluster, number);
        assert!(
            took <= milliseconds(100) && known == 3,
            "{number}: {took:?}"
        );
        cluster.run(seconds(10));
        assert!(cluster.agree_on(3));
    }
    cluster.kill(2);
    cluster.until(seconds(5), |cluster| cluster.agree_on(2));
}

impl Cluster {
    /// The datagram as the node, of the version before, would have written or read it; `None` if it would not have.
    pub(super) fn translate(&self, node: SocketAddr, datagram: Vec<u8>) -> Option<Vec<u8>> {
        if self.before.is_some_and(|before| addr(before) == node) {
            as_before(&datagram)
        } else {
            Some(datagram)
        }
    }
}
