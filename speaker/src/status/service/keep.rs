//! Keeps the objects of a kind as they shall be: looks at each that changed on either side, and does one step at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ferrolb_api::labels::NODE;
use ferrolb_api::{ObjectKey, Uid};
use ferrolb_cluster::{Backoff, Client, KeyedBackoff, Outcome, Store, WatchConfig, Writer, watch};
use kube::{Resource, ResourceExt};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::object::{self, Seen, Step, Wanted, id_in, key_of, step};
use super::{Kind, Shared, WRITES_AT_ONCE};

/// How long the watch may take to show what was written before it is looked at again.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);
/// After a failure of one object.
const REST: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(60));
/// After an object vanished that this node has not deleted. Mostly, where there is one for each Service, another node announces that
/// now, and this one is about to hear of it: the object is the other's then.
const AFTER_LOSS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// While nobody answers.
const WHILE_DOWN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

pub(super) struct Keeper<K: Kind> {
    writer: Writer,
    shared: Arc<Shared<K>>,
    store: Store<Seen<K::Says>>,
    /// To be looked at.
    dirty: BTreeSet<ObjectKey>,
    /// Not to be looked at before something happens.
    asleep: BTreeMap<ObjectKey, Sleep>,
    wake_at: BTreeSet<(Instant, ObjectKey)>,
    under_way: JoinSet<(ObjectKey, Ended)>,
    busy: BTreeSet<ObjectKey>,
    failing: KeyedBackoff<ObjectKey>,
    losing: KeyedBackoff<ObjectKey>,
    /// Whether nobody answers, and until when nothing is tried then.
    down: Backoff,
    down_until: Option<Instant>,
    trouble: bool,
}

struct Sleep {
    at: Instant,
    until: Until,
}

/// What ends a sleep before its time.
#[derive(Debug, PartialEq, Eq)]
enum Until {
    /// That something else is wanted.
    Told,
    /// That the watch shows this version.
    Version(String),
    /// That the watch shows that the object of this uid is gone.
    Gone(Uid),
}

/// What became of a step.
enum Ended {
    /// Done, and the watch will show it.
    Done(Until),
    /// Not done.
    Failed(Outcome),
}

impl<K: Kind> Keeper<K> {
    pub(super) fn new(client: &Client, shared: Arc<Shared<K>>) -> Self {
        let reporter = &shared.reporter;
        let selector = format!("{NODE}={}", reporter.node_label());
        let by = Arc::clone(&shared);
        let store = watch(
            client,
            WatchConfig::streamed()
                .with_versions()
                .in_namespace(&reporter.namespace)
                .labels(selector),
            move |object: &K::Object| Some(object::project::<K>(object, &by.reporter, &by.sets)),
        );
        Keeper {
            writer: Writer::new(client.clone()),
            shared,
            store,
            dirty: BTreeSet::new(),
            asleep: BTreeMap::new(),
            wake_at: BTreeSet::new(),
            under_way: JoinSet::new(),
            busy: BTreeSet::new(),
            failing: KeyedBackoff::new(REST.0, REST.1),
            losing: KeyedBackoff::new(AFTER_LOSS.0, AFTER_LOSS.1),
            down: Backoff::new(WHILE_DOWN.0, WHILE_DOWN.1),
            down_until: None,
            trouble: false,
        }
    }

    /// Goes on for ever.
    pub(super) async fn run(mut self) {
        self.store.ready().await;
        let notify = Arc::clone(&self.shared.notify);
        let feed = self.store.subscribe_with(Arc::clone(&notify));
        loop {
            self.take_told();
            let seen = feed.take();
            if seen.all {
                let all = self.store.snapshot();
                self.dirty.extend(all.keys().cloned());
            }
            for key in seen.keys {
                self.shown(key);
            }
            self.wake();
            self.start();
            let next = match self.down_until {
                Some(at) => Some(at),
                None => self.wake_at.first().map(|(at, _)| *at),
            };
            tokio::select! {
                () = notify.notified() => {}
                Some(Ok((key, ended))) = self.under_way.join_next() => self.ended(key, ended),
                () = until(next) => {}
            }
        }
    }

    /// Takes in what is wanted now.
    fn take_told(&mut self) {
        let mut told = self.shared.told();
        let changed = std::mem::take(&mut told.changed);
        if std::mem::take(&mut told.completed) {
            let all = self.store.snapshot();
            self.dirty.extend(all.keys().cloned());
        }
        drop(told);
        for id in changed {
            let key = key_of::<K>(id, &self.shared.reporter);
            self.losing.succeeded(&key);
            if let Some(sleep) = self.asleep.get(&key)
                && sleep.until == Until::Told
            {
                self.asleep.remove(&key);
            }
            self.dirty.insert(key);
        }
    }

    /// The watch shows something else of an object than before.
    fn shown(&mut self, key: ObjectKey) {
        let seen = self.store.get(&key);
        let by_us = self.busy.contains(&key)
            || self
                .asleep
                .get(&key)
                .is_some_and(|sleep| matches!(sleep.until, Until::Gone(_)));
        if seen.is_none() && !by_us && self.wanted(&key).is_some() {
            debug!(object = %key, "somebody deleted the object of a Service that this node announces");
            let rest = self.losing.failed(&key);
            self.sleep(key.clone(), rest, Until::Told);
        }
        let ends = self
            .asleep
            .get(&key)
            .is_some_and(|sleep| match &sleep.until {
                Until::Told => false,
                Until::Version(version) => seen
                    .as_ref()
                    .is_none_or(|seen| seen.resource_version() == version),
                Until::Gone(uid) => seen.as_ref().is_none_or(|seen| seen.uid != *uid),
            });
        if ends {
            self.asleep.remove(&key);
        }
        self.dirty.insert(key);
    }

    /// Ends the sleeps that are over.
    fn wake(&mut self) {
        let now = Instant::now();
        self.down_until = self.down_until.filter(|until| *until > now);
        while self.wake_at.first().is_some_and(|(at, _)| *at <= now) {
            let Some((at, key)) = self.wake_at.pop_first() else {
                break;
            };
            // It may have been woken and be asleep again, for longer.
            if self.asleep.get(&key).is_some_and(|sleep| sleep.at == at) {
                self.asleep.remove(&key);
                self.dirty.insert(key);
            }
        }
    }

    fn sleep(&mut self, key: ObjectKey, rest: Duration, until: Until) {
        let at = Instant::now() + rest;
        self.wake_at.insert((at, key.clone()));
        if let Some(before) = self.asleep.insert(key.clone(), Sleep { at, until }) {
            self.wake_at.remove(&(before.at, key));
        }
    }

    /// Begins as many steps as may be under way.
    fn start(&mut self) {
        while self.under_way.len() < WRITES_AT_ONCE && self.down_until.is_none() {
            let Some(key) = self.dirty.pop_first() else {
                return;
            };
            // The end of either is an occasion to look again.
            if self.busy.contains(&key) || self.asleep.contains_key(&key) {
                continue;
            }
            let seen = self.store.get(&key);
            let wanted = self.wanted(&key);
            let complete = self.shared.told().complete;
            let Some(step) = step(wanted.as_ref(), seen.as_deref(), complete) else {
                self.failing.succeeded(&key);
                continue;
            };
            let version = seen.map(|seen| seen.resource_version().to_owned());
            let (writer, shared) = (self.writer.clone(), Arc::clone(&self.shared));
            self.busy.insert(key.clone());
            self.under_way.spawn(async move {
                let work = Work {
                    writer: &writer,
                    shared: &shared,
                    key: &key,
                };
                let ended = work.carry_out(step, wanted, version).await;
                (key, ended)
            });
        }
    }

    fn wanted(&self, key: &ObjectKey) -> Option<Wanted<K::Says>> {
        let id = id_in::<K>(key)?;
        self.shared.told().wanted.get(&id).cloned()
    }

    fn ended(&mut self, key: ObjectKey, ended: Ended) {
        self.busy.remove(&key);
        self.dirty.insert(key.clone());
        let outcome = match ended {
            Ended::Done(until) => {
                if self.failing.failing() > 0 {
                    self.failing.succeeded(&key);
                }
                self.down.succeeded();
                if std::mem::take(&mut self.trouble) {
                    info!(kind = %kind::<K>(), "the objects can be written again");
                }
                // The watch may have been quicker than the answer.
                let seen = self.store.get(&key);
                let shown = match &until {
                    Until::Version(version) => {
                        seen.is_some_and(|seen| seen.resource_version() == version)
                    }
                    Until::Gone(uid) => seen.is_none_or(|seen| seen.uid != *uid),
                    Until::Told => true,
                };
                if !shown {
                    self.sleep(key, SHOWN_WITHIN, until);
                }
                return;
            }
            Ended::Failed(outcome) => outcome,
        };
        if let Outcome::Unavailable(reason) = &outcome {
            let rest = self.down.failed();
            if !std::mem::replace(&mut self.trouble, true) {
                warn!(kind = %kind::<K>(), object = %key, %reason, "the objects cannot be written; trying again");
            }
            self.down_until = Some(Instant::now() + rest);
            return;
        }
        match &outcome {
            Outcome::Invalid(reason) if self.failing.failing() == 0 => {
                warn!(kind = %kind::<K>(), object = %key, %reason, "the API server refuses an object");
            }
            outcome => {
                debug!(kind = %kind::<K>(), object = %key, ?outcome, "an object was not written")
            }
        }
        let rest = self.failing.failed(&key);
        self.sleep(key, rest, Until::Told);
    }
}

/// One step about one object.
struct Work<'a, K: Kind> {
    writer: &'a Writer,
    shared: &'a Shared<K>,
    key: &'a ObjectKey,
}

impl<K: Kind> Work<'_, K> {
    async fn carry_out(
        &self,
        step: Step,
        wanted: Option<Wanted<K::Says>>,
        version: Option<String>,
    ) -> Ended {
        let version = version.unwrap_or_default();
        match (step, wanted) {
            (Step::Remove(uid), _) => match self.delete(&uid).await {
                Outcome::Done(_) | Outcome::Gone => Ended::Done(Until::Gone(uid)),
                outcome => Ended::Failed(outcome),
            },
            (Step::Create, Some(wanted)) => self.create(&wanted).await,
            (Step::Own, Some(wanted)) => {
                let change = object::ownership(&wanted.service, &self.shared.reporter);
                let patched = self
                    .writer
                    .patch::<K::Object>(self.key, Some(&version), change)
                    .await;
                of_write(patched)
            }
            (Step::Show, Some(wanted)) => self.show(&wanted, &version).await,
            // A step towards what is wanted needs something that is.
            (_, None) => Ended::Failed(Outcome::Gone),
        }
    }

    async fn show(&self, wanted: &Wanted<K::Says>, version: &str) -> Ended {
        let change = object::status::<K>(wanted, &self.shared.reporter);
        let patched = self
            .writer
            .patch_status::<K::Object>(self.key, version, change)
            .await;
        of_write(patched)
    }

    /// Makes the object and says what it shall say. One of another node is in the way where the Service came from there.
    async fn create(&self, wanted: &Wanted<K::Says>) -> Ended {
        let object = object::object::<K>(self.key, &wanted.service, &self.shared.reporter);
        let namespace = self.key.namespace();
        let mut created = self.writer.create(namespace, &object).await;
        if created == Outcome::Conflict {
            match self.make_way().await {
                Ok(()) => created = self.writer.create(namespace, &object).await,
                Err(outcome) => return Ended::Failed(outcome),
            }
        }
        match created {
            Outcome::Done(version) => {
                info!(event = K::CREATED, service = %wanted.service, object = %self.key, "the object of a Service is written");
                self.show(wanted, &version).await
            }
            outcome => Ended::Failed(outcome),
        }
    }

    /// Deletes an object of this name that is not of this node.
    async fn make_way(&self) -> Result<(), Outcome> {
        let there = match self.writer.read::<K::Object>(self.key).await {
            Ok(there) => there,
            Err(Outcome::Gone) => return Ok(()),
            Err(outcome) => return Err(outcome),
        };
        let node = there.labels().get(NODE).map(String::as_str);
        if node == Some(&self.shared.reporter.node_label()) {
            // The watch is about to show it.
            return Err(Outcome::Conflict);
        }
        debug!(object = %self.key, node, "another node announced the Service before");
        match self
            .delete(&there.meta().uid.as_deref().unwrap_or_default().into())
            .await
        {
            Outcome::Done(_) | Outcome::Gone => Ok(()),
            outcome => Err(outcome),
        }
    }

    async fn delete(&self, uid: &Uid) -> Outcome {
        self.writer
            .delete_this::<K::Object>(self.key, &uid.to_string())
            .await
    }
}

/// What people call the objects.
fn kind<K: Kind>() -> std::borrow::Cow<'static, str> {
    K::Object::kind(&())
}

fn of_write(outcome: Outcome) -> Ended {
    match outcome {
        Outcome::Done(version) => Ended::Done(Until::Version(version)),
        outcome => Ended::Failed(outcome),
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
