//! Writes, events and elections against an API server in memory.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use ferrolb_api::ObjectKey;
use ferrolb_cluster::{
    Election, Ended, EventPublisher, EventType, Happening, Outcome, Subject, Timing, Writer,
};
use ferrolb_testing::{ApiServer, objects};
use k8s_openapi::api::core::v1::Service;
use serde_json::json;
use tokio_util::sync::CancellationToken;

const SERVICES: &str = "api/v1/services";
const LEASES: &str = "apis/coordination.k8s.io/v1/leases";
const EVENTS: &str = "api/v1/events";

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what)
        .await
        .expect("it happens within a minute")
}

async fn until(mut holds: impl FnMut() -> bool) {
    soon(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

fn with_address(address: &str) -> serde_json::Value {
    json!({ "status": { "loadBalancer": { "ingress": [{ "ip": address }] } } })
}

#[tokio::test]
async fn a_status_is_written_only_on_the_version_that_was_decided_on() {
    let server = ApiServer::default();
    server.put(SERVICES, objects::service("default", "web"));
    let version = |server: &ApiServer| {
        let service = server.get(SERVICES, "default", "web").unwrap();
        service["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let decided_on = version(&server);
    let writer = Writer::new(server.client());
    let key = ObjectKey::new("default", "web");

    let outcome = writer
        .patch_status::<Service>(&key, &decided_on, with_address("192.0.2.1"))
        .await;
    assert_eq!(outcome, Outcome::Done(version(&server)));
    let written = server.get(SERVICES, "default", "web").unwrap();
    assert_eq!(
        written["status"]["loadBalancer"]["ingress"][0]["ip"],
        "192.0.2.1"
    );
    assert_eq!(
        server.seen().last().unwrap().path,
        "/api/v1/namespaces/default/services/web/status"
    );

    let outcome = writer
        .patch_status::<Service>(&key, &decided_on, with_address("192.0.2.2"))
        .await;
    assert_eq!(outcome, Outcome::Conflict);
    let gone = ObjectKey::new("default", "gone");
    assert_eq!(
        writer
            .patch_status::<Service>(&gone, "1", with_address("192.0.2.1"))
            .await,
        Outcome::Gone
    );
}

#[tokio::test(start_paused = true)]
async fn every_refusal_says_what_to_do_next() {
    let server = ApiServer::default();
    server.put(SERVICES, objects::service("default", "web"));
    let writer = Writer::new(server.client());
    let key = ObjectKey::new("default", "web");
    for (code, expected) in [
        (422, Outcome::Invalid("scripted failure".into())),
        (403, Outcome::Unavailable("scripted failure".into())),
        (429, Outcome::Unavailable("scripted failure".into())),
        (500, Outcome::Unavailable("scripted failure".into())),
        (410, Outcome::Gone),
    ] {
        server.fail(1, code, |seen| seen.writes());
        let before = server.seen().len();
        assert_eq!(
            writer.patch_status::<Service>(&key, "1", json!({})).await,
            expected
        );
        assert_eq!(
            server.seen().len(),
            before + 1,
            "a refusal is not retried behind our back"
        );
    }
    server.set_down(true);
    let outcome = writer.patch_status::<Service>(&key, "1", json!({})).await;
    assert!(
        matches!(&outcome, Outcome::Unavailable(why) if why.contains("refused")),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn only_the_very_object_is_deleted_and_one_that_is_in_the_way_can_be_read() {
    let server = ApiServer::default();
    let writer = Writer::new(server.client());
    let key = ObjectKey::new("default", "web");
    assert_eq!(
        writer.read::<Service>(&key).await.unwrap_err(),
        Outcome::Gone
    );
    server.put(SERVICES, objects::service("default", "web"));
    let service = writer.read::<Service>(&key).await.unwrap();
    let uid = service.metadata.uid.unwrap();
    server.delete(SERVICES, "default", "web");
    server.put(SERVICES, objects::service("default", "web"));
    assert_eq!(
        writer.delete_this::<Service>(&key, &uid).await,
        Outcome::Conflict
    );
    let again = writer.read::<Service>(&key).await.unwrap();
    let uid = again.metadata.uid.unwrap();
    assert!(writer.delete_this::<Service>(&key, &uid).await.is_done());
    assert_eq!(
        writer.delete_this::<Service>(&key, &uid).await,
        Outcome::Gone
    );
}

fn happening(message: &str) -> Happening {
    Happening {
        subject: Subject::of::<Service>(&ObjectKey::new("default", "web"), "uid-1"),
        event_type: EventType::Normal,
        reason: "IPAllocated".into(),
        message: message.into(),
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_repeats_is_one_object_that_counts() {
    let server = ApiServer::default();
    let events = EventPublisher::start(server.client(), "metallb-controller", "operator-1");
    for _ in 0..100 {
        events.publish(happening("Assigned IP [\"192.0.2.1\"]"));
    }
    events.publish(happening("Assigned IP [\"192.0.2.2\"]"));
    let writes = || server.seen().iter().filter(|seen| seen.writes()).count();
    until(|| writes() == 3).await;
    assert_eq!(server.all(EVENTS).len(), 2);
    let event = server
        .all(EVENTS)
        .into_iter()
        .find(|event| event["count"] == 100)
        .expect("one hundred at once are one more write");
    assert_eq!(event["involvedObject"]["uid"], "uid-1");
    assert_eq!(event["involvedObject"]["kind"], "Service");
    assert_eq!(event["source"]["component"], "metallb-controller");
    assert_eq!(event["reportingComponent"], "metallb-controller");
    assert_eq!(event["type"], "Normal");
}

/// What `kubectl describe` shows of a pool that comes and goes.
#[tokio::test(start_paused = true)]
async fn an_event_that_repeats_now_and_then_counts_within_seconds() {
    let server = ApiServer::default();
    let events = EventPublisher::start(server.client(), "metallb-controller", "operator-1");
    let counted = || {
        server
            .all(EVENTS)
            .first()
            .map(|event| event["count"].clone())
    };
    for count in 1..=3 {
        events.publish(happening("Assigned IP [\"192.0.2.1\"]"));
        let published = tokio::time::Instant::now();
        until(|| counted() == Some(json!(count))).await;
        let took = published.elapsed();
        assert!(took < Duration::from_secs(2), "{count} after {took:?}");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let [event] = &server.all(EVENTS)[..] else {
        panic!("one event")
    };
    // The clock of the timestamps does not stand still with that of the test.
    assert!(event["lastTimestamp"].as_str() >= event["firstTimestamp"].as_str());
}

#[tokio::test(start_paused = true)]
async fn an_event_that_repeats_for_ever_costs_a_write_a_minute_and_is_counted_to_the_last() {
    let server = ApiServer::default();
    let events = EventPublisher::start(server.client(), "metallb-controller", "operator-1");
    let writes = || server.seen().iter().filter(|seen| seen.writes()).count();
    for _ in 0..36_000 {
        events.publish(happening("Assigned IP [\"192.0.2.1\"]"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let [event] = &server.all(EVENTS)[..] else {
        panic!("one event")
    };
    assert_ne!(event["count"], 36_000);
    // An hour: one to make it, six while the time doubles, one a minute.
    assert!(writes() <= 1 + 6 + 60, "{} writes", writes());
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(server.all(EVENTS)[0]["count"], 36_000);
    // Then it is quiet, and nothing more is written; whoever comes back is shown at once.
    let before = writes();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(writes(), before);
    for count in 36_001..=36_002 {
        events.publish(happening("Assigned IP [\"192.0.2.1\"]"));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(server.all(EVENTS)[0]["count"], count);
    }
}

#[tokio::test(start_paused = true)]
async fn a_count_that_nobody_took_is_written_later() {
    let server = ApiServer::default();
    let events = EventPublisher::start(server.client(), "metallb-controller", "operator-1");
    events.publish(happening("twice"));
    until(|| server.all(EVENTS).len() == 1).await;
    server.fail(3, 500, |seen| seen.writes());
    events.publish(happening("twice"));
    until(|| server.all(EVENTS)[0]["count"] == 2).await;
}

#[tokio::test(start_paused = true)]
async fn events_never_block_and_are_dropped_beyond_the_queue() {
    let server = ApiServer::default();
    server.set_down(true);
    let events = EventPublisher::start(server.client(), "metallb-controller", "operator-1");
    for n in 0..10_000 {
        events.publish(happening(&n.to_string()));
    }
    assert!(events.dropped() > 5_000);
}

fn election(server: &ApiServer, identity: &str) -> Election {
    Election {
        client: server.client(),
        namespace: "metallb-system".into(),
        name: "ferrolb-operator".into(),
        identity: identity.into(),
        timing: Timing::new(
            Duration::from_millis(1500),
            Duration::from_millis(1000),
            Duration::from_millis(200),
        )
        .unwrap(),
    }
}

fn holder(server: &ApiServer) -> String {
    let lease = server.get(LEASES, "metallb-system", "ferrolb-operator");
    lease
        .map(|lease| {
            lease["spec"]["holderIdentity"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
        .unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn one_of_two_leads_and_a_clean_end_hands_over_at_once() {
    let server = ApiServer::default();
    let (stop_a, stop_b) = (CancellationToken::new(), CancellationToken::new());
    let (mut a, a_ended) = election(&server, "a").start(stop_a.clone());
    soon(a.elected()).await;
    assert!(a.leads() && holder(&server).starts_with("a_"));
    let (mut b, b_ended) = election(&server, "b").start(stop_b.clone());
    // Long enough for several renewals and for the lease to have run out without them.
    tokio::time::sleep(Duration::from_millis(2200)).await;
    assert!(a.leads() && !b.leads());

    let handed = tokio::time::Instant::now();
    stop_a.cancel();
    soon(b.elected()).await;
    let took = handed.elapsed();
    assert!(
        took < Duration::from_millis(500),
        "the hand-over took {took:?}"
    );
    assert_eq!(a_ended.await.unwrap(), Ended::Released);
    assert!(!a.leads() && b.leads() && holder(&server).starts_with("b_"));
    stop_b.cancel();
    assert_eq!(b_ended.await.unwrap(), Ended::Released);
    assert_eq!(holder(&server), "");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_ends_before_a_follower_takes_over() {
    let server = ApiServer::default();
    let stop = CancellationToken::new();
    let (mut a, a_ended) = election(&server, "a").start(stop.clone());
    soon(a.elected()).await;
    let (mut b, _b_ended) = election(&server, "b").start(stop.clone());
    // The leader's writes fail; the follower's pass: they do not carry the leader's name.
    server.fail(1000, 500, |seen| {
        seen.writes()
            && seen.body["spec"]["holderIdentity"]
                .as_str()
                .is_some_and(|holder| holder.starts_with("a_"))
    });
    assert_eq!(soon(a_ended).await.unwrap(), Ended::Lost);
    assert!(!a.leads());
    assert!(
        !b.leads(),
        "nobody leads between the deadline and the end of the lease"
    );
    soon(b.elected()).await;
    assert!(holder(&server).starts_with("b_"));
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn an_outage_shorter_than_the_deadline_costs_no_leadership() {
    let server = ApiServer::default();
    let stop = CancellationToken::new();
    let (mut a, a_ended) = election(&server, "a").start(stop.clone());
    soon(a.elected()).await;
    server.set_down(true);
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.set_down(false);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(a.leads());
    stop.cancel();
    assert_eq!(a_ended.await.unwrap(), Ended::Released);
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_is_taken_or_deleted_ends() {
    let server = ApiServer::default();
    let stop = CancellationToken::new();
    let (mut a, a_ended) = election(&server, "a").start(stop.clone());
    soon(a.elected()).await;
    server.delete(LEASES, "metallb-system", "ferrolb-operator");
    assert_eq!(soon(a_ended).await.unwrap(), Ended::Lost);
    assert!(!a.leads());
}
