use ferrolb_announcement::{Interfaces, Node, Ranks, Service, TrafficPolicy, View};
use ferrolb_api::v1beta1::{BGPAdvertisement, IPAddressPool, IPAddressPoolSpec, L2Advertisement};
use ferrolb_rules::{Configuration, Objects};

use super::*;

fn observed(address: &str) -> Observed {
    Observed {
        service: Service {
            ingress: [address.parse().unwrap()].into(),
            labels: Default::default(),
            traffic_policy: TrafficPolicy::Cluster,
            shares_address: true,
        },
        uid: "".into(),
        traceparent: None,
    }
}

#[test]
fn a_change_of_routes_alone_is_a_change() {
    let pool = IPAddressPool::new(
        "p",
        IPAddressPoolSpec {
            addresses: vec!["10.0.0.0/24".into()],
            ..Default::default()
        },
    );
    let mut adv = BGPAdvertisement::default();
    let configured = |adv: &BGPAdvertisement| {
        let objects = Objects {
            pools: &[&pool],
            bgp_advertisements: &[adv],
            ..Objects::default()
        };
        Configuration::from_objects(&objects).0
    };
    let nodes = BTreeMap::from([("me".to_owned(), Node::default())]);
    let endpoints = Endpoints {
        any: true,
        nodes: BTreeSet::new(),
    };
    let (key, web) = (ObjectKey::new("shop", "web"), observed("10.0.0.1"));
    let mut decider = Decider::default();
    let mut decide = |configuration: &Configuration| {
        let view = View {
            me: "me",
            configuration,
            nodes: &nodes,
            members: None,
            ignore_exclude_label: false,
        };
        let mut ranks = Ranks::default();
        let mut round = Layer2Round::new(view, &mut ranks);
        decider.decide(
            &key,
            Some(&web),
            &endpoints,
            &mut round,
            &mut Touched::default(),
        )
    };
    assert_eq!(decide(&configured(&adv)).len(), 1);
    assert!(decide(&configured(&adv)).is_empty());
    adv.spec.communities = vec!["64512:1".into()];
    let changes = decide(&configured(&adv));
    assert_eq!(changes.len(), 1);
    assert!(changes[0].begun.is_empty() && changes[0].ended.is_empty());
}

#[test]
fn a_shared_address_is_announced_until_its_last_service_is_gone() {
    let pool = IPAddressPool::new(
        "p",
        IPAddressPoolSpec {
            addresses: vec!["10.0.0.0/24".into()],
            ..Default::default()
        },
    );
    let (l2, adv) = (L2Advertisement::default(), BGPAdvertisement::default());
    let (configuration, refusals) = Configuration::from_objects(&Objects {
        pools: &[&pool],
        l2_advertisements: &[&l2],
        bgp_advertisements: &[&adv],
        ..Objects::default()
    });
    assert!(refusals.is_empty(), "{refusals:?}");
    let nodes = BTreeMap::from([("me".to_owned(), Node::default())]);
    let view = View {
        me: "me",
        configuration: &configuration,
        nodes: &nodes,
        members: None,
        ignore_exclude_label: false,
    };
    let endpoints = Endpoints {
        any: true,
        nodes: BTreeSet::new(),
    };
    let mut ranks = Ranks::default();
    let mut round = Layer2Round::new(view, &mut ranks);
    let mut decider = Decider::default();
    let (key_a, key_b) = (ObjectKey::new("shop", "a"), ObjectKey::new("shop", "b"));
    let (a, b) = (observed("10.0.0.1"), observed("10.0.0.1"));
    let (address, prefix) = (a.service.ingress[0], "10.0.0.1/32".parse().unwrap());
    let mut touched = Touched::default();
    let changes = decider.decide(&key_a, Some(&a), &endpoints, &mut round, &mut touched);
    assert_eq!(changes.len(), 2, "one for each protocol");
    assert_eq!(
        touched,
        Touched {
            addresses: [(address, Others::default())].into(),
            prefixes: [prefix].into()
        }
    );
    let mut untouched = Touched::default();
    assert!(
        decider
            .decide(&key_a, Some(&a), &endpoints, &mut round, &mut untouched)
            .is_empty()
    );
    assert_eq!(untouched, Touched::default());
    decider.decide(&key_b, Some(&b), &endpoints, &mut round, &mut touched);
    decider.decide(&key_a, None, &endpoints, &mut round, &mut touched);
    let wish = |decider: &Decider| decider.layer2(&address, Others::default(), Before::Nobody);
    assert!(matches!(
        wish(&decider),
        Wish::Announce(
            Announcement {
                interfaces: Interfaces::All,
                ..
            },
            Before::Nobody
        )
    ));
    assert!(decider.route("any", &prefix).is_some());
    let ended = decider.decide(
        &key_b,
        Some(&b),
        &Endpoints::default(),
        &mut round,
        &mut touched,
    );
    assert_eq!(ended[0].ended, *b.service.ingress);
    assert_eq!(wish(&decider), Wish::Withdraw);
    assert_eq!(decider.routes("any").count(), 0);
    assert_eq!(decider.services().len(), 0);
    assert!(decider.terms.is_empty());
}

/// One speaker that decides about one Service while members come and go.
struct Watcher {
    configuration: Configuration,
    nodes: BTreeMap<String, Node>,
    decider: Decider,
    ranks: Ranks,
}

impl Watcher {
    fn new() -> Self {
        let pool = IPAddressPool::new(
            "p",
            IPAddressPoolSpec {
                addresses: vec!["10.0.0.0/24".into()],
                ..Default::default()
            },
        );
        let l2 = L2Advertisement::default();
        let (configuration, _) = Configuration::from_objects(&Objects {
            pools: &[&pool],
            l2_advertisements: &[&l2],
            ..Objects::default()
        });
        Self {
            configuration,
            nodes: ["node-a", "node-b"]
                .map(|name| (name.to_owned(), Node::default()))
                .into(),
            decider: Decider::default(),
            ranks: Ranks::default(),
        }
    }

    /// What node-a does about an address while these members are alive.
    fn wish(&mut self, address: &str, members: &[&str], exists: bool) -> Option<Wish> {
        let members: BTreeSet<String> = members.iter().map(ToString::to_string).collect();
        let view = View {
            me: "node-a",
            configuration: &self.configuration,
            nodes: &self.nodes,
            members: Some(&members),
            ignore_exclude_label: false,
        };
        let web = observed(address);
        let endpoints = Endpoints {
            any: true,
            nodes: BTreeSet::new(),
        };
        let mut touched = Touched::default();
        let mut round = Layer2Round::new(view, &mut self.ranks);
        let key = ObjectKey::new("shop", "web");
        let web = exists.then_some(&web);
        self.decider
            .decide(&key, web, &endpoints, &mut round, &mut touched);
        let (address, others) = touched.addresses.last_key_value()?;
        Some(self.decider.layer2(address, *others, Before::Nobody))
    }
}

fn begins(wish: Option<Wish>) -> Option<Before> {
    match wish {
        Some(Wish::Announce(_, before)) => Some(before),
        _ => None,
    }
}

// For 10.0.0.1 node-b stands before node-a (reference 4.2).
const BOTH: &[&str] = &["node-a", "node-b"];
const ALONE: &[&str] = &["node-a"];

#[test]
fn an_address_that_another_node_had_is_taken_over_and_a_new_one_is_asked_for() {
    let mut watcher = Watcher::new();
    assert_eq!(watcher.wish("10.0.0.1", BOTH, true), None);
    let taken = watcher.wish("10.0.0.1", ALONE, true);
    assert_eq!(begins(taken), Some(Before::TheCluster));
    let mut watcher = Watcher::new();
    let new = watcher.wish("10.0.0.1", ALONE, true);
    assert_eq!(begins(new), Some(Before::Nobody));
    let other = watcher.wish("10.0.0.9", ALONE, true);
    assert_eq!(begins(other), Some(Before::Nobody));
}

#[test]
fn another_address_of_a_service_that_was_announced_elsewhere_is_asked_for() {
    let mut watcher = Watcher::new();
    assert_eq!(watcher.wish("10.0.0.1", BOTH, true), None);
    let other = watcher.wish("10.0.0.9", ALONE, true);
    assert_eq!(begins(other), Some(Before::Nobody));
}

#[test]
fn an_address_is_handed_over_to_a_node_that_takes_it_and_else_withdrawn() {
    let mut watcher = Watcher::new();
    watcher.wish("10.0.0.1", ALONE, true);
    let left = watcher.wish("10.0.0.1", BOTH, true);
    assert_eq!(left, Some(Wish::HandOver));
    watcher.wish("10.0.0.1", ALONE, true);
    let gone = watcher.wish("10.0.0.1", ALONE, false);
    assert_eq!(gone, Some(Wish::Withdraw));
    assert!(watcher.decider.claimed.is_empty());
}
