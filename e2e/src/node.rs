//! A real node: containerd, the kubelet and kube-proxy in a namespace of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::credentials::Credentials;
use crate::host;
use crate::plan::{self, Machine};
use crate::run::Run;

/// Where the files of one node lie.
pub struct Node<'a> {
    run: &'a Run,
    index: usize,
    machine: Machine,
    /// Large files: images, snapshots, the kubelet's volumes.
    directory: PathBuf,
    /// Sockets and container state, with short paths.
    state: PathBuf,
}

impl<'a> Node<'a> {
    pub fn new(run: &'a Run, index: usize, machine: Machine) -> Self {
        Self {
            run,
            index,
            machine,
            directory: run.directory.join(machine.name),
            state: run.registry.join(machine.name),
        }
    }

    fn socket(&self) -> PathBuf {
        self.state.join("containerd.sock")
    }

    /// Starts containerd and gives it the images. Needs no API server.
    pub fn start_runtime(&self, images: &[PathBuf]) -> Result<()> {
        fs::create_dir_all(self.directory.join("cni"))?;
        fs::create_dir_all(&self.state)?;
        fs::write(
            self.directory.join("cni/10-lab.conflist"),
            serde_json::to_string_pretty(&self.cni())?,
        )?;
        let configuration = self.directory.join("containerd.toml");
        fs::write(&configuration, self.containerd())?;
        let name = format!("containerd-{}", self.machine.name);
        let mut daemon = self.run.daemon(
            &name,
            self.machine.name,
            "/usr/bin/containerd",
            vec!["--config".into(), configuration.display().to_string()],
        );
        daemon.start()?;
        host::wait_until("containerd answers", Duration::from_secs(20), || {
            anyhow::ensure!(daemon.is_running(), "containerd ended");
            Ok(self.ctr(&["version"]).is_ok())
        })
        .with_context(|| daemon.log_tail(10))?;
        images.iter().try_for_each(|image| self.import(image))
    }

    /// Gives the node an image from an archive.
    pub fn import(&self, archive: &Path) -> Result<()> {
        self.ctr(&[
            "-n",
            "k8s.io",
            "images",
            "import",
            "--snapshotter",
            "overlayfs",
            &archive.display().to_string(),
        ])
        .map(drop)
    }

    fn ctr(&self, arguments: &[&str]) -> Result<String> {
        let socket = self.socket().display().to_string();
        let mut all = vec!["--address", socket.as_str(), "--timeout", "30s"];
        all.extend_from_slice(arguments);
        host::run("ctr", &all)
    }

    /// Starts the kubelet and kube-proxy.
    pub fn start_agents(&self, programs: &Path, credentials: &Credentials) -> Result<()> {
        let name = self.machine.name;
        credentials.client(name, &format!("system:node:{name}"), Some("system:nodes"))?;
        for directory in ["kubelet", "pki", "pod-logs", "manifests"] {
            fs::create_dir_all(self.directory.join(directory))?;
        }
        fs::write(
            self.directory.join("resolv.conf"),
            "nameserver 10.96.0.10\n",
        )?;
        let configuration = self.directory.join("kubelet.json");
        fs::write(
            &configuration,
            serde_json::to_string_pretty(&self.kubelet(credentials))?,
        )?;
        let arguments = vec![
            format!("--config={}", configuration.display()),
            format!(
                "--kubeconfig={}",
                credentials.path(&format!("{name}.kubeconfig"))
            ),
            format!("--hostname-override={name}"),
            format!("--node-ip={},{}", self.machine.v4, self.machine.v6),
            format!("--root-dir={}", self.directory.join("kubelet").display()),
            format!("--cert-dir={}", self.directory.join("pki").display()),
            "--v=1".to_owned(),
        ];
        let mut kubelet = self.run.daemon(
            &format!("kubelet-{name}"),
            name,
            programs.join("kubelet"),
            arguments,
        );
        self.start_kubelet(&mut kubelet)?;
        let configuration = self.directory.join("kube-proxy.json");
        fs::write(
            &configuration,
            serde_json::to_string_pretty(&self.kube_proxy(credentials))?,
        )?;
        let arguments = vec![
            format!("--config={}", configuration.display()),
            format!("--hostname-override={name}"),
            "--v=1".to_owned(),
        ];
        self.run
            .daemon(
                &format!("kube-proxy-{name}"),
                name,
                programs.join("kube-proxy"),
                arguments,
            )
            .start()
    }

    /// All kubelets have one path for the socket of device plugins, whatever their root. Each takes it from the one before, but two
    /// that do so at once get in each other's way, and one of them ends. So they take turns, those of other runs too.
    fn start_kubelet(&self, kubelet: &mut host::Daemon) -> Result<()> {
        const PLUGINS: &str = "/var/lib/kubelet/device-plugins";
        const SOCKET: &str = "/var/lib/kubelet/device-plugins/kubelet.sock";
        fs::create_dir_all(PLUGINS).context("make the folder of device plugins")?;
        let turn = fs::File::open(PLUGINS).context("open the folder of device plugins")?;
        turn.lock().context("wait for the kubelets of other runs")?;
        kubelet.start()?;
        let what = format!("the kubelet of {} listens", self.machine.name);
        host::wait_until(&what, Duration::from_secs(60), || {
            anyhow::ensure!(kubelet.is_running(), "the kubelet ended");
            let sockets = host::run_in(&kubelet.namespace, "cat", &["/proc/net/unix"])?;
            Ok(sockets.contains(SOCKET))
        })
        .with_context(|| kubelet.log_tail(10))
    }

    fn containerd(&self) -> String {
        // restrict_oom_score_adj: without it runc cannot start a child where the score may not be lowered.
        // netns_mounts_under_state_dir: else pod namespaces would lie among the host's, with names that tell no owner.
        format!(
            r#"version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]

[grpc]
  address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/ferrolb/pause:lab"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  disable_apparmor = true
  stream_server_address = "127.0.0.1"

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{cni}"
"#,
            root = self.directory.join("containerd").display(),
            state = self.state.join("state").display(),
            socket = self.socket().display(),
            cni = self.directory.join("cni").display(),
        )
    }

    fn cni(&self) -> serde_json::Value {
        json!({
            "cniVersion": "0.4.0",
            // The name carries the run's prefix because libcni keeps its results by this name in one place for all.
            "name": self.run.namespace(self.machine.name),
            "plugins": [{
                "type": "ptp",
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "dataDir": self.directory.join("cni/leases"),
                    "ranges": [[{"subnet": plan::pods_v4(self.index)}], [{"subnet": plan::pods_v6(self.index)}]],
                    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
                },
            }],
        })
    }

    fn kubelet(&self, credentials: &Credentials) -> serde_json::Value {
        let runtime = format!("unix://{}", self.socket().display());
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": false}, "x509": {"clientCAFile": credentials.path("ca.crt")}},
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": runtime,
            "imageServiceEndpoint": runtime,
            "podLogsDir": self.directory.join("pod-logs"),
            "staticPodPath": self.directory.join("manifests"),
            "resolvConf": self.directory.join("resolv.conf"),
            "clusterDomain": "cluster.local", "clusterDNS": ["10.96.0.10"],
            // The machine's own control groups are of version 1 or mixed on some hosts, and several nodes share them.
            "failCgroupV1": false, "cgroupDriver": "cgroupfs", "cgroupsPerQOS": false, "enforceNodeAllocatable": [],
            "localStorageCapacityIsolation": false,
            "evictionHard": {"memory.available": "1Mi", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%"},
            "imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
            "failSwapOn": false, "serializeImagePulls": false,
            "volumePluginDir": self.directory.join("plugins"),
            "nodeStatusUpdateFrequency": "10s",
        })
    }

    fn kube_proxy(&self, credentials: &Credentials) -> serde_json::Value {
        json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
            "mode": "nftables", "clusterCIDR": plan::CLUSTER_CIDR,
            "clientConnection": {"kubeconfig": credentials.path("proxy.kubeconfig")},
            // Zero leaves the kernel's connection tracking as it is: these settings are the whole machine's.
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            "nftables": {"minSyncPeriod": "50ms"},
        })
    }
}
