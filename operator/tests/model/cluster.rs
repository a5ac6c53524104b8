//! The API server of the model, people who write to it, and what it thinks of each status write.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferrolb_api::ObjectKey;
use ferrolb_cluster::Changes;
use ferrolb_operator::carry_out::Sent;
use ferrolb_operator::decide::Seen;
use ferrolb_operator::holds;
use ferrolb_operator::project::{Observed, observe};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;

use crate::leader::{Leader, Write};
use crate::spec::{Config, Spec, object};

/// A Service as the API server holds it.
#[derive(Clone, Debug)]
pub struct Object {
    pub version: u64,
    pub created: i64,
    pub spec: Spec,
    pub status: core::ServiceStatus,
    pub pool: Option<String>,
    /// What it said since its status was written last, the present spec included.
    pub specs: Vec<Spec>,
    /// Since which configuration its status stands.
    pub since: usize,
    /// Whether it may have shared an address at some time.
    pub shared: bool,
}

impl Object {
    pub fn addresses(&self) -> Vec<IpAddr> {
        let ingress = self
            .status
            .load_balancer
            .iter()
            .flat_map(|lb| lb.ingress.iter().flatten());
        ingress
            .filter_map(|entry| entry.ip.as_ref()?.parse().ok())
            .collect()
    }

    pub fn condition(&self, type_: &str) -> Option<&Condition> {
        ferrolb_api::conditions::find(self.status.conditions.as_deref().unwrap_or_default(), type_)
    }

    fn observed(&self, key: &ObjectKey) -> Option<Observed> {
        observe(
            &object(
                key,
                self.created,
                &self.spec,
                self.pool.as_ref(),
                &self.status,
            ),
            None,
        )
    }
}

pub struct Cluster {
    pub objects: BTreeMap<ObjectKey, Object>,
    /// Every configuration there was.
    pub configs: Vec<Config>,
    version: u64,
    clock: i64,
    pub leader: Leader,
    /// Writes of which the operator thinks that they failed, and that may still come through.
    ghosts: Vec<(i64, Write)>,
    /// What pools' statuses recorded last.
    held: Vec<ferrolb_api::v1beta1::HeldAddresses>,
    /// Addresses that somebody wrote into a status, or out of one, since the last rest.
    contested: BTreeSet<IpAddr>,
    pub findings: Vec<String>,
}

/// How a write ends.
#[derive(Clone, Copy, Debug)]
pub enum Ending {
    /// The API server takes it, or refuses it, and says so.
    Answered,
    /// The API server takes it, or refuses it, and the answer is lost.
    AnswerLost,
    /// It never arrives.
    Lost,
    /// The operator gives up on it, and it arrives later.
    Late,
}

impl Cluster {
    pub fn new(config: Config) -> Self {
        let mut cluster = Cluster {
            objects: BTreeMap::new(),
            configs: vec![config],
            version: 1,
            clock: 1_000_000,
            leader: Leader::new(),
            ghosts: Vec::new(),
            held: Vec::new(),
            contested: BTreeSet::new(),
            findings: Vec::new(),
        };
        cluster.restart(&[]);
        cluster
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.clock).unwrap()
    }

    pub fn config(&self) -> &Config {
        self.configs.last().unwrap()
    }

    /// Lets time pass, in seconds.
    pub fn pass(&mut self, seconds: i64) {
        // The operator waits five seconds for an answer.
        for (key, write) in std::mem::take(&mut self.leader.under_way) {
            self.leader.retry.insert(key);
            self.ghosts.push((self.clock, write));
        }
        self.clock += seconds * 1000;
        // The API server has ended every request that is older than a minute.
        let now = self.clock;
        self.ghosts.retain(|(sent, _)| now - sent < 65_000);
    }

    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// Somebody applies a Service.
    pub fn put(&mut self, key: &ObjectKey, spec: Spec) {
        let version = self.next_version();
        let since = self.configs.len() - 1;
        // Names and ages are in no order: the second of two that were made is often the first by name.
        let created = 1_000 + i64::try_from(version).unwrap() / 3;
        let object = self.objects.entry(key.clone()).or_insert_with(|| Object {
            version,
            created,
            spec: spec.clone(),
            status: core::ServiceStatus::default(),
            pool: None,
            specs: Vec::new(),
            since,
            shared: false,
        });
        object.version = version;
        object.shared |= spec.share.is_some();
        object.spec = spec.clone();
        object.specs.push(spec);
        // What somebody else wrote into the status of a Service that bears no mark of ours is not ours to clear.
        if !object.spec.load_balancer && object.pool.is_none() {
            object.status.load_balancer = None;
        }
        self.tell(key);
    }

    pub fn delete(&mut self, key: &ObjectKey) {
        if self.objects.remove(key).is_some() {
            self.next_version();
            self.tell(key);
        }
    }

    /// Somebody writes an address into a status by hand.
    pub fn tamper(&mut self, key: &ObjectKey, address: IpAddr) {
        let version = self.next_version();
        let Some(object) = self
            .objects
            .get_mut(key)
            .filter(|object| object.spec.load_balancer)
        else {
            return;
        };
        self.contested.insert(address);
        self.contested.extend(object.addresses());
        let ingress = vec![core::LoadBalancerIngress {
            ip: Some(address.to_string()),
            ..core::LoadBalancerIngress::default()
        }];
        object.status.load_balancer = Some(core::LoadBalancerStatus {
            ingress: Some(ingress),
        });
        object.version = version;
        self.tell(key);
    }

    pub fn configure(&mut self, config: Config) {
        self.configs.push(config);
    }

    fn tell(&mut self, key: &ObjectKey) {
        let object = self.objects.get(key);
        let version = object.map_or(String::new(), |object| object.version.to_string());
        let observed = object.and_then(|object| object.observed(key));
        self.leader
            .events
            .push_back((key.clone(), version, observed));
    }

    /// The watch says the last of what it said once more.
    pub fn repeat(&mut self, key: &ObjectKey) {
        let on_its_way = self.leader.events.iter().any(|(known, ..)| known == key);
        if !on_its_way {
            self.tell(key);
        }
    }

    /// Delivers so many events and decides.
    pub fn look(&mut self, events: usize, configuration: bool) {
        let count = events.min(self.leader.events.len());
        for (key, version, observed) in self.leader.events.drain(..count) {
            match observed {
                Some(observed) => self.leader.writer.applied(key, &version, Some(observed)),
                None => self.leader.writer.deleted(&key),
            }
        }
        let mut changes = self.leader.feed.take();
        if configuration {
            self.leader.configure(&self.configs, &mut changes);
        }
        if !changes.all {
            changes.keys.append(&mut self.leader.retry);
        }
        let now = self.now();
        self.leader.decide(&changes, now);
        self.keep_holds();
    }

    /// What the status of pools records is written at once in the model.
    fn keep_holds(&mut self) {
        let all = self.leader.decider.holds().into_values().flatten();
        self.held = holds::to_status(all.collect());
    }

    /// Sends one of the writes that wait; one per Service is under way at most.
    pub fn send(&mut self, pick: usize) {
        let leader = &mut self.leader;
        let able: Vec<ObjectKey> = leader
            .waiting
            .keys()
            .filter(|key| !leader.under_way.contains_key(*key))
            .cloned()
            .collect();
        if let Some(key) = able.get(pick % able.len().max(1)) {
            let write = leader.waiting.remove(key).unwrap();
            leader.decider.sent(&Sent {
                key: key.clone(),
                version: write.version.clone(),
                addresses: write.addresses.clone(),
            });
            leader.under_way.insert(key.clone(), write);
        }
    }

    pub fn end(&mut self, pick: usize, ending: Ending) {
        let keys: Vec<ObjectKey> = self.leader.under_way.keys().cloned().collect();
        let Some(key) = keys.get(pick % keys.len().max(1)) else {
            return;
        };
        let write = self.leader.under_way.remove(key).unwrap();
        let again = match ending {
            Ending::Answered => !self.arrives(&write),
            Ending::AnswerLost => {
                self.arrives(&write);
                true
            }
            Ending::Lost => true,
            Ending::Late => {
                self.ghosts.push((self.clock, write));
                true
            }
        };
        if again {
            self.leader.retry.insert(key.clone());
        }
    }

    /// A write that was given up on comes through, or comes to nothing.
    pub fn haunt(&mut self, pick: usize) {
        if !self.ghosts.is_empty() {
            let (_, write) = self.ghosts.swap_remove(pick % self.ghosts.len());
            self.arrives(&write);
        }
    }

    /// The API server has a write before it. Whether it takes it, or has nothing to take it for.
    fn arrives(&mut self, write: &Write) -> bool {
        let version = self.next_version();
        let Some(object) = self.objects.get(&write.key) else {
            return true;
        };
        if object.version.to_string() != write.version {
            return false;
        }
        self.judge(write);
        let since = self.leader.config;
        let object = self.objects.get_mut(&write.key).unwrap();
        let ingress: Vec<_> = write
            .addresses
            .iter()
            .map(|address| core::LoadBalancerIngress {
                ip: Some(address.to_string()),
                ..core::LoadBalancerIngress::default()
            })
            .collect();
        object.status.load_balancer = Some(core::LoadBalancerStatus {
            ingress: (!ingress.is_empty()).then_some(ingress),
        });
        if let Some(conditions) = &write.conditions {
            object.status.conditions = (!conditions.is_empty()).then(|| conditions.clone());
        }
        object.pool.clone_from(&write.pool);
        object.version = version;
        object.specs = vec![object.spec.clone()];
        object.since = object.since.max(since);
        self.tell(&write.key);
        true
    }

    /// Looks at a write at the moment it takes effect.
    fn judge(&mut self, write: &Write) {
        let object = &self.objects[&write.key];
        let before = object.addresses();
        // Nobody is given what another's status records, unless they share or somebody else wrote that status.
        for address in write
            .addresses
            .iter()
            .filter(|address| !before.contains(address))
        {
            for (other, holder) in self
                .objects
                .iter()
                .filter(|(other, _)| **other != write.key)
            {
                let excused = self.contested.contains(address) || object.shared && holder.shared;
                if holder.addresses().contains(address) && !excused {
                    self.findings.push(format!(
                        "{} is given {address}, which is {other}'s",
                        write.key
                    ));
                }
            }
        }
        // Nobody but its former owner is given what a pool says that it holds back.
        for hold in holds::from_status(&self.held) {
            let given = write.addresses.contains(&hold.address) && !before.contains(&hold.address);
            if given && hold.until > self.clock && hold.former.as_ref() != Some(&write.key) {
                self.findings.push(format!(
                    "{} is given {}, which is held back",
                    write.key, hold.address
                ));
            }
        }
        // Nobody loses an address without a cause.
        let lost: Vec<&IpAddr> = before
            .iter()
            .filter(|at| !write.addresses.contains(at))
            .collect();
        if lost.is_empty() {
            return;
        }
        let caused = self.configs[object.since..].iter().any(|config| {
            object
                .specs
                .iter()
                .any(|spec| !crate::reference::may_keep(config, &write.key, spec, &before))
        });
        let contested = before.iter().any(|at| self.contested.contains(at));
        if !(caused || object.shared || contested) {
            self.findings
                .push(format!("{} loses {lost:?} without a cause", write.key));
        }
    }

    /// Another process leads, or this one starts again. What was under way ends before that, one way or the other.
    pub fn restart(&mut self, arriving: &[bool]) {
        let mut arriving = arriving.iter().copied().chain(std::iter::repeat(false));
        let under_way = std::mem::take(&mut self.leader.under_way).into_values();
        let ghosts = std::mem::take(&mut self.ghosts)
            .into_iter()
            .map(|(_, write)| write);
        let late: Vec<Write> = under_way.chain(ghosts).collect();
        for write in late {
            if arriving.next().unwrap_or_default() {
                self.arrives(&write);
            }
        }
        let mut leader = Leader::new();
        leader.writer.list_begins();
        for (key, object) in &self.objects {
            let observed = object.observed(key);
            leader
                .writer
                .listed(key.clone(), &object.version.to_string(), observed);
        }
        leader.writer.list_done();
        leader.feed.take();
        leader.config = self.configs.len() - 1;
        let config = self.config();
        leader.use_pools(config);
        leader.decider.use_namespaces(config.checked_namespaces());
        let services = leader.store.snapshot();
        let seen = services.values().map(|stored| Seen {
            observed: stored,
            resource_version: stored.resource_version(),
        });
        leader
            .decider
            .claim(seen, holds::from_status(&self.held), self.now());
        let everything = Changes {
            all: true,
            keys: BTreeSet::new(),
        };
        leader.decide(&everything, self.now());
        self.leader = leader;
        self.keep_holds();
    }

    /// Lets everything happen that is going to.
    pub fn rest(&mut self) {
        while !self.leader.under_way.is_empty() {
            self.end(0, Ending::Answered);
        }
        while !self.ghosts.is_empty() {
            self.haunt(0);
        }
        // A write that is too old to come is given up at one look, what that freed is kept back until the next but one.
        let mut quiet = 0;
        for _ in 0..200 {
            self.pass(100);
            self.look(usize::MAX, true);
            let still = self.leader.waiting.is_empty()
                && self.leader.under_way.is_empty()
                && self.leader.events.is_empty();
            quiet = if still { quiet + 1 } else { 0 };
            if quiet == 4 {
                self.contested.clear();
                return;
            }
            while !self.leader.waiting.is_empty() || !self.leader.under_way.is_empty() {
                self.send(0);
                self.end(0, Ending::Answered);
            }
        }
        self.findings
            .push(format!("it comes to no rest: {:?}", self.leader.waiting));
    }

    pub fn changes_nothing_but_conditions(&self, write: &Write) -> bool {
        let object = &self.objects[&write.key];
        object.addresses() == write.addresses && object.pool == write.pool
    }

    pub fn held_by(&self, pool: &str) -> Option<(i64, i64)> {
        let counters = self.leader.decider.counters(pool)?;
        Some((
            counters.assigned_v4 + counters.assigned_v6,
            counters.available_v4 + counters.available_v6,
        ))
    }
}
