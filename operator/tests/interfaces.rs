//! What an L2Advertisement says of the interfaces that it names, by the whole loop against an API server in memory.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{SYSTEM, rest, start, until};
use ferrolb_testing::{ApiServer, objects};
use serde_json::{Value, json};

const NODES: &str = "api/v1/nodes";
const ADVERTISEMENTS: &str = "apis/metallb.io/v1beta1/l2advertisements";
const STATES: &str = "apis/metallb.io/v1beta1/configurationstates";

fn report(server: &ApiServer, node: &str, message: &str) {
    server.put(
        STATES,
        json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "ConfigurationState",
            "metadata": {
                "name": format!("speaker-{node}"), "namespace": SYSTEM,
                "labels": {"metallb.io/component-type": "speaker", "metallb.io/node-name": node},
            },
            "status": {"result": "Valid", "conditions": [{
                "type": "ferrolb.io/Interfaces", "status": "True", "reason": "Usable", "message": message,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]},
        }),
    );
}

fn advertise(server: &ApiServer, generation: i64, interfaces: &[&str]) {
    let before = server.get(ADVERTISEMENTS, SYSTEM, "office");
    server.put(
        ADVERTISEMENTS,
        json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement",
            "metadata": {"name": "office", "namespace": SYSTEM, "generation": generation, "uid": "u"},
            "spec": {"interfaces": interfaces},
            "status": before.map(|before| before["status"].clone()).unwrap_or_default(),
        }),
    );
}

fn condition(server: &ApiServer, type_: &str) -> Value {
    let object = server.get(ADVERTISEMENTS, SYSTEM, "office").unwrap();
    let conditions = object["status"]["conditions"].as_array().cloned();
    let mut conditions = conditions.unwrap_or_default().into_iter();
    conditions
        .find(|condition| condition["type"] == type_)
        .unwrap_or_default()
}

fn answer(server: &ApiServer) -> String {
    let condition = condition(server, "InterfacesFound");
    let text = |field: &str| condition[field].as_str().unwrap_or("-").to_owned();
    format!("{} {} {}", text("status"), text("reason"), text("message"))
}

fn writes(server: &ApiServer) -> usize {
    let seen = server.seen();
    let of_it = |path: &str| path.contains("l2advertisements");
    seen.iter()
        .filter(|seen| seen.writes() && of_it(&seen.path))
        .count()
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_nowhere_is_told_with_what_is_there_until_it_is_there() {
    let server = ApiServer::default();
    for node in ["node-1", "node-2"] {
        server.put(NODES, objects::node(node, "192.0.2.1"));
        report(&server, node, "eth0 (ARP, NDP), eth1 (ARP)");
    }
    advertise(&server, 1, &["eth0", "/wlan.*/"]);
    let _stop = start(&server);
    let told = "False InterfaceNotFound Not found on any of the 2 nodes that are selected: /wlan.*/. \
                There are eth0 on 2 nodes, eth1 on 2 nodes. Correct spec.interfaces or spec.nodeSelectors.";
    until("it is told", || answer(&server) == told).await;
    rest().await;
    let before = writes(&server);
    // What the node says besides, and a label that nobody selects by, are no news.
    report(&server, "node-1", "eth0 (ARP), eth1 (ARP, NDP)");
    let mut node = objects::node("node-2", "192.0.2.1");
    node["metadata"]["labels"]["rack"] = json!("a");
    server.put(NODES, node);
    rest().await;
    assert_eq!((writes(&server), answer(&server).as_str()), (before, told));

    report(&server, "node-1", "eth0 (ARP), wlan0 (ARP)");
    until("it is found", || {
        answer(&server).starts_with("True InterfacesFound ")
    })
    .await;
    // The speaker of that node is made anew.
    server.delete(STATES, SYSTEM, "speaker-node-1");
    rest().await;
    assert!(answer(&server).starts_with("True InterfacesFound "));
    report(&server, "node-1", "eth0 (ARP), wlan0 (ARP)");
    rest().await;
    assert_eq!(writes(&server), before + 1);

    advertise(&server, 2, &[]);
    until("nothing is said", || answer(&server) == "- - -").await;
    rest().await;
    assert_eq!(writes(&server), before + 2);
    assert_eq!(condition(&server, "Accepted")["status"], "True");
}

#[tokio::test(start_paused = true)]
async fn a_pattern_that_does_not_compile_is_told_beside_what_is_there() {
    let server = ApiServer::default();
    server.put(NODES, objects::node("node-1", "192.0.2.1"));
    report(&server, "node-1", "eth0 (ARP)");
    advertise(&server, 1, &["/eth[0-9/"]);
    let _stop = start(&server);
    until("both are told", || {
        answer(&server)
            == "False InterfaceNotFound No pattern that can be used: /eth[0-9/; see Accepted. Nothing is announced. \
                There are eth0 on node-1. Correct spec.interfaces or spec.nodeSelectors."
            && condition(&server, "Accepted")["status"] == "False"
    })
    .await;
    let message = condition(&server, "Accepted")["message"].clone();
    assert!(
        message.as_str().unwrap().starts_with(
            "spec.interfaces[0]: \"/eth[0-9/\" is no pattern: unclosed character class"
        ),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_while_speakers_start_and_who_stays_silent_is_not_waited_for() {
    let server = ApiServer::default();
    for node in ["node-1", "node-2"] {
        server.put(NODES, objects::node(node, "192.0.2.1"));
    }
    advertise(&server, 1, &["eth9"]);
    let _stop = start(&server);
    rest().await;
    report(&server, "node-1", "eth0 (ARP)");
    rest().await;
    assert_eq!(answer(&server), "- - -");
    assert_eq!(condition(&server, "Accepted")["status"], "True");
    until("node-2 is not waited for", || {
        answer(&server)
            .starts_with("False InterfaceNotFound Not found on the node that is selected: eth9.")
    })
    .await;
    let before = writes(&server);
    rest().await;
    assert_eq!(writes(&server), before);
}
