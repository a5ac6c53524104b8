//! `lab`: a real cluster with real routers on one machine, and what is shown, tested and measured on it.

mod control_plane;
mod credentials;
mod host;
mod image;
mod interrupt;
mod network;
mod node;
mod plan;
mod programs;
mod router;
mod run;
mod site;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Parser, Subcommand};

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
    /// Build FerroLB's image archive from the static binaries, without a container engine.
    Image {
        /// Import it into the nodes of the site that is up.
        #[arg(long)]
        import: bool,
        #[arg(long)]
        run: Option<String>,
    },
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
    if let Err(error) = interrupt::watch_signals() {
        eprintln!("error: {error:#}");
        return ExitCode::FAILURE;
    }
    match carry_out(arguments.command) {
        Ok(code) => code,
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
        Command::Image { import, run } => {
            let archive = image::ferrolb(&run::repository().join("target/lab"))?;
            println!("{}", archive.display());
            if import {
                site::import(&Run::find(run.as_deref())?, &archive)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Exec {
            run,
            machine,
            command,
        } => exec(run.as_deref(), &machine, &command),
    }
}

fn up() -> Result<ExitCode> {
    let started = Instant::now();
    let run = site::prepare()?;
    if let Err(error) = site::start(&run) {
        run.remove(true)?;
        eprintln!("logs: {}", run.directory.join("logs").display());
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

fn down(name: Option<&str>) -> Result<ExitCode> {
    for run in Run::all()? {
        let wanted = name.map_or(run.is_kept() || !run.is_alive(), |n| n == run.name);
        if wanted {
            run.remove(false)?;
            println!("removed {}", run.name);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn status() -> Result<ExitCode> {
    for run in Run::all()? {
        let state = if run.is_kept() {
            "left up"
        } else if run.is_alive() {
            "in use"
        } else {
            "dead"
        };
        println!("{} ({state})  {}", run.name, run.directory.display());
        for daemon in run.daemons() {
            let state = daemon
                .process
                .filter(|p| p.is_running())
                .map_or_else(|| "not running".to_owned(), |p| p.id.to_string());
            println!("  {:<24} {state}", daemon.name);
        }
    }
    Ok(ExitCode::SUCCESS)
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
