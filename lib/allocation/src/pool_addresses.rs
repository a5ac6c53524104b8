//! Which addresses of one pool are free, held, or open to sharing?

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferrolb_api::ObjectKey;
use ferrolb_rules::{AddressRange, Family, Pool};

use crate::free::FreeSet;
use crate::service::Service;
use crate::sharing::Holders;

/// The addresses of one pool. Entries keep the order of `spec.addresses`: it is the order in which they are given out.
#[derive(Clone, Debug)]
pub(crate) struct PoolAddresses {
    pub(crate) pool: Pool,
    entries: Vec<Entry>,
    holders: BTreeMap<IpAddr, Holders>,
    /// Sharing key to the addresses that are held under it, in the order in which they would be given out.
    shared: BTreeMap<String, BTreeSet<(usize, u128)>>,
}

#[derive(Clone, Debug)]
struct Entry {
    range: AddressRange,
    free: FreeSet,
}

impl PoolAddresses {
    pub(crate) fn new(pool: Pool) -> Self {
        let entries = pool
            .ranges
            .iter()
            .map(|range| Entry {
                range: *range,
                free: FreeSet::full(range.first(), range.last()),
            })
            .collect();
        PoolAddresses {
            pool,
            entries,
            holders: BTreeMap::new(),
            shared: BTreeMap::new(),
        }
    }

    /// Whether the pool may give `address` to anyone: it lies in it and is not one of those avoided.
    pub(crate) fn offers(&self, address: IpAddr) -> bool {
        self.entry_of(address).is_some() && !(self.pool.avoid_buggy_ips && is_buggy(address))
    }

    /// The first address of `family` that `service` may have: free, or held by Services that share with it.
    pub(crate) fn candidate(&mut self, family: Family, service: &Service) -> Option<IpAddr> {
        let avoid = self.pool.avoid_buggy_ips;
        let free = self
            .entries
            .iter_mut()
            .enumerate()
            .filter(|(_, entry)| entry.range.family() == family)
            .find_map(|(index, entry)| {
                while let Some(first) = entry.free.first() {
                    if avoid && is_buggy(family.address(first)) {
                        // Never given out, so it needs no second look: dropped for as long as the pool stays as it is.
                        entry.free.remove(first);
                    } else {
                        return Some((index, first));
                    }
                }
                None
            });
        let shared = (!service.sharing_key.is_empty())
            .then(|| self.first_shareable(family, service))
            .flatten();
        let (_, number) = match (free, shared) {
            (Some(free), Some(shared)) => free.min(shared),
            (one, other) => one.or(other)?,
        };
        Some(family.address(number))
    }

    fn first_shareable(&self, family: Family, service: &Service) -> Option<(usize, u128)> {
        self.shared
            .get(&service.sharing_key)?
            .iter()
            .copied()
            .find(|(index, number)| {
                self.entries
                    .get(*index)
                    .is_some_and(|entry| entry.range.family() == family)
                    && self
                        .holders
                        .get(&family.address(*number))
                        .is_some_and(|holders| {
                            holders.admits(family.address(*number), service).is_ok()
                        })
            })
    }

    /// Whether `service` may hold `address`; the sentence says why not.
    pub(crate) fn admits(&self, address: IpAddr, service: &Service) -> Result<(), String> {
        self.holders
            .get(&address)
            .map_or(Ok(()), |holders| holders.admits(address, service))
    }

    /// Records that `service` holds `address`. The caller has asked [`PoolAddresses::admits`].
    pub(crate) fn hold(&mut self, address: IpAddr, service: &Service) {
        let Some(position) = self.entry_of(address) else {
            return;
        };
        match self.holders.get_mut(&address) {
            Some(holders) => {
                if holders.sharing_key() != service.sharing_key {
                    unshare(&mut self.shared, holders.sharing_key(), position);
                }
                holders.admit(service);
            }
            None => {
                self.holders.insert(address, Holders::new(service));
                if let Some(entry) = self.entries.get_mut(position.0) {
                    entry.free.remove(position.1);
                }
            }
        }
        if !service.sharing_key.is_empty() {
            self.shared
                .entry(service.sharing_key.clone())
                .or_default()
                .insert(position);
        }
    }

    /// Takes holders over as they are, from the pool that had the address before a change of pools.
    pub(crate) fn adopt(&mut self, address: IpAddr, holders: Holders) {
        let Some(position) = self.entry_of(address) else {
            return;
        };
        if let Some(entry) = self.entries.get_mut(position.0) {
            entry.free.remove(position.1);
        }
        if !holders.sharing_key().is_empty() {
            self.shared
                .entry(holders.sharing_key().to_owned())
                .or_default()
                .insert(position);
        }
        self.holders.insert(address, holders);
    }

    /// Records that `key` holds `address` no more. True if nobody holds it now.
    pub(crate) fn release(&mut self, address: IpAddr, key: &ObjectKey) -> bool {
        let Some(holders) = self.holders.get_mut(&address) else {
            return false;
        };
        if !holders.leave(key) {
            return false;
        }
        let holders = self.holders.remove(&address);
        if let Some(position) = self.entry_of(address) {
            if let Some(holders) = holders {
                unshare(&mut self.shared, holders.sharing_key(), position);
            }
            if let Some(entry) = self.entries.get_mut(position.0) {
                entry.free.insert(position.1);
            }
        }
        true
    }

    pub(crate) fn into_holders(self) -> BTreeMap<IpAddr, Holders> {
        self.holders
    }

    /// How many distinct addresses of `family` are held.
    pub(crate) fn held(&self, family: Family) -> u64 {
        self.holders
            .keys()
            .filter(|address| Family::of(**address) == family)
            .count() as u64
    }

    /// How many addresses of `family` the pool can give out (reference 3.9).
    pub(crate) fn capacity(&self, family: Family) -> u128 {
        self.entries
            .iter()
            .filter(|entry| entry.range.family() == family)
            .map(|entry| {
                let size = (entry.range.last() - entry.range.first()).saturating_add(1);
                let avoided = if self.pool.avoid_buggy_ips && family == Family::V4 {
                    buggy_in(&entry.range)
                } else {
                    0
                };
                size - avoided
            })
            .fold(0, u128::saturating_add)
    }

    fn entry_of(&self, address: IpAddr) -> Option<(usize, u128)> {
        let index = self
            .entries
            .iter()
            .position(|entry| entry.range.contains(address))?;
        let number = match address {
            IpAddr::V4(v4) => u128::from(u32::from(v4)),
            IpAddr::V6(v6) => u128::from(v6),
        };
        Some((index, number))
    }
}

fn unshare(
    shared: &mut BTreeMap<String, BTreeSet<(usize, u128)>>,
    key: &str,
    position: (usize, u128),
) {
    if let Some(positions) = shared.get_mut(key) {
        positions.remove(&position);
        if positions.is_empty() {
            shared.remove(key);
        }
    }
}

/// Whether some network gear mistakes the address for a network or broadcast address: IPv4 ending in .0 or .255
/// (reference 1.1, avoidBuggyIPs).
fn is_buggy(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if matches!(v4.octets(), [_, _, _, 0 | 255]))
}

fn buggy_in(range: &AddressRange) -> u128 {
    // Numbers up to and including n whose last octet is `octet`.
    let up_to = |n: u128, octet: u128| n / 256 + u128::from(n % 256 >= octet);
    let count = |octet: u128| {
        up_to(range.last(), octet)
            - range
                .first()
                .checked_sub(1)
                .map_or(0, |before| up_to(before, octet))
    };
    count(0) + count(255)
}
