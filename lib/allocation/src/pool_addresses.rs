//! Which addresses of one pool are free, in use, or open to sharing?

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferrolb_api::ObjectKey;
use ferrolb_rules::{Family, Pool};

use crate::service::Service;
use crate::sharing::{Blocked, Use};
use crate::space::Space;

/// The addresses of one pool. Entries keep the order of `spec.addresses`: it is the order in which they are given out.
#[derive(Clone, Debug)]
pub(crate) struct PoolAddresses {
    pub(crate) pool: Pool,
    v4: Addresses,
    v6: Addresses,
}

#[derive(Clone, Debug)]
struct Addresses {
    space: Space,
    /// By ordinal.
    uses: BTreeMap<u128, Use>,
    /// Sharing key to the ordinals that are held under it.
    shared: BTreeMap<Box<str>, BTreeSet<u128>>,
    /// How many are on hold.
    on_hold: u64,
}

/// What became of an address whose user left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing changed.
    Nothing,
    /// Others still use it.
    Others,
    /// Nobody uses it; it is not among the free ones yet.
    Nobody,
}

impl PoolAddresses {
    pub(crate) fn new(pool: Pool) -> Self {
        let addresses = |family| Addresses {
            space: Space::new(family, &pool.ranges, &pool.exclude, pool.avoid_buggy_ips),
            uses: BTreeMap::new(),
            shared: BTreeMap::new(),
            on_hold: 0,
        };
        let (v4, v6) = (addresses(Family::V4), addresses(Family::V6));
        PoolAddresses { pool, v4, v6 }
    }

    fn of(&self, family: Family) -> &Addresses {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    fn of_mut(&mut self, family: Family) -> &mut Addresses {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    fn ordinal(&self, address: IpAddr) -> Option<u128> {
        self.of(Family::of(address)).space.ordinal(number(address))
    }

    /// Whether the pool may give `address` to anyone: it lies in it and is not one of those left out.
    pub(crate) fn offers(&self, address: IpAddr) -> bool {
        self.ordinal(address).is_some()
    }

    /// Who uses `address`.
    pub(crate) fn used(&self, address: IpAddr) -> Option<&Use> {
        let ordinal = self.ordinal(address)?;
        self.of(Family::of(address)).uses.get(&ordinal)
    }

    /// Whether `service` may hold `address`, as far as others who use it go.
    pub(crate) fn admits(
        &self,
        address: IpAddr,
        service: &Service,
        recorded: bool,
    ) -> Result<(), Blocked> {
        self.used(address)
            .map_or(Ok(()), |used| used.admits(service, recorded))
    }

    /// The first address of `family` that is free.
    pub(crate) fn first_free(&mut self, family: Family) -> Option<IpAddr> {
        let space = &mut self.of_mut(family).space;
        let ordinal = space.first_free()?;
        Some(family.address(space.number(ordinal)?))
    }

    /// The first address of `family` that `service` may share, of those that `fits` says yes to.
    pub(crate) fn first_shareable(
        &self,
        family: Family,
        service: &Service,
        fits: impl Fn(&Use) -> bool,
    ) -> Option<IpAddr> {
        let addresses = self.of(family);
        let ordinal = addresses
            .shared
            .get(service.sharing_key.as_str())?
            .iter()
            .find(|ordinal| {
                addresses
                    .uses
                    .get(*ordinal)
                    .is_some_and(|used| fits(used) && used.admits(service, false).is_ok())
            })?;
        Some(family.address(addresses.space.number(*ordinal)?))
    }

    /// The one of two addresses that is given out first.
    pub(crate) fn earlier(&self, one: IpAddr, other: IpAddr) -> IpAddr {
        if self.ordinal(other) < self.ordinal(one) {
            other
        } else {
            one
        }
    }

    /// Makes `service` a holder of `address`. True if that changes anything for others.
    pub(crate) fn hold(&mut self, address: IpAddr, service: &Service) -> bool {
        self.change(address, |used| used.hold(service))
            .unwrap_or_default()
    }

    /// `key` shall not have `address` any more, but its status may still record it. True if that is new.
    pub(crate) fn linger(&mut self, address: IpAddr, key: &ObjectKey) -> bool {
        self.change(address, |used| used.linger(key))
            .unwrap_or_default()
    }

    /// `key` has nothing to do with `address` any more.
    pub(crate) fn leave(&mut self, address: IpAddr, key: &ObjectKey) -> Left {
        let family = Family::of(address);
        let Some(ordinal) = self.ordinal(address) else {
            return Left::Nothing;
        };
        if !self.of(family).uses.contains_key(&ordinal) {
            return Left::Nothing;
        }
        let changed = self.change(address, |used| used.leave(key));
        let uses = &mut self.of_mut(family).uses;
        if uses.get(&ordinal).is_some_and(Use::is_empty) {
            uses.remove(&ordinal);
            return Left::Nobody;
        }
        if changed == Some(true) {
            Left::Others
        } else {
            Left::Nothing
        }
    }

    /// Takes over who used an address before a change of pools.
    pub(crate) fn adopt(&mut self, address: IpAddr, used: Use) {
        self.change(address, |new| *new = used);
    }

    /// Changes who uses an address, and keeps the index of shared ones.
    fn change<R>(&mut self, address: IpAddr, change: impl FnOnce(&mut Use) -> R) -> Option<R> {
        let ordinal = self.ordinal(address)?;
        let addresses = self.of_mut(Family::of(address));
        let used = addresses.uses.entry(ordinal).or_insert_with(|| {
            addresses.space.take(ordinal);
            Use::default()
        });
        let before: Box<str> = used.sharing_key().into();
        let result = change(used);
        let after = used.sharing_key();
        if *before != *after {
            if let Some(ordinals) = addresses.shared.get_mut(&before) {
                ordinals.remove(&ordinal);
                if ordinals.is_empty() {
                    addresses.shared.remove(&before);
                }
            }
            if !after.is_empty() {
                addresses
                    .shared
                    .entry(after.into())
                    .or_default()
                    .insert(ordinal);
            }
        }
        Some(result)
    }

    /// Puts an address that nobody uses among the free ones.
    pub(crate) fn give_back(&mut self, address: IpAddr) {
        if let Some(ordinal) = self.ordinal(address) {
            let addresses = self.of_mut(Family::of(address));
            if !addresses.uses.contains_key(&ordinal) {
                addresses.space.give_back(ordinal);
            }
        }
    }

    /// Takes an address that nobody uses from the free ones, for a time.
    pub(crate) fn put_on_hold(&mut self, address: IpAddr) {
        if let Some(ordinal) = self.ordinal(address) {
            let addresses = self.of_mut(Family::of(address));
            addresses.space.take(ordinal);
            addresses.on_hold += 1;
        }
    }

    /// The hold of an address is over, because it ended or because its former owner has it again.
    pub(crate) fn end_hold(&mut self, address: IpAddr) {
        let addresses = self.of_mut(Family::of(address));
        addresses.on_hold = addresses.on_hold.saturating_sub(1);
        self.give_back(address);
    }

    /// How many distinct addresses of `family` are in use.
    pub(crate) fn in_use(&self, family: Family) -> u64 {
        self.of(family).uses.len() as u64
    }

    /// How many addresses of `family` it can give to anyone now (reference 3.9, less those on hold).
    pub(crate) fn available(&self, family: Family) -> u128 {
        let addresses = self.of(family);
        let taken = self.in_use(family) + addresses.on_hold;
        addresses.space.capacity().saturating_sub(u128::from(taken))
    }

    /// How many addresses of `family` it has, those left out not counted.
    pub(crate) fn total(&self, family: Family) -> u128 {
        self.of(family).space.capacity()
    }

    /// Whether it can give an address of `family` at all.
    pub(crate) fn has(&self, family: Family) -> bool {
        self.total(family) > 0
    }

    /// Everything that is in use.
    pub(crate) fn into_uses(self) -> impl Iterator<Item = (IpAddr, Use)> {
        let of = |addresses: Addresses| {
            let (space, family) = (addresses.space.clone(), addresses.space.family());
            addresses
                .uses
                .into_iter()
                .filter_map(move |(ordinal, used)| {
                    Some((family.address(space.number(ordinal)?), used))
                })
        };
        of(self.v4).chain(of(self.v6))
    }
}

/// The numeric value of an address.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}
