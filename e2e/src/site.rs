//! The whole site: how it comes up, and the handles with which scenarios, demo and benches work on it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::control_plane::Purpose;
use crate::credentials::Credentials;
use crate::host::{self, Daemon};
use crate::plan::{CONTROL_PLANE, NODES};
use crate::run::Run;
use crate::{control_plane, image, network, node, programs, router};

/// The parts of a new run that need no thread of control inside it.
///
/// Returns with the calling thread in the control plane's namespace; threads that it starts from now on are there, too.
pub fn prepare() -> Result<Run> {
    // What must be built is built before anything exists that would have to be removed.
    programs::kubernetes()?;
    let run = Run::claim()?;
    let result = network::build(&run).and_then(|()| network::enter_control_plane(&run));
    if let Err(error) = result {
        run.remove(false)?;
        return Err(error);
    }
    Ok(run)
}

/// Starts everything on a prepared run; returns when all nodes are ready.
pub fn start(run: &Run) -> Result<()> {
    let started = Instant::now();
    let tell = |what: &str| println!("  {:>5.1} s  {what}", started.elapsed().as_secs_f64());
    let bin = run.directory.join("bin");
    programs::link_kubernetes(&bin)?;
    let credentials = Credentials::create(&run.directory.join("credentials"))?;
    write_kubectl(run)?;
    let images = image::helpers(&run.directory.join("images"))?;
    std::thread::scope(|scope| {
        let control_plane = scope.spawn(|| {
            control_plane::start(run, &bin, &credentials, Purpose::Cluster)?;
            tell("etcd, API server, controller manager and scheduler are up");
            anyhow::Ok(())
        });
        let router = scope.spawn(|| {
            router::start(run)?;
            tell("the router (FRR) is up");
            anyhow::Ok(())
        });
        let runtimes: Vec<_> = NODES
            .iter()
            .enumerate()
            .map(|(index, machine)| {
                scope.spawn({
                    let images = &images;
                    move || node::Node::new(run, index, *machine).start_runtime(images)
                })
            })
            .collect();
        for thread in runtimes {
            join(thread.join())?;
        }
        tell("three container runtimes have their images");
        join(router.join())?;
        join(control_plane.join())
    })?;
    for (index, machine) in NODES.iter().enumerate() {
        node::Node::new(run, index, *machine).start_agents(&bin, &credentials)?;
    }
    let kubelet = run.started_daemon("kubelet-node-1")?;
    host::wait_until("all nodes are ready", Duration::from_secs(90), || {
        anyhow::ensure!(kubelet.is_running(), "the kubelet ended");
        let states = kubectl(
            run,
            &[
                "get",
                "nodes",
                "-o",
                "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}",
            ],
        )?;
        Ok(states.split_whitespace().filter(|s| *s == "True").count() == NODES.len())
    })
    .with_context(|| kubelet.log_tail(10))?;
    tell("three nodes are ready");
    Ok(())
}

/// Starts the control plane alone, for measurements. Machines have their namespaces and cables, and nothing runs on them.
pub fn start_control_plane(run: &Run) -> Result<()> {
    let bin = run.directory.join("bin");
    programs::link_kubernetes(&bin)?;
    let credentials = Credentials::create(&run.directory.join("credentials"))?;
    write_kubectl(run)?;
    control_plane::start(run, &bin, &credentials, Purpose::Bench)
}

fn join(result: std::thread::Result<Result<()>>) -> Result<()> {
    result.map_err(|_| anyhow!("a thread of the setup panicked"))?
}

/// Gives every node an image from an archive.
pub fn import(run: &Run, archive: &std::path::Path) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = NODES
            .iter()
            .enumerate()
            .map(|(index, machine)| {
                scope.spawn(move || node::Node::new(run, index, *machine).import(archive))
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| join(thread.join()))
    })
}

/// kubectl as the cluster's admin.
pub fn kubectl(run: &Run, arguments: &[&str]) -> Result<String> {
    let (program, config) = kubectl_files(run);
    let config = format!("--kubeconfig={}", config.display());
    let mut all = vec![config.as_str()];
    all.extend_from_slice(arguments);
    host::run_in(
        &run.namespace(CONTROL_PLANE.name),
        &program.display().to_string(),
        &all,
    )
}

/// kubectl with this text at its standard input.
pub fn kubectl_with_input(run: &Run, arguments: &[&str], input: &str) -> Result<String> {
    host::run_with_input("nsenter", &kubectl_words(run, arguments), input)
}

/// Whether kubectl succeeds, and what it prints: its complaints first, then its report.
pub fn kubectl_prints(run: &Run, arguments: &[&str], input: &str) -> Result<(bool, String)> {
    let output = host::output_with_input("nsenter", &kubectl_words(run, arguments), input)?;
    let mut printed = String::from_utf8_lossy(&output.stderr).into_owned();
    printed.push_str(&String::from_utf8_lossy(&output.stdout));
    Ok((output.status.success(), printed))
}

/// kubectl as the admin, on the control plane.
fn kubectl_words(run: &Run, arguments: &[&str]) -> Vec<String> {
    let (program, config) = kubectl_files(run);
    let mut words = vec![
        format!("--net=/var/run/netns/{}", run.namespace(CONTROL_PLANE.name)),
        program.display().to_string(),
        format!("--kubeconfig={}", config.display()),
    ];
    words.extend(arguments.iter().map(|word| (*word).to_owned()));
    words
}

fn kubectl_files(run: &Run) -> (PathBuf, PathBuf) {
    (
        run.directory.join("bin/kubectl"),
        run.directory.join("credentials/admin.kubeconfig"),
    )
}

/// A script for people: kubectl in the right namespace with the right credentials.
fn write_kubectl(run: &Run) -> Result<()> {
    let (program, config) = kubectl_files(run);
    let net = run.namespace(CONTROL_PLANE.name);
    let text = format!(
        "#!/bin/sh\nexec nsenter --net=/var/run/netns/{net} '{}' --kubeconfig '{}' \"$@\"\n",
        program.display(),
        config.display()
    );
    let path = run.directory.join("kubectl");
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        .context("make the kubectl script executable")
}

/// What a person can do with a site that was left up.
pub fn instructions(run: &Run) -> String {
    format!(
        "site {name} is up. In it:\n  {dir}/kubectl get nodes,pods -A        kubectl as admin\n  {lab} exec --run {name} client-l2 -- arping -c 3 -I eth0 ADDRESS   a command on a machine: {machines}\n  vtysh --vty_socket {reg}/frr/   the router's command line\n  logs of everything: {dir}/logs\nRemove it with `make lab-down` or `{lab} down --run {name}`.",
        lab = std::env::current_exe()
            .map_or_else(|_| "lab".to_owned(), |path| path.display().to_string()),
        name = run.name,
        dir = run.directory.display(),
        reg = run.registry.display(),
        machines = "router, cp, node-1, node-2, node-3, client-l2, asker, client",
    )
}

/// Ends a daemon as a crash would, and starts it again with the same command.
pub fn kill_and_restart(run: &Run, name: &str) -> Result<Daemon> {
    let mut daemon = run.started_daemon(name)?;
    daemon.kill()?;
    daemon.start()?;
    Ok(daemon)
}
