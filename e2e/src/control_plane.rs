//! The real control plane: etcd, kube-apiserver, kube-controller-manager and kube-scheduler in one namespace.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::cluster::SYSTEM;
use crate::credentials::Credentials;
use crate::host::{self, Daemon};
use crate::plan::{self, CONTROL_PLANE};
use crate::run::Run;

pub const API_SERVER: &str = "kube-apiserver";
/// What makes Services and workloads come true, as a site with nodes has it.
pub const CONTROLLERS: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];

/// What the control plane is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A cluster like any other.
    Cluster,
    /// Measurements: only the controllers that they need, and a log of what the programs under test write.
    Bench,
}

/// Starts all of it; returns when the API server is ready.
pub fn start(
    run: &Run,
    programs: &Path,
    credentials: &Credentials,
    purpose: Purpose,
) -> Result<()> {
    write_credentials(credentials)?;
    let data = run.directory.join("etcd");
    fs::create_dir_all(&data)?;
    // In memory: the site does not outlive the machine, and a disk would only add its own latency to every figure.
    host::run(
        "mount",
        &[
            "-t",
            "tmpfs",
            "-o",
            "size=2g",
            "tmpfs",
            &data.display().to_string(),
        ],
    )?;
    let arguments = [
        "--name=lab".to_owned(),
        format!("--data-dir={}", data.join("data").display()),
        "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
        "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
        "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
        "--initial-advertise-peer-urls=http://127.0.0.1:2380".to_owned(),
        "--initial-cluster=lab=http://127.0.0.1:2380".to_owned(),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    run.daemon(
        "etcd",
        CONTROL_PLANE.name,
        programs.join("etcd"),
        arguments.to_vec(),
    )
    .start()?;
    let mut arguments = api_server_arguments(credentials);
    match purpose {
        Purpose::Bench => arguments.extend(audit(run)?),
        Purpose::Cluster => arguments.extend(tracing(run)?),
    }
    let mut api_server = run.daemon(
        API_SERVER,
        CONTROL_PLANE.name,
        programs.join(API_SERVER),
        arguments,
    );
    api_server.start()?;
    wait_ready(run, &api_server)?;
    let mut arguments = vec![
        format!(
            "--kubeconfig={}",
            credentials.path("controller-manager.kubeconfig")
        ),
        "--use-service-account-credentials=true".to_owned(),
        format!(
            "--service-account-private-key-file={}",
            credentials.path("service-accounts.key")
        ),
        format!("--root-ca-file={}", credentials.path("ca.crt")),
        format!("--cluster-cidr={}", plan::CLUSTER_CIDR),
        format!("--service-cluster-ip-range={}", plan::SERVICE_CIDR),
        "--allocate-node-cidrs=false".to_owned(),
        "--leader-elect=false".to_owned(),
        "--kube-api-qps=200".to_owned(),
        "--kube-api-burst=400".to_owned(),
        "--v=1".to_owned(),
    ];
    if purpose == Purpose::Bench {
        arguments.push("--controllers=endpointslice-controller,serviceaccount-controller,root-ca-certificate-publisher-controller".to_owned());
    }
    run.daemon(
        "kube-controller-manager",
        CONTROL_PLANE.name,
        programs.join("kube-controller-manager"),
        arguments,
    )
    .start()?;
    if purpose == Purpose::Bench {
        return Ok(());
    }
    let arguments = [
        format!("--kubeconfig={}", credentials.path("scheduler.kubeconfig")),
        "--leader-elect=false".to_owned(),
        "--v=1".to_owned(),
    ];
    run.daemon(
        "kube-scheduler",
        CONTROL_PLANE.name,
        programs.join("kube-scheduler"),
        arguments.to_vec(),
    )
    .start()
}

/// Waits until the API server says that it is ready, or shows why it ended.
pub fn wait_ready(run: &Run, api_server: &Daemon) -> Result<()> {
    let ready = host::wait_until("the API server is ready", Duration::from_secs(60), || {
        anyhow::ensure!(api_server.is_running(), "the API server ended");
        Ok(super::site::kubectl(run, &["get", "--raw=/readyz"])
            .is_ok_and(|answer| answer.trim() == "ok"))
    });
    ready.with_context(|| api_server.log_tail(15))
}

/// Where the writes of the programs under test are logged.
pub fn audit_log(run: &Run) -> PathBuf {
    run.directory.join("audit.log")
}

/// Logs every write by an account of the install namespace, and nothing else.
fn audit(run: &Run) -> Result<Vec<String>> {
    let policy = run.directory.join("audit-policy.json");
    let ours = json!({
        "level": "Metadata", "omitStages": ["RequestReceived"],
        "userGroups": [format!("system:serviceaccounts:{SYSTEM}")], "verbs": ["create", "update", "patch", "delete"],
    });
    let rules = json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [ours, {"level": "None"}]});
    fs::write(&policy, serde_json::to_string_pretty(&rules)?).context("write the audit policy")?;
    Ok(vec![
        format!("--audit-policy-file={}", policy.display()),
        format!("--audit-log-path={}", audit_log(run).display()),
        "--audit-log-mode=batch".to_owned(),
    ])
}

/// Has the API server go on with the traces of requests that bring one, and begin none.
fn tracing(run: &Run) -> Result<Vec<String>> {
    let file = run.directory.join("tracing.json");
    let configuration = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "TracingConfiguration",
        "endpoint": format!("{}:{}", CONTROL_PLANE.v4, crate::otlp::PORT), "samplingRatePerMillion": 0,
    });
    fs::write(&file, serde_json::to_string_pretty(&configuration)?)
        .context("write the tracing configuration")?;
    Ok(vec![format!("--tracing-config-file={}", file.display())])
}

fn write_credentials(credentials: &Credentials) -> Result<()> {
    let names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
    ];
    credentials.server(
        "apiserver",
        &names,
        &[
            "127.0.0.1",
            CONTROL_PLANE.v4,
            CONTROL_PLANE.v6,
            plan::KUBERNETES_SERVICE,
        ],
    )?;
    credentials.client(
        "apiserver-kubelet",
        "kube-apiserver-kubelet-client",
        Some("system:masters"),
    )?;
    credentials.client("admin", "admin", Some("system:masters"))?;
    credentials.client("controller-manager", "system:kube-controller-manager", None)?;
    credentials.client("scheduler", "system:kube-scheduler", None)?;
    credentials.client("proxy", "system:kube-proxy", None)
}

fn api_server_arguments(credentials: &Credentials) -> Vec<String> {
    let path = |name| credentials.path(name);
    vec![
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        format!("--advertise-address={}", CONTROL_PLANE.v4),
        "--secure-port=6443".to_owned(),
        format!("--tls-cert-file={}", path("apiserver.crt")),
        format!("--tls-private-key-file={}", path("apiserver.key")),
        format!("--client-ca-file={}", path("ca.crt")),
        format!(
            "--kubelet-client-certificate={}",
            path("apiserver-kubelet.crt")
        ),
        format!("--kubelet-client-key={}", path("apiserver-kubelet.key")),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!(
            "--service-account-key-file={}",
            path("service-accounts.pub")
        ),
        format!(
            "--service-account-signing-key-file={}",
            path("service-accounts.key")
        ),
        format!("--service-cluster-ip-range={}", plan::SERVICE_CIDR),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--enable-aggregator-routing=true".to_owned(),
        "--v=1".to_owned(),
    ]
}
