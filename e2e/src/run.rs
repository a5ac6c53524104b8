//! Which runs of the lab exist on this machine, and what of a dead one must be removed?
//!
//! A run is claimed by making `/run/ferrolb-lab/NAME`, which is atomic and the same for every clone of the repository.
//! All its namespaces begin with that name, all its processes are recorded beside it, all its files lie there or in
//! `target/lab/NAME`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::host::{self, Daemon, Process};

const REGISTRY: &str = "/run/ferrolb-lab";
const NAMESPACES: &str = "/var/run/netns";

/// One run of the lab.
#[derive(Clone, Debug)]
pub struct Run {
    pub name: String,
    /// Files that may be large, and the logs: `target/lab/NAME`.
    pub directory: PathBuf,
    /// Sockets, whose paths must be short, and the records of the daemons: `/run/ferrolb-lab/NAME`.
    pub registry: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Claim {
    directory: PathBuf,
    owner: Process,
    /// The site outlives the process that made it.
    kept: bool,
}

/// The root of the repository that this program was built from.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default()
}

impl Run {
    /// Removes what dead runs left behind, and takes the first free name.
    pub fn claim() -> Result<Self> {
        for run in Self::all()? {
            if !run.is_alive() {
                eprintln!("removing what the dead run {} left behind", run.name);
                run.remove(false)?;
            }
        }
        fs::create_dir_all(REGISTRY).context("make the registry of runs (the lab needs root)")?;
        for number in 0..100 {
            let name = format!("fl{number}");
            let registry = Path::new(REGISTRY).join(&name);
            match fs::create_dir(&registry) {
                Ok(()) => {
                    let directory = repository().join("target/lab").join(&name);
                    let run = Self {
                        name,
                        directory,
                        registry,
                    };
                    run.write_claim(false)?;
                    if run.directory.exists() {
                        fs::remove_dir_all(&run.directory)
                            .context("remove an older run's directory")?;
                    }
                    fs::create_dir_all(run.directory.join("logs"))?;
                    fs::create_dir_all(run.registry.join("daemons"))?;
                    return Ok(run);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).context("claim a run (the lab needs root)"),
            }
        }
        bail!("a hundred runs are there already; remove some with `lab down`")
    }

    /// The run of this name, or the only one there is.
    pub fn find(name: Option<&str>) -> Result<Self> {
        let runs = Self::all()?;
        match name {
            Some(name) => runs
                .into_iter()
                .find(|r| r.name == name)
                .with_context(|| format!("no run is called {name}; `lab status` lists them")),
            None => match <[Self; 1]>::try_from(runs) {
                Ok([run]) => Ok(run),
                Err(runs) if runs.is_empty() => bail!("no site is up; `lab up` makes one"),
                Err(runs) => bail!(
                    "several sites are up, choose with --run: {}",
                    runs.iter()
                        .map(|r| r.name.as_str())
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            },
        }
    }

    pub fn all() -> Result<Vec<Self>> {
        let mut runs = Vec::new();
        let Ok(entries) = fs::read_dir(REGISTRY) else {
            return Ok(runs);
        };
        for entry in entries {
            let registry = entry?.path();
            let name = registry
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let directory = read_claim(&registry).map_or_else(
                || repository().join("target/lab").join(&name),
                |c| c.directory,
            );
            runs.push(Self {
                name,
                directory,
                registry,
            });
        }
        runs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(runs)
    }

    /// Whether somebody still uses it: its owner runs, or it was left up on purpose.
    pub fn is_alive(&self) -> bool {
        match read_claim(&self.registry) {
            Some(claim) => claim.owner.is_running() || claim.kept,
            // Claimed a moment ago by a run that has not written its claim yet, or dead before it could.
            None => fs::metadata(&self.registry)
                .and_then(|m| m.modified())
                .is_ok_and(|t| t.elapsed().is_ok_and(|e| e < Duration::from_secs(10))),
        }
    }

    pub fn is_kept(&self) -> bool {
        read_claim(&self.registry).is_some_and(|c| c.kept)
    }

    /// Leaves the site up when this process ends.
    pub fn keep(&self) -> Result<()> {
        self.write_claim(true)
    }

    fn write_claim(&self, kept: bool) -> Result<()> {
        let claim = Claim {
            directory: self.directory.clone(),
            owner: Process::current(),
            kept,
        };
        fs::write(
            self.registry.join("run.json"),
            serde_json::to_vec_pretty(&claim)?,
        )
        .context("write the claim of the run")
    }

    /// The full name of one of the run's network namespaces.
    pub fn namespace(&self, place: &str) -> String {
        format!("{}-{place}", self.name)
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.directory.join("logs").join(format!("{name}.log"))
    }

    /// A daemon of this run, not started yet.
    pub fn daemon(
        &self,
        name: &str,
        place: &str,
        program: impl Into<PathBuf>,
        arguments: Vec<String>,
    ) -> Daemon {
        Daemon {
            name: name.to_owned(),
            namespace: self.namespace(place),
            program: program.into(),
            arguments,
            environment: Vec::new(),
            log: self.log(name),
            process: None,
            record: self.registry.join("daemons").join(format!("{name}.json")),
        }
    }

    /// A daemon that was started before, perhaps by another process.
    pub fn started_daemon(&self, name: &str) -> Result<Daemon> {
        Daemon::load(&self.registry.join("daemons").join(format!("{name}.json")))
    }

    pub fn daemons(&self) -> Vec<Daemon> {
        let Ok(entries) = fs::read_dir(self.registry.join("daemons")) else {
            return Vec::new();
        };
        let mut daemons: Vec<_> = entries
            .flatten()
            .filter_map(|e| Daemon::load(&e.path()).ok())
            .collect();
        daemons.sort_by(|a, b| a.name.cmp(&b.name));
        daemons
    }

    /// Ends every process of the run and removes all that it made on this machine.
    ///
    /// With `keep_logs` the logs stay in `target/lab/NAME/logs` for whoever looks into a failure.
    pub fn remove(&self, keep_logs: bool) -> Result<()> {
        // Kubelets first, or they would start again what is being ended.
        let mut daemons = self.daemons();
        daemons.sort_by_key(|d| !d.name.starts_with("kubelet"));
        for daemon in &daemons {
            if let Some(process) = daemon.process {
                process.signal(Signal::SIGKILL);
            }
        }
        let containers = self.container_ids();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let processes = self.processes();
            if processes.is_empty() {
                break;
            }
            if Instant::now() > deadline {
                bail!("processes of {} do not end: {processes:?}", self.name);
            }
            for process in processes {
                process.signal(Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for daemon in &daemons {
            if let Some(process) = daemon.process {
                process.kill();
            }
        }
        for socket in containers.values() {
            let _ = fs::remove_file(socket);
        }
        remove_cgroups(&containers.keys().cloned().collect());
        self.unmount_all()?;
        for namespace in self.namespaces() {
            host::run_always("ip", &["netns", "delete", &namespace])?;
        }
        let prefix = format!("{}-", self.name);
        for entry in fs::read_dir("/var/lib/cni/results")
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            // The loopback network of every pod is called the same by all; there the container tells the owner.
            if name.starts_with(&prefix) || containers.keys().any(|id| name.contains(id.as_str())) {
                let _ = fs::remove_file(entry.path());
            }
        }
        if keep_logs {
            for entry in fs::read_dir(&self.directory)
                .into_iter()
                .flatten()
                .flatten()
            {
                if entry.file_name() != "logs" {
                    remove_path(&entry.path())?;
                }
            }
        } else {
            remove_path(&self.directory)?;
        }
        remove_path(&self.registry)
    }

    /// The run's network namespaces, found by their prefix.
    pub fn namespaces(&self) -> Vec<String> {
        let prefix = format!("{}-", self.name);
        let entries = fs::read_dir(NAMESPACES).into_iter().flatten().flatten();
        entries
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .filter(|n| n.starts_with(&prefix))
            .collect()
    }

    /// Every process that lives in one of the run's namespaces or was started by one of its container shims.
    fn processes(&self) -> Vec<Process> {
        let own: BTreeSet<u64> = self
            .namespaces()
            .iter()
            .filter_map(|n| fs::metadata(Path::new(NAMESPACES).join(n)).ok())
            .map(|m| m.ino())
            .collect();
        let marker = format!("{}/", self.registry.display());
        let me = Process::current();
        let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        let mut found = BTreeSet::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(id) = entry
                .file_name()
                .to_str()
                .and_then(|n| n.parse::<i32>().ok())
            else {
                continue;
            };
            if let Some(parent) = parent_of(id) {
                children.entry(parent).or_default().push(id);
            }
            let in_namespace =
                fs::metadata(format!("/proc/{id}/ns/net")).is_ok_and(|m| own.contains(&m.ino()));
            let shim = fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|c| {
                let line = String::from_utf8_lossy(&c).replace('\0', " ");
                line.contains("containerd-shim") && line.contains(&marker)
            });
            if in_namespace || shim {
                found.insert(id);
            }
        }
        let mut queue: Vec<i32> = found.iter().copied().filter(|id| *id != me.id).collect();
        while let Some(id) = queue.pop() {
            for child in children.get(&id).into_iter().flatten() {
                if found.insert(*child) {
                    queue.push(*child);
                }
            }
        }
        // This process itself works inside the control plane's namespace, and whoever started it may, too.
        let mut ancestor = Some(me.id);
        while let Some(id) = ancestor.filter(|id| *id > 1) {
            found.remove(&id);
            ancestor = parent_of(id);
        }
        found.into_iter().filter_map(Process::running).collect()
    }

    /// Every process of a node: those in its namespace, its container shims, and those in its containers.
    pub fn node_processes(&self, node: &str) -> Vec<Process> {
        let namespace = fs::metadata(Path::new(NAMESPACES).join(self.namespace(node)));
        let namespace = namespace.map(|m| m.ino()).ok();
        let marker = format!("{}/{node}/", self.registry.display());
        let is_of_node = |id: i32| {
            let net = fs::metadata(format!("/proc/{id}/ns/net")).map(|m| m.ino());
            let line = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
            net.ok() == namespace || line.contains("containerd-shim") && line.contains(&marker)
        };
        let of_node = |process: &Process| {
            // A process in a container of the pod network has neither, but the shim above it.
            let mut ancestor = Some(process.id);
            while let Some(id) = ancestor.filter(|id| *id > 1) {
                if is_of_node(id) {
                    return true;
                }
                ancestor = parent_of(id);
            }
            false
        };
        self.processes().into_iter().filter(of_node).collect()
    }

    /// The processes in this run's containers that run this program, perhaps only those on one node.
    pub fn container_processes(&self, program: &str, node: Option<&str>) -> Vec<Process> {
        let root = |id: i32| fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let on_node = |process: &Process| {
            // The parent is the shim, whose command line holds the path of its node's containerd.
            let shim = parent_of(process.id).map(root).unwrap_or_default();
            node.is_none_or(|node| shim.contains(&format!("{}/{node}/", self.registry.display())))
        };
        self.processes()
            .into_iter()
            .filter(|p| root(p.id).split('\0').next() == Some(program))
            .filter(on_node)
            .collect()
    }

    /// The containers of all nodes with the sockets of their shims, which lie outside the run's own directories.
    fn container_ids(&self) -> BTreeMap<String, PathBuf> {
        let mut containers = BTreeMap::new();
        for node in fs::read_dir(&self.registry).into_iter().flatten().flatten() {
            let tasks = node
                .path()
                .join("state/io.containerd.runtime.v2.task/k8s.io");
            for task in fs::read_dir(tasks).into_iter().flatten().flatten() {
                let address = fs::read_to_string(task.path().join("address")).unwrap_or_default();
                let socket = PathBuf::from(address.trim().trim_start_matches("unix://"));
                containers.insert(task.file_name().to_string_lossy().into_owned(), socket);
            }
        }
        containers
    }

    fn unmount_all(&self) -> Result<()> {
        let roots = [
            self.directory.display().to_string(),
            self.registry.display().to_string(),
        ];
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("read the mounts")?;
        let mut below: Vec<String> = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .map(|path| path.replace("\\040", " "))
            .filter(|path| {
                roots.iter().any(|root| {
                    path.strip_prefix(root.as_str())
                        .is_some_and(|rest| rest.starts_with('/'))
                })
            })
            .collect();
        // The last mounted first: what lies deeper or over another is listed later.
        below.reverse();
        for path in below {
            // A mount may have gone with the one above it.
            let _ = umount2(path.as_str(), MntFlags::MNT_DETACH);
        }
        Ok(())
    }
}

fn read_claim(registry: &Path) -> Option<Claim> {
    serde_json::from_slice(&fs::read(registry.join("run.json")).ok()?).ok()
}

fn parent_of(id: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .split_ascii_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

fn remove_path(path: &Path) -> Result<()> {
    let result = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removes the (now empty) control groups that were made for these containers.
fn remove_cgroups(containers: &BTreeSet<String>) {
    fn visit(directory: &Path, depth: usize, containers: &BTreeSet<String>) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|t| t.is_dir()) {
                continue;
            }
            if containers.contains(entry.file_name().to_string_lossy().as_ref()) {
                let _ = fs::remove_dir(entry.path());
            } else if depth > 0 {
                visit(&entry.path(), depth - 1, containers);
            }
        }
    }
    let root = Path::new("/sys/fs/cgroup");
    visit(root, 4, containers);
    // In the unified hierarchy the group lies at the root.
    let _ = fs::remove_dir(root.join("k8s.io"));
    for hierarchy in fs::read_dir(root).into_iter().flatten().flatten() {
        // Only goes when it is empty, that is when nobody else has containers.
        let _ = fs::remove_dir(hierarchy.path().join("k8s.io"));
    }
}
