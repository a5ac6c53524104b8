//! Who has which address: what each Service shall have, what its status records besides, and what writes may yet bring.

use std::net::IpAddr;

use ferrolb_api::ObjectKey;
use ferrolb_rules::Family;

use crate::holds::Hold;
use crate::pool_addresses::Left;
use crate::service::Service;
use crate::state::State;
use crate::waiting::{Need, Wait};

/// What is known of one Service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) created: i64,
    /// What it shall have.
    pub(crate) holds: Vec<IpAddr>,
    /// What its status may record besides.
    pub(crate) lingers: Vec<IpAddr>,
    /// What a write that was sent and is not seen yet may put into its status.
    pub(crate) promise: Option<Box<Promise>>,
}

/// Addresses in status writes that were sent. A write names the version of the Service that it was decided on, so once
/// another version is seen the write is either part of it or never comes.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    pub(crate) version: Box<str>,
    pub(crate) addresses: Vec<IpAddr>,
    /// From then on it does not come any more even if nobody ever answered, in milliseconds since the epoch.
    pub(crate) ends: i64,
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

    /// No write that was sent takes effect any more. The Service is looked at again.
    pub(crate) fn end_promise(&mut self, key: &ObjectKey) {
        let Some(entry) = self.ledger.get_mut(key) else {
            return;
        };
        let promise = entry.promise.take();
        if let Some(promise) = promise {
            self.promises.remove(&(promise.ends, key.clone()));
            self.waiting.look_at(entry.created, key);
        }
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

    /// Lets go of what the status of `service` did record and does not any more: a new version of it is seen.
    pub(crate) fn refresh(&mut self, service: &Service, version: &str) {
        let key = &service.key;
        let recorded = self.recorded(service, version);
        let Some(entry) = self.ledger.get_mut(key) else {
            return;
        };
        let mut over = Vec::new();
        entry.lingers.retain(|address| {
            let still = recorded.contains(address);
            if !still {
                over.push(*address);
            }
            still
        });
        for address in over {
            self.end_holding(address, key, false);
        }
    }

    /// Records that `service` shall have exactly `addresses`. What its status may still record besides stays taken until
    /// it is seen not to.
    pub(crate) fn settle(&mut self, service: &Service, version: &str, addresses: &[IpAddr]) {
        self.evict(service, addresses);
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
        // Somebody wrote an address that is on hold into a status.
        let on_hold = lingers && self.holds.remove(address);
        let Some(pool) = self.pool_mut(index) else {
            return;
        };
        if on_hold {
            pool.end_hold(address);
        }
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
                self.waiting.stir(&Wait::Address(address));
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
            self.waiting
                .stir(&Wait::Limit(namespace.into(), None, need));
            self.waiting
                .stir(&Wait::Limit(namespace.into(), Some(pool), need));
        }
    }

    pub(crate) fn came_free(&mut self, pool: u32, address: IpAddr) {
        for need in Need::helped_by(Family::of(address)) {
            self.waiting.stir(&Wait::Pool(pool, need));
        }
        self.waiting.stir(&Wait::Address(address));
    }

    fn shared_changed(&mut self, pool: u32, address: IpAddr, before: &str) {
        self.waiting.stir(&Wait::Address(address));
        let after = self
            .pool(pool)
            .and_then(|pool| pool.used(address))
            .map(|used| used.sharing_key().to_owned())
            .unwrap_or_default();
        for key in [before, after.as_str()] {
            if !key.is_empty() {
                self.waiting.stir(&Wait::Sharing(key.into()));
            }
        }
    }

    /// Takes these addresses from younger Services that hold them by a claim that does not go together with that of
    /// `service`. They will be looked at again.
    fn evict(&mut self, service: &Service, addresses: &[IpAddr]) {
        for address in addresses {
            let pool = self.offering(*address).and_then(|index| self.pool(index));
            let against = pool
                .and_then(|pool| pool.used(*address))
                .map(|used| used.against(service))
                .unwrap_or_default();
            for (created, key) in against {
                if let Some(entry) = self.ledger.get_mut(&key) {
                    entry.holds.retain(|held| held != address);
                    entry.lingers.push(*address);
                }
                self.end_holding(*address, &key, true);
                self.waiting.look_at(created, &key);
            }
        }
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
