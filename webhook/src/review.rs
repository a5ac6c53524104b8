//! The AdmissionReview (`admission.k8s.io/v1`): what the API server asks, and how an answer looks.

use serde::Deserialize;
use serde_json::{Value, json};

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
    pub object: Value,
    /// The object as it is; absent on CREATE.
    #[serde(default)]
    pub old_object: Value,
}

/// The body is no AdmissionReview with a request.
#[derive(Debug, thiserror::Error)]
#[error("reading the AdmissionReview")]
pub struct ReviewError(#[source] serde_json::Error);

#[derive(Deserialize)]
struct Review {
    request: Question,
}

impl Question {
    /// Reads the body of a call.
    pub fn parse(body: &[u8]) -> Result<Self, ReviewError> {
        serde_json::from_slice::<Review>(body)
            .map(|review| review.request)
            .map_err(ReviewError)
    }
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The object may pass; kubectl prints the warnings.
    Allowed {
        /// Sentences for whoever applies the object.
        warnings: Vec<String>,
    },
    /// The object breaks a rule (403).
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

    /// Why the object may not pass.
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Allowed { .. } => None,
            Self::Forbidden(message) | Self::Undecodable(message) => Some(message),
        }
    }

    /// Whether the object may pass.
    pub fn allows(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }

    /// The AdmissionReview to send back. A refusal is HTTP 200 like an approval; any other status would only count as a
    /// webhook that failed.
    pub fn to_review(&self, uid: &str) -> Value {
        let response = match self {
            Self::Allowed { warnings } if warnings.is_empty() => {
                json!({ "uid": uid, "allowed": true })
            }
            Self::Allowed { warnings } => {
                json!({ "uid": uid, "allowed": true, "warnings": warnings })
            }
            Self::Forbidden(message) => refusal(uid, 403, "Forbidden", message),
            Self::Undecodable(message) => refusal(uid, 400, "BadRequest", message),
        };
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response })
    }
}

fn refusal(uid: &str, code: u16, reason: &str, message: &str) -> Value {
    json!({
        "uid": uid,
        "allowed": false,
        "status": { "status": "Failure", "code": code, "reason": reason, "message": message },
    })
}
