//! Objects that cannot be read as their kind: their owners are told once, by an event and by a condition.
//!
//! The schema lets none of them in. They are left from a time when another schema was in force.

use std::collections::BTreeMap;

use ferrolb_allocation::PoolCounters;
use ferrolb_api::v1beta1::HeldAddresses;
use ferrolb_api::{GROUP, ObjectKey, conditions::reason};
use ferrolb_cluster::{Broken, EventType, Happening, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use crate::conditions::{pool_patch, pool_status, unreadable};
use crate::configuration::StatusWrite;

/// Which object: its kind and its key.
type Object = (&'static str, ObjectKey);

/// What was said of which object. Its status cannot be read either, so this is remembered and not looked up.
#[derive(Default)]
pub struct Unreadable(BTreeMap<Object, Told>);

struct Told {
    of: Broken,
    /// Whether the condition is written, or cannot be.
    written: bool,
}

impl Unreadable {
    /// Takes in which objects cannot be read now. Returns what is to be said of those that are new among them.
    pub fn take(&mut self, mut broken: BTreeMap<Object, Broken>) -> Vec<Happening> {
        self.0.retain(|object, told| {
            let Some(now) = broken.remove(object) else {
                return false;
            };
            if (&now.uid, now.generation, &now.error)
                != (&told.of.uid, told.of.generation, &told.of.error)
            {
                broken.insert(object.clone(), now);
                return false;
            }
            told.of = now;
            true
        });
        let happenings = broken.iter().map(happening).collect();
        let new = broken
            .into_iter()
            .map(|(object, of)| (object, Told { of, written: false }));
        self.0.extend(new);
        happenings
    }

    /// Whether this object is among them.
    pub fn contains(&self, kind: &'static str, key: &ObjectKey) -> bool {
        !self.0.is_empty() && self.0.contains_key(&(kind, key.clone()))
    }

    /// The conditions that are still to be written.
    pub fn writes(
        &self,
        counters: impl Fn(&str) -> Option<PoolCounters>,
        held: impl Fn(&str) -> Vec<HeldAddresses>,
        now: &Time,
    ) -> Vec<StatusWrite> {
        self.0
            .iter()
            .filter(|(_, told)| !told.written)
            .map(|((kind, key), told)| {
                let conditions = vec![unreadable(told.of.generation, &told.of.error, now)];
                let patch = match *kind {
                    // The schema asks for the counters beside it.
                    "IPAddressPool" => {
                        let name = key.name();
                        // What it said before is still in force.
                        pool_patch(
                            &pool_status(counters(name), held(name), conditions, None),
                            None,
                        )
                    }
                    _ => json!({"status": {"conditions": conditions}}),
                };
                let version = told.of.resource_version.clone();
                (*kind, key.clone(), version, patch)
            })
            .collect()
    }

    /// The condition of this object is written, or the API server refuses it for good.
    pub fn settled(&mut self, object: &Object) {
        if let Some(told) = self.0.get_mut(object) {
            told.written = true;
        }
    }
}

fn happening(((kind, key), broken): (&Object, &Broken)) -> Happening {
    let version = if *kind == "BGPPeer" {
        "v1beta2"
    } else {
        "v1beta1"
    };
    Happening {
        subject: Subject {
            api_version: format!("{GROUP}/{version}").into(),
            kind: (*kind).into(),
            key: key.clone(),
            uid: broken.uid.clone(),
        },
        event_type: EventType::Warning,
        reason: reason::UNREADABLE.to_owned(),
        message: format!(
            "The object cannot be read and is not in use: {}",
            broken.error
        ),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    #[test]
    fn each_state_of_an_object_is_told_once() {
        let object: Object = ("IPAddressPool", ObjectKey::new("metallb-system", "odd"));
        let broken = |generation, version: &str| {
            let broken = Broken {
                error: "invalid type: string".to_owned(),
                uid: "u".to_owned(),
                generation: Some(generation),
                resource_version: version.to_owned(),
            };
            BTreeMap::from([(object.clone(), broken)])
        };
        let now = Time(Timestamp::UNIX_EPOCH);
        let mut unreadable = Unreadable::default();
        let said = unreadable.take(broken(1, "7"));
        assert_eq!((said.len(), said[0].subject.uid.as_str()), (1, "u"));
        assert!(unreadable.contains("IPAddressPool", &object.1));
        // Not written yet, and another status was: the next attempt names the new version.
        assert!(unreadable.take(broken(1, "8")).is_empty());
        let writes = unreadable.writes(|_| None, |_| Vec::new(), &now);
        assert_eq!((writes.len(), writes[0].2.as_str()), (1, "8"));
        let condition = &writes[0].3["status"]["conditions"][0];
        assert_eq!(
            (&condition["reason"], &condition["observedGeneration"]),
            (&json!("Unreadable"), &json!(1))
        );
        unreadable.settled(&object);
        assert!(unreadable.writes(|_| None, |_| Vec::new(), &now).is_empty());
        // Edited, and still not to be read.
        assert_eq!(unreadable.take(broken(2, "9")).len(), 1);
        assert_eq!(unreadable.writes(|_| None, |_| Vec::new(), &now).len(), 1);
        assert!(unreadable.take(BTreeMap::new()).is_empty());
        assert!(!unreadable.contains("IPAddressPool", &object.1));
    }
}
