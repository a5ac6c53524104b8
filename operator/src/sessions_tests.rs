use ferrolb_api::conditions::status;
use ferrolb_rules::{AllObjects, LastGood};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::*;

struct Site {
    sessions: Sessions,
    nodes: BTreeMap<String, ObservedNode>,
    reports: BTreeMap<String, Vec<BGPSession>>,
    peer: BGPPeer,
    now: Instant,
}

impl Site {
    /// With a peer of the nodes in rack a.
    fn new() -> Self {
        let peer = json!({
            "apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer", "metadata": {"name": "tor", "generation": 1},
            "spec": {
                "myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1",
                "nodeSelectors": [{"matchLabels": {"rack": "a"}}],
            },
        });
        Site {
            sessions: Sessions::default(),
            nodes: BTreeMap::new(),
            reports: BTreeMap::new(),
            peer: serde_json::from_value(peer).unwrap(),
            now: Instant::now(),
        }
    }

    fn node(&mut self, name: &str, rack: &str) {
        let labels = BTreeMap::from([("rack".to_owned(), rack.to_owned())]);
        let node = ObservedNode {
            labels: Arc::new((&labels).into()),
            ready: true,
        };
        self.nodes.insert(name.to_owned(), node);
    }

    fn says(&mut self, node: &str, state: SessionState, error: Option<&str>, sent: i64) {
        let session = BGPSession {
            peer: "tor".to_owned(),
            state,
            last_error: error.map(str::to_owned),
            prefixes_sent: sent,
            ..BGPSession::default()
        };
        let other = BGPSession {
            peer: "other".to_owned(),
            ..BGPSession::default()
        };
        self.reports
            .insert(speaker_state(node), vec![other, session]);
    }

    fn up(&mut self, node: &str, sent: i64) {
        self.says(node, SessionState::Established, Some("before"), sent);
    }

    fn news(&mut self) -> Option<News> {
        let nodes = self.nodes.iter();
        let nodes = nodes.map(|(name, node)| (name.as_str(), node));
        self.sessions.update(nodes, |name| {
            Some(self.reports.get(name)?.as_slice().into())
        });
        let mut last_good = LastGood::default();
        last_good.read(&AllObjects {
            peers: vec![Arc::new(self.peer.clone())],
            ..AllObjects::default()
        });
        let peers = &last_good.configuration().peers;
        let mut news = self
            .sessions
            .news([&self.peer], |name| peers.get(name), self.now);
        news.remove("tor")
    }

    /// Writes what is to be written; what the condition says then, if something was.
    fn write(&mut self) -> Option<String> {
        let news = self.news()?;
        let now = Time(Timestamp::UNIX_EPOCH);
        let before = self.peer.status.clone().unwrap_or_default().conditions;
        let generation = self.peer.metadata.generation;
        let conditions = crate::conditions::with(&before, generation, [news.answer], &now);
        let mut status = json!({"conditions": conditions});
        let written = status.as_object_mut().unwrap();
        written.extend(
            news.fields
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value)),
        );
        let mut stored = json!(self.peer.status);
        json_patch::merge(&mut stored, &status);
        self.peer.status = serde_json::from_value(stored).unwrap();
        let condition = find(&conditions, PROGRAMMED).unwrap();
        let Condition {
            status,
            reason,
            message,
            ..
        } = condition;
        Some(format!("{status} {reason} {message}"))
    }

    fn status(&self) -> BGPPeerStatus {
        self.peer.status.clone().unwrap()
    }

    fn after(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }
}

#[test]
fn it_is_counted_over_the_nodes_that_are_selected_and_told_who_has_none_and_why() {
    let mut site = Site::new();
    for (node, rack) in [("n1", "a"), ("n2", "a"), ("n3", "a"), ("n4", "b")] {
        site.node(node, rack);
    }
    let told = site.write().unwrap();
    assert!(told.starts_with("Unknown NotReported "), "{told}");
    assert_eq!(site.status().established.as_deref(), Some("0/3"));
    for node in ["n1", "n2", "n3", "n4"] {
        site.up(node, 5);
    }
    site.after(3);
    assert_eq!(
        site.write().unwrap(),
        "True Programmed Established on 3 of 3 nodes."
    );
    assert_eq!(site.write(), None);
    site.says("n2", SessionState::NotEstablished, Some("refused"), 0);
    site.says("n3", SessionState::NoSession, Some("no Secret"), 0);
    site.after(3);
    let told = "False PartlyEstablished Established on 1 of 3 nodes.\nn2: refused\nn3: no Secret";
    assert_eq!(site.write().unwrap(), told);
    let status = site.status();
    assert_eq!(status.established.as_deref(), Some("1/3"));
    assert_eq!(
        (status.established_nodes, status.selected_nodes),
        (Some(1), Some(3))
    );
    let nodes = status.sessions.iter();
    let nodes: Vec<_> = nodes
        .map(|one| (one.node.as_str(), one.state, one.prefixes_sent))
        .collect();
    assert_eq!(
        nodes,
        [
            ("n2", SessionState::NotEstablished, 0),
            ("n3", SessionState::NoSession, 0),
            ("n1", SessionState::Established, 5),
        ]
    );
    site.says("n1", SessionState::NotEstablished, Some("refused"), 0);
    site.reports.remove(&speaker_state("n3"));
    site.after(3);
    let told = "False NotEstablished Established on 0 of 3 nodes.\nn1, n2: refused\n\
                n3: nothing is said of the session; see that the speaker runs";
    assert_eq!(site.write().unwrap(), told);
}

#[test]
fn what_a_lost_node_said_is_not_believed() {
    let mut site = Site::new();
    for node in ["n1", "n2"] {
        site.node(node, "a");
        site.up(node, 5);
    }
    site.nodes.get_mut("n2").unwrap().ready = false;
    let told = "False PartlyEstablished Established on 1 of 2 nodes.\n\
                n2: the node is not ready; what its speaker said last is that the session is established";
    assert_eq!(site.write().unwrap(), told);
    assert_eq!(site.status().sessions[0].state, SessionState::Unknown);
}

#[test]
fn a_peer_that_is_not_in_force_or_selects_nobody_says_so() {
    let mut site = Site::new();
    site.node("n1", "b");
    site.up("n1", 1);
    let told = site.write().unwrap();
    assert!(told.starts_with("False NoNodeSelected "), "{told}");
    site.peer.spec.peer_address = Some("nonsense".to_owned());
    site.after(3);
    let told = site.write().unwrap();
    assert!(told.starts_with("False NotInForce "), "{told}");
    let status = site.status();
    assert_eq!((status.established, status.selected_nodes), (None, None));
    assert_eq!(site.write(), None);
}

#[test]
fn a_peer_that_flaps_is_written_every_3_s_and_figures_every_30_s() {
    let mut site = Site::new();
    site.node("n1", "a");
    site.up("n1", 0);
    assert!(site.write().is_some());
    let (mut writes, mut sent) = (0, 0);
    for second in 0..60 {
        match second % 2 {
            0 => site.up("n1", 0),
            _ => site.says("n1", SessionState::NotEstablished, Some("refused"), 0),
        }
        writes += usize::from(site.write().is_some());
        site.after(1);
    }
    assert!((15..=20).contains(&writes), "{writes}");
    site.up("n1", 0);
    site.after(3);
    site.write();
    writes = 0;
    for _ in 0..90 {
        sent += 1;
        site.up("n1", sent);
        writes += usize::from(site.write().is_some());
        let waits = site.sessions.look_again_at();
        assert!(waits.is_none_or(|at| at > site.now), "{waits:?}");
        site.after(1);
    }
    assert!((2..=3).contains(&writes), "{writes}");
    // The last are not forgotten.
    assert!(site.sessions.look_again_at().is_some());
    site.after(30);
    site.write();
    assert_eq!(site.status().sessions[0].prefixes_sent, sent);
    // Another generation is news, though the answer is the same.
    site.peer.metadata.generation = Some(2);
    site.after(3);
    assert!(site.write().is_some());
}

#[test]
fn what_the_api_server_drops_is_not_written_again_and_again() {
    let mut site = Site::new();
    site.node("n1", "a");
    site.up("n1", 0);
    assert!(site.write().is_some());
    let conditions = site.status().conditions;
    site.peer.status = Some(BGPPeerStatus {
        conditions,
        ..BGPPeerStatus::default()
    });
    site.after(60);
    assert_eq!(site.write(), None);
    site.says("n1", SessionState::NotEstablished, None, 0);
    assert!(site.write().is_some());
}

#[test]
fn five_hundred_nodes_with_long_errors_fit() {
    let mut site = Site::new();
    for n in 0..500 {
        let node = format!("{}-{n:03}", "n".repeat(240));
        site.node(&node, "a");
        let error = format!("{n} {}", "x".repeat(500));
        site.says(&node, SessionState::NotEstablished, Some(&error), 0);
    }
    let told = site.write().unwrap();
    assert!(
        told.len() < 32_000 && told.ends_with("and 492 more causes"),
        "{}",
        told.len()
    );
    assert_eq!(site.status().sessions.len(), 100);
    assert_eq!(site.status().established.as_deref(), Some("0/500"));
    let condition = &site.status().conditions[0];
    assert_eq!(condition.status, status::FALSE);
    for n in 0..500 {
        let node = format!("{}-{n:03}", "n".repeat(240));
        site.says(
            &node,
            SessionState::NotEstablished,
            Some(&"x".repeat(500)),
            0,
        );
    }
    site.after(3);
    let told = site.write().unwrap();
    assert!(
        told.len() < 32_000 && told.contains(" and 490 more: xxx"),
        "{told}"
    );
}
