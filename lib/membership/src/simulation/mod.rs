//! Many machines over a simulated network with a simulated clock.

mod bounds;
mod detection;
mod epochs;
mod farewell;
mod faults;
mod hearing;
mod macs;
mod secrets;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::seq::IteratorRandom;
use rand::{RngExt, SeedableRng};

use crate::{DropReason, LONGEST_DATAGRAM, Membership, Node, Output, Timing};

const SECRET: &[u8] = b"secret";
/// What waits in the socket of a stopped process: the default receive buffer holds about this many small datagrams.
const MAILBOX: usize = 256;
/// As the speaker does it: so many missing members are asked per round, and so long is the pause between rounds.
const SEEDS_AT_A_TIME: usize = 16;
const ROUND_MILLISECONDS: std::ops::Range<u64> = 2000..4000;

enum Event {
    Arrive(SocketAddr, Vec<u8>),
    Wake(SocketAddr),
    /// The node of this life asks the speakers that it misses.
    Round(SocketAddr, u64),
}

struct Machine {
    membership: Membership,
    /// Tells the machines at one address apart.
    life: u64,
    /// For when a wake-up is in the queue.
    wakes: Option<Instant>,
    /// What arrived while it was stopped.
    stopped: Option<Vec<Vec<u8>>>,
}

/// What happened, when, at which node.
type Told = (Duration, SocketAddr, Output);

struct Cluster {
    start: Instant,
    now: Instant,
    machines: BTreeMap<SocketAddr, Machine>,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    events: BTreeMap<u64, Event>,
    ordered: u64,
    rng: SmallRng,
    secret: Option<&'static [u8]>,
    /// A node that speaks as the version without hardware addresses does. Only where nothing is sealed.
    before: Option<usize>,
    /// Speakers that the API server lists.
    listed: usize,
    /// Share of datagrams that get lost.
    loss: f64,
    /// Whether no datagram gets from the one to the other.
    cut: Box<dyn Fn(usize, usize) -> bool>,
    told: Vec<Told>,
    dropped: BTreeMap<DropReason, usize>,
    /// Datagrams and bytes that were sent.
    sent: (usize, usize),
    /// All that was on the wire, if it is to be kept.
    recorded: Option<Vec<(SocketAddr, Vec<u8>)>>,
}

fn addr(number: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 7946))
}

fn number(addr: SocketAddr) -> usize {
    match addr {
        SocketAddr::V4(addr) => {
            let [.., high, low] = addr.ip().octets();
            usize::from(high) << 8 | usize::from(low)
        }
        SocketAddr::V6(_) => unreachable!("all have IPv4 addresses"),
    }
}

fn name(number: usize) -> String {
    format!("node-{number}")
}

fn milliseconds(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

/// The middle one and the last.
fn median_and_worst(times: &mut [Duration]) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() - 1])
}

impl Cluster {
    fn empty(seed: u64) -> Self {
        #[allow(
            clippy::disallowed_methods,
            reason = "an arbitrary origin; the clock is simulated from here on"
        )]
        let start = Instant::now();
        Self {
            start,
            now: start,
            machines: BTreeMap::new(),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            ordered: 0,
            rng: SmallRng::seed_from_u64(seed),
            secret: Some(SECRET),
            before: None,
            listed: 0,
            loss: 0.0,
            cut: Box::new(|_, _| false),
            told: Vec::new(),
            dropped: BTreeMap::new(),
            sent: (0, 0),
            recorded: None,
        }
    }

    /// `count` nodes that start at once.
    fn new(count: usize, seed: u64) -> Self {
        let mut cluster = Self::empty(seed);
        cluster.listed = count;
        (0..count).for_each(|number| cluster.join(number, 1));
        cluster
    }

    /// A cluster in which everyone has seen everyone.
    fn settled(count: usize, seed: u64) -> Self {
        let mut cluster = Self::new(count, seed);
        cluster.until(seconds(60), |cluster| {
            cluster.agree_on(count)
                && cluster
                    .machines
                    .values()
                    .all(|machine| machine.membership.heard_all())
        });
        cluster.run(seconds(2));
        cluster.told.clear();
        cluster.dropped.clear();
        cluster
    }

    fn join(&mut self, number: usize, generation: u64) {
        let own = Node::new(name(number), addr(number), generation);
        let random = self.rng.random();
        let membership = Membership::new(own, self.secret, random, Timing::default(), self.now);
        self.ordered += 1;
        let life = self.ordered;
        let machine = Machine {
            membership,
            life,
            wakes: None,
            stopped: None,
        };
        self.machines.insert(addr(number), machine);
        self.push(self.now, Event::Round(addr(number), life));
        self.collect(addr(number));
    }

    /// The process is gone without a word.
    fn kill(&mut self, number: usize) {
        self.machines.remove(&addr(number)).unwrap();
    }

    /// SIGSTOP.
    fn stop(&mut self, number: usize) {
        self.machines.get_mut(&addr(number)).unwrap().stopped = Some(Vec::new());
    }

    /// SIGCONT.
    fn go_on(&mut self, number: usize) {
        let machine = self.machines.get_mut(&addr(number)).unwrap();
        let mailbox = machine.stopped.take().unwrap();
        for datagram in mailbox {
            self.receive(addr(number), &datagram);
        }
        self.tick(addr(number));
    }

    fn node(&self, number: usize) -> &Membership {
        &self.machines[&addr(number)].membership
    }

    /// Does something to one node at the present time.
    fn with<T>(&mut self, number: usize, act: impl FnOnce(&mut Membership, Instant) -> T) -> T {
        let machine = self.machines.get_mut(&addr(number)).unwrap();
        let result = act(&mut machine.membership, self.now);
        self.collect(addr(number));
        result
    }

    /// Whether all see exactly so many.
    fn agree_on(&self, count: usize) -> bool {
        self.machines
            .values()
            .all(|machine| machine.membership.names().len() == count)
    }

    fn push(&mut self, at: Instant, event: Event) {
        self.ordered += 1;
        self.queue.push(Reverse((at, self.ordered)));
        self.events.insert(self.ordered, event);
    }

    fn collect(&mut self, from: SocketAddr) {
        let Some(machine) = self.machines.get_mut(&from) else {
            return;
        };
        let mut outputs = Vec::new();
        outputs.extend(std::iter::from_fn(|| machine.membership.poll_output()));
        let deadline = machine.membership.deadline();
        if machine.wakes.is_none_or(|wakes| deadline < wakes) {
            machine.wakes = Some(deadline);
            self.push(deadline, Event::Wake(from));
        }
        for output in outputs {
            let Output::Send { to, bytes } = output else {
                self.told.push((self.now - self.start, from, output));
                continue;
            };
            let Some(bytes) = self.translate(from, bytes) else {
                continue;
            };
            assert!(bytes.len() <= LONGEST_DATAGRAM);
            self.sent = (self.sent.0 + 1, self.sent.1 + bytes.len());
            if let Some(recorded) = &mut self.recorded {
                recorded.push((to, bytes.clone()));
            }
            if !(self.cut)(number(from), number(to)) && !self.rng.random_bool(self.loss) {
                let latency = Duration::from_micros(self.rng.random_range(100..2000));
                self.push(self.now + latency, Event::Arrive(to, bytes));
            }
        }
    }

    fn receive(&mut self, to: SocketAddr, datagram: &[u8]) {
        let Some(machine) = self.machines.get_mut(&to) else {
            return;
        };
        if let Some(mailbox) = &mut machine.stopped {
            if mailbox.len() < MAILBOX {
                mailbox.push(datagram.to_vec());
            }
            return;
        }
        if let Err(reason) = machine.membership.handle_datagram(self.now, datagram) {
            *self.dropped.entry(reason).or_default() += 1;
        }
        self.collect(to);
    }

    fn tick(&mut self, addr: SocketAddr) {
        let machine = self.machines.get_mut(&addr).unwrap();
        machine.wakes = None;
        if machine.stopped.is_none() {
            if machine.membership.deadline() <= self.now {
                machine.membership.tick(self.now).unwrap();
            }
            self.collect(addr);
        }
    }

    fn ask_seeds(&mut self, addr: SocketAddr, life: u64) {
        let machine = self.machines.get_mut(&addr);
        let Some(machine) = machine.filter(|machine| machine.life == life) else {
            return;
        };
        if machine.stopped.is_none() {
            let known: BTreeSet<_> = machine.membership.addresses().chain([addr]).collect();
            let missing = (0..self.listed)
                .map(self::addr)
                .filter(|addr| !known.contains(addr));
            for seed in missing.sample(&mut self.rng, SEEDS_AT_A_TIME) {
                machine.membership.announce_to(self.now, seed).unwrap();
            }
            machine.membership.expect_answers(self.now);
            self.collect(addr);
        }
        let pause = milliseconds(self.rng.random_range(ROUND_MILLISECONDS));
        self.push(self.now + pause, Event::Round(addr, life));
    }

    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(&Reverse((at, order))) = self.queue.peek()
            && at <= end
        {
            self.queue.pop();
            self.now = self.now.max(at);
            match self.events.remove(&order).unwrap() {
                Event::Arrive(to, datagram) => {
                    if let Some(datagram) = self.translate(to, datagram) {
                        self.receive(to, &datagram);
                    }
                }
                Event::Wake(addr) => {
                    if self.machines.contains_key(&addr) {
                        self.tick(addr);
                    }
                }
                Event::Round(addr, life) => self.ask_seeds(addr, life),
            }
        }
        self.now = end;
    }

    /// Runs until `condition` holds and says how long that took.
    fn until(&mut self, at_most: Duration, condition: impl Fn(&Self) -> bool) -> Duration {
        let since = self.now;
        while !condition(self) {
            assert!(self.now - since < at_most, "not within {at_most:?}");
            self.run(milliseconds(10));
        }
        self.now - since
    }

    fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    fn told_of(&self, output: &Output) -> Vec<Duration> {
        self.told
            .iter()
            .filter(|(_, _, told)| told == output)
            .map(|(at, ..)| *at)
            .collect()
    }

    /// Who was declared down, by whom.
    fn downs(&self) -> Vec<(usize, &str)> {
        self.told
            .iter()
            .filter_map(|(_, by, told)| match told {
                Output::Down(name) => Some((number(*by), name.as_str())),
                _ => None,
            })
            .collect()
    }
}
