//! Telling people what happened: Kubernetes Events, as `kubectl describe` shows them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::{Client, Resource};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use ferrolb_api::ObjectKey;

use crate::backoff::Backoff;
use crate::writes::{Outcome, Writer};

/// Events of each type that wait to be written. More are dropped and counted: they inform, they do not decide.
const WAITING_AT_MOST: usize = 512;
/// How often an event that nobody takes is tried, with pauses from [`FIRST_PAUSE`] to [`LONGEST_PAUSE`]: about a minute, which
/// an API server that restarts needs. An event that cannot be written at all must not hold up the others for ever.
const ATTEMPTS: usize = 12;
/// The first pause.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Different events that are remembered so that a repetition updates a count instead of making a new object.
const REMEMBERED_AT_MOST: usize = 1024;
/// A repetition so soon after the last one belongs to the event that is there. Event objects live an hour after their last write.
const SAME_EVENT_FOR: Duration = Duration::from_secs(600);
/// How long after it was written an event that repeats is written again, with the count of all repetitions until then. The time
/// doubles with each write up to [`LONGEST_COUNTING`]: what repeats for ever costs a write a minute.
const SHORTEST_COUNTING: Duration = Duration::from_secs(1);
/// The longest time between two writes of an event that repeats, and the time of rest after which it begins anew.
const LONGEST_COUNTING: Duration = Duration::from_secs(60);
/// A rest after each event while more are waiting, so that a flood of events leaves the API server to status writes.
const REST: Duration = Duration::from_millis(5);

/// Whether an event is ordinary life or needs somebody's attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// Something went as it should.
    Normal,
    /// Somebody should look.
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// The object that an event is about. The uid is what `kubectl describe` selects by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject {
    /// For example `v1`.
    pub api_version: Cow<'static, str>,
    /// For example `Service`.
    pub kind: Cow<'static, str>,
    /// Namespace (empty for cluster-wide kinds) and name.
    pub key: ObjectKey,
    /// `metadata.uid`.
    pub uid: String,
}

impl Subject {
    /// The subject for an object of this kind.
    pub fn of<K: Resource<DynamicType = ()>>(key: &ObjectKey, uid: impl Into<String>) -> Self {
        Self {
            api_version: K::api_version(&()),
            kind: K::kind(&()),
            key: key.clone(),
            uid: uid.into(),
        }
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Happening {
    /// To what.
    pub subject: Subject,
    /// Ordinary or not.
    pub event_type: EventType,
    /// One word that scripts match on.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

/// Publishes events in the background; never blocks and never fails its caller.
#[derive(Debug, Clone)]
pub struct EventPublisher {
    warnings: mpsc::Sender<Happening>,
    normal: mpsc::Sender<Happening>,
    dropped: Arc<AtomicU64>,
}

impl EventPublisher {
    /// Starts the worker. `component` is what people filter by (`metallb-controller`, `metallb-speaker`), `host` the
    /// node or pod that reports. The worker ends once the last handle is dropped and the queue is empty.
    pub fn start(client: Client, component: impl Into<String>, host: impl Into<String>) -> Self {
        let (warnings, waiting_warnings) = mpsc::channel(WAITING_AT_MOST);
        let (normal, waiting_normal) = mpsc::channel(WAITING_AT_MOST);
        let worker = Worker {
            writer: Writer::new(client),
            component: component.into(),
            host: host.into(),
            known: HashMap::new(),
            swept: Instant::now(),
            made: 0,
        };
        tokio::spawn(worker.run(waiting_warnings, waiting_normal));
        Self {
            warnings,
            normal,
            dropped: Arc::default(),
        }
    }

    /// Queues an event.
    pub fn publish(&self, happening: Happening) {
        // A flood of good news must not push out what somebody has to act on.
        let queue = match happening.event_type {
            EventType::Normal => &self.normal,
            EventType::Warning => &self.warnings,
        };
        if queue.try_send(happening).is_err() && self.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(
                waiting = WAITING_AT_MOST,
                "too many events are waiting for the API server; dropping new ones"
            );
        }
    }

    /// Events that were dropped since the start because too many were waiting.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

struct Worker {
    writer: Writer,
    component: String,
    host: String,
    /// What was told lately, each in a piece of memory of its own: mostly there are few.
    known: HashMap<Box<Happening>, Box<Known>>,
    /// When those were forgotten last that no repetition belongs to any more.
    swept: Instant,
    made: u64,
}

/// An event object that exists and may be counted up.
struct Known {
    name: String,
    count: i32,
    last: Instant,
    last_timestamp: jiff::Timestamp,
    written: Instant,
    /// The repetitions up to here are not written yet.
    unwritten: bool,
    /// From one write to the next.
    pause: Duration,
}

impl Known {
    fn new(name: String, now: Instant) -> Self {
        Self {
            name,
            count: 1,
            last: now,
            last_timestamp: jiff::Timestamp::now(),
            written: now,
            unwritten: false,
            pause: SHORTEST_COUNTING,
        }
    }

    fn is_fresh(&self, now: Instant) -> bool {
        now - self.last < SAME_EVENT_FOR
    }

    /// It happened again.
    fn repeat(&mut self, now: Instant) {
        self.count = self.count.saturating_add(1);
        self.last = now;
        self.last_timestamp = jiff::Timestamp::now();
        self.unwritten = true;
    }

    /// When the count is to be written.
    fn due(&self) -> Option<Instant> {
        self.unwritten.then(|| self.written + self.pause)
    }

    /// It is written now.
    fn write(&mut self, now: Instant) -> serde_json::Value {
        self.pause = if now - self.written > LONGEST_COUNTING {
            SHORTEST_COUNTING
        } else {
            (self.pause * 2).min(LONGEST_COUNTING)
        };
        self.written = now;
        self.unwritten = false;
        json!({ "count": self.count, "lastTimestamp": Time(self.last_timestamp) })
    }
}

impl Worker {
    async fn run(
        mut self,
        mut warnings: mpsc::Receiver<Happening>,
        mut normal: mpsc::Receiver<Happening>,
    ) {
        loop {
            let due = self.due().map(|(due, _)| due);
            let happening = tokio::select! {
                biased;
                Some(happening) = warnings.recv() => Some(happening),
                Some(happening) = normal.recv() => Some(happening),
                () = until(due), if due.is_some() => None,
                else => return,
            };
            match happening {
                Some(happening) => self.report(happening).await,
                None => self.write_count().await,
            }
            if !warnings.is_empty() || !normal.is_empty() {
                tokio::time::sleep(REST).await;
            }
        }
    }

    /// Tells of what is new, and counts what is not.
    async fn report(&mut self, happening: Happening) {
        let now = Instant::now();
        match self.known.get_mut(&happening) {
            Some(known) if known.is_fresh(now) => known.repeat(now),
            _ => self.tell(happening).await,
        }
    }

    /// When the next count is to be written, and of what.
    fn due(&self) -> Option<(Instant, &Happening)> {
        let dues = self.known.iter();
        let dues = dues.filter_map(|(happening, known)| Some((known.due()?, happening.as_ref())));
        dues.min_by_key(|(due, _)| *due)
    }

    /// Writes the count that is due.
    async fn write_count(&mut self) {
        let Some((_, happening)) = self.due() else {
            return;
        };
        let happening = happening.clone();
        let Some(known) = self.known.get_mut(&happening) else {
            return;
        };
        let key = ObjectKey::new(namespace(&happening.subject), &known.name);
        let change = known.write(Instant::now());
        let outcome = self.writer.patch::<Event>(&key, None, change).await;
        match &outcome {
            // Expired meanwhile.
            Outcome::Gone => self.tell(happening).await,
            Outcome::Unavailable(_) => known.unwritten = true,
            _ => failed(&happening, &outcome),
        }
    }

    async fn tell(&mut self, happening: Happening) {
        let now = Instant::now();
        self.made += 1;
        let event = self.event(&happening);
        let name = event.metadata.name.clone().unwrap_or_default();
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut attempts = 1;
        let outcome = loop {
            let outcome = self
                .writer
                .create(namespace(&happening.subject), &event)
                .await;
            match outcome {
                // An attempt that seemed to fail had come through.
                Outcome::Conflict if attempts > 1 => break Outcome::Done(String::new()),
                Outcome::Unavailable(_) if attempts < ATTEMPTS => {}
                outcome => break outcome,
            }
            attempts += 1;
            tokio::time::sleep(backoff.failed()).await;
        };
        failed(&happening, &outcome);
        if outcome.is_done() {
            self.remember(happening, Known::new(name, now));
        }
    }

    fn remember(&mut self, happening: Happening, known: Known) {
        let now = Instant::now();
        let is_full = self.known.len() >= REMEMBERED_AT_MOST;
        if is_full || now - self.swept > SAME_EVENT_FOR {
            self.swept = now;
            self.known.retain(|_, known| known.is_fresh(now));
            if self.known.len() >= REMEMBERED_AT_MOST {
                // A repetition then makes a second object, which is harmless.
                self.known.clear();
            }
            self.known.shrink_to_fit();
        }
        self.known.insert(Box::new(happening), Box::new(known));
    }

    fn event(&self, happening: &Happening) -> Event {
        let Happening {
            subject,
            event_type,
            reason,
            message,
        } = happening;
        let now = jiff::Timestamp::now();
        // Unique without asking the server: the moment, and our own count within it.
        let suffix = format!("{:x}{:x}", now.as_nanosecond(), self.made);
        let stem: String = subject.key.name().chars().take(200).collect();
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{stem}.{suffix}")),
                namespace: Some(namespace(subject).to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some(subject.api_version.clone().into_owned()),
                kind: Some(subject.kind.clone().into_owned()),
                name: Some(subject.key.name().to_owned()),
                namespace: (!subject.key.namespace().is_empty())
                    .then(|| subject.key.namespace().to_owned()),
                uid: Some(subject.uid.clone()),
                ..ObjectReference::default()
            },
            type_: Some(event_type.as_str().to_owned()),
            reason: Some(reason.clone()),
            // The API server refuses longer ones (core/v1 validation: 1024 bytes).
            message: Some(clipped(message, 1024)),
            source: Some(EventSource {
                component: Some(self.component.clone()),
                host: Some(self.host.clone()),
            }),
            reporting_component: Some(self.component.clone()),
            reporting_instance: Some(self.host.clone()),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            ..Event::default()
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Events of cluster-wide objects live in `default`, as those of Kubernetes itself.
fn namespace(subject: &Subject) -> &str {
    match subject.key.namespace() {
        "" => "default",
        namespace => namespace,
    }
}

fn clipped(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let mut end = bytes.saturating_sub(3);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", text.get(..end).unwrap_or_default())
}

fn failed(happening: &Happening, outcome: &Outcome) {
    if !outcome.is_done() {
        tracing::debug!(object = %happening.subject.key, reason = %happening.reason, ?outcome, "an event could not be written");
    }
}
