//! Does what was decided: bounded in number and time, and only while this process leads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use ferrolb_api::{ObjectKey, annotations};
use ferrolb_cluster::{EventPublisher, EventType, Happening, Leadership, Outcome, Subject, Writer};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tracing::{Instrument, debug, info, info_span, warn};

use crate::effects::{Effect, SpanOf};

/// Status writes under way at once. More gain nothing: the API server serialises them on its store.
pub const WRITES_AT_ONCE: usize = 32;

/// The effects that wait and those under way.
pub struct CarryOut {
    writer: Writer,
    events: EventPublisher,
    leadership: Leadership,
    /// Whether spans leave this process, so that a trace context on the object has a reader.
    traced: bool,
    /// The newest decision for each Service that waits to be written: an older one would only be refused.
    waiting: BTreeMap<ObjectKey, Effect>,
    /// Whose turn it is: whoever gets an address before whoever is only told something.
    order: VecDeque<ObjectKey>,
    later: VecDeque<ObjectKey>,
    /// The keys in `order` and `later`, and whether in `order`. One that became urgent stands in both.
    queued: BTreeMap<ObjectKey, bool>,
    under_way: JoinSet<(ObjectKey, Outcome)>,
    /// The Services whose writes are under way.
    busy: BTreeSet<ObjectKey>,
    /// Writes begun since somebody asked.
    sent: Vec<Sent>,
}

/// A status write that was begun and may take effect from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The Service.
    pub key: ObjectKey,
    /// The version that it was decided on.
    pub version: String,
    /// The addresses that it writes.
    pub addresses: Vec<IpAddr>,
}

/// What became of a status write that must be decided again.
#[derive(Debug, PartialEq, Eq)]
pub enum Again {
    /// Written, or gone: nothing to do.
    No,
    /// Not written, as far as is known: decide again after a pause.
    After,
}

impl CarryOut {
    /// Carries nothing out yet.
    #[must_use]
    pub fn new(
        writer: Writer,
        events: EventPublisher,
        leadership: Leadership,
        traced: bool,
    ) -> Self {
        CarryOut {
            writer,
            events,
            leadership,
            traced,
            waiting: BTreeMap::new(),
            order: VecDeque::new(),
            later: VecDeque::new(),
            queued: BTreeMap::new(),
            under_way: JoinSet::new(),
            busy: BTreeSet::new(),
            sent: Vec::new(),
        }
    }

    /// Takes on what was decided about one Service, in place of what was decided before and is not under way yet.
    /// Returns at once.
    pub fn take(&mut self, key: &ObjectKey, effects: Vec<Effect>) {
        self.waiting.remove(key);
        for effect in effects {
            match effect {
                Effect::Say {
                    uid, kind, message, ..
                } => {
                    let event_type = if kind.is_warning() {
                        EventType::Warning
                    } else {
                        EventType::Normal
                    };
                    self.events.publish(Happening {
                        subject: Subject::of::<Service>(key, uid),
                        event_type,
                        reason: kind.reason().to_owned(),
                        message,
                    });
                }
                Effect::WriteStatus { ref addresses, .. } => {
                    let urgent = !addresses.is_empty();
                    self.waiting.insert(key.clone(), effect);
                    let before = self.queued.get(key).copied();
                    if before.is_none_or(|before| urgent && !before) {
                        self.queued.insert(key.clone(), urgent);
                        let queue = if urgent {
                            &mut self.order
                        } else {
                            &mut self.later
                        };
                        queue.push_back(key.clone());
                    }
                }
            }
        }
        self.start();
    }

    /// Waits for the next write to end and tells what that means. Never ends while nothing is under way.
    pub async fn next(&mut self) -> (ObjectKey, Again) {
        loop {
            let Some(ended) = self.under_way.join_next().await else {
                return std::future::pending().await;
            };
            // A write that panicked has aborted the process in a release build; in a test build it is just not written.
            let Ok((key, outcome)) = ended else { continue };
            self.busy.remove(&key);
            let again = match outcome {
                Outcome::Done(_) | Outcome::Gone => Again::No,
                Outcome::Conflict => {
                    debug!(service = %key, "the Service changed meanwhile");
                    Again::After
                }
                Outcome::Invalid(reason) => {
                    warn!(service = %key, %reason, "the API server refuses the status");
                    Again::After
                }
                Outcome::Unavailable(reason) => {
                    debug!(service = %key, %reason, "the status was not written");
                    Again::After
                }
            };
            self.start();
            return (key, again);
        }
    }

    /// The writes that were begun since the last call.
    pub fn take_sent(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.sent)
    }

    /// Whether nothing waits and nothing is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_empty()
    }

    fn start(&mut self) {
        let mut skipped = Vec::new();
        while self.under_way.len() < WRITES_AT_ONCE {
            let Some(key) = self.order.pop_front().or_else(|| self.later.pop_front()) else {
                break;
            };
            if self.busy.contains(&key) {
                // One write per Service at a time, or the second is refused for the version that the first made.
                skipped.push(key);
                continue;
            }
            self.queued.remove(&key);
            let Some(Effect::WriteStatus {
                resource_version,
                addresses,
                pool,
                conditions,
                span: SpanOf(span),
                ..
            }) = self.waiting.remove(&key)
            else {
                continue;
            };
            let traceparent = self
                .traced
                .then(|| ferrolb_serving::traceparent_of(&span))
                .flatten();
            let change = change(
                &addresses,
                pool.as_deref(),
                conditions.as_deref(),
                traceparent.as_deref(),
            );
            let (writer, leadership) = (self.writer.clone(), self.leadership.clone());
            self.busy.insert(key.clone());
            self.sent.push(Sent {
                key: key.clone(),
                version: resource_version.clone(),
                addresses: addresses.clone(),
            });
            let write_span = info_span!(parent: &span, "write status", service = %key);
            self.under_way.spawn(
                async move {
                    if !leadership.leads() {
                        return (key, Outcome::Unavailable("this process does not lead".to_owned()));
                    }
                    let outcome = writer.patch_status::<Service>(&key, &resource_version, change).await;
                    if outcome.is_done() {
                        let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                        let event = if addresses.is_empty() { "noAddress" } else { "ipAllocated" };
                        info!(event, service = %key, ips = ?texts, pool = pool.unwrap_or_default(), "the Service status is written");
                    }
                    (key, outcome)
                }
                .instrument(write_span),
            );
        }
        self.order.extend(skipped);
    }
}

/// The merge patch for a Service's status. The pool rides on it as an annotation (reference 3.1), so that no right to
/// change Services is needed.
fn change(
    addresses: &[IpAddr],
    pool: Option<&str>,
    conditions: Option<&[Condition]>,
    traceparent: Option<&str>,
) -> Value {
    let ingress = if addresses.is_empty() {
        Value::Null
    } else {
        addresses
            .iter()
            .map(|address| json!({"ip": address.to_string()}))
            .collect()
    };
    let mut marks = serde_json::Map::new();
    marks.insert(
        annotations::IP_ALLOCATED_FROM_POOL.to_owned(),
        pool.map_or(Value::Null, Value::from),
    );
    if let Some(traceparent) = traceparent {
        marks.insert(annotations::TRACEPARENT.to_owned(), traceparent.into());
    }
    let mut status = serde_json::Map::new();
    status.insert("loadBalancer".to_owned(), json!({"ingress": ingress}));
    if let Some(conditions) = conditions {
        let conditions = if conditions.is_empty() {
            Value::Null
        } else {
            json!(conditions)
        };
        status.insert("conditions".to_owned(), conditions);
    }
    json!({"metadata": {"annotations": marks}, "status": status})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patch_replaces_the_addresses_and_the_pool_and_nothing_else() {
        let addresses = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        assert_eq!(
            change(&addresses, Some("p"), None, None),
            json!({
                "metadata": {"annotations": {"metallb.io/ip-allocated-from-pool": "p"}},
                "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}},
            })
        );
        assert_eq!(
            change(&[], None, Some(&[]), None),
            json!({
                "metadata": {"annotations": {"metallb.io/ip-allocated-from-pool": null}},
                "status": {"loadBalancer": {"ingress": null}, "conditions": null},
            })
        );
    }

    #[tokio::test]
    async fn who_comes_to_get_an_address_overtakes_those_who_are_only_told_something() {
        let client = ferrolb_testing::ApiServer::default().client();
        let mut carry_out = CarryOut::new(
            Writer::new(client.clone()),
            EventPublisher::start(client, "test", "test"),
            Leadership::alone(),
            false,
        );
        let mut take = |name: &str, addresses: &[&str]| {
            let key = ObjectKey::new("default", name);
            let effect = Effect::WriteStatus {
                key: key.clone(),
                resource_version: "1".to_owned(),
                addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
                pool: None,
                conditions: None,
                span: SpanOf(tracing::Span::none()),
            };
            carry_out.take(&key, vec![effect]);
        };
        for n in 0..WRITES_AT_ONCE + 50 {
            take(&format!("told-{n}"), &[]);
        }
        take("late", &[]);
        take("late", &["10.0.0.1"]);
        assert_eq!(carry_out.sent.len(), WRITES_AT_ONCE);
        // The first of those under way ends; nobody is written twice.
        let mut written = Vec::new();
        while !carry_out.is_idle() {
            carry_out.next().await;
            written.extend(carry_out.take_sent().into_iter().map(|sent| sent.key));
        }
        assert_eq!(written.len(), WRITES_AT_ONCE + 51);
        assert_eq!(written.get(WRITES_AT_ONCE).unwrap().name(), "late");
    }
}
