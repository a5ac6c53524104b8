//! What becomes of a body that is not what an API server sends.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use ferrolb_rules::Known;
use ferrolb_testing::objects;
use ferrolb_webhook::judge::Scope;
use ferrolb_webhook::kind::Kind;
use ferrolb_webhook::run::Figures;
use ferrolb_webhook::server::{Context, router};
use ferrolb_webhook::snapshot::Snapshot;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tower::ServiceExt;

const NAMESPACE: &str = "metallb-system";

/// What an answer needs; without `known` nothing is listed yet.
fn context(known: Option<Known>) -> Context {
    let snapshot = Snapshot::default();
    if let Some(known) = known {
        snapshot.replace(known);
    }
    Context {
        snapshot,
        scope: Arc::new(Scope {
            namespace: NAMESPACE.to_owned(),
            class: None,
        }),
        figures: Figures::registered(&mut Registry::default()),
    }
}

async fn post(path: &str, body: impl Into<Body>) -> (StatusCode, String) {
    let app = router(context(Some(Known::default())));
    let request = Request::post(path).body(body.into()).unwrap();
    let response = app.oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn review() -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u", "operation": "CREATE", "name": "a", "namespace": NAMESPACE,
            "kind": {"group": "metallb.io", "version": "v1beta1", "kind": "IPAddressPool"},
            "object": objects::pool(NAMESPACE, "a", &["192.0.2.1-192.0.2.9"]),
        },
    })
}

/// A list in a list in a list.
fn nested(depth: usize) -> String {
    let open = "[".repeat(depth) + &"]".repeat(depth);
    review()
        .to_string()
        .replace("\"192.0.2.1-192.0.2.9\"", &open)
}

#[tokio::test]
async fn what_is_no_review_is_a_bad_request_that_says_why() {
    let good = review().to_string();
    let mut other_version = review();
    other_version["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let mut other_kind = review();
    other_kind["kind"] = json!("TokenReview");
    let mut no_request = review();
    no_request.as_object_mut().unwrap().remove("request");
    let mut not_utf8 = good.clone().into_bytes();
    let at = good.find("192.0.2.1").unwrap();
    not_utf8[at] = 0xff;
    let twice = good.replace("\"spec\":{", "\"spec\":{\"addresses\":[],");
    for (body, part) in [
        (Vec::new(), "EOF"),
        (good.as_bytes()[..good.len() / 2].to_vec(), "EOF"),
        (b"[]".to_vec(), "reading the AdmissionReview"),
        (not_utf8, "unicode"),
        (nested(10_000).into_bytes(), "recursion limit"),
        (twice.into_bytes(), "the field \"addresses\" stands twice"),
        (
            other_version.to_string().into_bytes(),
            "admission.k8s.io/v1beta1",
        ),
        (other_kind.to_string().into_bytes(), "TokenReview"),
        (no_request.to_string().into_bytes(), "no request"),
    ] {
        for path in [Kind::IPAddressPool.path(), "/mutate-trace".to_owned()] {
            let (status, text) = post(&path, body.clone()).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
    let (status, _) = post(&Kind::IPAddressPool.path(), vec![b' '; 8 * 1024 * 1024]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let (status, text) = post("/convert", good).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("reading the ConversionReview"), "{text}");
}

#[tokio::test]
async fn an_object_that_does_not_belong_here_is_denied_in_a_review() {
    let mut of_another_kind = review();
    of_another_kind["request"]["kind"]["kind"] = json!("Pod");
    let mut no_object = review();
    no_object["request"]["object"] = Value::Null;
    for (body, part) in [
        (of_another_kind.to_string(), "Pod objects are not judged at"),
        (no_object.to_string(), "cannot be read"),
        (nested(60), "cannot be read"),
    ] {
        let (status, text) = post(&Kind::IPAddressPool.path(), body).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["response"]["allowed"], false);
        assert_eq!(answer["response"]["status"]["code"], 400);
        let message = answer["response"]["status"]["message"].as_str().unwrap();
        assert!(message.contains(part), "{part} is not in {message}");
    }
}

/// What breaks rules in hundreds of thousands of places is told of in some.
#[tokio::test]
async fn an_answer_does_not_grow_with_the_mistakes() {
    let pools = vec!["a"; 300_000];
    let mut advertisement = review();
    advertisement["request"]["kind"]["kind"] = json!("L2Advertisement");
    advertisement["request"]["object"] = json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement",
        "metadata": {"name": "a", "namespace": NAMESPACE}, "spec": {"ipAddressPools": pools},
    });
    let mut excluding = review();
    excluding["request"]["object"]["metadata"]["annotations"] =
        json!({"ferrolb.io/exclude": ",".repeat(250_000)});
    for (kind, review) in [
        (Kind::L2Advertisement, advertisement),
        (Kind::IPAddressPool, excluding),
    ] {
        let (status, text) = post(&kind.path(), review.to_string()).await;
        assert_eq!(status, StatusCode::OK);
        let answer: Value = serde_json::from_str(&text).unwrap();
        let causes = answer["response"]["status"]["details"]["causes"]
            .as_array()
            .unwrap();
        assert_eq!(causes.len(), 51);
        assert!(text.contains("and more; of all problems 50 are named"));
        assert!(text.len() < 50_000, "{}", text.len());
    }
}

/// A password that is no text is nobody's to read, in an answer or a log.
#[tokio::test]
async fn a_password_is_not_quoted() {
    let mut peer = review();
    peer["request"]["kind"]["kind"] = json!("BGPPeer");
    peer["request"]["object"] = json!({
        "apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer",
        "metadata": {"name": "a", "namespace": NAMESPACE},
        "spec": {"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1", "password": 271_828},
    });
    let (_, text) = post(&Kind::BGPPeer.path(), peer.to_string()).await;
    assert!(text.contains("spec.password must be a text"), "{text}");
    assert!(!text.contains("271828"), "{text}");
}

#[tokio::test]
async fn before_everything_is_listed_nothing_is_judged_and_everything_is_converted() {
    let context = context(None);
    let ask = |path: String, body: Value| {
        let request = Request::post(path)
            .body(Body::from(body.to_string()))
            .unwrap();
        router(context.clone()).oneshot(request)
    };
    let judged = ask(Kind::IPAddressPool.path(), review()).await.unwrap();
    assert_eq!(judged.status(), StatusCode::SERVICE_UNAVAILABLE);
    let conversion = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
        "request": {"uid": "u", "desiredAPIVersion": "metallb.io/v1beta2", "objects": []},
    });
    let converted = ask("/convert".to_owned(), conversion).await.unwrap();
    assert_eq!(converted.status(), StatusCode::OK);
}

/// A body of this length of which nothing more comes.
fn unfinished(length: usize) -> Request<Body> {
    Request::post(Kind::IPAddressPool.path())
        .header("content-length", length)
        .body(Body::from_stream(futures::stream::pending::<
            Result<Vec<u8>, std::io::Error>,
        >()))
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn who_sends_slowly_is_left_and_holds_up_no_usual_review() {
    let app = router(context(Some(Known::default())));
    // Two large bodies: one is waited for, the other waits for that one.
    let slow: Vec<_> = (0..2)
        .map(|_| tokio::spawn(app.clone().oneshot(unfinished(1024 * 1024))))
        .collect();
    tokio::task::yield_now().await;
    let body = review().to_string();
    let usual = Request::post(Kind::IPAddressPool.path())
        .header("content-length", body.len())
        .body(Body::from(body))
        .unwrap();
    let began = tokio::time::Instant::now();
    let answered = app.clone().oneshot(usual).await.unwrap();
    assert_eq!(answered.status(), StatusCode::OK);
    assert!(began.elapsed().is_zero(), "the clock stood still meanwhile");
    for slow in slow {
        let answered = slow.await.unwrap().unwrap();
        assert_eq!(answered.status(), StatusCode::REQUEST_TIMEOUT);
    }
}
