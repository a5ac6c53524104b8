//! Which interfaces must be made to let every frame in?
//!
//! A network adapter hands on what is addressed to it, to all, and to the groups that were joined. That is enough for most:
//! ARP requests come as broadcasts, and the solicited-node groups are joined on every interface in use. Wi-Fi adapters do
//! more in their firmware. Some answer ARP for the node's own addresses and keep requests for any other to themselves,
//! and many lose multicast frames of groups that the driver did not pass on. Such an adapter is told to receive
//! everything (promiscuous, all multicast), as MetalLB's users have to do by hand.

use std::path::{Path, PathBuf};

/// Which interfaces receive every frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ReceiveAll {
    /// Wireless ones.
    #[default]
    Auto,
    /// Every one that is announced on.
    Always,
    /// None.
    Never,
}

/// Where the kernel tells of its interfaces.
const INTERFACES: &str = "/sys/class/net";

impl ReceiveAll {
    /// Whether the interface of this name is to receive every frame.
    pub(super) fn applies_to(self, name: &str) -> bool {
        match self {
            ReceiveAll::Auto => is_wireless(&PathBuf::from(INTERFACES), name),
            ReceiveAll::Always => true,
            ReceiveAll::Never => false,
        }
    }
}

/// The kernel links a wireless interface to its radio, and shows the older folder for drivers that know the older calls.
fn is_wireless(interfaces: &Path, name: &str) -> bool {
    let folder = interfaces.join(name);
    ["phy80211", "wireless"]
        .iter()
        .any(|sign| folder.join(sign).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_with_a_radio_receives_all_unless_it_must_not() {
        let folder = std::env::temp_dir().join(format!("ferrolb-wireless-{}", std::process::id()));
        for sign in ["wlan0/phy80211", "wlan1/wireless", "eth0/queues"] {
            std::fs::create_dir_all(folder.join(sign)).unwrap();
        }
        let wireless = ["wlan0", "wlan1", "eth0", "none"].map(|name| is_wireless(&folder, name));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(wireless, [true, true, false, false]);
        assert!(ReceiveAll::Always.applies_to("eth0") && !ReceiveAll::Never.applies_to("wlan0"));
    }
}
