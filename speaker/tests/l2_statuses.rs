//! ServiceL2Status objects of one node, against an API server in memory.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use ferrolb_api::ObjectKey;
use ferrolb_speaker::status::{L2Statuses, Pod, Reporter};
use ferrolb_testing::ApiServer;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

const STATUSES: &str = "apis/metallb.io/v1beta1/servicel2statuses";
const SYSTEM: &str = "metallb-system";

struct Speaker {
    statuses: L2Statuses,
    _stop: DropGuard,
}

fn speaker(server: &ApiServer, node: &str) -> Speaker {
    speaker_in(server, node, &format!("pod-of-{node}"))
}

fn speaker_in(server: &ApiServer, node: &str, pod: &str) -> Speaker {
    let stop = CancellationToken::new();
    let reporter = Reporter {
        namespace: SYSTEM.to_owned(),
        node: node.to_owned(),
        pod: Some(Pod {
            name: pod.to_owned(),
            uid: format!("uid-of-{pod}"),
        }),
    };
    Speaker {
        statuses: L2Statuses::start(&server.client(), reporter, stop.clone()),
        _stop: stop.drop_guard(),
    }
}

impl Speaker {
    fn set(&self, service: &str, interfaces: Option<&[&str]>) {
        let interfaces =
            interfaces.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        self.statuses
            .set(&ObjectKey::new("shop", service), interfaces);
    }
}

/// Service, node and interfaces of each object, in order.
fn shown(server: &ApiServer) -> Vec<(String, String, Vec<String>)> {
    let mut all: Vec<_> = server
        .all(STATUSES)
        .iter()
        .map(|object| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let status = &object["status"];
            let interfaces = status["interfaces"].as_array().cloned().unwrap_or_default();
            let interfaces = interfaces
                .iter()
                .map(|entry| text(&entry["name"]))
                .collect();
            (
                text(&status["serviceName"]),
                text(&status["node"]),
                interfaces,
            )
        })
        .collect();
    all.sort();
    all
}

fn entry(service: &str, node: &str, interfaces: &[&str]) -> (String, String, Vec<String>) {
    let interfaces = interfaces.iter().map(|name| (*name).to_owned()).collect();
    (service.to_owned(), node.to_owned(), interfaces)
}

fn requests(server: &ApiServer) -> Vec<String> {
    let seen = server.seen();
    let of_objects = seen.iter().filter(|seen| !seen.query.contains("watch="));
    of_objects
        .filter(|seen| seen.writes() || seen.path.matches('/').count() > 6)
        .map(|seen| format!("{} {}", seen.method, seen.path))
        .collect()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..60_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never came true: {what}");
}

/// Long enough for everything that is going to happen.
async fn rest() {
    tokio::time::sleep(Duration::from_secs(150)).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_told_is_shown_once_and_nothing_is_written_at_rest() {
    let server = ApiServer::default();
    let one = speaker(&server, "node-1");
    one.set("web", Some(&[]));
    one.set("api", Some(&["eth1", "eth0", "eth1"]));
    one.statuses.complete();
    let expected = [
        entry("api", "node-1", &["eth0", "eth1"]),
        entry("web", "node-1", &[]),
    ];
    until("both are shown", || shown(&server) == expected).await;
    rest().await;
    assert_eq!(requests(&server).len(), 4, "{:?}", requests(&server));
    // Said again, and said otherwise.
    one.set("web", Some(&[]));
    one.set("api", Some(&["eth1"]));
    let expected = [
        entry("api", "node-1", &["eth1"]),
        entry("web", "node-1", &[]),
    ];
    until("the interfaces changed", || shown(&server) == expected).await;
    one.set("api", Some(&[]));
    let all = [entry("api", "node-1", &[]), entry("web", "node-1", &[])];
    until("it is all interfaces now", || shown(&server) == all).await;
    one.set("web", None);
    until("one is gone", || shown(&server).len() == 1).await;
    rest().await;
    assert_eq!(requests(&server).len(), 7, "{:?}", requests(&server));
    let object = &server.all(STATUSES)[0]["metadata"];
    assert_eq!(object["ownerReferences"][0]["uid"], "uid-of-pod-of-node-1");
    assert_eq!(object["labels"]["metallb.io/service-namespace"], "shop");
}

#[tokio::test(start_paused = true)]
async fn the_next_node_takes_the_place_of_the_one_before() {
    let server = ApiServer::default();
    let (one, two) = (speaker(&server, "node-1"), speaker(&server, "node-2"));
    one.set("web", Some(&[]));
    until("the first shows it", || {
        shown(&server) == [entry("web", "node-1", &[])]
    })
    .await;
    // The first does not know yet, and does not fight for it when it hears.
    two.set("web", Some(&["eth0"]));
    until("the second shows it", || {
        shown(&server) == [entry("web", "node-2", &["eth0"])]
    })
    .await;
    let before = requests(&server).len();
    tokio::time::sleep(Duration::from_millis(500)).await;
    one.set("web", None);
    rest().await;
    assert_eq!(shown(&server), [entry("web", "node-2", &["eth0"])]);
    assert_eq!(requests(&server).len(), before, "{:?}", requests(&server));
    // And back, the other way round: the former goes first.
    two.set("web", None);
    one.set("web", Some(&[]));
    until("the first shows it again", || {
        shown(&server) == [entry("web", "node-1", &[])]
    })
    .await;
    rest().await;
    assert_eq!(shown(&server), [entry("web", "node-1", &[])]);
}

#[tokio::test(start_paused = true)]
async fn two_nodes_that_both_announce_do_not_write_without_end() {
    let server = ApiServer::default();
    let (one, two) = (speaker(&server, "node-1"), speaker(&server, "node-2"));
    one.set("web", Some(&[]));
    two.set("web", Some(&[]));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let writes = requests(&server).len();
    assert_eq!(shown(&server).len(), 1);
    // Each takes it from the other once a minute at most: four requests each time.
    assert!(writes < 4 * 150, "{writes}");
}

#[tokio::test(start_paused = true)]
async fn what_is_left_from_before_goes_only_once_it_is_known_what_is_announced() {
    let server = ApiServer::default();
    {
        let before = speaker_in(&server, "node-1", "before");
        before.set("kept", Some(&["eth0"]));
        before.set("left", Some(&[]));
        until("both are shown", || shown(&server).len() == 2).await;
        rest().await;
    }
    let of_metallb = |name: &str, node: &str| {
        json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "ServiceL2Status",
            "metadata": {"name": name, "namespace": SYSTEM, "labels": {
                "metallb.io/node": node, "metallb.io/service-name": "kept", "metallb.io/service-namespace": "shop"}},
            "status": {"node": node, "serviceName": "kept", "serviceNamespace": "shop"},
        })
    };
    server.put(STATUSES, of_metallb("l2-x7k2p", "node-1"));
    server.put(STATUSES, of_metallb("l2-zzzzz", "node-2"));
    let before = requests(&server).len();
    let now = speaker_in(&server, "node-1", "now");
    rest().await;
    assert_eq!(requests(&server).len(), before);
    now.set("kept", Some(&["eth0"]));
    now.statuses.complete();
    until("the others of this node are gone", || {
        server.all(STATUSES).len() == 2
    })
    .await;
    rest().await;
    assert_eq!(
        shown(&server),
        [
            entry("kept", "node-1", &["eth0"]),
            entry("kept", "node-2", &[])
        ]
    );
    // One delete each, and a new owner for the one that stays.
    assert_eq!(
        requests(&server).len(),
        before + 3,
        "{:?}",
        requests(&server)
    );
    let owners: Vec<Value> = server
        .all(STATUSES)
        .iter()
        .filter(|object| object["status"]["node"] == "node-1")
        .map(|object| object["metadata"]["ownerReferences"][0]["uid"].clone())
        .collect();
    assert_eq!(owners, ["uid-of-now"]);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_deletes_or_edits_is_put_back() {
    let server = ApiServer::default();
    let one = speaker(&server, "node-1");
    one.set("web", Some(&["eth0"]));
    one.statuses.complete();
    let expected = [entry("web", "node-1", &["eth0"])];
    until("it is shown", || shown(&server) == expected).await;
    rest().await;
    let name = server.all(STATUSES)[0]["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    server.delete(STATUSES, SYSTEM, &name);
    until("it is made again", || shown(&server) == expected).await;
    rest().await;
    for change in [
        json!({"status": {"interfaces": [{"name": "eth9"}]}}),
        json!({"status": null}),
        json!({"status": {"node": "node-9"}}),
        json!({"metadata": {"ownerReferences": null}}),
        json!({"metadata": {"labels": {"metallb.io/service-name": "other"}}}),
        // Out of the sight of this node's watch, and in its way.
        json!({"metadata": {"labels": {"metallb.io/node": "node-9"}}}),
    ] {
        let mut object = server.get(STATUSES, SYSTEM, &name).unwrap();
        json_patch::merge(&mut object, &change);
        server.put(STATUSES, object);
        until(&format!("{change} is mended"), || {
            let object = server.get(STATUSES, SYSTEM, &name).unwrap_or_default();
            shown(&server) == expected
                && object["metadata"]["labels"]["metallb.io/node"] == "node-1"
                && object["metadata"]["labels"]["metallb.io/service-name"] == "web"
                && object["metadata"]["ownerReferences"][0]["uid"] == "uid-of-pod-of-node-1"
        })
        .await;
        rest().await;
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_api_server_is_down_nothing_waits_and_the_newest_is_caught_up_with() {
    let server = ApiServer::default();
    let one = speaker(&server, "node-1");
    for n in 0..50 {
        one.set(&format!("svc-{n}"), Some(&[]));
    }
    one.statuses.complete();
    until("all are shown", || shown(&server).len() == 50).await;
    rest().await;
    server.set_down(true);
    let before = server.seen().len();
    for n in 0..40 {
        one.set(&format!("svc-{n}"), None);
    }
    for n in 45..60 {
        one.set(&format!("svc-{n}"), Some(&["eth0"]));
        one.set(&format!("svc-{n}"), Some(&["eth1"]));
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    let asked = server.seen().len() - before;
    // Eight at a time, every 5 to 10 seconds, and the watch.
    assert!(asked < 8 * 130 + 200, "{asked}");
    server.compact(|server| server.set_down(false));
    let mut expected: Vec<_> = (40..45)
        .map(|n| entry(&format!("svc-{n}"), "node-1", &[]))
        .collect();
    expected.extend((45..60).map(|n| entry(&format!("svc-{n}"), "node-1", &["eth1"])));
    until("everything is as told last", || shown(&server) == expected).await;
    rest().await;
    let then = requests(&server).len();
    rest().await;
    assert_eq!(requests(&server).len(), then);
}

#[tokio::test(start_paused = true)]
async fn one_that_the_api_server_refuses_does_not_hold_up_the_others() {
    let server = ApiServer::default();
    let one = speaker(&server, "node-1");
    server.fail(usize::MAX, 422, |seen| {
        seen.body["metadata"]["labels"]["metallb.io/service-name"] == "bad"
    });
    one.set("bad", Some(&[]));
    for n in 0..30 {
        one.set(&format!("svc-{n}"), Some(&[]));
    }
    until("the others are shown", || shown(&server).len() == 30).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let tried = requests(&server).len() - 60;
    assert!((10..200).contains(&tried), "{tried}");
}

#[tokio::test(start_paused = true)]
async fn who_leaves_leaves_the_objects() {
    let server = ApiServer::default();
    let one = speaker(&server, "node-1");
    one.set("web", Some(&[]));
    one.statuses.complete();
    until("it is shown", || shown(&server).len() == 1).await;
    rest().await;
    drop(one);
    rest().await;
    assert_eq!(shown(&server), [entry("web", "node-1", &[])]);
}
