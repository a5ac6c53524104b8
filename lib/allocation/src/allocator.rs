//! The door: pools and Services in, outcomes out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferrolb_api::ObjectKey;
use ferrolb_rules::{Family, Pool};

use crate::holds::Hold;
use crate::outcome::{Event, EventKind, Outcome};
use crate::service::{Families, Namespace, Namespaces, Service};
use crate::state::State;
use crate::waiting::{Need, Wait};

/// Who has which address. Deterministic: the same calls in the same order give the same addresses.
///
/// Time is told by [`Allocator::tick`]. After [`Allocator::set_pools`] and [`Allocator::set_namespaces`] every Service must
/// be reconciled; after every other call those that [`Allocator::next_to_retry`] names.
#[derive(Clone, Debug, Default)]
pub struct Allocator {
    state: State,
    /// What was said last of each Service that does not have all that it asks for, so that it is said once.
    said: BTreeMap<ObjectKey, String>,
    /// The steps that were told of each Service: they are decided again at every look until the status shows them.
    steps: BTreeMap<ObjectKey, Steps>,
}

/// What was told of the steps from the addresses in a Service's status to those that it shall have.
#[derive(Clone, Debug)]
struct Steps {
    /// The last version that they were decided on.
    version: Box<str>,
    /// The addresses in its status then.
    of: Vec<IpAddr>,
    told: Vec<Event>,
}

impl Steps {
    /// What of it is no news in the next steps.
    fn told_still(self, service: &Service, version: &str) -> Vec<Event> {
        if *self.version == *version || self.of == service.current {
            return self.told;
        }
        // Others may come to stand in the status in between. What was given last is the same still; what is lost is not.
        let given = |event: &Event| event.kind == EventKind::IPAllocated;
        self.told.into_iter().rfind(given).into_iter().collect()
    }
}

/// The counters of a pool's status (reference 1.1, 3.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PoolCounters {
    /// Distinct IPv4 addresses in use.
    pub assigned_v4: i64,
    /// Distinct IPv6 addresses in use.
    pub assigned_v6: i64,
    /// IPv4 capacity less those in use or on hold.
    pub available_v4: i64,
    /// IPv6 capacity less those in use or on hold; at most the largest 64-bit number.
    pub available_v6: i64,
    /// IPv4 addresses of the pool, those left out not counted.
    pub total_v4: i64,
    /// IPv6 addresses of the pool; at most the largest 64-bit number.
    pub total_v6: i64,
}

impl Allocator {
    /// Puts other pools in force. What a status records stays with its Service as long as it lies in a pool.
    pub fn set_pools(&mut self, pools: impl IntoIterator<Item = Pool>) {
        self.state.set_pools(pools);
    }

    /// Names pools that exist and are not in force, because they break a rule. Who has addresses of them keeps those.
    pub fn set_aside(&mut self, pools: BTreeSet<String>) {
        self.state.set_aside = pools;
    }

    /// Whether anything was read of this namespace.
    #[must_use]
    pub fn knows_namespace(&self, name: &str) -> bool {
        self.state.namespaces.contains_key(name)
    }

    /// What is read of every namespace.
    pub fn set_namespaces(&mut self, namespaces: Namespaces) {
        self.state.namespaces = namespaces;
    }

    /// What is read of one namespace; `None` where it is gone. Every Service in it must be reconciled afterwards.
    pub fn set_namespace(&mut self, name: &str, namespace: Option<Namespace>) {
        self.state.set_namespace(name, namespace);
        for need in Need::ALL {
            self.state
                .waiting
                .stir(&Wait::Limit(name.into(), None, need));
        }
    }

    /// Tells the time, in milliseconds since the epoch. Addresses whose hold has ended are free then.
    pub fn tick(&mut self, now: i64) {
        self.state.tick(now);
    }

    /// When time alone changes something next, in milliseconds since the epoch: time to tick and to retry.
    #[must_use]
    pub fn wake_at(&self) -> Option<i64> {
        self.state.next_end()
    }

    /// A status write for this version of a Service was sent. Its addresses stay taken, whatever is decided meanwhile, until
    /// another version is seen or it is too old to take effect. That a write for the same version was refused later proves nothing:
    /// this one may be why.
    pub fn sent(&mut self, key: &ObjectKey, version: &str, addresses: &[IpAddr]) {
        self.state.sent(key, version, addresses);
    }

    /// The addresses that are kept for their former owners, by pool.
    #[must_use]
    pub fn holds(&self) -> BTreeMap<String, Vec<Hold>> {
        let mut by_pool: BTreeMap<String, Vec<Hold>> = BTreeMap::new();
        for hold in self.state.holds.all() {
            let pool = self.state.owner(hold.address);
            if let Some(pool) = pool.and_then(|pool| self.state.pool(pool)) {
                by_pool
                    .entry(pool.pool.name.clone())
                    .or_default()
                    .push(hold);
            }
        }
        by_pool
    }

    /// Puts an address on hold that was on hold in a former process, after the claims and before any decision.
    pub fn restore_hold(&mut self, hold: Hold) {
        self.state.restore_hold(hold);
    }

    /// Claims what a Service's status records, before anything new is decided (reference 3.4: no pending Service may take
    /// an address that another's status names). The oldest first: where two claim one address, the first has it. False if
    /// it may not stay; it stays taken all the same until [`Allocator::reconcile`] has said why and the status is cleared.
    pub fn claim(&mut self, service: &Service, version: &str) -> bool {
        if service.current.is_empty() {
            return false;
        }
        let stays = self.state.may_claim(service, version);
        let held = if stays { &service.current[..] } else { &[] };
        self.state.settle(service, version, held);
        stays
    }

    /// Decides what `service` shall have. `version` is that of the object it was read of.
    pub fn reconcile(&mut self, service: &Service, version: &str) -> Outcome {
        self.state.refresh(service, version);
        let decision = self.state.decide(service, version);
        let addresses = decision.addresses;
        if service.families == Families::Unknown {
            // Left as it is, which may be no address that it may have.
            let stays = !addresses.is_empty() && self.state.may_claim(service, version);
            let held = if stays { &addresses[..] } else { &[] };
            self.state.settle(service, version, held);
        } else {
            self.state.settle(service, version, &addresses);
        }
        let mut events = self.steps(service, version, decision.events);
        let verdict = match decision.obstacle {
            None => {
                self.state.waiting.withdraw(&service.key);
                self.said.remove(&service.key);
                None
            }
            Some(obstacle) => {
                self.state
                    .waiting
                    .file(service.created, &service.key, obstacle.waits.clone());
                events.extend(self.say(service, obstacle.verdict.message.as_str(), || {
                    obstacle.to_event(service)
                }));
                Some(obstacle.verdict)
            }
        };
        let pool = self.state.pool_of(&addresses);
        let pool = pool.and_then(|pool| Some(self.state.pool(pool)?.pool.name.clone()));
        Outcome {
            pool: if decision.of_pool_set_aside {
                service.recorded_pool.clone()
            } else {
                pool
            },
            addresses,
            events,
            verdict,
            conflict: decision.conflict,
        }
    }

    /// Of the steps that a look decided on those that were not told before.
    fn steps(&mut self, service: &Service, version: &str, steps: Vec<Event>) -> Vec<Event> {
        let before = self.steps.remove(&service.key);
        if steps.is_empty() && before.as_ref().is_none_or(|b| *b.version != *version) {
            return steps;
        }
        let mut told = before.map_or_else(Vec::new, |before| before.told_still(service, version));
        let new: Vec<Event> = steps
            .into_iter()
            .filter(|step| !told.iter().any(|told| step.repeats(told)))
            .collect();
        told.extend(new.iter().cloned());
        let after = Steps {
            version: version.into(),
            of: service.current.clone(),
            told,
        };
        self.steps.insert(service.key.clone(), after);
        new
    }

    /// What lasts is seen again at every look; the owner of the Service is told when it changes.
    fn say(
        &mut self,
        service: &Service,
        message: &str,
        event: impl FnOnce() -> Option<Event>,
    ) -> Option<Event> {
        let known = match self.said.get(&service.key) {
            Some(said) => said == message,
            None => service.told.as_deref() == Some(message),
        };
        self.said.insert(service.key.clone(), message.to_owned());
        if known { None } else { event() }
    }

    /// The Service wants no address any more. What its status records stays taken until it is seen not to.
    pub fn release(&mut self, service: &Service, version: &str) {
        self.said.remove(&service.key);
        self.steps.remove(&service.key);
        self.state.waiting.withdraw(&service.key);
        self.state.settle(service, version, &[]);
    }

    /// Forgets a Service that is gone or no longer ours.
    pub fn forget(&mut self, key: &ObjectKey) {
        self.said.remove(key);
        self.steps.remove(key);
        self.state.forget(key);
    }

    /// Every Service that has, had or waits for an address.
    pub fn known(&self) -> impl Iterator<Item = &ObjectKey> {
        self.state.known()
    }

    /// The next Service to reconcile because of what other calls changed, the oldest first; `None` when nobody is left
    /// whom that could help. To be asked until then.
    pub fn next_to_retry(&mut self) -> Option<ObjectKey> {
        self.state.waiting.next()
    }

    /// The addresses that a Service shall have.
    #[must_use]
    pub fn addresses_of(&self, key: &ObjectKey) -> &[IpAddr] {
        self.state.held_by(key)
    }

    /// The counters of a pool.
    #[must_use]
    pub fn counters(&self, pool: &str) -> Option<PoolCounters> {
        let pool = self.state.pool(self.state.named(pool)?)?;
        let assigned = |family| i64::try_from(pool.in_use(family)).unwrap_or(i64::MAX);
        let total = |family| i64::try_from(pool.total(family)).unwrap_or(i64::MAX);
        let available = |family| i64::try_from(pool.available(family)).unwrap_or(i64::MAX);
        Some(PoolCounters {
            assigned_v4: assigned(Family::V4),
            assigned_v6: assigned(Family::V6),
            available_v4: available(Family::V4),
            available_v6: available(Family::V6),
            total_v4: total(Family::V4),
            total_v6: total(Family::V6),
        })
    }
}
