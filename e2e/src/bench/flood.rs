//! Foreign frames by the hundred thousand: what a busy segment brings to everybody and is for nobody here.

#![allow(
    unsafe_code,
    reason = "many frames in one call of the kernel and the choice of a processor have no safe wrapper here"
)]

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::frames::{Arp, Mac, Ndp};
use crate::run::Run;
use crate::segment::ForeignHost;
use crate::{host, prober, raw};

/// Frames that one call hands to the kernel. Few: a kernel that is not preemptible lets nobody else have the processor meanwhile.
const AT_A_TIME: usize = 16;
/// How many frames it may be behind its rate before it gives them up.
const MOST_BEHIND: u128 = 256;

/// The generator at work.
pub struct Flood {
    host: ForeignHost,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<Result<()>>,
}

impl Flood {
    /// Begins to send so many frames a second, or as many as go, from a host of its own. One processor makes them and, as the
    /// kernel has it, carries them to every port of the switch, like the one that a network card interrupts; the others
    /// are left to those who are measured.
    pub fn start(run: &Run, per_second: u32) -> Result<Self> {
        let host = ForeignHost::join(run, "generator", 9)?;
        let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let frames = mixture(host.mac)?;
        let (stopped, count) = (stop.clone(), sent.clone());
        let thread = prober::spawn_in(run, host.place, move || {
            stay_on_one_processor().context("keep the generator on one processor")?;
            send_on(&frames, per_second, &stopped, &count)
        })?;
        Ok(Self {
            host,
            stop,
            sent,
            thread,
        })
    }

    /// How many were sent until now.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it.
    pub fn finish(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        prober::finish(self.thread)?;
        drop(self.host);
        Ok(())
    }
}

/// Sends the frames over and over at this rate, until it is told to stop.
fn send_on(frames: &[Vec<u8>], per_second: u32, stop: &AtomicBool, sent: &AtomicU64) -> Result<()> {
    let socket = raw::Sender::open("eth0").and_then(raw::Sender::bypass);
    let socket = socket.context("open the generator's socket")?;
    let (mut began, mut done, mut next) = (Instant::now(), 0, 0);
    while !stop.load(Ordering::Relaxed) {
        let due = began.elapsed().as_micros() * u128::from(per_second) / 1_000_000;
        if due <= done {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        }
        // What could not be sent in time is not made up for: no switch would send it in one burst.
        if due - done > MOST_BEHIND {
            (began, done) = (Instant::now(), 0);
        }
        let end = (next + AT_A_TIME).min(frames.len());
        let part = frames.get(next..end).unwrap_or_default();
        let taken = socket.send_many(part).context("send foreign frames")?;
        sent.fetch_add(u64::try_from(taken)?, Ordering::Relaxed);
        done += u128::try_from(taken)?;
        next = (next + taken) % frames.len();
    }
    Ok(())
}

/// Keeps the calling thread on the last of the processors that it may use.
fn stay_on_one_processor() -> std::io::Result<()> {
    // SAFETY: all zeros is the empty set, and the kernel is given a set that lives through the call with its own size.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of_val(&allowed), &raw mut allowed) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        let last = (0..size_of_val(&allowed) * 8).rfind(|&n| libc::CPU_ISSET(n, &allowed));
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(last.unwrap_or_default(), &mut one);
        if libc::sched_setaffinity(0, size_of_val(&one), &raw const one) != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

/// How many frames an interface of a machine has received, and how many of them it had to drop.
pub fn received(run: &Run, place: &str, interface: &str) -> Result<(u64, u64)> {
    let namespace = run.namespace(place);
    let words = [
        "-n", &namespace, "-s", "-j", "link", "show", "dev", interface,
    ];
    let links: serde_json::Value = serde_json::from_str(&host::run("ip", &words)?)?;
    let figure = |name: &str| links[0]["stats64"]["rx"][name].as_u64();
    figure("packets")
        .zip(figure("dropped"))
        .with_context(|| format!("{place} does not count what {interface} receives"))
}

/// How many frames this machine's kernel has dropped because more came than its processors took in: the second column
/// of `/proc/net/softnet_stat`, one line for each processor.
pub fn dropped_by_the_kernel() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/net/softnet_stat")?;
    let dropped = text.lines().filter_map(|line| line.split(' ').nth(1));
    Ok(dropped
        .filter_map(|n| u64::from_str_radix(n, 16).ok())
        .sum())
}

/// A mixture as a large segment has it: mostly questions for others by ARP, claims of others, solicitations to groups,
/// and broadcasts of other protocols.
fn mixture(mac: Mac) -> Result<Vec<Vec<u8>>> {
    const KINDS: u32 = 4096;
    let sender: Ipv4Addr = "10.10.250.1".parse()?;
    let sender_v6: Ipv6Addr = "fd00:10::fa01".parse()?;
    // Of the segment, outside of the pool.
    let (first, first_v6) = (Ipv4Addr::new(10, 10, 64, 0), sender_v6.to_bits() + 1);
    let frame = |number: u32| match number % 10 {
        0..=5 => Arp::request(mac, sender, Ipv4Addr::from(u32::from(first) + number)).bytes(),
        6 => Arp::claim(mac, Ipv4Addr::from(u32::from(first) + number)).bytes(),
        7 | 8 => {
            let target = Ipv6Addr::from(first_v6 + u128::from(number));
            Ndp::solicitation(mac, sender_v6, target).bytes()
        }
        _ => other_broadcast(mac),
    };
    Ok((0..KINDS).map(frame).collect())
}

/// A broadcast of an EtherType for local experiments (IEEE 802, 0x88b5).
fn other_broadcast(mac: Mac) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(mac);
    frame.extend([0x88, 0xb5]);
    frame.resize(60, 0);
    frame
}
