//! Who has which address: pools, the ledger of Services, holds, and who waits.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferrolb_api::ObjectKey;
use ferrolb_rules::{Family, Pool};

use crate::holds::{Hold, Holds};
use crate::pool_addresses::{Left, PoolAddresses, number};
use crate::service::{Namespace, Namespaces, Service};
use crate::waiting::{Need, Wait, Waiting};

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
    ledger: BTreeMap<ObjectKey, Entry>,
    /// Namespace to pool to the number of distinct addresses that its Services hold of it.
    counts: BTreeMap<Box<str>, BTreeMap<u32, u32>>,
    pub(crate) holds: Holds,
    pub(crate) waiting: Waiting,
    /// When promises end that no version has ended before.
    promises: BTreeSet<(i64, ObjectKey)>,
    /// Milliseconds since the epoch.
    pub(crate) now: i64,
}

/// What is known of one Service.
#[derive(Clone, Debug, Default)]
struct Entry {
    created: i64,
    /// What it shall have.
    holds: Vec<IpAddr>,
    /// What its status may record besides.
    lingers: Vec<IpAddr>,
    /// What a write that was sent and is not seen yet may put into its status.
    promise: Option<Box<Promise>>,
}

/// Addresses in status writes that were sent. A write names the version of the Service that it was decided on, so once
/// another version is seen the write is either part of it or never comes.
#[derive(Clone, Debug)]
struct Promise {
    version: Box<str>,
    addresses: Vec<IpAddr>,
    /// From then on it does not come any more even if nobody ever answered, in milliseconds since the epoch.
    ends: i64,
}

/// How long after it was sent a write may still take effect: the API server ends a request after 60 seconds by default.
const WRITE_ENDS_AFTER: i64 = 120_000;

impl Entry {
    /// What writes for this version may still bring.
    fn promised(&self, version: &str) -> &[IpAddr] {
        match &self.promise {
            Some(promise) if *promise.version == *version => &promise.addresses,
            _ => &[],
        }
    }
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
            self.withdraw_promise(&key, None);
        }
    }

    /// The next moment at which time alone changes something.
    pub(crate) fn next_end(&self) -> Option<i64> {
        let promises = self.promises.first().map(|(ends, _)| *ends);
        self.holds.first_end().into_iter().chain(promises).min()
    }

    /// A status write for this version was sent: its addresses may be recorded at any moment.
    pub(crate) fn sent(&mut self, key: &ObjectKey, version: &str, addresses: &[IpAddr]) {
        let Some(entry) = self.ledger.get_mut(key) else {
            return;
        };
        let mut all = entry.promised(version).to_vec();
        all.extend(
            addresses
                .iter()
                .copied()
                .filter(|a| !all.contains(a))
                .collect::<Vec<_>>(),
        );
        let ends = self.now.saturating_add(WRITE_ENDS_AFTER);
        let promise = Promise {
            version: version.into(),
            addresses: all,
            ends,
        };
        if let Some(before) = entry.promise.replace(Box::new(promise)) {
            self.promises.remove(&(before.ends, key.clone()));
        }
        self.promises.insert((ends, key.clone()));
    }

    /// No write for this version (or any) takes effect any more. The Service is looked at again.
    pub(crate) fn withdraw_promise(&mut self, key: &ObjectKey, version: Option<&str>) {
        let Some(entry) = self.ledger.get_mut(key) else {
            return;
        };
        let promise = entry
            .promise
            .take_if(|promise| version.is_none_or(|version| *promise.version == *version));
        if let Some(promise) = promise {
            self.promises.remove(&(promise.ends, key.clone()));
            self.waiting.look_at(entry.created, key);
        }
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

    /// The addresses that a Service shall have.
    pub(crate) fn held_by(&self, key: &ObjectKey) -> &[IpAddr] {
        self.ledger
            .get(key)
            .map_or(&[], |entry| entry.holds.as_slice())
    }

    /// What the status of `service` records, or may come to record by a write that is not seen yet.
    pub(crate) fn recorded(&self, service: &Service, version: &str) -> Vec<IpAddr> {
        let promised = self
            .ledger
            .get(&service.key)
            .map_or(&[][..], |entry| entry.promised(version));
        service.current.iter().chain(promised).copied().collect()
    }

    /// Every Service that has, had or waits for an address.
    pub(crate) fn known(&self) -> impl Iterator<Item = &ObjectKey> {
        self.ledger.keys()
    }

    /// Records that `service` shall have exactly `addresses`. What its status may still record besides stays taken until
    /// it is seen not to.
    pub(crate) fn settle(&mut self, service: &Service, version: &str, addresses: &[IpAddr]) {
        let recorded = self.recorded(service, version);
        let key = &service.key;
        let mut entry = self.ledger.remove(key).unwrap_or_default();
        let before: Vec<IpAddr> = entry.holds.iter().chain(&entry.lingers).copied().collect();
        let mut lingers: Vec<IpAddr> = Vec::new();
        for address in before.iter().chain(&recorded) {
            if addresses.contains(address) || lingers.contains(address) {
                continue;
            }
            if recorded.contains(address) {
                lingers.push(*address);
                self.end_holding(*address, key, true);
            } else {
                self.end_holding(*address, key, false);
            }
        }
        for address in addresses {
            self.begin_holding(*address, service);
        }
        if let Some(over) = entry
            .promise
            .take_if(|promise| *promise.version != *version)
        {
            self.promises.remove(&(over.ends, key.clone()));
        }
        entry.created = service.created;
        entry.holds = addresses.to_vec();
        entry.lingers = lingers;
        self.ledger.insert(key.clone(), entry);
    }

    fn begin_holding(&mut self, address: IpAddr, service: &Service) {
        let Some(index) = self.offering(address) else {
            return;
        };
        if self.holds.remove(address)
            && let Some(pool) = self.pool_mut(index)
        {
            pool.end_hold(address);
        }
        let Some(pool) = self.pool_mut(index) else {
            return;
        };
        let namespace = service.key.namespace();
        let first = !pool
            .used(address)
            .is_some_and(|used| used.is_held_in(namespace));
        if pool.hold(address, service) {
            self.shared_changed(index, address, &service.sharing_key);
        }
        if first {
            *self
                .counts
                .entry(namespace.into())
                .or_default()
                .entry(index)
                .or_default() += 1;
        }
    }

    /// `key` has this address no more; `lingers` says that its status may still record it.
    fn end_holding(&mut self, address: IpAddr, key: &ObjectKey, lingers: bool) {
        let Some(index) = self.offering(address) else {
            return;
        };
        let Some(pool) = self.pool_mut(index) else {
            return;
        };
        let used = pool.used(address);
        let held = used.is_some_and(|used| used.is_held_by(key));
        let sharing_key = used.map(|used| used.sharing_key().to_owned());
        let reuse_hold = pool.pool.reuse_hold;
        let left = if lingers {
            if pool.linger(address, key) {
                Left::Others
            } else {
                Left::Nothing
            }
        } else {
            pool.leave(address, key)
        };
        let in_namespace = pool
            .used(address)
            .is_some_and(|used| used.is_held_in(key.namespace()));
        if held && !in_namespace {
            self.uncount(key.namespace(), index);
        }
        match left {
            Left::Nothing => {}
            Left::Others => {
                self.shared_changed(index, address, &sharing_key.unwrap_or_default());
            }
            Left::Nobody if reuse_hold > 0 => {
                let until = self.now.saturating_add(i64::from(reuse_hold) * 1000);
                if let Some(pool) = self.pool_mut(index) {
                    pool.put_on_hold(address);
                }
                let former = Some(key.clone());
                self.holds.insert(Hold {
                    address,
                    until,
                    former,
                });
                self.waiting.stir(Wait::Address(address));
            }
            Left::Nobody => {
                if let Some(pool) = self.pool_mut(index) {
                    pool.give_back(address);
                }
                self.came_free(index, address);
            }
        }
    }

    fn uncount(&mut self, namespace: &str, pool: u32) {
        if let Some(counts) = self.counts.get_mut(namespace) {
            if let Some(count) = counts.get_mut(&pool) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    counts.remove(&pool);
                }
            }
            if counts.is_empty() {
                self.counts.remove(namespace);
            }
        }
        for need in Need::ALL {
            self.waiting.stir(Wait::Limit(namespace.into(), need));
        }
    }

    fn came_free(&mut self, pool: u32, address: IpAddr) {
        for need in Need::helped_by(Family::of(address)) {
            self.waiting.stir(Wait::Pool(pool, need));
        }
        self.waiting.stir(Wait::Address(address));
    }

    fn shared_changed(&mut self, pool: u32, address: IpAddr, before: &str) {
        self.waiting.stir(Wait::Address(address));
        let after = self
            .pool(pool)
            .and_then(|pool| pool.used(address))
            .map(|used| used.sharing_key().to_owned())
            .unwrap_or_default();
        for key in [before, after.as_str()] {
            if !key.is_empty() {
                self.waiting.stir(Wait::Sharing(key.into()));
            }
        }
    }

    /// Takes an address from a Service that loses it to another's older claim. It will be looked at again.
    pub(crate) fn evict(&mut self, address: IpAddr, created: i64, key: &ObjectKey) {
        if let Some(entry) = self.ledger.get_mut(key) {
            entry.holds.retain(|held| *held != address);
            entry.lingers.push(address);
        }
        self.end_holding(address, key, true);
        self.waiting.look_at(created, key);
    }

    /// Forgets a Service that is gone: no status of it records anything any more.
    pub(crate) fn forget(&mut self, key: &ObjectKey) {
        self.waiting.withdraw(key);
        let Some(entry) = self.ledger.remove(key) else {
            return;
        };
        if let Some(promise) = &entry.promise {
            self.promises.remove(&(promise.ends, key.clone()));
        }
        for address in entry.holds.iter().chain(&entry.lingers) {
            self.end_holding(*address, key, false);
        }
    }
}
