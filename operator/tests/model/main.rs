//! Random histories of a cluster against a small model: no address twice, none taken without a cause, each loss told once,
//! everybody served who can be, and a process that starts anew writes nothing.
//!
//! Events come late, twice or in one heap; writes come through, fail, lose their answer or come through after the
//! operator gave up on them; processes are replaced at any moment; people edit Services, pools, namespaces and even
//! statuses. What is assumed of the lease is what it is there for: writes of a former leader end before the next one reads.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod cluster;
mod leader;
mod reference;
mod spec;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cluster::{Cluster, Ending};
use ferrolb_api::ObjectKey;
use ferrolb_api::conditions::ADDRESSES_ALLOCATED;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};
use reference::{could_get, has_room, may_keep, may_share};
use spec::{Config, NAMESPACES, POOLS, Spec, address};

#[derive(Clone, Debug)]
enum Step {
    Put(u8, Spec),
    Delete(u8),
    Configure(Config),
    /// One pool of the next configuration, the others as they are.
    ConfigureOne(usize, Config),
    Tamper(u8, usize, bool, usize),
    Repeat(u8),
    Look(usize, bool),
    Send(usize),
    End(usize, Ending),
    Haunt(usize),
    Pass(i64),
    Restart(Vec<bool>),
    Rest,
}

fn key(name: u8) -> ObjectKey {
    ObjectKey::new(NAMESPACES[usize::from(name) % 2], &format!("s{name}"))
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0u8..10;
    let ending = prop_oneof![
        6 => Just(Ending::Answered),
        1 => Just(Ending::AnswerLost),
        1 => Just(Ending::Lost),
        1 => Just(Ending::Late),
    ];
    prop_oneof![
        12 => (name.clone(), spec::spec()).prop_map(|(name, spec)| Step::Put(name, spec)),
        6 => name.clone().prop_map(Step::Delete),
        1 => spec::config().prop_map(Step::Configure),
        3 => (0..POOLS, spec::config()).prop_map(|(pool, config)| Step::ConfigureOne(pool, config)),
        1 => (name.clone(), 0..POOLS, prop::bool::weighted(0.2), 0usize..4).prop_map(|(name, block, six, index)| Step::Tamper(name, block, six, index)),
        1 => name.prop_map(Step::Repeat),
        20 => (1usize..6, any::<bool>()).prop_map(|(events, configuration)| Step::Look(events, configuration)),
        20 => (0usize..16).prop_map(Step::Send),
        20 => (0usize..16, ending).prop_map(|(pick, ending)| Step::End(pick, ending)),
        3 => (0usize..16).prop_map(Step::Haunt),
        2 => (1i64..90).prop_map(Step::Pass),
        2 => prop::collection::vec(any::<bool>(), 6).prop_map(Step::Restart),
        2 => Just(Step::Rest),
    ]
}

fn take(cluster: &mut Cluster, step: Step) {
    match step {
        Step::Put(name, spec) => cluster.put(&key(name), spec),
        Step::Delete(name) => cluster.delete(&key(name)),
        Step::Configure(config) => cluster.configure(config),
        Step::ConfigureOne(pool, config) => {
            let mut next = cluster.config().clone();
            next.pools[pool] = config.pools[pool].clone();
            // Two pools never have one block: the rules would set one of them aside.
            let blocks: Vec<usize> = next.pools().map(|(_, pool)| pool.block).collect();
            if blocks.iter().collect::<BTreeSet<_>>().len() == blocks.len() {
                cluster.configure(next);
            }
        }
        Step::Tamper(name, block, six, index) => {
            cluster.tamper(&key(name), address(block, six, index))
        }
        Step::Repeat(name) => cluster.repeat(&key(name)),
        Step::Look(events, configuration) => cluster.look(events, configuration),
        Step::Send(pick) => cluster.send(pick),
        Step::End(pick, ending) => cluster.end(pick, ending),
        Step::Haunt(pick) => cluster.haunt(pick),
        Step::Pass(seconds) => cluster.pass(seconds),
        Step::Restart(arriving) => cluster.restart(&arriving),
        Step::Rest => {
            cluster.rest();
            judge_rest(cluster);
        }
    }
    cluster.findings.append(&mut cluster.leader.findings);
}

/// What must hold when nothing more happens.
fn judge_rest(cluster: &mut Cluster) {
    let mut findings = Vec::new();
    let mut find = |finding: String| findings.push(finding);
    let config = cluster.config().clone();
    let objects = &cluster.objects;
    let mut holders: BTreeMap<IpAddr, Vec<&ObjectKey>> = BTreeMap::new();
    for (key, object) in objects {
        let addresses = object.addresses();
        // Somebody wrote a status of a Service that is no load balancer and bears no mark of ours.
        if !object.spec.load_balancer && object.pool.is_none() {
            continue;
        }
        for address in &addresses {
            holders.entry(*address).or_default().push(key);
        }
        let told = object.condition(ADDRESSES_ALLOCATED);
        let spec = &object.spec;
        if addresses.is_empty() {
            let sets = could_get(&config, objects, key);
            if !sets.is_empty() {
                find(format!(
                    "{key} could have one of {sets:?} and says {told:?}"
                ));
            }
            if spec.load_balancer != told.is_some() {
                find(format!("{key} has no address and says {told:?}"));
            }
            continue;
        }
        if !may_keep(&config, key, spec, &addresses) {
            find(format!("{key} may not have {addresses:?}"));
        }
        if let ([only], true, true) = (addresses.as_slice(), spec.is_dual(), spec.wants.is_none()) {
            let pool = config
                .pools()
                .find(|(_, pool)| pool.addresses().contains(only));
            let free = pool.into_iter().flat_map(|(_, pool)| {
                let set = |at: &IpAddr| [*only, *at];
                let fits = |at: &IpAddr| {
                    at.is_ipv6() != only.is_ipv6()
                        && has_room(&config, objects, key, pool, &set(at))
                        && objects.iter().all(|(other, object)| {
                            other == key
                                || !object.addresses().contains(at)
                                || may_share(spec, &object.spec)
                        })
                };
                pool.addresses()
                    .into_iter()
                    .filter(fits)
                    .collect::<Vec<_>>()
            });
            let free: Vec<IpAddr> = free.collect();
            if !free.is_empty() {
                find(format!(
                    "{key} has {only} alone and could have {free:?} besides"
                ));
            }
            if told.is_none() {
                find(format!("{key} has {only} alone and says nothing"));
            }
        } else if told.is_some() != (spec.wants.is_some() && spec.wanted().is_none()) {
            find(format!("{key} has {addresses:?} and says {told:?}"));
        }
    }
    for (address, keys) in &holders {
        for (index, one) in keys.iter().enumerate() {
            for other in &keys[index + 1..] {
                if !may_share(&objects[*one].spec, &objects[*other].spec) {
                    find(format!("{address} has two owners, {one} and {other}"));
                }
            }
        }
    }
    for (index, pool) in config.pools() {
        let all = pool.addresses();
        let assigned = holders.keys().filter(|at| all.contains(at)).count() as i64;
        let counted = cluster.held_by(&format!("pool-{index}"));
        if counted != Some((assigned, all.len() as i64 - assigned)) {
            find(format!(
                "pool-{index} counts {counted:?} with {assigned} of {} in use",
                all.len()
            ));
        }
    }
    if !findings.is_empty() {
        for (key, object) in &cluster.objects {
            findings.push(format!(
                "(there is {key}: {:?} {:?} of {:?})",
                object.spec,
                object.addresses(),
                object.pool
            ));
        }
    }
    cluster.findings.append(&mut findings);
    // A process that starts now has nothing to do.
    cluster.restart(&[]);
    // Who waits both for room under a limit and for an address may be told of the one or of the other.
    let limited = config.pools().any(|(_, pool)| pool.limit.is_some())
        || config.namespaces.iter().any(|(_, limit)| limit.is_some());
    for write in cluster.leader.undone() {
        if limited && cluster.changes_nothing_but_conditions(&write) {
            continue;
        }
        cluster
            .findings
            .push(format!("a process that starts anew writes {write:?}"));
    }
    cluster.rest();
}

/// The same histories in every run; with the variable PROPTEST_CASES so many, and others each time.
const CASES: u32 = 500;
const STEPS_AT_LEAST: usize = 100_000;

#[test]
fn every_history_ends_well() {
    let steps_taken = Cell::new(0);
    let chosen = std::env::var("PROPTEST_CASES").is_ok();
    let config = ProptestConfig {
        cases: if chosen {
            ProptestConfig::default().cases
        } else {
            CASES
        },
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = if chosen {
        TestRunner::new(config)
    } else {
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
    };
    let histories = (spec::config(), prop::collection::vec(step(), 50..480));
    let ended = runner.run(&histories, |(config, steps)| {
        let mut cluster = Cluster::new(config);
        for step in steps.into_iter().chain([Step::Rest]) {
            let text = format!("{step:?}");
            take(&mut cluster, step);
            steps_taken.set(steps_taken.get() + 1);
            prop_assert!(
                cluster.findings.is_empty(),
                "after {text}: {:#?}",
                cluster.findings
            );
        }
        Ok(())
    });
    if let Err(TestError::Fail(reason, (config, steps))) = ended {
        let steps: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
        panic!("{reason}\nconfiguration: {config:?}\n{}", steps.join("\n"));
    }
    assert!(ended.is_ok());
    let steps = steps_taken.get();
    println!("{steps} steps");
    assert!(chosen || steps >= STEPS_AT_LEAST);
}
