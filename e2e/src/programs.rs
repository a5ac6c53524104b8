//! Where do the programs come from? Kubernetes and etcd are built from Go modules, once, into one binary; the small
//! programs inside the lab's own images are built by rustc.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::host;
use crate::run::repository;

/// All Kubernetes programs that the lab runs.
const KUBERNETES: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubectl",
];

const VERSION: (&str, &str) = ("1", "36");

fn cache() -> PathBuf {
    repository().join("target/lab/bin")
}

/// Links every Kubernetes program into this directory, building them first where they are not there yet.
///
/// Programs in the directory that `KUBEBUILDER_ASSETS` names come before our own.
pub fn link_kubernetes(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).context("make the directory of programs")?;
    let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    for program in KUBERNETES {
        let given = assets
            .as_ref()
            .map(|a| a.join(program))
            .filter(|p| p.exists());
        let target = match given {
            Some(path) => path.canonicalize().context("resolve KUBEBUILDER_ASSETS")?,
            None => kubernetes()?,
        };
        symlink(target, directory.join(program)).with_context(|| format!("link {program}"))?;
    }
    Ok(())
}

/// The binary that is every Kubernetes program, built when its sources or modules have changed since.
pub fn kubernetes() -> Result<PathBuf> {
    let source = repository().join("e2e/kube");
    let binary = cache().join("kube");
    let stamp = cache().join("kube.stamp");
    let wanted = digest(&[source.join("go.sum"), source.join("main.go")])?;
    if binary.exists() && fs::read_to_string(&stamp).is_ok_and(|s| s == wanted) {
        return Ok(binary);
    }
    fs::create_dir_all(cache())?;
    println!("building Kubernetes and etcd from Go modules, once; some eight minutes on two cores");
    let package = "k8s.io/component-base/version";
    let (major, minor) = VERSION;
    let version = module_version(&source, "k8s.io/kubernetes")?;
    let flags = format!(
        "-s -w -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
    );
    let fresh = cache().join(format!("kube.{}", std::process::id()));
    let arguments = [
        "build",
        "-v",
        "-trimpath",
        "-ldflags",
        &flags,
        "-o",
        &fresh.display().to_string(),
        ".",
    ]
    .map(str::to_owned);
    go(&source, &arguments, &[])?;
    // The rename is atomic, so that a run beside this one never starts half a binary.
    fs::rename(&fresh, &binary)?;
    fs::write(stamp, wanted)?;
    Ok(binary)
}

/// Runs the Go tool and tells now and then how far it is; it compiles in silence otherwise.
pub fn go(directory: &Path, arguments: &[String], environment: &[(&str, &str)]) -> Result<()> {
    let mut child = Command::new("go")
        .args(arguments)
        .current_dir(directory)
        .env("CGO_ENABLED", "0")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("start go; scripts/prerequisites.sh says how to get it")?;
    let started = Instant::now();
    let (mut packages, mut told, mut last) = (0, started, Vec::new());
    if let Some(output) = child.stderr.take() {
        for line in BufReader::new(output).lines() {
            let line = line?;
            packages += 1;
            if told.elapsed().as_secs() >= 10 {
                println!(
                    "  {:>4} s  {packages} packages, now {line}",
                    started.elapsed().as_secs()
                );
                told = Instant::now();
            }
            last.push(line);
            if last.len() > 20 {
                last.remove(0);
            }
        }
    }
    if !child.wait()?.success() {
        bail!("go {} failed:\n{}", arguments.join(" "), last.join("\n"));
    }
    println!(
        "  built {packages} packages in {} s",
        started.elapsed().as_secs()
    );
    Ok(())
}

fn module_version(source: &Path, module: &str) -> Result<String> {
    let text = fs::read_to_string(source.join("go.mod"))?;
    let line = text
        .lines()
        .map(str::trim)
        .find_map(|l| l.strip_prefix(module).filter(|rest| rest.starts_with(" v")));
    Ok(line
        .with_context(|| format!("{module} is not in go.mod"))?
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned())
}

/// One of the small programs in e2e/images, as a static binary.
pub fn small(name: &str) -> Result<PathBuf> {
    let source = repository().join("e2e/images").join(format!("{name}.rs"));
    let binary = cache().join(name);
    let stamp = cache().join(format!("{name}.stamp"));
    let wanted = digest(std::slice::from_ref(&source))?;
    if binary.exists() && fs::read_to_string(&stamp).is_ok_and(|s| s == wanted) {
        return Ok(binary);
    }
    // A folder of its own: rustc puts its object files beside the binary, and two labs may build at once.
    let folder = cache().join(format!("{name}.{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let fresh = folder.join(name);
    let (source, output) = (source.display().to_string(), fresh.display().to_string());
    let options = [
        "--edition",
        "2024",
        "--target",
        "x86_64-unknown-linux-musl",
        "-C",
        "opt-level=2",
        "-C",
        "panic=abort",
        "-C",
        "strip=symbols",
        "-o",
    ];
    let mut arguments = options.to_vec();
    arguments.extend([output.as_str(), source.as_str()]);
    host::run("rustc", &arguments)?;
    fs::rename(&fresh, &binary)?;
    fs::remove_dir_all(folder)?;
    fs::write(stamp, wanted)?;
    Ok(binary)
}

fn digest(files: &[PathBuf]) -> Result<String> {
    let mut hash = Sha256::new();
    for file in files {
        hash.update(fs::read(file).with_context(|| format!("read {}", file.display()))?);
    }
    Ok(format!("{:x}", hash.finalize()))
}
