//! Keeps one store up to date: list, then watch, for ever, with a pause after each failure.

use std::time::Duration;

use futures::StreamExt;
use kube::api::{Api, ApiResource};
use kube::runtime::watcher::{self, Event};
use kube::{Client, Resource};
use rand::Rng;
use serde::de::DeserializeOwned;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, timeout};

use ferrolb_api::ObjectKey;

use crate::backoff::Backoff;
use crate::key_of;
use crate::store::{AbortOnDrop, Broken, Store, StoreWriter, store};
use crate::text::{Text, without_position};

/// The first pause after a failure. Short: most failures are one API server of several going away.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause: what an API server that comes back waits for us at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A watch that raised no error for this long stands. Longer than a request may wait for its first byte
/// ([`crate::connect`]), so an attempt that hangs is not taken for success.
const STANDS_AFTER: Duration = Duration::from_secs(12);
/// A streamed list that brings nothing for this long is given up for pages.
const STREAM_SILENCE: Duration = Duration::from_secs(20);

/// What to watch of a kind, and how to obtain the first list.
#[derive(Debug, Clone, Default)]
pub struct WatchConfig {
    namespace: Option<String>,
    fields: Option<String>,
    labels: Option<String>,
    streamed: bool,
    versions: bool,
}

impl WatchConfig {
    /// Lists are read with quorum in pages of 500: never older than what was seen before. For whoever allocates.
    pub fn most_recent() -> Self {
        Self::default()
    }

    /// The list is streamed from the API server's cache, one object at a time: cheapest for the server and for our
    /// memory, but may start a little in the past. For the many readers of a DaemonSet, who write nothing: versions are
    /// not kept. Falls back to pages where the server does not offer it.
    pub fn streamed() -> Self {
        Self {
            streamed: true,
            ..Self::default()
        }
    }

    /// Keeps versions all the same, for a reader of a DaemonSet who writes to these objects.
    #[must_use]
    pub fn with_versions(mut self) -> Self {
        self.versions = true;
        self
    }

    /// Restricts to one namespace. Without this, all are watched, as are kinds that have none.
    pub fn in_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Restricts by fields, for example `spec.type=LoadBalancer`. An object changed out of the selection arrives as a
    /// deletion.
    pub fn fields(mut self, selector: impl Into<String>) -> Self {
        self.fields = Some(selector.into());
        self
    }

    /// Restricts by labels.
    pub fn labels(mut self, selector: impl Into<String>) -> Self {
        self.labels = Some(selector.into());
        self
    }

    fn watcher(&self, streamed: bool) -> watcher::Config {
        let config = watcher::Config {
            field_selector: self.fields.clone(),
            label_selector: self.labels.clone(),
            // Jittered, so that the processes of a DaemonSet do not renew all their watches at once.
            timeout: Some(rand::rng().random_range(230..=290)),
            page_size: Some(500),
            ..watcher::Config::default()
        };
        if streamed {
            config.streaming_lists()
        } else {
            config
        }
    }
}

/// Watches the objects of a kind.
///
/// `project` reduces an object to what is needed of it; `None` leaves it out. The whole object is dropped at once. An object that
/// does not parse is set aside ([`Store::broken`]) and stops no other.
/// The store never ends by itself: an unreachable API server is asked again with growing pauses, one log line when the
/// connection is lost and one when it is back.
pub fn watch<K, T>(
    client: &Client,
    config: WatchConfig,
    project: impl Fn(&K) -> Option<T> + Send + Sync + 'static,
) -> Store<T>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + 'static,
    T: PartialEq + Send + Sync + 'static,
{
    watch_part::<K, K, T>(client, config, project)
}

/// The same for who reads only a part of each object: `P` has the fields that are read, and the others are not even taken in.
pub fn watch_part<K, P, T>(
    client: &Client,
    config: WatchConfig,
    project: impl Fn(&P) -> Option<T> + Send + Sync + 'static,
) -> Store<T>
where
    K: Resource<DynamicType = ()>,
    P: DeserializeOwned + 'static,
    T: PartialEq + Send + Sync + 'static,
{
    let kind = ApiResource::erase::<K>(&());
    let (mut writer, store) = store(kind.kind.clone());
    if config.streamed && !config.versions {
        writer = writer.without_versions();
    }
    let project = move |text: &str| {
        let object = serde_json::from_str(text).map_err(without_position)?;
        Ok(project(&object))
    };
    let sink = Box::new(Projected { writer, project });
    let api = match &config.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind),
        None => Api::all_with(client.clone(), &kind),
    };
    let task = tokio::spawn(keep_up(api, config, kind.kind, sink));
    store.with_task(AbortOnDrop(task.abort_handle()))
}

/// What a watch brings is for this. One for each kind, so that there is one [`keep_up`] for all.
trait Sink: Send {
    fn take(&mut self, event: Event<Text>);
    fn wanted(&self) -> Receiver<u64>;
    fn answered(&self, asking: u64);
    fn connected(&self, connected: bool);
    fn is_connected(&self) -> bool;
}

/// Objects of one kind, reduced and put into their store.
struct Projected<T, P> {
    writer: StoreWriter<T>,
    project: P,
}

impl<T, P> Projected<T, P>
where
    P: Fn(&str) -> Result<Option<T>, String>,
{
    /// Key, version, and what became of the object: a projection, nothing wanted, or a parser's complaint.
    fn open(&self, object: &Text) -> (ObjectKey, Result<Option<T>, Broken>) {
        let value = (self.project)(&object.text);
        let broken = |error| Broken::new(&object.metadata, error);
        (key_of(&object.metadata), value.map_err(broken))
    }
}

impl<T, P> Sink for Projected<T, P>
where
    T: PartialEq + Send + Sync,
    P: Fn(&str) -> Result<Option<T>, String> + Send,
{
    fn take(&mut self, event: Event<Text>) {
        match event {
            Event::Init => self.writer.list_begins(),
            Event::InitApply(object) => match self.open(&object) {
                (key, Ok(value)) => self.writer.listed(key, object.version(), value),
                (key, Err(broken)) => self.writer.listed_broken(key, broken),
            },
            Event::InitDone => self.writer.list_done(),
            Event::Apply(object) => match self.open(&object) {
                (key, Ok(value)) => self.writer.applied(key, object.version(), value),
                (key, Err(broken)) => self.writer.applied_broken(key, broken),
            },
            Event::Delete(object) => self.writer.deleted(&key_of(&object.metadata)),
        }
    }

    fn wanted(&self) -> Receiver<u64> {
        self.writer.wanted()
    }

    fn answered(&self, asking: u64) {
        self.writer.answered(asking);
    }

    fn connected(&self, connected: bool) {
        self.writer.connected(connected);
    }

    fn is_connected(&self) -> bool {
        self.writer.is_connected()
    }
}

async fn keep_up(api: Api<Text>, config: WatchConfig, kind: String, mut sink: Box<dyn Sink>) {
    let mut streamed = config.streamed;
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut trouble = Trouble::default();
    let mut wanted = sink.wanted();
    loop {
        let asking = *wanted.borrow_and_update();
        let mut events = Box::pin(watcher::watcher(api.clone(), config.watcher(streamed)));
        let mut listing = true;
        loop {
            let patience = match (streamed && listing, sink.is_connected()) {
                (true, _) => Some(STREAM_SILENCE),
                (false, false) if !listing => Some(STANDS_AFTER),
                _ => None,
            };
            let next = async {
                match patience {
                    None => Ok(events.next().await),
                    Some(patience) => timeout(patience, events.next()).await,
                }
            };
            let next = tokio::select! {
                Ok(()) = wanted.changed() => break,
                next = next => match next {
                    Ok(next) => next,
                    Err(_) if streamed && listing => {
                        tracing::info!(%kind, "the API server does not stream lists; reading pages");
                        streamed = false;
                        break;
                    }
                    Err(_) => {
                        trouble.over(&kind, &*sink);
                        continue;
                    }
                },
            };
            match next {
                Some(Ok(event)) => {
                    listing = match event {
                        Event::Init | Event::InitApply(_) => true,
                        Event::InitDone | Event::Apply(_) | Event::Delete(_) => {
                            backoff.succeeded();
                            trouble.over(&kind, &*sink);
                            false
                        }
                    };
                    let complete = matches!(event, Event::InitDone);
                    sink.take(event);
                    if complete {
                        sink.answered(asking);
                    }
                }
                Some(Err(error)) if streamed && listing && refuses_streaming(&error) => {
                    tracing::info!(%kind, "the API server does not stream lists; reading pages");
                    streamed = false;
                    break;
                }
                Some(Err(error)) => {
                    trouble.seen(&kind, &error, &*sink, &mut backoff);
                    tokio::time::sleep(backoff.failed()).await;
                }
                None => break,
            }
        }
    }
}

/// Whether a server says that it knows no `sendInitialEvents` (feature gate WatchList off: 422, or 400).
fn refuses_streaming(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => {
            matches!(status.code, 400 | 422)
        }
        watcher::Error::WatchError(status) => matches!(status.code, 400 | 422),
        _ => false,
    }
}

/// Says once that the connection is lost and once that it is back, however many attempts lie between.
#[derive(Default)]
struct Trouble {
    since: Option<Instant>,
    last: Option<Instant>,
}

impl Trouble {
    fn seen(&mut self, kind: &str, error: &watcher::Error, sink: &dyn Sink, backoff: &mut Backoff) {
        let now = Instant::now();
        if self.last.is_some_and(|last| now - last > 4 * LONGEST_PAUSE) {
            // The last failure is history: this one is a new trouble, not the next attempt of an old one.
            backoff.succeeded();
        }
        self.last = Some(now);
        if expired(error) {
            tracing::debug!(%kind, "the watch fell behind; listing again");
            return;
        }
        sink.connected(false);
        if self.since.is_none() {
            self.since = Some(now);
            tracing::warn!(%kind, error = %chain(error), "the API server cannot be watched; going on with what is known");
        }
    }

    fn over(&mut self, kind: &str, sink: &dyn Sink) {
        sink.connected(true);
        if let Some(since) = self.since.take() {
            tracing::info!(%kind, after_seconds = since.elapsed().as_secs(), "the API server can be watched again");
        }
    }
}

/// 410 Gone: ordinary life of a watch, not trouble.
fn expired(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchError(status) => status.code == 410,
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 410,
        _ => false,
    }
}

/// An error with its causes: "failed to connect" alone does not tell what to do.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
