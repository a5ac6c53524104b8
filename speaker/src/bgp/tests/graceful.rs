//! Sessions that outlive this process (RFC 4724).

use super::*;
use ferrolb_bgp::wire::{Capability, GracefulRestart, Open};

/// Accepts a connection of a speaker whose peer keeps routes, and brings the session up.
async fn established(listener: &TcpListener, flags: u8) -> (Router, Open) {
    let mut router = Router::accept(listener).await;
    let Some(Message::Open(open)) = router.receive().await else {
        panic!("no OPEN")
    };
    let Message::Open(mut ours) = router_open(90) else {
        panic!("no OPEN")
    };
    ours.capabilities
        .push(Capability::GracefulRestart(GracefulRestart {
            flags,
            time: 120,
            families: Vec::new(),
        }));
    router.send(&Message::Open(ours)).await;
    assert_eq!(router.receive().await, Some(Message::Keepalive));
    router.send(&Message::Keepalive).await;
    (router, open)
}

fn said(open: &Open) -> GracefulRestart {
    open.graceful_restart().unwrap().clone()
}

#[tokio::test]
async fn a_peer_that_keeps_routes_is_not_told_to_drop_them_when_this_process_ends() {
    let speaker = speaker();
    let (listener, mut spec) = listener().await;
    spec.graceful_restart = true;
    speaker.set_routes(routes(&["198.51.100.1/32"]));
    speaker.set_peers(peers(&spec));
    let (mut router, open) = established(&listener, 0).await;
    assert_eq!(router.initial_routes().await, [net("198.51.100.1/32")]);
    // Whatever had the session before, if the machine is up for long enough.
    let restarted = said(&open).flags & GracefulRestart::RESTARTED != 0;
    assert_eq!(restarted, was_up_before());
    assert_eq!(said(&open).time, 120);
    speaker.shutdown.cancel();
    assert_eq!(router.receive().await, None, "no NOTIFICATION");
    speaker.bgp.closed().await;
}

#[tokio::test]
async fn a_peer_that_keeps_routes_drops_them_when_the_peering_is_taken_away() {
    let speaker = speaker();
    let (listener, mut spec) = listener().await;
    spec.graceful_restart = true;
    speaker.set_routes(routes(&["198.51.100.1/32"]));
    speaker.set_peers(peers(&spec));
    let (mut router, _) = established(&listener, GracefulRestart::NOTIFICATIONS).await;
    assert_eq!(router.initial_routes().await, [net("198.51.100.1/32")]);
    speaker.set_peers(BTreeMap::new());
    let told = router.notification().await;
    assert_eq!((told.code, told.subcode), (6, 9), "a hard reset, RFC 8538");
}

#[tokio::test]
async fn a_peer_that_is_new_was_nobodys_before() {
    let speaker = speaker();
    let (listener, mut spec) = listener().await;
    spec.graceful_restart = true;
    speaker.set_peers(BTreeMap::new());
    speaker.set_peers(peers(&spec));
    let (_router, open) = established(&listener, 0).await;
    assert_eq!(said(&open).flags & GracefulRestart::RESTARTED, 0);
}

/// RFC 8326.
#[tokio::test]
async fn routes_are_marked_before_they_go() {
    let speaker = speaker();
    let (listener, mut spec) = listener().await;
    spec.graceful_shutdown = Some(Duration::from_secs(1));
    speaker.set_routes(routes(&["198.51.100.1/32"]));
    speaker.set_peers(peers(&spec));
    let (mut router, _) = Router::established(&listener).await;
    assert_eq!(router.initial_routes().await, [net("198.51.100.1/32")]);
    speaker.shutdown.cancel();
    let began = std::time::Instant::now();
    let marked = router.update().await;
    assert_eq!(marked.announced.len(), 1);
    let communities = &marked.attributes.communities;
    assert!(communities.contains(&Community::GRACEFUL_SHUTDOWN));
    let told = router.notification().await;
    assert_eq!((told.code, told.subcode), (6, 2));
    assert!(began.elapsed() >= Duration::from_secs(1));
    speaker.bgp.closed().await;
}
