//! To which peers is a Service announced from here? Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::bgp::{Families, Family};
use crate::decide::Announced;

/// The peers that get some route of a Service, over sessions that carry its family.
pub(crate) fn peers_of<'a>(
    announced: Option<&Announced>,
    sessions: &'a BTreeMap<String, Families>,
) -> BTreeSet<&'a str> {
    let routes = announced.and_then(|announced| announced.bgp.as_deref().ok());
    let routes = routes.unwrap_or_default();
    sessions
        .iter()
        .filter(|(peer, families)| {
            routes.iter().any(|route| {
                let peers = &route.terms.peers;
                (peers.is_empty() || peers.contains(*peer))
                    && families.contains(Family::of(&route.prefix))
            })
        })
        .map(|(peer, _)| peer.as_str())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ferrolb_announcement::{Route, RouteAttributes, Terms, Withdrawn};

    use super::*;

    #[test]
    fn a_peer_is_told_of_where_a_route_is_meant_for_it_and_its_session_carries_it() {
        let both = Families::BOTH;
        let (four, six) = (
            Families {
                ipv4: true,
                ..Families::default()
            },
            Families {
                ipv6: true,
                ..Families::default()
            },
        );
        let sessions = [("both", both), ("four", four), ("six", six)];
        let sessions = sessions
            .map(|(name, families)| (name.to_owned(), families))
            .into();
        let announced = |routes: &[(&str, &[&str])]| Announced {
            ingress: Arc::default(),
            layer2: Err(Withdrawn::NotOwner),
            bgp: Ok(routes
                .iter()
                .map(|(prefix, peers)| Route {
                    prefix: prefix.parse().unwrap(),
                    terms: Arc::new(Terms {
                        attributes: RouteAttributes::default(),
                        peers: peers.iter().map(|peer| (*peer).to_owned()).collect(),
                    }),
                })
                .collect()),
        };
        for (routes, expected) in [
            (&[][..], &[][..]),
            (&[("192.0.2.1/32", &[][..])], &["both", "four"]),
            (&[("2001:db8::1/128", &[])], &["both", "six"]),
            (&[("192.0.2.1/32", &["six"])], &[]),
            (&[("192.0.2.1/32", &["four", "gone"])], &["four"]),
            (
                &[("192.0.2.1/32", &["four"]), ("2001:db8::1/128", &["both"])],
                &["both", "four"],
            ),
        ] {
            let peers: Vec<&str> = peers_of(Some(&announced(routes)), &sessions)
                .into_iter()
                .collect();
            assert_eq!(peers, expected, "{routes:?}");
        }
        assert!(peers_of(None, &sessions).is_empty());
    }
}
