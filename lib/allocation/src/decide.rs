//! The rules: what may a Service keep, and what does it get (reference 3.2, 3.5 to 3.7)?

use std::collections::BTreeSet;
use std::net::IpAddr;

use ferrolb_rules::{Family, Requested};

use crate::eligibility::Needed;
use crate::outcome::{Event, EventKind, Reason};
use crate::picking::{Asking, Lacks};
use crate::reasons::{self, Obstacle, listed, texts};
use crate::service::{Families, Policy, Service};
use crate::state::State;
use crate::waiting::{Need, Wait};

/// What a Service shall have.
#[derive(Debug, Default)]
pub(crate) struct Decision {
    pub(crate) addresses: Vec<IpAddr>,
    /// Steps taken, in order.
    pub(crate) events: Vec<Event>,
    /// Why it is not all that it asks for.
    pub(crate) obstacle: Option<Obstacle>,
    /// It lost an address to an older claim.
    pub(crate) conflict: Option<String>,
    /// It keeps what it has of a pool that is not in force.
    pub(crate) of_pool_set_aside: bool,
}

impl State {
    /// Decides about one Service (the order of reference 3.2). Records nothing.
    pub(crate) fn decide(&mut self, service: &Service, version: &str) -> Decision {
        let refused = |obstacle: Obstacle| Decision {
            events: reasons::taken_away(service, &obstacle.verdict.message),
            obstacle: Some(obstacle),
            ..Decision::default()
        };
        if self.is_of_pool_set_aside(service) {
            return Decision {
                addresses: service.current.clone(),
                of_pool_set_aside: true,
                ..Decision::default()
            };
        }
        if self.pools.is_empty() {
            let mut refused = refused(reasons::no_pools_in_force(&self.set_aside));
            if self.records_pool_set_aside(service)
                && let Some(why) = self.asks_otherwise(service, &service.current)
            {
                refused.events = reasons::taken_away(service, &why);
            }
            return refused;
        }
        match (service.families, service.policy) {
            (Families::None, _) => return refused(reasons::no_cluster_ip()),
            (Families::Unknown, _) => {
                // MetalLB stops here and leaves the Service as it is (reference 3.2, step 8).
                return Decision {
                    addresses: service.current.clone(),
                    obstacle: Some(reasons::unknown_family()),
                    ..Decision::default()
                };
            }
            (Families::Single(_), Policy::RequireDualStack) => {
                return refused(reasons::dual_stack_impossible());
            }
            _ => {}
        }
        let recorded = self.recorded(service, version);
        let mut own = recorded.clone();
        own.extend(self.held_by(&service.key));
        let asking = Asking {
            service,
            recorded,
            own,
        };
        // A decision that is not in the status yet holds as if it were.
        let current = if service.current.is_empty() {
            self.held_by(&service.key).to_vec()
        } else {
            service.current.clone()
        };
        let mut decision = Decision::default();
        if !current.is_empty() {
            match self.may_stay(&asking, &current) {
                Ok(()) => decision.addresses = current,
                Err(obstacle) if obstacle.kind == Some(EventKind::LoadBalancerFailed) => {
                    // What was decided and is in no status yet is not what it has.
                    if service.current.is_empty() {
                        decision.obstacle = self.allocate(&asking).err();
                        return decision;
                    }
                    decision.addresses = current;
                    decision.obstacle = Some(obstacle);
                    return decision;
                }
                Err(obstacle) => {
                    decision.conflict = obstacle.conflict.then(|| obstacle.verdict.message.clone());
                    // What was decided and is in no status yet is taken from nobody.
                    let was_seen = !service.current.is_empty();
                    let event = obstacle.to_event(service).filter(|_| was_seen);
                    decision.events.extend(event);
                }
            }
        }
        if decision.addresses.is_empty() {
            match self.allocate(&asking) {
                Ok(addresses) => {
                    decision.events.push(Event {
                        kind: EventKind::IPAllocated,
                        message: format!("Assigned IP {:?}", texts(&addresses)),
                    });
                    decision.addresses = addresses;
                }
                Err(obstacle) => {
                    decision.obstacle = Some(obstacle);
                    return decision;
                }
            }
        }
        if let [only] = decision.addresses.as_slice()
            && service.families == Families::Dual
            && service.policy == Policy::PreferDualStack
            // Whoever asks for one address has it and asks for no other: the next look would take both away.
            && service.requested == Requested::Nothing
        {
            match self.add_family(&asking, *only) {
                Ok(added) => {
                    decision.events.push(Event {
                        kind: EventKind::IPAllocated,
                        message: format!("Assigned additional IP {:?}", added.to_string()),
                    });
                    decision.addresses.push(added);
                }
                Err(obstacle) => decision.obstacle = Some(obstacle),
            }
        }
        decision
    }

    /// Whether what the status of `service` records is of a pool that exists and is not in force, it asks for nothing else, and
    /// nobody older has it. A mistake in a pool takes no address, also from those whose operator started anew and does not know
    /// what the pool said before.
    fn is_of_pool_set_aside(&self, service: &Service) -> bool {
        self.records_pool_set_aside(service)
            && self.asks_otherwise(service, &service.current).is_none()
            && service.current.iter().all(|address| {
                let pool = self.offering(*address).and_then(|pool| self.pool(pool));
                let used = pool.and_then(|pool| pool.used(*address));
                let mine = (service.created, service.key.clone());
                used.is_none_or(|used| used.against(service).iter().all(|other| *other > mine))
            })
    }

    fn records_pool_set_aside(&self, service: &Service) -> bool {
        let pool = service.recorded_pool.as_ref();
        !service.current.is_empty() && pool.is_some_and(|pool| self.set_aside.contains(pool))
    }

    /// What the Service asks for that `current`, of the pool that it records, is not.
    fn asks_otherwise(&self, service: &Service, current: &[IpAddr]) -> Option<String> {
        let asks = asks_for_families(service, Families::of(current));
        let pool = service.requested_pool.as_deref();
        let pool = pool.filter(|wanted| Some(*wanted) != service.recorded_pool.as_deref());
        asks.or_else(|| pool.map(asks_for_pool))
            .or_else(|| asks_for_addresses(service, current))
    }

    /// Whether what the status of `service` records may stay, for a claim at the start.
    pub(crate) fn may_claim(&mut self, service: &Service, version: &str) -> bool {
        if self.is_of_pool_set_aside(service) {
            return true;
        }
        let asking = Asking {
            service,
            recorded: self.recorded(service, version),
            own: Vec::new(),
        };
        self.check(&asking, &service.current).is_ok()
    }

    /// Whether the Service keeps `current` (reference 3.2, steps 7 to 12); if not, what to say.
    fn may_stay(&mut self, asking: &Asking<'_>, current: &[IpAddr]) -> Result<(), Obstacle> {
        let service = asking.service;
        let families = Families::of(current);
        if families == Families::Unknown {
            return Err(reasons::unknown_status_family(current));
        }
        if let Some(now) = asks_for_families(service, families) {
            return Err(reasons::moves(current, &now));
        }
        // The pool is not known well enough to say whether they may stay; that it asks for others is.
        if self.pool_of(current).is_none()
            && self.records_pool_set_aside(service)
            && let Some(asks) = self.asks_otherwise(service, current)
        {
            return Err(reasons::moves(current, &asks));
        }
        let pool = self
            .check(asking, current)
            .map_err(|obstacle| obstacle.event(EventKind::ClearAssignment))?;
        let wanted = service.requested_pool.as_deref();
        if let Some(wanted) = wanted.filter(|wanted| self.named(wanted) != Some(pool)) {
            return Err(reasons::moves(current, &asks_for_pool(wanted)));
        }
        match &service.requested {
            Requested::Nothing => Ok(()),
            Requested::Invalid(reason) => {
                Err(Obstacle::new(Reason::InvalidRequest, reason)
                    .event(EventKind::LoadBalancerFailed))
            }
            Requested::Addresses(_) => match asks_for_addresses(service, current) {
                None => Ok(()),
                Some(asks) => Err(reasons::moves(current, &asks)),
            },
        }
    }

    /// Whether the Service may have exactly `addresses`, and of which pool (reference 3.5, assign checks).
    fn check(&mut self, asking: &Asking<'_>, addresses: &[IpAddr]) -> Result<u32, Obstacle> {
        let service = asking.service;
        let Some(index) = self.pool_of(addresses) else {
            return Err(reasons::not_in_pools(
                addresses,
                |address| Some(&self.pool(self.owner(address)?)?.pool),
                self.pools.iter().map(|pool| &pool.pool),
                &self.set_aside,
                service,
            ));
        };
        if addresses.len() > 2 || Families::of(addresses) == Families::Unknown {
            return Err(reasons::family_mismatch(addresses, service));
        }
        self.compatible(index, service)?;
        for address in addresses {
            self.check_one(index, *address, asking)?;
        }
        let new = addresses
            .iter()
            .filter(|address| !asking.recorded.contains(address))
            .filter(|address| !self.is_counted(index, **address, service))
            .count();
        let needed = Needed {
            new,
            in_all: addresses.len(),
        };
        match self.room(index, service).obstacle(needed, service) {
            Some(limit) => Err(limit),
            None => Ok(index),
        }
    }

    /// Whether others stand in the way of one address.
    fn check_one(
        &mut self,
        index: u32,
        address: IpAddr,
        asking: &Asking<'_>,
    ) -> Result<(), Obstacle> {
        let service = asking.service;
        let recorded = asking.recorded.contains(&address);
        let Some(pool) = self.pool(index) else {
            return Err(reasons::no_pools());
        };
        if !recorded && self.holds.keeps_from(address, &service.key) {
            let former = self.holds.former(address);
            return Err(reasons::on_hold(address, former, &pool.pool));
        }
        let Err(why) = pool.admits(address, service, recorded) else {
            return Ok(());
        };
        let used = pool.used(address);
        let changed_itself = used.is_some_and(|used| used.is_held_by(&service.key));
        if !recorded || changed_itself {
            return Err(reasons::blocked(address, service, &why));
        }
        // Two statuses name the address, and both Services cannot have it: the older keeps it.
        let mut against = used.map(|used| used.against(service)).unwrap_or_default();
        against.sort();
        match against.first() {
            Some(oldest) if *oldest < (service.created, service.key.clone()) => {
                Err(reasons::conflict(address, &oldest.1))
            }
            // They lose it once that is decided.
            _ => Ok(()),
        }
    }

    /// Finds addresses for a Service that has none (reference 3.5).
    fn allocate(&mut self, asking: &Asking<'_>) -> Result<Vec<IpAddr>, Obstacle> {
        let service = asking.service;
        match &service.requested {
            Requested::Invalid(reason) => {
                return Err(Obstacle::new(Reason::InvalidRequest, reason));
            }
            Requested::Addresses(wanted) => return self.allocate_requested(asking, wanted),
            Requested::Nothing => {}
        }
        let mut lacks = Lacks::default();
        if let Some(wanted) = &service.requested_pool {
            let Some(index) = self.named(wanted) else {
                return Err(self.no_such_pool(wanted));
            };
            self.compatible(index, service)?;
            return self.pick(&[index], asking, &mut lacks).ok_or_else(|| {
                let families = service.families;
                let what = format!("no available IPs in pool {wanted} for {families} IPFamily");
                lacks.obstacle(what, Some(wanted))
            });
        }
        let pinned: Vec<u32> = self
            .pinned
            .iter()
            .copied()
            .filter(|index| self.compatible(*index, service).is_ok())
            .collect();
        let unpinned = self.unpinned.clone();
        self.pick(&pinned, asking, &mut lacks)
            .or_else(|| self.pick(&unpinned, asking, &mut lacks))
            .ok_or_else(|| {
                if pinned.is_empty() && unpinned.is_empty() {
                    lacks.sentences = self.unfit(service);
                }
                lacks.obstacle(format!("no available IPs for {}", service.families), None)
            })
    }

    /// The pool of this name is none that is in force.
    fn no_such_pool(&self, wanted: &str) -> Obstacle {
        if self.set_aside.contains(wanted) {
            return reasons::pool_set_aside(wanted);
        }
        reasons::unknown_pool(wanted, self.pools.iter().map(|pool| &pool.pool))
    }

    fn allocate_requested(
        &mut self,
        asking: &Asking<'_>,
        wanted: &[IpAddr],
    ) -> Result<Vec<IpAddr>, Obstacle> {
        let service = asking.service;
        if Families::of(wanted) != service.families {
            return Err(reasons::family_mismatch(wanted, service));
        }
        if let Some(pool) = &service.requested_pool {
            let asked = self.named(pool);
            if asked.is_none() {
                return Err(self.no_such_pool(pool));
            }
            let owner = self.pool_of(wanted).filter(|owner| Some(*owner) != asked);
            if let Some(owner) = owner.and_then(|owner| self.pool(owner)) {
                return Err(reasons::other_pool(wanted, &owner.pool.name, pool));
            }
        }
        match self.check(asking, wanted) {
            Ok(_) => Ok(wanted.to_vec()),
            Err(mut obstacle) => {
                // Whatever becomes of one of them may change what there is to say.
                let all = wanted.iter().map(|address| Wait::Address(*address));
                obstacle.waits.extend(all);
                Err(obstacle)
            }
        }
    }

    /// Adds the missing family from the pool of the address that the Service has.
    fn add_family(&mut self, asking: &Asking<'_>, has: IpAddr) -> Result<IpAddr, Obstacle> {
        let service = asking.service;
        let index = self.pool_of(&[has]).ok_or_else(reasons::no_pools)?;
        let missing = if has.is_ipv4() {
            Family::V6
        } else {
            Family::V4
        };
        // The address that it has is part of what it may have, unless others of its namespace share it.
        let room = self
            .room(index, service)
            .less(usize::from(!self.is_counted(index, has, service)));
        if let Some(added) = self.candidate(index, missing, asking, room.total() >= 1) {
            self.check(asking, &[has, added])?;
            return Ok(added);
        }
        let mut lacks = Lacks::default();
        self.lacking(
            index,
            Need::One(missing),
            room.obstacle(Needed { new: 1, in_all: 2 }, service),
            asking,
            &mut lacks,
        );
        let name = self.pool(index).map_or("", |pool| pool.pool.name.as_str());
        let (why, remedy) = match &lacks.limit {
            Some(limit) => (limit.verdict.message.clone(), ""),
            None => (
                listed(lacks.sentences),
                "; add some to it, or make ipFamilyPolicy SingleStack",
            ),
        };
        Err(Obstacle::new(
            Reason::SecondFamilyUnavailable,
            format!(
                "{has} stays alone, and both addresses must be of one pool: no available {missing} address in pool {name}: {why}{remedy}"
            ),
        )
        .event(EventKind::AdditionalAssignFailed)
        .waiting_for(lacks.waits))
    }
}

/// What to say where the Service is of other families than these addresses.
fn asks_for_families(service: &Service, families: Families) -> Option<String> {
    let second_missing = service.families == Families::Dual
        && service.policy == Policy::PreferDualStack
        && matches!(families, Families::Single(_));
    // Nothing is asked for while the families of either cannot be told.
    let known = matches!(service.families, Families::Single(_) | Families::Dual)
        && families != Families::Unknown;
    (known && families != service.families && !second_missing)
        .then(|| format!("the Service is {} now", service.families))
}

fn asks_for_pool(wanted: &str) -> String {
    format!("the Service asks for an address of pool {wanted}")
}

fn asks_for_addresses(service: &Service, current: &[IpAddr]) -> Option<String> {
    match &service.requested {
        Requested::Addresses(wanted) if !same_set(wanted, current) => {
            Some(format!("the Service asks for {:?}", texts(wanted)))
        }
        _ => None,
    }
}

fn same_set(one: &[IpAddr], other: &[IpAddr]) -> bool {
    one.iter().collect::<BTreeSet<_>>() == other.iter().collect::<BTreeSet<_>>()
}
