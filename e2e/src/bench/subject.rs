//! The programs under test: started bare in the namespaces, as the service accounts that their manifests give them.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::cluster::{SYSTEM, Site};
use crate::credentials;
use crate::host::{self, Daemon};
use crate::image::product_binaries;
use crate::plan::{CONTROL_PLANE, Machine, NODES};

/// What is measured. The defaults measure FerroLB.
#[derive(Args)]
pub struct Options {
    /// The program that allocates addresses.
    #[arg(long, default_value_os_t = product_binaries().join("ferrolb-operator"))]
    controller: PathBuf,
    /// The program that announces them, one on each node.
    #[arg(long, default_value_os_t = product_binaries().join("ferrolb-speaker"))]
    speaker: PathBuf,
    /// Its arguments; {kubeconfig} is filled in.
    #[arg(
        long,
        allow_hyphen_values = true,
        default_value = "--kubeconfig={kubeconfig} --namespace=metallb-system"
    )]
    controller_arguments: String,
    /// Its arguments; {kubeconfig}, {node}, {address} and {secrets} are filled in.
    #[arg(
        long,
        allow_hyphen_values = true,
        default_value = "--kubeconfig={kubeconfig} --namespace=metallb-system --node-name={node} --ml-bindaddr={address} --ml-secret-key-path={secrets}"
    )]
    speaker_arguments: String,
    /// The service account of the controller.
    #[arg(long, default_value = "ferrolb-operator")]
    controller_account: String,
    /// The service account of the speakers.
    #[arg(long, default_value = "ferrolb-speaker")]
    speaker_account: String,
    /// The folder with CRDs, accounts and roles, for kubectl apply -k.
    #[arg(long, default_value_os_t = super::default_manifests())]
    pub manifests: PathBuf,
    /// Where the controller says that it is ready, as ADDRESS:PORT/PATH on the control plane. Empty: nowhere.
    #[arg(long, default_value = "127.0.0.1:17472/readyz")]
    pub controller_ready: String,
    /// How many Services there are while latencies and writes at rest are measured, beside none.
    #[arg(long, default_value_t = 5000)]
    pub present: usize,
    /// How many Services there are while memory and restarts are measured.
    #[arg(long, default_value_t = 10_000)]
    pub services: usize,
    /// How many Services wait for the controller to start.
    #[arg(long, default_value_t = 10_000)]
    pub backlog: usize,
    /// How many Services are created one after the other for a distribution.
    #[arg(long, default_value_t = 300)]
    pub samples: usize,
    /// For how many seconds the cluster is left alone to count writes.
    #[arg(long, default_value_t = 60)]
    pub rest: u64,
    /// Measure only how long addresses are not served when their node is lost or they are moved, on a site with kubelets.
    #[arg(long, conflicts_with = "admission")]
    pub failover: bool,
    /// How often each kind of loss and of move is tried.
    #[arg(long, default_value_t = 20)]
    pub runs: usize,
    /// Measure only how soon ARP requests are answered on a busy segment.
    #[arg(long, conflicts_with_all = ["admission", "failover"])]
    pub answers: bool,
    /// Measure only BGP with many routes and several routers.
    #[arg(long, conflicts_with_all = ["admission", "failover", "answers"])]
    pub routes: bool,
    /// How many changes that concern others are made while routes and sessions are watched.
    #[arg(long, default_value_t = 1000)]
    pub changes: usize,
    /// Measure the webhook alone, in a few minutes.
    #[arg(long)]
    pub admission: bool,
    /// Criterion's folder with the measured decisions of FerroLB's allocator, to put them into the table.
    #[arg(long)]
    pub decisions: Option<PathBuf>,
}

impl Options {
    /// Whether it is FerroLB whose programs are measured.
    pub fn measures_ferrolb(&self) -> bool {
        self.controller == product_binaries().join("ferrolb-operator")
    }

    /// Whether nothing is left out.
    pub fn is_whole(&self) -> bool {
        !(self.admission || self.failover || self.answers || self.routes)
    }

    /// What is measured one after the other, each on a site of its own.
    pub fn parts(&self) -> Vec<super::Part> {
        if self.failover {
            vec![super::on_nodes]
        } else if self.is_whole() && self.measures_ferrolb() {
            vec![super::run, super::answers, super::routes, super::on_nodes]
        } else if self.routes {
            vec![super::routes]
        } else if self.answers {
            vec![super::answers]
        } else {
            vec![super::run]
        }
    }

    /// The controller as the API server names it.
    pub fn controller_user(&self) -> String {
        format!("system:serviceaccount:{SYSTEM}:{}", self.controller_account)
    }
}

pub struct Subjects<'a> {
    site: &'a Site,
    options: &'a Options,
    controller: Daemon,
    speakers: Vec<Daemon>,
}

impl<'a> Subjects<'a> {
    pub fn new(site: &'a Site, options: &'a Options) -> Result<Self> {
        let run = &site.run;
        let secrets = run.directory.join("ml-secret");
        fs::create_dir_all(&secrets)?;
        fs::write(
            secrets.join("secretkey"),
            "c2l4dGVlbiBieXRlcyBvciBtb3JlIG9mIGEgc2VjcmV0LCBhbHdheXMgdGhlIHNhbWUu",
        )?;
        let fill = |template: &str, kubeconfig: &str, node: &str, address: &str| -> Vec<String> {
            let words = template.split_whitespace();
            words
                .map(|w| {
                    w.replace("{kubeconfig}", kubeconfig)
                        .replace("{node}", node)
                        .replace("{address}", address)
                        .replace("{secrets}", &secrets.display().to_string())
                })
                .collect()
        };
        let kubeconfig = account_kubeconfig(site, &options.controller_account)?;
        let mut controller = run.daemon(
            "bench-controller",
            CONTROL_PLANE.name,
            &options.controller,
            fill(
                &options.controller_arguments,
                &kubeconfig,
                "",
                CONTROL_PLANE.v4,
            ),
        );
        controller.environment = vec![
            ("METALLB_POD_NAME".into(), "bench-controller".into()),
            ("POD_NAME".into(), "bench-controller".into()),
        ];
        let kubeconfig = account_kubeconfig(site, &options.speaker_account)?;
        NODES
            .iter()
            .try_for_each(|node| create_pod(site, options, node))?;
        let speakers = NODES
            .iter()
            .map(|node| {
                let arguments = fill(&options.speaker_arguments, &kubeconfig, node.name, node.v4);
                let mut speaker = run.daemon(
                    &format!("bench-speaker-{}", node.name),
                    node.name,
                    &options.speaker,
                    arguments,
                );
                speaker.environment = vec![
                    ("METALLB_NODE_NAME".into(), node.name.into()),
                    ("METALLB_POD_NAME".into(), pod_name(node)),
                    ("METALLB_ML_LABELS".into(), "app=bench-speaker".into()),
                    ("METALLB_BGP_TYPE".into(), "native".into()),
                ];
                speaker
            })
            .collect();
        Ok(Self {
            site,
            options,
            controller,
            speakers,
        })
    }

    pub fn start_controller(&mut self) -> Result<()> {
        anyhow::ensure!(
            self.options.controller.exists(),
            "{} is not there",
            self.options.controller.display()
        );
        self.controller.start()
    }

    pub fn stop_controller(&mut self) -> Result<()> {
        self.controller.kill()?;
        // Its lease would make the next one wait, and waiting for a lease is not what is measured.
        let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases");
        self.site.delete(&leases)
    }

    /// Tells the controller to end, as a rollout does, and waits until it has.
    pub fn end_controller(&mut self) -> Result<()> {
        let process = self.controller.process.context("no controller runs")?;
        process.signal(Signal::SIGTERM);
        host::wait_until("the controller ends", Duration::from_secs(30), || {
            Ok(!process.is_running())
        })?;
        // Nothing is left to kill, but its record.
        self.controller.kill()
    }

    /// Ends the controller as a crash does; whatever lease it has is left to run out.
    pub fn crash_controller(&mut self) -> Result<()> {
        self.controller.kill()
    }

    pub fn start_speakers(&mut self) -> Result<()> {
        self.speakers.iter_mut().try_for_each(Daemon::start)
    }

    /// Starts the speaker of one node.
    pub fn start_speaker(&mut self, index: usize) -> Result<()> {
        let speaker = self.speakers.get_mut(index);
        speaker.context("there is no such node")?.start()
    }

    /// Ends all speakers but that of one node, which announces everything from then on.
    pub fn leave_one_speaker(&mut self, index: usize) -> Result<()> {
        let others = self.speakers.iter_mut().enumerate();
        others
            .filter(|(other, _)| *other != index)
            .try_for_each(|(_, speaker)| speaker.kill())
    }

    /// How many addresses one node's speaker says that it announces by layer 2.
    pub fn announced_by_layer2(&self, index: usize) -> Result<usize> {
        let series = self.figures(index, "metallb_speaker_announced{")?;
        let of_layer2 = |(labels, _): &&(String, f64)| labels.contains("protocol=\"layer2\"");
        Ok(series.iter().filter(of_layer2).count())
    }

    /// How many requests for announced addresses one node's speaker says that it received.
    pub fn requests_received(&self, index: usize) -> Result<f64> {
        let series = self.figures(index, "metallb_layer2_requests_received{")?;
        Ok(series.iter().map(|(_, value)| value).sum())
    }

    /// The series of one metric that a node's speaker publishes, with their values.
    fn figures(&self, index: usize, metric: &str) -> Result<Vec<(String, f64)>> {
        let node = NODES.get(index).context("there is no such node")?;
        let arguments = ["-sS", "--max-time", "5", "http://127.0.0.1:9120/metrics"];
        let text = host::run_in(&self.site.run.namespace(node.name), "curl", &arguments)?;
        let series = text.lines().filter_map(|line| {
            let (labels, value) = line.strip_prefix(metric)?.rsplit_once(' ')?;
            Some((labels.to_owned(), value.parse().ok()?))
        });
        Ok(series.collect())
    }

    /// The process of one node's speaker.
    pub fn speaker_process(&self, index: usize) -> Result<host::Process> {
        let speaker = self.speakers.get(index);
        speaker
            .and_then(|s| s.process)
            .context("no speaker runs there")
    }

    /// What one node's speaker holds, in megabytes of a million bytes.
    pub fn resident_speaker(&self, index: usize) -> Result<f64> {
        resident(self.speakers.get(index).context("there is no such node")?)
    }

    pub fn stop_speakers(&mut self) -> Result<()> {
        self.speakers.iter_mut().try_for_each(Daemon::kill)
    }

    /// What the programs hold now.
    pub fn resident(&self) -> Result<Resident> {
        let speakers = self
            .speakers
            .iter()
            .map(resident)
            .collect::<Result<Vec<_>>>()?;
        Ok(Resident {
            operator: resident(&self.controller)?,
            speaker: speakers.into_iter().fold(0.0, f64::max),
        })
    }
}

/// Resident memory in megabytes of a million bytes.
pub struct Resident {
    pub operator: f64,
    /// Of the speaker that has most.
    pub speaker: f64,
}

fn pod_name(node: &Machine) -> String {
    format!("bench-speaker-{}", node.name)
}

/// The pod that a speaker takes itself for: some ask the API server for their own pod and for those of their peers.
fn create_pod(site: &Site, options: &Options, node: &Machine) -> Result<()> {
    let labels = json!({
        "app": "bench-speaker", "component": "speaker",
        "app.kubernetes.io/name": "ferrolb", "app.kubernetes.io/component": "speaker",
    });
    let pod = json!({
        "metadata": {"name": pod_name(node), "labels": labels},
        "spec": {
            "nodeName": node.name, "hostNetwork": true, "serviceAccountName": options.speaker_account,
            "containers": [{"name": "speaker", "image": "ferrolb/ferrolb"}],
        },
    });
    let path = format!("/api/v1/namespaces/{SYSTEM}/pods");
    site.create(&path, &pod)?;
    let addresses = json!([{"ip": node.v4}, {"ip": node.v6}]);
    let status = json!({
        "phase": "Running", "hostIP": node.v4, "podIP": node.v4, "podIPs": addresses,
        "conditions": [{"type": "Ready", "status": "True"}],
    });
    site.patch(
        &format!("{path}/{}/status", pod_name(node)),
        &json!({"status": status}),
    )?;
    Ok(())
}

/// Resident memory in megabytes of a million bytes.
pub fn resident(daemon: &Daemon) -> Result<f64> {
    let id = daemon
        .process
        .filter(|p| p.is_running())
        .with_context(|| format!("{} ended:\n{}", daemon.name, daemon.log_tail(10)))?
        .id;
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes * 1024.0 / 1e6)
}

/// A kubeconfig with a token of the service account, as a pod would have it.
pub fn account_kubeconfig(site: &Site, account: &str) -> Result<String> {
    let path = format!("/api/v1/namespaces/{SYSTEM}/serviceaccounts/{account}/token");
    let answer = site.create(&path, &json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 86400}}))?;
    let token = answer["status"]["token"]
        .as_str()
        .context("the API server gave no token")?;
    let authority = fs::read_to_string(site.run.directory.join("credentials/ca.crt"))?;
    let file = site
        .run
        .directory
        .join(format!("credentials/{account}.kubeconfig"));
    fs::write(
        &file,
        serde_json::to_string_pretty(&credentials::kubeconfig(
            &authority,
            &json!({"token": token}),
        ))?,
    )?;
    Ok(file.display().to_string())
}
