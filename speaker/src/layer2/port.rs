//! One interface in use: its sockets, the tasks that answer and announce on them, its multicast groups.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ferrolb_neighbor::{
    Frame, MacAddr, Responder, SockFilter, Standing, Verdict, arp_filter, neighbor_discovery_filter,
};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::hearing::{self, Counters, Hearing};
use super::links::Link;
use super::metrics::Layer2Metrics;
use super::multicast::{Groups, Settled};
use super::packet_socket::PacketSocket;
use super::shared::{Entries, Shared};
use super::{Interfaces, Layer2Event};

/// Longer than any frame that is answered; the rest of a longer one is of no interest.
const LONGEST_FRAME: usize = 2048;
/// Rounds that wait to be sent on one interface; further ones are lost and counted.
const WAITING: usize = 32_768;
/// Rounds sent before other tasks get their turn.
const AT_A_TIME: usize = 64;

/// An interface in use. Dropping it ends its tasks and closes its sockets.
pub(super) struct Port {
    pub(super) link: Link,
    ndp: Option<Side>,
    arp: Option<Side>,
    groups: Groups,
    responder: Responder,
    hearing: Hearing,
    /// It receives nothing although it should.
    deaf: Arc<AtomicBool>,
    unsaid: Arc<AtomicBool>,
    /// When everything was last said at once.
    told_all: Option<Instant>,
    out: mpsc::Sender<Out>,
    _announcing: AbortOnDropHandle<()>,
}

/// What the kernel lets through, for the addresses that are ours.
#[derive(PartialEq, Eq)]
pub(super) struct Filters {
    arp: Vec<SockFilter>,
    ndp: Vec<SockFilter>,
}

impl Filters {
    pub(super) fn of(entries: &Entries) -> Self {
        let addresses = || entries.keys();
        let v4 = addresses().filter_map(|ip| match ip {
            IpAddr::V4(ip) => Some(*ip),
            IpAddr::V6(_) => None,
        });
        let v6 = addresses().filter_map(|ip| match ip {
            IpAddr::V6(ip) => Some(*ip),
            IpAddr::V4(_) => None,
        });
        Self {
            arp: arp_filter(v4),
            ndp: neighbor_discovery_filter(v6),
        }
    }
}

struct Side {
    socket: Arc<PacketSocket>,
    _answering: AbortOnDropHandle<()>,
}

/// Something to say unasked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Out {
    /// One gratuitous round.
    Announce(IpAddr),
    /// The question whether somebody has the address.
    Probe(IpAddr),
}

/// What all ports share.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) shared: Arc<Shared>,
    pub(super) metrics: Layer2Metrics,
    /// Takes the index of an interface whose socket has failed.
    pub(super) failed: mpsc::Sender<u32>,
    pub(super) events: mpsc::Sender<Layer2Event>,
}

impl Port {
    /// Opens the sockets and starts answering.
    pub(super) fn open(
        index: u32,
        link: Link,
        filters: &Filters,
        context: &Context,
    ) -> io::Result<Self> {
        let responder = Responder {
            mac: link.mac,
            link_local: link.link_local,
        };
        let side = |ethertype: libc::c_int, filter: &[SockFilter]| {
            let socket = Arc::new(PacketSocket::open(index, ethertype as u16, filter)?);
            if link.filters_frames {
                socket.receive_all()?;
            }
            let answering = answer(
                Arc::clone(&socket),
                responder,
                index,
                link.name.clone(),
                context.clone(),
            );
            let answering = AbortOnDropHandle::new(tokio::spawn(answering));
            io::Result::Ok(Side {
                socket,
                _answering: answering,
            })
        };
        let arp = link
            .arp
            .then(|| side(libc::ETH_P_ARP, &filters.arp))
            .transpose()?;
        let ndp = link
            .link_local
            .map(|_| side(libc::ETH_P_IPV6, &filters.ndp))
            .transpose()?;
        let unsaid = Arc::<AtomicBool>::default();
        let deaf = Arc::<AtomicBool>::default();
        let hearing = Hearing::of(&link.name, Instant::now());
        let (out, waiting) = mpsc::channel(WAITING);
        let speaker = Speaker {
            name: link.name.clone(),
            deaf: Arc::clone(&deaf),
            unsaid: Arc::clone(&unsaid),
            responder,
            arp: arp.as_ref().map(|side| Arc::clone(&side.socket)),
            ndp: ndp.as_ref().map(|side| Arc::clone(&side.socket)),
            context: context.clone(),
        };
        Ok(Self {
            link,
            arp,
            ndp,
            groups: Groups::new(index),
            responder,
            hearing,
            deaf,
            unsaid,
            told_all: None,
            out,
            _announcing: AbortOnDropHandle::new(tokio::spawn(speaker.announce(waiting))),
        })
    }

    /// Has the kernel let through what the filters say from now on.
    ///
    /// # Errors
    /// It refuses, and goes on as before.
    pub(super) fn set_filters(&self, filters: &Filters) -> io::Result<()> {
        for (side, filter) in [(&self.arp, &filters.arp), (&self.ndp, &filters.ndp)] {
            if let Some(Side { socket, .. }) = side {
                socket.set_filter(filter)?;
            }
        }
        Ok(())
    }

    /// Whether the sockets fit the interface as it is now.
    pub(super) fn fits(&self, link: &Link) -> bool {
        Link {
            running: link.running,
            ..self.link.clone()
        } == *link
    }

    /// Takes in on which interfaces an address is ours now, if on any: requests for it come to a group of its own.
    pub(super) fn announced(&mut self, ip: IpAddr, interfaces: Option<&Interfaces>) {
        // Without a link-local address nothing is answered here, and nothing to be joined.
        let (IpAddr::V6(ip), Some(_)) = (ip, &self.ndp) else {
            return;
        };
        if interfaces.is_some_and(|interfaces| interfaces.contain(&self.link.name)) {
            self.groups.want(ip);
        } else {
            self.groups.release(ip);
        }
    }

    /// Joins and leaves some of the multicast groups that changed.
    pub(super) fn join_groups(&mut self) -> Settled {
        self.ndp
            .as_ref()
            .map_or(Settled::All, |ndp| self.groups.settle(&ndp.socket))
    }

    /// Looks whether the interface receives anything. True if it may say now what it was to say while it was deaf. Who is
    /// `alone` asks neighbours before it holds its tongue; `nodes` are those that are missed.
    pub(super) fn listen(
        &mut self,
        counters: &Counters,
        alone: bool,
        nodes: &BTreeSet<MacAddr>,
    ) -> bool {
        let silent = self.hearing.look(counters, Instant::now());
        let deaf = silent && (!alone || self.ask_neighbours(nodes));
        self.deaf.store(deaf, Ordering::Relaxed);
        !(alone && deaf) && self.unsaid.swap(false, Ordering::Relaxed)
    }

    /// Asks stations that answered lately, other than nodes of the cluster. False if there is none.
    fn ask_neighbours(&self, nodes: &BTreeSet<MacAddr>) -> bool {
        let Some(arp) = &self.arp else {
            return false;
        };
        let neighbours = hearing::neighbours(&self.link.name, nodes);
        for ip in &neighbours {
            for frame in self.responder.probe(IpAddr::V4(*ip)) {
                // What does not leave is not answered, and asked again.
                let _ = arp.socket.try_send(&frame);
            }
        }
        !neighbours.is_empty()
    }

    /// Whether everything may be said at once now; not again soon, however often the carrier comes and goes.
    pub(super) fn may_say_all(&mut self) -> bool {
        const PAUSE: Duration = Duration::from_secs(5);
        let now = Instant::now();
        let may = self.told_all.is_none_or(|at| now >= at + PAUSE);
        if may {
            self.told_all = Some(now);
        }
        may
    }

    /// Has something said on this interface, in the order of the calls, without waiting for it.
    pub(super) fn say(&self, out: Out, metrics: &Layer2Metrics) {
        if self.out.try_send(out).is_err() {
            metrics.unsent();
        }
    }
}

/// What speaks unasked on one interface. Each has its own, so that one whose link takes nothing holds up no other.
struct Speaker {
    name: String,
    deaf: Arc<AtomicBool>,
    /// Something was not said for that.
    unsaid: Arc<AtomicBool>,
    responder: Responder,
    arp: Option<Arc<PacketSocket>>,
    ndp: Option<Arc<PacketSocket>>,
    context: Context,
}

impl Speaker {
    async fn announce(self, mut waiting: mpsc::Receiver<Out>) {
        let mut count = 0usize;
        while let Some(out) = waiting.recv().await {
            count += 1;
            if count.is_multiple_of(AT_A_TIME) {
                tokio::task::yield_now().await;
            }
            let sent = match out {
                Out::Announce(ip) => self.gratuitous(ip).await,
                Out::Probe(ip) => self.probe(ip).await,
            };
            if sent.is_err() {
                // What waits here is out of date when the link takes frames again; the next round is not.
                let mut lost = 0;
                while waiting.try_recv().is_ok() {
                    lost += 1;
                }
                self.context.metrics.unsent_many(lost);
            }
        }
    }

    /// Looked up anew for each frame: the address may have been withdrawn while others were sent.
    fn may_say(&self, ip: IpAddr, stands: impl FnOnce(Standing) -> bool) -> bool {
        let shared = &self.context.shared;
        if shared.is_alone() && self.deaf.load(Ordering::Relaxed) {
            self.unsaid.store(true, Ordering::Relaxed);
            return false;
        }
        shared.is_awake()
            && shared
                .entries()
                .get(&ip)
                .is_some_and(|entry| entry.interfaces.contain(&self.name) && stands(entry.standing))
    }

    fn socket(&self, ip: IpAddr) -> Option<&PacketSocket> {
        let socket = if ip.is_ipv4() { &self.arp } else { &self.ndp };
        socket.as_deref()
    }

    async fn gratuitous(&self, ip: IpAddr) -> Result<(), Stuck> {
        if !self.may_say(ip, |standing| standing == Standing::Held) {
            return Ok(());
        }
        let Some(socket) = self.socket(ip) else {
            return Ok(());
        };
        for frame in self.responder.gratuitous(ip) {
            if !self.send(socket, ip, &frame).await? {
                continue;
            }
            let is_first = self.context.shared.entries().get(&ip).is_some_and(|entry| {
                let sent = &entry.figures.gratuitous_sent;
                sent.fetch_add(1, Ordering::Relaxed) == 0
            });
            if is_first {
                let at = Instant::now();
                let event = Layer2Event::FirstGratuitousSent { ip, at };
                if self.context.events.try_send(event).is_err() {
                    debug!(%ip, "nobody listens to layer 2 events");
                }
            }
        }
        Ok(())
    }

    async fn probe(&self, ip: IpAddr) -> Result<(), Stuck> {
        if !self.may_say(ip, |_| true) {
            return Ok(());
        }
        let Some(socket) = self.socket(ip) else {
            return Ok(());
        };
        let mut left = false;
        for frame in self.responder.probe(ip) {
            left |= self.send(socket, ip, &frame).await?;
        }
        if left {
            self.context.shared.asked(ip);
        }
        Ok(())
    }

    /// True if the kernel took the frame.
    async fn send(&self, socket: &PacketSocket, ip: IpAddr, frame: &Frame) -> Result<bool, Stuck> {
        /// A large burst fills the send buffer; a link that takes nothing for this long is given up for now.
        const PATIENCE: Duration = Duration::from_millis(50);
        let mut stuck = false;
        let result = match socket.try_send(frame) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let sent = tokio::time::timeout(PATIENCE, socket.send(frame)).await;
                stuck = sent.is_err();
                sent.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
            }
            other => other,
        };
        let Err(error) = result else {
            return Ok(true);
        };
        self.context.metrics.unsent();
        debug!(%ip, interface = self.name, %error, "cannot send a frame");
        if stuck { Err(Stuck) } else { Ok(false) }
    }
}

/// The link takes nothing.
struct Stuck;

async fn answer(
    socket: Arc<PacketSocket>,
    responder: Responder,
    index: u32,
    name: String,
    context: Context,
) {
    let mut buffer = vec![0; LONGEST_FRAME];
    loop {
        let received = match socket.receive(&mut buffer).await {
            Ok(received) => received,
            // Told once when the interface goes down. It may come up again; when it is gone, so is this task.
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => continue,
            Err(error) => {
                warn!(interface = name, %error, "cannot receive requests");
                // Full only if as many failures are waiting already, which bring this interface up again too.
                let _ = context.failed.try_send(index);
                return;
            }
        };
        let frame = buffer.get(..received).unwrap_or_default();
        judge(&socket, responder, &name, &context, frame);
    }
}

fn judge(socket: &PacketSocket, responder: Responder, name: &str, context: &Context, frame: &[u8]) {
    let Context {
        shared, metrics, ..
    } = context;
    let entries = shared.entries();
    let ours = |ip: &IpAddr| {
        let entry = entries.get(ip)?;
        entry.interfaces.contain(name).then_some(entry)
    };
    let verdict = responder.answer(frame, |ip| ours(&ip).map(|entry| entry.standing));
    match verdict {
        Verdict::Reply(reply) => {
            // What was known before this process slept may be wrong by now.
            let Some(entry) = ours(&reply.ip).filter(|_| shared.is_awake()) else {
                return;
            };
            entry
                .figures
                .requests_received
                .fetch_add(1, Ordering::Relaxed);
            match socket.try_send(&reply.frame) {
                Ok(()) => {
                    entry.figures.responses_sent.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    metrics.unsent();
                    debug!(ip = %reply.ip, interface = name, %error, "cannot send an answer");
                }
            }
        }
        // What waited while this process slept may be a claim by whoever took over.
        Verdict::Claim(_) if !shared.is_awake() => {}
        Verdict::Claim(claim) => {
            drop(entries);
            debug!(ip = %claim.ip, mac = %claim.mac, interface = name, "another station claims an address");
            shared.claimed(claim);
        }
        Verdict::Ignored => {}
        Verdict::Dropped(reason) => {
            metrics.dropped(reason);
            debug!(interface = name, %reason, "dropped a frame");
        }
    }
}
