//! The ConfigurationState of one node, against an API server in memory.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use ferrolb_api::usable_interfaces::UsableInterface;
use ferrolb_rules::Refusal;
use ferrolb_speaker::status::{ConfigurationReport, Pod, Reporter};
use ferrolb_testing::ApiServer;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const STATES: &str = "apis/metallb.io/v1beta1/configurationstates";
const SYSTEM: &str = "metallb-system";

fn start(server: &ApiServer, pod: &str) -> (ConfigurationReport, CancellationToken) {
    let stop = CancellationToken::new();
    let reporter = Reporter {
        namespace: SYSTEM.to_owned(),
        node: "node-1".to_owned(),
        pod: Some(Pod {
            name: pod.to_owned(),
            uid: format!("uid-of-{pod}"),
        }),
    };
    (
        ConfigurationReport::start(&server.client(), reporter, stop.clone()),
        stop,
    )
}

fn interfaces(names: &[&str]) -> Vec<UsableInterface> {
    let interface = |name: &&str| UsableInterface {
        name: (*name).to_owned(),
        arp: true,
        ndp: false,
    };
    names.iter().map(interface).collect()
}

fn state(server: &ApiServer) -> Value {
    server
        .get(STATES, SYSTEM, "speaker-node-1")
        .unwrap_or_default()
}

fn message(server: &ApiServer) -> String {
    let conditions = state(server)["status"]["conditions"].clone();
    let conditions = conditions.as_array().cloned().unwrap_or_default();
    let condition = conditions
        .iter()
        .find(|condition| condition["type"] == "ferrolb.io/Interfaces");
    condition
        .and_then(|condition| condition["message"].as_str())
        .unwrap_or_default()
        .to_owned()
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

async fn rest() {
    tokio::time::sleep(Duration::from_secs(150)).await;
}

#[tokio::test(start_paused = true)]
async fn it_is_written_once_and_then_only_on_change_and_not_in_quick_succession() {
    let server = ApiServer::default();
    let (report, _stop) = start(&server, "a");
    rest().await;
    assert_eq!(writes(&server), 0, "nothing is known yet");
    report.set_configuration(&[]);
    report.set_interfaces(&interfaces(&["eth1", "eth0"]));
    until("it is shown", || {
        message(&server) == "eth0 (ARP), eth1 (ARP)"
    })
    .await;
    rest().await;
    assert_eq!(writes(&server), 2);
    let object = state(&server);
    assert_eq!(object["status"]["result"], "Valid");
    assert_eq!(
        object["metadata"]["labels"],
        json!({"metallb.io/component-type": "speaker", "metallb.io/node-name": "node-1"})
    );
    assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "uid-of-a");
    // A link that goes up and down five times a second for a minute.
    for n in 0..300 {
        report.set_interfaces(&interfaces(if n % 2 == 0 { &["eth0"] } else { &[] }));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    report.set_interfaces(&interfaces(&["eth7"]));
    until("the last is shown", || message(&server) == "eth7 (ARP)").await;
    let flapping = writes(&server) - 2;
    assert!((5..=22).contains(&flapping), "{flapping}");
    let refusal = Refusal::new("IPAddressPool", "p", "spec.addresses[0]", "wrong");
    report.set_configuration(&[refusal]);
    until("the mistake is shown", || {
        state(&server)["status"]["errorSummary"]
            == "configuration error: IPAddressPool \"p\", spec.addresses[0]: wrong"
    })
    .await;
    report.set_configuration(&[]);
    until("it is mended", || {
        state(&server)["status"]["result"] == "Valid"
    })
    .await;
    assert_eq!(state(&server)["status"].get("errorSummary"), None);
}

#[tokio::test(start_paused = true)]
async fn it_is_put_back_and_handed_on_to_the_next_pod() {
    let server = ApiServer::default();
    let (report, stop) = start(&server, "a");
    report.set_configuration(&[]);
    report.set_interfaces(&interfaces(&["eth0"]));
    until("it is shown", || message(&server) == "eth0 (ARP)").await;
    rest().await;
    server.delete(STATES, SYSTEM, "speaker-node-1");
    until("it is made again", || message(&server) == "eth0 (ARP)").await;
    rest().await;
    let mut object = state(&server);
    object["status"] = json!({"result": "Invalid"});
    object["metadata"]["labels"] = json!({});
    server.put(STATES, object);
    until("it is mended", || {
        message(&server) == "eth0 (ARP)"
            && state(&server)["metadata"]["labels"]["metallb.io/component-type"] == "speaker"
            && state(&server)["status"]["result"] == "Valid"
    })
    .await;
    rest().await;
    stop.cancel();
    rest().await;
    let before = writes(&server);
    let (report, _stop) = start(&server, "b");
    report.set_interfaces(&interfaces(&["eth0"]));
    report.set_configuration(&[]);
    until("it is the next one's", || {
        state(&server)["metadata"]["ownerReferences"][0]["uid"] == "uid-of-b"
    })
    .await;
    rest().await;
    assert_eq!(writes(&server), before + 1);
}

#[tokio::test(start_paused = true)]
async fn the_newest_is_caught_up_with_once_the_api_server_is_back() {
    let server = ApiServer::default();
    let (report, _stop) = start(&server, "a");
    report.set_configuration(&[]);
    rest().await;
    server.set_down(true);
    let before = server.seen().len();
    report.set_interfaces(&interfaces(&["eth0"]));
    report.set_interfaces(&interfaces(&["eth1"]));
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(server.seen().len() - before < 400);
    server.set_down(false);
    until("it is shown", || message(&server) == "eth1 (ARP)").await;
}
