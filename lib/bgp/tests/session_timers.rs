//! When a session acts by itself, on a clock that the test moves.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod peer;

use ferrolb_bgp::Config;
use ferrolb_bgp::session::{EndReason, Input, Output, State};
use peer::{PEER_AS, Peer, config, endpoint, keepalive, open_of, seconds, summary};
use std::time::Duration;

fn count(outputs: &[Output], word: &str) -> usize {
    summary(outputs)
        .split(' ')
        .filter(|got| *got == word)
        .count()
}

/// Established with what the peer proposed.
fn established(config: Config, hold_time: u16) -> Peer {
    let mut peer = Peer::in_state(config, State::OpenSent);
    peer.receive(&open_of(PEER_AS, hold_time, [192, 0, 2, 2]));
    peer.receive(&keepalive());
    peer
}

#[test]
fn a_silent_peer_is_given_up_after_the_hold_time_and_not_before() {
    let mut peer = established(config(), 9);
    assert_eq!(count(&peer.wait(Duration::from_millis(8999)), "4/0"), 0);
    let outputs = peer.wait(Duration::from_millis(1));
    assert!(
        summary(&outputs).contains("4/0 close ended -> Idle"),
        "{}",
        summary(&outputs)
    );
    let reason = outputs.iter().find_map(|output| match output {
        Output::Ended { reason, .. } => Some(reason.to_string()),
        _ => None,
    });
    assert_eq!(
        reason.as_deref(),
        Some("the peer was silent for the hold time of 9 s")
    );
}

#[test]
fn whatever_the_peer_says_restarts_the_hold_timer() {
    let mut peer = established(config(), 9);
    for message in [keepalive(), peer::update(), peer::refresh(), keepalive()] {
        assert_eq!(count(&peer.wait(seconds(8)), "4/0"), 0);
        peer.receive(&message);
    }
    assert_eq!(peer.session.state(), State::Established);
}

#[test]
fn keepalives_go_out_three_to_four_times_in_a_hold_time() {
    let mut peer = established(config(), 90);
    let conn = peer.conn.unwrap();
    let mut sent = 0;
    for _ in 0..10 {
        peer.handle(Input::Progress { conn });
        sent += count(&peer.wait(seconds(60)), "KEEPALIVE");
        peer.receive(&keepalive());
    }
    // 600 s with an interval of 22.5 to 30 s.
    assert!((20..=27).contains(&sent), "{sent}");
}

#[test]
fn a_configured_keepalive_time_counts_if_it_is_the_shorter() {
    let faster = Config {
        keepalive_time: Some(seconds(5)),
        ..config()
    };
    let peer = established(faster.clone(), 90);
    assert_eq!(
        peer.session.negotiated().unwrap().keepalive_time,
        seconds(5)
    );
    let peer = established(faster, 9);
    assert_eq!(
        peer.session.negotiated().unwrap().keepalive_time,
        seconds(3)
    );
    let peer = established(config(), 3);
    assert_eq!(
        peer.session.negotiated().unwrap().keepalive_time,
        seconds(1)
    );
}

#[test]
fn updates_take_the_place_of_keepalives() {
    let mut peer = established(config(), 90);
    for _ in 0..50 {
        assert_eq!(count(&peer.wait(seconds(20)), "KEEPALIVE"), 0);
        peer.handle(Input::UpdateQueued);
        peer.handle(Input::Progress {
            conn: peer.conn.unwrap(),
        });
        peer.receive(&keepalive());
    }
}

#[test]
fn a_hold_time_of_zero_means_no_timers_at_all() {
    for (ours, theirs) in [(0, 90), (90, 0), (0, 0)] {
        let mut peer = established(
            Config {
                hold_time: seconds(ours),
                ..config()
            },
            theirs,
        );
        assert_eq!(peer.session.deadline(), None);
        assert_eq!(peer.wait(seconds(100_000)), []);
        assert_eq!(peer.session.state(), State::Established);
    }
}

#[test]
fn a_peer_that_takes_nothing_is_given_up_after_eight_minutes() {
    let mut peer = established(config(), 90);
    let conn = peer.conn.unwrap();
    for _ in 0..7 {
        peer.wait(seconds(60));
        peer.receive(&keepalive());
    }
    peer.handle(Input::Progress { conn });
    let mut outputs = Vec::new();
    for _ in 0..7 {
        outputs.extend(peer.wait(seconds(60)));
        peer.receive(&keepalive());
    }
    assert_eq!(count(&outputs, "8/0"), 0);
    assert_eq!(count(&peer.wait(seconds(60)), "8/0"), 1);
    // Longer hold times double (RFC 9687).
    let mut peer = established(
        Config {
            hold_time: seconds(600),
            ..config()
        },
        600,
    );
    for _ in 0..3 {
        assert_eq!(count(&peer.wait(seconds(399)), "8/0"), 0);
        peer.receive(&keepalive());
    }
    assert_eq!(count(&peer.wait(seconds(10)), "8/0"), 1);
}

#[test]
fn a_peer_that_sends_no_open_is_given_up_after_half_a_minute() {
    let mut peer = Peer::in_state(config(), State::OpenSent);
    assert_eq!(peer.wait(seconds(29)), []);
    assert!(summary(&peer.wait(seconds(1))).starts_with("4/0 close ended -> Idle"));
}

#[test]
fn an_attempt_to_connect_takes_ten_seconds_at_most() {
    let mut peer = Peer::in_state(config(), State::Connect);
    let from = peer.now;
    assert_eq!(peer.wait(Duration::from_millis(7499)), []);
    let outputs = peer.tick();
    assert!(peer.now - from <= seconds(10));
    assert!(matches!(
        &outputs[1],
        Output::Ended {
            reason: EndReason::ConnectTimeout,
            ..
        }
    ));
}

#[test]
fn attempts_become_rarer_and_never_stop() {
    let mut peer = Peer::in_state(config(), State::Connect);
    let mut waits = Vec::new();
    for _ in 0..12 {
        peer.fail_to_connect();
        let from = peer.now;
        assert!(summary(&peer.tick()).starts_with("connect"));
        waits.push((peer.now - from).as_millis());
    }
    assert_eq!(waits[0], 0);
    for (wait, full) in waits
        .iter()
        .zip([0, 1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30])
    {
        assert!((full * 750..=full * 1000).contains(wait), "{waits:?}");
    }
}

#[test]
fn a_configured_connect_time_is_the_time_between_attempts() {
    let mut peer = Peer::in_state(
        Config {
            connect_time: Some(seconds(5)),
            ..config()
        },
        State::Connect,
    );
    for _ in 0..5 {
        peer.fail_to_connect();
        let from = peer.now;
        peer.tick();
        assert!((3750..=5000).contains(&(peer.now - from).as_millis()));
    }
}

/// RFC 4271 section 8.2.2: ConnectRetryTimer runs from the start of an attempt.
#[test]
fn an_attempt_that_nobody_answers_is_part_of_the_time_between_attempts() {
    for (connect_time, longest) in [(1, 1), (60, 60)] {
        let config = Config {
            connect_time: Some(seconds(connect_time)),
            ..config()
        };
        let mut peer = Peer::in_state(config, State::Connect);
        for _ in 0..5 {
            let from = peer.now;
            assert!(summary(&peer.tick()).starts_with("close ended"));
            if peer.session.state() != State::Connect {
                assert!(summary(&peer.tick()).starts_with("connect"));
            }
            let between = (peer.now - from).as_millis();
            assert!(
                (longest * 750..=longest * 1000).contains(&between),
                "{between} ms"
            );
        }
    }
}

#[test]
fn a_long_session_that_ends_is_tried_again_at_once() {
    let mut peer = established(config(), 0);
    peer.wait(seconds(60));
    peer.receive(&peer::notification());
    assert_eq!(peer.session.deadline(), Some(peer.now));
}

#[test]
fn a_peer_that_accepts_and_throws_us_out_is_tried_ever_more_rarely() {
    let mut peer = Peer::in_state(config(), State::Connect);
    let mut last = Duration::ZERO;
    for round in 0..6 {
        let conn = peer.conn.unwrap();
        peer.handle(Input::Connected {
            conn,
            endpoint: endpoint(),
        });
        peer.receive(&peer::open());
        peer.receive(&keepalive());
        peer.receive(&peer::notification());
        let wait = peer.session.deadline().unwrap() - peer.now;
        assert!(
            round < 1 || wait > last,
            "round {round}: {wait:?} after {last:?}"
        );
        last = wait;
        peer.tick();
    }
}

#[test]
fn starting_again_after_a_stop_connects_at_once() {
    let mut peer = Peer::in_state(config(), State::Active);
    peer.handle(Input::Stop {
        reason: ferrolb_bgp::wire::Cease::AdministrativeShutdown,
        text: "",
    });
    assert_eq!(peer.session.deadline(), None);
    assert_eq!(summary(&peer.handle(Input::Start)), "connect -> Connect");
}
