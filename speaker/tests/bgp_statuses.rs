//! ServiceBGPStatus objects, against an API server in memory. What they have in common with ServiceL2Status objects is tried there.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use ferrolb_api::ObjectKey;
use ferrolb_speaker::status::{BgpStatuses, Pod, Reporter};
use ferrolb_testing::ApiServer;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

const STATUSES: &str = "apis/metallb.io/v1beta1/servicebgpstatuses";
const SYSTEM: &str = "metallb-system";

struct Speaker {
    statuses: BgpStatuses,
    _stop: DropGuard,
}

fn speaker(server: &ApiServer, node: &str, pod: &str) -> Speaker {
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
        statuses: BgpStatuses::start(&server.client(), reporter, stop.clone()),
        _stop: stop.drop_guard(),
    }
}

impl Speaker {
    fn set(&self, service: &str, peers: &[&str]) {
        let peers = peers.iter().copied().collect();
        self.statuses.set(&ObjectKey::new("shop", service), &peers);
    }
}

/// What each object says, as `node service: peers`, in order.
fn shown(server: &ApiServer) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut all: Vec<_> = server
        .all(STATUSES)
        .iter()
        .map(|object| {
            let status = &object["status"];
            let peers = status["peers"].as_array().cloned().unwrap_or_default();
            let peers: Vec<String> = peers.iter().map(text).collect();
            let (node, service) = (text(&status["node"]), text(&status["serviceName"]));
            format!("{node} {service}: {}", peers.join(","))
        })
        .collect();
    all.sort();
    all
}

fn writes(server: &ApiServer) -> usize {
    server.seen().iter().filter(|seen| seen.writes()).count()
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
async fn each_node_says_to_whom_it_announces_and_nothing_is_written_at_rest() {
    let server = ApiServer::default();
    let (one, two) = (
        speaker(&server, "node-1", "a"),
        speaker(&server, "node-2", "b"),
    );
    for speaker in [&one, &two] {
        speaker.set("web", &["tor-2", "tor-1"]);
        speaker.statuses.complete();
    }
    let both = ["node-1 web: tor-1,tor-2", "node-2 web: tor-1,tor-2"];
    until("both are shown", || shown(&server) == both).await;
    rest().await;
    assert_eq!(writes(&server), 4);
    // The same again, a peer less, and nobody any more.
    one.set("web", &["tor-1", "tor-2"]);
    rest().await;
    assert_eq!(writes(&server), 4);
    one.set("web", &["tor-1"]);
    let fewer = ["node-1 web: tor-1", "node-2 web: tor-1,tor-2"];
    until("one peer is gone", || shown(&server) == fewer).await;
    one.set("web", &[]);
    until("one node is gone", || {
        shown(&server) == ["node-2 web: tor-1,tor-2"]
    })
    .await;
    one.set("web", &["tor-1", "tor-2"]);
    until("it is there again", || shown(&server) == both).await;
    rest().await;
    assert_eq!(writes(&server), 8);
}

#[tokio::test(start_paused = true)]
async fn a_speaker_that_starts_takes_over_what_is_still_announced() {
    let server = ApiServer::default();
    {
        let before = speaker(&server, "node-1", "before");
        before.set("kept", &["tor-1"]);
        before.set("left", &["tor-1"]);
        until("both are shown", || shown(&server).len() == 2).await;
        rest().await;
    }
    let of_metallb = json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "ServiceBGPStatus",
        "metadata": {"name": "bgp-x7k2p", "namespace": SYSTEM, "labels": {
            "metallb.io/node": "node-1", "metallb.io/service-name": "kept", "metallb.io/service-namespace": "shop"}},
        "status": {"node": "node-1", "serviceName": "kept", "serviceNamespace": "shop", "peers": ["tor-1"]},
    });
    server.put(STATUSES, of_metallb);
    let now = speaker(&server, "node-1", "now");
    now.set("kept", &["tor-1"]);
    rest().await;
    assert_eq!(shown(&server).len(), 3, "it is not known yet what is left");
    now.statuses.complete();
    until("only one is left", || {
        shown(&server) == ["node-1 kept: tor-1"]
    })
    .await;
    rest().await;
    let object = &server.all(STATUSES)[0]["metadata"];
    assert_eq!(object["ownerReferences"][0]["uid"], "uid-of-now");
    let name = object["name"].as_str().unwrap();
    server.delete(STATUSES, SYSTEM, name);
    until("it is made again", || {
        shown(&server) == ["node-1 kept: tor-1"]
    })
    .await;
}
