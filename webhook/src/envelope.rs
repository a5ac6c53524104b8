//! The object that an API server wraps its question in.

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Which wrapping is understood: version and kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// For example `admission.k8s.io/v1`.
    pub api_version: &'static str,
    /// For example `AdmissionReview`.
    pub kind: &'static str,
}

/// The body of a call is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// It is no JSON of that form.
    #[error("reading the {0}: {1}")]
    Unreadable(&'static str, #[source] serde_json::Error),
    /// It is of another version or kind.
    #[error("this is {kind:?} of {api_version:?}; only {:?} of {:?} is understood", .wanted.kind, .wanted.api_version)]
    Foreign {
        /// What the body says of itself.
        api_version: String,
        /// What the body says of itself.
        kind: String,
        /// What is understood.
        wanted: Envelope,
    },
    /// It has no request.
    #[error("reading the {0}: it has no request")]
    NoRequest(&'static str),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wrapped<R> {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<R>,
}

impl Envelope {
    /// The request in the body of a call.
    ///
    /// # Errors
    /// If the body is not this object with a request.
    pub fn open<R: DeserializeOwned>(self, body: &[u8]) -> Result<R, EnvelopeError> {
        let wrapped: Wrapped<R> = serde_json::from_slice(body)
            .map_err(|error| EnvelopeError::Unreadable(self.kind, error))?;
        if (wrapped.api_version.as_str(), wrapped.kind.as_str()) != (self.api_version, self.kind) {
            return Err(EnvelopeError::Foreign {
                api_version: wrapped.api_version,
                kind: wrapped.kind,
                wanted: self,
            });
        }
        wrapped.request.ok_or(EnvelopeError::NoRequest(self.kind))
    }
}
