//! Foreign frames by the hundred thousand: what a busy segment brings to everybody and is for nobody here.

#![allow(
    unsafe_code,
    reason = "many frames in one call of the kernel have no safe wrapper here"
)]

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::frames::{Arp, Mac, Ndp};
use crate::run::Run;
use crate::segment::ForeignHost;
use crate::{host, prober};

/// Frames that one call hands to the kernel.
const AT_A_TIME: usize = 64;

/// The generator at work.
pub struct Flood {
    host: ForeignHost,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Flood {
    /// Begins to send so many frames a second, or as many as go, from a host of its own.
    pub fn start(run: &Run, per_second: u32) -> Result<Self> {
        let host = ForeignHost::join(run, "generator", 9)?;
        let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (told, count, frames) = (stop.clone(), sent.clone(), mixture(host.mac)?);
        let thread = prober::spawn_in(run, host.place, move || {
            let socket = open("eth0").context("open the generator's socket")?;
            let began = Instant::now();
            let mut next = 0;
            while !told.load(Ordering::Relaxed) {
                let due = began.elapsed().as_secs_f64() * f64::from(per_second);
                // A frame counts of a few minutes are far from where a float loses whole numbers.
                #[allow(clippy::cast_precision_loss)]
                let behind = due - count.load(Ordering::Relaxed) as f64;
                if behind < 1.0 {
                    std::thread::sleep(Duration::from_micros(200));
                    continue;
                }
                let end = (next + AT_A_TIME).min(frames.len());
                let part = frames.get(next..end).unwrap_or_default();
                let taken = send_many(&socket, part).context("send foreign frames")?;
                count.fetch_add(u64::try_from(taken)?, Ordering::Relaxed);
                next = (next + taken) % frames.len();
            }
            Ok(())
        })?;
        Ok(Self {
            host,
            stop,
            sent,
            thread: Some(thread),
        })
    }

    /// How many were sent until now.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it.
    pub fn finish(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map_or(Ok(()), prober::finish)?;
        drop(self.host);
        Ok(())
    }
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

/// A packet socket for sending only, which leaves the queueing discipline out.
fn open(interface: &str) -> io::Result<OwnedFd> {
    let name = std::ffi::CString::new(interface)?;
    // SAFETY: the name ends with a zero; the result is checked.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a plain call; the result is checked before it is owned. Protocol 0 receives nothing.
    let socket = unsafe {
        let id = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        if id < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(id)
    };
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).unwrap_or_default(),
        sll_protocol: 0,
        sll_ifindex: i32::try_from(index).unwrap_or_default(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = |size: usize| libc::socklen_t::try_from(size).unwrap_or_default();
    let on: libc::c_int = 1;
    // SAFETY: both pointers are to values that live through the calls, with their own sizes.
    let results = unsafe {
        [
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                length(size_of_val(&address)),
            ),
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_QDISC_BYPASS,
                (&raw const on).cast(),
                length(size_of_val(&on)),
            ),
        ]
    };
    if results.contains(&-1) {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

/// Hands frames to the kernel and returns how many it took.
fn send_many(socket: &OwnedFd, frames: &[Vec<u8>]) -> io::Result<usize> {
    let mut parts: Vec<libc::iovec> = frames
        .iter()
        .map(|frame| libc::iovec {
            iov_base: frame.as_ptr().cast_mut().cast(),
            iov_len: frame.len(),
        })
        .collect();
    let mut messages: Vec<libc::mmsghdr> = parts
        .iter_mut()
        .map(|part| {
            // SAFETY: all zeros is a message header without anything in it.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message
        })
        .collect();
    let count = libc::c_uint::try_from(messages.len()).unwrap_or_default();
    // SAFETY: headers, parts and frames live through the call, and the kernel only reads the frames.
    let taken = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
    match usize::try_from(taken) {
        Ok(taken) => Ok(taken),
        // The interface's queue is full: what went is known, and the rest is tried again.
        Err(_) if io::Error::last_os_error().raw_os_error() == Some(libc::ENOBUFS) => Ok(0),
        Err(_) => Err(io::Error::last_os_error()),
    }
}
