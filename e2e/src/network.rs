//! The cables of the site: namespaces, a switch, addresses and static routes. Nothing of it touches the host's network.

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};

use crate::host;
use crate::plan::{self, ASKER, CLIENT, CLIENT_L2, CONTROL_PLANE, Machine, NODES, ROUTER, SWITCH};
use crate::run::Run;

/// What every host of the site has set. Duplicate address detection would only delay each interface by a second.
pub const SYSCTLS: [&str; 4] = [
    "net.ipv6.conf.all.accept_dad=0",
    "net.ipv6.conf.default.accept_dad=0",
    "net.ipv6.conf.default.accept_ra=0",
    "net.ipv4.conf.all.rp_filter=0",
];

pub const FORWARDING: [&str; 4] = [
    "net.ipv4.ip_forward=1",
    "net.ipv6.conf.all.forwarding=1",
    "net.ipv4.fib_multipath_hash_policy=1",
    "net.ipv6.fib_multipath_hash_policy=1",
];

/// Makes all namespaces of the run and joins them.
pub fn build(run: &Run) -> Result<()> {
    let mut places = vec![SWITCH, CLIENT];
    places.extend(plan::machines().iter().map(|m| m.name));
    for place in &places {
        let namespace = run.namespace(place);
        host::run("ip", &["netns", "add", &namespace])?;
        let mut settings = SYSCTLS.to_vec();
        if *place == ROUTER.name || place.starts_with("node-") {
            settings.extend(FORWARDING);
        }
        let mut arguments = vec!["-q", "-w"];
        arguments.extend(settings);
        host::run_in(&namespace, "sysctl", &arguments)?;
        batch(&namespace, "link set lo up\n")?;
    }

    let mut switch =
        String::from("link add br0 type bridge stp_state 0 mcast_snooping 0\nlink set br0 up\n");
    for machine in plan::machines() {
        let namespace = run.namespace(machine.name);
        writeln!(
            switch,
            "link add {} type veth peer name eth0 address {} netns {namespace}",
            machine.name, machine.mac
        )?;
        writeln!(switch, "link set {} master br0 up", machine.name)?;
    }
    batch(&run.namespace(SWITCH), &switch)?;
    batch(
        &run.namespace(ROUTER.name),
        &format!(
            "link add far type veth peer name eth0 netns {}\n",
            run.namespace(CLIENT)
        ),
    )?;

    for machine in plan::machines() {
        let mut lines = format!(
            "link set eth0 up\naddress add {}/{} dev eth0\naddress add {}/{} dev eth0 nodad\n",
            machine.v4,
            plan::SEGMENT_V4_LENGTH,
            machine.v6,
            plan::SEGMENT_V6_LENGTH
        );
        if machine.name == ROUTER.name {
            writeln!(
                lines,
                "link set far up\naddress add {}/24 dev far\naddress add {}/64 dev far nodad",
                plan::FAR_ROUTER_V4,
                plan::FAR_ROUTER_V6
            )?;
        } else {
            writeln!(
                lines,
                "route add default via {}\nroute add default via {}",
                ROUTER.v4, ROUTER.v6
            )?;
        }
        // Nodes and control plane know where each node's pods are; to all others pods are as hidden as in any cluster.
        if ![ROUTER, CLIENT_L2, ASKER]
            .map(|m| m.name)
            .contains(&machine.name)
        {
            for (index, node) in NODES
                .iter()
                .enumerate()
                .filter(|(_, n)| n.name != machine.name)
            {
                writeln!(
                    lines,
                    "route add {} via {}\nroute add {} via {}",
                    plan::pods_v4(index),
                    node.v4,
                    plan::pods_v6(index),
                    node.v6
                )?;
            }
        }
        batch(&run.namespace(machine.name), &lines)?;
    }
    batch(
        &run.namespace(CLIENT),
        &format!(
            "link set eth0 up\naddress add {}/24 dev eth0\naddress add {}/64 dev eth0 nodad\nroute add default via {}\nroute add default via {}\n",
            plan::CLIENT_V4,
            plan::CLIENT_V6,
            plan::FAR_ROUTER_V4,
            plan::FAR_ROUTER_V6
        ),
    )
}

/// Carries out lines of `ip -batch` in a namespace.
pub fn batch(namespace: &str, lines: &str) -> Result<()> {
    host::run_with_input("ip", &["-n", namespace, "-batch", "-"], lines).map(drop)
}

/// Moves the calling thread, and every thread that it starts from now on, into a namespace of the run.
pub fn enter(run: &Run, place: &str) -> Result<()> {
    let path = Path::new("/var/run/netns").join(run.namespace(place));
    let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("enter {}", path.display()))
}

/// Moves into the control plane's namespace, where the API server is near and answers to pods can come back.
pub fn enter_control_plane(run: &Run) -> Result<()> {
    enter(run, CONTROL_PLANE.name)
}

/// Pulls the cable of a machine at the switch, or puts it back.
pub fn set_link(run: &Run, machine: &str, up: bool) -> Result<()> {
    host::run(
        "ip",
        &[
            "-n",
            &run.namespace(SWITCH),
            "link",
            "set",
            machine,
            if up { "up" } else { "down" },
        ],
    )
    .map(drop)
}

/// Puts the cables of all these machines back at the switch.
pub fn set_links_up(run: &Run, machines: &[Machine]) -> Result<()> {
    let lines = machines.iter().map(|m| format!("link set {} up\n", m.name));
    batch(&run.namespace(SWITCH), &lines.collect::<String>())
}

/// Has the switch hand to a machine only what is addressed to it, or everything again that goes to all.
pub fn set_flooding(run: &Run, machine: &str, all: bool) -> Result<()> {
    let wanted = if all { "on" } else { "off" };
    let switch = run.namespace(SWITCH);
    let mut words = vec!["-n", &switch, "link", "set", machine];
    words.extend(["type", "bridge_slave"]);
    for kind in ["flood", "mcast_flood", "bcast_flood"] {
        words.extend([kind, wanted]);
    }
    host::run("ip", &words).map(drop)
}

/// Which way is cut.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// What the switch would hand to the machine.
    ToMachine,
    /// What the machine sends.
    FromMachine,
}

/// A cable that carries one way only, until this is dropped.
pub struct OneWayCut {
    namespace: String,
}

/// The table of nftables, in the switch's namespace, that drops.
const CUT: &str = "one-way";

impl OneWayCut {
    pub fn make(run: &Run, machine: &str, way: Way) -> Result<Self> {
        let cut = Self {
            namespace: run.namespace(SWITCH),
        };
        let hook = match way {
            Way::ToMachine => "egress",
            Way::FromMachine => "ingress",
        };
        let net = format!("--net=/var/run/netns/{}", cut.namespace);
        let table = format!(
            "table netdev {CUT} {{\n chain frames {{\n type filter hook {hook} device \"{machine}\" priority 0; policy drop;\n }}\n}}\n"
        );
        host::run_with_input("nsenter", &[net.as_str(), "nft", "-f", "-"], &table)?;
        Ok(cut)
    }
}

impl Drop for OneWayCut {
    fn drop(&mut self) {
        let net = format!("--net=/var/run/netns/{}", self.namespace);
        let words = [net.as_str(), "nft", "delete", "table", "netdev", CUT];
        if let Err(error) = host::run_always("nsenter", &words) {
            println!("the cut stays: {error:#}");
        }
    }
}
