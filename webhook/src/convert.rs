//! The ConversionReview (`apiextensions.k8s.io/v1`): objects of one version said in another.
//!
//! Nothing is looked up, so this answers before the process has listed anything.

use ferrolb_api::conversion::convert_bgp_peer;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::envelope::{Envelope, EnvelopeError};
use crate::strict::Strict;

/// Where the API server sends objects.
pub const PATH: &str = "/convert";

/// The reviews that are understood and written.
const REVIEW: Envelope = Envelope {
    api_version: "apiextensions.k8s.io/v1",
    kind: "ConversionReview",
};

#[derive(Deserialize)]
struct Request {
    uid: String,
    #[serde(rename = "desiredAPIVersion")]
    desired_api_version: String,
    #[serde(default)]
    objects: Vec<Strict>,
}

/// Answers the body of a call.
///
/// # Errors
/// If it is not a ConversionReview of `apiextensions.k8s.io/v1`, or names a field twice. An object that cannot be converted
/// is an answer: the review says Failure and why, and the API server passes that on.
pub fn answer(body: &[u8]) -> Result<Value, EnvelopeError> {
    let request: Request = REVIEW.open(body)?;
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
    Ok(json!({ "apiVersion": REVIEW.api_version, "kind": REVIEW.kind, "response": response }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(desired: &str, object: &Value) -> Value {
        let review = json!({
            "apiVersion": REVIEW.api_version, "kind": REVIEW.kind,
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
