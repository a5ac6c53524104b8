//! What whoever may read the metrics can ask a speaker about BGP, as JSON.
//!
//! `/bgp/sessions` has every session, and `/bgp/adj-rib-out?peer=NAME` what that peer was told: at most `limit` routes (1 to 1000, which is
//! also the default) after the prefix `after`. Where there may be more, `next` is the `after` to ask with.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use ipnet::IpNet;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::bgp::{Bgp, Families, Negotiated, PeerStatus, ToldRoute};

/// Routes in one answer.
const ROUTES_AT_MOST: usize = 1000;

/// The answers.
pub fn router(bgp: Arc<Bgp>) -> Router {
    Router::new()
        .route("/bgp/sessions", get(sessions))
        .route("/bgp/adj-rib-out", get(adj_rib_out))
        .with_state(bgp)
}

async fn sessions(State(bgp): State<Arc<Bgp>>) -> Json<Value> {
    let status = bgp.status();
    let sessions: Vec<Value> = status
        .borrow()
        .iter()
        .map(|(peer, status)| session(peer, status))
        .collect();
    Json(json!({"sessions": sessions}))
}

async fn adj_rib_out(State(bgp): State<Arc<Bgp>>, RawQuery(query): RawQuery) -> Response {
    let question = match Question::parse(query.as_deref().unwrap_or_default()) {
        Ok(question) => question,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error),
    };
    let Question { peer, after, limit } = question;
    match bgp.adj_rib_out(&peer, after, limit).await {
        Some(routes) => {
            let next = routes.last().filter(|_| routes.len() == limit);
            let next = next.map(|route| route.prefix.to_string());
            let routes: Vec<Value> = routes.iter().map(route).collect();
            Json(json!({"peer": peer, "routes": routes, "next": next})).into_response()
        }
        None => {
            let error = format!("this node has no session with a BGPPeer {peer:?}");
            refuse(StatusCode::NOT_FOUND, &error)
        }
    }
}

fn refuse(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({"error": error}))).into_response()
}

/// What is asked of an adj-RIB-out.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    peer: String,
    after: Option<IpNet>,
    limit: usize,
}

impl Question {
    fn parse(query: &str) -> Result<Self, String> {
        let given: BTreeMap<_, _> = form_urlencoded::parse(query.as_bytes()).collect();
        if let Some(unknown) = given
            .keys()
            .find(|key| !["peer", "after", "limit"].contains(&key.as_ref()))
        {
            return Err(format!(
                "{unknown:?} cannot be asked for; ask for peer, after and limit"
            ));
        }
        let peer = given.get("peer").filter(|peer| !peer.is_empty());
        let peer = peer.ok_or("name the BGPPeer, as in ?peer=NAME")?;
        let after = given.get("after").map(|text| {
            let prefix = text.parse();
            prefix.map_err(|_| format!("after={text} is no prefix, for example 192.0.2.1/32"))
        });
        let limit = given.get("limit").map(|text| match text.parse() {
            Ok(limit @ 1..=ROUTES_AT_MOST) => Ok(limit),
            _ => Err(format!(
                "limit={text} is no number from 1 to {ROUTES_AT_MOST}"
            )),
        });
        Ok(Question {
            peer: peer.to_string(),
            after: after.transpose()?,
            limit: limit.transpose()?.unwrap_or(ROUTES_AT_MOST),
        })
    }
}

fn session(peer: &str, status: &PeerStatus) -> Value {
    let since = Timestamp::try_from(status.since).ok();
    json!({
        "peer": peer,
        "state": status.state.to_string(),
        "since": since.map(|since| since.to_string()),
        "lastError": status.last_error,
        "negotiated": status.negotiated.as_ref().map(negotiated),
        "prefixesSent": status.prefixes_sent,
        "prefixesPending": status.prefixes_pending,
        "prefixesNotAdvertised": status.prefixes_not_advertised,
        "notAdvertisedBecause": status.not_advertised_because,
    })
}

fn negotiated(negotiated: &Negotiated) -> Value {
    let texts = |families: Families| -> Vec<String> {
        families.iter().map(|family| family.to_string()).collect()
    };
    let families = texts(negotiated.families);
    let paths = texts(negotiated.path_identifiers);
    json!({
        "peerAS": negotiated.peer_as,
        "internal": negotiated.internal,
        "peerRouterID": negotiated.peer_router_id,
        "localAddress": negotiated.endpoint.local,
        "routerID": negotiated.endpoint.router_id,
        "holdTimeSeconds": negotiated.hold_time.as_secs(),
        "families": families,
        "fourOctetAS": negotiated.four_octet_as,
        "ipv4OverIPv6": negotiated.ipv4_over_ipv6,
        "extendedMessages": negotiated.extended_messages,
        "pathIdentifiers": paths,
        "enhancedRouteRefresh": negotiated.enhanced_refresh,
        "keepsRoutesOverRestart": negotiated.keeps_routes.is_some(),
    })
}

fn route(route: &ToldRoute) -> Value {
    let texts = |texts: Vec<String>| -> Value { texts.into() };
    json!({
        "prefix": route.prefix,
        "nextHop": route.next_hop,
        "linkLocal": route.link_local,
        "asPath": route.as_path,
        "localPref": route.local_pref,
        "communities": texts(route.communities.iter().map(ToString::to_string).collect()),
        "largeCommunities": texts(route.large_communities.iter().map(ToString::to_string).collect()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::Community;

    #[test]
    fn a_question_names_the_peer_and_asks_for_no_more_than_fits() {
        let asked = |peer: &str, after: Option<&str>, limit| {
            Ok(Question {
                peer: peer.to_owned(),
                after: after.map(|after| after.parse().unwrap()),
                limit,
            })
        };
        let full = "peer=tor-1&limit=10&after=2001:db8::/64";
        assert_eq!(
            Question::parse(full),
            asked("tor-1", Some("2001:db8::/64"), 10)
        );
        assert_eq!(Question::parse("peer=a%2Eb"), asked("a.b", None, 1000));
        for (query, part) in [
            ("", "?peer=NAME"),
            ("peer=", "?peer=NAME"),
            ("peer=a&limit=0", "from 1 to 1000"),
            ("peer=a&limit=1001", "from 1 to 1000"),
            ("peer=a&after=10.0.0.1", "is no prefix"),
            ("peer=a&page=2", "\"page\" cannot be asked for"),
        ] {
            let error = Question::parse(query).unwrap_err();
            assert!(error.contains(part), "{query}: {error}");
        }
    }

    #[test]
    fn a_route_is_written_as_people_write_it() {
        let told = ToldRoute {
            prefix: "192.0.2.1/32".parse().unwrap(),
            next_hop: "10.0.0.1".parse().unwrap(),
            link_local: None,
            as_path: vec![64512],
            local_pref: None,
            communities: [Community(64512 << 16 | 100)].into(),
            large_communities: [].into(),
        };
        assert_eq!(
            route(&told),
            json!({
                "prefix": "192.0.2.1/32", "nextHop": "10.0.0.1", "linkLocal": null, "asPath": [64512], "localPref": null,
                "communities": ["64512:100"], "largeCommunities": [],
            })
        );
    }
}
