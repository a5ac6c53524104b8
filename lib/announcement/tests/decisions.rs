//! Who announces what: the rows of reference 4.2 and 4.6.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};

use ferrolb_announcement::{
    Endpoints, Interfaces, Layer2Round, Node, Ranks, Service, TrafficPolicy, View, Withdrawn, bgp,
    route,
};
use ferrolb_rules::{BgpAdvertisement, Configuration, L2Advertisement, Pool, Selector};
use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

fn selector(key: &str, value: &str) -> Selector {
    let labels = BTreeMap::from([(key.to_owned(), value.to_owned())]);
    Selector::parse(&LabelSelector {
        match_labels: Some(labels),
        match_expressions: None,
    })
    .unwrap()
}

fn configuration() -> Configuration {
    let ranges = ["10.0.0.0/24", "fd00::/112"].map(|text| text.parse().unwrap());
    let pool = Pool::new("p", ranges.to_vec());
    Configuration {
        pools: BTreeMap::from([("p".to_owned(), pool)]),
        l2_advertisements: vec![L2Advertisement {
            name: "l2".into(),
            ..Default::default()
        }],
        bgp_advertisements: vec![adv("bgp")],
        ..Configuration::default()
    }
}

fn adv(name: &str) -> BgpAdvertisement {
    BgpAdvertisement {
        name: name.into(),
        aggregation_length: 32,
        aggregation_length_v6: 128,
        ..Default::default()
    }
}

fn nodes() -> BTreeMap<String, Node> {
    ["node-a", "node-b", "node-c"]
        .map(|name| {
            let labels = BTreeMap::from([("name".to_owned(), name.to_owned())]);
            (
                name.to_owned(),
                Node {
                    labels,
                    ..Node::default()
                },
            )
        })
        .into()
}

fn service() -> Service {
    Service {
        ingress: ["10.0.0.1".parse().unwrap()].into(),
        labels: (&BTreeMap::from([("app".to_owned(), "web".to_owned())])).into(),
        traffic_policy: TrafficPolicy::Cluster,
        shares_address: false,
    }
}

fn endpoints(nodes: &[&str]) -> Endpoints {
    Endpoints {
        any: true,
        nodes: nodes.iter().map(ToString::to_string).collect(),
    }
}

/// On which interfaces this node announces a Service, decided by itself.
fn layer2(
    view: &View<'_>,
    service: &Service,
    endpoints: &Endpoints,
) -> Result<Interfaces, Withdrawn> {
    let mut ranks = Ranks::default();
    let decision = Layer2Round::new(*view, &mut ranks).decide(service, endpoints);
    decision.here.map(|here| here.interfaces.clone())
}

struct Site {
    configuration: Configuration,
    nodes: BTreeMap<String, Node>,
    members: Option<BTreeSet<String>>,
}

impl Site {
    fn new() -> Site {
        Site {
            configuration: configuration(),
            nodes: nodes(),
            members: None,
        }
    }

    fn view<'a>(&'a self, me: &'a str) -> View<'a> {
        View {
            me,
            configuration: &self.configuration,
            nodes: &self.nodes,
            members: self.members.as_ref(),
            ignore_exclude_label: false,
        }
    }

    /// The nodes that announce: by construction at most one for layer 2.
    fn announcers(&self, service: &Service, endpoints: &Endpoints) -> Vec<&str> {
        self.nodes
            .keys()
            .map(String::as_str)
            .filter(|me| layer2(&self.view(me), service, endpoints).is_ok())
            .collect()
    }
}

#[test]
fn one_node_announces_and_the_next_in_order_takes_over() {
    let mut site = Site::new();
    // For 10.0.0.1 the order is b, a, c (reference 4.2).
    let all = endpoints(&["node-c"]);
    assert_eq!(site.announcers(&service(), &all), ["node-b"]);
    site.members = Some(["node-a", "node-c"].map(str::to_owned).into());
    assert_eq!(
        site.announcers(&service(), &all),
        ["node-a"],
        "a node whose speaker is gone does not stand"
    );
    site.nodes.get_mut("node-a").unwrap().network_unavailable = true;
    assert_eq!(site.announcers(&service(), &all), ["node-c"]);
    site.nodes.get_mut("node-c").unwrap().excluded = true;
    assert!(site.announcers(&service(), &all).is_empty());
    assert!(
        layer2(
            &View {
                ignore_exclude_label: true,
                ..site.view("node-c")
            },
            &service(),
            &all
        )
        .is_ok()
    );
}

#[test]
fn layer_2_needs_an_endpoint_somewhere_or_here() {
    let site = Site::new();
    assert_eq!(
        layer2(&site.view("node-b"), &service(), &Endpoints::default()),
        Err(Withdrawn::NotOwner)
    );
    let local = Service {
        traffic_policy: TrafficPolicy::Local,
        ..service()
    };
    assert_eq!(site.announcers(&local, &endpoints(&["node-c"])), ["node-c"]);
    let unnamed = Endpoints {
        any: true,
        nodes: BTreeSet::new(),
    };
    assert_eq!(
        site.announcers(&service(), &unnamed),
        ["node-b"],
        "an endpoint without a node serves traffic policy Cluster"
    );
}

#[test]
fn advertisements_choose_nodes_services_interfaces_and_preferences() {
    let mut site = Site::new();
    let any = endpoints(&["node-a"]);
    site.configuration.l2_advertisements = vec![
        L2Advertisement {
            nodes: vec![selector("name", "node-a"), selector("name", "node-c")],
            interfaces: ["eth1".to_owned()].into(),
            preferred: vec![(10, selector("name", "node-c"))],
            ..Default::default()
        },
        L2Advertisement {
            interfaces: ["eth2".to_owned()].into(),
            services: vec![selector("app", "web")],
            ..Default::default()
        },
    ];
    assert_eq!(
        site.announcers(&service(), &any),
        ["node-c"],
        "preference beats the hash"
    );
    let interfaces = layer2(&site.view("node-c"), &service(), &any).unwrap();
    assert_eq!(
        interfaces,
        Interfaces::Only(["eth1".to_owned(), "eth2".to_owned()].into())
    );
    let other = Service {
        labels: Default::default(),
        ..service()
    };
    assert_eq!(
        layer2(&site.view("node-b"), &other, &any),
        Err(Withdrawn::NoMatchingAdvertisement)
    );
    let shares = Service {
        shares_address: true,
        ..service()
    };
    assert_eq!(
        layer2(&site.view("node-c"), &shares, &any),
        Err(Withdrawn::SharedIPWithServiceSelector)
    );
}

#[test]
fn addresses_outside_every_pool_are_not_announced() {
    let site = Site::new();
    let outside = Service {
        ingress: ["192.0.2.1".parse().unwrap()].into(),
        ..service()
    };
    assert_eq!(
        layer2(&site.view("node-b"), &outside, &endpoints(&[])),
        Err(Withdrawn::IpNotAllowed)
    );
    let none = Service {
        ingress: [].into(),
        ..service()
    };
    assert_eq!(
        bgp(&site.view("node-b"), &none, &endpoints(&[])),
        Err(Withdrawn::NoIPAllocated)
    );
}

#[test]
fn every_node_advertises_by_bgp_what_it_can_serve() {
    let mut site = Site::new();
    let dual = Service {
        ingress: ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()].into(),
        ..service()
    };
    for me in ["node-a", "node-b", "node-c"] {
        let routes = bgp(&site.view(me), &dual, &endpoints(&["node-a"])).unwrap();
        assert_eq!(
            routes
                .iter()
                .map(|route| route.prefix.to_string())
                .collect::<Vec<_>>(),
            ["10.0.0.1/32", "fd00::1/128"]
        );
    }
    let local = Service {
        traffic_policy: TrafficPolicy::Local,
        ..dual.clone()
    };
    assert!(bgp(&site.view("node-a"), &local, &endpoints(&["node-a"])).is_ok());
    assert_eq!(
        bgp(&site.view("node-b"), &local, &endpoints(&["node-a"])),
        Err(Withdrawn::NoLocalEndpoints)
    );
    assert_eq!(
        bgp(&site.view("node-b"), &dual, &Endpoints::default()),
        Err(Withdrawn::NoEndpoints)
    );
    site.nodes.get_mut("node-a").unwrap().network_unavailable = true;
    assert_eq!(
        bgp(&site.view("node-a"), &dual, &endpoints(&[])),
        Err(Withdrawn::NodeNetworkUnavailable)
    );
    site.configuration.bgp_advertisements[0].nodes = vec![selector("name", "node-a")];
    assert_eq!(
        bgp(&site.view("node-b"), &dual, &endpoints(&[])),
        Err(Withdrawn::NotOwner)
    );
}

#[test]
fn what_several_say_of_a_prefix_is_united_for_each_peer() {
    let mut site = Site::new();
    site.configuration.bgp_advertisements = vec![
        BgpAdvertisement {
            communities: ["1:1".parse().unwrap()].into(),
            ..adv("one")
        },
        BgpAdvertisement {
            communities: ["1:2".parse().unwrap()].into(),
            peers: ["router-1".to_owned()].into(),
            ..adv("two")
        },
        BgpAdvertisement {
            aggregation_length: 24,
            local_pref: 7,
            ..adv("aggregate")
        },
    ];
    let all = bgp(&site.view("node-a"), &service(), &endpoints(&["node-a"])).unwrap();
    let of = |peer: &str, prefix: &str| {
        let prefix: IpNet = prefix.parse().unwrap();
        let terms = all.iter().filter(|route| route.prefix == prefix);
        route(peer, terms.map(|route| route.terms.as_ref())).unwrap()
    };
    assert_eq!(of("router-1", "10.0.0.1/32").communities.len(), 2);
    assert_eq!(of("router-1", "10.0.0.0/24").local_pref, 7);
    assert_eq!(of("router-2", "10.0.0.1/32").communities.len(), 1);
    site.configuration.bgp_advertisements[1].local_pref = 9;
    let result = bgp(&site.view("node-a"), &service(), &endpoints(&["node-a"]));
    assert_eq!(result, Err(Withdrawn::ConflictingAdvertisements));
}
