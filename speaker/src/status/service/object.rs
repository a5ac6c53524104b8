//! The object about one Service: what it is called, what is in it, and what is to be done about it. Pure.

use std::collections::BTreeMap;

use ferrolb_api::labels::{NODE, SERVICE_NAME, SERVICE_NAMESPACE};
use ferrolb_api::{ObjectKey, Uid};
use kube::{Resource, ResourceExt};
use serde_json::{Map, Value, json};

use crate::project::NodeSets;
use crate::status::Reporter;
use crate::status::service::Kind;

/// What shall be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted<S> {
    pub(super) service: ObjectKey,
    pub(super) says: S,
}

/// What is there, of an object that is labelled with this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen<S> {
    pub(super) uid: Uid,
    /// Whether labels and owner are what they should be.
    pub(super) owned: bool,
    /// Of which Service and node it says to be.
    pub(super) whose: Whose,
    /// What it says besides. Not in one of the cases above, which would take more room, ten thousand times over.
    pub(super) says: S,
}

/// Of which Service and node a status says to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// It does not say yet, or not all of it.
    Unsaid,
    /// Not of those that it should, in fields that cannot be changed.
    Another,
    /// Of the right ones.
    Right,
}

/// What a status says of whose it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::status) struct About<'a> {
    pub(in crate::status) node: Option<&'a str>,
    pub(in crate::status) namespace: Option<&'a str>,
    pub(in crate::status) name: Option<&'a str>,
}

/// What is to be done next about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::status) enum Step {
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
pub(super) fn step<S: PartialEq>(
    wanted: Option<&Wanted<S>>,
    seen: Option<&Seen<S>>,
    complete: bool,
) -> Option<Step> {
    match (wanted, seen) {
        (None, None) => None,
        (None, Some(seen)) => complete.then(|| Step::Remove(seen.uid.clone())),
        (Some(_), None) => Some(Step::Create),
        (Some(wanted), Some(seen)) => match seen.whose {
            Whose::Another => Some(Step::Remove(seen.uid.clone())),
            _ if !seen.owned => Some(Step::Own),
            Whose::Right if seen.says == wanted.says => None,
            Whose::Right | Whose::Unsaid => Some(Step::Show),
        },
    }
}

/// The key of the object of this number.
pub(super) fn key_of<K: Kind>(id: u64, reporter: &Reporter) -> ObjectKey {
    ObjectKey::new(&reporter.namespace, &format!("{}{id:016x}", K::PREFIX))
}

/// The number in the name of an object, if we made it.
pub(super) fn id_in<K: Kind>(key: &ObjectKey) -> Option<u64> {
    let digits = key.name().strip_prefix(K::PREFIX)?;
    let of_us = digits.len() == 16
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    of_us
        .then(|| u64::from_str_radix(digits, 16).ok())
        .flatten()
}

/// Reduces an object to what is asked of it.
pub(super) fn project<K: Kind>(
    object: &K::Object,
    reporter: &Reporter,
    sets: &NodeSets,
) -> Seen<K::Says> {
    let id = id_in::<K>(&ObjectKey::namespaced(object));
    let is_of_name = |namespace: Option<&str>, name: Option<&str>| {
        let service = ObjectKey::new(namespace.unwrap_or_default(), name.unwrap_or_default());
        id == Some(K::id_of(&service, &reporter.node))
    };
    let label = |key: &str| object.labels().get(key).map(String::as_str);
    let (about, says) = K::read(object, sets);
    let is_here = |node: &str| node == reporter.node;
    let whose = match (about.node, about.namespace, about.name) {
        (Some(node), namespace @ Some(_), name @ Some(_)) => {
            if is_here(node) && is_of_name(namespace, name) {
                Whose::Right
            } else {
                Whose::Another
            }
        }
        // One that says a part can still be told the rest, unless the part is wrong: then that is refused, and seen again.
        (node, ..) if node.is_some_and(|node| !is_here(node)) => Whose::Another,
        _ => Whose::Unsaid,
    };
    let meta = object.meta();
    Seen {
        uid: meta.uid.as_deref().unwrap_or_default().into(),
        owned: reporter.owns(meta.owner_references.as_deref())
            && label(NODE) == Some(&reporter.node_label())
            && is_of_name(label(SERVICE_NAMESPACE), label(SERVICE_NAME)),
        whose,
        says,
    }
}

/// The object as it is made. The API server takes no status with it.
pub(super) fn object<K: Kind>(
    key: &ObjectKey,
    service: &ObjectKey,
    reporter: &Reporter,
) -> K::Object {
    let mut object = K::Object::default();
    let meta = object.meta_mut();
    meta.name = Some(key.name().to_owned());
    meta.labels = Some(labels(service, reporter));
    meta.owner_references = reporter.owner().map(|owner| vec![owner]);
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
pub(super) fn status<K: Kind>(wanted: &Wanted<K::Says>, reporter: &Reporter) -> Value {
    let about = [
        ("node", reporter.node.as_str().into()),
        ("serviceName", wanted.service.name().into()),
        ("serviceNamespace", wanted.service.namespace().into()),
    ];
    let fields = about.into_iter().chain(K::fields(&wanted.says));
    let fields = fields.map(|(field, value)| (field.to_owned(), value));
    json!({"status": fields.collect::<Map<String, Value>>()})
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

/// What each kind tries with its own contents.
#[cfg(test)]
pub(in crate::status) mod testing {
    pub(in crate::status) use super::Step;
    use super::*;
    use crate::status::Pod;

    pub(super) fn reporter() -> Reporter {
        Reporter {
            namespace: "metallb-system".to_owned(),
            node: "node-1".to_owned(),
            pod: Some(Pod {
                name: "speaker-abcde".to_owned(),
                uid: "uid-of-pod".to_owned(),
            }),
        }
    }

    pub(super) fn wanted<S: Clone>(says: &S) -> Wanted<S> {
        Wanted {
            service: ObjectKey::new("shop", "web"),
            says: says.clone(),
        }
    }

    /// The object about the Service `shop/web` once everything is written.
    pub(in crate::status) fn written<K: Kind>(says: &K::Says) -> Value {
        let (reporter, wanted) = (reporter(), wanted(says));
        let key = key_of::<K>(K::id_of(&wanted.service, &reporter.node), &reporter);
        let mut object = json!(object::<K>(&key, &wanted.service, &reporter));
        object["metadata"]["namespace"] = json!("metallb-system");
        object["metadata"]["uid"] = json!("u");
        json_patch::merge(&mut object, &status::<K>(&wanted, &reporter));
        object
    }

    pub(super) fn seen<K: Kind>(object: Value) -> Seen<K::Says> {
        let object: K::Object = serde_json::from_value(object).unwrap();
        project::<K>(&object, &reporter(), &NodeSets::default())
    }

    /// What is to be done so that an object says this.
    pub(in crate::status) fn left_to_do<K: Kind>(says: &K::Says, object: Value) -> Option<Step> {
        step(Some(&wanted(says)), Some(&seen::<K>(object)), true)
    }
}

#[cfg(test)]
mod tests {
    use ferrolb_api::v1beta1::ServiceBGPStatus;

    use super::testing::{left_to_do, reporter, seen, wanted, written};
    use super::*;

    /// Says a list of texts.
    struct Plain;

    impl Kind for Plain {
        type Object = ServiceBGPStatus;
        type Says = Vec<String>;
        const PREFIX: &'static str = "plain-";
        const CREATED: &'static str = "created";

        fn id_of(service: &ObjectKey, _: &str) -> u64 {
            crate::status::hash(&service.to_string())
        }

        fn read<'a>(object: &'a ServiceBGPStatus, _: &NodeSets) -> (About<'a>, Vec<String>) {
            let Some(told) = &object.status else {
                return Default::default();
            };
            let about = About {
                node: told.node.as_deref(),
                namespace: told.service_namespace.as_deref(),
                name: told.service_name.as_deref(),
            };
            (about, told.peers.clone())
        }

        fn fields(says: &Vec<String>) -> Vec<(&'static str, Value)> {
            vec![("peers", json!(says))]
        }
    }

    fn says() -> Vec<String> {
        vec!["a".to_owned()]
    }

    #[test]
    fn names_of_others_are_not_taken_for_ours() {
        let id = Plain::id_of(&ObjectKey::new("shop", "web"), "");
        assert_eq!(id_in::<Plain>(&key_of::<Plain>(id, &reporter())), Some(id));
        for other in [
            "plain-x8k2p",
            "plain-0123456789ABCDEF",
            "l2-0123456789abcdef",
        ] {
            assert_eq!(id_in::<Plain>(&ObjectKey::new("n", other)), None);
        }
    }

    #[test]
    fn each_difference_has_its_step() {
        let after = |change: Value| {
            let mut object = written::<Plain>(&says());
            json_patch::merge(&mut object, &change);
            left_to_do::<Plain>(&says(), object)
        };
        let uid = || "u".into();
        for (change, expected) in [
            (json!({}), None),
            (json!({"metadata": {"annotations": {"a": "b"}}}), None),
            (json!({"status": null}), Some(Step::Show)),
            (json!({"status": {"peers": null}}), Some(Step::Show)),
            (json!({"status": {"peers": ["b"]}}), Some(Step::Show)),
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
    fn making_it_ours_mends_labels_and_owner() {
        let mut object = written::<Plain>(&says());
        object["metadata"]["labels"] = json!({"metallb.io/node": "node-1", "team": "a"});
        object["metadata"]["ownerReferences"] = json!([]);
        let change = ownership(&ObjectKey::new("shop", "web"), &reporter());
        json_patch::merge(&mut object, &change);
        assert_eq!(object["metadata"]["labels"]["team"], "a");
        assert_eq!(left_to_do::<Plain>(&says(), object), None);
    }

    #[test]
    fn what_nobody_wants_goes_once_it_is_known_of_every_service() {
        let seen = seen::<Plain>(written::<Plain>(&says()));
        assert_eq!(step(None, Some(&seen), false), None);
        assert_eq!(
            step(None, Some(&seen), true),
            Some(Step::Remove("u".into()))
        );
        assert_eq!(step::<Vec<String>>(None, None, true), None);
        assert_eq!(
            step(Some(&wanted(&says())), None, false),
            Some(Step::Create),
            "what is known to be wanted does not wait"
        );
    }
}
