//! Everything that is remembered between two decisions, and the pools in it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferrolb_api::ObjectKey;
use ferrolb_rules::{Family, Pool};

use crate::holds::{Hold, Holds};
use crate::ledger::Entry;
use crate::pool_addresses::{PoolAddresses, number};
use crate::service::{Namespace, Namespaces};
use crate::waiting::Waiting;

/// Everything that is remembered between two decisions.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// By name.
    pub(crate) pools: Vec<PoolAddresses>,
    /// Family and first address of each range of a pool: its last address and the pool.
    owners: BTreeMap<(Family, u128), (u128, u32)>,
    /// Pools with a serviceAllocation, in the order in which they are tried.
    pub(crate) pinned: Vec<u32>,
    /// The other pools that give out addresses by themselves, by name.
    pub(crate) unpinned: Vec<u32>,
    pub(crate) namespaces: Namespaces,
    /// Pools that exist and are not in force.
    pub(crate) set_aside: BTreeSet<String>,
    pub(crate) ledger: BTreeMap<ObjectKey, Entry>,
    /// Namespace to pool to the number of distinct addresses that its Services hold of it.
    pub(crate) counts: BTreeMap<Box<str>, BTreeMap<u32, u32>>,
    pub(crate) holds: Holds,
    pub(crate) waiting: Waiting,
    /// When promises end that no version has ended before.
    pub(crate) promises: BTreeSet<(i64, ObjectKey)>,
    /// Milliseconds since the epoch.
    pub(crate) now: i64,
}

impl State {
    /// Puts other pools in force. Whatever a status records stays with its Service as long as it lies in a pool.
    pub(crate) fn set_pools(&mut self, pools: impl IntoIterator<Item = Pool>) {
        let uses: Vec<_> = std::mem::take(&mut self.pools)
            .into_iter()
            .flat_map(PoolAddresses::into_uses)
            .collect();
        self.pools = pools.into_iter().map(PoolAddresses::new).collect();
        self.pools
            .sort_by(|one, other| one.pool.name.cmp(&other.pool.name));
        self.owners.clear();
        let mut pinned = Vec::new();
        self.unpinned.clear();
        for (index, pool) in (0u32..).zip(&self.pools) {
            let pool = &pool.pool;
            for range in &pool.ranges {
                self.owners
                    .insert((range.family(), range.first()), (range.last(), index));
            }
            match (pool.auto_assign, &pool.service_allocation) {
                (false, _) => {}
                (true, Some(_)) => pinned.push((pool.order(), index)),
                (true, None) => self.unpinned.push(index),
            }
        }
        pinned.sort();
        self.pinned = pinned.into_iter().map(|(_, index)| index).collect();
        for (address, used) in uses {
            if let Some(pool) = self.offering_mut(address) {
                pool.adopt(address, used);
            }
        }
        let mut ledger = std::mem::take(&mut self.ledger);
        for (key, entry) in &mut ledger {
            let (held, lost) = std::mem::take(&mut entry.holds)
                .into_iter()
                .partition(|address| self.offering(*address).is_some());
            entry.holds = held;
            entry.lingers.extend::<Vec<_>>(lost);
            for address in &entry.lingers {
                if let Some(pool) = self.offering_mut(*address) {
                    pool.linger(*address, key);
                }
            }
        }
        self.ledger = ledger;
        self.count_all();
        let holds: Vec<Hold> = std::mem::take(&mut self.holds).all().collect();
        for hold in holds {
            self.restore_hold(hold);
        }
        self.waiting.clear();
    }

    fn count_all(&mut self) {
        self.counts.clear();
        let mut seen: BTreeMap<(&str, IpAddr), ()> = BTreeMap::new();
        let mut counts: BTreeMap<Box<str>, BTreeMap<u32, u32>> = BTreeMap::new();
        for (key, entry) in &self.ledger {
            for address in &entry.holds {
                let new = seen.insert((key.namespace(), *address), ()).is_none();
                if let (true, Some(pool)) = (new, self.owner(*address)) {
                    *counts
                        .entry(key.namespace().into())
                        .or_default()
                        .entry(pool)
                        .or_default() += 1;
                }
            }
        }
        self.counts = counts;
    }

    /// The labels and limit of a namespace; `None` where it is gone. Its Services must be decided again afterwards.
    pub(crate) fn set_namespace(&mut self, name: &str, namespace: Option<Namespace>) {
        match namespace {
            Some(namespace) => self.namespaces.insert(name.to_owned(), namespace),
            None => self.namespaces.remove(name),
        };
    }

    /// Lets time pass: addresses whose hold has ended are free.
    pub(crate) fn tick(&mut self, now: i64) {
        self.now = now;
        while let Some(address) = self.holds.pop_ended(now) {
            if let Some(index) = self.owner(address)
                && let Some(pool) = self.pool_mut(index)
            {
                pool.end_hold(address);
                self.came_free(index, address);
            }
        }
        while let Some((ends, key)) = self.promises.first().cloned()
            && ends <= now
        {
            self.promises.remove(&(ends, key.clone()));
            self.end_promise(&key);
        }
    }

    /// The next moment at which time alone changes something.
    pub(crate) fn next_end(&self) -> Option<i64> {
        let promises = self.promises.first().map(|(ends, _)| *ends);
        self.holds.first_end().into_iter().chain(promises).min()
    }

    /// Puts an address on hold as a former process did. Nothing where somebody uses it or no pool that holds has it.
    pub(crate) fn restore_hold(&mut self, hold: Hold) {
        let address = hold.address;
        let now = self.now;
        let Some(pool) = self.offering_mut(address) else {
            return;
        };
        if pool.used(address).is_some() || pool.pool.reuse_hold == 0 || hold.until <= now {
            return;
        }
        // A hold that was longer when it began is as long as the pool says now.
        let longest = now.saturating_add(i64::from(pool.pool.reuse_hold) * 1000);
        pool.put_on_hold(address);
        let until = hold.until.min(longest);
        self.holds.insert(Hold { until, ..hold });
    }

    /// The pool whose range has this address, be it left out or not.
    pub(crate) fn owner(&self, address: IpAddr) -> Option<u32> {
        let number = number(address);
        let family = Family::of(address);
        let (_, (last, pool)) = self
            .owners
            .range((family, 0)..=(family, number))
            .next_back()?;
        (number <= *last).then_some(*pool)
    }

    pub(crate) fn pool(&self, index: u32) -> Option<&PoolAddresses> {
        self.pools.get(index as usize)
    }

    pub(crate) fn pool_mut(&mut self, index: u32) -> Option<&mut PoolAddresses> {
        self.pools.get_mut(index as usize)
    }

    /// The pool of this name.
    pub(crate) fn named(&self, name: &str) -> Option<u32> {
        let index = self
            .pools
            .binary_search_by(|pool| pool.pool.name.as_str().cmp(name))
            .ok()?;
        u32::try_from(index).ok()
    }

    /// The pool that may give this address.
    pub(crate) fn offering(&self, address: IpAddr) -> Option<u32> {
        let index = self.owner(address)?;
        self.pool(index)?.offers(address).then_some(index)
    }

    fn offering_mut(&mut self, address: IpAddr) -> Option<&mut PoolAddresses> {
        let index = self.offering(address)?;
        self.pool_mut(index)
    }

    /// The one pool that may give all of these.
    pub(crate) fn pool_of(&self, addresses: &[IpAddr]) -> Option<u32> {
        let (first, others) = addresses.split_first()?;
        let pool = self.offering(*first)?;
        others
            .iter()
            .all(|other| self.offering(*other) == Some(pool))
            .then_some(pool)
    }

    /// How many distinct addresses the Services of a namespace hold: of this pool, and of all.
    pub(crate) fn counted(&self, namespace: &str, pool: u32) -> (u32, u32) {
        let Some(counts) = self.counts.get(namespace) else {
            return (0, 0);
        };
        let of_pool = counts.get(&pool).copied().unwrap_or_default();
        (of_pool, counts.values().sum())
    }
}
