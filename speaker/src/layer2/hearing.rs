//! Does an interface receive anything at all?
//!
//! A cable, a transceiver or a switch may fail in one direction: the node still sends, and hears nothing. On a segment that
//! lives something is always heard within a moment, if only the broadcasts of others; where it does not live, neighbours can
//! be asked.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use ferrolb_neighbor::MacAddr;

/// An interface that has received nothing for this long is silent. Not longer than the others take to declare a node down.
const SILENCE: Duration = Duration::from_millis(900);

/// What the kernel has counted on each interface. Not from sysfs, which shows the network namespace that it was mounted in.
pub(super) struct Counters(String);

impl Counters {
    pub(super) fn read() -> Self {
        Self(std::fs::read_to_string("/proc/net/dev").unwrap_or_default())
    }

    /// Packets that an interface has received (`/proc/net/dev`, proc(5): the second number after the name).
    fn received(&self, interface: &str) -> Option<u64> {
        let of = |line: &str| {
            let (name, numbers) = line.split_once(':')?;
            (name.trim() == interface).then(|| numbers.split_whitespace().nth(1)?.parse().ok())?
        };
        self.0.lines().find_map(of)
    }
}

/// What one interface receives.
pub(super) struct Hearing {
    name: String,
    received: Option<u64>,
    since: Instant,
}

impl Hearing {
    pub(super) fn of(name: &str, now: Instant) -> Self {
        Self {
            name: name.to_owned(),
            received: None,
            since: now,
        }
    }

    /// Whether it has received nothing for a while, by what the kernel has counted. What cannot be read counts as heard.
    pub(super) fn look(&mut self, counters: &Counters, now: Instant) -> bool {
        self.take(counters.received(&self.name), now)
    }

    fn take(&mut self, counted: Option<u64>, now: Instant) -> bool {
        if counted.is_none() || counted != self.received {
            self.received = counted;
            self.since = now;
        }
        now >= self.since + SILENCE
    }
}

/// Some stations that the kernel knows on an interface, except those with these hardware addresses.
pub(super) fn neighbours(interface: &str, except: &BTreeSet<MacAddr>) -> Vec<Ipv4Addr> {
    let table = std::fs::read_to_string("/proc/net/arp").unwrap_or_default();
    in_table(&table, interface, except)
}

/// Reads `/proc/net/arp` (proc(5)): address, hardware type, flags, hardware address, mask, device.
fn in_table(table: &str, interface: &str, except: &BTreeSet<MacAddr>) -> Vec<Ipv4Addr> {
    /// The entry is complete (`ATF_COM`).
    const COMPLETE: u32 = 0x2;
    const AT_MOST: usize = 16;
    let known = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let &[ip, _, flags, mac, _, device] = columns.as_slice() else {
            return None;
        };
        let flags = u32::from_str_radix(flags.strip_prefix("0x")?, 16).ok()?;
        let stranger = !except.contains(&mac.parse().ok()?);
        (device == interface && flags & COMPLETE != 0 && stranger).then(|| ip.parse().ok())?
    };
    table
        .lines()
        .skip(1)
        .filter_map(known)
        .take(AT_MOST)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_silent_until_it_receives_something() {
        let start = Instant::now();
        let mut hearing = Hearing::of("eth0", start);
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        for (counted, milliseconds, silent) in [
            (Some(7), 0, false),
            (Some(7), 899, false),
            (Some(7), 900, true),
            (Some(7), 5000, true),
            (Some(8), 5200, false),
            (Some(8), 6500, true),
            (None, 6700, false),
            (None, 9000, false),
        ] {
            let looked = hearing.take(counted, at(milliseconds));
            assert_eq!(looked, silent, "{milliseconds}");
        }
    }

    #[test]
    fn who_can_be_asked_is_complete_on_this_interface_and_no_node() {
        let table = "\
IP address       HW type     Flags       HW address            Mask     Device
10.0.0.1         0x1         0x2         02:00:00:00:00:01     *        eth0
10.0.0.2         0x1         0x0         00:00:00:00:00:00     *        eth0
10.0.0.3         0x1         0x2         02:00:00:00:00:03     *        eth0
10.0.0.4         0x1         0x6         02:00:00:00:00:04     *        eth0
10.0.0.5         0x1         0x2         02:00:00:00:00:05     *        eth1
no line of it
";
        let nodes = [MacAddr(2, 0, 0, 0, 0, 3)].into();
        let expected: Vec<Ipv4Addr> = vec![[10, 0, 0, 1].into(), [10, 0, 0, 4].into()];
        assert_eq!(in_table(table, "eth0", &nodes), expected);
        assert!(in_table("", "eth0", &nodes).is_empty());
    }

    #[test]
    fn received_packets_are_read_of_this_interface() {
        let counters = Counters(
            "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:  2776770   11307    0    0    0     0          0         0  2776770   11307    0    0    0     0       0          0
  eth0:1215645    2751    0    0    0     0          0         0  1782404    4324    0    0    0   427       0          0
eth0.5: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0
"
            .to_owned(),
        );
        for (interface, received) in [
            ("lo", Some(11307)),
            ("eth0", Some(2751)),
            ("eth0.5", Some(2)),
            ("eth", None),
            (" face |bytes", None),
        ] {
            assert_eq!(counters.received(interface), received, "{interface}");
        }
    }

    #[test]
    fn the_kernel_counts_what_the_loopback_interface_receives() {
        let before = Counters::read().received("lo").unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        assert!(Counters::read().received("lo").unwrap() > before);
    }
}
