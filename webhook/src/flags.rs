//! The webhook's command line.

use std::path::PathBuf;

use ferrolb_serving::CommonFlags;
use ferrolb_serving::flags::BindAddress;

use crate::lint::LintFlags;

/// Checks MetalLB-compatible objects when people apply them.
///
/// The API server calls this process over HTTPS for every IPAddressPool, L2Advertisement, BGPAdvertisement, BGPPeer,
/// BFDProfile and Community that is created or changed, and for Services and Namespaces with annotations for FerroLB. An
/// object that cannot work is refused with a message that names the field, the reason and the remedy; what is legal and
/// probably wrong is warned of.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "ferrolb-webhook",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "\
Try it in a cluster: kubectl apply a pool that overlaps another and read the answer.
Probes: /healthz answers while the process lives; /readyz names what is missing (certificate, watched kinds)."
)]
pub struct Flags {
    /// Something else than serving.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Flags that all processes share.
    #[command(flatten)]
    pub common: CommonFlags,

    /// Judge only Services of this loadBalancerClass, as the operator's flag says. Without it, only those that name no class.
    #[arg(long, value_name = "CLASS")]
    pub lb_class: Option<String>,

    /// Address and port that the API server calls. [::] takes IPv4 too.
    #[arg(long, default_value = "[::]:9443", value_name = "IP:PORT")]
    pub webhook_bind_address: BindAddress,

    /// Secret in our namespace that holds the server certificate (tls.crt, tls.key). It is watched through the API, and a
    /// renewed certificate is used from the next connection on.
    #[arg(long, default_value = "metallb-webhook-cert", value_name = "NAME")]
    pub webhook_secret: String,

    /// Folder with tls.crt and tls.key to use instead of the Secret, for example where OLM mounts a certificate
    /// (/tmp/k8s-webhook-server/serving-certs). Read again every 30 seconds.
    #[arg(long, value_name = "DIR")]
    pub cert_dir: Option<PathBuf>,
}

/// What the program does instead of serving.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Check YAML files offline, as the cluster would check their objects.
    Lint(LintFlags),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_command_line_is_consistent_and_its_defaults_are_those_of_the_manifests() {
        Flags::command().debug_assert();
        let flags = Flags::try_parse_from(["ferrolb-webhook"]).unwrap();
        assert_eq!(flags.webhook_bind_address.0.unwrap().port(), 9443);
        assert_eq!(flags.webhook_secret, "metallb-webhook-cert");
    }
}
