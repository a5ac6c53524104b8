//! Connections that the peer opens.

use super::*;
use ferrolb_bgp::wire::Cease;
use tokio::net::TcpSocket;

/// Our side listens; the peer does not, unless a test says so.
async fn listening(change: impl FnOnce(&mut PeerSpec)) -> (Speaker, SocketAddr, PeerSpec) {
    let speaker = speaker();
    speaker.bgp.listen(0).unwrap();
    let ours = speaker.bgp.doors.addresses();
    let port = ours
        .iter()
        .find(|address| address.is_ipv4())
        .unwrap()
        .port();
    let (closed, mut spec) = listener().await;
    drop(closed);
    change(&mut spec);
    speaker.set_routes(routes(&["198.51.100.1/32"]));
    speaker.set_peers(peers(&spec));
    (speaker, SocketAddr::from((Ipv4Addr::LOCALHOST, port)), spec)
}

async fn connect_from(source: &str, to: SocketAddr) -> Router {
    let socket = TcpSocket::new_v4().unwrap();
    socket
        .bind(SocketAddr::new(source.parse().unwrap(), 0))
        .unwrap();
    Router::of(soon("connection", socket.connect(to)).await.unwrap())
}

/// Brings the session up on a connection that is there.
async fn bring_up(router: &mut Router) {
    assert!(matches!(router.receive().await, Some(Message::Open(_))));
    router.send(&router_open(90)).await;
    assert_eq!(router.receive().await, Some(Message::Keepalive));
    router.send(&Message::Keepalive).await;
}

#[tokio::test]
async fn a_peer_that_connects_to_us_gets_its_routes() {
    let (speaker, ours, _spec) = listening(|_| ()).await;
    let mut router = connect_from("127.0.0.1", ours).await;
    bring_up(&mut router).await;
    assert_eq!(router.initial_routes().await, [net("198.51.100.1/32")]);
    let status = speaker
        .wait_for("session", |all| all["router"].state == State::Established)
        .await;
    assert_eq!(status.prefixes_sent, 1);
    // And again, after it went.
    drop(router);
    speaker
        .wait_for("end", |all| all["router"].state != State::Established)
        .await;
    let mut router = loop {
        let mut router = connect_from("127.0.0.1", ours).await;
        // It is refused for the time of a rest after the loss.
        if matches!(router.receive().await, Some(Message::Open(_))) {
            break router;
        }
    };
    router.send(&router_open(90)).await;
    assert_eq!(router.receive().await, Some(Message::Keepalive));
    router.send(&Message::Keepalive).await;
    assert_eq!(router.initial_routes().await, [net("198.51.100.1/32")]);
}

#[tokio::test]
async fn a_connection_from_an_address_that_is_no_peers_is_closed() {
    let (_speaker, ours, _spec) = listening(|_| ()).await;
    let mut stranger = connect_from("127.0.0.2", ours).await;
    assert_eq!(stranger.receive().await, None);
}

/// Nobody can say whose a connection is then, and the key of one would let in who has it as the other.
#[tokio::test]
async fn of_two_peers_with_one_address_none_is_let_in() {
    let (speaker, ours, spec) = listening(|_| ()).await;
    let mut two = peers(&spec);
    let other = PeerSpec {
        name: "other".to_owned(),
        port: 1,
        ..spec
    };
    two.insert(other.name.clone(), other);
    speaker.set_peers(two);
    let mut router = connect_from("127.0.0.1", ours).await;
    assert_eq!(router.receive().await, None);
}

/// RFC 4271 section 6.8: the connection stays that the side with the greater identifier opened. The router's is 10.9.9.9.
#[tokio::test]
async fn of_two_connections_the_one_of_the_greater_identifier_stays() {
    for (router_id, our_own_stays) in [([10, 9, 9, 8], false), ([10, 9, 9, 10], true)] {
        let (theirs, spec) = listener().await;
        let (speaker, ours, _) = listening(|changed| {
            changed.port = spec.port;
            changed.router_id = Some(router_id.into());
        })
        .await;
        let mut by_us = Router::accept(&theirs).await;
        let mut by_them = connect_from("127.0.0.1", ours).await;
        assert!(matches!(by_us.receive().await, Some(Message::Open(_))));
        assert!(matches!(by_them.receive().await, Some(Message::Open(_))));
        by_us.send(&router_open(90)).await;
        assert_eq!(by_us.receive().await, Some(Message::Keepalive));
        by_them.send(&router_open(90)).await;
        let (mut stays, mut goes) = if our_own_stays {
            (by_us, by_them)
        } else {
            (by_them, by_us)
        };
        let told = goes.notification().await;
        assert_eq!(told, Notification::cease(Cease::CollisionResolution, ""));
        if !our_own_stays {
            assert_eq!(stays.receive().await, Some(Message::Keepalive));
        }
        stays.send(&Message::Keepalive).await;
        assert_eq!(stays.initial_routes().await, [net("198.51.100.1/32")]);
        let status = speaker
            .wait_for("session", |all| all["router"].state == State::Established)
            .await;
        assert_eq!(status.last_error, None, "that is no error");
    }
}

#[tokio::test]
async fn a_peer_with_a_password_gets_in_with_it_alone() {
    let password = Secret::new("of both");
    let (speaker, ours, spec) =
        listening(|spec| spec.password = Some(Secret::new("of both"))).await;
    let unsigned = tokio::spawn(tokio::net::TcpStream::connect(ours));
    let socket = TcpSocket::new_v4().unwrap();
    set_md5(&socket, ours, &password).unwrap();
    let mut router = Router::of(soon("connection", socket.connect(ours)).await.unwrap());
    bring_up(&mut router).await;
    assert_eq!(router.initial_routes().await, [net("198.51.100.1/32")]);
    assert!(
        !unsigned.is_finished(),
        "the kernel drops what is not signed"
    );
    // Without a password it needs none.
    speaker.set_peers(peers(&PeerSpec {
        password: None,
        ..spec
    }));
    soon("connection", unsigned).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_passive_peer_is_never_called_and_gets_in() {
    let (theirs, spec) = listener().await;
    let (_speaker, ours, _) = listening(|changed| {
        changed.port = spec.port;
        changed.passive = true;
    })
    .await;
    let mut router = connect_from("127.0.0.1", ours).await;
    bring_up(&mut router).await;
    assert_eq!(router.initial_routes().await, [net("198.51.100.1/32")]);
    let called = tokio::time::timeout(Duration::from_millis(100), theirs.accept()).await;
    assert!(called.is_err(), "{called:?}");
}

#[tokio::test]
async fn a_passive_peer_of_a_speaker_that_does_not_listen_is_told_so() {
    let speaker = speaker();
    let (_theirs, mut spec) = listener().await;
    spec.passive = true;
    speaker.set_peers(peers(&spec));
    let status = speaker
        .wait_for("status", |all| all.contains_key("router"))
        .await;
    let error = status.last_error.unwrap();
    assert!(error.contains("--bgp-listen-port"), "{error}");
}

/// RFC 5082: packets of the peer have a TTL of 255, which no router on the way leaves them.
#[tokio::test]
async fn a_peer_whose_packets_may_come_from_afar_is_not_heard_under_ttl_security() {
    let (theirs, spec) = listener().await;
    let (speaker, _ours, _) = listening(|changed| {
        changed.port = spec.port;
        changed.ttl_security = Some(1);
        changed.hold_time = Some(Duration::from_secs(3));
    })
    .await;
    // The kernel of the router answers with its usual 64: not even the connection comes about.
    let accepted = tokio::time::timeout(Duration::from_millis(300), theirs.accept()).await;
    assert!(accepted.is_err(), "{accepted:?}");
    let socket = socket2::SockRef::from(&theirs);
    socket.set_ttl_v4(255).unwrap();
    let mut router = Router::accept(&theirs).await;
    socket2::SockRef::from(&router.stream)
        .set_ttl_v4(255)
        .unwrap();
    bring_up(&mut router).await;
    assert_eq!(router.initial_routes().await, [net("198.51.100.1/32")]);
    // What comes from afar later is not heard either: the session starves.
    socket2::SockRef::from(&router.stream)
        .set_ttl_v4(254)
        .unwrap();
    router.send(&Message::Keepalive).await;
    let status = speaker
        .wait_for("end", |all| all["router"].last_error.is_some())
        .await;
    let error = status.last_error.unwrap();
    assert!(error.contains("silent for the hold time of 3 s"), "{error}");
}

#[tokio::test]
async fn of_a_passive_peer_that_does_not_call_its_password_is_a_suspect() {
    let (speaker, _ours, _spec) = listening(|spec| {
        spec.passive = true;
        spec.password = Some(Secret::new("a key"));
    })
    .await;
    let waits = |all: &BTreeMap<String, PeerStatus>| {
        all.get("router")
            .is_some_and(|peer| peer.state == State::Active)
    };
    let status = speaker.wait_for("waiting", waits).await;
    assert_eq!(status.last_error, None);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    let told = |all: &BTreeMap<String, PeerStatus>| all["router"].last_error.is_some();
    let status = speaker.wait_for("what is wrong", told).await;
    let error = status.last_error.unwrap();
    assert!(error.contains("authentication"), "{error}");
}
