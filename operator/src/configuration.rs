//! What people configured, brought into force and reported back on their objects.

use std::collections::BTreeMap;
use std::fmt::Debug;

use ferrolb_allocation::PoolCounters;
use ferrolb_api::ObjectKey;
use ferrolb_api::v1beta1::{HeldAddresses, IPAddressPool};
use ferrolb_cluster::{ConfigurationStores, Leadership, Outcome, Store, Stored, Writer};
use ferrolb_rules::{LastGood, Overlaps, Refusal, overlaps};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use tracing::{debug, warn};

use crate::conditions::{accepted, exhausted, overlapping, pool_patch, pool_status, with};
use crate::unreadable::Unreadable;

/// A status that shall be written: kind, object, version and merge patch.
pub type StatusWrite = (&'static str, ObjectKey, String, Value);

/// The statuses that are not what they should be. `counters` and `held` are asked for a pool by its name.
#[must_use]
pub fn outdated(
    stores: &ConfigurationStores,
    refusals: &[Refusal],
    last_good: &LastGood,
    unreadable: &Unreadable,
    counters: impl Fn(&str) -> Option<PoolCounters>,
    held: impl Fn(&str) -> Vec<HeldAddresses>,
    now: &Time,
) -> Vec<StatusWrite> {
    let mut by_object: BTreeMap<(&str, &str), Vec<&Refusal>> = BTreeMap::new();
    for refusal in refusals {
        by_object
            .entry((refusal.kind, &refusal.name))
            .or_default()
            .push(refusal);
    }
    let refused =
        |kind: &str, name: &str| by_object.get(&(kind, name)).cloned().unwrap_or_default();
    let kept = |kind: &'static str, name: &str| {
        let kept = last_good.keeps(kind, name);
        kept.then(|| "What it said before it broke a rule stays in force.".to_owned())
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
            accepted(
                &refused("IPAddressPool", name),
                kept("IPAddressPool", name).as_deref(),
            ),
            exhausted(in_force),
            overlapping(overlaps.get(name)),
        ];
        let existing = stored.status.clone().unwrap_or_default();
        let generation = stored.metadata.generation;
        let conditions = with(&existing.conditions, generation, answers, now);
        let wanted = pool_status(counters, held(name), conditions);
        if stored.status.as_ref() != Some(&wanted) {
            writes.push((
                "IPAddressPool",
                key.clone(),
                stored.resource_version().to_owned(),
                pool_patch(&wanted),
            ));
        }
    }
    macro_rules! kind {
        ($store:ident, $kind:literal, $caveat:expr) => {
            writes.extend(acceptance(
                &stores.$store,
                $kind,
                |object| object.status.as_ref().map(|status| &status.conditions),
                $caveat,
                &refused,
                unreadable,
                now,
            ));
        };
    }
    kind!(l2_advertisements, "L2Advertisement", |advertisement| kept(
        "L2Advertisement",
        &advertisement.name_any()
    ));
    kind!(
        bgp_advertisements,
        "BGPAdvertisement",
        |advertisement| kept("BGPAdvertisement", &advertisement.name_any())
    );
    kind!(peers, "BGPPeer", |peer| kept("BGPPeer", &peer.name_any())
        .or_else(|| {
            let peers = &last_good.configuration().peers;
            peers.get(&peer.name_any())?.not_carried_out()
        }));
    kind!(bfd_profiles, "BFDProfile", |_| None);
    kind!(communities, "Community", |community| kept(
        "Community",
        &community.name_any()
    ));
    writes
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

fn acceptance<'r, K: Resource<DynamicType = ()> + Debug>(
    store: &Store<K>,
    kind: &'static str,
    conditions: impl Fn(&Stored<K>) -> Option<&Vec<Condition>>,
    caveat: impl Fn(&K) -> Option<String>,
    refused: &impl Fn(&str, &str) -> Vec<&'r Refusal>,
    unreadable: &Unreadable,
    now: &Time,
) -> Vec<StatusWrite> {
    let mut writes = Vec::new();
    let snapshot = store.snapshot();
    let readable = snapshot
        .iter()
        .filter(|(key, _)| !unreadable.contains(kind, key));
    for (key, stored) in readable {
        let existing = conditions(stored).map_or(&[][..], Vec::as_slice);
        let answer = accepted(&refused(kind, key.name()), caveat(stored).as_deref());
        let wanted = with(existing, stored.meta().generation, [answer], now);
        if existing != wanted {
            writes.push((
                kind,
                key.clone(),
                stored.resource_version().to_owned(),
                json!({"status": {"conditions": wanted}}),
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
