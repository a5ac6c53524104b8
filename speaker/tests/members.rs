//! Speakers on the loopback interface find each other, notice a loss, and part.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ferrolb_speaker::members::{KeyFile, Members, MembersMetrics};
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

/// A directory as the kubelet mounts it, for the test of this name.
fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Puts a key into a directory in one step, as the kubelet does it.
fn mount(directory: &Path, key: &str) {
    std::fs::create_dir_all(directory).unwrap();
    let new = directory.join("new");
    std::fs::write(&new, key).unwrap();
    std::fs::rename(new, directory.join("secretkey")).unwrap();
}

fn start(name: &str, host: u8, key: Option<&str>) -> Speaker {
    let key = key.map(|key| {
        let directory = directory(&format!("key-{host}"));
        mount(&directory, key);
        KeyFile::open(&directory).unwrap()
    });
    start_with(name, host, key)
}

fn start_with(name: &str, host: u8, key: Option<KeyFile>) -> Speaker {
    let mut registry = Registry::default();
    let metrics = MembersMetrics::new(&mut registry);
    let shutdown = CancellationToken::new();
    let (members, names) = Members::bind(name, address(host), key, metrics, shutdown.clone())
        .unwrap()
        .join();
    Speaker {
        members,
        names,
        shutdown,
        registry,
    }
}

/// The value of a counter.
fn count(speaker: &Speaker, series: &str) -> u64 {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &speaker.registry).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(series));
    value.unwrap().trim().parse().unwrap()
}

/// Waits until a counter is no longer zero.
async fn counts(speaker: &Speaker, series: &str) {
    let counted = timeout(Duration::from_secs(10), async {
        while count(speaker, series) == 0 {
            tokio::task::yield_now().await;
        }
    });
    counted.await.unwrap();
}

async fn has_heard_all(speaker: &Speaker, within: Duration) {
    let mut heard_all = speaker.members.heard_all();
    let heard = timeout(within, heard_all.wait_for(|all| *all));
    assert!(heard.await.is_ok(), "not all heard of within {within:?}");
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
    let key = Some("c2VjcmV0");
    let seeds: BTreeSet<_> = (1..4).map(address).collect();
    let mut one = start("one", 1, key);
    let mut two = start("two", 2, key);
    let mut three = start("three", 3, key);
    for speaker in [&one, &two, &three] {
        speaker.members.set_seeds(seeds.clone());
    }
    let soon = Duration::from_secs(5);
    sees(&mut one.names, &["one", "three", "two"], soon).await;
    sees(&mut two.names, &["one", "three", "two"], soon).await;

    sees(&mut three.names, &["one", "three", "two"], soon).await;

    // A farewell is heard at once; nothing has to be missed for it.
    three.shutdown.cancel();
    three.members.stopped().await;
    let at_once = Duration::from_millis(1000);
    sees(&mut one.names, &["one", "two"], at_once).await;
    sees(&mut two.names, &["one", "two"], at_once).await;

    // Who has heard of all can tell it, also when a seed does not answer.
    has_heard_all(&one, soon).await;

    // It comes back at the same address.
    let mut three = start("three", 3, key);
    three.members.set_seeds(seeds);
    sees(&mut three.names, &["one", "three", "two"], soon).await;
    sees(&mut one.names, &["one", "three", "two"], soon).await;
    has_heard_all(&three, at_once).await;
}

#[tokio::test]
async fn a_speaker_that_leaves_is_missed_at_once_while_it_runs_on() {
    let seeds: BTreeSet<_> = (21..24).map(address).collect();
    let mut one = start("one", 21, Some("secret"));
    let mut two = start("two", 22, Some("secret"));
    let mut three = start("three", 23, Some("secret"));
    for speaker in [&one, &two, &three] {
        speaker.members.set_seeds(seeds.clone());
    }
    let soon = Duration::from_secs(5);
    sees(&mut one.names, &["one", "three", "two"], soon).await;
    sees(&mut two.names, &["one", "three", "two"], soon).await;
    sees(&mut three.names, &["one", "three", "two"], soon).await;
    two.members.leave().await;
    two.members.leave().await;
    let at_once = Duration::from_millis(500);
    sees(&mut one.names, &["one", "three"], at_once).await;
    sees(&mut three.names, &["one", "three"], at_once).await;
    // What it stood for it may go on answering for by what it knew.
    sees(&mut two.names, &["one", "three", "two"], at_once).await;
    // It is not asked back, though its pod is still listed: one hears of the next farewell and of nothing else.
    three.shutdown.cancel();
    three.members.stopped().await;
    sees(&mut one.names, &["one"], at_once).await;
    two.shutdown.cancel();
    two.members.stopped().await;
}

#[tokio::test]
async fn a_key_that_changes_file_by_file_parts_nobody() {
    let seeds: BTreeSet<_> = (31..34).map(address).collect();
    let mut one = start("one", 31, Some("former"));
    let mut two = start("two", 32, Some("former"));
    one.members.set_seeds(seeds.clone());
    two.members.set_seeds(seeds.clone());
    let soon = Duration::from_secs(5);
    sees(&mut one.names, &["one", "two"], soon).await;
    sees(&mut two.names, &["one", "two"], soon).await;

    // One reads the new key; the third has never seen another one. Two still knows only the former.
    mount(&directory("key-31"), "new");
    let mut three = start("three", 33, Some("new"));
    three.members.set_seeds(seeds);
    let looked = Duration::from_secs(12);
    sees(&mut three.names, &["one", "three", "two"], looked).await;
    sees(&mut two.names, &["one", "three", "two"], soon).await;
    let refused = "ferrolb_members_datagrams_dropped_total{reason=\"authentication\"} ";
    assert!(count(&two, refused) > 0, "it has not read the new key yet");
    mount(&directory("key-32"), "new");
    // Only with the new key two can be greeted by three, so it is no longer refused.
    let understood = timeout(looked, async {
        loop {
            let before = count(&two, refused);
            let quiet = timeout(Duration::from_secs(1), two.names.changed()).await;
            assert!(quiet.is_err(), "nobody comes or goes");
            if count(&two, refused) == before {
                return;
            }
        }
    });
    understood.await.unwrap();
    assert_eq!(three.names.borrow().len(), 3);
    assert_eq!(one.names.borrow().len(), 3);
}

async fn has_other_key_beside(speaker: &Speaker, expected: bool, within: Duration) {
    let mut other_key = speaker.members.other_key();
    let seen = timeout(within, other_key.wait_for(|is| *is == expected));
    assert!(seen.await.is_ok(), "not {expected} within {within:?}");
}

#[tokio::test]
async fn who_is_the_first_to_restart_on_a_new_key_knows_that_others_are_alive() {
    let seeds: BTreeSet<_> = (71..74).map(address).collect();
    let join = |name: &str, host: u8, key: &str| {
        let speaker = start(name, host, Some(key));
        speaker.members.set_seeds(seeds.clone());
        speaker
    };
    let one = join("one", 71, "former");
    let mut two = join("two", 72, "former");
    let soon = Duration::from_secs(5);
    sees(&mut two.names, &["one", "two"], soon).await;
    two.shutdown.cancel();
    two.members.stopped().await;

    // It knows it long before silence makes it take itself for the only one.
    let mut two = join("two", 72, "new");
    has_other_key_beside(&two, true, Duration::from_secs(1)).await;
    // And goes on knowing it, also when it has heard that nobody else answers, and beside one that is like itself.
    let mut three = join("three", 73, "new");
    sees(&mut two.names, &["three", "two"], soon).await;
    has_heard_all(&two, soon).await;
    has_heard_all(&three, soon).await;
    for speaker in [&two, &three] {
        let mut other_key = speaker.members.other_key();
        let gone = timeout(Duration::from_secs(6), other_key.wait_for(|is| !is));
        assert!(gone.await.is_err(), "the other one is alive all the time");
    }
    mount(&directory("key-71"), "new");
    let looked = Duration::from_secs(12);
    sees(&mut three.names, &["one", "three", "two"], looked).await;
    sees(&mut two.names, &["one", "three", "two"], looked).await;
    has_other_key_beside(&two, false, soon).await;
    has_other_key_beside(&three, false, soon).await;
    drop(one);
}

async fn knows_macs(speaker: &Speaker, expected: &[[u8; 6]], within: Duration) {
    let expected: BTreeSet<_> = expected.iter().copied().collect();
    let mut macs = speaker.members.macs();
    let known = timeout(within, macs.wait_for(|macs| **macs == expected));
    let known = known.await.is_ok();
    assert!(known, "{:?} instead of {expected:?}", macs.borrow());
}

#[tokio::test]
async fn speakers_tell_each_other_their_hardware_addresses() {
    let mac = |host: u8, interface: u8| [2, 0, 0, 0, interface, host];
    let seeds: BTreeSet<_> = (61..64).map(address).collect();
    let join = |name: &str, host: u8| {
        let speaker = start(name, host, Some("secret"));
        speaker.members.set_macs(vec![mac(host, 0)]);
        speaker.members.set_seeds(seeds.clone());
        speaker
    };
    let (one, two) = (join("one", 61), join("two", 62));
    let soon = Duration::from_secs(5);
    knows_macs(&one, &[mac(62, 0)], soon).await;
    knows_macs(&two, &[mac(61, 0)], soon).await;
    has_heard_all(&one, soon).await;

    // Who has heard of all knows all addresses, and is known at once.
    let mut three = join("three", 63);
    has_heard_all(&three, soon).await;
    assert_eq!(three.names.borrow_and_update().len(), 3);
    assert_eq!(
        **three.members.macs().borrow(),
        BTreeSet::from([mac(61, 0), mac(62, 0)])
    );
    let at_once = Duration::from_millis(1000);
    knows_macs(&one, &[mac(62, 0), mac(63, 0)], at_once).await;
    knows_macs(&two, &[mac(61, 0), mac(63, 0)], at_once).await;
    assert!(*one.members.knows_all_macs().borrow());

    // An interface comes; a member that is lost is not forgotten.
    two.members.set_macs(vec![mac(62, 0), mac(62, 1)]);
    let all = [mac(62, 0), mac(62, 1), mac(63, 0)];
    knows_macs(&one, &all, at_once).await;
    two.shutdown.cancel();
    two.members.stopped().await;
    let mut names = one.names.clone();
    sees(&mut names, &["one", "three"], soon).await;
    knows_macs(&one, &all, Duration::ZERO).await;
}

/// The thread of the runtime is what SIGSTOP stops.
#[tokio::test]
async fn a_process_that_is_stopped_notices_it_and_hears_of_all_again() {
    let seeds: BTreeSet<_> = (41..43).map(address).collect();
    let (mut one, two) = (start("one", 41, None), start("two", 42, None));
    one.members.set_seeds(seeds.clone());
    two.members.set_seeds(seeds);
    let soon = Duration::from_secs(5);
    sees(&mut one.names, &["one", "two"], soon).await;
    has_heard_all(&one, soon).await;
    let mut heard_all = one.members.heard_all();
    let stopped = Duration::from_millis(1500);
    std::thread::sleep(stopped);
    let lapsed = timeout(soon, heard_all.wait_for(|all| !all));
    assert!(lapsed.await.is_ok(), "it says that time went on without it");
    has_heard_all(&one, soon).await;
    counts(&one, "ferrolb_members_lapses_total ").await;
    sees(&mut one.names, &["one", "two"], soon).await;
}

#[tokio::test]
async fn what_is_too_long_is_counted() {
    let one = start("one", 51, Some("secret"));
    let socket = tokio::net::UdpSocket::bind(address(52)).await.unwrap();
    let too_long = vec![1; ferrolb_membership::LONGEST_DATAGRAM + 1];
    socket.send_to(&too_long, address(51)).await.unwrap();
    counts(
        &one,
        "ferrolb_members_datagrams_dropped_total{reason=\"oversized\"} ",
    )
    .await;
}

#[tokio::test]
async fn a_speaker_with_another_secret_is_counted_and_kept_out() {
    let mut one = start("one", 11, Some("secret"));
    let stranger = start("stranger", 12, Some("other"));
    stranger.members.set_seeds([address(11)].into());
    counts(
        &one,
        "ferrolb_members_datagrams_dropped_total{reason=\"authentication\"} ",
    )
    .await;
    sees(&mut one.names, &["one"], Duration::from_secs(1)).await;
}

#[tokio::test]
async fn an_unspecified_address_is_refused() {
    let metrics = MembersMetrics::new(&mut Registry::default());
    let bind = SocketAddr::from(([0, 0, 0, 0], 0));
    assert!(Members::bind("one", bind, None, metrics, CancellationToken::new()).is_err());
}
