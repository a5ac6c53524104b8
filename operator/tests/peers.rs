//! What a BGPPeer says of its sessions, by the whole loop against an API server in memory.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::time::Duration;

use common::{SYSTEM, rest, start, until};
use ferrolb_testing::{ApiServer, objects};
use serde_json::{Value, json};

const NODES: &str = "api/v1/nodes";
const PEERS: &str = "apis/metallb.io/v1beta2/bgppeers";
const STATES: &str = "apis/metallb.io/v1beta1/configurationstates";

/// The speaker of a node says how its session is doing.
fn report(server: &ApiServer, node: &str, state: &str, error: Option<&str>, sent: i64) {
    server.put(
        STATES,
        json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "ConfigurationState",
            "metadata": {
                "name": format!("speaker-{node}"), "namespace": SYSTEM,
                "labels": {"metallb.io/component-type": "speaker", "metallb.io/node-name": node},
            },
            "status": {"result": "Valid", "bgpSessions": [{
                "peer": "tor", "state": state, "since": "2026-01-01T00:00:00Z", "lastError": error, "prefixesSent": sent,
            }]},
        }),
    );
}

fn peer(server: &ApiServer) {
    server.put(
        PEERS,
        json!({
            "apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer",
            "metadata": {"name": "tor", "namespace": SYSTEM, "generation": 1, "uid": "u"},
            "spec": {"myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1"},
        }),
    );
}

fn status(server: &ApiServer) -> Value {
    server.get(PEERS, SYSTEM, "tor").unwrap()["status"].clone()
}

fn answer(server: &ApiServer) -> String {
    let status = status(server);
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let condition = conditions
        .find(|condition| condition["type"] == "Programmed")
        .cloned()
        .unwrap_or_default();
    let text = |field: &str| condition[field].as_str().unwrap_or("-").to_owned();
    format!("{} {} {}", text("status"), text("reason"), text("message"))
}

fn writes(server: &ApiServer) -> usize {
    let seen = server.seen();
    let of_it = |path: &str| path.contains("bgppeers");
    seen.iter()
        .filter(|seen| seen.writes() && of_it(&seen.path))
        .count()
}

#[tokio::test(start_paused = true)]
async fn a_peer_tells_where_it_is_established_and_rests() {
    let server = ApiServer::default();
    for node in ["node-1", "node-2"] {
        server.put(NODES, objects::node(node, "192.0.2.1"));
        report(&server, node, "Established", None, 3);
    }
    peer(&server);
    let _stop = start(&server);
    until("all is well", || {
        answer(&server) == "True Programmed Established on 2 of 2 nodes."
    })
    .await;
    rest().await;
    let before = writes(&server);
    let told = status(&server);
    assert_eq!(
        (
            &told["established"],
            &told["establishedNodes"],
            &told["selectedNodes"]
        ),
        (&json!("2/2"), &json!(2), &json!(2))
    );
    assert_eq!(
        told["sessions"][0],
        json!({"node": "node-1", "state": "Established", "since": "2026-01-01T00:00:00Z", "prefixesSent": 3})
    );
    report(&server, "node-2", "NotEstablished", Some("wrong AS"), 0);
    until("one is down", || {
        answer(&server) == "False PartlyEstablished Established on 1 of 2 nodes.\nnode-2: wrong AS"
    })
    .await;
    assert_eq!(status(&server)["sessions"][0]["node"], "node-2");
    rest().await;
    assert_eq!(writes(&server), before + 1);
    // A node that goes is not counted any more.
    server.delete(NODES, "", "node-2");
    until("one is left", || {
        answer(&server) == "True Programmed Established on 1 of 1 node."
    })
    .await;
    rest().await;
    assert_eq!(writes(&server), before + 2);
    // A session that comes and goes five times a second for a minute.
    for n in 0..300 {
        let state = if n % 2 == 0 {
            "NotEstablished"
        } else {
            "Established"
        };
        report(&server, "node-1", state, None, 0);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    until("the last word counts", || {
        status(&server)["established"] == "1/1"
    })
    .await;
    let flapping = writes(&server) - before - 2;
    assert!((5..=22).contains(&flapping), "{flapping}");
    rest().await;
    let then = writes(&server);
    rest().await;
    assert_eq!(writes(&server), then);
}

/// Nothing else happens that would have the loop look again.
#[tokio::test(start_paused = true)]
async fn what_is_put_off_is_written_though_nothing_else_happens() {
    let server = ApiServer::default();
    server.put(NODES, objects::node("node-1", "192.0.2.1"));
    peer(&server);
    let _stop = start(&server);
    until("nothing is known", || {
        answer(&server).starts_with("Unknown NotReported ")
    })
    .await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    report(&server, "node-1", "Established", None, 3);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(
        answer(&server),
        "True Programmed Established on 1 of 1 node."
    );
}
