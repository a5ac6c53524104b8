//! A model of the peer: a map that the messages of an adj-RIB-out are applied to.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs
)]

use ferrolb_bgp::session::Endpoint;
use ferrolb_bgp::wire::{
    Community, Context, Message, PathAttributes, Refresh, RouteRefresh, Update, frame_length,
};
use ferrolb_bgp::{AdjRibOut, Attributes, Batch, Export, Families, Family, Negotiated};
use ipnet::IpNet;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

pub const V4_HOP: &str = "192.0.2.1";
pub const V6_HOP: &str = "2001:db8::1";

pub fn negotiated() -> Negotiated {
    Negotiated {
        peer_as: 64513,
        internal: false,
        peer_router_id: Ipv4Addr::new(192, 0, 2, 2),
        hold_time: Duration::from_secs(90),
        keepalive_time: Duration::from_secs(30),
        families: Families::BOTH,
        four_octet_as: true,
        ipv4_over_ipv6: false,
        extended_messages: false,
        path_identifiers: Families::default(),
        enhanced_refresh: false,
        keeps_routes: None,
        endpoint: Endpoint {
            local: V4_HOP.parse().unwrap(),
            router_id: Ipv4Addr::new(192, 0, 2, 1),
            next_hop_v4: None,
            next_hop_v6: Some(V6_HOP.parse().unwrap()),
        },
    }
}

pub fn export() -> Export {
    Export::new(64512, &negotiated())
}

pub fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub fn with_community(value: u32) -> Attributes {
    Attributes {
        communities: [Community(value)].into(),
        ..Attributes::default()
    }
}

pub fn desired(routes: &[(&str, Attributes)]) -> BTreeMap<IpNet, Attributes> {
    routes
        .iter()
        .map(|(prefix, attributes)| (net(prefix), attributes.clone()))
        .collect()
}

/// What a router would have after the messages.
#[derive(Debug, Default)]
pub struct Router {
    pub routes: BTreeMap<IpNet, (PathAttributes, IpAddr)>,
    pub withdrawn: Vec<IpNet>,
    pub markers: Vec<Family>,
    pub messages: usize,
    /// Every message in a few letters, in order: how many prefixes it has, and of which family.
    pub log: Vec<String>,
    /// The length of the longest message.
    pub longest: usize,
    /// Routes that were not sent again since a repetition of their family began (RFC 7313 section 4).
    stale: BTreeMap<Family, BTreeSet<IpNet>>,
}

impl Router {
    pub fn take(&mut self, batch: &Batch, context: &Context) {
        // What identifies paths when we write does so when the router reads.
        let context = Context {
            identifiers_read: context.identifiers_written,
            ..*context
        };
        let mut stream = batch.bytes.as_slice();
        let before = self.messages;
        while let Some(length) = frame_length(stream).unwrap() {
            let (frame, rest) = stream.split_at(length);
            stream = rest;
            self.messages += 1;
            self.longest = self.longest.max(length);
            match Message::decode(frame, &context).unwrap() {
                Message::Update(update) => self.update(&update),
                Message::RouteRefresh(refresh) => self.bound(&refresh),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(self.messages - before, batch.updates + batch.refreshes);
    }

    fn update(&mut self, update: &Update) {
        assert_eq!(update.fault, None);
        if let Some(family) = update.end_of_rib() {
            self.markers.push(family);
            self.log.push(format!("marker {family}"));
        }
        let gone = update.withdrawn.iter().map(|net| IpNet::V4(*net));
        let unreachable = update.mp_unreach.iter().flat_map(|u| &u.prefixes).copied();
        for prefix in gone.chain(unreachable) {
            assert!(
                self.routes.remove(&prefix).is_some(),
                "{prefix} was not there"
            );
            self.withdrawn.push(prefix);
            self.log.push(format!("withdraw {prefix}"));
        }
        let hop = update.attributes.next_hop.map(IpAddr::V4);
        let mut told: Vec<(IpNet, IpAddr)> = Vec::new();
        for prefix in &update.announced {
            told.push((IpNet::V4(*prefix), hop.unwrap()));
        }
        if let Some(reach) = &update.mp_reach {
            told.extend(reach.prefixes.iter().map(|net| (*net, reach.next_hop)));
        }
        if let Some((prefix, _)) = told.first() {
            let family = Family::of(prefix);
            self.log.push(format!("{} of {family}", told.len()));
        }
        for (prefix, hop) in told {
            if let Some(stale) = self.stale.get_mut(&Family::of(&prefix)) {
                stale.remove(&prefix);
            }
            self.routes.insert(prefix, (update.attributes.clone(), hop));
        }
    }

    fn bound(&mut self, refresh: &RouteRefresh) {
        let family = Family::from_numbers(refresh.afi, refresh.safi).unwrap();
        match refresh.meaning(true) {
            Some(Refresh::Begin) => {
                // RFC 7313 section 4: it would be ignored before End-of-RIB.
                assert!(self.markers.contains(&family), "too early for {family}");
                let all = self.routes.keys().copied();
                let stale = all.filter(|net| Family::of(net) == family).collect();
                self.stale.insert(family, stale);
                self.log.push(format!("begin {family}"));
            }
            Some(Refresh::End) => {
                let stale = self.stale.remove(&family);
                for prefix in stale.expect("an end follows a beginning") {
                    self.routes.remove(&prefix);
                }
                self.log.push(format!("end {family}"));
            }
            other => panic!("{other:?}"),
        }
    }

    pub fn drain(&mut self, rib: &mut AdjRibOut, context: &Context) -> Vec<Batch> {
        let batches: Vec<Batch> = std::iter::from_fn(|| rib.next_batch(usize::MAX)).collect();
        batches.iter().for_each(|batch| self.take(batch, context));
        batches
    }

    /// Whether a repetition has begun and not ended.
    pub fn in_repetition(&self) -> bool {
        !self.stale.is_empty()
    }

    /// The words for what was said since this was asked last.
    pub fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }
}

/// A session that has just been established with these routes, and its router.
pub fn up(export: Export, routes: &[(&str, Attributes)]) -> (AdjRibOut, Router) {
    let mut rib = AdjRibOut::new();
    rib.set_desired(&desired(routes));
    assert_eq!(rib.next_batch(1), None);
    let context = export.context;
    rib.established(export);
    let mut router = Router::default();
    router.drain(&mut rib, &context);
    (rib, router)
}

pub fn prefix() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (0..40u32).prop_map(|n| IpNet::new(Ipv4Addr::from(0x0a00_0000 + n).into(), 32).unwrap()),
        (0..20u16).prop_map(|n| format!("2001:db8:{n:x}::/64").parse().unwrap()),
    ]
}
