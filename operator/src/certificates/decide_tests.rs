//! Histories of the Secret and of what is published, in which a webhook always serves under a published authority.

use super::*;

const DAY: i64 = 24 * 3600;
const NOW: i64 = 1_790_000_000;

fn names() -> Vec<String> {
    vec!["metallb-webhook-service.metallb-system.svc".to_owned()]
}

fn bundle() -> Bundle {
    Bundle::issue(&names(), NOW).unwrap()
}

fn of(bundle: &Bundle) -> Vec<Authority> {
    authorities(bundle.ca_crt.as_bytes())
}

/// A cluster in memory, its clocks, and one process that decides.
struct World {
    secret: Secret,
    published: Vec<Vec<Authority>>,
    memory: Memory,
    now: i64,
    uptime: Duration,
}

impl World {
    fn with(secret: Secret, published: Vec<Vec<Authority>>) -> Self {
        Self {
            secret,
            published,
            memory: Memory::default(),
            now: NOW,
            uptime: Duration::ZERO,
        }
    }

    fn step(&mut self) -> Step {
        let view = View {
            secret: &self.secret,
            published: &self.published,
            dns_names: &names(),
            now: self.now,
            uptime: self.uptime,
        };
        decide(&view, &mut self.memory).unwrap()
    }

    fn pass(&mut self, time: Duration) {
        self.uptime += time;
        self.now += time.as_secs() as i64;
    }

    /// Carries out what is decided until there is a rest, which it returns; checks on the way that `served` is trusted.
    fn settle(&mut self, served: &[Authority]) -> Duration {
        for _ in 0..10 {
            for place in &self.published {
                assert!(served.iter().all(|authority| place.contains(authority)));
            }
            match self.step() {
                Step::Publish(trusted) => {
                    assert!(trusted.len() <= 1 + FORMER);
                    self.published.fill(trusted);
                }
                Step::Store(bundle, _) => self.secret = Secret::Ours(Some(*bundle)),
                Step::Rest(pause) => return pause,
            }
        }
        panic!("it does not come to rest");
    }

    fn stored(&self) -> Vec<Authority> {
        match &self.secret {
            Secret::Ours(Some(bundle)) => of(bundle),
            _ => Vec::new(),
        }
    }
}

#[test]
fn a_first_installation_waits_for_nothing() {
    let mut world = World::with(Secret::Ours(None), vec![vec![], vec![], vec![]]);
    assert_eq!(world.settle(&[]), LOOK_EVERY);
    assert_eq!(world.stored().len(), 1);
    assert_eq!(world.published, vec![world.stored(); 3]);
}

#[test]
fn where_nobody_calls_nothing_is_made() {
    let mut world = World::with(Secret::Absent, vec![]);
    assert_eq!(world.settle(&[]), LOOK_EVERY);
    assert!(matches!(world.secret, Secret::Absent));
}

#[test]
fn a_new_authority_is_published_then_seen_then_used_and_the_old_one_goes_last() {
    let late = NOW + (10 * 365 - 80) * DAY;
    let old = bundle().renew_server(&names(), late).unwrap();
    let mut world = World::with(Secret::Ours(Some(old.clone())), vec![of(&old), of(&old)]);
    world.now = late;
    assert_eq!(world.settle(&of(&old)), SEEN);
    assert_eq!(world.stored(), of(&old), "nobody serves under the new one");
    assert_eq!(world.published.first().unwrap().len(), 2);

    world.pass(SEEN / 2);
    assert_eq!(world.settle(&of(&old)), SEEN / 2);
    world.pass(SEEN / 2);
    assert_eq!(world.settle(&of(&old)), OVERLAP);
    let new = world.stored();
    assert_ne!(new, of(&old));
    assert_eq!(
        world.published.first().unwrap(),
        &[new.clone(), of(&old)].concat(),
        "webhooks may not have taken the new one yet"
    );
    world.pass(OVERLAP);
    assert_eq!(world.settle(&new), LOOK_EVERY);
    assert_eq!(world.published, [new.clone(), new]);
}

#[test]
fn the_time_for_api_servers_begins_anew_when_one_place_loses_the_authority() {
    let old = bundle();
    let mut world = World::with(Secret::Absent, vec![of(&old), of(&old)]);
    assert_eq!(world.settle(&of(&old)), SEEN);
    world.pass(SEEN - Duration::from_secs(1));
    *world.published.first_mut().unwrap() = of(&old);
    assert_eq!(world.settle(&of(&old)), SEEN);
    assert!(matches!(world.secret, Secret::Absent));
}

#[test]
fn a_deleted_or_spoilt_secret_is_made_again_while_the_old_authority_stays_published() {
    for secret in [
        Secret::Absent,
        Secret::Ours(None),
        Secret::Ours(Some(Bundle {
            tls_key: "garbage".to_owned(),
            ..bundle()
        })),
    ] {
        let served = bundle();
        let mut world = World::with(secret, vec![of(&served)]);
        assert_eq!(world.settle(&of(&served)), SEEN);
        world.pass(SEEN);
        world.settle(&of(&served));
        assert_eq!(world.stored().len(), 1);
        assert!(
            world
                .published
                .iter()
                .flatten()
                .any(|a| world.stored().contains(a))
        );
    }
}

#[test]
fn processes_that_die_on_the_way_push_out_each_other_and_never_what_is_served() {
    let served = bundle();
    let mut world = World::with(Secret::Absent, vec![of(&served)]);
    for _ in 0..6 {
        world.memory = Memory::default();
        // The clock of certificates has whole seconds.
        world.pass(Duration::from_secs(2));
        assert_eq!(world.settle(&of(&served)), SEEN);
    }
    world.pass(SEEN);
    world.settle(&of(&served));
    assert_eq!(world.stored().len(), 1);
}

#[test]
fn an_authority_that_has_ended_is_not_published_again() {
    let old = bundle();
    let mut world = World::with(Secret::Absent, vec![of(&old)]);
    world.now = NOW + 11 * 365 * DAY;
    assert_eq!(world.settle(&[]), LOOK_EVERY);
    assert_eq!(world.published, [world.stored()]);
}

#[test]
fn a_server_certificate_is_renewed_at_once() {
    let old = bundle();
    let mut world = World::with(Secret::Ours(Some(old.clone())), vec![of(&old)]);
    world.now += 300 * DAY;
    assert_eq!(world.settle(&of(&old)), LOOK_EVERY);
    assert_eq!(world.stored(), of(&old));
    assert!(matches!(&world.secret, Secret::Ours(Some(new)) if new.tls_crt != old.tls_crt));
}

#[test]
fn a_registration_that_lost_its_authority_gets_it_back() {
    let own = bundle();
    let mut world = World::with(Secret::Ours(Some(own.clone())), vec![of(&own), vec![]]);
    assert_eq!(world.settle(&[]), LOOK_EVERY);
    assert_eq!(world.published, [of(&own), of(&own)]);
}

#[test]
fn the_secret_of_another_is_published_beside_what_was_and_never_written() {
    let (own, theirs) = (bundle(), bundle());
    let mut world = World::with(Secret::Others(of(&theirs)), vec![of(&own)]);
    assert_eq!(world.settle(&of(&own)), OVERLAP);
    assert!(matches!(world.secret, Secret::Others(_)));
    assert_eq!(world.published.first().unwrap().len(), 2);
    world.pass(OVERLAP);
    assert_eq!(world.settle(&of(&theirs)), LOOK_EVERY);
    assert_eq!(world.published, [of(&theirs)]);
}

#[test]
fn whatever_replaced_whatever_the_last_one_stays_when_the_secret_goes_and_the_process_too() {
    let first = bundle();
    let mut world = World::with(Secret::Ours(Some(first.clone())), vec![of(&first), vec![]]);
    world.settle(&[]);
    let mut served = of(&first);
    for round in 0..6 {
        world.pass(Duration::from_secs(60));
        if round % 2 == 0 {
            let theirs = Bundle::issue(&names(), world.now).unwrap();
            world.secret = Secret::Others(of(&theirs));
            world.settle(&served);
            served = of(&theirs);
        } else {
            world.secret = Secret::Absent;
            world.memory = Memory::default();
            assert_eq!(world.settle(&served), SEEN);
            world.memory = Memory::default();
            assert_eq!(world.settle(&served), SEEN);
            world.pass(SEEN);
            world.settle(&served);
            served = world.stored();
            assert_eq!(served.len(), 1);
        }
    }
}

#[test]
fn the_secret_of_another_without_an_authority_changes_nothing() {
    let own = bundle();
    let mut world = World::with(Secret::Others(vec![]), vec![of(&own)]);
    assert_eq!(world.settle(&of(&own)), LOOK_EVERY);
    assert_eq!(world.published, [of(&own)]);
}
