//! What people configured, brought into force and reported back on their objects.

use std::collections::BTreeMap;
use std::fmt::Debug;

use ferrolb_allocation::PoolCounters;
use ferrolb_api::v1beta1::{HeldAddresses, IPAddressPool};
use ferrolb_api::v1beta2::BGPPeer;
use ferrolb_api::{InForce, ObjectKey};
use ferrolb_cluster::{ConfigurationStores, Leadership, Outcome, Store, Stored, Writer};
use ferrolb_rules::{
    LastGood, Overlaps, References, Refusal, Unresolved, overlaps, unresolved_secret,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use tracing::{debug, warn};

use crate::conditions::{
    Answer, accepted, exhausted, overlapping, pool_patch, pool_status, resolved_refs, with,
};
use crate::unreadable::Unreadable;

/// A status that shall be written: kind, object, version and merge patch.
pub type StatusWrite = (&'static str, ObjectKey, String, Value);

/// What is said of the Secret of a name: that it is of use as a password of peers, or why not; nothing where there is none.
pub type Usable<'a> = dyn Fn(&str) -> Option<Result<(), String>> + 'a;

/// What was found out about all objects.
pub struct Findings<'a> {
    /// The objects, with the statuses that they have.
    pub stores: &'a ConfigurationStores,
    /// What is wrong with some.
    pub refusals: &'a [Refusal],
    /// What is in force.
    pub last_good: &'a LastGood,
    /// Those that cannot be read.
    pub unreadable: &'a Unreadable,
    /// The Secrets of our namespace; nothing while they are not listed.
    pub secrets: Option<&'a Usable<'a>>,
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
        refusals,
        last_good,
        unreadable,
        secrets,
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
        if unreadable.contains("IPAddressPool", key) {
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
        let form = last_good.in_force("IPAddressPool", name, generation);
        let wanted = pool_status(counters, held(name), conditions, form);
        if stored.status.as_ref() != Some(&wanted) {
            writes.push((
                "IPAddressPool",
                key.clone(),
                stored.resource_version().to_owned(),
                pool_patch(&wanted),
            ));
        }
    }
    let objects = stores.objects();
    let references = References {
        configuration: last_good.configuration(),
        objects: &objects,
    };
    let peers = &last_good.configuration().peers;
    let not_carried_out = |name: &str| peers.get(name)?.not_carried_out();
    macro_rules! kind {
        ($store:ident, $kind:literal, |$object:ident| $answers:expr) => {
            writes.extend(statuses(
                findings,
                &stores.$store,
                $kind,
                |object| {
                    let status = object.status.as_ref()?;
                    Some((&status.conditions, status.in_force.as_ref()))
                },
                |$object| $answers,
            ));
        };
    }
    kind!(l2_advertisements, "L2Advertisement", |object| vec![
        acceptance("L2Advertisement", &object.name_any(), None),
        resolved_refs(&references.of_l2_advertisement(object)),
    ]);
    kind!(bgp_advertisements, "BGPAdvertisement", |object| vec![
        acceptance("BGPAdvertisement", &object.name_any(), None),
        resolved_refs(&references.of_bgp_advertisement(object)),
    ]);
    kind!(peers, "BGPPeer", |object| {
        let name = object.name_any();
        let mut unresolved: Vec<_> = references.of_peer(object).into_iter().collect();
        if let Some(secrets) = secrets {
            unresolved.extend(of_secret(object, secrets));
        }
        vec![
            acceptance("BGPPeer", &name, not_carried_out(&name)),
            resolved_refs(&unresolved),
        ]
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
        "BFDProfile",
        |profile| Some((&profile.status.as_ref()?.conditions, None)),
        |profile| vec![acceptance("BFDProfile", &profile.name_any(), None)],
    ));
    writes
}

/// What is wrong with the Secret that a peer names, if it names one.
fn of_secret(peer: &BGPPeer, secrets: &Usable<'_>) -> Option<Unresolved> {
    let secret = peer.spec.password_secret.as_ref()?;
    let name = secret.name.as_deref().filter(|name| !name.is_empty())?;
    let namespace = peer.namespace().unwrap_or_default();
    unresolved_secret(name, &namespace, secrets(name).as_ref())
}

/// Which pools overlap with which. None does while none is refused, and that is nearly always.
fn overlaps_of(
    pools: &BTreeMap<ObjectKey, Stored<IPAddressPool>>,
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

/// The statuses of one kind that are not what they should be. `existing` is what an object's status says now: its conditions, and
/// in which form it is in force.
fn statuses<K: Resource<DynamicType = ()> + Debug>(
    findings: &Findings<'_>,
    store: &Store<K>,
    kind: &'static str,
    existing: impl Fn(&Stored<K>) -> Option<(&Vec<Condition>, Option<&InForce>)>,
    answers: impl Fn(&K) -> Vec<Answer>,
) -> Vec<StatusWrite> {
    let mut writes = Vec::new();
    let snapshot = store.snapshot();
    let readable = snapshot
        .iter()
        .filter(|(key, _)| !findings.unreadable.contains(kind, key));
    for (key, stored) in readable {
        let (existing, recorded) =
            existing(stored).map_or((&[][..], None), |(all, form)| (all.as_slice(), form));
        let generation = stored.meta().generation;
        let wanted = with(existing, generation, answers(stored), findings.now);
        let form = findings.last_good.in_force(kind, key.name(), generation);
        if existing != wanted || recorded != form.as_ref() {
            writes.push((
                kind,
                key.clone(),
                stored.resource_version().to_owned(),
                json!({"status": {"conditions": wanted, "inForce": form}}),
            ));
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
}

/// Writes statuses. What is not written will be seen as outdated again.
pub async fn write(writer: &Writer, leadership: &Leadership, writes: Vec<StatusWrite>) -> Written {
    use ferrolb_api::{v1beta1, v1beta2};
    let mut written = Written {
        all: true,
        settled: Vec::new(),
    };
    for (kind, key, version, change) in writes {
        if !leadership.leads() {
            written.all = false;
            return written;
        }
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
            Outcome::Done(_) | Outcome::Gone => written.settled.push((kind, key)),
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
