//! What is said of one question, beside objects that are known.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use ferrolb_rules::{Known, Refusal};
use ferrolb_testing::objects;
use ferrolb_webhook::judge::{Scope, judge};
use ferrolb_webhook::kind::Kind;
use ferrolb_webhook::review::{Answer, Question};
use serde_json::{Value, json};

const NAMESPACE: &str = "metallb-system";

fn ask(operation: &str, object: &Value, old: &Value) -> Answer {
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "operation": operation, "name": "office", "namespace": NAMESPACE,
        "object": object, "oldObject": old,
    }});
    let question = Question::parse(review.to_string().as_bytes()).unwrap();
    let scope = Scope {
        namespace: NAMESPACE.to_owned(),
        class: None,
    };
    judge(Kind::IPAddressPool, &question, &Known::default(), &scope)
}

fn pool(annotations: Value) -> Value {
    let mut pool = objects::pool(NAMESPACE, "office", &["192.0.2.1-192.0.2.200"]);
    pool["metadata"]["annotations"] = annotations;
    pool
}

fn refused(key: &str, reason: &str) -> Answer {
    let field = format!("metadata.annotations[{key}]");
    Answer::Invalid(vec![Refusal::new("IPAddressPool", "office", field, reason)])
}

#[test]
fn a_pool_with_a_bad_annotation_is_refused_by_the_rule_that_it_breaks() {
    for (key, good, bad, reason) in [
        (
            "ferrolb.io/exclude",
            "192.0.2.1",
            "192.0.3.1",
            "\"192.0.3.1\" has no address in common with spec.addresses; remove it, or write addresses of this pool",
        ),
        (
            "ferrolb.io/reuse-hold",
            "10m",
            "600",
            "\"600\" is not a duration: each number needs one of the units ns, us, ms, s, m, h; \
             write a duration from 0 to 720h such as 10m, or remove the annotation",
        ),
        (
            "ferrolb.io/max-addresses-per-namespace",
            "3",
            "three",
            "\"three\" is not a whole number from 0 to 1000000; \
             write one such as 10, or remove the annotation for no limit",
        ),
    ] {
        let (good, bad) = (pool(json!({key: good})), pool(json!({key: bad})));
        assert_eq!(ask("CREATE", &good, &Value::Null), Answer::yes());
        assert_eq!(ask("CREATE", &bad, &Value::Null), refused(key, reason));
        // An update that leaves the spec alone.
        assert_eq!(ask("UPDATE", &bad, &good), refused(key, reason));
        assert_eq!(
            ask("UPDATE", &bad, &pool(Value::Null)),
            refused(key, reason)
        );
        assert_eq!(ask("UPDATE", &good, &bad), Answer::yes());
    }
}

#[test]
fn an_update_passes_that_leaves_alone_what_was_wrong_before() {
    let key = "ferrolb.io/exclude";
    let old = pool(json!({key: "192.0.3.1"}));
    let owned = pool(json!({key: "192.0.3.1", "example.com/owner": "me"}));
    assert_eq!(ask("UPDATE", &owned, &old), Answer::yes());
}

/// kubectl prints the warnings of all objects of a file alike.
#[test]
fn a_warning_names_its_object_where_there_is_room() {
    let warned = |name: &str, key: &str| {
        let mut object = pool(json!({key: "x"}));
        object["metadata"]["name"] = name.into();
        match ask("CREATE", &object, &Value::Null) {
            Answer::Allowed { warnings } => warnings,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        warned("office", "ferrolb.io/frobnicate"),
        [
            "IPAddressPool \"office\", metadata.annotations[ferrolb.io/frobnicate]: is read by nobody on a IPAddressPool; \
             remove it, or correct its name"
        ]
    );
    let long = warned(&"o".repeat(200), "ferrolb.io/frobnicate");
    assert!(long[0].starts_with("metadata.annotations["), "{long:?}");
    let [text] = warned("office", &format!("ferrolb.io/{}", "x".repeat(300)))
        .try_into()
        .unwrap();
    assert!(text.chars().count() <= 256, "{text}");
}

#[test]
fn an_object_in_a_namespace_that_is_not_ours_is_told_that_it_does_nothing() {
    let foreign = objects::pool("elsewhere", "office", &["192.0.2.1-192.0.2.200"]);
    let mut review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "operation": "UPDATE", "name": "office", "namespace": "elsewhere",
        "object": foreign, "oldObject": foreign,
    }});
    review["request"]["object"]["spec"]["autoAssign"] = false.into();
    let question = Question::parse(review.to_string().as_bytes()).unwrap();
    let scope = Scope {
        namespace: NAMESPACE.to_owned(),
        class: None,
    };
    let answer = judge(Kind::IPAddressPool, &question, &Known::default(), &scope);
    let warning = "IPAddressPool \"office\", metadata.namespace: only objects in the metallb-system namespace have an effect; \
                   create it there, and delete this one";
    assert_eq!(
        answer,
        Answer::Allowed {
            warnings: vec![warning.to_owned()]
        }
    );
}
