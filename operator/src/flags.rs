//! How the operator is started.

use std::time::Duration;

use clap::Parser;
use ferrolb_serving::CommonFlags;

/// FerroLB's operator: gives Services of type LoadBalancer their addresses.
#[derive(Debug, Parser)]
#[command(name = "ferrolb-operator", version, about, long_about = None)]
pub struct Flags {
    /// What every process takes.
    #[command(flatten)]
    pub common: CommonFlags,

    /// Serve only Services of this loadBalancerClass. Without it, only Services that name no class.
    #[arg(long, value_name = "CLASS")]
    pub lb_class: Option<String>,

    /// Name of the Secret with the key of the speakers' membership; made when it is absent. Empty: not made.
    #[arg(
        long,
        env = "METALLB_ML_SECRET_NAME",
        default_value = "memberlist",
        value_name = "NAME"
    )]
    pub ml_secret_name: String,

    /// Leave the webhook's certificate to somebody else, such as OLM: touch neither Secret nor registrations. Not needed for
    /// cert-manager, whose Secret is recognised.
    #[arg(long)]
    pub disable_cert_rotation: bool,

    /// Secret with the webhook's certificate.
    #[arg(long, default_value = "metallb-webhook-cert", value_name = "NAME")]
    pub webhook_secret: String,

    /// Service that the webhook is reached by; its certificate is made for SERVICE.NAMESPACE.svc.
    #[arg(
        long,
        default_value = "metallb-webhook-service",
        value_name = "SERVICE"
    )]
    pub cert_service_name: String,

    /// Service that conversions of BGPPeers are asked through; the certificate is made for it, too.
    #[arg(
        long,
        default_value = "ferrolb-webhook-conversion",
        value_name = "SERVICE"
    )]
    pub conversion_service_name: String,

    /// ValidatingWebhookConfiguration that the authority is written into.
    #[arg(
        long,
        default_value = "metallb-webhook-configuration",
        value_name = "NAME"
    )]
    pub webhook_configuration: String,

    /// MutatingWebhookConfiguration that the authority is written into.
    #[arg(
        long,
        default_value = "ferrolb-webhook-configuration",
        value_name = "NAME"
    )]
    pub mutating_webhook_configuration: String,

    /// Own pod's name, by which people recognise the leader.
    #[arg(
        long,
        env = "METALLB_POD_NAME",
        default_value = "ferrolb-operator",
        value_name = "NAME"
    )]
    pub pod_name: String,

    /// How long followers wait before they take over from a leader that says nothing.
    #[arg(long, default_value = "15", value_parser = seconds, value_name = "SECONDS")]
    pub lease_duration: Duration,

    /// How long a leader that cannot renew goes on before it gives up and exits. Below the lease duration.
    #[arg(long, default_value = "10", value_parser = seconds, value_name = "SECONDS")]
    pub lease_renew_deadline: Duration,

    /// How often the lease is renewed, or looked at by followers.
    #[arg(long, default_value = "2", value_parser = seconds, value_name = "SECONDS")]
    pub lease_retry_period: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(seconds @ 1..=3600) => Ok(Duration::from_secs(seconds)),
        _ => Err("give whole seconds from 1 to 3600".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_flags_are_consistent() {
        super::Flags::command().debug_assert();
    }
}
