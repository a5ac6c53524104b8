//! `lab`: a real cluster with real routers on one machine, and what is shown, tested and measured on it.

// Answers of the API server are indexed by name all over: `Value[...]` gives Null for what is absent and does not panic.
#![allow(clippy::indexing_slicing)]

mod bench;
mod bgp_peer;
mod capture;
mod cluster;
mod control_plane;
mod credentials;
mod demo;
mod frames;
mod growth;
mod host;
mod image;
mod install;
mod interrupt;
mod neighbors;
mod network;
mod node;
mod objects;
mod otlp;
mod plan;
mod prober;
mod programs;
mod raw;
mod router;
mod routers;
mod run;
mod scenarios;
mod segment;
mod site;

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

use cluster::Site;
use run::Run;

/// A bare-metal site in namespaces of this machine: three real Kubernetes nodes, a router and two clients. Needs root.
#[derive(Parser)]
#[command(name = "lab", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a site and leave it up.
    Up,
    /// Remove a site that was left up, and what dead runs left behind.
    Down {
        /// Which site, when several are up. Default: all.
        #[arg(long)]
        run: Option<String>,
    },
    /// List the sites on this machine and the state of their processes.
    Status,
    /// Build Kubernetes and etcd, which the lab runs, if they are not there yet.
    Kubernetes,
    /// Build FerroLB's image archive from the static binaries, without a container engine.
    Image {
        /// Import it into the nodes of the site that is up.
        #[arg(long)]
        import: bool,
        #[arg(long)]
        run: Option<String>,
    },
    /// Show one Service from kubectl apply to a packet, step by step.
    Demo {
        /// Leave the site up afterwards.
        #[arg(long)]
        keep: bool,
    },
    /// Run the scenarios on a site of their own.
    Test {
        #[command(flatten)]
        choice: scenarios::Choice,
        /// On this site, which is up and has FerroLB in it; it stays up.
        #[arg(long)]
        run: Option<String>,
        /// Install config/default-no-webhook, and leave out the scenarios that need the webhook.
        #[arg(long, conflicts_with = "run")]
        without_webhook: bool,
        /// Leave the site up afterwards.
        #[arg(long)]
        keep: bool,
        /// Try scenarios with variants in all of them: eBGP and iBGP, one hop and two, with and without MD5.
        #[arg(long)]
        full: bool,
    },
    /// List the scenarios by group.
    List {
        #[command(flatten)]
        choice: scenarios::Choice,
    },
    /// Measure latencies, memory and writes on a control plane of their own.
    Bench {
        #[command(flatten)]
        options: Box<bench::Options>,
        /// Leave the site up afterwards.
        #[arg(long)]
        keep: bool,
    },
    /// Measure one decision and one Service while Services become many, and write charts and table into docs/. No root.
    Growth(growth::Options),
    /// Run a command on a machine of the site that is up.
    Exec {
        #[arg(long)]
        run: Option<String>,
        /// router, cp, node-1, node-2, node-3, client-l2 or client.
        machine: String,
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Nothing is to be cleaned up after a command, and it would inherit that signals are held back.
    let works = !matches!(arguments.command, Command::Exec { .. });
    if works && let Err(error) = interrupt::watch_signals() {
        eprintln!("error: {error:#}");
        return ExitCode::FAILURE;
    }
    match carry_out(arguments.command) {
        Ok(code) => code,
        // What failed because it was told to stop needs no explanation.
        Err(_) if interrupt::check().is_err() => ExitCode::from(130),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up => up(),
        Command::Down { run } => down(run.as_deref()),
        Command::Status => status(),
        Command::Kubernetes => {
            println!("{}", programs::kubernetes()?.display());
            Ok(ExitCode::SUCCESS)
        }
        Command::Image { import, run } => {
            let archive = image::ferrolb(&run::repository().join("target/lab"))?;
            println!("{}", archive.display());
            if import {
                site::import(&Run::find(run.as_deref())?, &archive)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Demo { keep } => show(keep),
        Command::Test {
            choice,
            run,
            without_webhook,
            keep,
            full,
        } => {
            scenarios::set_full(full);
            let mut scenarios = choice.select()?;
            let mut folder = install::EVERYTHING;
            if without_webhook {
                folder = install::WITHOUT_WEBHOOK;
                scenarios.retain(|scenario| !scenario.needs_webhook());
                if scenarios.is_empty() {
                    bail!("every scenario that fits needs the webhook");
                }
            }
            test(&scenarios, folder, run.as_deref(), keep)
        }
        Command::List { choice } => {
            scenarios::list(&choice.select()?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Bench { options, keep } => measure(&options, keep),
        Command::Growth(options) => growth::run(&options).map(|()| ExitCode::SUCCESS),
        Command::Exec {
            run,
            machine,
            command,
        } => exec(run.as_deref(), &machine, &command),
    }
}

fn test(
    scenarios: &[scenarios::Scenario],
    folder: &str,
    on: Option<&str>,
    keep: bool,
) -> Result<ExitCode> {
    if let Some(on) = on {
        let run = Run::find(Some(on))?;
        network::enter_control_plane(&run)?;
        let (_, failed) = scenarios::run(&Site::connect(run)?, scenarios)?;
        return Ok(code(failed == 0));
    }
    let succeeded = on_new_site(keep, |site| {
        scenarios::set_up(site, folder)
            .inspect_err(|_| println!("{}", install::diagnosis(site)))?;
        Ok(scenarios::run(site, scenarios)?.1 == 0)
    })?;
    Ok(code(succeeded))
}

fn show(keep: bool) -> Result<ExitCode> {
    let mut demo = demo::Demo::new();
    let prepared = std::cell::RefCell::new(None);
    let first = demo.step("start the site", "Three real Kubernetes nodes, a control plane, a router and two clients come up in network namespaces of this machine.", || {
        let run = site::prepare()?;
        *prepared.borrow_mut() = Some(run.clone());
        site::start(&run)?;
        Ok("three nodes are ready".into())
    });
    let Some(run) = prepared.into_inner() else {
        first?;
        return Ok(ExitCode::FAILURE);
    };
    let result = first.and_then(|()| {
        let site = Site::connect(run.clone())?;
        demo::run(&mut demo, &site).inspect_err(|_| println!("{}", install::diagnosis(&site)))
    });
    demo.summary();
    leave(&run, keep, result.is_ok())?;
    result.map(|()| ExitCode::SUCCESS)
}

/// A missed target is told in the table and does not fail the command: the machine may be slow.
fn measure(options: &bench::Options, keep: bool) -> Result<ExitCode> {
    let mut rows = bench::Rows::default();
    for part in options.parts() {
        let run = site::prepare()?;
        let result = part(&run, options, &mut rows);
        let left = leave(&run, keep, result.is_ok());
        if let Err(error) = result.and(left) {
            // What was measured before took long.
            rows.print();
            return Err(error);
        }
    }
    rows.print();
    if options.is_whole() {
        rows.save()?;
    }
    if !rows.all_met() {
        println!("not every target was met");
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends the work on a site: it stays up when that was asked for, and else goes; the logs of a failure stay.
fn leave(run: &Run, keep: bool, succeeded: bool) -> Result<()> {
    if keep && interrupt::check().is_ok() {
        run.keep()?;
        println!("{}", site::instructions(run));
        return Ok(());
    }
    let keep_logs = !succeeded && interrupt::check().is_ok();
    run.remove(keep_logs)?;
    if keep_logs {
        println!(
            "removed the site; its logs: {}",
            run.directory.join("logs").display()
        );
    } else {
        println!("removed the site");
    }
    Ok(())
}

fn code(success: bool) -> ExitCode {
    if success {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Starts a site, does the work on it, and removes it whatever happened; the logs of a failure stay.
fn on_new_site(keep: bool, work: impl FnOnce(&Site) -> Result<bool>) -> Result<bool> {
    let started = Instant::now();
    let run = site::prepare()?;
    let result = site::start(&run).and_then(|()| {
        println!(
            "the site is up after {:.1} s",
            started.elapsed().as_secs_f64()
        );
        work(&Site::connect(run.clone())?)
    });
    leave(&run, keep, matches!(result, Ok(true)))?;
    result
}

fn up() -> Result<ExitCode> {
    let started = Instant::now();
    let run = site::prepare()?;
    if let Err(error) = site::start(&run) {
        leave(&run, false, false)?;
        return Err(error);
    }
    run.keep()?;
    println!(
        "up in {:.1} s\n{}",
        started.elapsed().as_secs_f64(),
        site::instructions(&run)
    );
    Ok(ExitCode::SUCCESS)
}

/// Without a name: the sites of this checkout that were left up, and whatever is left of dead runs, whoever's they were.
fn down(name: Option<&str>) -> Result<ExitCode> {
    let mut removed = 0;
    for run in Run::all()? {
        let ours = run.directory.starts_with(run::repository());
        let wanted = name.map_or(run.is_kept() && ours || !run.is_alive(), |n| n == run.name);
        if wanted {
            run.remove(false)?;
            println!("removed {}", run.name);
            removed += 1;
        } else if name.is_none() && run.is_kept() {
            println!("left alone: {}, of {}", run.name, run.directory.display());
        }
    }
    match name {
        Some(name) if removed == 0 => bail!("there is no site {name}; `lab status` lists them"),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn status() -> Result<ExitCode> {
    match list_runs(&mut std::io::stdout().lock()) {
        // Whoever reads has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        listed => listed.map(|()| ExitCode::SUCCESS),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn list_runs(out: &mut impl Write) -> Result<()> {
    for run in Run::all()? {
        let state = if run.is_kept() {
            "left up"
        } else if run.is_alive() {
            "in use"
        } else {
            "dead"
        };
        writeln!(out, "{} ({state})  {}", run.name, run.directory.display())?;
        for daemon in run.daemons() {
            let state = daemon
                .process
                .filter(|p| p.is_running())
                .map_or_else(|| "not running".to_owned(), |p| p.id.to_string());
            writeln!(out, "  {:<24} {state}", daemon.name)?;
        }
    }
    Ok(())
}

fn exec(name: Option<&str>, machine: &str, command: &[String]) -> Result<ExitCode> {
    let run = Run::find(name)?;
    let status = std::process::Command::new("nsenter")
        .arg(format!("--net=/var/run/netns/{}", run.namespace(machine)))
        .args(command)
        .status()?;
    Ok(ExitCode::from(
        u8::try_from(status.code().unwrap_or(1)).unwrap_or(1),
    ))
}
