//! Which addresses were freed a short time ago and are kept for their former owner (`ferrolb.io/reuse-hold`)?

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferrolb_api::ObjectKey;

/// An address that nobody but its former owner gets yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The address.
    pub address: IpAddr,
    /// Until when, in milliseconds since the epoch.
    pub until: i64,
    /// The Service that had it last, where that is known.
    pub former: Option<ObjectKey>,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holds {
    by_address: BTreeMap<IpAddr, (i64, Option<ObjectKey>)>,
    by_time: BTreeSet<(i64, IpAddr)>,
    by_former: BTreeSet<(ObjectKey, IpAddr)>,
}

impl Holds {
    pub(crate) fn insert(&mut self, hold: Hold) {
        self.remove(hold.address);
        self.by_time.insert((hold.until, hold.address));
        if let Some(former) = &hold.former {
            self.by_former.insert((former.clone(), hold.address));
        }
        self.by_address
            .insert(hold.address, (hold.until, hold.former));
    }

    pub(crate) fn remove(&mut self, address: IpAddr) -> bool {
        let Some((until, former)) = self.by_address.remove(&address) else {
            return false;
        };
        self.by_time.remove(&(until, address));
        if let Some(former) = former {
            self.by_former.remove(&(former, address));
        }
        true
    }

    /// Whether `address` is kept from `key`.
    pub(crate) fn keeps_from(&self, address: IpAddr, key: &ObjectKey) -> bool {
        self.by_address
            .get(&address)
            .is_some_and(|(_, former)| former.as_ref() != Some(key))
    }

    /// Whom `address` is kept for.
    pub(crate) fn former(&self, address: IpAddr) -> Option<&ObjectKey> {
        self.by_address.get(&address)?.1.as_ref()
    }

    /// The addresses that are kept for `key`.
    pub(crate) fn kept_for(&self, key: &ObjectKey) -> impl Iterator<Item = IpAddr> {
        let least = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
        self.by_former
            .range((key.clone(), least)..)
            .take_while(move |(former, _)| former == key)
            .map(|(_, address)| *address)
    }

    /// The first moment at which one ends.
    pub(crate) fn first_end(&self) -> Option<i64> {
        self.by_time.first().map(|(until, _)| *until)
    }

    /// Takes out one that has ended by `now`.
    pub(crate) fn pop_ended(&mut self, now: i64) -> Option<IpAddr> {
        let (until, address) = self.by_time.first().copied()?;
        if until > now {
            return None;
        }
        self.remove(address);
        Some(address)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = Hold> {
        self.by_address
            .iter()
            .map(|(address, (until, former))| Hold {
                address: *address,
                until: *until,
                former: former.clone(),
            })
    }
}
