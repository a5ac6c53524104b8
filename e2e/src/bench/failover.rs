//! How long an address is not served when its node is lost, and when it is moved on purpose. Seen by two clients: one that
//! sends a datagram every 5 ms and follows what its cache says, and one that asks every 5 ms who has the address, as if
//! its cache were empty.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::rows::{Rows, at_most};
use crate::cluster::{Site, service_path};
use crate::host::Process;
use crate::plan::CLIENT_L2;
use crate::scenarios::l2::faults::{Taint, fresh_speakers, pod_on, speaker};
use crate::scenarios::l2::handles::{
    advertise, announcer, baseline, only, pool, prefer, readvertise, service,
};
use crate::scenarios::l2::watched::{Record, Watched};
use crate::scenarios::workloads;
use crate::{install, interrupt, network, prober};

/// The two nodes that the address may be on. The servers are on the third, so that they outlive whatever happens.
const CANDIDATES: [&str; 2] = ["node-1", "node-2"];
const SERVERS: &str = "node-3";
/// What is made for this measurement is all called so.
const NAME: &str = "bench-failover";
/// Within this time everything must have found its place again.
const LIMIT: Duration = Duration::from_secs(60);

/// One way to lose a node or to move an address.
struct Kind {
    what: &'static str,
    run: fn(&Ground<'_>) -> Result<Record>,
    promise: Promise,
}

/// What a client may expect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Promise {
    /// Nothing happens, and what is measured is the machine.
    Nothing,
    Loss,
    Move,
}

const KINDS: [Kind; 8] = [
    Kind {
        what: "left alone",
        run: left_alone,
        promise: Promise::Nothing,
    },
    Kind {
        what: "speaker killed -9 for good",
        run: killed,
        promise: Promise::Loss,
    },
    Kind {
        what: "speaker killed -9, started again by the kubelet",
        run: restarted,
        promise: Promise::Loss,
    },
    Kind {
        what: "node's link cut",
        run: cut,
        promise: Promise::Loss,
    },
    Kind {
        what: "node frozen",
        run: frozen,
        promise: Promise::Loss,
    },
    Kind {
        what: "moved by drain",
        run: drained,
        promise: Promise::Move,
    },
    Kind {
        what: "moved by node selector",
        run: selected,
        promise: Promise::Move,
    },
    Kind {
        what: "moved by preference",
        run: preferred,
        promise: Promise::Move,
    },
];

/// The Service under test.
struct Ground<'a> {
    site: &'a Site,
    address: String,
}

/// Measures every kind so many times, on a site with kubelets and FerroLB.
pub fn measure(site: &Site, runs: usize, rows: &mut Rows) -> Result<()> {
    pool(site, NAME)?;
    advertise(site, NAME, NAME, &unchanged())?;
    let address = service(site, NAME, NAME)?;
    site.patch(
        &service_path(NAME),
        &json!({"spec": {"selector": {"app": null, "on": SERVERS}}}),
    )?;
    let ground = Ground { site, address };
    for kind in KINDS {
        let mut records = Vec::new();
        for number in 0..runs {
            interrupt::check()?;
            let record = ground
                .at_rest()
                .and_then(|()| (kind.run)(&ground))
                .with_context(|| format!("{}, run {}", kind.what, number + 1))?;
            println!(
                "  {}, {} of {runs}: {}",
                kind.what,
                number + 1,
                record.told()
            );
            records.push(record);
        }
        ground.at_rest()?;
        report(&kind, &records, rows);
    }
    site.delete(&service_path(NAME))
}

fn report(kind: &Kind, records: &[Record], rows: &mut Rows) {
    // The client asks every 5 ms, which is how finely it can tell that nothing happened.
    let (median, longest) = match kind.promise {
        Promise::Nothing => (None, None),
        Promise::Loss => (at_most(2000.0), at_most(3500.0)),
        Promise::Move => (at_most(5.0), at_most(50.0)),
    };
    let what = kind.what;
    for (share, how, bound) in [(0.5, "p50", median), (1.0, "max", longest)] {
        let outages = records.iter().map(|r| Some(r.served.outage));
        rows.percentile(&format!("{what}: outage, {how}"), outages, share, bound);
    }
    // The time between two answers is never zero, so that a move has no median to reach here.
    let median = median.filter(|_| kind.promise == Promise::Loss);
    for (share, how, bound) in [(0.5, "p50", median), (1.0, "max", longest)] {
        let silences = records.iter().map(|r| Some(r.unanswered()));
        let what = format!("{what}: no answer to \"who has\", {how}");
        rows.percentile(&what, silences, share, bound);
    }
}

fn unchanged() -> Value {
    json!({"nodeSelectors": CANDIDATES.map(only), "preferredNodeSelectors": null})
}

impl Ground<'_> {
    /// Everything is as before the first run: all speakers run, the advertisement is whole, and the client is served.
    fn at_rest(&self) -> Result<()> {
        let (site, address) = (self.site, &self.address);
        readvertise(site, NAME, &unchanged())?;
        install::rolled_out(site)?;
        let node = baseline(address, &CANDIDATES)?;
        site.wait_for(&format!("{node} announces again"), LIMIT, || {
            Ok(announcer(site, address)? == node)
        })?;
        Ok(())
    }

    fn node(&self) -> Result<&'static str> {
        baseline(&self.address, &CANDIDATES)
    }

    fn other(&self) -> Result<&'static str> {
        let node = self.node()?;
        let other = CANDIDATES.into_iter().find(|n| *n != node);
        other.context("there is no other node")
    }

    fn watch(&self) -> Result<Watched> {
        Watched::start(self.site, &self.address)
    }

    /// The other node announces, and the client is served.
    fn taken_over(&self, watched: Watched) -> Result<Record> {
        watched.settles_on(self.site, self.other()?, LIMIT)?;
        self.served(watched)
    }

    fn served(&self, watched: Watched) -> Result<Record> {
        self.site.wait_for("the client is served", LIMIT, || {
            prober::http(&self.site.run, CLIENT_L2.name, &self.address).map(|_| true)
        })?;
        watched.finish()
    }
}

/// Processes that stand still until this is dropped.
struct Stopped(Vec<Process>);

impl Stopped {
    fn stop(processes: Vec<Process>) -> Self {
        processes.iter().for_each(|p| p.signal(Signal::SIGSTOP));
        Self(processes)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.iter().for_each(|p| p.signal(Signal::SIGCONT));
    }
}

/// For about as long as a move is watched.
fn left_alone(ground: &Ground<'_>) -> Result<Record> {
    let watched = ground.watch()?;
    std::thread::sleep(Duration::from_secs(1)); // nothing is what shall happen
    ground.served(watched)
}

/// The kubelet stands still meanwhile, or it would start the speaker again.
fn killed(ground: &Ground<'_>) -> Result<Record> {
    let (site, node) = (ground.site, ground.node()?);
    let watched = ground.watch()?;
    let kubelet = site.run.started_daemon(&format!("kubelet-{node}"))?;
    let kubelet = Stopped::stop(kubelet.process.into_iter().collect());
    speaker(site, node)?.kill();
    let record = ground.taken_over(watched)?;
    drop(kubelet);
    // Not the same pod again, which would be made to wait longer each time.
    fresh_speakers(site, &[node])?;
    Ok(record)
}

fn restarted(ground: &Ground<'_>) -> Result<Record> {
    let (site, node) = (ground.site, ground.node()?);
    let watched = ground.watch()?;
    let before = workloads::restarts(site, "speaker")?;
    speaker(site, node)?.kill();
    site.wait_for("the speaker is started again", LIMIT, || {
        Ok(workloads::restarts(site, "speaker")? > before)
    })?;
    watched.settles_on(site, node, LIMIT)?;
    let record = ground.served(watched)?;
    fresh_speakers(site, &[node])?;
    Ok(record)
}

fn cut(ground: &Ground<'_>) -> Result<Record> {
    let node = ground.node()?;
    let watched = ground.watch()?;
    network::set_link(&ground.site.run, node, false)?;
    let record = ground.taken_over(watched);
    network::set_link(&ground.site.run, node, true)?;
    record
}

/// All processes of the node stand still, those in its containers too. Its kernel is this machine's, and goes on
/// forwarding: so the client with a cache sees nothing of it, and the one with an empty cache all.
fn frozen(ground: &Ground<'_>) -> Result<Record> {
    let watched = ground.watch()?;
    let stopped = Stopped::stop(ground.site.run.node_processes(ground.node()?));
    let record = ground.taken_over(watched);
    drop(stopped);
    record
}

fn drained(ground: &Ground<'_>) -> Result<Record> {
    let (site, node) = (ground.site, ground.node()?);
    let pod = pod_on(site, node)?.context("no speaker runs there")?;
    let watched = ground.watch()?;
    let taint = Taint::put(site, node)?;
    site.delete(&pod)?;
    let record = ground.taken_over(watched);
    drop(taint);
    site.wait_for("a new speaker runs there", LIMIT, || {
        Ok(pod_on(site, node)?.is_some_and(|now| now != pod))
    })?;
    record
}

fn selected(ground: &Ground<'_>) -> Result<Record> {
    let watched = ground.watch()?;
    let selector = json!({"nodeSelectors": [only(ground.other()?)]});
    readvertise(ground.site, NAME, &selector)?;
    ground.taken_over(watched)
}

fn preferred(ground: &Ground<'_>) -> Result<Record> {
    let watched = ground.watch()?;
    let other = only(ground.other()?);
    let preference = json!({"preferredNodeSelectors": [prefer(100, &other)]});
    readvertise(ground.site, NAME, &preference)?;
    ground.taken_over(watched)
}
