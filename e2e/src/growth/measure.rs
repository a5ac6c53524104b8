//! What do so many Services cost one process? Measured in the process that asks, so each number needs a fresh one.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ferrolb_cluster::{ObjectKey, Store, StoreWriter, store};
use ferrolb_operator::project::Observed;
use serde::{Deserialize, Serialize};

use super::population::{State, pools, service};
use super::subject::Subject;

/// What was measured with one number of Services.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Point {
    pub services: usize,
    /// Microseconds for one new Service, the median.
    pub new: f64,
    /// Microseconds from the deletion of a Service until one that waited has its address, the median.
    pub hand_over: f64,
    /// Bytes of the operator's store for each Service.
    pub store: f64,
    /// Bytes of the allocator for each Service beside the store, whose keys it shares.
    pub allocator: f64,
}

/// Measures memory first: what times leave behind would be part of it.
pub fn point(services: usize) -> Result<Point> {
    ensure!(services > 0, "no Services have no cost each");
    let (store, allocator) = memory(services)?;
    let (new, hand_over) = times(services)?;
    Ok(Point {
        services,
        new,
        hand_over,
        store,
        allocator,
    })
}

/// Bytes per Service in the store and in the allocator. Memory comes in pages and more, so small numbers are held
/// several times over.
fn memory(services: usize) -> Result<(f64, f64)> {
    const HELD_AT_LEAST: usize = 30_000;
    let copies = HELD_AT_LEAST.div_ceil(services);
    let pools = pools(1)?;
    let mut stores: Vec<(StoreWriter<Observed>, Store<Observed>)> =
        (0..copies).map(|_| store("Service")).collect();
    let mut subjects: Vec<Subject> = (0..copies).map(|_| Subject::new(pools.clone())).collect();
    // The parser's own memory is there before the first look.
    black_box(service(0, State::Served)?);
    let empty = resident()?;
    for (writer, _) in &mut stores {
        for number in 0..services {
            let observed = service(number, State::Served)?;
            let key = observed.service.key.clone();
            writer.applied(key, &(1_000_000 + number).to_string(), Some(observed));
        }
    }
    let stored = resident()?;
    for ((_, store), subject) in stores.iter().zip(&mut subjects) {
        let served = store.with(|all| {
            let services = all.values().map(|observed| &observed.service);
            services.filter(|service| subject.decide(service)).count()
        });
        ensure!(served == services, "{served} of {services} are served");
    }
    let allocated = resident()?;
    let held = (copies * services) as f64;
    Ok((
        (stored - empty).max(0.0) / held,
        (allocated - stored).max(0.0) / held,
    ))
}

/// Microseconds for a new Service and for a hand-over, with a tenth as many Services waiting in the latter.
fn times(services: usize) -> Result<(f64, f64)> {
    let contended = (services / 100).max(1);
    let mut subject = Subject::new(pools(contended)?);
    let mut known: BTreeMap<ObjectKey, ferrolb_allocation::Service> = BTreeMap::new();
    let mut holders = VecDeque::new();
    for number in 0..services {
        let state = if number < contended {
            State::Holding(number)
        } else {
            State::Served
        };
        let observed = service(number, state)?.service;
        ensure!(subject.decide(&observed), "{} is not served", observed.key);
        if number < contended {
            holders.push_back(observed.key.clone());
        }
        known.insert(observed.key.clone(), observed);
    }
    subject.serve_waiting(&known);
    let mut number = services;
    let new = median(|| {
        let observed = service(number, State::New)?.service;
        number += 1;
        let began = Instant::now();
        let served = black_box(subject.decide(&observed));
        let time = began.elapsed();
        ensure!(served, "{} is not served", observed.key);
        subject.forget(&observed.key);
        subject.serve_waiting(&known);
        Ok(time)
    })?;
    // A hand-over takes the oldest that waits; the one that is deleted begins to wait again, as the youngest.
    let waiting = (services / 10).max(1);
    let mut wait = |subject: &mut Subject, known: &mut BTreeMap<_, _>| -> Result<()> {
        let observed = service(number, State::Waiting)?.service;
        number += 1;
        ensure!(!subject.decide(&observed), "{} is served", observed.key);
        known.insert(observed.key.clone(), observed);
        Ok(())
    };
    for _ in 0..waiting {
        wait(&mut subject, &mut known)?;
    }
    subject.serve_waiting(&known);
    let hand_over = median(|| {
        let gone: ObjectKey = holders.pop_front().context("nobody holds an address")?;
        known.remove(&gone);
        let began = Instant::now();
        subject.forget(&gone);
        let served = subject.serve_waiting(&known);
        let time = began.elapsed();
        ensure!(served.len() == 1, "{} are served", served.len());
        holders.extend(served);
        wait(&mut subject, &mut known)?;
        Ok(time)
    })?;
    Ok((new, hand_over))
}

/// The median of so many rounds as some seconds allow, in microseconds.
fn median(mut round: impl FnMut() -> Result<Duration>) -> Result<f64> {
    const ROUNDS: usize = 2_000;
    const LIMIT: Duration = Duration::from_secs(5);
    let began = Instant::now();
    let mut times = Vec::new();
    while times.len() < ROUNDS && (times.len() < 20 || began.elapsed() < LIMIT) {
        times.push(round()?);
    }
    times.sort_unstable();
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    Ok(middle.as_secs_f64() * 1e6)
}

/// Resident memory of this process that is no part of a file, in bytes.
fn resident() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .context("no RssAnon")?;
    let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_of_a_few_services_is_there() {
        let point = point(200).unwrap();
        assert_eq!(point.services, 200);
        assert!(point.new > 0.0 && point.hand_over > 0.0, "{point:?}");
        assert!(point.store > 100.0 && point.allocator > 10.0, "{point:?}");
    }
}
