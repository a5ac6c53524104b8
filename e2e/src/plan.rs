//! The addresses of the site: who has which, the same in every run because every run has namespaces of its own.

/// A machine of the site, with its interface `eth0` on the segment.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Its name in the cluster and, after the run's prefix, of its network namespace.
    pub name: &'static str,
    pub v4: &'static str,
    pub v6: &'static str,
    pub mac: &'static str,
}

/// The segment's prefix lengths. The layer 2 pools lie inside, so that hosts ask for their addresses by ARP and NDP.
pub const SEGMENT_V4_LENGTH: u8 = 16;
pub const SEGMENT_V6_LENGTH: u8 = 64;

pub const ROUTER: Machine = Machine {
    name: "router",
    v4: "10.10.0.1",
    v6: "fd00:10::1",
    mac: "02:fe:00:00:00:01",
};
pub const CONTROL_PLANE: Machine = Machine {
    name: "cp",
    v4: "10.10.0.2",
    v6: "fd00:10::2",
    mac: "02:fe:00:00:00:02",
};
pub const CLIENT_L2: Machine = Machine {
    name: "client-l2",
    v4: "10.10.0.100",
    v6: "fd00:10::100",
    mac: "02:fe:00:00:00:64",
};
/// Asks who has an address, and is told. A machine of its own, so that what it is told changes no cache of [`CLIENT_L2`],
/// which follows what it hears unasked.
pub const ASKER: Machine = Machine {
    name: "asker",
    v4: "10.10.0.101",
    v6: "fd00:10::101",
    mac: "02:fe:00:00:00:65",
};
pub const NODES: [Machine; 3] = [
    Machine {
        name: "node-1",
        v4: "10.10.0.11",
        v6: "fd00:10::11",
        mac: "02:fe:00:00:00:11",
    },
    Machine {
        name: "node-2",
        v4: "10.10.0.12",
        v6: "fd00:10::12",
        mac: "02:fe:00:00:00:12",
    },
    Machine {
        name: "node-3",
        v4: "10.10.0.13",
        v6: "fd00:10::13",
        mac: "02:fe:00:00:00:13",
    },
];

/// The namespace that is nothing but the switch.
pub const SWITCH: &str = "sw";

/// The client behind the router, and the router's side of its network.
pub const CLIENT: &str = "client";
pub const CLIENT_V4: &str = "10.20.0.100";
pub const CLIENT_V6: &str = "fd00:20::100";
pub const FAR_ROUTER_V4: &str = "10.20.0.1";
pub const FAR_ROUTER_V6: &str = "fd00:20::1";

pub const CLUSTER_CIDR: &str = "10.244.0.0/16,fd00:244::/48";
pub const SERVICE_CIDR: &str = "10.96.0.0/16,fd00:96::/112";
pub const KUBERNETES_SERVICE: &str = "10.96.0.1";

pub const ROUTER_ASN: u32 = 64513;
pub const SPEAKER_ASN: u32 = 64512;

/// The address that the API server is reached at.
pub const API_SERVER: &str = "https://10.10.0.2:6443";

/// The pod range of the node with this index, IPv4.
pub fn pods_v4(node: usize) -> String {
    format!("10.244.{}.0/24", node + 1)
}

/// The pod range of the node with this index, IPv6.
pub fn pods_v6(node: usize) -> String {
    format!("fd00:244:0:{}::/64", node + 1)
}

/// Everything with an `eth0` on the segment.
pub fn machines() -> Vec<Machine> {
    let mut all = vec![ROUTER, CONTROL_PLANE, CLIENT_L2, ASKER];
    all.extend(NODES);
    all
}
