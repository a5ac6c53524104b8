//! BGPPeers that change, go, and come back.

use super::*;

#[tokio::test]
async fn a_changed_specification_restarts_the_session_with_its_routes() {
    let speaker = speaker();
    let (listener, spec) = listener().await;
    speaker.set_routes(routes(&["198.51.100.1/32"]));
    speaker.set_peers(peers(&spec));
    let (mut router, _) = Router::established(&listener).await;
    router.initial_routes().await;
    speaker.set_peers(peers(&PeerSpec {
        hold_time: Some(Duration::from_secs(30)),
        ..spec
    }));
    assert_eq!(
        router.notification().await.to_string(),
        "cease: other configuration change (6/6)"
    );
    assert_eq!(router.receive().await, None);
    drop(router);
    let why = "ended because the BGPPeer changed: holdTime";
    // The router is not done with the session before, and that is not the reason.
    drop(soon("connection", listener.accept()).await.unwrap());
    speaker
        .wait_for("both reasons", |all| {
            let error = all
                .get("router")
                .and_then(|peer| peer.last_error.as_deref());
            error.is_some_and(|error| error.starts_with(&format!("{why}; since then: ")))
        })
        .await;
    let (mut router, open) = Router::established(&listener).await;
    assert_eq!(open.hold_time, 30);
    assert_eq!(router.initial_routes().await, [net("198.51.100.1/32")]);
    speaker
        .wait_for("why it was begun anew", |all| {
            all.get("router").is_some_and(|peer| {
                peer.state == State::Established && peer.last_error.as_deref() == Some(why)
            })
        })
        .await;
}

#[tokio::test]
async fn how_long_a_session_takes_to_end_may_change_while_it_is_up() {
    let speaker = speaker();
    let (listener, mut spec) = listener().await;
    speaker.set_routes(routes(&["198.51.100.1/32"]));
    speaker.set_peers(peers(&spec));
    let (mut router, _) = Router::established(&listener).await;
    router.initial_routes().await;
    spec.graceful_shutdown = Some(Duration::from_millis(100));
    speaker.set_peers(peers(&spec));
    speaker.shutdown.cancel();
    let marked = router.update().await;
    let communities = &marked.attributes.communities;
    assert!(communities.contains(&Community::GRACEFUL_SHUTDOWN));
    speaker.bgp.closed().await;
}

#[tokio::test]
async fn a_removed_peer_is_told_and_forgotten() {
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
    speaker.set_peers(BTreeMap::new());
    assert_eq!(
        router.notification().await.to_string(),
        "cease: peer de-configured (6/3)"
    );
    drop(router);
    speaker.wait_for("empty status", BTreeMap::is_empty).await;
    soon("metrics without the peer", async {
        while speaker.metrics().contains("peer=") {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_is_removed_and_made_again_at_once_has_status_and_figures_of_its_own() {
    let speaker = speaker();
    let (listener, spec) = listener().await;
    speaker.set_routes(routes(&["198.51.100.1/32"]));
    speaker.set_peers(peers(&spec));
    let (mut router, _) = Router::established(&listener).await;
    router.initial_routes().await;
    speaker.set_peers(BTreeMap::new());
    // Under another name, which the address must wait for as well.
    let again = PeerSpec {
        name: "router-again".to_owned(),
        ..spec
    };
    speaker.set_peers(peers(&again));
    assert_eq!(
        router.notification().await.to_string(),
        "cease: peer de-configured (6/3)"
    );
    drop(router);
    let (mut router, _) = Router::established(&listener).await;
    assert_eq!(router.initial_routes().await, [net("198.51.100.1/32")]);
    let mut status = speaker.bgp.status();
    let of_both = status.wait_for(|all| {
        !all.contains_key("router")
            && all
                .get("router-again")
                .is_some_and(|p| p.state == State::Established)
    });
    soon("status of the new one alone", of_both).await.unwrap();
    let metrics = speaker.metrics();
    assert!(
        metrics
            .lines()
            .any(|line| line.starts_with("metallb_bgp_session_up{") && line.ends_with(" 1")),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_peer_whose_address_changes_leaves_no_figures_behind() {
    let speaker = speaker();
    let (first, spec) = listener().await;
    let (second, other) = listener().await;
    speaker.set_peers(peers(&spec));
    let (router, _) = Router::established(&first).await;
    speaker.set_peers(peers(&other));
    drop(router);
    let (_router, _) = Router::established(&second).await;
    let former = spec.label();
    let metrics = speaker.metrics();
    assert!(!metrics.contains(&former), "{former} in\n{metrics}");
}
