//! How the speaker is started.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Parser;
use ferrolb_serving::CommonFlags;

use crate::layer2::ReceiveAll;
use crate::status::Pod;

/// FerroLB's speaker: announces the addresses of Services from this node by ARP, NDP and BGP.
#[derive(Debug, Parser)]
#[command(name = "ferrolb-speaker", version, about, long_about = None)]
pub struct Flags {
    /// What every process takes.
    #[command(flatten)]
    pub common: CommonFlags,

    /// Name of the node that this speaker runs on.
    #[arg(long, env = "METALLB_NODE_NAME", value_name = "NAME")]
    pub node_name: String,

    /// Name of the speaker's own Pod, which owns the objects that it writes. Without it nobody does.
    #[arg(long, env = "METALLB_POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,

    /// Uid of the speaker's own Pod.
    #[arg(long, env = "METALLB_POD_UID", value_name = "UID")]
    pub pod_uid: Option<String>,

    /// Announce only Services of this loadBalancerClass. Without it, only Services that name no class.
    #[arg(long, value_name = "CLASS")]
    pub lb_class: Option<String>,

    /// Announce from nodes labelled node.kubernetes.io/exclude-from-external-load-balancers too.
    #[arg(long)]
    pub ignore_exclude_lb: bool,

    /// Address at which the other speakers reach this one, by which they notice when it is gone. Empty turns membership
    /// off: every node then counts as alive.
    #[arg(long, env = "METALLB_ML_BIND_ADDR", value_parser = address, default_value = "", value_name = "IP")]
    pub ml_bindaddr: MemberAddress,

    /// UDP port of membership.
    #[arg(
        long,
        env = "METALLB_ML_BIND_PORT",
        default_value_t = 7946,
        value_name = "PORT"
    )]
    pub ml_bindport: u16,

    /// Labels of speaker pods, by which the other speakers are found.
    #[arg(
        long,
        env = "METALLB_ML_LABELS",
        default_value = "app.kubernetes.io/name=ferrolb,app.kubernetes.io/component=speaker",
        value_name = "LABELS"
    )]
    pub ml_labels: String,

    /// Directory with the file `secretkey` that speakers know each other by. Without it datagrams are not protected.
    #[arg(long, env = "METALLB_ML_SECRET_KEY_PATH", value_name = "DIR")]
    pub ml_secret_key_path: Option<PathBuf>,

    /// File that names interfaces to leave alone; a missing file names none.
    #[arg(
        long,
        default_value = "/etc/metallb/excludel2.yaml",
        value_name = "FILE"
    )]
    pub exclude_interfaces: PathBuf,

    /// Interfaces that are made to receive every frame of the segment (promiscuous, all multicast), because they keep back
    /// requests for addresses that the node itself does not have: wireless ones, every one that is announced on, or none.
    #[arg(long, value_enum, default_value_t, value_name = "WHICH")]
    pub receive_all: ReceiveAll,

    /// TCP port on which BGP peers may connect to this node, usually 179, for which the speaker needs the capability
    /// NET_BIND_SERVICE; 0 for none: the speaker connects to its peers all the same.
    #[arg(
        long,
        env = "FERROLB_BGP_LISTEN_PORT",
        default_value_t = 0,
        value_name = "PORT"
    )]
    pub bgp_listen_port: u16,
}

impl Flags {
    /// The speaker's own Pod, where it runs in one.
    #[must_use]
    pub fn pod(&self) -> Option<Pod> {
        Some(Pod {
            name: self.pod_name.clone()?,
            uid: self.pod_uid.clone()?,
        })
    }
}

/// The membership address, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberAddress(pub Option<IpAddr>);

fn address(text: &str) -> Result<MemberAddress, String> {
    match text.trim() {
        "" => Ok(MemberAddress(None)),
        text => text
            .parse()
            .map(|address| MemberAddress(Some(address)))
            .map_err(|_| {
                format!("{text:?} is not an IP address; give the address of this node, or nothing")
            }),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Flags::command().debug_assert();
        let flags = Flags::parse_from([
            "ferrolb-speaker",
            "--node-name",
            "n",
            "--ml-bindaddr",
            "10.0.0.1",
        ]);
        assert_eq!(flags.ml_bindaddr, MemberAddress(Some([10, 0, 0, 1].into())));
    }
}
