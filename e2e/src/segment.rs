//! What some scenarios put on the segment besides the machines of the plan: a foreign host, a second network interface,
//! a second segment. Each is taken away when its handle is dropped, and with the run in any case.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use pnet::datalink::{self, Channel, Config, DataLinkReceiver, DataLinkSender};

use crate::frames::{self, Arp, Mac, Ndp};
use crate::plan::{self, ASKER, Machine, SWITCH};
use crate::run::Run;
use crate::{host, network, prober, raw};

/// The bridge of the machines of the plan, and that of a second segment.
pub const FIRST: &str = "br0";
pub const SECOND: &str = "br1";

/// A host on the segment that has nothing to do with the cluster.
pub struct ForeignHost {
    run: Run,
    pub place: &'static str,
    pub mac: Mac,
}

impl ForeignHost {
    /// Plugs a host into the switch, without any address of IPv4.
    pub fn join(run: &Run, place: &'static str, last: u8) -> Result<Self> {
        let mac = [0x02, 0xfe, 0, 0, 0xf0, last];
        host::run("ip", &["netns", "add", &run.namespace(place)])?;
        // From here on it is taken away again whatever happens.
        let foreign = Self {
            run: run.clone(),
            place,
            mac,
        };
        let mut arguments = vec!["-q", "-w"];
        arguments.extend(network::SYSCTLS);
        host::run_in(&run.namespace(place), "sysctl", &arguments)?;
        plug(run, place, place, "eth0", mac, FIRST)?;
        Ok(foreign)
    }

    /// Gives it an address, without asking or telling anybody.
    pub fn take(&self, address: &str) -> Result<()> {
        self.batch(&format!(
            "address add {address}/{} dev eth0 nodad\n",
            length(address)
        ))
    }

    /// Takes the address from it.
    pub fn give_up(&self, address: &str) -> Result<()> {
        self.batch(&format!(
            "address delete {address}/{} dev eth0\n",
            length(address)
        ))
    }

    /// Has it answer for every address of a prefix, as another cluster's nodes would.
    pub fn answer_for(&self, prefix: &str) -> Result<()> {
        self.batch(&format!("route add local {prefix} dev lo\n"))
    }

    fn batch(&self, lines: &str) -> Result<()> {
        network::batch(&self.run.namespace(self.place), lines)
    }

    /// Sends frames as they are.
    pub fn send(&self, frames: Vec<Vec<u8>>) -> Result<()> {
        send_from(&self.run, self.place, "eth0", frames)
    }

    /// What it sends when it says unasked that it has this address.
    pub fn claim(&self, address: IpAddr) -> Vec<u8> {
        match address {
            IpAddr::V4(address) => Arp::claim(self.mac, address).bytes(),
            IpAddr::V6(address) => Ndp::claim(self.mac, address).bytes(),
        }
    }
}

impl Drop for ForeignHost {
    fn drop(&mut self) {
        // Its end of the cable goes with it.
        let _ = host::run_always("ip", &["netns", "delete", &self.run.namespace(self.place)]);
    }
}

fn length(address: &str) -> u8 {
    if address.contains(':') {
        plan::SEGMENT_V6_LENGTH
    } else {
        plan::SEGMENT_V4_LENGTH
    }
}

/// Puts a cable between a bridge of the switch and a machine. `port` is its name at the switch.
fn plug(run: &Run, port: &str, place: &str, interface: &str, mac: Mac, bridge: &str) -> Result<()> {
    network::batch(
        &run.namespace(SWITCH),
        &format!(
            "link add {port} type veth peer name {interface} address {} netns {}\nlink set {port} master {bridge} up\n",
            frames::text(mac),
            run.namespace(place)
        ),
    )?;
    network::batch(&run.namespace(place), &format!("link set {interface} up\n"))
}

/// One more network interface of a machine, without an address of IPv4.
pub struct Nic {
    run: Run,
    port: String,
    pub machine: &'static str,
    pub name: &'static str,
    pub mac: Mac,
}

impl Nic {
    /// Plugs it into a bridge of the switch.
    pub fn plug(
        run: &Run,
        machine: &'static str,
        name: &'static str,
        bridge: &str,
    ) -> Result<Self> {
        let mac = mac_of_second(machine, name)?;
        let port = format!("{machine}-{name}");
        // What a run before this one left plugged in must not be in the way.
        let _ = host::run(
            "ip",
            &["-n", &run.namespace(SWITCH), "link", "delete", &port],
        );
        plug(run, &port, machine, name, mac, bridge)?;
        // The machine must not answer here for the addresses of its other interface.
        let quiet = format!("net.ipv4.conf.{name}.arp_ignore=1");
        host::run_in(&run.namespace(machine), "sysctl", &["-q", "-w", &quiet])?;
        Ok(Self {
            run: run.clone(),
            port,
            machine,
            name,
            mac,
        })
    }

    /// The MAC that it has, or would have if it were plugged in.
    pub fn mac_of(machine: &str, name: &str) -> Result<Mac> {
        mac_of_second(machine, name)
    }

    /// What its cable is called at the switch.
    pub fn port(&self) -> &str {
        &self.port
    }

    /// `ip link set` of it, on its machine.
    pub fn set(&self, words: &str) -> Result<()> {
        network::batch(
            &self.run.namespace(self.machine),
            &format!("link set {} {words}\n", self.name),
        )
    }
}

impl Drop for Nic {
    fn drop(&mut self) {
        let switch = self.run.namespace(SWITCH);
        let _ = host::run_always("ip", &["-n", &switch, "link", "delete", &self.port]);
    }
}

/// A hardware address that tells machine and interface.
fn mac_of_second(machine: &str, interface: &str) -> Result<Mac> {
    let all = plan::machines();
    let known = all
        .iter()
        .find(|m| m.name == machine)
        .with_context(|| format!("there is no machine {machine}"))?;
    let mut mac = frames::mac(known.mac)?;
    mac[2] = interface.bytes().next_back().unwrap_or_default();
    Ok(mac)
}

/// A second segment with an interface `eth1` of the asker and of some machines.
pub struct SecondSegment {
    run: Run,
    /// Dropped before the bridge goes.
    pub nics: Vec<Nic>,
}

impl SecondSegment {
    pub fn build(run: &Run, machines: &[Machine]) -> Result<Self> {
        let switch = run.namespace(SWITCH);
        let _ = host::run("ip", &["-n", &switch, "link", "delete", SECOND]);
        network::batch(
            &switch,
            &format!(
                "link add {SECOND} type bridge stp_state 0 mcast_snooping 0\nlink set {SECOND} up\n"
            ),
        )?;
        let mut segment = Self {
            run: run.clone(),
            nics: Vec::new(),
        };
        for machine in machines.iter().chain([&ASKER]) {
            segment
                .nics
                .push(Nic::plug(run, machine.name, "eth1", SECOND)?);
        }
        Ok(segment)
    }

    pub fn of(&self, machine: &str) -> Result<&Nic> {
        self.nics
            .iter()
            .find(|nic| nic.machine == machine)
            .with_context(|| format!("{machine} has no eth1"))
    }
}

impl Drop for SecondSegment {
    fn drop(&mut self) {
        self.nics.clear();
        let switch = self.run.namespace(SWITCH);
        let _ = host::run_always("ip", &["-n", &switch, "link", "delete", SECOND]);
    }
}

/// A raw socket on an interface; the calling thread must be in its machine's namespace.
pub fn open(interface: &str) -> Result<(Box<dyn DataLinkSender>, Box<dyn DataLinkReceiver>)> {
    let found = datalink::interfaces()
        .into_iter()
        .find(|i| i.name == interface)
        .with_context(|| format!("there is no {interface}"))?;
    let config = Config {
        read_timeout: Some(Duration::from_millis(20)),
        ..Config::default()
    };
    match datalink::channel(&found, config)? {
        Channel::Ethernet(sender, receiver) => Ok((sender, receiver)),
        _ => anyhow::bail!("{interface} is no Ethernet interface"),
    }
}

/// Sends raw frames from an interface of a machine.
pub fn send_from(run: &Run, place: &str, interface: &str, frames: Vec<Vec<u8>>) -> Result<()> {
    let interface = interface.to_owned();
    prober::run_in(run, place, move || {
        let sender = raw::Sender::open(&interface)?;
        frames.iter().try_for_each(|frame| sender.send(frame))?;
        Ok(())
    })
}

/// The asker's question who has an address, as its kernel would put it.
pub fn question(address: IpAddr) -> Result<Vec<u8>> {
    let mac = frames::mac(ASKER.mac)?;
    Ok(match address {
        IpAddr::V4(address) => Arp::request(mac, ASKER.v4.parse()?, address).bytes(),
        IpAddr::V6(address) => Ndp::solicitation(mac, ASKER.v6.parse()?, address).bytes(),
    })
}

/// The asker asks on and on who has an address, as if it kept nothing in its cache. What is answered, a capture shows.
pub struct Asker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Vec<SystemTime>>>>,
}

impl Asker {
    /// Asks from one of its interfaces, as often as [`prober::Prober`] does.
    pub fn start(run: &Run, interface: &'static str, address: IpAddr) -> Result<Self> {
        let question = question(address)?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = prober::spawn_in(run, ASKER.name, move || {
            let sender = raw::Sender::open(interface)?;
            let mut next = Instant::now();
            let mut asked = Vec::new();
            while !told.load(Ordering::Relaxed) {
                asked.push(SystemTime::now());
                sender.send(&question)?;
                next += prober::INTERVAL;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            Ok(asked)
        })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Stops asking, and says when it asked.
    pub fn finish(mut self) -> Result<Vec<SystemTime>> {
        self.stop.store(true, Ordering::Relaxed);
        let asked = self.thread.take().map(prober::finish);
        asked.unwrap_or_else(|| Ok(Vec::new()))
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
