//! Whatever the body of a call is, it gets an answer that the API server understands, or an HTTP error; nothing panics, hangs
//! or grows.
//!
//! The first byte chooses the path, the rest is the body.
#![no_main]

use std::sync::{Arc, LazyLock};

use ferrolb_rules::{AllObjects, Known, LastGood};
use ferrolb_webhook::judge::{Scope, judge};
use ferrolb_webhook::kind::Kind;
use ferrolb_webhook::review::{Answer, Question};
use ferrolb_webhook::{convert, mutate};
use libfuzzer_sys::fuzz_target;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

static SCOPE: LazyLock<Scope> = LazyLock::new(|| Scope {
    namespace: "metallb-system".to_owned(),
    class: None,
});

/// Beside objects of each kind, some of which are set aside, so that both ways of judging are taken.
static KNOWN: LazyLock<[Known; 2]> = LazyLock::new(|| [known(false), known(true)]);

fn known(set_aside: bool) -> Known {
    fn object<K: DeserializeOwned>(name: &str, spec: Value) -> Arc<K> {
        let object = json!({"metadata": {"name": name, "namespace": "metallb-system"}, "spec": spec});
        Arc::new(serde_json::from_value(object).expect("the object is well formed"))
    }
    let mut objects = AllObjects {
        pools: vec![
            object("a", json!({"addresses": ["192.0.2.0/24", "fd00::/112"]})),
            object("b", json!({"addresses": ["198.51.100.1-198.51.100.9"]})),
        ],
        l2_advertisements: vec![object("a", json!({"ipAddressPools": ["a"]}))],
        bgp_advertisements: vec![object("a", json!({"ipAddressPools": ["a"], "localPref": 100}))],
        peers: vec![object("a", json!({"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1"}))],
        bfd_profiles: vec![object("a", json!({}))],
        communities: vec![object("a", json!({"communities": [{"name": "x", "value": "1:1"}]}))],
    };
    if set_aside {
        objects.pools.push(object("c", json!({"addresses": ["192.0.2.7/32"]})));
        objects.bgp_advertisements.push(object("b", json!({"localPref": 200})));
        objects
            .peers
            .push(object("b", json!({"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1"})));
    }
    Known::new(objects, &mut LastGood::default(), Some(Vec::new()))
}

fuzz_target!(|data: &[u8]| {
    let Some((&path, body)) = data.split_first() else {
        return;
    };
    if path == b'c' {
        if let Ok(answer) = convert::answer(body) {
            assert!(answer["response"]["result"]["status"].is_string());
        }
        return;
    }
    let Ok(question) = Question::parse(body) else {
        return;
    };
    if path == b'm' {
        check(&mutate::annotate(&question, Some(TRACE), None), &question);
        return;
    }
    let kind = Kind::ALL[usize::from(path) % Kind::ALL.len()];
    for known in KNOWN.iter() {
        let answer = judge(kind, &question, known, &SCOPE);
        assert_eq!(answer, judge(kind, &question, known, &SCOPE), "the same question again");
        check(&answer, &question);
    }
});

fn check(answer: &Answer, question: &Question) {
    let review = answer.to_review(&question.uid);
    let response = &review["response"];
    assert_eq!(response["uid"], question.uid.as_str());
    match answer {
        Answer::Allowed { warnings } => {
            assert!(warnings.iter().all(|warning| warning.chars().count() <= 256));
        }
        Answer::Annotated(patch) => assert!(!patch.0.is_empty()),
        Answer::Invalid(refusals) => {
            assert!(!refusals.is_empty());
            let causes = response["status"]["details"]["causes"].as_array().map(Vec::len);
            assert_eq!(causes, Some(refusals.len()));
        }
        Answer::Forbidden(message) | Answer::Undecodable(message) => assert!(!message.is_empty()),
    }
    let text = review.to_string();
    assert!(serde_json::from_str::<Value>(&text).is_ok());
}
