//! The trace context that a Service carries from admission to the first packet (ARCHITECTURE.md, traces).

use ferrolb_api::annotations::TRACEPARENT;
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::{Value, json};

use crate::review::{Answer, Operation, Question};

/// Where the API server sends Services.
pub const PATH: &str = "/mutate-trace";

/// Adds `traceparent` where the request begins something: a Service that is made, or whose spec changes. Nothing else of an
/// object is ever touched.
pub fn annotate(question: &Question, traceparent: Option<&str>) -> Answer {
    let (new, old) = (&question.object.0, &question.old_object.0);
    let begins = match question.operation {
        Operation::Create => true,
        Operation::Update => new.get("spec") != old.get("spec"),
        Operation::Delete | Operation::Connect => false,
    };
    let Some(traceparent) = traceparent.filter(|_| begins && new.is_object()) else {
        return Answer::yes();
    };
    let mut operations = Vec::new();
    let mut add = |path: &[&str], value: Value| {
        let path = PointerBuf::from_tokens(path.iter().copied());
        operations.push(PatchOperation::Add(AddOperation { path, value }));
    };
    if !new
        .pointer("/metadata/annotations")
        .is_some_and(Value::is_object)
    {
        add(&["metadata", "annotations"], json!({}));
    }
    add(
        &["metadata", "annotations", TRACEPARENT],
        traceparent.into(),
    );
    Answer::Annotated(Patch(operations))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn asked(operation: &str, object: &Value, old: &Value) -> Question {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {"uid": "u", "operation": operation, "object": object, "oldObject": old},
        });
        Question::parse(review.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn the_annotation_is_added_and_nothing_else() {
        for annotations in [
            json!(null),
            json!({}),
            json!({"a/b": "c", TRACEPARENT: "old"}),
        ] {
            let mut object =
                json!({"metadata": {"name": "web", "annotations": annotations}, "spec": {}});
            let Answer::Annotated(patch) =
                annotate(&asked("CREATE", &object, &json!(null)), Some(TRACE))
            else {
                panic!("no patch");
            };
            let mut wanted = object.clone();
            if annotations.is_null() {
                wanted["metadata"]["annotations"] = json!({});
            }
            wanted["metadata"]["annotations"][TRACEPARENT] = TRACE.into();
            json_patch::patch(&mut object, &patch).unwrap();
            assert_eq!(object, wanted);
        }
    }

    #[test]
    fn without_a_trace_or_a_beginning_the_object_stays_as_it_is() {
        let object = json!({"metadata": {"name": "web"}, "spec": {"type": "LoadBalancer"}});
        let mut changed = object.clone();
        changed["spec"]["type"] = json!("ClusterIP");
        let mut labelled = object.clone();
        labelled["metadata"]["labels"] = json!({"a": "b"});
        assert_eq!(
            annotate(&asked("CREATE", &object, &json!(null)), None),
            Answer::yes()
        );
        assert_eq!(
            annotate(&asked("UPDATE", &labelled, &object), Some(TRACE)),
            Answer::yes()
        );
        assert_ne!(
            annotate(&asked("UPDATE", &changed, &object), Some(TRACE)),
            Answer::yes()
        );
        assert_eq!(
            annotate(&asked("DELETE", &json!(null), &object), Some(TRACE)),
            Answer::yes()
        );
    }
}
