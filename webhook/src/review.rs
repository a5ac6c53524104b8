//! The AdmissionReview (`admission.k8s.io/v1`): what the API server asks, and how an answer looks.

use ferrolb_api::GROUP;
use ferrolb_rules::{Refusal, WARNING_AT_MOST, Warning};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::envelope::{Envelope, EnvelopeError};
use crate::strict::Strict;

/// The reviews that are understood and written.
const REVIEW: Envelope = Envelope {
    api_version: "admission.k8s.io/v1",
    kind: "AdmissionReview",
};

/// What a request does to the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// A new object.
    Create,
    /// A changed object.
    Update,
    /// An object that shall go.
    Delete,
    /// A call of a subresource.
    Connect,
}

/// One question of the API server. The objects stay JSON here, so that one that does not parse can be refused with the
/// parser's words instead of failing the call.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    /// To be repeated in the answer.
    pub uid: String,
    /// Group, version and kind of the object.
    #[serde(default)]
    pub kind: GroupVersionKind,
    /// What happens to the object.
    pub operation: Operation,
    /// The object's name; empty with generateName.
    #[serde(default)]
    pub name: String,
    /// The object's namespace.
    #[serde(default)]
    pub namespace: String,
    /// The object as it shall be; absent on DELETE.
    #[serde(default)]
    pub object: Strict,
    /// The object as it is; absent on CREATE.
    #[serde(default)]
    pub old_object: Strict,
}

/// What the API server calls the object's kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct GroupVersionKind {
    /// The API group; empty for the core.
    #[serde(default)]
    pub group: String,
    /// The version.
    #[serde(default)]
    pub version: String,
    /// The kind.
    #[serde(default)]
    pub kind: String,
}

impl Question {
    /// Reads the body of a call.
    ///
    /// # Errors
    /// If it is not an AdmissionReview of `admission.k8s.io/v1`, or names a field twice.
    pub fn parse(body: &[u8]) -> Result<Self, EnvelopeError> {
        REVIEW.open(body)
    }
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The object may pass; kubectl prints the warnings.
    Allowed {
        /// Sentences for whoever applies the object.
        warnings: Vec<String>,
    },
    /// The object may pass with this annotation added.
    Annotated(json_patch::Patch),
    /// The object breaks these rules (422), so that kubectl prints a list.
    Invalid(Vec<Refusal>),
    /// The change is not allowed, whatever the object says (403).
    Forbidden(String),
    /// The object cannot be read (400).
    Undecodable(String),
}

impl Answer {
    /// Allowed, without a word.
    pub fn yes() -> Self {
        Self::Allowed {
            warnings: Vec::new(),
        }
    }

    /// Allowed, with warnings about the object of this kind and name. kubectl prints the warnings of all objects in a file alike.
    pub fn warned(kind: &str, name: &str, warnings: &[Warning]) -> Self {
        let warnings = warnings.iter().map(|warning| {
            let named = format!("{kind} {name:?}, {warning}");
            // What is wrong is worth more than where.
            match named.chars().count() <= WARNING_AT_MOST {
                true => named,
                false => warning.to_string(),
            }
        });
        Self::Allowed {
            warnings: warnings.collect(),
        }
    }

    /// Why the object may not pass.
    pub fn refusal(&self) -> Option<String> {
        match self {
            Self::Allowed { .. } | Self::Annotated(_) => None,
            Self::Invalid(refusals) => Some(listed(refusals)),
            Self::Forbidden(message) | Self::Undecodable(message) => Some(message.clone()),
        }
    }

    /// Whether the object may pass.
    pub fn allows(&self) -> bool {
        matches!(self, Self::Allowed { .. } | Self::Annotated(_))
    }

    /// The AdmissionReview to send back. A refusal is HTTP 200 like an approval; any other status would only count as a
    /// webhook that failed.
    pub fn to_review(&self, uid: &str) -> Value {
        let mut response = json!({ "uid": uid, "allowed": self.allows() });
        let (field, value) = match self {
            Self::Allowed { warnings } if warnings.is_empty() => ("warnings", Value::Null),
            Self::Allowed { warnings } => ("warnings", json!(warnings)),
            Self::Annotated(patch) => {
                use base64::Engine;
                let text = serde_json::to_vec(patch).unwrap_or_default();
                let text = base64::engine::general_purpose::STANDARD.encode(text);
                response
                    .as_object_mut()
                    .map(|response| response.insert("patch".to_owned(), text.into()));
                ("patchType", "JSONPatch".into())
            }
            Self::Invalid(refusals) => ("status", invalid(refusals)),
            Self::Forbidden(message) => ("status", failure(403, "Forbidden", message)),
            Self::Undecodable(message) => ("status", failure(400, "BadRequest", message)),
        };
        if let (Some(response), false) = (response.as_object_mut(), value.is_null()) {
            response.insert(field.to_owned(), value);
        }
        json!({ "apiVersion": REVIEW.api_version, "kind": REVIEW.kind, "response": response })
    }
}

fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({ "status": "Failure", "code": code, "reason": reason, "message": message })
}

/// A Status as the API server itself writes one for an object that breaks its schema: kubectl prints the causes as a list.
fn invalid(refusals: &[Refusal]) -> Value {
    let causes: Vec<Value> = refusals
        .iter()
        .map(|refusal| {
            json!({ "reason": "FieldValueInvalid", "field": refusal.field, "message": refusal.reason })
        })
        .collect();
    let mut status = failure(422, "Invalid", &listed(refusals));
    if let (Some(status), Some(first)) = (status.as_object_mut(), refusals.first()) {
        let group = match first.kind {
            "Service" | "Namespace" => "",
            _ => GROUP,
        };
        let details = json!({
            "group": group, "kind": first.kind, "name": first.name, "causes": causes,
        });
        status.insert("details".to_owned(), details);
    }
    status
}

/// Every problem at once: whoever applies the object mends them in one go.
fn listed(refusals: &[Refusal]) -> String {
    if let [refusal] = refusals {
        return refusal.to_string();
    }
    let mut text = format!("{} problems:", refusals.len());
    for refusal in refusals {
        text.push_str("\n- ");
        text.push_str(&refusal.to_string());
    }
    text
}
