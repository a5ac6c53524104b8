//! The trace context that a Service carries from admission to the first packet (ARCHITECTURE.md, traces).

use ferrolb_api::annotations::TRACEPARENT;
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::{Value, json};

use crate::review::{Answer, Operation, Question};

/// Where the API server sends Services.
pub const PATH: &str = "/mutate-trace";

/// Adds `traceparent` where the request begins something: a Service of type LoadBalancer and of our class that is made, or
/// whose spec changes. Nothing else of an object is ever touched, and no other object: where the registration knows no match
/// conditions (OLM), every Service comes here.
pub fn annotate(question: &Question, traceparent: Option<&str>, class: Option<&str>) -> Answer {
    let (new, old) = (&question.object.0, &question.old_object.0);
    let text = |pointer: &str| new.pointer(pointer).and_then(Value::as_str);
    let ours = text("/spec/type") == Some("LoadBalancer")
        && text("/spec/loadBalancerClass") == class
        && text("/metadata/deletionTimestamp").is_none();
    let begins = match question.operation {
        Operation::Create => true,
        Operation::Update => new.get("spec") != old.get("spec"),
        Operation::Delete | Operation::Connect => false,
    };
    let Some(traceparent) = traceparent.filter(|_| begins && ours) else {
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
            let mut object = json!({"metadata": {"name": "web", "annotations": annotations}, "spec": {"type": "LoadBalancer"}});
            let Answer::Annotated(patch) =
                annotate(&asked("CREATE", &object, &json!(null)), Some(TRACE), None)
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
        changed["spec"]["ports"] = json!([{"port": 80}]);
        let mut foreign = object.clone();
        foreign["spec"]["loadBalancerClass"] = json!("other");
        let mut inside = object.clone();
        inside["spec"]["type"] = json!("ClusterIP");
        let mut going = object.clone();
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        for other in [foreign, inside, going] {
            let question = asked("CREATE", &other, &json!(null));
            assert_eq!(
                annotate(&question, Some(TRACE), None),
                Answer::yes(),
                "{other}"
            );
        }
        let mut labelled = object.clone();
        labelled["metadata"]["labels"] = json!({"a": "b"});
        assert_eq!(
            annotate(&asked("CREATE", &object, &json!(null)), None, None),
            Answer::yes()
        );
        assert_eq!(
            annotate(&asked("UPDATE", &labelled, &object), Some(TRACE), None),
            Answer::yes()
        );
        assert_ne!(
            annotate(&asked("UPDATE", &changed, &object), Some(TRACE), None),
            Answer::yes()
        );
        assert_eq!(
            annotate(&asked("DELETE", &json!(null), &object), Some(TRACE), None),
            Answer::yes()
        );
    }
}
