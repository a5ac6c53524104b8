//! An API server in memory behind a real `kube::Client`: lists in pages, watches with bookmarks, resourceVersions with
//! conflicts, merge patches, and faults on demand.
//!
//! It knows no schema and no admission: it is for the seam between our code and the wire, not for the API's rules.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::{Body as AxumBody, Bytes};
use futures::channel::mpsc::{UnboundedSender, unbounded};
use http::{Method, Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower::BoxError;

/// The server. Clones share one state.
#[derive(Clone, Default)]
pub struct ApiServer {
    state: Arc<Mutex<State>>,
}

/// One request as it arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The verb.
    pub method: Method,
    /// The path without the query.
    pub path: String,
    /// The query, empty if there was none.
    pub query: String,
    /// The body, `Null` if there was none.
    pub body: Value,
}

impl Seen {
    /// Whether it changes something.
    pub fn writes(&self) -> bool {
        self.method != Method::GET
    }
}

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<(String, String, String), Value>,
    log: Vec<Logged>,
    watchers: Vec<(Selection, UnboundedSender<Result<Bytes, BoxError>>)>,
    /// Watches that stand and hear nothing any more.
    hung: Vec<UnboundedSender<Result<Bytes, BoxError>>>,
    seen: Vec<Seen>,
    faults: Vec<(Fault, u16, usize)>,
    down: bool,
    compacted: u64,
    no_streamed_lists: bool,
    pruned: Option<&'static str>,
}

type Fault = Box<dyn Fn(&Seen) -> bool + Send>;

struct Logged {
    version: u64,
    collection: String,
    event: Value,
}

#[derive(Clone)]
struct Selection {
    collection: String,
    namespace: Option<String>,
    name: Option<String>,
    labels: Vec<(String, String)>,
}

impl Selection {
    fn wants(&self, collection: &str, object: &Value) -> bool {
        self.collection == collection
            && self
                .namespace
                .as_deref()
                .is_none_or(|namespace| text(object, "namespace") == namespace)
            && self
                .name
                .as_deref()
                .is_none_or(|name| text(object, "name") == name)
            && self
                .labels
                .iter()
                .all(|(key, value)| object["metadata"]["labels"][key] == *value)
    }
}

/// What a path names: `/api/v1/namespaces/default/services/web/status`.
struct Target {
    collection: String,
    namespace: Option<String>,
    name: Option<String>,
    status: bool,
}

impl Target {
    fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let head = if parts.first() == Some(&"api") { 2 } else { 3 };
        let (group, rest) = parts.split_at_checked(head)?;
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() && rest[0] != "status" => {
                (Some(*namespace), rest)
            }
            rest => (None, rest),
        };
        let (plural, rest) = rest.split_first()?;
        Some(Self {
            collection: format!("{}/{plural}", group.join("/")),
            namespace: namespace.map(str::to_owned),
            name: rest.first().map(|name| (*name).to_owned()),
            status: rest.get(1) == Some(&"status"),
        })
    }
}

impl ApiServer {
    /// A client of this server.
    pub fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { server.answer(request).await }
        });
        Client::new(service, "default")
    }

    /// Puts an object, as if somebody had applied it: creates or replaces, and tells watchers. `collection` is for
    /// example `api/v1/services` or `apis/metallb.io/v1beta1/ipaddresspools`.
    pub fn put(&self, collection: &str, object: Value) {
        let mut state = self.lock();
        let key = (
            collection.to_owned(),
            text(&object, "namespace").to_owned(),
            text(&object, "name").to_owned(),
        );
        state.store(key, object);
    }

    /// Every watch that stands now goes on standing and hears nothing any more, like a connection that hangs.
    pub fn hang_watches(&self) {
        let mut state = self.lock();
        let watchers = std::mem::take(&mut state.watchers);
        state
            .hung
            .extend(watchers.into_iter().map(|(_, watcher)| watcher));
    }

    /// Deletes an object and tells watchers.
    pub fn delete(&self, collection: &str, namespace: &str, name: &str) {
        self.lock()
            .remove(&(collection.to_owned(), namespace.to_owned(), name.to_owned()));
    }

    /// The object as it is now.
    pub fn get(&self, collection: &str, namespace: &str, name: &str) -> Option<Value> {
        self.lock()
            .objects
            .get(&(collection.to_owned(), namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// All objects of a collection.
    pub fn all(&self, collection: &str) -> Vec<Value> {
        self.lock()
            .objects
            .iter()
            .filter(|((of, ..), _)| of == collection)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    /// Fails the next `times` requests that `picks` picks, with this HTTP status.
    pub fn fail(&self, times: usize, status: u16, picks: impl Fn(&Seen) -> bool + Send + 'static) {
        self.lock().faults.push((Box::new(picks), status, times));
    }

    /// From now on this field of a status is dropped, as by a definition that does not have it.
    pub fn prune(&self, field: &'static str) {
        self.lock().pruned = Some(field);
    }

    /// Goes away (connections break, requests fail) or comes back.
    pub fn set_down(&self, down: bool) {
        let mut state = self.lock();
        state.down = down;
        if down {
            for (_, watcher) in state.watchers.drain(..) {
                let _ = watcher.unbounded_send(Err("connection reset by peer".into()));
            }
        }
    }

    /// Forgets its history: watches end with 410 Gone, and only a new list continues. What `meanwhile` changes is
    /// never told as an event.
    pub fn compact(&self, meanwhile: impl FnOnce(&Self)) {
        {
            let mut state = self.lock();
            for (_, watcher) in state.watchers.drain(..) {
                let _ = watcher.unbounded_send(Ok(line(&gone())));
            }
        }
        meanwhile(self);
        let mut state = self.lock();
        state.version += 1;
        state.compacted = state.version;
        state.log.clear();
    }

    /// Refuses `sendInitialEvents`, as servers before 1.32 do.
    pub fn refuse_streamed_lists(&self) {
        self.lock().no_streamed_lists = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<AxumBody>, BoxError> {
        let (parts, body) = request.into_parts();
        let bytes = body.collect_bytes().await?;
        let seen = Seen {
            method: parts.method,
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        };
        let mut state = self.lock();
        state.seen.push(seen.clone());
        if state.down {
            return Err("connection refused".into());
        }
        let fault = state
            .faults
            .iter_mut()
            .find(|(picks, _, times)| *times > 0 && picks(&seen));
        if let Some((_, code, times)) = fault {
            *times -= 1;
            let code = *code;
            return Ok(refused(code, "Scripted", "scripted failure"));
        }
        let Some(target) = Target::parse(&seen.path) else {
            return Ok(refused(404, "NotFound", "no such path"));
        };
        Ok(state.serve(&seen, target))
    }
}

impl State {
    fn serve(&mut self, seen: &Seen, target: Target) -> Response<AxumBody> {
        let query: BTreeMap<&str, String> = seen
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| {
                let value = value.replace("%3D", "=").replace("%2C", ",");
                (name, value.replace("%2F", "/"))
            })
            .collect();
        let asked = |name: &str| query.get(name).map(String::as_str);
        let Some(name) = target.name.clone() else {
            let selection = Selection {
                collection: target.collection.clone(),
                namespace: target.namespace.clone(),
                name: asked("fieldSelector")
                    .and_then(|fields| fields.strip_prefix("metadata.name="))
                    .map(str::to_owned),
                labels: asked("labelSelector")
                    .into_iter()
                    .flat_map(|labels| labels.split(','))
                    .filter_map(|label| label.split_once('='))
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect(),
            };
            return match seen.method {
                Method::GET if asked("watch") == Some("true") => self.watch(selection, &asked),
                Method::GET => self.list(&selection, &asked),
                Method::POST => self.create(target, seen.body.clone()),
                _ => refused(405, "MethodNotAllowed", "not on a collection"),
            };
        };
        let key = (
            target.collection.clone(),
            target.namespace.clone().unwrap_or_default(),
            name,
        );
        let Some(known) = self.objects.get(&key).cloned() else {
            return refused(404, "NotFound", &format!("\"{}\" not found", key.2));
        };
        match seen.method {
            Method::GET => ok(&known),
            Method::DELETE => {
                let differs = ["uid", "resourceVersion"].into_iter().any(|field| {
                    let asked = seen.body["preconditions"][field].as_str();
                    asked.is_some_and(|asked| asked != text(&known, field))
                });
                if differs {
                    return refused(409, "Conflict", "the precondition is not met");
                }
                self.remove(&key);
                ok(&known)
            }
            Method::PUT | Method::PATCH => {
                let asked_version = seen
                    .body
                    .pointer("/metadata/resourceVersion")
                    .and_then(Value::as_str);
                if asked_version.is_some_and(|version| version != text(&known, "resourceVersion")) {
                    return refused(409, "Conflict", "the object has been modified");
                }
                let mut object = seen.body.clone();
                if seen.method == Method::PATCH {
                    object = known.clone();
                    json_patch::merge(&mut object, &seen.body);
                }
                if target.status {
                    object["spec"] = known["spec"].clone();
                }
                object["metadata"]["uid"] = known["metadata"]["uid"].clone();
                if let Some(field) = self.pruned {
                    if let Some(status) = object["status"].as_object_mut() {
                        status.remove(field);
                    }
                    // What changes nothing is no other version.
                    if object == known {
                        return ok(&known);
                    }
                }
                ok(&self.store(key, object))
            }
            _ => refused(405, "MethodNotAllowed", "not on an object"),
        }
    }

    fn list<'a>(
        &self,
        selection: &Selection,
        asked: &impl Fn(&str) -> Option<&'a str>,
    ) -> Response<AxumBody> {
        let wanted: Vec<&Value> = self
            .objects
            .iter()
            .filter(|((collection, ..), object)| selection.wants(collection, object))
            .map(|(_, object)| object)
            .collect();
        let number = |name: &str| asked(name).and_then(|text| text.parse::<usize>().ok());
        let start = number("continue").unwrap_or(0).min(wanted.len());
        let end = number("limit").map_or(wanted.len(), |limit| (start + limit).min(wanted.len()));
        let mut list = json!({
            "kind": "List",
            "apiVersion": "v1",
            "metadata": { "resourceVersion": self.version.to_string() },
            "items": wanted[start..end],
        });
        if end < wanted.len() {
            list["metadata"]["continue"] = Value::String(end.to_string());
        }
        ok(&list)
    }

    fn watch<'a>(
        &mut self,
        selection: Selection,
        asked: &impl Fn(&str) -> Option<&'a str>,
    ) -> Response<AxumBody> {
        let streamed = asked("sendInitialEvents") == Some("true");
        if streamed && self.no_streamed_lists {
            return refused(422, "Invalid", "sendInitialEvents is forbidden for watch");
        }
        let since = asked("resourceVersion")
            .and_then(|version| version.parse::<u64>().ok())
            .unwrap_or(0);
        let (sender, receiver) = unbounded();
        let send = |event: &Value| {
            let _ = sender.unbounded_send(Ok(line(event)));
        };
        if streamed {
            for ((collection, ..), object) in &self.objects {
                if selection.wants(collection, object) {
                    send(&json!({ "type": "ADDED", "object": object }));
                }
            }
            send(
                &json!({ "type": "BOOKMARK", "object": { "kind": "Bookmark", "apiVersion": "v1", "metadata": {
                "resourceVersion": self.version.to_string(),
                "annotations": { "k8s.io/initial-events-end": "true" },
            } } }),
            );
        } else if since < self.compacted {
            // As the real one: once the request is understood, errors are events.
            send(&gone());
            return Response::new(AxumBody::from_stream(receiver));
        } else {
            for logged in self.log.iter().filter(|logged| logged.version > since) {
                if selection.wants(&logged.collection, &logged.event["object"]) {
                    send(&logged.event);
                }
            }
        }
        self.watchers.push((selection, sender));
        Response::new(AxumBody::from_stream(receiver))
    }

    fn create(&mut self, target: Target, mut object: Value) -> Response<AxumBody> {
        if let Some(namespace) = &target.namespace {
            object["metadata"]["namespace"] = Value::String(namespace.clone());
        }
        let key = (
            target.collection,
            target.namespace.unwrap_or_default(),
            text(&object, "name").to_owned(),
        );
        if self.objects.contains_key(&key) {
            return refused(
                409,
                "AlreadyExists",
                &format!("\"{}\" already exists", key.2),
            );
        }
        let mut response = ok(&self.store(key, object));
        *response.status_mut() = StatusCode::CREATED;
        response
    }

    fn store(&mut self, key: (String, String, String), mut object: Value) -> Value {
        self.version += 1;
        let known = self.objects.get(&key).cloned();
        let version = self.version.to_string();
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = Value::String(version.clone());
        match known.as_ref().map(|known| known["metadata"]["uid"].clone()) {
            Some(uid) => metadata["uid"] = uid,
            None if metadata["uid"].is_null() => {
                metadata["uid"] = Value::String(format!("uid-{version}"))
            }
            None => (),
        }
        let kind = if known.is_some() { "MODIFIED" } else { "ADDED" };
        self.objects.insert(key.clone(), object.clone());
        if let Some(known) = known {
            self.tell_left(&key.0, &known, &object);
        }
        self.tell(&key, json!({ "type": kind, "object": object }));
        object
    }

    fn remove(&mut self, key: &(String, String, String)) {
        let Some(mut object) = self.objects.remove(key) else {
            return;
        };
        self.version += 1;
        object["metadata"]["resourceVersion"] = Value::String(self.version.to_string());
        self.tell(key, json!({ "type": "DELETED", "object": object }));
    }

    /// To who selects by labels an object that lost them is deleted.
    fn tell_left(&mut self, collection: &str, known: &Value, object: &Value) {
        for (selection, watcher) in &self.watchers {
            if selection.wants(collection, known) && !selection.wants(collection, object) {
                let event = json!({ "type": "DELETED", "object": object });
                let _ = watcher.unbounded_send(Ok(line(&event)));
            }
        }
    }

    fn tell(&mut self, (collection, ..): &(String, String, String), event: Value) {
        self.watchers.retain(|(selection, watcher)| {
            !selection.wants(collection, &event["object"])
                || watcher.unbounded_send(Ok(line(&event))).is_ok()
        });
        self.log.push(Logged {
            version: self.version,
            collection: collection.clone(),
            event,
        });
    }
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// The type first, as the real one.
fn line(event: &Value) -> Bytes {
    let (kind, object) = (&event["type"], &event["object"]);
    Bytes::from(format!("{{\"type\":{kind},\"object\":{object}}}\n"))
}

fn gone() -> Value {
    json!({ "type": "ERROR", "object": status(410, "Expired", "too old resource version") })
}

fn ok(value: &Value) -> Response<AxumBody> {
    Response::new(AxumBody::from(value.to_string()))
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": message,
    })
}

fn refused(code: u16, reason: &str, message: &str) -> Response<AxumBody> {
    let mut response = ok(&status(code, reason, message));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}
