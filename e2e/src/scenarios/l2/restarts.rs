//! Speakers that are killed and come back: the node that announced announces on, and no other in between.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use super::bare::Bare;
use super::faults::{LOST, Stopped, fresh_speakers, speaker};
use super::handles::{LIMIT, announced, keep_servers_away, settles_on};
use super::scenario;
use super::watched::Watched;
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
        "all speakers are killed -9 at once: the same node answers again, no other in between, and no packet is lost",
        all_at_once,
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

fn all_at_once(site: &Site) -> Result<String> {
    let (address, node) = announced(site, "all-at-once")?;
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
    fresh_speakers(site, &super::handles::all_nodes())?;
    settles_on(site, &address, node)?;
    let others = record.others_than(&[node]);
    ensure!(
        others.is_empty(),
        "{others:?} announced the address of {node} in between"
    );
    ensure!(
        record.served.lost == 0,
        "the client lost {} of {}",
        record.served.lost,
        record.served.sent
    );
    // More than for one, as nobody is there to take over: the kubelets take a second or more to start them again, and one
    // that starts waits for the others for up to 3 s (docs/layer2.md).
    ensure!(
        record.unanswered() < Duration::from_secs(5),
        "nobody answered for {:?}",
        record.unanswered()
    );
    Ok(format!("{count} killed; {}", record.told()))
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
