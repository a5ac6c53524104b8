//! What people configured, brought into force and reported back on their objects.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Once};

use ferrolb_allocation::PoolCounters;
use ferrolb_api::ObjectKey;
use ferrolb_api::v1beta1::{HeldAddresses, IPAddressPool};
use ferrolb_api::v1beta2::BGPPeer;
use ferrolb_cluster::{ConfigurationStores, Leadership, Outcome, Store, Stored, Writer};
use ferrolb_rules::{
    AllObjects, LastGood, Names, Overlaps, References, Refusal, overlaps, unresolved_secret,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use tracing::{debug, warn};

use crate::conditions::{
    Answer, IN_FORCE, accepted, exhausted, in_force, overlapping, pool_patch, pool_status,
    resolved_refs, with,
};
use crate::interfaces::Interfaces;
use crate::sessions::News;
use crate::unreadable::Unreadable;

/// A status that shall be written: kind, object, version and merge patch.
pub type StatusWrite = (&'static str, ObjectKey, String, Value);

/// What is said of the Secret of a name: that it is of use as a password of peers, or why not; nothing where there is none.
pub type Usable<'a> = dyn Fn(&str) -> Option<Result<(), String>> + 'a;

/// What was found out about all objects.
pub struct Findings<'a> {
    /// The objects, with the statuses that they have.
    pub stores: &'a ConfigurationStores,
    /// Those that were read. One that changed since is looked at again soon, and nothing is said of it until then.
    pub read: &'a AllObjects,
    /// What is wrong with some.
    pub refusals: &'a [Refusal],
    /// What is in force.
    pub last_good: &'a LastGood,
    /// In which version the API server last took an object whose status says what is in force.
    pub recorded: &'a BTreeMap<(&'static str, ObjectKey), String>,
    /// Those that cannot be read.
    pub unreadable: &'a Unreadable,
    /// The Secrets of our namespace; nothing while they are not listed.
    pub secrets: Option<&'a Usable<'a>>,
    /// What is known of the nodes' interfaces; nothing while nodes or reports are not listed.
    pub interfaces: Option<&'a Interfaces>,
    /// What is to be said of the sessions with peers, by the name of the peer; nothing while nodes or reports are not listed.
    pub sessions: Option<&'a BTreeMap<String, News>>,
    /// When.
    pub now: &'a Time,
}

/// The statuses that are not what they should be. `counters` and `held` are asked for a pool by its name.
#[must_use]
pub fn outdated(
    findings: &Findings<'_>,
    counters: impl Fn(&str) -> Option<PoolCounters>,
    held: impl Fn(&str) -> Vec<HeldAddresses>,
) -> Vec<StatusWrite> {
    let Findings {
        stores,
        read,
        refusals,
        last_good,
        recorded: _,
        unreadable,
        secrets,
        interfaces,
        sessions,
        now,
    } = findings;
    let mut by_object: BTreeMap<(&str, &str), Vec<&Refusal>> = BTreeMap::new();
    for refusal in *refusals {
        by_object
            .entry((refusal.kind, &refusal.name))
            .or_default()
            .push(refusal);
    }
    let acceptance = |kind: &'static str, name: &str, caveat: Option<String>| {
        let refused = by_object.get(&(kind, name)).map_or(&[][..], Vec::as_slice);
        let kept = last_good.keeps(kind, name);
        let kept = kept.then(|| {
            "What it said before it broke a rule stays in force (status.inForce).".to_owned()
        });
        accepted(refused, kept.or(caveat).as_deref())
    };
    let mut writes = Vec::new();
    let pools = stores.pools.snapshot();
    let overlaps = overlaps_of(&pools, refusals, last_good);
    for (key, stored) in pools.iter() {
        // The last that could be read of it is still in force, but its status says what is wrong with it now.
        if unreadable.contains("IPAddressPool", key) || !was_read(&read.pools, stored.value()) {
            continue;
        }
        let name = key.name();
        let counters = counters(name);
        let in_force = last_good.configuration().pools.get(name).zip(counters);
        let answers = [
            acceptance("IPAddressPool", name, None),
            exhausted(in_force),
            overlapping(overlaps.get(name)),
        ];
        let existing = stored.status.clone().unwrap_or_default();
        let generation = stored.metadata.generation;
        let conditions = with(&existing.conditions, generation, answers, now);
        let form = last_good.in_force("IPAddressPool", stored.value().as_ref());
        let pruned = existing.in_force.is_none()
            && is_pruned(findings, "IPAddressPool", key, stored.resource_version());
        let form = form.filter(|_| !pruned);
        let wanted = pool_status(counters, held(name), conditions, form);
        if stored.status.as_ref() != Some(&wanted) {
            writes.push((
                "IPAddressPool",
                key.clone(),
                stored.resource_version().to_owned(),
                pool_patch(&wanted, existing.in_force.as_ref()),
            ));
        }
    }
    let references = References {
        configuration: last_good.configuration(),
        names: &Names::of(read),
    };
    let peers = &last_good.configuration().peers;
    let not_carried_out = |name: &str| peers.get(name)?.not_carried_out();
    macro_rules! kind {
        ($store:ident, $kind:literal, |$object:ident| $answers:expr) => {
            writes.extend(statuses(
                findings,
                &stores.$store,
                &read.$store,
                $kind,
                |object| object.status.as_ref().map(|status| &status.conditions),
                |object| {
                    let form = last_good.in_force($kind, object);
                    let recorded = object.status.as_ref().and_then(|it| it.in_force.as_ref());
                    (recorded != form.as_ref()).then(|| in_force(form.as_ref()))
                },
                |$object| $answers.into(),
            ));
        };
    }
    kind!(l2_advertisements, "L2Advertisement", |object| {
        let name = object.name_any();
        let refused = by_object.contains_key(&("L2Advertisement", name.as_str()));
        let mut answers = vec![
            acceptance("L2Advertisement", &name, None),
            resolved_refs(&references.of_l2_advertisement(object)),
        ];
        // One that breaks a rule is in force as it was, if at all; what is said is about what is written.
        let checked = last_good.configuration().l2_advertisement(&name);
        let checked = checked.filter(|_| !refused);
        answers.extend(interfaces.and_then(|known| known.answer(object, checked)));
        answers
    });
    kind!(bgp_advertisements, "BGPAdvertisement", |object| vec![
        acceptance("BGPAdvertisement", &object.name_any(), None),
        resolved_refs(&references.of_bgp_advertisement(object)),
    ]);
    let news = |peer: &str| sessions.and_then(|sessions| sessions.get(peer));
    kind!(peers, "BGPPeer", |object| {
        let name = object.name_any();
        let mut said = Said::from(vec![acceptance("BGPPeer", &name, not_carried_out(&name))]);
        if let Some(news) = news(&name) {
            said.answers.push(news.answer.clone());
            said.fields = &news.fields;
        }
        let mut unresolved: Vec<_> = references.of_peer(object).into_iter().collect();
        match (secret_of(object), secrets) {
            (None, _) => {}
            (Some(secret), Some(secrets)) => {
                let namespace = object.namespace().unwrap_or_default();
                let found = secrets(secret);
                unresolved.extend(unresolved_secret(secret, &namespace, found.as_ref()));
            }
            // Not known yet, so what was said of it stays.
            (Some(_), None) => return said,
        }
        said.answers.push(resolved_refs(&unresolved));
        said
    });
    kind!(communities, "Community", |object| vec![acceptance(
        "Community",
        &object.name_any(),
        None
    )]);
    // Nothing of a profile that is broken is in force.
    writes.extend(statuses(
        findings,
        &stores.bfd_profiles,
        &read.bfd_profiles,
        "BFDProfile",
        |profile| profile.status.as_ref().map(|status| &status.conditions),
        |_| None,
        |profile| vec![acceptance("BFDProfile", &profile.name_any(), None)].into(),
    ));
    writes
}

/// The Secret that a peer names.
fn secret_of(peer: &BGPPeer) -> Option<&str> {
    let secret = peer.spec.password_secret.as_ref()?;
    secret.name.as_deref().filter(|name| !name.is_empty())
}

/// Which pools overlap with which. None does while none is refused, and that is nearly always.
fn overlaps_of(
    pools: &BTreeMap<ObjectKey, Stored<Arc<IPAddressPool>>>,
    refusals: &[Refusal],
    last_good: &LastGood,
) -> BTreeMap<String, Overlaps> {
    if refusals
        .iter()
        .all(|refusal| refusal.kind != "IPAddressPool")
    {
        return BTreeMap::new();
    }
    let objects = pools.values().map(|stored| stored.value().as_ref());
    overlaps(objects, last_good.configuration())
}

/// Whether the API server took what is in force of this very version and did not keep it, as it does while the definition of
/// the kind is from before: to write it again would change as little.
fn is_pruned(findings: &Findings<'_>, kind: &'static str, key: &ObjectKey, version: &str) -> bool {
    static TOLD: Once = Once::new();
    let taken = findings.recorded.get(&(kind, key.clone()));
    let pruned = taken.is_some_and(|taken| taken == version);
    if pruned {
        TOLD.call_once(|| {
            warn!("the CustomResourceDefinitions are older than the operator and drop status.inForce; apply config/crd");
        });
    }
    pruned
}

/// Whether this very object is among those that were read, which are in the order of names.
fn was_read<K: Resource<DynamicType = ()>>(read: &[Arc<K>], object: &Arc<K>) -> bool {
    let name = &object.meta().name;
    let found = read.binary_search_by(|other| other.meta().name.cmp(name));
    let found = found.ok().and_then(|at| read.get(at));
    found.is_some_and(|found| Arc::ptr_eq(found, object))
}

/// What a status shall say.
struct Said<'a> {
    answers: Vec<Answer>,
    /// Other fields, where they are to be written.
    fields: &'a [(&'static str, Value)],
}

impl From<Vec<Answer>> for Said<'_> {
    fn from(answers: Vec<Answer>) -> Self {
        let fields = &[];
        Said { answers, fields }
    }
}

/// The statuses of one kind that are not what they should be. `existing` are an object's conditions, and `form` is what is to be
/// written of the form in which it is in force, where that is not written yet.
fn statuses<'a, K: Resource<DynamicType = ()> + Debug>(
    findings: &Findings<'_>,
    store: &Store<Arc<K>>,
    read: &[Arc<K>],
    kind: &'static str,
    existing: impl Fn(&K) -> Option<&Vec<Condition>>,
    form: impl Fn(&K) -> Option<Value>,
    said: impl Fn(&K) -> Said<'a>,
) -> Vec<StatusWrite> {
    let mut writes = Vec::new();
    let snapshot = store.snapshot();
    let current = snapshot.iter().filter(|(key, stored)| {
        !findings.unreadable.contains(kind, key) && was_read(read, stored.value())
    });
    for (key, stored) in current {
        let existing = existing(stored).map_or(&[][..], Vec::as_slice);
        let generation = stored.meta().generation;
        let Said { answers, fields } = said(stored);
        let wanted = with(existing, generation, answers, findings.now);
        let form = form(stored);
        let form = form.filter(|_| !is_pruned(findings, kind, key, stored.resource_version()));
        if existing != wanted || form.is_some() || !fields.is_empty() {
            let fields = fields.iter().cloned();
            let fields = fields.chain(form.map(|form| (IN_FORCE, form)));
            let mut status = json!({"conditions": wanted});
            if let Some(status) = status.as_object_mut() {
                status.extend(fields.map(|(field, value)| (field.to_owned(), value)));
            }
            let version = stored.resource_version().to_owned();
            writes.push((kind, key.clone(), version, json!({"status": status})));
        }
    }
    writes
}

/// What became of statuses.
#[derive(Debug, Default)]
pub struct Written {
    /// Whether all are written or their objects gone.
    pub all: bool,
    /// The objects whose status is written, or refused by the API server for good.
    pub settled: Vec<(&'static str, ObjectKey)>,
    /// The objects whose status was written.
    pub taken: Vec<Taken>,
}

/// A status that the API server took.
#[derive(Debug)]
pub struct Taken {
    /// Of which object.
    pub object: (&'static str, ObjectKey),
    /// The version that it was decided on.
    pub before: String,
    /// The version since.
    pub version: String,
    /// Whether it said what is in force.
    pub records: bool,
}

/// Writes statuses. What is not written will be seen as outdated again.
pub async fn write(writer: &Writer, leadership: &Leadership, writes: Vec<StatusWrite>) -> Written {
    use ferrolb_api::{v1beta1, v1beta2};
    let mut written = Written {
        all: true,
        settled: Vec::new(),
        taken: Vec::new(),
    };
    for (kind, key, version, change) in writes {
        if !leadership.leads() {
            written.all = false;
            return written;
        }
        let records = change
            .pointer("/status/inForce")
            .is_some_and(Value::is_object);
        let outcome = match kind {
            "IPAddressPool" => {
                writer
                    .patch_status::<v1beta1::IPAddressPool>(&key, &version, change)
                    .await
            }
            "L2Advertisement" => {
                writer
                    .patch_status::<v1beta1::L2Advertisement>(&key, &version, change)
                    .await
            }
            "BGPAdvertisement" => {
                writer
                    .patch_status::<v1beta1::BGPAdvertisement>(&key, &version, change)
                    .await
            }
            "BGPPeer" => {
                writer
                    .patch_status::<v1beta2::BGPPeer>(&key, &version, change)
                    .await
            }
            "BFDProfile" => {
                writer
                    .patch_status::<v1beta1::BFDProfile>(&key, &version, change)
                    .await
            }
            _ => {
                writer
                    .patch_status::<v1beta1::Community>(&key, &version, change)
                    .await
            }
        };
        match outcome {
            Outcome::Done(since) => {
                written.taken.push(Taken {
                    object: (kind, key.clone()),
                    before: version,
                    version: since,
                    records,
                });
                written.settled.push((kind, key));
            }
            Outcome::Gone => written.settled.push((kind, key)),
            Outcome::Conflict => {
                debug!(kind, object = %key, "the object changed meanwhile");
                written.all = false;
            }
            // The same again would be refused again; the next change of the object is the next occasion.
            Outcome::Invalid(reason) => {
                warn!(kind, object = %key, %reason, "the API server refuses the status");
                written.settled.push((kind, key));
            }
            Outcome::Unavailable(reason) => {
                warn!(kind, object = %key, %reason, "the status is not written; trying again");
                written.all = false;
            }
        }
    }
    written
}
