//! What was a peer told? Asked of the peer's task, page by page, so that no answer grows with the number of routes.

use ferrolb_bgp::wire::{AsSegment, Community, LargeCommunity, NextHop};
use ferrolb_bgp::{AdjRibOut, Told};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use tokio::sync::oneshot;

/// One route as the peer has it from us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldRoute {
    /// What it leads to.
    pub prefix: IpNet,
    /// Where the peer sends the traffic.
    pub next_hop: IpAddr,
    /// The link-local address beside a global one (RFC 2545).
    pub link_local: Option<Ipv6Addr>,
    /// The ASes on the way, ours alone; none for a peer in our AS.
    pub as_path: Vec<u32>,
    /// LOCAL_PREF, which only peers in our AS get.
    pub local_pref: Option<u32>,
    /// Communities (RFC 1997).
    pub communities: BTreeSet<Community>,
    /// Large communities (RFC 8092).
    pub large_communities: BTreeSet<LargeCommunity>,
}

/// Asks for the first `limit` routes after a prefix.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) after: Option<IpNet>,
    pub(super) limit: usize,
    pub(super) answer: oneshot::Sender<Vec<ToldRoute>>,
}

impl Question {
    /// Answers; whoever asked may be gone.
    pub(super) fn answer(self, rib: &AdjRibOut) {
        let routes = rib.told(self.after).take(self.limit);
        let _ = self.answer.send(routes.map(ToldRoute::from).collect());
    }
}

impl From<Told> for ToldRoute {
    fn from(told: Told) -> Self {
        let (next_hop, link_local) = match told.next_hop {
            NextHop::Body(address) => (address.into(), None),
            NextHop::Multiprotocol { global, link_local } => (global.into(), link_local),
        };
        let attributes = told.attributes;
        let segments = attributes.as_path.map(|path| path.0).unwrap_or_default();
        let as_path = segments.into_iter().flat_map(|segment| match segment {
            AsSegment::Sequence(path)
            | AsSegment::Set(path)
            | AsSegment::ConfederationSequence(path)
            | AsSegment::ConfederationSet(path) => path,
        });
        ToldRoute {
            prefix: told.prefix,
            next_hop,
            link_local,
            as_path: as_path.collect(),
            local_pref: attributes.local_pref,
            communities: attributes.communities.into_iter().collect(),
            large_communities: attributes.large_communities.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferrolb_bgp::wire::{Message, frame_length};
    use ferrolb_bgp::{Attributes, Endpoint, Export, Families, Negotiated};
    use std::time::Duration;

    fn negotiated(internal: bool) -> Negotiated {
        Negotiated {
            peer_as: if internal { 64512 } else { 64513 },
            internal,
            peer_router_id: [192, 0, 2, 9].into(),
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
                local: [192, 0, 2, 1].into(),
                router_id: [192, 0, 2, 1].into(),
                next_hop_v4: None,
                next_hop_v6: Some("2001:db8::1".parse().unwrap()),
            },
        }
    }

    fn ask(rib: &AdjRibOut, after: Option<&str>, limit: usize) -> Vec<ToldRoute> {
        let (sender, mut answer) = oneshot::channel();
        let question = Question {
            after: after.map(|after| after.parse().unwrap()),
            limit,
            answer: sender,
        };
        question.answer(rib);
        answer.try_recv().unwrap()
    }

    /// What the bytes of a session say.
    fn on_the_wire(mut bytes: &[u8], negotiated: &Negotiated) -> Vec<ToldRoute> {
        let mut routes = Vec::new();
        while let Some(length) = frame_length(bytes).unwrap() {
            let message = Message::decode(&bytes[..length], &negotiated.context()).unwrap();
            bytes = &bytes[length..];
            let Message::Update(update) = message else {
                panic!("{message:?}")
            };
            let attributes = &update.attributes;
            let v4 = update.announced.iter().map(|prefix| {
                let next_hop = attributes.next_hop.unwrap().into();
                (IpNet::V4(*prefix), next_hop, None)
            });
            let reach = update.mp_reach.iter().flat_map(|reach| {
                let prefixes = reach.prefixes.iter();
                prefixes.map(|prefix| (*prefix, reach.next_hop, reach.link_local))
            });
            for (prefix, next_hop, link_local) in v4.chain(reach) {
                let path = attributes.as_path.clone().unwrap_or_default();
                let as_path = path.0.iter().flat_map(|segment| match segment {
                    AsSegment::Sequence(path) => path.clone(),
                    other => panic!("{other:?}"),
                });
                routes.push(ToldRoute {
                    prefix,
                    next_hop,
                    link_local,
                    as_path: as_path.collect(),
                    local_pref: attributes.local_pref,
                    communities: attributes.communities.iter().copied().collect(),
                    large_communities: attributes.large_communities.iter().copied().collect(),
                });
            }
        }
        routes.sort_by_key(|route| route.prefix);
        routes
    }

    fn leaves(route: &ToldRoute) -> bool {
        route.communities.contains(&Community::GRACEFUL_SHUTDOWN)
    }

    #[test]
    fn what_is_told_is_what_went_over_the_wire_and_no_more() {
        for internal in [false, true] {
            let negotiated = negotiated(internal);
            let mut rib = AdjRibOut::new();
            let preferred = Attributes {
                local_pref: Some(200),
                communities: [Community(64512 << 16 | 100)].into(),
                ..Attributes::default()
            };
            let prefix = |text: &str| -> IpNet { text.parse().unwrap() };
            rib.set(prefix("10.0.0.1/32"), Some(&Attributes::default()));
            rib.set(prefix("10.0.0.2/32"), Some(&preferred));
            rib.set(prefix("2001:db8:1::1/128"), Some(&preferred));
            rib.established(Export::new(64512, &negotiated));
            assert!(ask(&rib, None, 10).is_empty());
            let batch = rib.next_batch(100_000).unwrap();
            // Desired, and not sent.
            rib.set(prefix("10.0.0.3/32"), Some(&preferred));
            rib.set(prefix("10.0.0.1/32"), Some(&preferred));
            let told = ask(&rib, None, 10);
            assert_eq!(told, on_the_wire(&batch.bytes, &negotiated));
            assert_eq!(told.len(), 3);
            assert_eq!(ask(&rib, None, 2), told[..2]);
            assert_eq!(ask(&rib, Some("10.0.0.2/32"), 2), told[2..]);
            // That it is about to go away is told once it was told to the peer.
            rib.shut_down_gracefully();
            assert!(!ask(&rib, None, 10).iter().any(leaves));
            let batch = rib.next_batch(100_000).unwrap();
            let told = ask(&rib, None, 10);
            assert_eq!(told, on_the_wire(&batch.bytes, &negotiated));
            assert!(told.len() == 4 && told.iter().all(leaves));
            rib.down();
            assert!(ask(&rib, None, 10).is_empty());
        }
    }
}
