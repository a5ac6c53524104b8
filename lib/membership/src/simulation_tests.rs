//! Many machines over a simulated network with a simulated clock.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::RngExt;

use super::*;

/// Arrival, a number that keeps the order, destination, bytes.
type Flight = (Instant, u64, SocketAddr, Vec<u8>);

struct Cluster {
    start: Instant,
    now: Instant,
    nodes: BTreeMap<SocketAddr, Membership>,
    in_flight: BinaryHeap<Reverse<Flight>>,
    sent: u64,
    rng: SmallRng,
    /// Share of datagrams that get lost.
    loss: f64,
    /// Addresses that no datagram reaches or leaves.
    cut_off: BTreeSet<SocketAddr>,
    /// An address that no datagram leaves.
    mute: Option<SocketAddr>,
    /// Who told what, when.
    told: Vec<(Duration, SocketAddr, Output)>,
}

fn addr(number: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 7946))
}

fn name(number: usize) -> String {
    format!("node-{number}")
}

impl Cluster {
    /// `count` nodes that know only the first one's address.
    fn new(count: usize, seed: u64) -> Self {
        #[allow(
            clippy::disallowed_methods,
            reason = "an arbitrary origin; the clock is simulated from here on"
        )]
        let start = Instant::now();
        let mut cluster = Self {
            start,
            now: start,
            nodes: BTreeMap::new(),
            in_flight: BinaryHeap::new(),
            sent: 0,
            rng: SmallRng::seed_from_u64(seed),
            loss: 0.0,
            cut_off: BTreeSet::new(),
            mute: None,
            told: Vec::new(),
        };
        (0..count).for_each(|number| cluster.join(number, 1, 0));
        cluster
    }

    /// A cluster in which everyone has seen everyone.
    fn settled(count: usize, seed: u64) -> Self {
        let mut cluster = Self::new(count, seed);
        let deadline = cluster.now + Duration::from_secs(60);
        while !cluster.agree_on(count) {
            assert!(cluster.now < deadline, "{count} nodes have not met");
            cluster.run(Duration::from_millis(500));
        }
        cluster.run(Duration::from_secs(2));
        cluster.told.clear();
        cluster
    }

    fn join(&mut self, number: usize, generation: u64, seed: usize) {
        let own = Node::new(name(number), addr(number), generation);
        let random = self.rng.random();
        let mut node = Membership::new(own, Some(b"secret"), random, Timing::default(), self.now);
        if number != seed {
            node.announce_to(self.now, addr(seed)).unwrap();
        }
        self.nodes.insert(addr(number), node);
        self.collect(addr(number));
    }

    fn kill(&mut self, number: usize) {
        self.nodes.remove(&addr(number)).unwrap();
    }

    fn node(&self, number: usize) -> &Membership {
        &self.nodes[&addr(number)]
    }

    fn agree_on(&self, count: usize) -> bool {
        self.nodes.values().all(|node| node.names().len() == count)
    }

    fn collect(&mut self, from: SocketAddr) {
        let Some(node) = self.nodes.get_mut(&from) else {
            return;
        };
        while let Some(output) = node.poll_output() {
            if let Output::Send { to, bytes } = output {
                assert!(bytes.len() <= LONGEST_DATAGRAM);
                let cut = self.cut_off.contains(&from)
                    || self.cut_off.contains(&to)
                    || self.mute == Some(from);
                if !cut && !self.rng.random_bool(self.loss) {
                    self.sent += 1;
                    let latency = Duration::from_micros(self.rng.random_range(100..2000));
                    self.in_flight
                        .push(Reverse((self.now + latency, self.sent, to, bytes)));
                }
            } else {
                self.told.push((self.now - self.start, from, output));
            }
        }
    }

    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let arrival = self.in_flight.peek().map(|Reverse((at, ..))| *at);
            let timer = self
                .nodes
                .iter()
                .filter_map(|(&addr, node)| Some((node.deadline()?, addr)))
                .min();
            match (arrival, timer) {
                (Some(at), timer) if at <= end && timer.is_none_or(|(due, _)| at <= due) => {
                    let Reverse((at, _, to, bytes)) = self.in_flight.pop().unwrap();
                    self.now = self.now.max(at);
                    if let Some(node) = self.nodes.get_mut(&to) {
                        node.handle_datagram(self.now, &bytes).unwrap();
                    }
                    self.collect(to);
                }
                (_, Some((due, addr))) if due <= end => {
                    self.now = self.now.max(due);
                    self.nodes.get_mut(&addr).unwrap().tick(self.now).unwrap();
                    self.collect(addr);
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn told_of(&self, output: &Output) -> Vec<Duration> {
        self.told
            .iter()
            .filter(|(_, _, told)| told == output)
            .map(|(at, ..)| *at)
            .collect()
    }
}

#[test]
fn a_dead_node_is_noticed_by_all_within_three_and_a_half_seconds() {
    let mut last = Vec::new();
    for (count, seeds) in [(2, 20), (3, 20), (10, 20), (40, 4)] {
        let mut times = Vec::new();
        for seed in 0..seeds {
            let mut cluster = Cluster::settled(count, seed);
            cluster.run(Duration::from_millis(37 * seed));
            let died = cluster.now - cluster.start;
            cluster.kill(count - 1);
            cluster.run(Duration::from_secs(5));
            let noticed = cluster.told_of(&Output::Down(name(count - 1)));
            assert_eq!(noticed.len(), count - 1, "of {count} nodes, seed {seed}");
            assert_eq!(cluster.told.len(), count - 1, "nobody else was missed");
            times.push(*noticed.iter().max().unwrap() - died);
        }
        times.sort();
        println!(
            "{count} nodes: last to notice, median {:?}, worst {:?}",
            times[times.len() / 2],
            times[times.len() - 1]
        );
        last.push(times[times.len() - 1]);
    }
    assert!(
        last.iter()
            .all(|&worst| worst <= Duration::from_millis(3500)),
        "{last:?}"
    );
}

#[test]
fn nobody_is_missed_while_all_are_there() {
    let mut cluster = Cluster::settled(12, 1);
    cluster.run(Duration::from_secs(300));
    assert_eq!(cluster.told, []);
}

#[test]
fn every_twentieth_datagram_may_get_lost() {
    let mut cluster = Cluster::settled(10, 2);
    cluster.loss = 0.05;
    cluster.run(Duration::from_secs(120));
    assert_eq!(cluster.told, []);
}

#[test]
fn a_node_that_restarts_fast_is_never_missed() {
    let mut cluster = Cluster::settled(5, 3);
    cluster.kill(4);
    cluster.run(Duration::from_millis(200));
    cluster.join(4, 2, 0);
    cluster.run(Duration::from_secs(10));
    assert!(cluster.agree_on(5));
    assert_eq!(cluster.told_of(&Output::Down(name(4))), []);
}

#[test]
fn a_node_that_restarts_late_is_up_again_at_once() {
    let mut cluster = Cluster::settled(5, 4);
    cluster.kill(4);
    cluster.run(Duration::from_secs(10));
    cluster.join(4, 2, 0);
    cluster.run(Duration::from_secs(1));
    assert!(cluster.agree_on(5));
}

#[test]
fn a_restart_with_a_clock_that_was_set_back_works_too() {
    for wait in [200, 10_000] {
        let mut cluster = Cluster::settled(5, 5);
        cluster.kill(3);
        cluster.join(3, 1_700_000_000_000, 0);
        cluster.run(Duration::from_secs(3));
        cluster.kill(3);
        cluster.run(Duration::from_millis(wait));
        cluster.join(3, 1_600_000_000_000, 0);
        cluster.run(Duration::from_secs(10));
        assert!(cluster.agree_on(5), "restarted after {wait} ms");
    }
}

#[test]
fn a_farewell_is_known_to_all_within_a_second() {
    let mut cluster = Cluster::settled(20, 6);
    let leaving = addr(7);
    let now = cluster.now;
    cluster.nodes.get_mut(&leaving).unwrap().leave(now).unwrap();
    cluster.collect(leaving);
    cluster.run(Duration::from_millis(5));
    cluster.kill(7);
    cluster.run(Duration::from_secs(1));
    assert!(cluster.agree_on(19));
    assert_eq!(cluster.told.len(), 19, "only the one that left is missed");
}

#[test]
fn a_node_that_was_cut_off_is_back_soon_after_and_shakes_nobody() {
    for seed in 0..4 {
        for cut_off_for in [
            300, 500, 700, 900, 1000, 1100, 1300, 1500, 1700, 2000, 3000, 20_000,
        ] {
            let mut cluster = Cluster::settled(6, seed);
            cluster.cut_off.insert(addr(5));
            cluster.run(Duration::from_millis(cut_off_for));
            if cut_off_for == 20_000 {
                assert_eq!(cluster.node(5).names().len(), 1, "it sees nobody");
                assert!((0..5).all(|number| cluster.node(number).names().len() == 5));
            }
            cluster.cut_off.clear();
            let back = cluster.now - cluster.start;
            cluster.run(Duration::from_secs(15));
            assert!(
                cluster.agree_on(6),
                "cut off for {cut_off_for} ms, seed {seed}"
            );
            // The node itself may just be finishing what it has suspected; the others miss nobody but that node.
            let shaken: Vec<_> = cluster
                .told
                .iter()
                .filter(|(at, by, told)| {
                    *at > back
                        && *by != addr(5)
                        && matches!(told, Output::Down(of) if *of != name(5))
                })
                .collect();
            assert!(
                shaken.is_empty(),
                "cut off for {cut_off_for} ms, seed {seed}: {shaken:?}"
            );
        }
    }
}

#[test]
fn a_node_that_hears_but_is_not_heard_shakes_nobody_when_it_is_back() {
    let mut cluster = Cluster::settled(6, 12);
    cluster.mute = Some(addr(5));
    cluster.run(Duration::from_secs(10));
    cluster.mute = None;
    cluster.told.clear();
    cluster.run(Duration::from_secs(15));
    assert!(cluster.agree_on(6));
    let down = |told: &Output| matches!(told, Output::Down(_));
    assert_eq!(
        cluster
            .told
            .iter()
            .filter(|(_, by, told)| *by != addr(5) && down(told))
            .count(),
        0
    );
}

#[test]
fn announcing_heals_a_full_partition() {
    let mut cluster = Cluster::settled(3, 8);
    cluster.cut_off.extend([addr(0), addr(1), addr(2)]);
    cluster.run(Duration::from_secs(20));
    assert!(cluster.agree_on(1));
    cluster.cut_off.clear();
    for number in 1..3 {
        let now = cluster.now;
        cluster
            .nodes
            .get_mut(&addr(number))
            .unwrap()
            .announce_to(now, addr(0))
            .unwrap();
        cluster.collect(addr(number));
    }
    cluster.run(Duration::from_secs(5));
    assert!(cluster.agree_on(3));
}

#[test]
fn another_secret_is_another_cluster() {
    let mut cluster = Cluster::new(1, 9);
    let stranger = Node::new("stranger", addr(1), 1);
    let mut stranger = Membership::new(
        stranger,
        Some(b"other"),
        [1; 32],
        Timing::default(),
        cluster.now,
    );
    stranger.announce_to(cluster.now, addr(0)).unwrap();
    let sent: Vec<_> = std::iter::from_fn(|| stranger.poll_output()).collect();
    let Output::Send { bytes, .. } = &sent[1] else {
        panic!("{sent:?}")
    };
    let now = cluster.now;
    let judged = cluster
        .nodes
        .get_mut(&addr(0))
        .unwrap()
        .handle_datagram(now, bytes);
    assert_eq!(judged, Err(DropReason::Authentication));
    assert!(cluster.agree_on(1));
}

#[test]
fn forged_members_do_not_grow_memory_without_end() {
    let mut cluster = Cluster::new(1, 10);
    let now = cluster.now;
    let target = cluster.nodes.get_mut(&addr(0)).unwrap();
    let most = 300;
    target.most_known = most;
    let mut refused = 0;
    for number in 1..most + 200 {
        let own = Node::new(name(number), addr(number), 1);
        let mut joining = Membership::new(own, Some(b"secret"), [7; 32], Timing::default(), now);
        joining.announce_to(now, addr(0)).unwrap();
        while let Some(output) = joining.poll_output() {
            if let Output::Send { bytes, .. } = output {
                refused +=
                    usize::from(target.handle_datagram(now, &bytes) == Err(DropReason::Full));
            }
        }
        while target.poll_output().is_some() {}
    }
    assert_eq!(target.names().len(), most + 1);
    assert!(refused >= 199);
}

proptest! {
    #[test]
    fn random_messages_never_panic(message in proptest::collection::vec(any::<u8>(), 0..300)) {
        let now = Cluster::new(0, 11).now;
        let mut datagram = vec![0];
        datagram.extend(message);
        let own = Node::new("own", addr(9), 1);
        let mut plain = Membership::new(own, None, [3; 32], Timing::default(), now);
        let _ = plain.handle_datagram(now, &datagram);
    }
}
