//! Which Services this node announces by layer 2, as ServiceL2Status objects (reference 1.8).
//!
//! The name is made of the Service's, so that there is one object for each Service whoever writes it, and nobody has to
//! look for others (MetalLB draws names by lot and deletes all but one).

use std::collections::BTreeSet;
use std::sync::Arc;

use ferrolb_api::ObjectKey;
use ferrolb_api::conditions::{ADDRESS_IN_USE, status};
use ferrolb_api::v1beta1::ServiceL2Status;
use ferrolb_cluster::Client;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::project::NodeSets;
use crate::status::service::{About, Kind, Statuses};
use crate::status::{Reporter, hash};

/// Tells which Services are announced. Cheap to clone; telling never waits, and the newest counts.
///
/// 10,000 Services announced by one node take 4 MB at most with what the watch keeps of their objects.
#[derive(Clone)]
pub struct L2Statuses(Statuses<Layer2>);

/// The kind ServiceL2Status.
struct Layer2;

/// What is said of a Service that this node announces.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Announced {
    /// Names of interfaces, sorted; none of them is all.
    interfaces: Arc<[Box<str>]>,
    /// Rare, so it lies elsewhere.
    conflict: Option<Box<Conflict>>,
}

/// That another host has an address of the Service: reason and message of the condition.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Conflict {
    reason: String,
    message: String,
    /// In whole seconds, as objects have it.
    since: Timestamp,
}

impl L2Statuses {
    /// Starts to keep the objects in a task of its own until `shutdown`. They stay then: the owner's end takes them away, or
    /// the node that announces next.
    #[must_use]
    pub fn start(client: &Client, reporter: Reporter, shutdown: CancellationToken) -> Self {
        L2Statuses(Statuses::start(client, reporter, shutdown))
    }

    /// This node announces a Service by layer 2 on these interfaces (none is all), or not at all.
    pub fn set(&self, service: &ObjectKey, interfaces: Option<Vec<String>>) {
        self.0.change(service, |known| {
            let interfaces: BTreeSet<Box<str>> = interfaces?.into_iter().map(Box::from).collect();
            Some(Announced {
                interfaces: self.0.sets().share(interfaces.into_iter().collect()),
                conflict: known.and_then(|known| known.conflict.clone()),
            })
        });
    }

    /// Another host has an address of a Service that this node announces, or none has (any more): the reason and message of
    /// the condition.
    pub fn set_conflict(&self, service: &ObjectKey, conflict: Option<(&str, &str)>) {
        self.0.change(service, |known| {
            let known = known?;
            let since = known.conflict.as_ref().map(|known| known.since);
            let conflict = conflict.map(|(reason, message)| {
                Box::new(Conflict {
                    reason: reason.to_owned(),
                    message: message.to_owned(),
                    since: since.unwrap_or_else(this_second),
                })
            });
            Some(Announced {
                conflict,
                ..known.clone()
            })
        });
    }

    /// Lays what is wanted out anew, in less room.
    pub fn repack(&self) {
        self.0.repack();
    }

    /// From now on a Service of which nothing was told is not announced. Until then objects that are there stay: a speaker
    /// that starts does not know yet what it goes on with.
    pub fn complete(&self) {
        self.0.complete();
    }
}

/// Now, as objects have it.
fn this_second() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl Kind for Layer2 {
    type Object = ServiceL2Status;
    type Says = Announced;

    const PREFIX: &'static str = "l2-";
    const CREATED: &'static str = "l2StatusCreated";

    fn id_of(service: &ObjectKey, _: &str) -> u64 {
        hash(&format!("{}/{}", service.namespace(), service.name()))
    }

    fn read<'a>(object: &'a ServiceL2Status, sets: &NodeSets) -> (About<'a>, Announced) {
        let told = object.status.as_ref();
        let interfaces = told.into_iter().flat_map(|told| &told.interfaces);
        let interfaces = interfaces.map(|interface| interface.name.as_str().into());
        let conflict = told
            .into_iter()
            .flat_map(|told| &told.conditions)
            .find(|condition| condition.type_ == ADDRESS_IN_USE && condition.status == status::TRUE)
            .map(|condition| {
                Box::new(Conflict {
                    reason: condition.reason.clone(),
                    message: condition.message.clone(),
                    since: condition.last_transition_time.0,
                })
            });
        let about = About {
            node: told.and_then(|told| told.node.as_deref()),
            namespace: told.and_then(|told| told.service_namespace.as_deref()),
            name: told.and_then(|told| told.service_name.as_deref()),
        };
        let says = Announced {
            interfaces: sets.share(interfaces.collect()),
            conflict,
        };
        (about, says)
    }

    fn fields(says: &Announced) -> Vec<(&'static str, Value)> {
        let conditions = says.conflict.as_ref().map(|conflict| {
            json!([Condition {
                type_: ADDRESS_IN_USE.to_owned(),
                status: status::TRUE.to_owned(),
                reason: conflict.reason.clone(),
                message: conflict.message.clone(),
                observed_generation: None,
                last_transition_time: Time(conflict.since),
            }])
        });
        let interfaces = says.interfaces.iter().map(|name| json!({"name": name}));
        let interfaces: Vec<Value> = interfaces.collect();
        vec![
            (
                "interfaces",
                if interfaces.is_empty() {
                    Value::Null
                } else {
                    Value::Array(interfaces)
                },
            ),
            ("conditions", json!(conditions)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::service::testing::{Step, left_to_do, written};

    fn announced(interfaces: &[&str]) -> Announced {
        Announced {
            interfaces: interfaces.iter().map(|name| (*name).into()).collect(),
            conflict: None,
        }
    }

    #[test]
    fn what_is_written_is_what_the_reference_says_and_nothing_is_left_to_do() {
        for interfaces in [&[][..], &["eth0", "eth1"]] {
            let says = announced(interfaces);
            let object = written::<Layer2>(&says);
            assert_eq!(left_to_do::<Layer2>(&says, object), None);
        }
        let mut object = written::<Layer2>(&announced(&["eth0"]));
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
        assert_ne!(
            Layer2::id_of(&web, "node-1"),
            Layer2::id_of(&other, "node-1")
        );
        assert_eq!(Layer2::id_of(&web, "node-1"), Layer2::id_of(&web, "node-2"));
    }

    #[test]
    fn other_interfaces_are_written() {
        let says = announced(&["eth0"]);
        for interfaces in [Value::Null, json!([{"name": "eth1"}])] {
            let mut object = written::<Layer2>(&says);
            json_patch::merge(&mut object, &json!({"status": {"interfaces": interfaces}}));
            assert_eq!(left_to_do::<Layer2>(&says, object), Some(Step::Show));
        }
    }

    #[test]
    fn a_conflict_is_a_condition_that_goes_with_it() {
        let quiet = announced(&["eth0"]);
        let told = Announced {
            conflict: Some(Box::new(Conflict {
                reason: "Withheld".to_owned(),
                message: "10.0.0.1 is also claimed".to_owned(),
                since: Timestamp::from_second(1_700_000_000).unwrap(),
            })),
            ..quiet.clone()
        };
        let object = written::<Layer2>(&told);
        assert_eq!(
            object["status"]["conditions"],
            json!([{
                "type": "AddressConflict", "status": "True", "reason": "Withheld", "message": "10.0.0.1 is also claimed",
                "lastTransitionTime": "2023-11-14T22:13:20Z",
            }])
        );
        assert_eq!(left_to_do::<Layer2>(&told, object.clone()), None);
        assert_eq!(
            left_to_do::<Layer2>(&quiet, object.clone()),
            Some(Step::Show)
        );
        let mut resolved = object;
        let change: serde_json::Map<_, _> = Layer2::fields(&quiet)
            .into_iter()
            .map(|(field, value)| (field.to_owned(), value))
            .collect();
        json_patch::merge(&mut resolved, &json!({"status": change}));
        assert_eq!(left_to_do::<Layer2>(&quiet, resolved), None);
    }
}
