//! The membership machine: datagrams, timers and wishes in, [`Output`]s out.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use foca::{Codec, Foca, Message, NoCustomBroadcast, PostcardCodec, State, Timer};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::LONGEST_DATAGRAM;
use crate::effects::{DropReason, Fault, Output};
use crate::envelope::{Envelope, GREETING, Greeting, Seen};
use crate::hearing::{ASK, Ask, Hearing, PAGE, PAGE_WITH_MACS, PageHead, members_of};
use crate::macs::{Macs, Record, TELL, decode_tell};
use crate::node::Node;
use crate::runtime::{Effects, MESSAGE};
use crate::timing::Timing;

/// Members that are kept at most, alive or remembered as down. A cluster that Kubernetes supports has 5,000 nodes;
/// what goes beyond this is no cluster.
pub const MOST_KNOWN: usize = 8192;

/// The view that one node has of all.
///
/// A node that was cut off for a while has missed everybody, and would, once it is back, tell everybody that everybody
/// is down. So what it believes in isolation is neither spread nor kept: whenever it declares a member down while
/// nobody answers it, learns that it was itself declared down, or finds that time went on without it, it starts a later
/// life, in which it knows the members that it holds to be alive and nothing of the others. Once it is answered, it asks
/// these to join.
pub struct Membership {
    pub(crate) foca: Foca<Node, PostcardCodec, SmallRng, NoCustomBroadcast>,
    pub(crate) rng: SmallRng,
    pub(crate) timing: Timing,
    pub(crate) effects: Effects,
    pub(crate) hearing: Hearing,
    pub(crate) macs: Macs,
    /// [`MOST_KNOWN`], but for tests.
    pub(crate) most_known: usize,
    /// When another member last answered something that this life has sent.
    pub(crate) answered: Instant,
    /// When suspicions were last given up because the fault was on our side.
    pub(crate) excused: Instant,
    /// When [`Self::tick`] is due even if nothing else is, so that a stop is noticed.
    pub(crate) beat: Instant,
    /// Members that were declared down while nobody answered; to be asked once someone does.
    pub(crate) missing: BTreeSet<SocketAddr>,
    /// When this life began by being declared down, and by how much its number was raised then.
    pub(crate) raised: (Instant, u64),
    pub(crate) left: bool,
    pub(crate) fault: Option<Fault>,
    /// Names last told by [`Output::Up`] and not taken back since; always with our own.
    names: BTreeSet<String>,
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
        let envelope = Envelope::new(own.addr, own.generation, secret, half(epoch));
        let mut effects = Effects::new(now, envelope);
        effects.outputs.push_back(Output::Up(own.name.clone()));
        let macs = Macs::new(&own, now);
        Self {
            foca: Foca::new(own, timing.protocol(), rng.fork(), PostcardCodec),
            rng,
            timing,
            effects,
            hearing: Hearing::new(now),
            macs,
            most_known: MOST_KNOWN,
            answered: now,
            excused: now,
            beat: now + timing.probe_period,
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
    /// The reason, if it was not used. It may have been answered nevertheless: see [`Self::poll_output`].
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DropReason> {
        self.effects.now = now;
        self.notice_lapse();
        if datagram.len() > LONGEST_DATAGRAM {
            return Err(DropReason::Oversized);
        }
        let (content, seen) = self.effects.envelope.open(now, datagram)?;
        let (&kind, body) = content.split_first().ok_or(DropReason::Malformed)?;
        match kind {
            GREETING => {
                let greeting = postcard::from_bytes(body);
                let greeting: Greeting = greeting.map_err(|_undecodable| DropReason::Malformed)?;
                let who = (greeting.addr, greeting.generation);
                self.admit(seen, who, Some(&greeting))
            }
            MESSAGE => self.handle_message(seen, body),
            ASK => {
                let (ask, record) = Ask::decode(body).ok_or(DropReason::Malformed)?;
                self.admit(seen, (ask.from.addr, ask.from.generation), None)?;
                self.answer(&ask, record.is_some());
                self.learn(record.map(|record| (ask.from.addr, record)), true);
                Ok(())
            }
            PAGE | PAGE_WITH_MACS => {
                let (head, rest) = PageHead::decode(body).ok_or(DropReason::Malformed)?;
                self.admit(seen, (head.from.addr, head.from.generation), None)?;
                self.handle_page(&head, rest, kind == PAGE_WITH_MACS)
            }
            TELL => {
                let (head, records) = decode_tell(body).ok_or(DropReason::Malformed)?;
                self.admit(seen, (head.addr, head.generation), None)?;
                self.learn(records, true);
                Ok(())
            }
            _ => Err(DropReason::Malformed),
        }
    }

    /// Runs what is due. To be called at [`Self::deadline`], and only after the datagrams that have already arrived
    /// were taken in: an answer that waits in the socket must not count as missing.
    ///
    /// # Errors
    /// The first complaint of the protocol since the last call; all that is due has run nevertheless.
    pub fn tick(&mut self, now: Instant) -> Result<(), Fault> {
        self.effects.now = now;
        self.notice_lapse();
        self.beat = now + self.timing.probe_period;
        while let Some(timer) = self.effects.due() {
            let suspect = match &timer {
                Timer::ChangeSuspectToDown { member_id, .. } => Some(member_id.addr),
                _ => None,
            };
            let ran = self.foca.handle_timer(timer, &mut self.effects);
            self.note(ran);
            // After each timer, since the next one may gossip.
            if std::mem::take(&mut self.effects.a_member_went_down)
                && suspect.is_some_and(|lost| self.is_cut_off(lost))
            {
                self.start_over(1);
            }
        }
        if self.hearing.gave_up(now) {
            self.effects.outputs.push_back(Output::HeardAll);
        }
        let members = self.foca.iter_members().map(|member| member.id().addr);
        let own = self.foca.identity();
        let again = self.hearing.ask_again(now, members, own, &mut self.rng);
        self.ask(again);
        self.tell_changes();
        self.tell_macs();
        self.fault.take().map_or(Ok(()), Err)
    }

    /// When [`Self::tick`] has to be called next.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let others = [
            self.effects.deadline(),
            self.hearing.deadline(),
            self.macs.deadline().filter(|_| !self.left),
        ];
        others.into_iter().flatten().fold(self.beat, Instant::min)
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

    /// From now on silence counts: who has not been heard of within [`Timing::settle`] is taken for gone. To be called
    /// once it is known whom to announce to. Does nothing the second time.
    pub fn expect_answers(&mut self, now: Instant) {
        self.hearing.expect_by(now + self.timing.settle);
    }

    /// Whether who is alive is known as far as it can be: a member that had heard of all has told its whole list since this
    /// node started or lapsed, or the time for it is over. Until then an absent name says nothing.
    #[must_use]
    pub fn heard_all(&self) -> bool {
        self.hearing.heard_all()
    }

    /// Seals with `secret` from now on, for whoever has said to have it, and takes what is sealed with it. The former
    /// one stays in use for [`crate::ACCEPT_FORMER`], for those who have not. False if nothing changed: it was in use already, or
    /// this node was started without a secret.
    pub fn change_secret(&mut self, now: Instant, secret: &[u8]) -> bool {
        self.effects.envelope.change_secret(now, secret)
    }

    /// Says farewell to 128 members, who tell the others. Nothing is answered afterwards, and nobody tells us anything any
    /// more. Calling it again says it again: a farewell may get lost.
    ///
    /// # Errors
    /// The protocol could not write the message.
    pub fn leave(&mut self, now: Instant) -> Result<(), Fault> {
        self.effects.now = now;
        self.left = true;
        self.foca
            .set_config(self.timing.farewell())
            .and_then(|()| self.foca.leave_cluster(&mut self.effects))
            .map_err(Fault)
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

    /// Whether other members are held to be alive and none of them has answered for longer than any of them may stay
    /// unasked: with three members of which one is dead, 0.9 s of silence are normal. Sooner than they are declared down.
    #[must_use]
    pub fn is_unheard(&self, now: Instant) -> bool {
        const SILENCE: Duration = Duration::from_millis(1100);
        self.foca.num_members() > 0 && now >= self.answered + SILENCE
    }

    /// Sets the hardware addresses of our interfaces, of which the others are told; at most [`crate::MOST_MACS`], of more the
    /// lowest. None until it is called.
    pub fn set_macs(&mut self, now: Instant, macs: impl IntoIterator<Item = [u8; 6]>) {
        self.effects.now = now;
        self.macs.set_own(now, macs);
    }

    /// Hardware addresses of all other members, those included that were lost within the last ten minutes. Told by
    /// [`Output::Macs`] when they change; complete as far as any member can tell once [`Self::heard_all`] is true.
    #[must_use]
    pub fn macs(&self) -> BTreeSet<[u8; 6]> {
        self.macs.macs()
    }

    /// Whether the hardware addresses of every other member that is alive are known. For ever false beside a member whose
    /// version does not tell them.
    #[must_use]
    pub fn knows_all_macs(&self) -> bool {
        self.macs.knows_all()
    }

    /// Addresses of the other members that are alive.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.foca.iter_members().map(|member| member.id().addr)
    }

    fn admit(
        &mut self,
        seen: Seen,
        who: (SocketAddr, u64),
        greeting: Option<&Greeting>,
    ) -> Result<(), DropReason> {
        let mut send = Vec::new();
        let now = self.effects.now;
        let envelope = &mut self.effects.envelope;
        let admitted = envelope.admit(now, seen, who, greeting, &mut send);
        self.effects.send_all(send);
        admitted
    }

    fn handle_message(&mut self, seen: Seen, message: &[u8]) -> Result<(), DropReason> {
        let mut rest = message;
        let header = PostcardCodec.decode_header(&mut rest);
        let header: foca::Header<Node> = header.map_err(|_undecodable| DropReason::Malformed)?;
        self.admit(seen, (header.src.addr, header.src.generation), None)?;
        if self.is_full() {
            self.admit_when_full(&header, rest)?;
        }
        let answers = header.dst == *self.foca.identity()
            && matches!(
                header.message,
                Message::Ack(_) | Message::ForwardedAck { .. } | Message::Feed
            );
        let result = self.foca.handle_data(message, &mut self.effects);
        self.follow_up();
        result.map_err(|error| match error {
            foca::Error::DataFromOurselves => DropReason::OwnAddress,
            _ => DropReason::Malformed,
        })?;
        if answers {
            self.was_answered();
            // Only who answers us is asked: others may not hear us.
            self.meet(header.src.addr);
        }
        self.tell_changes();
        Ok(())
    }

    fn answer(&mut self, ask: &Ask, with_macs: bool) {
        if self.left {
            return;
        }
        let heard_all = self.hearing.heard_all();
        let members = self.foca.iter_members();
        let macs = with_macs.then_some(&self.macs);
        let page = ask.answer(self.foca.identity(), heard_all, members, macs);
        self.effects.send(ask.from.addr, &page);
    }

    fn handle_page(
        &mut self,
        head: &PageHead,
        rest: &[u8],
        with_macs: bool,
    ) -> Result<(), DropReason> {
        if !self.hearing.awaits(head) {
            // One that was asked for twice, mostly.
            return Ok(());
        }
        let (members, records) = members_of(head, rest, with_macs).ok_or(DropReason::Malformed)?;
        if self.is_full() {
            return Err(DropReason::Full);
        }
        let last = members.last().map(|member| member.id().addr);
        let alive = members
            .into_iter()
            .filter(|member| member.state() != State::Down);
        // No news for anybody else.
        self.learn(records, false);
        let applied = self.foca.apply_many(alive, false, &mut self.effects);
        self.note(applied);
        self.follow_up();
        self.was_answered();
        let now = self.effects.now;
        let had_heard_all = self.hearing.heard_all();
        let own = self.foca.identity();
        let next = self.hearing.turn_page(now, head, last, own, &mut self.rng);
        self.ask(next);
        self.tell_changes();
        if self.hearing.heard_all() && !had_heard_all {
            self.effects.outputs.push_back(Output::HeardAll);
        }
        Ok(())
    }

    /// What has to follow whatever others told us.
    fn follow_up(&mut self) {
        if self.effects.declared_down_ourselves && !self.left {
            self.overtake();
        }
        self.effects.a_member_went_down = false;
    }

    fn meet(&mut self, member: SocketAddr) {
        if std::mem::take(&mut self.effects.met_somebody) {
            self.hearing.be_curious();
        }
        let now = self.effects.now;
        let own = self.foca.identity();
        let ask = self.hearing.met(now, member, own, &mut self.rng);
        self.ask(ask);
    }

    fn ask(&mut self, ask: Option<(SocketAddr, Vec<u8>)>) {
        if let Some((to, mut ask)) = ask {
            self.macs.append_own(&mut ask);
            self.effects.send(to, &ask);
        }
    }

    fn learn(&mut self, records: impl IntoIterator<Item = (SocketAddr, Record)>, spread: bool) {
        for (addr, record) in records {
            self.macs.learn(self.effects.now, addr, record, spread);
        }
        if self.macs.take_changed() {
            self.effects.outputs.push_back(Output::Macs);
        }
    }

    fn tell_macs(&mut self) {
        if self.left {
            return;
        }
        let now = self.effects.now;
        let own = self.foca.identity();
        for (to, content) in self.macs.tick(now, own, &mut self.rng) {
            self.effects.send(to, &content);
        }
        self.learn([], false);
    }

    pub(crate) fn note(&mut self, result: Result<(), foca::Error>) {
        if let Err(error) = result {
            self.fault.get_or_insert(Fault(error));
        }
    }

    /// A node counts as alive while any of its lives does: during a move to another address there are two.
    fn tell_changes(&mut self) {
        if !std::mem::take(&mut self.effects.members_changed) {
            return;
        }
        let others = self.foca.iter_members().map(|member| member.id().addr);
        self.macs.alive(self.effects.now, others.collect());
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

    fn is_full(&self) -> bool {
        self.foca.iter_membership_state().len() >= self.most_known
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
