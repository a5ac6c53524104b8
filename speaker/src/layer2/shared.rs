//! What the parts of layer 2 share: which addresses are ours, and how we stand to each.
//!
//! [`Ownership`] decides, under a lock that is taken for changes, timers and claims. What the answering tasks read, per
//! frame, lies beside it in a map that is only written when a standing changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use ferrolb_announcement::Interfaces;
use ferrolb_neighbor::{Before, Claim, Claimant, Effect, MacAddr, Ownership, Standing, Terms};
use tokio::sync::Notify;

use super::metrics::Figures;

/// A process that did not run for this long must not answer from what it knew before: another node may have taken over.
/// Below the time in which the others declare a node down, so that there are never two owners.
pub(super) const LEASE: Duration = Duration::from_millis(1000);

/// How an address is announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// On which interfaces.
    pub interfaces: Interfaces,
    /// How often it is refreshed, and what happens if another station has it.
    pub terms: Terms,
}

/// What shall become of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// This node announces it.
    Announce(Announcement, Before),
    /// Another node does now.
    HandOver,
    /// Nobody does any more.
    Withdraw,
}

/// An address as the answering tasks see it.
pub(super) struct Entry {
    pub(super) interfaces: Interfaces,
    pub(super) standing: Standing,
    pub(super) figures: Figures,
}

pub(super) type Entries = BTreeMap<IpAddr, Entry>;

/// Another station that has an address of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The station.
    pub mac: MacAddr,
    /// Whether we do not announce the address for this.
    pub withheld: bool,
}

pub(super) struct Shared {
    entries: RwLock<Entries>,
    machine: Mutex<Machine>,
    /// The hardware addresses of our own interfaces: one hears what another says on the same segment.
    own: RwLock<BTreeSet<MacAddr>>,
    /// Those of the other nodes of the cluster, as far as they are known.
    nodes: RwLock<Arc<BTreeSet<MacAddr>>>,
    /// Woken when there is something for the loop.
    pub(super) notify: Notify,
    /// Woken when no address is ours any more.
    empty: Notify,
    started: Instant,
    /// Milliseconds since `started` until which this process may answer, see [`LEASE`].
    awake_until: AtomicU64,
    /// No other node of the cluster is heard although there should be some.
    alone: AtomicBool,
    /// The lease ran out, and nobody has said yet that all is well.
    suspended: AtomicBool,
}

#[derive(Default)]
struct Machine {
    ownership: Ownership,
    /// Addresses whose entry changed since the loop last looked.
    changed: BTreeSet<IpAddr>,
    /// What the loop has to do.
    outbox: VecDeque<Effect>,
}

/// What there is to do for the loop.
#[derive(Default)]
pub(super) struct Todo {
    pub(super) changed: BTreeSet<IpAddr>,
    pub(super) effects: VecDeque<Effect>,
    pub(super) deadline: Option<Instant>,
}

impl Shared {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            entries: RwLock::default(),
            machine: Mutex::new(Machine {
                ownership: Ownership::new(seed),
                ..Machine::default()
            }),
            own: RwLock::default(),
            nodes: RwLock::default(),
            notify: Notify::new(),
            empty: Notify::new(),
            started: Instant::now(),
            awake_until: AtomicU64::new(LEASE.as_millis() as u64),
            alone: AtomicBool::new(false),
            suspended: AtomicBool::new(false),
        }
    }

    /// The addresses. Hold it for one look only: changes wait meanwhile.
    pub(super) fn entries(&self) -> RwLockReadGuard<'_, Entries> {
        // Nothing panics while it holds the lock, and the map would be whole even then.
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out wishes. When this returns, addresses that are gone are no longer answered for, and ones that are taken
    /// over are.
    pub(super) fn change(&self, wishes: impl IntoIterator<Item = (IpAddr, Wish)>) {
        let now = Instant::now();
        self.with(|machine, entries| {
            for (ip, wish) in wishes {
                match wish {
                    Wish::Announce(Announcement { interfaces, terms }, before) => {
                        let known = entries.get_mut(&ip);
                        let reaches_beyond = known
                            .as_ref()
                            .is_some_and(|entry| interfaces.reach_beyond(&entry.interfaces));
                        match known {
                            Some(entry) => entry.interfaces = interfaces,
                            None => {
                                let entry = Entry {
                                    interfaces,
                                    standing: Standing::Watched,
                                    figures: Figures::default(),
                                };
                                entries.insert(ip, entry);
                            }
                        }
                        machine.changed.insert(ip);
                        machine.ownership.announce(ip, terms, before, now);
                        if reaches_beyond {
                            machine.ownership.announce_again(ip, now);
                        }
                    }
                    Wish::HandOver => machine.ownership.hand_over(ip, now),
                    Wish::Withdraw => machine.ownership.withdraw(ip),
                }
            }
        });
    }

    /// Takes in that another station claims an address. Our own interfaces are none.
    pub(super) fn claimed(&self, claim: Claim) {
        let Claim { ip, mac } = claim;
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        if own.contains(&mac) {
            return;
        }
        drop(own);
        let nodes = self.nodes();
        // Who has never heard of any node's interfaces and is alone cannot tell, and two nodes of a cluster are likelier.
        let is_node = nodes.contains(&mac) || (nodes.is_empty() && self.is_alone());
        let by = if is_node {
            Claimant::Node
        } else {
            Claimant::Stranger
        };
        self.update(|ownership, now| ownership.claimed(ip, mac, by, now));
    }

    /// A question for an address has left.
    pub(super) fn asked(&self, ip: IpAddr) {
        self.update(|ownership, now| ownership.asked(ip, now));
    }

    pub(super) fn set_nodes(&self, nodes: Arc<BTreeSet<MacAddr>>) {
        *self.nodes.write().unwrap_or_else(PoisonError::into_inner) = nodes;
    }

    /// The hardware addresses of the other nodes' interfaces.
    pub(super) fn nodes(&self) -> Arc<BTreeSet<MacAddr>> {
        Arc::clone(&self.nodes.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes what is ours, carries standings over to the entries, and leaves the rest to the loop. What changes nothing
    /// disturbs nobody, since whoever sends claims can have this called very often.
    pub(super) fn update(&self, change: impl FnOnce(&mut Ownership, Instant)) {
        let now = Instant::now();
        let mut machine = self.lock_machine();
        let deadline = machine.ownership.deadline();
        change(&mut machine.ownership, now);
        if machine.ownership.has_effects() {
            let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
            self.settle(&mut machine, &mut entries);
        } else if machine.ownership.deadline() == deadline {
            return;
        }
        drop(machine);
        self.notify.notify_one();
    }

    /// Lays the addresses out anew, in less room.
    pub(super) fn repack(&self) {
        self.with(|machine, entries| {
            machine.ownership.repack();
            *entries = std::mem::take(entries).into_iter().collect();
        });
    }

    fn with(&self, change: impl FnOnce(&mut Machine, &mut Entries)) {
        let mut machine = self.lock_machine();
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut machine, &mut entries);
        self.settle(&mut machine, &mut entries);
        drop((entries, machine));
        self.notify.notify_one();
    }

    fn settle(&self, machine: &mut Machine, entries: &mut Entries) {
        while let Some(effect) = machine.ownership.poll_effect() {
            let Effect::Standing(ip) = effect else {
                machine.outbox.push_back(effect);
                continue;
            };
            match machine.ownership.standing(ip) {
                Some(standing) => {
                    if let Some(entry) = entries.get_mut(&ip) {
                        entry.standing = standing;
                    }
                }
                None => drop(entries.remove(&ip)),
            }
            machine.changed.insert(ip);
        }
        if entries.is_empty() {
            self.empty.notify_waiters();
        }
    }

    fn lock_machine(&self) -> std::sync::MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no address is ours.
    pub(super) async fn emptied(&self) {
        loop {
            let empty = self.empty.notified();
            if self.entries().is_empty() {
                return;
            }
            empty.await;
        }
    }

    /// Runs what is due and takes what there is to do.
    pub(super) fn take(&self) -> Todo {
        let now = Instant::now();
        let due = |machine: &Machine| machine.ownership.deadline().is_some_and(|at| at <= now);
        if due(&self.lock_machine()) {
            self.with(|machine, _| machine.ownership.tick(now));
        }
        let mut machine = self.lock_machine();
        Todo {
            changed: std::mem::take(&mut machine.changed),
            effects: std::mem::take(&mut machine.outbox),
            deadline: machine.ownership.deadline(),
        }
    }

    pub(super) fn set_own(&self, own: BTreeSet<MacAddr>) {
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = own;
    }

    /// Whether this process may answer and announce now.
    pub(super) fn is_awake(&self) -> bool {
        !self.suspended.load(Ordering::Relaxed)
            && self.since_start() < self.awake_until.load(Ordering::Relaxed)
    }

    /// Prolongs the lease. False once it has run out: nothing is answered from then on until [`Self::resume`].
    pub(super) fn keep_awake(&self) -> bool {
        let now = self.since_start();
        if now >= self.awake_until.load(Ordering::Relaxed) {
            self.suspended.store(true, Ordering::Relaxed);
        }
        let until = now + LEASE.as_millis() as u64;
        self.awake_until.store(until, Ordering::Relaxed);
        !self.suspended.load(Ordering::Relaxed)
    }

    pub(super) fn set_alone(&self, alone: bool) {
        if self.alone.swap(alone, Ordering::Relaxed) == alone {
            return;
        }
        self.update(|ownership, now| ownership.set_alone(alone, now));
        self.notify.notify_one();
    }

    pub(super) fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Relaxed)
    }

    /// What we know may be wrong.
    pub(super) fn suspend(&self) {
        self.suspended.store(true, Ordering::Relaxed);
    }

    /// What we know is right again.
    pub(super) fn resume(&self) {
        self.suspended.store(false, Ordering::Relaxed);
    }

    fn since_start(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip() -> IpAddr {
        "192.0.2.1".parse().unwrap()
    }

    fn announce(names: &[&str]) -> Wish {
        let interfaces = Interfaces::Only(names.iter().map(ToString::to_string).collect());
        let terms = Terms::default();
        Wish::Announce(Announcement { interfaces, terms }, Before::TheCluster)
    }

    fn standing(shared: &Shared) -> Option<Standing> {
        shared.entries().get(&ip()).map(|entry| entry.standing)
    }

    #[test]
    fn a_takeover_is_answered_for_at_once_and_a_withdrawal_no_more() {
        let shared = Shared::new(1);
        shared.change([(ip(), announce(&["eth0"]))]);
        assert_eq!(standing(&shared), Some(Standing::Held));
        let todo = shared.take();
        assert_eq!(todo.changed, [ip()].into());
        assert_eq!(todo.effects, [Effect::Announce(ip())]);
        shared.change([(ip(), Wish::Withdraw)]);
        assert_eq!(standing(&shared), None);
        let todo = shared.take();
        assert_eq!((todo.changed, todo.deadline), ([ip()].into(), None));
    }

    #[test]
    fn more_interfaces_are_told_at_once_and_fewer_are_not() {
        let shared = Shared::new(1);
        shared.change([(ip(), announce(&["eth0", "eth1"]))]);
        shared.take();
        shared.change([(ip(), announce(&["eth0"]))]);
        assert!(shared.take().effects.is_empty());
        shared.change([(ip(), announce(&["eth0", "eth2"]))]);
        // A stranger may have it there.
        let expected = [Effect::Probe(ip()), Effect::Announce(ip())];
        assert_eq!(shared.take().effects, expected);
    }

    #[test]
    fn an_address_that_is_handed_over_is_answered_for_until_the_other_nodes_claim() {
        let shared = Shared::new(1);
        let (ours, theirs) = (MacAddr(2, 0, 0, 0, 0, 1), MacAddr(2, 0, 0, 0, 0, 2));
        shared.set_own([ours].into());
        shared.change([(ip(), announce(&["eth0"]))]);
        shared.change([(ip(), Wish::HandOver)]);
        shared.claimed(Claim {
            ip: ip(),
            mac: ours,
        });
        assert_eq!(standing(&shared), Some(Standing::Held));
        shared.claimed(Claim {
            ip: ip(),
            mac: theirs,
        });
        assert_eq!(standing(&shared), None);
    }

    #[test]
    fn what_a_node_of_the_cluster_claims_is_no_conflict() {
        let shared = Shared::new(1);
        let (node, stranger) = (MacAddr(2, 0, 0, 0, 0, 2), MacAddr(2, 0, 0, 0, 0, 3));
        shared.set_nodes(Arc::new([node].into()));
        shared.change([(ip(), announce(&["eth0"]))]);
        let claim = |mac| shared.claimed(Claim { ip: ip(), mac });
        shared.set_alone(true);
        claim(stranger);
        assert_eq!(standing(&shared), Some(Standing::Held), "told, not left");
        claim(node);
        assert_eq!(standing(&shared), Some(Standing::Watched));
        // Alone, and no node was ever heard of.
        let shared = Shared::new(1);
        shared.change([(ip(), announce(&["eth0"]))]);
        shared.set_alone(true);
        shared.claimed(Claim {
            ip: ip(),
            mac: stranger,
        });
        assert_eq!(standing(&shared), Some(Standing::Watched));
    }

    #[test]
    fn a_process_whose_lease_ran_out_answers_only_after_it_was_resumed() {
        let shared = Shared::new(1);
        assert!(shared.is_awake() && shared.keep_awake());
        shared.awake_until.store(0, Ordering::Relaxed);
        assert!(!shared.is_awake());
        assert!(!shared.keep_awake() && !shared.keep_awake());
        assert!(!shared.is_awake());
        shared.resume();
        assert!(shared.keep_awake() && shared.is_awake());
    }
}
