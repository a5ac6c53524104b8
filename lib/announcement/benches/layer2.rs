//! How long does a speaker take to decide who announces what by layer 2? 10,000 Services with an address each, 500 nodes.
//!
//! "All" is what the loss or return of a node costs, with what was remembered of the rounds before; each time another node
//! is lost, and the one before is back. "From nothing" is the first round of a speaker that starts: it cannot cost less than
//! a SHA-256 for each address and node.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::net::IpAddr;

use criterion::Criterion;
use ferrolb_announcement::{Endpoints, Layer2Round, Node, Ranks, Service, TrafficPolicy, View};
use ferrolb_rules::{Configuration, L2Advertisement, Pool, Selector};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

const SERVICES: u32 = 10_000;
const NODES: usize = 500;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let site = Site::new();
    let mut all = criterion.benchmark_group("announcing all");
    let mut ranks = Ranks::default();
    let mut lost = 0;
    all.bench_function("a node is lost", |bencher| {
        bencher.iter(|| {
            lost = (lost + 1) % NODES;
            black_box(site.decide_all(lost, &mut ranks));
        });
    });
    all.finish();
    let mut one = criterion.benchmark_group("announcing one");
    let mut number = 0;
    one.bench_function("a Service changed", |bencher| {
        bencher.iter(|| {
            number = (number + 1) % site.services.len();
            let members = site.members(NODES);
            let mut round = Layer2Round::new(site.view(&members), &mut ranks);
            black_box(
                round
                    .decide(&site.services[number], &site.endpoints)
                    .here
                    .is_ok(),
            );
        });
    });
    one.finish();
    let mut first = criterion.benchmark_group("announcing first");
    first.sample_size(10);
    first.bench_function("from nothing", |bencher| {
        bencher.iter(|| black_box(site.decide_all(NODES, &mut Ranks::default())));
    });
    first.finish();
    criterion.final_summary();
}

struct Site {
    configuration: Configuration,
    nodes: BTreeMap<String, Node>,
    services: Vec<Service>,
    endpoints: Endpoints,
}

impl Site {
    /// Two advertisements, one of which selects half of the nodes, and a third of the Services with traffic policy Local.
    fn new() -> Self {
        let rack = |value: usize| BTreeMap::from([("rack".to_owned(), value.to_string())]);
        let selector = Selector::parse(&LabelSelector {
            match_labels: Some(rack(0)),
            match_expressions: None,
        });
        let advertisement = |name: &str| L2Advertisement {
            name: name.to_owned(),
            ..L2Advertisement::default()
        };
        let half = L2Advertisement {
            nodes: vec![selector.unwrap()],
            interfaces: ["eth1".to_owned()].into(),
            ..advertisement("half")
        };
        let name = |number: usize| format!("node-{number:03}.example.org");
        let service = |number: u32| Service {
            ingress: [IpAddr::V4((0x0a00_0000 + number).into())].into(),
            labels: Default::default(),
            traffic_policy: if number.is_multiple_of(3) {
                TrafficPolicy::Local
            } else {
                TrafficPolicy::Cluster
            },
            shares_address: false,
        };
        Site {
            configuration: Configuration {
                pools: [(
                    "p".to_owned(),
                    Pool::new("p", vec!["10.0.0.0/16".parse().unwrap()]),
                )]
                .into(),
                l2_advertisements: vec![advertisement("all"), half],
                ..Configuration::default()
            },
            nodes: (0..NODES)
                .map(|number| {
                    let node = Node {
                        labels: rack(number % 2),
                        ..Node::default()
                    };
                    (name(number), node)
                })
                .collect(),
            services: (0..SERVICES).map(service).collect(),
            endpoints: Endpoints {
                any: true,
                nodes: [7, 77, 177].map(name).into(),
            },
        }
    }

    fn members(&self, lost: usize) -> BTreeSet<String> {
        let names = self.nodes.keys().enumerate();
        names
            .filter(|(number, _)| *number != lost)
            .map(|(_, name)| name.clone())
            .collect()
    }

    fn view<'a>(&'a self, members: &'a BTreeSet<String>) -> View<'a> {
        View {
            me: "node-007.example.org",
            configuration: &self.configuration,
            nodes: &self.nodes,
            members: Some(members),
            ignore_exclude_label: false,
        }
    }

    fn decide_all(&self, lost: usize, ranks: &mut Ranks) -> usize {
        let members = self.members(lost);
        let mut round = Layer2Round::new(self.view(&members), ranks);
        let decided = self
            .services
            .iter()
            .map(|service| round.decide(service, &self.endpoints).here.is_ok());
        decided.filter(|here| *here).count()
    }
}
