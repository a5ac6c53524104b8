//! What is answered, by the object's kind and by what happens to it.

use ferrolb_rules::{Known, Verdict, Warning};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::kind::Kind;
use crate::review::{Answer, Operation, Question};

/// Whose objects count.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The namespace of our own kinds.
    pub namespace: String,
    /// The loadBalancerClass of the Services that get addresses.
    pub class: Option<String>,
}

/// Answers one question.
pub fn judge(kind: Kind, question: &Question, known: &Known, scope: &Scope) -> Answer {
    let said = question.kind.kind.as_str();
    if !said.is_empty() && said != kind.name() {
        return Answer::Undecodable(format!(
            "{said} objects are not judged at {}; the webhook configuration sends them to the wrong path",
            kind.path()
        ));
    }
    let namespace = &scope.namespace;
    let ours = kind.is_foreign() || question.namespace == *namespace;
    let object = &question.object.0;
    match question.operation {
        Operation::Create if !ours => {
            Answer::Forbidden(format!("resource must be created in {namespace} namespace"))
        }
        Operation::Create => judge_object(kind, object, known, scope),
        Operation::Update if !ours => {
            let text = format!(
                "only objects in the {namespace} namespace have an effect; create it there, and delete this one"
            );
            let field = "metadata.namespace".to_owned();
            Answer::warned(kind.name(), name_of(object), &[Warning { field, text }])
        }
        // Finalizers must go whatever the object says, and what touches nothing that is read breaks no rule anew.
        Operation::Update if is_going(object) || reads_the_same(kind, question) => Answer::yes(),
        Operation::Update => judge_object(kind, object, known, scope),
        Operation::Delete if kind == Kind::BFDProfile && ours => {
            match known.removal_of_bfd_profile(&question.name) {
                Some(refusal) => Answer::Forbidden(refusal.reason),
                None => Answer::yes(),
            }
        }
        Operation::Delete | Operation::Connect => Answer::yes(),
    }
}

/// The verdict on an object by itself and beside what is known.
///
/// # Errors
/// The parser's words if it is no object of this kind.
pub fn verdict(
    kind: Kind,
    object: &Value,
    known: &Known,
    class: Option<&str>,
) -> Result<Verdict, serde_json::Error> {
    fn with<K: DeserializeOwned>(
        object: &Value,
        judge: impl FnOnce(&K) -> Verdict,
    ) -> Result<Verdict, serde_json::Error> {
        K::deserialize(object).map(|object| judge(&object))
    }
    match kind {
        Kind::IPAddressPool => with(object, |object| known.pool(object)),
        Kind::L2Advertisement => with(object, |object| known.l2_advertisement(object)),
        Kind::BGPAdvertisement => with(object, |object| known.bgp_advertisement(object)),
        Kind::BGPPeer => with(object, |object| known.peer(object)),
        Kind::BFDProfile => with(object, |object| known.bfd_profile(object)),
        Kind::Community => with(object, |object| known.community(object)),
        Kind::Service => with(object, |object| known.service(object, class)),
        Kind::Namespace => with(object, |object| known.namespace(object)),
    }
}

fn judge_object(kind: Kind, object: &Value, known: &Known, scope: &Scope) -> Answer {
    match verdict(kind, object, known, scope.class.as_deref()) {
        Ok(verdict) if verdict.refusals.is_empty() => {
            Answer::warned(kind.name(), name_of(object), &verdict.warnings)
        }
        Ok(verdict) => Answer::Invalid(verdict.refusals),
        Err(error) => {
            let name = name_of(object);
            // The parser quotes what it does not understand, and a password is nobody's to read.
            let password = object.pointer("/spec/password");
            let error = match password.is_some_and(|password| !password.is_string()) {
                true => "spec.password must be a text; write it in quotes".to_owned(),
                false => error.to_string(),
            };
            Answer::Undecodable(format!("{} {name:?} cannot be read: {error}", kind.name()))
        }
    }
}

fn name_of(object: &Value) -> &str {
    let name = object.pointer("/metadata/name").and_then(Value::as_str);
    name.unwrap_or_default()
}

fn is_going(object: &Value) -> bool {
    object
        .pointer("/metadata/deletionTimestamp")
        .is_some_and(|time| !time.is_null())
}

/// What of a Service is read, beside our annotations. Its labels only bring warnings, and an object that is wrong can be labelled.
const OF_A_SERVICE: [&str; 7] = [
    "type",
    "loadBalancerClass",
    "loadBalancerIP",
    "clusterIP",
    "clusterIPs",
    "ipFamilies",
    "ipFamilyPolicy",
];
/// Whose annotations are read.
const PREFIXES: [&str; 3] = ["ferrolb.io/", "metallb.io/", "metallb.universe.tf/"];

fn reads_the_same(kind: Kind, question: &Question) -> bool {
    let (new, old) = (&question.object.0, &question.old_object.0);
    let spec = |object: &Value| object.get("spec").cloned();
    let same_spec = match kind {
        Kind::Namespace => true,
        Kind::Service => OF_A_SERVICE.iter().all(|field| {
            let of = |object: &Value| object.get("spec").and_then(|spec| spec.get(field)).cloned();
            of(new) == of(old)
        }),
        _ => spec(new) == spec(old),
    };
    !old.is_null() && same_spec && annotations(new).eq(annotations(old))
}

/// The annotations that are read of an object, in the order of their keys.
fn annotations(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let all = object
        .pointer("/metadata/annotations")
        .and_then(Value::as_object);
    all.into_iter()
        .flatten()
        .filter(|(key, _)| PREFIXES.iter().any(|prefix| key.starts_with(prefix)))
}
