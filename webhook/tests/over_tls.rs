//! The webhook as the API server meets it: real TLS on loopback, objects from an API server in memory.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::{
    HOST, NAMESPACE, Pair, Site, connect, followed, pair, pool, put_certificate, put_secret, soon,
};
use ferrolb_testing::{ApiServer, objects};
use ferrolb_webhook::kind::Kind;
use serde_json::{Value, json};

const POOLS: &str = "apis/metallb.io/v1beta1/ipaddresspools";
const PEERS: &str = "apis/metallb.io/v1beta2/bgppeers";
const COMMUNITIES: &str = "apis/metallb.io/v1beta1/communities";

/// What the operator puts beside the certificate. It stays the same, so that no certificate waits.
const AUTHORITY: &str = "authority";
const AUTHORITY_SEEN: Duration = Duration::from_secs(10);
const LINGER: Duration = Duration::from_millis(300);

/// A webhook and who asks it.
struct Asked {
    server: ApiServer,
    site: Site,
    trusted: Arc<Pair>,
}

impl Asked {
    /// A webhook beside these objects, with a certificate in its Secret.
    async fn with(objects: &[(&str, Value)]) -> Self {
        let mut asked = Self::without_certificate(objects).await;
        asked.renew();
        asked.site.ready().await;
        asked
    }

    async fn without_certificate(objects: &[(&str, Value)]) -> Self {
        let server = ApiServer::default();
        for (collection, object) in objects {
            server.put(collection, object.clone());
        }
        let certificate = followed(&server, AUTHORITY_SEEN);
        let site = Site::serving(&server, certificate, LINGER).await;
        Self {
            server,
            site,
            trusted: Arc::new(pair()),
        }
    }

    /// Puts a new certificate into the Secret, which is trusted from now on. Returns the one that was.
    fn renew(&mut self) -> Arc<Pair> {
        let renewed = pair();
        put_certificate(&self.server, &renewed, AUTHORITY);
        std::mem::replace(&mut self.trusted, Arc::new(renewed))
    }

    async fn post(&self, path: &str, body: Vec<u8>) -> std::io::Result<(u16, String)> {
        let (address, trusted, path) = (self.site.address, self.trusted.clone(), path.to_owned());
        tokio::task::spawn_blocking(move || post(address, &trusted, &path, &body))
            .await
            .unwrap()
    }

    async fn ask(&self, kind: Kind, request: Value) -> Value {
        let review = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request });
        let (status, body) = self
            .post(&kind.path(), review.to_string().into_bytes())
            .await
            .unwrap();
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["response"]["uid"], "u-1");
        assert_eq!(answer["kind"], "AdmissionReview");
        answer["response"].clone()
    }

    async fn create(&self, kind: Kind, object: Value) -> Value {
        self.ask(kind, request("CREATE", &object, Value::Null))
            .await
    }
}

fn request(operation: &str, object: &Value, old: Value) -> Value {
    let any = if object.is_null() { &old } else { object };
    json!({
        "uid": "u-1",
        "operation": operation,
        "name": any["metadata"]["name"],
        "namespace": any["metadata"]["namespace"],
        "object": object,
        "oldObject": old,
    })
}

fn post(
    address: SocketAddr,
    trusted: &Pair,
    path: &str,
    body: &[u8],
) -> std::io::Result<(u16, String)> {
    let mut stream = connect(address, trusted)?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    // A server that refuses the size answers before everything is sent.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    Ok((status, body.to_owned()))
}

fn message(response: &Value) -> &str {
    assert_eq!(response["allowed"], false, "{response}");
    response["status"]["message"].as_str().unwrap()
}

fn allowed(response: &Value) {
    assert_eq!(response["allowed"], true, "{response}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_it_is_not_ready_and_a_renewed_one_is_used_from_the_next_connection_on()
 {
    let mut asked = Asked::without_certificate(&[]).await;
    soon(|| asked.site.readiness.missing() == ["a server certificate is there"]).await;
    asked.renew();
    asked.site.ready().await;
    allowed(
        &asked
            .create(Kind::IPAddressPool, pool("first", &["192.0.2.0/24"]))
            .await,
    );

    let (old, address) = (asked.renew(), asked.site.address);
    soon(|| connect(address, &old).is_err()).await;
    allowed(
        &asked
            .create(Kind::IPAddressPool, pool("first", &["192.0.2.0/24"]))
            .await,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_certificate_in_the_secret_leaves_the_good_one_in_use() {
    let asked = Asked::with(&[]).await;
    put_secret(&asked.server, "nonsense", "nonsense", AUTHORITY);
    // Another object through the same API server shows that the change has long been delivered.
    asked.server.put(POOLS, pool("taken", &["192.0.2.0/24"]));
    for _ in 0..20 {
        let answer = asked
            .create(Kind::IPAddressPool, pool("other", &["192.0.2.1-192.0.2.9"]))
            .await;
        if answer["allowed"] == false {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the overlap was never seen");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_overlaps_another_is_refused_with_object_field_and_reason() {
    let asked = Asked::with(&[(POOLS, pool("first", &["192.0.2.0/24"]))]).await;
    let response = asked
        .create(
            Kind::IPAddressPool,
            pool("second", &["198.51.100.0/24", "192.0.2.128-192.0.2.200"]),
        )
        .await;
    let text = message(&response);
    for part in [
        "IPAddressPool \"second\"",
        "spec.addresses[1]",
        "overlaps",
        "192.0.2.0/24",
        "first",
    ] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    let status = &response["status"];
    assert_eq!(status["code"], 422);
    assert_eq!(status["reason"], "Invalid");
    assert_eq!(status["details"]["kind"], "IPAddressPool");
    assert_eq!(status["details"]["causes"][0]["field"], "spec.addresses[1]");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_problems_come_at_once() {
    let asked = Asked::with(&[]).await;
    let response = asked
        .create(
            Kind::IPAddressPool,
            pool("bad", &["192.0.2.0/99", "192.0.2.9-192.0.2.1"]),
        )
        .await;
    let text = message(&response);
    assert!(
        text.starts_with("2 problems:\n- ")
            && text.contains("addresses[0]")
            && text.contains("addresses[1]"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_does_not_overlap_its_own_former_version() {
    let asked = Asked::with(&[
        (POOLS, pool("first", &["192.0.2.0/24"])),
        (POOLS, pool("other", &["198.51.100.0/24"])),
    ])
    .await;
    let old = pool("first", &["192.0.2.0/24"]);
    let update = |new: &Value| request("UPDATE", new, old.clone());
    allowed(
        &asked
            .ask(
                Kind::IPAddressPool,
                update(&pool("first", &["192.0.2.0/25"])),
            )
            .await,
    );
    let response = asked
        .ask(
            Kind::IPAddressPool,
            update(&pool("first", &["198.51.100.7/32"])),
        )
        .await;
    assert!(message(&response).contains("other"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_leaves_the_spec_alone_passes_even_if_the_object_is_bad() {
    let asked = Asked::with(&[(POOLS, pool("taken", &["192.0.2.0/24"]))]).await;
    let old = pool("stored-earlier", &["192.0.2.0/24"]);
    let mut labelled = old.clone();
    labelled["metadata"]["labels"] = json!({ "zone": "a" });
    allowed(
        &asked
            .ask(
                Kind::IPAddressPool,
                request("UPDATE", &labelled, old.clone()),
            )
            .await,
    );
    let mut going = pool("stored-earlier", &["192.0.2.0/28"]);
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    allowed(
        &asked
            .ask(Kind::IPAddressPool, request("UPDATE", &going, old))
            .await,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_read_is_refused_with_the_parsers_words() {
    let asked = Asked::with(&[]).await;
    let mut object = pool("bad", &[]);
    object["spec"]["addresses"] = json!("192.0.2.0/24");
    let response = asked.create(Kind::IPAddressPool, object).await;
    assert_eq!(response["status"]["code"], 400);
    let text = message(&response);
    assert!(
        text.contains("IPAddressPool \"bad\" cannot be read") && text.contains("sequence"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_other_namespaces_are_not_created_and_do_not_count() {
    let asked = Asked::with(&[(
        POOLS,
        objects::pool("elsewhere", "foreign", &["192.0.2.0/24"]),
    )])
    .await;
    allowed(
        &asked
            .create(Kind::IPAddressPool, pool("ours", &["192.0.2.0/24"]))
            .await,
    );
    for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_foreign()) {
        let object = json!({ "metadata": { "namespace": "default", "name": "x" }, "spec": {} });
        assert_eq!(
            message(&asked.create(kind, object).await),
            "resource must be created in metallb-system namespace"
        );
    }
    let foreign = objects::pool("elsewhere", "foreign", &["192.0.2.0/25"]);
    let response = asked
        .ask(
            Kind::IPAddressPool,
            request(
                "UPDATE",
                &foreign,
                objects::pool("elsewhere", "foreign", &["192.0.2.0/24"]),
            ),
        )
        .await;
    allowed(&response);
    assert!(
        response["warnings"][0]
            .as_str()
            .unwrap()
            .contains("metallb-system")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_other_kind_is_held_against_its_rules() {
    let object = |kind: &str, spec: Value| json!({ "apiVersion": "metallb.io/v1beta1", "kind": kind, "metadata": { "namespace": NAMESPACE, "name": "x" }, "spec": spec });
    let mut known = object(
        "Community",
        json!({ "communities": [{ "name": "vpn", "value": "65535:65281" }] }),
    );
    known["metadata"]["name"] = json!("known");
    let asked = Asked::with(&[
        (COMMUNITIES, known),
        (POOLS, pool("narrow", &["192.0.2.0/28"])),
    ])
    .await;
    for (kind, spec, part) in [
        (
            Kind::L2Advertisement,
            json!({ "ipAddressPools": ["a", "a"] }),
            "ipAddressPools",
        ),
        (
            Kind::BGPAdvertisement,
            json!({ "aggregationLength": 26 }),
            "aggregation length 26",
        ),
        (
            Kind::BGPPeer,
            json!({ "myASN": 64512, "peerAddress": "192.0.2.1" }),
            "missing peer ASN",
        ),
        (
            Kind::BFDProfile,
            json!({ "receiveInterval": 3 }),
            "receiveInterval",
        ),
        (
            Kind::Community,
            json!({ "communities": [{ "name": "vpn", "value": "64512:1" }] }),
            "duplicate definition of community",
        ),
    ] {
        let response = asked.create(kind, object(kind.name(), spec)).await;
        assert!(message(&response).contains(part), "{kind:?}: {response}");
    }
    for (kind, spec) in [
        (Kind::L2Advertisement, json!({})),
        (
            Kind::BGPAdvertisement,
            json!({ "communities": ["not-defined-yet"] }),
        ),
        (
            Kind::BGPPeer,
            json!({ "myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1", "bfdProfile": "not-there-yet" }),
        ),
        (Kind::BFDProfile, json!({ "receiveInterval": 300 })),
        (
            Kind::Community,
            json!({ "communities": [{ "name": "other", "value": "64512:1" }] }),
        ),
    ] {
        allowed(&asked.create(kind, object(kind.name(), spec)).await);
    }
    let peer =
        json!({ "myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1", "disableMP": true });
    let response = asked.create(Kind::BGPPeer, object("BGPPeer", peer)).await;
    allowed(&response);
    let warnings = response["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|warning| {
        warning
            .as_str()
            .unwrap()
            .starts_with("BGPPeer \"x\", spec.disableMP: disable mp is deprecated")
    }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bfd_profile_in_use_is_not_deleted() {
    let peer = json!({
        "apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer",
        "metadata": { "namespace": NAMESPACE, "name": "tor-1" },
        "spec": { "myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1", "bfdProfile": "fast" },
    });
    let asked = Asked::with(&[(PEERS, peer)]).await;
    let profile =
        |name: &str| json!({ "metadata": { "namespace": NAMESPACE, "name": name }, "spec": {} });
    let response = asked
        .ask(
            Kind::BFDProfile,
            request("DELETE", &Value::Null, profile("fast")),
        )
        .await;
    assert!(
        message(&response).starts_with("failed to delete BFDProfile fast, used by BGPPeer tor-1")
    );
    allowed(
        &asked
            .ask(
                Kind::BFDProfile,
                request("DELETE", &Value::Null, profile("slow")),
            )
            .await,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_review_gets_an_http_error_and_ends_nothing() {
    let asked = Asked::with(&[]).await;
    let path = Kind::IPAddressPool.path();
    assert_eq!(asked.post(&path, b"{".to_vec()).await.unwrap().0, 400);
    assert_eq!(
        asked
            .post(&path, b"{\"request\":7}".to_vec())
            .await
            .unwrap()
            .0,
        400
    );
    assert_eq!(
        asked.post("/elsewhere", b"{}".to_vec()).await.unwrap().0,
        404
    );
    assert_eq!(
        asked
            .post(&path, vec![b' '; 8 * 1024 * 1024])
            .await
            .unwrap()
            .0,
        413
    );
    allowed(
        &asked
            .create(Kind::IPAddressPool, pool("first", &["192.0.2.0/24"]))
            .await,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_end_it_turns_unready_still_answers_and_then_leaves() {
    let asked = Asked::with(&[]).await;
    asked.site.stop.cancel();
    soon(|| !asked.site.readiness.is_ready()).await;
    assert_eq!(
        asked.site.readiness.missing(),
        ["the process is not shutting down"]
    );
    allowed(
        &asked
            .create(Kind::IPAddressPool, pool("late", &["192.0.2.0/24"]))
            .await,
    );
    asked.site.served.await.unwrap().unwrap();
}
