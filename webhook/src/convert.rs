//! The ConversionReview (`apiextensions.k8s.io/v1`): objects of one version said in another.
//!
//! Nothing is looked up, so this answers before the process has listed anything.

use ferrolb_api::conversion::convert_bgp_peer;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::strict::Strict;

/// Where the API server sends objects.
pub const PATH: &str = "/convert";

/// The version of the reviews that are understood and written.
const API_VERSION: &str = "apiextensions.k8s.io/v1";
const KIND: &str = "ConversionReview";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<Request>,
}

#[derive(Deserialize)]
struct Request {
    uid: String,
    #[serde(rename = "desiredAPIVersion")]
    desired_api_version: String,
    #[serde(default)]
    objects: Vec<Strict>,
}

/// The body is no ConversionReview with a request.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// It is no JSON of that form.
    #[error("reading the ConversionReview: {0}")]
    Unreadable(#[source] serde_json::Error),
    /// It is of another version or kind.
    #[error("this is {kind:?} of {api_version:?}; only {KIND:?} of {API_VERSION:?} is understood")]
    Foreign {
        /// What the body says of itself.
        api_version: String,
        /// What the body says of itself.
        kind: String,
    },
    /// It has no request.
    #[error("reading the ConversionReview: it has no request")]
    NoRequest,
}

/// Answers the body of a call.
///
/// # Errors
/// If it is not a ConversionReview of `apiextensions.k8s.io/v1`, or names a field twice. An object that cannot be converted
/// is an answer: the review says Failure and why, and the API server passes that on.
pub fn answer(body: &[u8]) -> Result<Value, ConvertError> {
    let review: Review = serde_json::from_slice(body).map_err(ConvertError::Unreadable)?;
    if (review.api_version.as_str(), review.kind.as_str()) != (API_VERSION, KIND) {
        return Err(ConvertError::Foreign {
            api_version: review.api_version,
            kind: review.kind,
        });
    }
    let request = review.request.ok_or(ConvertError::NoRequest)?;
    let converted: Result<Vec<Value>, _> = request
        .objects
        .into_iter()
        .map(|Strict(object)| convert_bgp_peer(object, &request.desired_api_version))
        .collect();
    let uid = request.uid;
    let response = match converted {
        Ok(objects) => {
            json!({ "uid": uid, "result": { "status": "Success" }, "convertedObjects": objects })
        }
        Err(error) => {
            let result = json!({ "status": "Failure", "message": error.to_string() });
            json!({ "uid": uid, "result": result, "convertedObjects": [] })
        }
    };
    Ok(json!({ "apiVersion": API_VERSION, "kind": KIND, "response": response }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(desired: &str, object: &Value) -> Value {
        let review = json!({
            "apiVersion": API_VERSION, "kind": KIND,
            "request": {"uid": "u", "desiredAPIVersion": desired, "objects": [object, object]},
        });
        answer(review.to_string().as_bytes()).unwrap()["response"].clone()
    }

    #[test]
    fn every_object_is_converted_or_the_answer_says_why_not() {
        let peer = json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "BGPPeer", "metadata": {"name": "tor"},
            "spec": {"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1"},
        });
        let response = asked("metallb.io/v1beta2", &peer);
        assert_eq!(response["result"]["status"], "Success");
        assert_eq!(response["uid"], "u");
        for converted in response["convertedObjects"].as_array().unwrap() {
            assert_eq!(converted["apiVersion"], "metallb.io/v1beta2");
            assert_eq!(converted["spec"]["peerASN"], 2);
        }
        let response = asked("metallb.io/v7", &peer);
        assert_eq!(response["result"]["status"], "Failure");
        assert!(
            response["result"]["message"]
                .as_str()
                .unwrap()
                .contains("v7")
        );
        assert_eq!(response["convertedObjects"], json!([]));
    }

    #[test]
    fn what_is_no_review_is_an_error() {
        for (body, part) in [
            ("{", "EOF"),
            ("{}", "only \"ConversionReview\""),
            (
                r#"{"apiVersion":"apiextensions.k8s.io/v1beta1","kind":"ConversionReview"}"#,
                "v1beta1",
            ),
            (
                r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"ConversionReview"}"#,
                "no request",
            ),
        ] {
            let error = answer(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{body}: {error}");
        }
    }
}
