//! The membership machine: datagrams, timers and wishes in, [`Output`]s out.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::{Duration, Instant};

use foca::{
    Codec, Foca, Member, Message, NoCustomBroadcast, Notification, PeriodicParams, PostcardCodec,
    Runtime, State, Timer,
};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::envelope::{Envelope, OVERHEAD};
use crate::node::Node;

/// Members that are kept at most, alive or remembered as down. A cluster that Kubernetes supports has 5,000 nodes;
/// what goes beyond this is no cluster.
pub const MOST_KNOWN: usize = 8192;
/// A datagram that any link with IPv6 carries whole (RFC 8200 section 5: 1280 bytes, less IPv6 and UDP headers).
const LONGEST_DATAGRAM: usize = 1280 - 40 - 8;

/// Members that are remembered at most to be asked whether they are still there.
const MOST_ASKED: usize = 512;
/// Members that are told of a later life at once; gossip tells the others.
const MOST_GREETED: usize = 3;

/// How patient the cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Each node probes one member in this time.
    pub probe_period: Duration,
    /// A probe that is not answered within this time is tried through other members.
    pub probe_rtt: Duration,
    /// How long a suspected member may refute.
    pub suspicion: Duration,
}

impl Default for Timing {
    /// Everyone knows of a lost node after about 1.8 s, at worst after 3.3 s.
    fn default() -> Self {
        Self {
            probe_period: Duration::from_millis(300),
            probe_rtt: Duration::from_millis(100),
            suspicion: Duration::from_millis(900),
        }
    }
}

/// What the machine wants done, or wants known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this datagram; it may get lost.
    Send {
        /// Where to.
        to: SocketAddr,
        /// The datagram, envelope included.
        bytes: Vec<u8>,
    },
    /// The node of this name is alive.
    Up(String),
    /// The node of this name has left or is lost.
    Down(String),
}

/// Why a datagram was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum DropReason {
    /// It ends before its envelope does.
    #[error("the datagram ends before its envelope does")]
    Truncated,
    /// The envelope has a version that we do not know.
    #[error("the envelope has an unknown version")]
    Version,
    /// It is not encrypted although we have a secret.
    #[error("the datagram is not encrypted, but this node has a secret")]
    Unencrypted,
    /// It is encrypted although we have no secret.
    #[error("the datagram is encrypted, but this node has no secret")]
    Encrypted,
    /// It was sealed with another secret, or changed on its way.
    #[error("the datagram was sealed with another secret or changed on its way")]
    Authentication,
    /// Its content is not a membership message.
    #[error("the content is not a membership message")]
    Malformed,
    /// It claims to come from ourselves: two nodes have one address, or the network sends back what we sent.
    #[error("the sender has our own address")]
    OwnAddress,
    /// It would make [`MOST_KNOWN`] members more.
    #[error("no more members can be kept")]
    Full,
}

impl DropReason {
    /// Every reason, so that each can be counted from zero.
    pub const ALL: [Self; 8] = [
        Self::Truncated,
        Self::Version,
        Self::Unencrypted,
        Self::Encrypted,
        Self::Authentication,
        Self::Malformed,
        Self::OwnAddress,
        Self::Full,
    ];

    /// The reason as a metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Version => "version",
            Self::Unencrypted => "unencrypted",
            Self::Encrypted => "encrypted",
            Self::Authentication => "authentication",
            Self::Malformed => "malformed",
            Self::OwnAddress => "own_address",
            Self::Full => "full",
        }
    }
}

/// The protocol complained about its own state. It goes on; worth a line in the log.
#[derive(Debug, thiserror::Error)]
#[error("run a step of the membership protocol")]
pub struct Fault(#[source] foca::Error);

/// The view that one node has of all.
///
/// A node that was cut off for a while has missed everybody, and would, once it is back, tell everybody that everybody
/// is down. So what it believes in isolation is neither spread nor kept: whenever it declares a member down while
/// nobody answers it, or learns that it was itself declared down, it starts a later life, in which it knows the
/// members that it holds to be alive and nothing of the others. Once it is answered, it asks these to join.
pub struct Membership {
    foca: Foca<Node, PostcardCodec, SmallRng, NoCustomBroadcast>,
    rng: SmallRng,
    timing: Timing,
    effects: Effects,
    /// [`MOST_KNOWN`], but for tests.
    most_known: usize,
    /// When another member last answered something that this life has sent.
    answered: Instant,
    /// When suspicions were last given up because the fault was on our side.
    excused: Instant,
    /// Members that were declared down while nobody answered; to be asked once someone does.
    missing: BTreeSet<SocketAddr>,
    /// When this life began by being declared down, and by how much its number was raised then.
    raised: (Instant, u64),
    left: bool,
    fault: Option<Fault>,
    /// Names last told by [`Output::Up`] and not taken back since; always with our own.
    names: BTreeSet<String>,
}

/// What foca asks for while it runs.
struct Effects {
    now: Instant,
    envelope: Envelope,
    outputs: VecDeque<Output>,
    timers: BinaryHeap<Reverse<(Instant, Timer<Node>, u64)>>,
    /// Keeps timers of the same kind and time in the order in which they were asked for.
    asked: u64,
    members_changed: bool,
    a_member_went_down: bool,
    declared_down_ourselves: bool,
}

impl Runtime<Node> for &mut Effects {
    fn notify(&mut self, notification: Notification<'_, Node>) {
        match notification {
            Notification::MemberUp(_) | Notification::Rename(..) => self.members_changed = true,
            Notification::MemberDown(_) => {
                self.members_changed = true;
                self.a_member_went_down = true;
            }
            Notification::Defunct => self.declared_down_ourselves = true,
            Notification::Active | Notification::Idle | Notification::Rejoin(_) => {}
        }
    }

    fn send_to(&mut self, to: Node, data: &[u8]) {
        let bytes = self.envelope.seal(data);
        self.outputs.push_back(Output::Send { to: to.addr, bytes });
    }

    fn submit_after(&mut self, timer: Timer<Node>, after: Duration) {
        self.asked += 1;
        self.timers
            .push(Reverse((self.now + after, timer, self.asked)));
    }
}

impl Membership {
    /// A cluster of one. `secret` is the shared secret, `None` for a cluster that trusts its network. `seed` must be
    /// drawn at random for every start: what must be unpredictable on the wire derives from it.
    #[must_use]
    pub fn new(
        own: Node,
        secret: Option<&[u8]>,
        seed: [u8; 32],
        timing: Timing,
        now: Instant,
    ) -> Self {
        let (epoch, random) = seed.split_at(16);
        let half = |bytes: &[u8]| <[u8; 16]>::try_from(bytes).expect("half of 32 bytes are 16");
        let mut rng = SmallRng::seed_from_u64(u128::from_be_bytes(half(random)) as u64);
        let names = BTreeSet::from([own.name.clone()]);
        let effects = Effects {
            now,
            envelope: Envelope::new(secret, half(epoch)),
            outputs: VecDeque::from([Output::Up(own.name.clone())]),
            timers: BinaryHeap::new(),
            asked: 0,
            members_changed: false,
            a_member_went_down: false,
            declared_down_ourselves: false,
        };
        Self {
            foca: Foca::new(own, protocol(timing), rng.fork(), PostcardCodec),
            rng,
            timing,
            effects,
            most_known: MOST_KNOWN,
            answered: now,
            excused: now,
            missing: BTreeSet::new(),
            raised: (now, 0),
            left: false,
            fault: None,
            names,
        }
    }

    /// Takes in a received datagram.
    ///
    /// # Errors
    /// The reason, if it was not used; nothing has changed then.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DropReason> {
        self.effects.now = now;
        let message = self.effects.envelope.open(datagram)?;
        let mut rest = &message[..];
        let header = PostcardCodec.decode_header(&mut rest);
        let header: foca::Header<Node> = header.map_err(|_undecodable| DropReason::Malformed)?;
        if self.foca.iter_membership_state().len() >= self.most_known {
            self.admit_when_full(&header, rest)?;
        }
        let answers = header.dst == *self.foca.identity()
            && matches!(
                header.message,
                Message::Ack(_) | Message::ForwardedAck { .. } | Message::Feed
            );
        let result = self.foca.handle_data(&message, &mut self.effects);
        if self.effects.declared_down_ourselves && !self.left {
            self.overtake();
        }
        self.effects.a_member_went_down = false;
        result.map_err(|error| match error {
            foca::Error::DataFromOurselves => DropReason::OwnAddress,
            _ => DropReason::Malformed,
        })?;
        if answers {
            let before = std::mem::replace(&mut self.answered, now);
            if self.suspects_from_silence(before) {
                self.excused = now;
                self.start_over(1);
            }
            for addr in std::mem::take(&mut self.missing) {
                self.announce(addr);
            }
        }
        self.tell_changes();
        Ok(())
    }

    /// Runs what is due. To be called at [`Self::deadline`], and only after the datagrams that have already arrived
    /// were taken in: an answer that waits in the socket must not count as missing.
    ///
    /// # Errors
    /// The first complaint of the protocol since the last call; all that is due has run nevertheless.
    pub fn tick(&mut self, now: Instant) -> Result<(), Fault> {
        self.effects.now = now;
        while let Some(Reverse((at, ..))) = self.effects.timers.peek()
            && *at <= now
        {
            let Some(Reverse((_, timer, _))) = self.effects.timers.pop() else {
                break;
            };
            let ran = self.foca.handle_timer(timer, &mut self.effects);
            self.note(ran);
            // After each timer, since the next one may gossip.
            if std::mem::take(&mut self.effects.a_member_went_down)
                && now >= self.answered + self.timing.suspicion
            {
                self.start_over(1);
            }
        }
        self.tell_changes();
        self.fault.take().map_or(Ok(()), Err)
    }

    /// When [`Self::tick`] has to be called next.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.effects.timers.peek().map(|Reverse((at, ..))| *at)
    }

    /// Asks whoever lives at `addr` to let us join; the answer tells of other members.
    ///
    /// # Errors
    /// The protocol could not write the message.
    pub fn announce_to(&mut self, now: Instant, addr: SocketAddr) -> Result<(), Fault> {
        self.effects.now = now;
        self.foca
            .announce(Node::at(addr), &mut self.effects)
            .map_err(Fault)
    }

    /// Says farewell to some members, who tell the others. Nothing is answered afterwards.
    ///
    /// # Errors
    /// The protocol could not write the message.
    pub fn leave(&mut self, now: Instant) -> Result<(), Fault> {
        self.effects.now = now;
        self.left = true;
        self.foca.leave_cluster(&mut self.effects).map_err(Fault)?;
        // To others again: a farewell that only three have heard may still get lost with them.
        for _ in 0..2 {
            self.foca.gossip(&mut self.effects).map_err(Fault)?;
        }
        Ok(())
    }

    /// What is to be done next, oldest first. To be called until it is empty after every other call.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.effects.outputs.pop_front()
    }

    /// Names of the nodes that are alive, our own among them.
    #[must_use]
    pub fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// Addresses of the other members that are alive.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.foca.iter_members().map(|member| member.id().addr)
    }

    /// Whether we still suspect somebody because nobody answered between `before` and now. The fault was on our side
    /// then, and those whom we suspect may never have heard of it, so they cannot refute. Excused only now and then,
    /// because where many are lost at once, long silences are normal.
    fn suspects_from_silence(&self, before: Instant) -> bool {
        const NOW_AND_THEN: Duration = Duration::from_secs(5);
        let now = self.effects.now;
        let two_probes_failed = self.timing.probe_period * 2 + self.timing.probe_rtt;
        let suspicion = |Reverse((down_at, timer, _)): &Reverse<(Instant, Timer<Node>, u64)>| {
            matches!(timer, Timer::ChangeSuspectToDown { .. })
                && *down_at > before + self.timing.suspicion
        };
        now >= before + two_probes_failed
            && now >= self.excused + NOW_AND_THEN
            && self.foca.num_members() > 1
            && self.effects.timers.iter().any(suspicion)
    }

    /// Others have declared us down. They may know a life with a higher number than ours, if our clock was set back
    /// before a restart; so the step doubles as long as it does not help.
    fn overtake(&mut self) {
        const LASTING: Duration = Duration::from_secs(60);
        let now = self.effects.now;
        let (since, step) = self.raised;
        let step = if now < since + LASTING {
            step.saturating_mul(2).max(1)
        } else {
            1
        };
        self.raised = (now, step);
        self.start_over(step);
    }

    /// Begins a later life, see the type's own words.
    fn start_over(&mut self, step: u64) {
        let own = self.foca.identity().later_life(step);
        let others = self
            .foca
            .iter_membership_state()
            .filter(|member| member.id().addr != own.addr);
        let (alive, down): (Vec<_>, Vec<_>) = others
            .cloned()
            .partition(|member| member.state() != State::Down);
        self.foca = Foca::new(own, protocol(self.timing), self.rng.fork(), PostcardCodec);
        self.effects.timers.clear();
        self.effects.declared_down_ourselves = false;
        let room = MOST_ASKED.saturating_sub(self.missing.len());
        self.missing
            .extend(down.iter().map(|member| member.id().addr).take(room));
        let believed = alive
            .iter()
            .map(|member| Member::new(member.id().clone(), member.incarnation(), State::Alive));
        let applied = self.foca.apply_many(believed, false, &mut self.effects);
        self.note(applied);
        for member in alive.iter().take(MOST_GREETED) {
            self.announce(member.id().addr);
        }
    }

    fn announce(&mut self, addr: SocketAddr) {
        let announced = self.foca.announce(Node::at(addr), &mut self.effects);
        self.note(announced);
    }

    fn note(&mut self, result: Result<(), foca::Error>) {
        if let Err(error) = result {
            self.fault.get_or_insert(Fault(error));
        }
    }

    /// A node counts as alive while any of its lives does: during a move to another address there are two.
    fn tell_changes(&mut self) {
        if !std::mem::take(&mut self.effects.members_changed) {
            return;
        }
        let own = self.foca.identity().name.clone();
        let names: BTreeSet<_> = self
            .foca
            .iter_members()
            .map(|member| member.id().name.clone())
            .chain([own])
            .collect();
        let down = self.names.difference(&names).cloned().map(Output::Down);
        let up = names.difference(&self.names).cloned().map(Output::Up);
        self.effects.outputs.extend(down.chain(up));
        self.names = names;
    }

    /// When no more members can be kept, those that we know may still speak, but tell of no others.
    fn admit_when_full(&self, header: &foca::Header<Node>, rest: &[u8]) -> Result<(), DropReason> {
        let known = self
            .foca
            .iter_membership_state()
            .any(|member| member.id().addr == header.src.addr);
        let updates = rest
            .first_chunk::<2>()
            .map_or(0, |count| u16::from_be_bytes(*count));
        if known && updates == 0 {
            Ok(())
        } else {
            Err(DropReason::Full)
        }
    }
}

fn protocol(timing: Timing) -> foca::Config {
    let every = |milliseconds, members| {
        let num_members = NonZeroUsize::new(members)?;
        Some(PeriodicParams {
            frequency: Duration::from_millis(milliseconds),
            num_members,
        })
    };
    foca::Config {
        probe_period: timing.probe_period,
        probe_rtt: timing.probe_rtt,
        suspect_to_down_after: timing.suspicion,
        num_indirect_probes: const { NonZeroUsize::new(3).expect("3 is not 0") },
        max_transmissions: const { NonZeroU8::new(20).expect("20 is not 0") },
        // A restarted node is a new life, so this only has to outlast gossip about the old one.
        remove_down_after: Some(Duration::from_secs(30 * 60)),
        max_packet_size: const {
            NonZeroUsize::new(LONGEST_DATAGRAM - OVERHEAD).expect("the envelope is small")
        },
        // Who was declared down while it could not be reached has to learn of it, to start a later life.
        notify_down_members: true,
        periodic_announce: every(10_000, 1),
        periodic_announce_to_down_members: every(5_000, 2),
        periodic_gossip: every(200, 3),
    }
}

#[cfg(test)]
#[path = "simulation_tests.rs"]
mod simulation;
