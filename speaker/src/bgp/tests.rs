//! Sessions over real sockets, with a peer that this process plays.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod changes;
mod graceful;
mod incoming;
mod router;

use super::socket::set_md5;
use super::*;
use ferrolb_bgp::wire::{Context, Message, Notification, Update};
use router::{Router, router_open, soon};
use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpListener;

const MY_AS: u32 = 64512;
const PEER_AS: u32 = 64513;

struct Speaker {
    bgp: Bgp,
    /// What every peer shall have.
    routes: RefCell<BTreeMap<IpNet, Attributes>>,
    events: mpsc::Receiver<RoutesSent>,
    registry: prometheus_client::registry::Registry,
    shutdown: CancellationToken,
}

fn speaker() -> Speaker {
    let mut registry = prometheus_client::registry::Registry::default();
    let shutdown = CancellationToken::new();
    let (bgp, events) = Bgp::start("node-1", &BgpMetrics::new(&mut registry), shutdown.clone());
    Speaker {
        bgp,
        routes: RefCell::default(),
        events,
        registry,
        shutdown,
    }
}

impl Speaker {
    fn set_peers(&self, peers: BTreeMap<String, PeerSpec>) {
        self.bgp.set_peers(peers, |_| self.routes.borrow().clone());
    }

    fn set_routes(&self, routes: BTreeMap<IpNet, Attributes>) {
        let former = self.routes.replace(routes);
        let routes = self.routes.borrow();
        let differs = |prefix: &&IpNet| former.get(*prefix) != routes.get(*prefix);
        let all = former.keys().chain(routes.keys());
        let prefixes = all.filter(differs).copied().collect();
        self.bgp
            .change_routes(&prefixes, |_, prefix| routes.get(prefix).cloned());
    }

    async fn wait_for(
        &self,
        what: &str,
        check: impl FnMut(&BTreeMap<String, PeerStatus>) -> bool,
    ) -> PeerStatus {
        let mut status = self.bgp.status();
        let all = soon(what, status.wait_for(check)).await.unwrap();
        all.get("router").cloned().unwrap_or_else(PeerStatus::new)
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

async fn listener() -> (TcpListener, PeerSpec) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let spec = spec(listener.local_addr().unwrap());
    (listener, spec)
}

fn spec(address: SocketAddr) -> PeerSpec {
    PeerSpec {
        name: "router".to_owned(),
        target: Target::Address(address.ip()),
        port: address.port(),
        my_asn: MY_AS,
        peer_asn: PeerAs::Exact(PEER_AS),
        hold_time: None,
        keepalive_time: None,
        connect_time: None,
        router_id: None,
        source_address: None,
        vrf: None,
        password: None,
        ebgp_multihop: false,
        ttl_security: None,
        passive: false,
        graceful_restart: false,
        graceful_shutdown: None,
        families: Families::BOTH,
    }
}

fn peers(spec: &PeerSpec) -> BTreeMap<String, PeerSpec> {
    BTreeMap::from([(spec.name.clone(), spec.clone())])
}

fn routes(prefixes: &[&str]) -> BTreeMap<IpNet, Attributes> {
    prefixes
        .iter()
        .map(|prefix| (net(prefix), Attributes::default()))
        .collect()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[tokio::test]
async fn routes_that_were_desired_before_the_session_are_sent_when_it_is_up() {
    let mut speaker = speaker();
    let (listener, spec) = listener().await;
    speaker.set_routes(routes(&[
        "198.51.100.1/32",
        "198.51.100.2/32",
        "2001:db8::1/128",
    ]));
    speaker.set_peers(peers(&spec));
    let (mut router, open) = Router::established(&listener).await;
    assert_eq!(
        (open.asn(), open.hold_time, open.router_id),
        (MY_AS, 90, Ipv4Addr::LOCALHOST)
    );
    let first = router.update().await;
    assert_eq!(
        first.announced,
        [
            "198.51.100.1/32".parse().unwrap(),
            "198.51.100.2/32".parse().unwrap()
        ]
    );
    assert_eq!(first.attributes.next_hop, Some(Ipv4Addr::LOCALHOST));

    let sent = soon("event", speaker.events.recv()).await.unwrap();
    assert_eq!(
        (&*sent.peer, &sent.prefixes[..]),
        (
            "router",
            &[net("198.51.100.1/32"), net("198.51.100.2/32")][..]
        )
    );
    let status = speaker
        .wait_for("routes in status", |all| {
            all.get("router").is_some_and(|p| p.prefixes_sent == 2)
        })
        .await;
    assert_eq!(
        (status.state, status.last_error),
        (State::Established, None)
    );
    // The loopback interface has no IPv6 address that another machine could send to.
    assert_eq!(status.prefixes_not_advertised, 1);
    assert!(
        status
            .not_advertised_because
            .unwrap()
            .contains("no address of ipv6-unicast")
    );
    assert_eq!(status.negotiated.unwrap().peer_as, PEER_AS);

    let metrics = speaker.metrics();
    let label = format!(
        "{{peer=\"{}\",vrf=\"default\"}}",
        listener.local_addr().unwrap()
    );
    for line in [
        format!("metallb_bgp_session_up{label} 1"),
        format!("metallb_bgp_updates_total{label} 3"),
        format!("metallb_bgp_announced_prefixes_total{label} 2"),
        format!("metallb_bgp_pending_prefixes_total{label} 0"),
    ] {
        assert!(metrics.contains(&line), "{line} in\n{metrics}");
    }
}

#[tokio::test]
async fn only_differences_are_sent_and_other_changes_leave_the_session_alone() {
    let speaker = speaker();
    let (listener, spec) = listener().await;
    speaker.set_peers(peers(&spec));
    speaker.set_routes(routes(&["198.51.100.1/32"]));
    let (mut router, _) = Router::established(&listener).await;
    assert_eq!(router.initial_routes().await, [net("198.51.100.1/32")]);

    let other = PeerSpec {
        name: "other".to_owned(),
        ..spec.clone()
    };
    let mut two = peers(&spec);
    two.insert(
        other.name.clone(),
        PeerSpec {
            target: Target::Address(IpAddr::from([127, 0, 0, 2])),
            port: 1,
            ..other
        },
    );
    speaker.set_peers(two);
    speaker.set_peers(peers(&spec));
    speaker.set_routes(routes(&["198.51.100.1/32"]));
    speaker.set_routes(routes(&["198.51.100.2/32"]));
    // What may take the place of what goes is there first.
    let comes = router.update().await;
    assert_eq!((comes.withdrawn.len(), comes.announced.len()), (0, 1));
    assert_eq!(
        router.update().await.withdrawn,
        ["198.51.100.1/32".parse().unwrap()]
    );
    speaker.set_routes(BTreeMap::new());
    assert_eq!(
        router.update().await.withdrawn,
        ["198.51.100.2/32".parse().unwrap()]
    );
}

#[tokio::test]
async fn the_end_of_the_speaker_is_told_to_every_peer_before_it_ends() {
    let speaker = speaker();
    let (listener, spec) = listener().await;
    speaker.set_peers(peers(&spec));
    let (mut router, _) = Router::established(&listener).await;
    speaker
        .wait_for("session", |all| {
            all.get("router")
                .is_some_and(|p| p.state == State::Established)
        })
        .await;
    speaker.shutdown.cancel();
    let (notification, ()) = tokio::join!(
        async {
            let notification = router.notification().await;
            drop(router);
            notification
        },
        soon("end", speaker.bgp.closed())
    );
    assert_eq!(
        notification.shutdown_text(),
        Some("the speaker of this node is stopping")
    );
}

#[tokio::test]
async fn a_peer_that_takes_nothing_does_not_hold_up_the_end() {
    let speaker = speaker();
    let (listener, spec) = listener().await;
    speaker.set_peers(peers(&spec));
    let (_router, _) = Router::established(&listener).await;
    speaker
        .wait_for("session", |all| {
            all.get("router")
                .is_some_and(|p| p.state == State::Established)
        })
        .await;
    speaker.shutdown.cancel();
    // The peer takes nothing for ever, so an end within any time is one that did not wait for it.
    soon("end", speaker.bgp.closed()).await;
}

#[tokio::test]
async fn garbage_is_answered_and_the_session_comes_back() {
    let speaker = speaker();
    let (listener, spec) = listener().await;
    speaker.set_routes(routes(&["198.51.100.1/32"]));
    speaker.set_peers(peers(&spec));
    let (mut router, _) = Router::established(&listener).await;
    router.initial_routes().await;
    router.send_bytes(b"GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(
        router.notification().await.to_string(),
        "message header error: connection not synchronised (1/1)"
    );
    drop(router);
    let (mut router, _) = Router::established(&listener).await;
    assert_eq!(router.initial_routes().await, [net("198.51.100.1/32")]);
    let status = speaker
        .wait_for("session", |all| {
            all.get("router")
                .is_some_and(|p| p.state == State::Established)
        })
        .await;
    assert!(status.last_error.unwrap().contains("not synchronised"));
}

#[tokio::test]
async fn a_peer_in_the_wrong_as_is_refused_and_the_status_says_so() {
    let speaker = speaker();
    let (listener, spec) = listener().await;
    speaker.set_peers(peers(&PeerSpec {
        peer_asn: PeerAs::Exact(65000),
        ..spec
    }));
    let mut router = Router::accept(&listener).await;
    router.receive().await;
    router.send(&router_open(90)).await;
    assert_eq!(
        router.notification().await.to_string(),
        "OPEN message error: bad peer AS (2/2)"
    );
    let status = speaker
        .wait_for("error", |all| all["router"].last_error.is_some())
        .await;
    assert_eq!(
        status.last_error.as_deref(),
        Some("the peer is in AS 64513, expected AS 65000: correct spec.peerASN or the router")
    );
}

#[tokio::test]
async fn what_the_peer_said_last_stays_in_the_status_while_it_closes_without_a_word() {
    let speaker = speaker();
    let (listener, spec) = listener().await;
    speaker.set_peers(peers(&spec));
    let (mut router, _) = Router::established(&listener).await;
    let notification = Notification::cease(
        ferrolb_bgp::wire::Cease::AdministrativeShutdown,
        "until six",
    );
    router.send(&Message::Notification(notification)).await;
    drop(router);
    drop(Router::accept(&listener).await);
    let said = "the peer ended the session: cease: administrative shutdown (6/2), the peer says \"until six\"";
    let expected = format!("{said}; since then the peer closes every connection");
    let is = |p: &PeerStatus| p.last_error.as_ref() == Some(&expected);
    speaker
        .wait_for("both in the status", |all| {
            all.get("router").is_some_and(is)
        })
        .await;
}

#[tokio::test]
async fn a_route_refresh_brings_all_routes_again() {
    let speaker = speaker();
    let (listener, spec) = listener().await;
    speaker.set_routes(routes(&["198.51.100.1/32"]));
    speaker.set_peers(peers(&spec));
    let (mut router, _) = Router::established(&listener).await;
    router.initial_routes().await;
    router
        .send(&Message::RouteRefresh(
            ferrolb_bgp::wire::RouteRefresh::request(Family::Ipv4Unicast),
        ))
        .await;
    assert_eq!(router.update().await.announced.len(), 1);
}

#[tokio::test]
async fn an_address_that_the_node_does_not_have_is_named_in_the_status() {
    let speaker = speaker();
    let (_listener, spec) = listener().await;
    speaker.set_peers(peers(&PeerSpec {
        source_address: Some("192.0.2.99".parse().unwrap()),
        ..spec
    }));
    let status = speaker
        .wait_for("error", |all| {
            all.get("router").is_some_and(|p| p.last_error.is_some())
        })
        .await;
    let expected = "cannot connect: this node has no address 192.0.2.99 to connect from";
    assert_eq!(status.last_error.as_deref(), Some(expected));
}

#[tokio::test]
async fn a_source_address_is_where_the_connection_comes_from() {
    let speaker = speaker();
    let (listener, spec) = listener().await;
    let source: IpAddr = "127.0.0.5".parse().unwrap();
    let router_id = Some(Ipv4Addr::new(1, 2, 3, 4));
    speaker.set_peers(peers(&PeerSpec {
        source_address: Some(source),
        router_id,
        ..spec
    }));
    let (router, open) = Router::established(&listener).await;
    assert_eq!(router.stream.peer_addr().unwrap().ip(), source);
    assert_eq!(open.router_id, Ipv4Addr::new(1, 2, 3, 4));
}

/// Both families; the right password, then a wrong one.
#[tokio::test]
async fn a_password_must_be_the_same_on_both_sides() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(address).await.unwrap();
        let from: SocketAddr = address.parse().unwrap();
        set_md5(&listener, from, &Secret::new("right")).unwrap();
        let right = PeerSpec {
            password: Some(Secret::new("right")),
            connect_time: Some(Duration::from_secs(1)),
            ..spec(listener.local_addr().unwrap())
        };
        let first = speaker();
        first.set_peers(peers(&right));
        let (_router, _) = Router::established(&listener).await;

        let second = speaker();
        second.set_peers(peers(&PeerSpec {
            password: Some(Secret::new("wrong")),
            ..right
        }));
        let status = second
            .wait_for("error", |all| {
                all.get("router").is_some_and(|p| p.last_error.is_some())
            })
            .await;
        assert!(
            status.last_error.unwrap().contains("authentication"),
            "{address}"
        );
    }
}

#[test]
fn a_password_shows_nowhere() {
    let spec = PeerSpec {
        password: Some(Secret::new("hunter2")),
        ..spec("192.0.2.1:179".parse().unwrap())
    };
    assert!(!format!("{spec:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_password_that_is_too_long_is_refused_with_its_limit() {
    let speaker = speaker();
    let (_listener, spec) = listener().await;
    speaker.set_peers(peers(&PeerSpec {
        password: Some(Secret::new(&"x".repeat(81))),
        ..spec
    }));
    let status = speaker
        .wait_for("error", |all| {
            all.get("router").is_some_and(|p| p.last_error.is_some())
        })
        .await;
    assert!(status.last_error.unwrap().contains("longer than 80 octets"));
}

#[tokio::test]
async fn a_flood_of_routes_is_forgotten_and_ours_still_go_out() {
    let speaker = speaker();
    let (listener, spec) = listener().await;
    speaker.set_peers(peers(&spec));
    let (mut router, _) = Router::established(&listener).await;
    router.initial_routes().await;
    // 100,000 routes, a few hundred in each message.
    let mut flood = Vec::new();
    for block in 0..200u32 {
        let announced = (0..500u32)
            .map(|n| {
                ipnet::Ipv4Net::new(Ipv4Addr::from(0x0a00_0000 + (block * 500 + n) * 4), 30)
                    .unwrap()
            })
            .collect();
        let update = Update {
            attributes: ferrolb_bgp::wire::PathAttributes {
                origin: Some(ferrolb_bgp::wire::Origin::Igp),
                as_path: Some(ferrolb_bgp::wire::AsPath::of(PEER_AS)),
                next_hop: Some(Ipv4Addr::LOCALHOST),
                ..Default::default()
            },
            announced,
            ..Update::default()
        };
        flood.extend(
            Message::Update(Box::new(update))
                .encode(&Context::default())
                .unwrap(),
        );
    }
    soon("room for the flood", router.send_bytes(&flood)).await;
    speaker.set_routes(routes(&["198.51.100.1/32"]));
    assert_eq!(
        router.update().await.announced,
        ["198.51.100.1/32".parse().unwrap()]
    );
    let status = speaker
        .wait_for("routes in status", |all| {
            all.get("router").is_some_and(|p| p.prefixes_sent == 1)
        })
        .await;
    assert_eq!(status.state, State::Established);
}

#[tokio::test]
async fn ten_thousand_routes_reach_the_peer_and_one_more_is_one_update() {
    let speaker = speaker();
    let (listener, spec) = listener().await;
    let mut many: BTreeMap<IpNet, Attributes> = (0..10_000u32)
        .map(|n| {
            (
                IpNet::new(Ipv4Addr::from(0x0a00_0000 + n).into(), 32).unwrap(),
                Attributes::default(),
            )
        })
        .collect();
    speaker.set_routes(many.clone());
    speaker.set_peers(peers(&spec));
    let (mut router, _) = Router::established(&listener).await;
    assert_eq!(router.initial_routes().await.len(), 10_000);
    // How fast is `make bench`'s to say.
    for n in 0..50u8 {
        let prefix = format!("198.51.100.{n}/32");
        many.insert(net(&prefix), Attributes::default());
        speaker.set_routes(many.clone());
        let update = router.update().await;
        assert_eq!(update.announced, [prefix.parse().unwrap()]);
        assert!(update.withdrawn.is_empty());
    }
}

#[tokio::test]
async fn a_connection_goes_through_the_device_of_its_vrf() {
    let speaker = speaker();
    let (listener, mut spec) = listener().await;
    // No VRF, but a device as one; by another than this the listener cannot be reached.
    spec.vrf = Some("lo".to_owned());
    speaker.set_routes(routes(&["198.51.100.1/32"]));
    speaker.set_peers(peers(&spec));
    let (mut router, _) = Router::established(&listener).await;
    assert_eq!(router.initial_routes().await, [net("198.51.100.1/32")]);
}

#[tokio::test]
async fn a_vrf_that_this_node_does_not_have_is_named() {
    let speaker = speaker();
    let (_listener, mut spec) = listener().await;
    spec.vrf = Some("vrf-nothere".to_owned());
    speaker.set_peers(peers(&spec));
    let status = speaker
        .wait_for("error", |all| {
            all.get("router")
                .is_some_and(|status| status.last_error.is_some())
        })
        .await;
    let error = status.last_error.unwrap();
    assert!(
        error.contains("this node has no VRF \"vrf-nothere\""),
        "{error}"
    );
}
