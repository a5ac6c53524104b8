//! The ServiceL2Status of one Service: what it is called, what is in it, and what is to be done about it. Pure.
//!
//! The name is made of the Service's, so that there is one object for each Service whoever writes it, and nobody has to
//! look for others (MetalLB draws names by lot and deletes all but one).

use std::collections::BTreeMap;
use std::sync::Arc;

use ferrolb_api::conditions::{ADDRESS_IN_USE, status};
use ferrolb_api::labels::{NODE, SERVICE_NAME, SERVICE_NAMESPACE};
use ferrolb_api::v1beta1::{ServiceL2Status, ServiceL2StatusSpec};
use ferrolb_api::{ObjectKey, Uid};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::project::NodeSets;
use crate::status::{Reporter, hash};

const PREFIX: &str = "l2-";

/// Names of interfaces, sorted; none of them is all.
pub(super) type Interfaces = Arc<[Box<str>]>;

/// What shall be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) service: ObjectKey,
    pub(super) interfaces: Interfaces,
    /// Rare, so it lies elsewhere.
    pub(super) conflict: Option<Box<Conflict>>,
}

/// That another host has an address of the Service: reason and message of the condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conflict {
    pub(super) reason: String,
    pub(super) message: String,
    /// In whole seconds, as objects have it.
    pub(super) since: Timestamp,
}

/// What is there, of an object that is labelled with this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) uid: Uid,
    /// Whether labels and owner are what they should be.
    pub(super) owned: bool,
    pub(super) says: Says,
    pub(super) conflict: Option<Box<Conflict>>,
}

/// What a status says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Says {
    /// Not yet whose it is.
    Nothing,
    /// Something else than it should, in fields that cannot be changed.
    Another,
    /// The Service and the node, and these interfaces.
    On(Interfaces),
}

/// What is to be done next about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Make it.
    Create,
    /// Set labels and owner.
    Own,
    /// Write the status.
    Show,
    /// Delete the one of this uid; if one is wanted, it is made anew.
    Remove(Uid),
}

/// What is to be done about an object; `complete` says whether it is known of every Service what is wanted.
pub(super) fn step(wanted: Option<&Wanted>, seen: Option<&Seen>, complete: bool) -> Option<Step> {
    match (wanted, seen) {
        (None, None) => None,
        (None, Some(seen)) => complete.then(|| Step::Remove(seen.uid.clone())),
        (Some(_), None) => Some(Step::Create),
        (Some(wanted), Some(seen)) => match &seen.says {
            Says::Another => Some(Step::Remove(seen.uid.clone())),
            _ if !seen.owned => Some(Step::Own),
            Says::On(interfaces)
                if *interfaces == wanted.interfaces && seen.conflict == wanted.conflict =>
            {
                None
            }
            Says::On(_) | Says::Nothing => Some(Step::Show),
        },
    }
}

/// The number in the name of the object of a Service.
pub(super) fn id_of(service: &ObjectKey) -> u64 {
    hash(&format!("{}/{}", service.namespace(), service.name()))
}

/// The key of the object of this number.
pub(super) fn key_of(id: u64, reporter: &Reporter) -> ObjectKey {
    ObjectKey::new(&reporter.namespace, &format!("{PREFIX}{id:016x}"))
}

/// The number in the name of an object, if we made it.
pub(super) fn id_in(key: &ObjectKey) -> Option<u64> {
    let digits = key.name().strip_prefix(PREFIX)?;
    let of_us = digits.len() == 16
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    of_us
        .then(|| u64::from_str_radix(digits, 16).ok())
        .flatten()
}

/// Reduces an object to what is asked of it.
pub(super) fn project(object: &ServiceL2Status, reporter: &Reporter, sets: &NodeSets) -> Seen {
    let id = id_in(&ObjectKey::namespaced(object));
    let is_of_name = |namespace: Option<&str>, name: Option<&str>| {
        let service = ObjectKey::new(namespace.unwrap_or_default(), name.unwrap_or_default());
        id == Some(id_of(&service))
    };
    let label = |key: &str| object.labels().get(key).map(String::as_str);
    let told = object.status.clone().unwrap_or_default();
    let says = match (&told.node, &told.service_namespace, &told.service_name) {
        (Some(node), Some(namespace), Some(name)) => {
            if *node == reporter.node && is_of_name(Some(namespace), Some(name)) {
                let names = told.interfaces.iter();
                let names = names.map(|interface| interface.name.as_str().into());
                Says::On(sets.share(names.collect()))
            } else {
                Says::Another
            }
        }
        // One that says a part can still be told the rest, unless the part is wrong: then that is refused, and seen again.
        (node, ..) if node.as_ref().is_some_and(|node| *node != reporter.node) => Says::Another,
        _ => Says::Nothing,
    };
    let conflict = told
        .conditions
        .into_iter()
        .find(|condition| condition.type_ == ADDRESS_IN_USE && condition.status == status::TRUE)
        .map(|condition| {
            Box::new(Conflict {
                reason: condition.reason,
                message: condition.message,
                since: condition.last_transition_time.0,
            })
        });
    Seen {
        conflict,
        uid: object.metadata.uid.as_deref().unwrap_or_default().into(),
        owned: reporter.owns(object.metadata.owner_references.as_deref())
            && label(NODE) == Some(&reporter.node_label())
            && is_of_name(label(SERVICE_NAMESPACE), label(SERVICE_NAME)),
        says,
    }
}

/// The object as it is made. The API server takes no status with it.
pub(super) fn object(key: &ObjectKey, service: &ObjectKey, reporter: &Reporter) -> ServiceL2Status {
    let mut object = ServiceL2Status::new(key.name(), ServiceL2StatusSpec::default());
    object.metadata.labels = Some(labels(service, reporter));
    object.metadata.owner_references = reporter.owner().map(|owner| vec![owner]);
    object
}

/// The merge patch that makes an object ours.
pub(super) fn ownership(service: &ObjectKey, reporter: &Reporter) -> Value {
    let mut metadata = json!({"labels": labels(service, reporter)});
    if let (Some(owner), Some(metadata)) = (reporter.owner(), metadata.as_object_mut()) {
        metadata.insert("ownerReferences".to_owned(), json!([owner]));
    }
    json!({"metadata": metadata})
}

/// The merge patch that says it.
pub(super) fn status(wanted: &Wanted, reporter: &Reporter) -> Value {
    let conditions = wanted.conflict.as_ref().map(|conflict| {
        json!([Condition {
            type_: ADDRESS_IN_USE.to_owned(),
            status: status::TRUE.to_owned(),
            reason: conflict.reason.clone(),
            message: conflict.message.clone(),
            observed_generation: None,
            last_transition_time: Time(conflict.since),
        }])
    });
    let interfaces: Vec<Value> = wanted
        .interfaces
        .iter()
        .map(|name| json!({"name": name}))
        .collect();
    json!({"status": {
        "node": reporter.node,
        "serviceName": wanted.service.name(),
        "serviceNamespace": wanted.service.namespace(),
        "interfaces": if interfaces.is_empty() { Value::Null } else { Value::Array(interfaces) },
        "conditions": conditions,
    }})
}

fn labels(service: &ObjectKey, reporter: &Reporter) -> BTreeMap<String, String> {
    [
        (NODE, reporter.node_label().into_owned()),
        (SERVICE_NAME, service.name().to_owned()),
        (SERVICE_NAMESPACE, service.namespace().to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Pod;

    fn reporter() -> Reporter {
        Reporter {
            namespace: "metallb-system".to_owned(),
            node: "node-1".to_owned(),
            pod: Some(Pod {
                name: "speaker-abcde".to_owned(),
                uid: "uid-of-pod".to_owned(),
            }),
        }
    }

    fn wanted(interfaces: &[&str]) -> Wanted {
        Wanted {
            service: ObjectKey::new("shop", "web"),
            interfaces: interfaces.iter().map(|name| (*name).into()).collect(),
            conflict: None,
        }
    }

    fn written(wanted: &Wanted) -> Value {
        let reporter = reporter();
        let key = key_of(id_of(&wanted.service), &reporter);
        let mut object = json!(object(&key, &wanted.service, &reporter));
        object["metadata"]["namespace"] = json!("metallb-system");
        object["metadata"]["uid"] = json!("u");
        json_patch::merge(&mut object, &super::status(wanted, &reporter));
        object
    }

    fn seen(object: Value) -> Seen {
        let object: ServiceL2Status = serde_json::from_value(object).unwrap();
        project(&object, &reporter(), &NodeSets::default())
    }

    #[test]
    fn what_is_written_is_what_the_reference_says_and_nothing_is_left_to_do() {
        for interfaces in [&[][..], &["eth0", "eth1"]] {
            let wanted = wanted(interfaces);
            assert_eq!(
                step(Some(&wanted), Some(&seen(written(&wanted))), true),
                None
            );
        }
        let mut object = written(&wanted(&["eth0"]));
        let name = object["metadata"]["name"].take();
        assert_eq!(name.as_str().unwrap().len(), "l2-".len() + 16);
        assert_eq!(
            object,
            json!({
                "apiVersion": "metallb.io/v1beta1", "kind": "ServiceL2Status",
                "metadata": {
                    "name": null, "namespace": "metallb-system", "uid": "u",
                    "labels": {
                        "metallb.io/node": "node-1", "metallb.io/service-name": "web", "metallb.io/service-namespace": "shop",
                    },
                    "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "speaker-abcde", "uid": "uid-of-pod"}],
                },
                "spec": {},
                "status": {
                    "node": "node-1", "serviceName": "web", "serviceNamespace": "shop", "interfaces": [{"name": "eth0"}],
                },
            })
        );
    }

    #[test]
    fn one_service_has_one_name_whoever_writes() {
        let (web, other) = (ObjectKey::new("shop", "web"), ObjectKey::new("sho", "pweb"));
        assert_ne!(id_of(&web), id_of(&other));
        let elsewhere = Reporter {
            node: "node-2".to_owned(),
            pod: None,
            ..reporter()
        };
        let key = key_of(id_of(&web), &reporter());
        assert_eq!(key, key_of(id_of(&web), &elsewhere));
        assert_eq!(id_in(&key), Some(id_of(&web)));
        for of_metallb in ["l2-x8k2p", "l2-0123456789ABCDEF", "bgp-0123456789abcdef"] {
            assert_eq!(id_in(&ObjectKey::new("n", of_metallb)), None);
        }
    }

    #[test]
    fn each_difference_has_its_step() {
        let wanted = wanted(&["eth0"]);
        let after = |change: Value| {
            let mut object = written(&wanted);
            json_patch::merge(&mut object, &change);
            step(Some(&wanted), Some(&seen(object)), true)
        };
        let uid = || "u".into();
        for (change, expected) in [
            (json!({}), None),
            (json!({"metadata": {"annotations": {"a": "b"}}}), None),
            (json!({"status": null}), Some(Step::Show)),
            (json!({"status": {"interfaces": null}}), Some(Step::Show)),
            (
                json!({"status": {"interfaces": [{"name": "eth1"}]}}),
                Some(Step::Show),
            ),
            (json!({"status": {"serviceName": null}}), Some(Step::Show)),
            (
                json!({"status": {"serviceName": "other"}}),
                Some(Step::Remove(uid())),
            ),
            (
                json!({"status": {"node": "node-2"}}),
                Some(Step::Remove(uid())),
            ),
            (
                json!({"status": {"node": "node-2", "serviceName": null}}),
                Some(Step::Remove(uid())),
            ),
            (
                json!({"metadata": {"labels": {"metallb.io/service-name": "other"}}}),
                Some(Step::Own),
            ),
            (
                json!({"metadata": {"ownerReferences": null}}),
                Some(Step::Own),
            ),
            (
                json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "before", "uid": "x"}]}}),
                Some(Step::Own),
            ),
        ] {
            assert_eq!(after(change.clone()), expected, "{change}");
        }
    }

    #[test]
    fn a_conflict_is_a_condition_that_goes_with_it() {
        let quiet = wanted(&["eth0"]);
        let told = Wanted {
            conflict: Some(Box::new(Conflict {
                reason: "Withheld".to_owned(),
                message: "10.0.0.1 is also claimed".to_owned(),
                since: Timestamp::from_second(1_700_000_000).unwrap(),
            })),
            ..quiet.clone()
        };
        let object = written(&told);
        assert_eq!(
            object["status"]["conditions"],
            json!([{
                "type": "AddressConflict", "status": "True", "reason": "Withheld", "message": "10.0.0.1 is also claimed",
                "lastTransitionTime": "2023-11-14T22:13:20Z",
            }])
        );
        let seen = seen(object);
        assert_eq!(step(Some(&told), Some(&seen), true), None);
        assert_eq!(step(Some(&quiet), Some(&seen), true), Some(Step::Show));
        let mut resolved = written(&told);
        json_patch::merge(&mut resolved, &super::status(&quiet, &reporter()));
        assert_eq!(step(Some(&quiet), Some(&self::seen(resolved)), true), None);
    }

    #[test]
    fn making_it_ours_mends_labels_and_owner() {
        let wanted = wanted(&[]);
        let mut object = written(&wanted);
        object["metadata"]["labels"] = json!({"metallb.io/node": "node-1", "team": "a"});
        object["metadata"]["ownerReferences"] = json!([]);
        json_patch::merge(&mut object, &ownership(&wanted.service, &reporter()));
        assert_eq!(object["metadata"]["labels"]["team"], "a");
        assert_eq!(step(Some(&wanted), Some(&seen(object)), true), None);
    }

    #[test]
    fn what_nobody_wants_goes_once_it_is_known_of_every_service() {
        let seen = seen(written(&wanted(&[])));
        assert_eq!(step(None, Some(&seen), false), None);
        assert_eq!(
            step(None, Some(&seen), true),
            Some(Step::Remove("u".into()))
        );
        assert_eq!(step(None, None, true), None);
        assert_eq!(
            step(Some(&wanted(&[])), None, false),
            Some(Step::Create),
            "what is known to be wanted does not wait"
        );
    }
}
