//! The picking rule of reference 3.5: which address of which pool?

use std::net::IpAddr;

use ferrolb_rules::{Family, Requested};

use crate::eligibility::Needed;
use crate::outcome::Reason;
use crate::reasons::{self, Obstacle, listed};
use crate::service::{Families, Policy, Service};
use crate::sharing::Use;
use crate::state::State;
use crate::waiting::{Need, Wait};

/// A Service at a decision, with what its status records already.
pub(crate) struct Asking<'a> {
    pub(crate) service: &'a Service,
    pub(crate) recorded: Vec<IpAddr>,
    /// What it has or had a moment ago: taken again before anything else.
    pub(crate) own: Vec<IpAddr>,
}

/// What the pools that were tried lack.
#[derive(Default)]
pub(crate) struct Lacks {
    pub(crate) sentences: Vec<String>,
    pub(crate) waits: Vec<Wait>,
    pub(crate) limit: Option<Obstacle>,
    /// Whether one of them has the family at all.
    pub(crate) suited: bool,
}

impl State {
    /// The picking rule of reference 3.5 over pools in order.
    pub(crate) fn pick(
        &mut self,
        pools: &[u32],
        asking: &Asking<'_>,
        lacks: &mut Lacks,
    ) -> Option<Vec<IpAddr>> {
        let service = asking.service;
        let mut primary = None;
        let mut secondary = None;
        for index in pools {
            let limits = self.room(*index, service);
            let room = limits.total();
            match service.families {
                Families::Single(family) => {
                    match self.candidate(*index, family, asking, room >= 1) {
                        Some(address) => return Some(vec![address]),
                        None => {
                            let limit = limits.obstacle(Needed::all(1), service);
                            self.lacking(*index, Need::One(family), limit, asking, lacks);
                        }
                    }
                }
                Families::Dual => {
                    if let Some(pair) = self.pair(*index, asking, room) {
                        return Some(pair);
                    }
                    let prefers = service.policy == Policy::PreferDualStack;
                    let limit = limits.obstacle(Needed::all(if prefers { 1 } else { 2 }), service);
                    self.lacking(*index, Need::of(service), limit, asking, lacks);
                    if service.policy == Policy::PreferDualStack {
                        let mut one = |family| self.candidate(*index, family, asking, room >= 1);
                        let (v4, v6) = (one(Family::V4), one(Family::V6));
                        let (first, second) = if service.primary == Family::V4 {
                            (v4, v6)
                        } else {
                            (v6, v4)
                        };
                        primary = primary.or(first);
                        secondary = secondary.or(second);
                    }
                }
                Families::None | Families::Unknown => return None,
            }
        }
        primary.or(secondary).map(|address| vec![address])
    }

    /// One address of each family, no more of them new to the namespace than there is room for.
    fn pair(&mut self, index: u32, asking: &Asking<'_>, room: usize) -> Option<Vec<IpAddr>> {
        for (new_four, new_six) in [(true, true), (true, false), (false, true), (false, false)] {
            let four = self.candidate(index, Family::V4, asking, new_four);
            let six = self.candidate(index, Family::V6, asking, new_six);
            let (Some(four), Some(six)) = (four, six) else {
                continue;
            };
            let new = [four, six]
                .iter()
                .filter(|address| !self.is_counted(index, **address, asking.service))
                .count();
            if new <= room {
                return Some(vec![four, six]);
            }
        }
        None
    }

    /// Notes what a pool that was tried lacks. The sentence stays the same for as long as the Service waits: who is not
    /// at the head of a queue is not looked at when an address that it cannot use comes free.
    pub(crate) fn lacking(
        &self,
        index: u32,
        need: Need,
        limit: Option<Obstacle>,
        asking: &Asking<'_>,
        lacks: &mut Lacks,
    ) {
        let Some(pool) = self.pool(index) else {
            return;
        };
        // An address that others share under its key may be had without room or a free one.
        let key = &asking.service.sharing_key;
        if !key.is_empty() {
            lacks.waits.push(Wait::Sharing(key.as_str().into()));
        }
        let (four, six) = (pool.has(Family::V4), pool.has(Family::V6));
        let missing = |family| Some(format!("has no {family} addresses"));
        let never = match need {
            Need::One(family) => (!pool.has(family)).then(|| missing(family)).flatten(),
            Need::Both if !four => missing(Family::V4),
            Need::Both if !six => missing(Family::V6),
            Need::Either if !four && !six => Some("has no addresses".to_owned()),
            Need::Both | Need::Either | Need::Mixed => None,
        };
        if let (None, Some(limit)) = (&never, limit) {
            lacks.suited = true;
            lacks.waits.extend(limit.waits.clone());
            lacks.limit = Some(limit);
            return;
        }
        let lack = never.unwrap_or_else(|| {
            lacks.suited = true;
            lacks
                .waits
                .push(Wait::Pool(index, self.queue(need, asking.service)));
            reasons::none_free(&pool.pool, need, (four, six))
        });
        lacks
            .sentences
            .push(format!("pool {} {lack}", pool.pool.name));
    }

    /// The queue of those who are equal to `service` before a pool or a limit.
    pub(crate) fn queue(&self, need: Need, service: &Service) -> Need {
        let alone = service.sharing_key.is_empty()
            && service.requested == Requested::Nothing
            && self.holds.kept_for(&service.key).next().is_none();
        match need {
            Need::One(_) => need,
            _ if alone => need,
            _ => Need::Mixed,
        }
    }

    /// The first address of `family` in a pool that the Service may have: its own, one that is kept for it, a free one or
    /// one of Services that share with it. Without `new` only one that counts for its namespace already.
    pub(crate) fn candidate(
        &mut self,
        index: u32,
        family: Family,
        asking: &Asking<'_>,
        new: bool,
    ) -> Option<IpAddr> {
        let service = asking.service;
        let of_pool = |state: &State, address: IpAddr| {
            Family::of(address) == family && state.offering(address) == Some(index)
        };
        let own = asking.own.iter().copied().find(|address| {
            of_pool(self, *address)
                && (new || self.is_counted(index, *address, service))
                && self
                    .pool(index)
                    .is_some_and(|pool| pool.admits(*address, service, true).is_ok())
        });
        if own.is_some() {
            return own;
        }
        if new {
            let kept = self
                .holds
                .kept_for(&service.key)
                .find(|address| of_pool(self, *address));
            if kept.is_some() {
                return kept;
            }
        }
        let pool = self.pool_mut(index)?;
        let free = if new { pool.first_free(family) } else { None };
        if service.sharing_key.is_empty() {
            return free;
        }
        let namespace = service.key.namespace();
        let fits = |used: &Use| new || used.is_held_in(namespace);
        match (free, pool.first_shareable(family, service, fits)) {
            (Some(free), Some(shared)) => Some(pool.earlier(free, shared)),
            (one, other) => one.or(other),
        }
    }
}

impl Lacks {
    /// What to say: `what` is lacking, of the pool that is asked for or of all.
    pub(crate) fn obstacle(self, what: String, asked: Option<&str>) -> Obstacle {
        let mut waits = self.waits;
        waits.sort();
        waits.dedup();
        if let Some(limit) = self.limit {
            return limit.waiting_for(waits);
        }
        let reason = if self.suited {
            Reason::PoolExhausted
        } else {
            Reason::NoPoolMatches
        };
        let remedy = match (self.suited, asked) {
            (true, None) => "; add addresses to a pool or delete a Service".to_owned(),
            (true, Some(pool)) => format!(
                "; add addresses to pool {pool}, delete a Service that has one of it, or ask for another pool"
            ),
            (false, None) => "; add such addresses to a pool, have a pool opened to the Service, or ask for another pool".to_owned(),
            (false, Some(pool)) => format!("; add such addresses to pool {pool}, or ask for another pool"),
        };
        Obstacle::new(
            reason,
            format!("{what}: {}{remedy}", listed(self.sentences)),
        )
        .waiting_for(waits)
    }
}
