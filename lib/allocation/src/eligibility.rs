//! Which pools may serve a Service, and how many addresses may it have?

use std::net::IpAddr;

use ferrolb_api::annotations;
use ferrolb_rules::{Pool, any_matches};

use crate::reasons::{self, Obstacle};
use crate::service::{Limit, Service};
use crate::state::State;
use crate::waiting::{Need, Wait};

impl State {
    /// Whether a pool may serve a Service (reference 3.5, compatibility).
    ///
    /// Namespace selectors that match no namespace restrict to none, not to all (reference 9, row 15: fixed).
    pub(crate) fn compatible(&self, index: u32, service: &Service) -> Result<(), Obstacle> {
        let Some(pool) = self.pool(index) else {
            return Err(reasons::no_pools());
        };
        match self.needs(&pool.pool, service) {
            None => Ok(()),
            Some(needs) => Err(reasons::incompatible(&pool.pool.name, &needs, service)),
        }
    }

    /// What a Service lacks to be served by a pool.
    fn needs(&self, pool: &Pool, service: &Service) -> Option<String> {
        let allocation = pool.service_allocation.as_ref()?;
        let restricted =
            !allocation.namespaces.is_empty() || !allocation.namespace_selectors.is_empty();
        let name = service.key.namespace();
        let listed = allocation.namespaces.contains(name);
        let selected = !allocation.namespace_selectors.is_empty()
            && self.namespaces.get(name).is_some_and(|namespace| {
                any_matches(&allocation.namespace_selectors, &namespace.labels)
            });
        if restricted && !listed && !selected {
            let names = reasons::some_of(&allocation.namespaces, " or ");
            let mut needs = if names.is_empty() {
                "needs a namespace".to_owned()
            } else {
                format!("needs namespace {names}")
            };
            if !allocation.namespace_selectors.is_empty() {
                let or = if names.is_empty() { "" } else { " or one" };
                needs += or;
                needs += " with labels that its namespaceSelectors match";
            }
            return Some(format!("{needs}, not {name}"));
        }
        (!any_matches(&allocation.service_selectors, &service.labels))
            .then(|| "needs labels on the Service that its serviceSelectors match".to_owned())
    }

    /// Why no pool serves a Service that asks for nothing.
    pub(crate) fn unfit(&self, service: &Service) -> Vec<String> {
        let pools = self.pools.iter().map(|pool| &pool.pool);
        pools
            .map(|pool| match self.needs(pool, service) {
                Some(needs) => reasons::closed(&pool.name, &needs),
                None => format!(
                    "pool {} has autoAssign false, ask for it by {}",
                    pool.name,
                    annotations::ADDRESS_POOL.current
                ),
            })
            .collect()
    }

    /// Whether another Service of the same namespace has the address, so that it counts already.
    pub(crate) fn is_counted(&self, index: u32, address: IpAddr, service: &Service) -> bool {
        self.pool(index)
            .and_then(|pool| pool.used(address))
            .is_some_and(|used| used.is_held_beside(&service.key))
    }

    /// How many addresses of a pool that do not count for its namespace yet a Service may have in all.
    pub(crate) fn room(&self, index: u32, service: &Service) -> Room {
        let namespace = service.key.namespace();
        let mut room = Room(Vec::new());
        let Some(pool) = self.pool(index) else {
            return room;
        };
        let of_namespace = self.namespaces.get(namespace).map(|known| &known.limit);
        let of_pool = pool.pool.max_addresses_per_namespace;
        if matches!(of_namespace, None | Some(Limit::None)) && of_pool.is_none() {
            return room;
        }
        // What only this Service has does not stand in its own way, and it may have as many in their place, even where
        // the limit was lowered since.
        let (in_pool, in_all) = self.counted(namespace, index);
        let (mut own_in_pool, mut own) = (0, 0);
        for address in self.held_by(&service.key) {
            let owner = self.owner(*address);
            if owner.is_some_and(|owner| !self.is_counted(owner, *address, service)) {
                own += 1;
                own_in_pool += u32::from(owner == Some(index));
            }
        }
        let left = |limit: u32, counted: u32, own: u32| {
            limit.saturating_sub(counted.saturating_sub(own)).max(own)
        };
        let need = self.queue(Need::of(service), service);
        let mut add = |left: u32, pool: Option<u32>, whose: String, limit: Option<u32>| {
            room.0.push(Left {
                left: left as usize,
                whose,
                limit,
                wait: Wait::Limit(namespace.into(), pool, need),
            });
        };
        match of_namespace {
            None | Some(Limit::None) => {}
            Some(Limit::At(limit)) => {
                let whose = format!(
                    "Namespace {namespace} has {} {limit}",
                    annotations::MAX_ADDRESSES
                );
                add(left(*limit, in_all, own), None, whose, Some(*limit));
            }
            Some(Limit::Invalid(why)) => {
                add(own, None, why.clone(), None);
            }
        }
        if let Some(limit) = of_pool {
            let whose = format!(
                "pool {} lets each namespace have {limit} ({})",
                pool.pool.name,
                annotations::MAX_ADDRESSES_PER_NAMESPACE
            );
            let left = left(limit, in_pool, own_in_pool);
            add(left, Some(index), whose, Some(limit));
        }
        room
    }
}

/// How many addresses a Service needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needed {
    /// That do not count for its namespace yet.
    pub(crate) new: usize,
    /// To have what it asks for.
    pub(crate) in_all: usize,
}

impl Needed {
    /// Nothing of it counts yet.
    pub(crate) fn all(in_all: usize) -> Self {
        Needed {
            new: in_all,
            in_all,
        }
    }
}

/// What each limit leaves a Service.
pub(crate) struct Room(Vec<Left>);

struct Left {
    left: usize,
    /// Which object has the limit.
    whose: String,
    /// `None` where it cannot be understood.
    limit: Option<u32>,
    wait: Wait,
}

impl Room {
    /// What all of them leave.
    pub(crate) fn total(&self) -> usize {
        let least = self.0.iter().map(|limit| limit.left).min();
        least.unwrap_or(usize::MAX)
    }

    /// The same with so many taken.
    pub(crate) fn less(mut self, taken: usize) -> Self {
        for limit in &mut self.0 {
            limit.left = limit.left.saturating_sub(taken);
        }
        self
    }

    /// What stands in the way of so many: it waits for room under each limit that has too little.
    pub(crate) fn obstacle(&self, needed: Needed, service: &Service) -> Option<Obstacle> {
        let narrow = || self.0.iter().filter(|limit| limit.left < needed.new);
        let first = narrow().next()?;
        let obstacle = reasons::limited(&first.whose, first.limit, needed, service);
        Some(obstacle.waiting_for(narrow().map(|limit| limit.wait.clone()).collect()))
    }
}
