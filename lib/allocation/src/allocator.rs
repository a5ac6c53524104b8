//! The pools, who holds which address, and the decision for one Service.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferrolb_api::ObjectKey;
use ferrolb_rules::{Family, Pool, any_matches};

use crate::outcome::{Event, EventKind, Outcome};
use crate::pool_addresses::PoolAddresses;
use crate::service::{Families, Policy, Requested, Service};

/// The labels of each namespace, for pools with namespace selectors.
pub type Namespaces = BTreeMap<String, BTreeMap<String, String>>;

/// Who holds which address. Deterministic: the same calls in the same order give the same addresses.
#[derive(Clone, Debug, Default)]
pub struct Allocator {
    pools: BTreeMap<String, PoolAddresses>,
    /// Pools with a serviceAllocation, in the order in which they are tried.
    pinned: Vec<String>,
    /// The other pools that give out addresses by themselves, by name.
    unpinned: Vec<String>,
    held: BTreeMap<ObjectKey, Vec<IpAddr>>,
    /// Services that want an address and have none, oldest first.
    waiting: BTreeSet<(i64, ObjectKey)>,
    /// What was said last of each waiting Service, so that it is said once.
    said: BTreeMap<ObjectKey, (i64, Event)>,
    freed: bool,
}

/// The counters of a pool's status (reference 1.1, 3.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PoolCounters {
    /// Distinct IPv4 addresses in use.
    pub assigned_v4: i64,
    /// Distinct IPv6 addresses in use.
    pub assigned_v6: i64,
    /// IPv4 capacity less those in use.
    pub available_v4: i64,
    /// IPv6 capacity less those in use; at most the largest 64-bit number.
    pub available_v6: i64,
}

impl Allocator {
    /// Puts other pools in force. Every address that still lies in a pool stays with its holders; the caller
    /// reconciles every Service afterwards, so that those which lost theirs get others.
    pub fn set_pools(&mut self, pools: impl IntoIterator<Item = Pool>) {
        let old = std::mem::take(&mut self.pools);
        self.pools = pools
            .into_iter()
            .map(|pool| (pool.name.clone(), PoolAddresses::new(pool)))
            .collect();
        for (address, holders) in old.into_values().flat_map(PoolAddresses::into_holders) {
            if let Some(pool) = self.pools.values_mut().find(|pool| pool.offers(address)) {
                pool.adopt(address, holders);
            }
        }
        let pools = &self.pools;
        self.held.retain(|_, addresses| {
            addresses.retain(|address| pools.values().any(|pool| pool.offers(*address)));
            !addresses.is_empty()
        });
        let mut pinned: Vec<_> = self
            .pools
            .values()
            .filter(|pool| pool.pool.auto_assign && pool.pool.service_allocation.is_some())
            .collect();
        pinned.sort_by_key(|pool| pool.pool.order());
        self.pinned = pinned
            .into_iter()
            .map(|pool| pool.pool.name.clone())
            .collect();
        self.unpinned = self
            .pools
            .values()
            .filter(|pool| pool.pool.auto_assign && pool.pool.service_allocation.is_none())
            .map(|pool| pool.pool.name.clone())
            .collect();
        self.freed = true;
    }

    /// Claims what a Service's status records, before anything new is decided (reference 3.4: no pending Service may
    /// take an address that another's status names). False if that cannot be: [`Allocator::reconcile`] will say why.
    pub fn claim(&mut self, service: &Service, namespaces: &Namespaces) -> bool {
        !service.current.is_empty() && self.assign(service, &service.current, namespaces).is_ok()
    }

    /// Forgets a Service that is gone or no longer ours.
    pub fn forget(&mut self, key: &ObjectKey) {
        self.release(key);
        if let Some((created, _)) = self.said.remove(key) {
            self.waiting.remove(&(created, key.clone()));
        }
        self.waiting.retain(|(_, waiting)| waiting != key);
    }

    /// Every Service that holds an address or waits for one.
    pub fn known(&self) -> impl Iterator<Item = &ObjectKey> {
        self.held
            .keys()
            .chain(self.waiting.iter().map(|(_, key)| key))
    }

    /// The Services that wait for an address, oldest first, if one became free since the last call.
    pub fn to_retry(&mut self) -> Vec<ObjectKey> {
        if std::mem::take(&mut self.freed) {
            self.waiting.iter().map(|(_, key)| key.clone()).collect()
        } else {
            Vec::new()
        }
    }

    /// The addresses that are recorded for a Service.
    #[must_use]
    pub fn addresses_of(&self, key: &ObjectKey) -> &[IpAddr] {
        self.held.get(key).map_or(&[], Vec::as_slice)
    }

    /// The counters of a pool.
    #[must_use]
    pub fn counters(&self, pool: &str) -> Option<PoolCounters> {
        let pool = self.pools.get(pool)?;
        let counted = |family| {
            let held = pool.held(family);
            let available = pool.capacity(family).saturating_sub(u128::from(held));
            (
                i64::try_from(held).unwrap_or(i64::MAX),
                i64::try_from(available).unwrap_or(i64::MAX),
            )
        };
        let ((assigned_v4, available_v4), (assigned_v6, available_v6)) =
            (counted(Family::V4), counted(Family::V6));
        Some(PoolCounters {
            assigned_v4,
            assigned_v6,
            available_v4,
            available_v6,
        })
    }

    /// Decides what `service` shall have (the order of reference 3.2).
    pub fn reconcile(&mut self, service: &Service, namespaces: &Namespaces) -> Outcome {
        let mut events = Vec::new();
        let result = self.decide(service, namespaces, &mut events);
        let waiting = (service.created, service.key.clone());
        let mut outcome = match result {
            Ok(addresses) => {
                self.waiting.remove(&waiting);
                if events.iter().all(|event| !event.kind.is_lasting()) {
                    self.said.remove(&service.key);
                }
                Outcome {
                    pool: self.pool_of(&addresses).map(ToOwned::to_owned),
                    addresses,
                    events: Vec::new(),
                    unserved: None,
                }
            }
            Err(reason) => {
                self.release(&service.key);
                self.waiting.insert(waiting);
                Outcome {
                    unserved: Some(reason),
                    ..Outcome::default()
                }
            }
        };
        // What lasts is seen again at every look; the owner of the Service is told when it changes.
        if let Some(lasting) = events.iter().find(|event| event.kind.is_lasting()).cloned() {
            let said = (service.created, lasting);
            if self.said.get(&service.key) == Some(&said) {
                events.retain(|event| *event != said.1);
            } else {
                self.said.insert(service.key.clone(), said);
            }
        }
        outcome.events = events;
        outcome
    }

    fn decide(
        &mut self,
        service: &Service,
        namespaces: &Namespaces,
        events: &mut Vec<Event>,
    ) -> Result<Vec<IpAddr>, String> {
        let mut say = |kind, message: String| events.push(Event { kind, message });
        if self.pools.is_empty() {
            return Err("no pools are configured; create an IPAddressPool".to_owned());
        }
        match (service.families, service.policy) {
            (Families::None, _) => return Err("the Service has no cluster IP yet".to_owned()),
            (Families::Unknown, _) => {
                let message =
                    "cannot tell the IP family of the Service from its cluster IPs".to_owned();
                say(EventKind::NoClusterIPsFamily, message);
                // MetalLB stops here and leaves the Service as it is (reference 3.2, step 8).
                return Ok(service.current.clone());
            }
            (Families::Single(_), Policy::RequireDualStack) => {
                let message =
                    "The Service requires dual stack and has one cluster IP only".to_owned();
                say(EventKind::NotEnoughClusterIPs, message.clone());
                return Err(message);
            }
            _ => {}
        }
        // A decision that is not in the status yet holds as if it were.
        let in_flight = service.current.is_empty();
        let mut current = if in_flight {
            self.addresses_of(&service.key).to_vec()
        } else {
            service.current.clone()
        };
        if !current.is_empty() {
            match self.may_stay(service, &current, namespaces) {
                Ok(()) => {}
                Err(Some(event)) if event.kind == EventKind::LoadBalancerFailed => {
                    say(event.kind, event.message);
                    return Ok(current);
                }
                Err(event) => {
                    if let Some(event) = event {
                        say(event.kind, event.message);
                    }
                    self.release(&service.key);
                    current.clear();
                }
            }
        }
        if let [only] = current.as_slice() {
            // Whoever asks for one address has it and asks for no other: the next look would take both away.
            let asks = !matches!(service.requested, Requested::Nothing);
            if service.families == Families::Dual
                && service.policy == Policy::PreferDualStack
                && !asks
            {
                match self.add_family(service, *only, namespaces) {
                    Ok(added) => {
                        say(
                            EventKind::IPAllocated,
                            format!("Assigned additional IP {:?}", added.to_string()),
                        );
                        current.push(added);
                    }
                    Err(reason) => say(EventKind::AdditionalAssignFailed, reason),
                }
            }
            return Ok(current);
        }
        if !current.is_empty() {
            return Ok(current);
        }
        match self.allocate(service, namespaces) {
            Ok(addresses) => {
                let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                say(EventKind::IPAllocated, format!("Assigned IP {texts:?}"));
                Ok(addresses)
            }
            Err(reason) => {
                say(
                    EventKind::AllocationFailed,
                    format!(
                        "Failed to allocate IP for {:?}: {reason}",
                        service.key.to_string()
                    ),
                );
                Err(reason)
            }
        }
    }

    /// Whether the Service keeps `current` (reference 3.2, steps 7 to 12); if not, what to say.
    fn may_stay(
        &mut self,
        service: &Service,
        current: &[IpAddr],
        namespaces: &Namespaces,
    ) -> Result<(), Option<Event>> {
        let families = Families::of(current);
        if families == Families::Unknown {
            let message = "cannot tell the IP family of the addresses in the status".to_owned();
            return Err(Some(Event {
                kind: EventKind::NoLbIPsFamily,
                message,
            }));
        }
        let second_missing = service.families == Families::Dual
            && service.policy == Policy::PreferDualStack
            && matches!(families, Families::Single(_));
        if families != service.families && !second_missing {
            return Err(None);
        }
        self.assign(service, current, namespaces)
            .map_err(|reason| {
                Some(Event {
                    kind: EventKind::ClearAssignment,
                    message: reason,
                })
            })?;
        if service
            .requested_pool
            .as_deref()
            .is_some_and(|wanted| self.pool_of(current) != Some(wanted))
        {
            return Err(None);
        }
        match &service.requested {
            Requested::Nothing => Ok(()),
            Requested::Invalid(reason) => Err(Some(Event {
                kind: EventKind::LoadBalancerFailed,
                message: reason.clone(),
            })),
            Requested::Addresses(wanted) => {
                let set = |addresses: &[IpAddr]| addresses.iter().copied().collect::<BTreeSet<_>>();
                if set(wanted) == set(current) {
                    Ok(())
                } else {
                    Err(None)
                }
            }
        }
    }

    /// Finds addresses for a Service that has none (reference 3.5).
    fn allocate(
        &mut self,
        service: &Service,
        namespaces: &Namespaces,
    ) -> Result<Vec<IpAddr>, String> {
        match &service.requested {
            Requested::Invalid(reason) => return Err(reason.clone()),
            Requested::Addresses(wanted) => {
                if Families::of(wanted) != service.families {
                    return Err(format!(
                        "requested loadBalancer IP(s) {:?} does not match the ipFamily of the service ({})",
                        texts(wanted),
                        service.families
                    ));
                }
                if let (Some(pool), Some(owner)) = (&service.requested_pool, self.pool_of(wanted))
                    && pool != owner
                {
                    return Err(format!(
                        "{:?} is not compatible with requested address pool {pool}",
                        texts(wanted)
                    ));
                }
                let wanted = wanted.clone();
                self.assign(service, &wanted, namespaces)?;
                return Ok(wanted);
            }
            Requested::Nothing => {}
        }
        let found = if let Some(wanted) = &service.requested_pool {
            let Some(pool) = self.pools.get(wanted) else {
                return Err(format!(
                    "unknown pool {wanted:?}; the pools are {}",
                    self.names()
                ));
            };
            compatible(&pool.pool, service, namespaces).map_err(|reason| {
                format!("pool {wanted} not compatible for ip assignment: {reason}")
            })?;
            self.pick(std::slice::from_ref(wanted), service)
                .ok_or_else(|| {
                    format!(
                        "no available IPs in pool {wanted} for {} IPFamily",
                        service.families
                    )
                })?
        } else {
            let pinned: Vec<String> = self
                .pinned
                .iter()
                .filter(|name| {
                    self.pools
                        .get(*name)
                        .is_some_and(|pool| compatible(&pool.pool, service, namespaces).is_ok())
                })
                .cloned()
                .collect();
            let unpinned = self.unpinned.clone();
            self.pick(&pinned, service)
                .or_else(|| self.pick(&unpinned, service))
                .ok_or_else(|| {
                    format!(
                        "no available IPs for {} in the pools {}",
                        service.families,
                        self.names()
                    )
                })?
        };
        self.assign(service, &found, namespaces)?;
        Ok(found)
    }

    /// The picking rule of reference 3.5 over pools in order.
    fn pick(&mut self, pools: &[String], service: &Service) -> Option<Vec<IpAddr>> {
        let mut primary = None;
        let mut secondary = None;
        for name in pools {
            let Some(pool) = self.pools.get_mut(name) else {
                continue;
            };
            match service.families {
                Families::Single(family) => {
                    if let Some(address) = pool.candidate(family, service) {
                        return Some(vec![address]);
                    }
                }
                Families::Dual => match (
                    pool.candidate(Family::V4, service),
                    pool.candidate(Family::V6, service),
                ) {
                    (Some(v4), Some(v6)) => return Some(vec![v4, v6]),
                    (v4, v6) => {
                        let (first, second) = if service.primary == Family::V4 {
                            (v4, v6)
                        } else {
                            (v6, v4)
                        };
                        primary = primary.or(first);
                        secondary = secondary.or(second);
                    }
                },
                Families::None | Families::Unknown => return None,
            }
        }
        (service.policy == Policy::PreferDualStack)
            .then_some(primary.or(secondary))
            .flatten()
            .map(|address| vec![address])
    }

    /// Adds the missing family from the pool of the address that the Service has.
    fn add_family(
        &mut self,
        service: &Service,
        has: IpAddr,
        namespaces: &Namespaces,
    ) -> Result<IpAddr, String> {
        let name = self
            .pool_of(&[has])
            .ok_or("the present address is in no pool")?
            .to_owned();
        let missing = if has.is_ipv4() {
            Family::V6
        } else {
            Family::V4
        };
        let added = self
            .pools
            .get_mut(&name)
            .and_then(|pool| pool.candidate(missing, service))
            .ok_or_else(|| format!("no available {missing} address in pool {name}"))?;
        self.assign(service, &[has, added], namespaces)?;
        Ok(added)
    }

    /// Records that `service` holds exactly `addresses`, if it may (reference 3.5, assign checks). Idempotent.
    fn assign(
        &mut self,
        service: &Service,
        addresses: &[IpAddr],
        namespaces: &Namespaces,
    ) -> Result<(), String> {
        let Some(name) = self.pool_of(addresses).map(ToOwned::to_owned) else {
            return Err(format!(
                "{:?} is not allowed in config; the pools are {}",
                texts(addresses),
                self.names()
            ));
        };
        if addresses.len() > 2 || Families::of(addresses) == Families::Unknown {
            return Err(format!(
                "{:?}: at most one address of each family",
                texts(addresses)
            ));
        }
        let Some(pool) = self.pools.get_mut(&name) else {
            return Err(format!("unknown pool {name:?}"));
        };
        compatible(&pool.pool, service, namespaces)
            .map_err(|reason| format!("pool {name} not compatible for ip assignment: {reason}"))?;
        for address in addresses {
            pool.admits(*address, service)?;
        }
        if let Some(before) = self.held.get(&service.key).cloned() {
            for gone in before.iter().filter(|address| !addresses.contains(address)) {
                for pool in self.pools.values_mut() {
                    self.freed |= pool.release(*gone, &service.key);
                }
            }
        }
        if let Some(pool) = self.pools.get_mut(&name) {
            for address in addresses {
                pool.hold(*address, service);
            }
        }
        self.held.insert(service.key.clone(), addresses.to_vec());
        Ok(())
    }

    fn release(&mut self, key: &ObjectKey) {
        for address in self.held.remove(key).unwrap_or_default() {
            for pool in self.pools.values_mut() {
                if pool.release(address, key) {
                    self.freed = true;
                }
            }
        }
    }

    /// The one pool that offers all of `addresses`.
    fn pool_of(&self, addresses: &[IpAddr]) -> Option<&str> {
        if addresses.is_empty() {
            return None;
        }
        self.pools
            .values()
            .find(|pool| addresses.iter().all(|address| pool.offers(*address)))
            .map(|pool| pool.pool.name.as_str())
    }

    /// The pools with their addresses, for a message; a long list is cut.
    fn names(&self) -> String {
        const SHOWN: usize = 8;
        let mut names: Vec<String> = self
            .pools
            .values()
            .take(SHOWN)
            .map(|pool| {
                let ranges: Vec<String> = pool
                    .pool
                    .ranges
                    .iter()
                    .take(4)
                    .map(ToString::to_string)
                    .collect();
                format!("{} ({})", pool.pool.name, ranges.join(", "))
            })
            .collect();
        if self.pools.len() > SHOWN {
            names.push(format!("and {} more", self.pools.len() - SHOWN));
        }
        names.join(", ")
    }
}

/// Whether a pool may serve a Service (reference 3.5, compatibility); the sentence says what is missing.
///
/// Namespace selectors that match no namespace restrict to none, not to all (reference 9, row 15: fixed).
fn compatible(pool: &Pool, service: &Service, namespaces: &Namespaces) -> Result<(), String> {
    let Some(allocation) = &pool.service_allocation else {
        return Ok(());
    };
    let restricted =
        !allocation.namespaces.is_empty() || !allocation.namespace_selectors.is_empty();
    let listed = allocation.namespaces.contains(service.key.namespace());
    let selected = !allocation.namespace_selectors.is_empty()
        && namespaces
            .get(service.key.namespace())
            .is_some_and(|labels| any_matches(&allocation.namespace_selectors, labels));
    if restricted && !listed && !selected {
        return Err(format!(
            "it serves other namespaces than {:?}",
            service.key.namespace()
        ));
    }
    if !any_matches(&allocation.service_selectors, &service.labels) {
        return Err("its service selectors do not match the labels of the Service".to_owned());
    }
    Ok(())
}

fn texts(addresses: &[IpAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}
