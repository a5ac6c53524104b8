//! The command line flags that all processes share (reference 5.3 and 5.4, plus `--kubeconfig`).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where a pod finds the namespace it runs in.
const SERVICE_ACCOUNT_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Flags that every process takes; embed with `#[command(flatten)]`.
#[derive(Debug, Clone, clap::Args)]
pub struct CommonFlags {
    /// Kubeconfig file to reach the API server with. In a pod leave it out: the service account is used.
    #[arg(long, value_name = "PATH")]
    pub kubeconfig: Option<PathBuf>,

    /// Namespace that FerroLB's own objects live in. Defaults to the namespace of this pod.
    #[arg(long, env = "METALLB_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,

    /// What to log.
    #[arg(long, value_enum, default_value_t = LogLevel::Info, value_name = "LEVEL")]
    pub log_level: LogLevel,

    /// Port of /healthz and /readyz. 0 turns them off.
    #[arg(long, default_value_t = 17472, value_name = "PORT")]
    pub health_probe_port: u16,

    /// Address of /healthz and /readyz. The speaker's default is 127.0.0.1, the others' every address.
    #[arg(long, value_name = "IP")]
    pub health_bind_address: Option<IpAddr>,

    /// Address and port of /metrics. Port 0 or an empty value turns it off.
    #[arg(long, default_value = "127.0.0.1:9120", value_name = "IP:PORT")]
    pub metrics_bind_address: BindAddress,
}

impl CommonFlags {
    /// The install namespace: the flag, its environment variable, or the pod's own.
    pub fn namespace(&self) -> Result<String, NamespaceError> {
        self.namespace_or(Path::new(SERVICE_ACCOUNT_NAMESPACE))
    }

    fn namespace_or(&self, file: &Path) -> Result<String, NamespaceError> {
        if let Some(name) = self
            .namespace
            .as_deref()
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            return Ok(name.to_owned());
        }
        match std::fs::read_to_string(file) {
            Ok(name) if !name.trim().is_empty() => Ok(name.trim().to_owned()),
            Ok(_) => Err(NamespaceError { source: None }),
            Err(source) => Err(NamespaceError {
                source: Some(source),
            }),
        }
    }

    /// Where probes are answered, if at all; `default` when no address was given.
    pub fn health_address(&self, default: IpAddr) -> Option<SocketAddr> {
        (self.health_probe_port != 0).then(|| {
            SocketAddr::new(
                self.health_bind_address.unwrap_or(default),
                self.health_probe_port,
            )
        })
    }
}

/// Nobody told us which namespace is ours.
#[derive(Debug, thiserror::Error)]
#[error(
    "the namespace is unknown: give --namespace or METALLB_NAMESPACE (outside a pod there is no default)"
)]
pub struct NamespaceError {
    #[source]
    source: Option<std::io::Error>,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogLevel {
    /// Everything, also single packets.
    All,
    /// What helps to follow a decision.
    Debug,
    /// What changed.
    Info,
    /// What somebody should look at.
    Warn,
    /// What does not work.
    Error,
    /// Nothing.
    None,
}

/// An address to listen on, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindAddress(pub Option<SocketAddr>);

impl FromStr for BindAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self(None));
        }
        let address = match text.strip_prefix(':') {
            // Every address of both families: an IPv6 socket takes IPv4 too.
            Some(port) => port
                .parse()
                .ok()
                .map(|port| SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)),
            None => text.parse().ok(),
        };
        match address {
            Some(address) if address.port() == 0 => Ok(Self(None)),
            Some(address) => Ok(Self(Some(address))),
            None => Err(format!(
                "`{text}` is not IP:PORT, for example 127.0.0.1:9120, [::]:9120 or :9120"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        common: CommonFlags,
    }

    fn parsed(arguments: &[&str]) -> CommonFlags {
        Program::try_parse_from([&["program"], arguments].concat())
            .unwrap()
            .common
    }

    #[test]
    fn defaults_are_those_of_the_reference() {
        let flags = parsed(&[]);
        assert_eq!(flags.log_level, LogLevel::Info);
        assert_eq!(
            flags.health_address([0, 0, 0, 0].into()),
            Some(([0, 0, 0, 0], 17472).into())
        );
        assert_eq!(
            flags.metrics_bind_address,
            BindAddress(Some(([127, 0, 0, 1], 9120).into()))
        );
    }

    #[test]
    fn probes_and_metrics_can_be_turned_off() {
        let flags = parsed(&["--health-probe-port=0", "--metrics-bind-address="]);
        assert_eq!(flags.health_address([0, 0, 0, 0].into()), None);
        assert_eq!(flags.metrics_bind_address.0, None);
        assert_eq!(
            parsed(&["--metrics-bind-address=127.0.0.1:0"])
                .metrics_bind_address
                .0,
            None
        );
    }

    #[test]
    fn a_port_alone_means_every_address_and_nonsense_is_refused_with_an_example() {
        assert_eq!(
            parsed(&["--metrics-bind-address=:9120"])
                .metrics_bind_address
                .0,
            Some("[::]:9120".parse().unwrap())
        );
        let error = Program::try_parse_from(["program", "--metrics-bind-address=nine"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("127.0.0.1:9120"), "{error}");
    }

    #[test]
    fn the_namespace_comes_from_the_flag_before_the_pod() {
        let file = std::env::temp_dir().join(format!("ferrolb-namespace-{}", std::process::id()));
        std::fs::write(&file, "from-pod\n").unwrap();
        let mut flags = parsed(&["--namespace=from-flag"]);
        assert_eq!(flags.namespace_or(&file).unwrap(), "from-flag");
        flags.namespace = None;
        assert_eq!(flags.namespace_or(&file).unwrap(), "from-pod");
        std::fs::remove_file(&file).unwrap();
        assert!(
            flags
                .namespace_or(&file)
                .unwrap_err()
                .to_string()
                .contains("--namespace")
        );
    }
}
