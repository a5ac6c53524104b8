//! Speakers on the loopback interface find each other, notice a loss, and part.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ferrolb_speaker::members::{Members, MembersMetrics};
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

type Names = watch::Receiver<Arc<BTreeSet<String>>>;

struct Speaker {
    members: Members,
    names: Names,
    shutdown: CancellationToken,
    registry: Registry,
}

fn address(host: u8) -> SocketAddr {
    // One address per node, and a port of this test's own.
    SocketAddr::from(([127, 77, 46, host], 17_946))
}

fn start(name: &str, host: u8, key: Option<&[u8]>) -> Speaker {
    let mut registry = Registry::default();
    let metrics = MembersMetrics::new(&mut registry);
    let shutdown = CancellationToken::new();
    let key = key.map(<[u8]>::to_vec);
    let (members, names) =
        Members::start(name, address(host), key, metrics, shutdown.clone()).unwrap();
    Speaker {
        members,
        names,
        shutdown,
        registry,
    }
}

async fn sees(names: &mut Names, expected: &[&str], within: Duration) {
    let expected: BTreeSet<_> = expected.iter().map(ToString::to_string).collect();
    let met = timeout(within, names.wait_for(|names| **names == expected))
        .await
        .is_ok();
    assert!(met, "{:?} instead of {expected:?}", names.borrow());
}

#[tokio::test]
async fn speakers_meet_notice_a_loss_and_part() {
    let key = Some(&b"c2VjcmV0"[..]);
    let seeds: BTreeSet<_> = (1..4).map(address).collect();
    let mut one = start("one", 1, key);
    let mut two = start("two", 2, key);
    let three = start("three", 3, key);
    for speaker in [&one, &two, &three] {
        speaker.members.set_seeds(seeds.clone());
    }
    let soon = Duration::from_secs(5);
    sees(&mut one.names, &["one", "three", "two"], soon).await;
    sees(&mut two.names, &["one", "three", "two"], soon).await;

    // A farewell is heard at once; nothing has to be missed for it.
    three.shutdown.cancel();
    three.members.stopped().await;
    let at_once = Duration::from_millis(1000);
    sees(&mut one.names, &["one", "two"], at_once).await;
    sees(&mut two.names, &["one", "two"], at_once).await;

    // It comes back at the same address.
    let mut three = start("three", 3, key);
    three.members.set_seeds(seeds);
    sees(&mut three.names, &["one", "three", "two"], soon).await;
    sees(&mut one.names, &["one", "three", "two"], soon).await;
}

#[tokio::test]
async fn a_speaker_with_another_secret_is_counted_and_kept_out() {
    let mut one = start("one", 11, Some(b"secret"));
    let stranger = start("stranger", 12, Some(b"other"));
    stranger.members.set_seeds([address(11)].into());
    let refused = "ferrolb_members_datagrams_dropped_total{reason=\"authentication\"} ";
    let counted = timeout(Duration::from_secs(10), async {
        loop {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &one.registry).unwrap();
            if text
                .lines()
                .any(|line| line.strip_prefix(refused).is_some_and(|count| count != "0"))
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    });
    counted.await.unwrap();
    sees(&mut one.names, &["one"], Duration::from_secs(1)).await;
}

#[tokio::test]
async fn an_unspecified_address_is_refused() {
    let metrics = MembersMetrics::new(&mut Registry::default());
    let bind = SocketAddr::from(([0, 0, 0, 0], 0));
    assert!(Members::start("one", bind, None, metrics, CancellationToken::new()).is_err());
}
