//! Layer 2 decisions of whole rounds against the steps of reference 4.2, taken one by one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ferrolb_announcement::{
    Endpoints, Layer2Round, Node, Ranks, Service, TrafficPolicy, View, order,
};
use ferrolb_rules::{Configuration, L2Advertisement, OnConflict, Pool, Selector, any_matches};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use proptest::prelude::*;

fn selector(key: &str, value: &str) -> Selector {
    Selector::parse(&LabelSelector {
        match_labels: Some([(key.to_owned(), value.to_owned())].into()),
        match_expressions: None,
    })
    .unwrap()
}

fn labels(pairs: &[(&str, String)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect()
}

/// The steps of reference 4.2, without memory and without haste.
fn owner_by_the_book(view: &View<'_>, service: &Service, endpoints: &Endpoints) -> Option<String> {
    let pool = view.configuration.pools.values().next().unwrap();
    let ads: Vec<&L2Advertisement> = view
        .configuration
        .l2_advertisements_of(pool)
        .filter(|adv| any_matches(&adv.services, &service.labels))
        .collect();
    let selected = service.shares_address && ads.iter().any(|adv| !adv.services.is_empty());
    if !endpoints.any || selected {
        return None;
    }
    let candidates = view.nodes.iter().filter(|(name, node)| {
        view.members.is_none_or(|members| members.contains(*name))
            && !node.network_unavailable
            && !node.excluded
            && ads.iter().any(|adv| any_matches(&adv.nodes, &node.labels))
            && (service.traffic_policy == TrafficPolicy::Cluster || endpoints.nodes.contains(*name))
    });
    let scored = candidates.map(|(name, node)| {
        let score = ads
            .iter()
            .filter(|adv| any_matches(&adv.nodes, &node.labels))
            .flat_map(|adv| &adv.preferred)
            .filter(|(_, selector)| selector.matches(&node.labels))
            .map(|(weight, _)| i64::from(*weight))
            .sum();
        (name.as_str(), score)
    });
    order(scored, service.ingress[0])
        .first()
        .map(|name| (*name).to_owned())
}

fn node() -> impl Strategy<Value = Node> {
    (0..3u8, 0..8u8, 0..8u8).prop_map(|(rack, unavailable, excluded)| Node {
        labels: labels(&[("rack", rack.to_string())]),
        network_unavailable: unavailable == 0,
        excluded: excluded == 0,
    })
}

fn advertisement() -> impl Strategy<Value = L2Advertisement> {
    let racks = proptest::collection::vec(0..3u8, 0..2);
    let preferred = proptest::collection::vec((1..3i32, 0..3u8), 0..3);
    (racks, preferred, 0..3u8).prop_map(|(racks, preferred, app)| L2Advertisement {
        nodes: racks
            .iter()
            .map(|rack| selector("rack", &rack.to_string()))
            .collect(),
        preferred: preferred
            .iter()
            .map(|(weight, rack)| (*weight, selector("rack", &rack.to_string())))
            .collect(),
        services: (app > 0)
            .then(|| selector("app", &app.to_string()))
            .into_iter()
            .collect(),
        ..L2Advertisement::default()
    })
}

fn service() -> impl Strategy<Value = (Service, Vec<usize>)> {
    let hosts = proptest::collection::vec(0..40usize, 0..4);
    (0..2000u32, 0..3u8, any::<bool>(), 0..6u8, hosts).prop_map(
        |(ip, app, local, shares, hosts)| {
            let service = Service {
                ingress: [IpAddr::V4((0x0a00_0000 + ip).into())].into(),
                labels: (&labels(&[("app", app.to_string())])).into(),
                traffic_policy: if local {
                    TrafficPolicy::Local
                } else {
                    TrafficPolicy::Cluster
                },
                shares_address: shares == 0,
            };
            (service, hosts)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Nodes, members and advertisements change; each time every speaker comes to what the book says, by what it remembers
    /// of the rounds before.
    #[test]
    fn every_speaker_decides_by_the_book(
        turns in proptest::collection::vec(
            (
                proptest::collection::btree_map(0..40usize, node(), 1..40),
                proptest::collection::vec(advertisement(), 0..4),
                proptest::collection::btree_set(0..40usize, 0..40),
            ),
            1..4,
        ),
        services in proptest::collection::vec(service(), 1..12),
    ) {
        let name = |n: &usize| format!("node-{n:02}");
        let mut remembered: BTreeMap<String, Ranks> = BTreeMap::new();
        for (nodes, ads, lost) in turns {
            let configuration = Configuration {
                pools: [("p".to_owned(), Pool::new("p", vec!["10.0.0.0/16".parse().unwrap()]))].into(),
                l2_advertisements: ads,
                ..Configuration::default()
            };
            let nodes: BTreeMap<String, Node> = nodes.iter().map(|(n, node)| (name(n), node.clone())).collect();
            let lost: BTreeSet<String> = lost.iter().map(name).collect();
            let members: BTreeSet<String> = nodes.keys().filter(|name| !lost.contains(*name)).cloned().collect();
            for me in nodes.keys().take(3) {
                let view = View { me, configuration: &configuration, nodes: &nodes, members: Some(&members), ignore_exclude_label: false };
                let mut round = Layer2Round::new(view, remembered.entry(me.clone()).or_default());
                for (service, hosts) in &services {
                    let endpoints = Endpoints { any: !hosts.is_empty(), nodes: hosts.iter().map(name).collect() };
                    let decision = round.decide(service, &endpoints);
                    let expected = owner_by_the_book(&view, service, &endpoints);
                    prop_assert_eq!(decision.owner, expected.as_deref());
                    prop_assert_eq!(decision.here.is_ok(), expected.as_deref() == Some(me.as_str()));
                }
            }
        }
    }
}

#[test]
fn the_shorter_interval_and_the_more_careful_way_hold_where_advertisements_differ() {
    let adv = |refresh: Option<u64>, on_conflict| L2Advertisement {
        refresh: refresh.map(Duration::from_secs),
        on_conflict,
        ..L2Advertisement::default()
    };
    let configuration = Configuration {
        pools: [(
            "p".to_owned(),
            Pool::new("p", vec!["10.0.0.0/16".parse().unwrap()]),
        )]
        .into(),
        l2_advertisements: vec![
            adv(None, OnConflict::Warn),
            adv(Some(30), OnConflict::Withhold),
            adv(Some(60), OnConflict::Warn),
        ],
        ..Configuration::default()
    };
    let nodes = [("me".to_owned(), Node::default())].into();
    let view = View {
        me: "me",
        configuration: &configuration,
        nodes: &nodes,
        members: None,
        ignore_exclude_label: false,
    };
    let service = Service {
        ingress: ["10.0.0.1".parse().unwrap()].into(),
        labels: Default::default(),
        traffic_policy: TrafficPolicy::Cluster,
        shares_address: false,
    };
    let endpoints = Endpoints {
        any: true,
        nodes: BTreeSet::new(),
    };
    let mut ranks = Ranks::default();
    let here = Layer2Round::new(view, &mut ranks)
        .decide(&service, &endpoints)
        .here
        .unwrap();
    assert_eq!(here.refresh, Some(Duration::from_secs(30)));
    assert_eq!(here.on_conflict, OnConflict::Withhold);
}
