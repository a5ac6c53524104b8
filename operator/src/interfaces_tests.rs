use serde_json::{Value, json};

use super::*;

struct Site {
    interfaces: Interfaces,
    nodes: BTreeMap<String, Arc<Labels>>,
    reports: BTreeMap<String, Arc<Reported>>,
    now: Instant,
}

impl Site {
    fn new() -> Self {
        Site {
            interfaces: Interfaces::default(),
            nodes: BTreeMap::new(),
            reports: BTreeMap::new(),
            now: Instant::now(),
        }
    }

    fn node(&mut self, name: &str, rack: &str) {
        let labels = BTreeMap::from([("rack".to_owned(), rack.to_owned())]);
        self.nodes
            .insert(name.to_owned(), Arc::new((&labels).into()));
    }

    fn says(&mut self, node: &str, names: &[&str]) {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let reported = Reported { names, whole: true };
        self.reports.insert(speaker_state(node), Arc::new(reported));
    }

    fn with(nodes: &[(&str, &[&str])]) -> Self {
        let mut site = Site::new();
        for (node, names) in nodes {
            site.node(node, "a");
            site.says(node, names);
        }
        site
    }

    fn after(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn update(&mut self) {
        let nodes = self.nodes.iter();
        let nodes = nodes.map(|(name, labels)| (name.as_str(), Arc::clone(labels)));
        let reports = &self.reports;
        self.interfaces
            .update(nodes, |name| reports.get(name).cloned(), self.now);
    }

    fn found(&mut self, entries: &[&str], existing: Option<&str>) -> Option<Found> {
        self.found_where(entries, &[], existing)
    }

    fn found_where(
        &mut self,
        entries: &[&str],
        selectors: &[Selector],
        existing: Option<&str>,
    ) -> Option<Found> {
        self.update();
        let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        let (names, unusable) = InterfaceNames::of_entries(&entries);
        self.interfaces
            .found(&names, &unusable, selectors, existing)
    }
}

fn not_all(message: &str) -> Option<Found> {
    Some(Found::NotAll(message.to_owned()))
}

#[test]
fn what_is_named_is_found_on_some_node_and_each_node_has_some() {
    let mut site = Site::with(&[("n1", &["eth0", "eth1"]), ("n2", &["bond0"])]);
    for entries in [&["eth0", "bond0"][..], &["/eth.*|bond0/"], &["/.*/"]] {
        assert_eq!(site.found(entries, None), Some(Found::All), "{entries:?}");
    }
    assert_eq!(
        site.found(&["eth0", "bond0", "eth9", "/wlan[0-9]/"], None),
        not_all(
            "Not found on any of the 2 nodes that are selected: /wlan[0-9]/, eth9. \
             There are bond0 on n2, eth0 on n1, eth1 on n1. Correct spec.interfaces or spec.nodeSelectors."
        )
    );
    assert_eq!(
        site.found(&["eth0"], None),
        not_all(
            "No entry is found on these nodes, and nothing is announced from there: n2. \
             There are bond0 on n2, eth0 on n1, eth1 on n1. Correct spec.interfaces or spec.nodeSelectors."
        )
    );
    assert_eq!(
        site.found(&["eth9"], None),
        not_all(
            "Not found on any of the 2 nodes that are selected: eth9. Nothing is announced. \
             There are bond0 on n2, eth0 on n1, eth1 on n1. Correct spec.interfaces or spec.nodeSelectors."
        )
    );
}

#[test]
fn only_nodes_that_are_selected_count() {
    let mut site = Site::with(&[("n1", &["eth0"])]);
    site.node("n2", "b");
    site.says("n2", &[]);
    let rack = |rack: &str| {
        let selector = json!({"matchLabels": {"rack": rack}});
        Selector::parse(&serde_json::from_value(selector).unwrap()).unwrap()
    };
    assert_eq!(
        site.found_where(&["eth0"], &[rack("a")], None),
        Some(Found::All)
    );
    assert_eq!(
        site.found_where(&["eth0"], &[rack("b")], None),
        not_all(
            "Not found on the node that is selected: eth0. Nothing is announced. \
             There is no interface that addresses can be announced on. Correct spec.interfaces or spec.nodeSelectors."
        )
    );
    assert_eq!(
        site.found_where(&["eth0"], &[rack("c")], None),
        Some(Found::Unknown)
    );
}

#[test]
fn a_pattern_that_does_not_compile_is_named_beside_what_is_there() {
    let mut site = Site::with(&[("n1", &["eth0"])]);
    assert_eq!(
        site.found(&["/eth(/"], None),
        not_all(
            "No pattern that can be used: /eth(/; see Accepted. Nothing is announced. \
             There are eth0 on n1. Correct spec.interfaces or spec.nodeSelectors."
        )
    );
    let mut nobody = Site::new();
    nobody.node("n1", "a");
    assert_eq!(
        nobody.found(&["/eth(/"], None),
        not_all(
            "No pattern that can be used: /eth(/; see Accepted. \
             Nodes that have not said what they have: 1. Correct spec.interfaces or spec.nodeSelectors."
        )
    );
    assert_eq!(
        site.found(&["/eth(/", "eth0"], Some("True")),
        not_all(
            "No pattern that can be used: /eth(/; see Accepted. \
             There are eth0 on n1. Correct spec.interfaces or spec.nodeSelectors."
        )
    );
}

#[test]
fn nothing_flaps_while_speakers_start() {
    let mut site = Site::new();
    site.node("n1", "a");
    site.node("n2", "a");
    assert_eq!(site.found(&["bond0"], None), None);
    // One is quicker than the other.
    site.after(1);
    site.says("n1", &["eth0"]);
    assert_eq!(site.found(&["eth0", "bond0"], None), None);
    assert_eq!(
        site.interfaces.look_again_at(),
        Some(site.now + Duration::from_secs(59))
    );
    assert_eq!(site.found(&["eth0"], None), Some(Found::All));
    site.says("n2", &["bond0"]);
    assert_eq!(site.found(&["eth0", "bond0"], None), Some(Found::All));
    assert_eq!(site.interfaces.look_again_at(), None);
    // The speaker of a node is made anew, and its report goes for a moment.
    site.after(1000);
    site.reports.remove(&speaker_state("n2"));
    assert_eq!(
        site.found(&["eth0", "bond0"], Some("True")),
        Some(Found::All)
    );
    // The node goes, and with it what it said.
    site.nodes.remove("n2");
    assert!(matches!(
        site.found(&["eth0", "bond0"], Some("True")),
        Some(Found::NotAll(_))
    ));
}

#[test]
fn who_never_reports_is_not_waited_for() {
    let mut site = Site::with(&[("n1", &["eth0"])]);
    site.node("silent", "a");
    assert_eq!(site.found(&["eth9"], None), None);
    site.after(60);
    let told = not_all(
        "Not found on the node that is selected: eth9. Nothing is announced. \
         There are eth0 on n1. Nodes that have not said what they have: 1. Correct spec.interfaces or spec.nodeSelectors.",
    );
    assert_eq!(site.found(&["eth9"], None), told);
    // What was found before may be on the one that says nothing.
    assert_eq!(site.found(&["eth0", "eth9"], Some("True")), None);
    assert!(matches!(
        site.found(&["eth0", "eth9"], Some("False")),
        Some(Found::NotAll(_))
    ));
    site.reports.clear();
    let mut none = Site::new();
    none.node("silent", "a");
    assert_eq!(none.found(&["eth0"], None), None);
    none.after(60);
    assert_eq!(none.found(&["eth0"], None), Some(Found::Unknown));
    assert_eq!(none.found(&["eth0"], Some("True")), None);
    assert_eq!(none.interfaces.look_again_at(), None);
}

#[test]
fn of_five_hundred_nodes_some_are_named() {
    let mut site = Site::new();
    for n in 0..500 {
        let name = format!("node-{n:03}");
        site.node(&name, "a");
        site.says(&name, if n < 30 { &["ens1"] } else { &["eth0", "eth1"] });
    }
    let before = std::time::Instant::now();
    let Some(Found::NotAll(message)) = site.found(&["/eth.*/", "eth7"], None) else {
        panic!("not all are found");
    };
    assert!(before.elapsed() < Duration::from_secs(1));
    assert_eq!(
        message,
        "Not found on any of the 500 nodes that are selected: eth7. \
         No entry is found on these nodes, and nothing is announced from there: node-000, node-001, node-002, node-003, \
         node-004, node-005, node-006, node-007, node-008, node-009 and 20 more. \
         There are eth0 on 470 nodes, eth1 on 470 nodes, ens1 on 30 nodes. Correct spec.interfaces or spec.nodeSelectors."
    );
}

#[test]
fn who_has_more_than_can_be_named_may_have_it() {
    let mut site = Site::with(&[("n1", &["eth0"])]);
    let names = ["a".to_owned()].into();
    let reported = Reported {
        names,
        whole: false,
    };
    site.node("n2", "a");
    site.reports.insert(speaker_state("n2"), Arc::new(reported));
    assert_eq!(site.found(&["eth0", "eth9"], None), Some(Found::All));
}

#[test]
fn a_state_says_it_by_its_condition() {
    let state = |conditions: Value| -> ConfigurationState {
        serde_json::from_value(json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "ConfigurationState", "metadata": {"name": "speaker-n1"},
            "status": {"conditions": conditions},
        }))
        .unwrap()
    };
    let condition = |status: &str, message: &str| {
        json!([{"type": "ferrolb.io/Interfaces", "status": status, "reason": "x", "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z"}])
    };
    let names = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Some(Reported { names, whole: true })
    };
    assert_eq!(
        reported(&state(condition("True", "eth0 (ARP, NDP), eth1 (ARP)"))),
        names(&["eth0", "eth1"])
    );
    assert_eq!(reported(&state(condition("False", ""))), names(&[]));
    assert_eq!(reported(&state(condition("Unknown", ""))), None);
    assert_eq!(reported(&state(json!([]))), None);
}

#[test]
fn an_advertisement_without_interfaces_has_no_such_condition() {
    let interfaces = Interfaces::default();
    assert_eq!(
        interfaces.answer(&L2Advertisement::default(), None),
        Some(interfaces_found(None))
    );
}
