//! Speakers that are killed and come back: the node that announced announces on, and no other in between.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use super::bare::Bare;
use super::faults::{LOST, Stopped, fresh_speakers, speaker};
use super::handles::{LIMIT, all_nodes, announced, keep_servers_away, settles_on};
use super::scenario;
use super::watched::{Record, Watched};
use crate::cluster::Site;
use crate::control_plane;
use crate::scenarios::{Scenario, workloads};

pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "speaker-restarted-at-once",
        "the announcing speaker is killed -9 and back before it is missed: nobody else claims the address, no packet is lost",
        at_once,
    ),
    scenario(
        "speaker-restarted-by-the-kubelet",
        "the announcing speaker is killed -9 and its kubelet starts it again: no packet is lost, whoever announces meanwhile",
        by_the_kubelet,
    ),
    scenario(
        "all-speakers-at-once",
        "all speakers are killed -9 and started at once: the same node answers again, no other in between, and no packet is lost",
        all_at_once,
    ),
    scenario(
        "all-speakers-by-the-kubelets",
        "all speakers are killed -9 and their kubelets start them again, each in its time: the same node at last, and no packet is lost",
        all_by_the_kubelets,
    ),
    scenario(
        "restart-without-api-server",
        "a speaker that is killed while the API server is away cannot read what it should announce: the others do, until it can",
        restart_without_api_server,
    ),
];

/// The kubelet takes more than a second, so that it stands still and the speaker is started in its place.
fn at_once(site: &Site) -> Result<String> {
    let (address, node) = announced(site, "back-at-once")?;
    let process = speaker(site, node)?;
    let mut bare = Bare::like(site, node, process)?;
    let kubelet = site.run.started_daemon(&format!("kubelet-{node}"))?;
    let watched = Watched::start(site, &address)?;
    let kubelet = Stopped::stop(kubelet.process.context("the kubelet does not run")?);
    let killed = SystemTime::now();
    process.kill();
    let gone = SystemTime::now();
    bare.0.start()?;
    let answered = site.wait("the new speaker answers", LIMIT, || {
        let answers = watched.answers()?;
        Ok(answers.iter().map(|(at, _)| *at).find(|at| *at > gone))
    });
    let answered = answered.with_context(|| bare.0.log_tail(10))?;
    std::thread::sleep(LOST); // by then others would have missed it, and taken the address
    watched.settles_on(site, node, LIMIT)?;
    let record = watched.finish()?;
    drop(bare);
    drop(kubelet);
    fresh_speakers(site, &[node])?;
    let away = answered.duration_since(killed)?;
    let others = record.others_than(&[node]);
    ensure!(
        others.is_empty(),
        "{node} was back after {} ms, and {others:?} announced the address",
        away.as_millis()
    );
    ensure!(
        record.served.lost == 0 && record.unanswered() < LOST,
        "{}",
        record.told()
    );
    Ok(format!(
        "{node} answered again after {} ms; {}",
        away.as_millis(),
        record.told()
    ))
}

fn by_the_kubelet(site: &Site) -> Result<String> {
    let (address, node) = announced(site, "restarted")?;
    let watched = Watched::start(site, &address)?;
    let before = workloads::restarts(site, "speaker")?;
    let killed = SystemTime::now();
    speaker(site, node)?.kill();
    site.wait_for("the speaker is started again", LIMIT, || {
        Ok(workloads::restarts(site, "speaker")? > before)
    })?;
    watched.settles_on(site, node, LIMIT)?;
    let record = watched.finish()?;
    fresh_speakers(site, &[node])?;
    let away = record.away(node, killed - Duration::from_millis(100))?;
    let away = away.context("it never answered again")?;
    // The kubelet takes about as long as the others to notice, so that either may be first.
    let others = record.others_than(&[node]);
    ensure!(
        record.served.lost == 0 && record.unanswered() < LOST,
        "{}",
        record.told()
    );
    Ok(format!(
        "{node} answered again after {} ms; others that announced: {others:?}; {}",
        away.as_millis(),
        record.told()
    ))
}

/// The kubelets stand still, and the speakers are started in their place, so that none is later than the others wait for it.
fn all_at_once(site: &Site) -> Result<String> {
    let (address, node) = announced(site, "all-at-once")?;
    let mut processes = Vec::new();
    let mut bare = Vec::new();
    for node in all_nodes() {
        let process = speaker(site, node)?;
        bare.push(Bare::like(site, node, process)?);
        processes.push(process);
    }
    let mut kubelets = Vec::new();
    for node in all_nodes() {
        let kubelet = site.run.started_daemon(&format!("kubelet-{node}"))?;
        let kubelet = kubelet.process.context("a kubelet does not run")?;
        kubelets.push(Stopped::stop(kubelet));
    }
    let watched = Watched::start(site, &address)?;
    for process in &processes {
        process.signal(Signal::SIGKILL);
    }
    for process in &processes {
        process.kill(); // until it is gone
    }
    let gone = SystemTime::now();
    for speaker in &mut bare {
        speaker.0.start()?;
    }
    let answered = site.wait("a new speaker answers", LIMIT, || {
        let answers = watched.answers()?;
        Ok(answers.iter().map(|(at, _)| *at).find(|at| *at > gone))
    });
    let logs = || {
        let tails = bare.iter().map(|speaker| speaker.0.log_tail(10));
        tails.collect::<Vec<_>>().join("\n")
    };
    answered.with_context(logs)?;
    watched.settles_on(site, node, LIMIT)?;
    let record = watched.finish()?;
    drop(bare);
    drop(kubelets);
    fresh_speakers(site, &all_nodes())?;
    settles_on(site, &address, node)?;
    let others = record.others_than(&[node]);
    ensure!(
        others.is_empty(),
        "{others:?} announced the address of {node} in between"
    );
    all_were_away(&record)?;
    Ok(format!("{} killed; {}", processes.len(), record.told()))
}

fn all_by_the_kubelets(site: &Site) -> Result<String> {
    let (address, node) = announced(site, "all-by-kubelets")?;
    let watched = Watched::start(site, &address)?;
    let before = workloads::restarts(site, "speaker")?;
    let processes = site.run.container_processes("/ferrolb-speaker", None);
    for process in &processes {
        process.signal(Signal::SIGKILL);
    }
    let count = u64::try_from(processes.len())?;
    site.wait_for("all speakers are started again", LIMIT, || {
        Ok(workloads::restarts(site, "speaker")? >= before + count)
    })?;
    watched.settles_on(site, node, LIMIT)?;
    let record = watched.finish()?;
    let late = later_than_the_others(site, node)?;
    fresh_speakers(site, &all_nodes())?;
    settles_on(site, &address, node)?;
    let others = record.others_than(&[node]);
    ensure!(
        others.is_empty() || late > WAITS,
        "{others:?} announced the address of {node}, whose speaker was started {} ms after the first",
        late.as_millis()
    );
    all_were_away(&record)?;
    Ok(format!(
        "{count} killed, the one of {node} started {} ms after the first; others that announced: {others:?}; {}",
        late.as_millis(),
        record.told()
    ))
}

/// So long a speaker that starts waits at least for those that it misses (docs/layer2.md: 3 s from when it has read all).
const WAITS: Duration = Duration::from_millis(2900);

/// How long after the first of all speakers the one of this node was started.
fn later_than_the_others(site: &Site, node: &str) -> Result<Duration> {
    let mut started = Vec::new();
    for other in all_nodes() {
        started.push(speaker(site, other)?.started);
    }
    let first = started.iter().min().context("there are no nodes")?;
    let ticks = speaker(site, node)?.started - first;
    Ok(Duration::from_millis(ticks * 10)) // a hundred per second, for every program (proc_pid_stat(5))
}

/// More than for one, as nobody is there to take over: the kubelets take a second or more to start them again, and one that
/// starts waits for the others for up to 3 s (docs/layer2.md).
fn all_were_away(record: &Record) -> Result<()> {
    ensure!(
        record.served.lost == 0,
        "the client lost {} of {}",
        record.served.lost,
        record.served.sent
    );
    ensure!(
        record.unanswered() < Duration::from_secs(5),
        "nobody answered for {:?}",
        record.unanswered()
    );
    Ok(())
}

fn restart_without_api_server(site: &Site) -> Result<String> {
    let (address, node) = announced(site, "unread")?;
    keep_servers_away(site, "unread", node)?;
    let watched = Watched::start(site, &address)?;
    site.run.started_daemon(control_plane::API_SERVER)?.kill()?;
    let first = speaker(site, node)?;
    first.kill();
    let successor = watched.leaves(site, node, LIMIT)?;
    // The kubelet needs no API server to start it again; it must not take the address back without a word to say.
    site.wait_for("the speaker runs again", LIMIT, || {
        Ok(speaker(site, node).is_ok_and(|now| now.id != first.id))
    })?;
    watched.settles_on(site, successor, LIMIT)?;
    std::thread::sleep(Duration::from_secs(8)); // two rounds in which the others look for speakers that they miss
    watched.settles_on(site, successor, LIMIT)?;
    let daemon = crate::site::kill_and_restart(&site.run, control_plane::API_SERVER)?;
    control_plane::wait_ready(&site.run, &daemon)?;
    watched.settles_on(site, node, LIMIT * 3)?;
    let record = watched.finish()?;
    let unanswered = record.unanswered();
    ensure!(
        unanswered < LOST,
        "nobody answered for {unanswered:?}; {}",
        record.told()
    );
    fresh_speakers(site, &[node])?;
    Ok(format!(
        "{successor} announced while {node} could not read, then {node} again; {}",
        record.told()
    ))
}
