//! People who apply and read without a pause, and what became of each of their requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::cluster::{SYSTEM, Site};
use crate::{install, objects};

/// So many apply at once, and each does so as often.
const PEOPLE: usize = 4;
const EVERY: Duration = Duration::from_millis(100);
/// What all of them reach together at least, also on a slow machine.
const PER_SECOND: f64 = 20.0;
/// How long they go on after what was to be tried, so that its consequences are seen.
const AFTERWARDS: Duration = Duration::from_secs(3);

/// What the webhook says to each of them.
const REFUSAL: &str =
    "admission webhook \"ipaddresspoolvalidationwebhook.metallb.io\" denied the request";

/// What became of the requests.
#[derive(Default)]
pub struct Tally {
    /// Peers read in the version that is not stored, which the webhook converts.
    pub converted: usize,
    pub refused: usize,
    /// Let through: nobody answered, and the registration says to ignore that.
    pub passed: usize,
    /// Neither, with the words of the API server.
    pub failed: Vec<String>,
    pub slowest: Duration,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.converted += other.converted;
        self.refused += other.refused;
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.slowest = self.slowest.max(other.slowest);
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} applies refused by the webhook, {} let through, {} peers read and converted, {} requests failed; the slowest took {} ms",
            self.refused,
            self.passed,
            self.converted,
            self.failed.len(),
            self.slowest.as_millis()
        )
    }
}

/// Does something while people apply a pool that overlaps another; fails if one of their applies did.
pub fn during(site: &Site, work: impl FnOnce() -> Result<()>) -> Result<Tally> {
    among(site, false, work)
}

/// [`during`], perhaps with somebody who reads peers that have to be converted. There is no ignoring a failed conversion.
fn among(site: &Site, readers: bool, work: impl FnOnce() -> Result<()>) -> Result<Tally> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut people: Vec<JoinHandle<Tally>> = (0..PEOPLE)
        .map(|_| {
            site.runtime()
                .spawn(applies(site.client.clone(), stop.clone()))
        })
        .collect();
    if readers {
        people.push(
            site.runtime()
                .spawn(reads(site.client.clone(), stop.clone())),
        );
    }
    let began = Instant::now();
    let worked = work();
    if worked.is_ok() {
        std::thread::sleep(AFTERWARDS);
    }
    stop.store(true, Ordering::Relaxed);
    let mut tally = Tally::default();
    for person in people {
        tally.add(
            site.runtime()
                .block_on(person)
                .context("a person stopped applying")?,
        );
    }
    let rate = (tally.refused + tally.passed) as f64 / began.elapsed().as_secs_f64();
    worked.with_context(|| tally.to_string())?;
    ensure!(
        tally.failed.is_empty(),
        "{tally}; the first: {}",
        tally.failed.first().map_or("", String::as_str)
    );
    ensure!(
        rate >= PER_SECOND,
        "only {rate:.0} applies per second: {tally}"
    );
    Ok(tally)
}

async fn applies(client: kube::Client, stop: Arc<AtomicBool>) -> Tally {
    // Of addresses that a pool of config/samples has, so that only the webhook can know.
    let pool = objects::pool("overlapping", &["10.10.1.5-10.10.1.9"]).to_string();
    let path = format!("/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/ipaddresspools?dryRun=All");
    let mut tally = Tally::default();
    let mut ticks = tokio::time::interval(EVERY);
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let request = http::Request::post(&path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(pool.clone().into_bytes());
        let Ok(request) = request else { continue };
        let began = Instant::now();
        match client.request::<Value>(request).await {
            Ok(_) => tally.passed += 1,
            Err(kube::Error::Api(status)) if status.message.contains(REFUSAL) => tally.refused += 1,
            Err(error) => tally.failed.push(format!("{error:#}")),
        }
        tally.slowest = tally.slowest.max(began.elapsed());
    }
    tally
}

async fn reads(client: kube::Client, stop: Arc<AtomicBool>) -> Tally {
    let path = format!("/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/bgppeers/router");
    let mut tally = Tally::default();
    let mut ticks = tokio::time::interval(EVERY);
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let Ok(request) = http::Request::get(&path).body(Vec::new()) else {
            continue;
        };
        let began = Instant::now();
        match client.request::<Value>(request).await {
            Ok(_) => tally.converted += 1,
            Err(error) => tally.failed.push(format!("reading a peer: {error:#}")),
        }
        tally.slowest = tally.slowest.max(began.elapsed());
    }
    tally
}

/// [`during`], where an apply that the webhook does not answer fails, as with `config/fail-closed`. None may be let through.
pub fn during_fail_closed(site: &Site, work: impl FnOnce() -> Result<()>) -> Result<Tally> {
    let overlay = install::overlay(
        site,
        "fail-closed",
        &["config/default"],
        &["config/fail-closed"],
    )?;
    install::apply_path(site, &overlay)?;
    let tally = among(site, true, work);
    install::apply_folder(site, "config/default")?;
    let tally = tally?;
    ensure!(tally.passed == 0, "some were let through: {tally}");
    Ok(tally)
}
