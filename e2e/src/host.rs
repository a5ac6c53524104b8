//! Runs the programs of this machine: once, or as a daemon that outlives the caller.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::interrupt;

/// A process by its id and its start time, because an id alone is given away again after the process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub id: i32,
    /// Clock ticks after boot, field 22 of `/proc/ID/stat`.
    pub started: u64,
}

impl Process {
    /// The process that has this id now, unless it is gone or only waits to be collected. Its first thread may be done before
    /// the others, which still hold its sockets.
    pub fn running(id: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The second field is the name in brackets, which may itself hold blanks and brackets.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let started = fields.nth(18)?.parse().ok()?;
        let threads = || fs::read_dir(format!("/proc/{id}/task")).map_or(0, Iterator::count);
        let is_done = matches!(state, "Z" | "X") && threads() <= 1;
        (!is_done).then_some(Self { id, started })
    }

    /// How long it has kept a processor busy, in user and kernel mode.
    pub fn processor_time(self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id)).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        // Fields 14 and 15 in ticks, of which Linux counts a hundred per second for every program (proc_pid_stat(5)).
        let ticks: u64 = fields
            .split_ascii_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|f| f.parse::<u64>().ok())
            .sum();
        Duration::from_millis(ticks * 10)
    }

    pub fn current() -> Self {
        let id = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
        Self::running(id).unwrap_or(Self { id, started: 0 })
    }

    pub fn is_running(self) -> bool {
        Self::running(self.id) == Some(self)
    }

    /// Sends the signal if this very process still runs.
    pub fn signal(self, signal: Signal) {
        if self.is_running() {
            // It may end between the look and the signal; then there is nothing left to do.
            let _ = kill(Pid::from_raw(self.id), signal);
        }
    }

    /// Kills the process and returns when it is gone.
    pub fn kill(self) {
        self.signal(Signal::SIGKILL);
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.is_running() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        // Collects it if it was a child of ours; for all others this is an error without a meaning.
        let _ = nix::sys::wait::waitpid(
            Pid::from_raw(self.id),
            Some(nix::sys::wait::WaitPidFlag::WNOHANG),
        );
    }
}

/// Runs a program to its end and returns what it printed. Fails with its error output.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<String> {
    interrupt::check()?;
    run_always(program, arguments)
}

/// Like [`run`], also after an interrupt: what cleaning up needs.
pub fn run_always<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {program}"))?;
    finish(program, arguments, &output)
}

/// Runs a program with this text as its input.
pub fn run_with_input<S: AsRef<OsStr>>(
    program: &str,
    arguments: &[S],
    input: &str,
) -> Result<String> {
    finish(
        program,
        arguments,
        &output_with_input(program, arguments, input)?,
    )
}

/// Runs a program with this text as its input, whatever it says of its success.
pub fn output_with_input<S: AsRef<OsStr>>(
    program: &str,
    arguments: &[S],
    input: &str,
) -> Result<Output> {
    interrupt::check()?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {program}"))?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(input.as_bytes())
            .with_context(|| format!("write the input of {program}"))?;
    }
    child
        .wait_with_output()
        .with_context(|| format!("wait for {program}"))
}

fn finish<S: AsRef<OsStr>>(program: &str, arguments: &[S], output: &Output) -> Result<String> {
    if !output.status.success() {
        let words: Vec<_> = arguments
            .iter()
            .map(|a| a.as_ref().to_string_lossy())
            .collect();
        bail!(
            "{program} {} failed ({}): {}{}",
            words.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim(),
            String::from_utf8_lossy(&output.stdout).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program in a network namespace. `nsenter` and not `ip netns exec`: the latter mounts another /sys.
pub fn run_in(namespace: &str, program: &str, arguments: &[&str]) -> Result<String> {
    let net = format!("--net=/var/run/netns/{namespace}");
    let mut all = vec![net.as_str(), program];
    all.extend_from_slice(arguments);
    run("nsenter", &all)
}

/// A program that runs until it is told to stop, with all that is needed to start it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Daemon {
    pub name: String,
    /// The network namespace it lives in, by its full name.
    pub namespace: String,
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub log: PathBuf,
    pub process: Option<Process>,
    /// Where this record is kept, so that whoever cleans up finds the process.
    pub record: PathBuf,
}

impl Daemon {
    /// Starts the program and records its process.
    pub fn start(&mut self) -> Result<()> {
        interrupt::check()?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("open {}", self.log.display()))?;
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/var/run/netns/{}", self.namespace))
            .arg(&self.program)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(k, v)| (k, v)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A group of its own: ctrl-C at the terminal is for us, who then end the daemons in order.
            .process_group(0);
        // A program inherits which signals are blocked, and with ours it could not be told to end. A signal for us in these
        // few microseconds ends us as if we had never blocked it; `lab down` then does what is left.
        let blocked = SigSet::empty().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let child = command.spawn();
        blocked.thread_set_mask()?;
        let child = child.with_context(|| format!("start {}", self.name))?;
        let id = i32::try_from(child.id()).context("process id out of range")?;
        self.process = Some(Process::running(id).unwrap_or(Process { id, started: 0 }));
        self.save()
    }

    pub fn is_running(&self) -> bool {
        self.process.is_some_and(Process::is_running)
    }

    /// Ends the process the hard way, as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(process) = self.process.take() {
            process.kill();
        }
        self.save()
    }

    /// The last lines of its log, for a message about a failure.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }

    pub fn load(record: &Path) -> Result<Self> {
        let text = fs::read(record).with_context(|| format!("read {}", record.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("parse {}", record.display()))
    }

    fn save(&self) -> Result<()> {
        fs::write(&self.record, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("write {}", self.record.display()))
    }
}

/// The last lines of a file, or nothing when it cannot be read.
pub fn tail(path: &Path, lines: usize) -> String {
    let Ok(bytes) = fs::read(path) else {
        return String::new();
    };
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<_> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..)
        .unwrap_or_default()
        .join("\n")
}

/// Asks again until the answer is yes, or says what was waited for in vain.
pub fn wait_until(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        interrupt::check()?;
        if ready()? {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{what}: not within {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(25));
    }
}
