//! When does a member begin a later life, and what does it take along?

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use foca::{Foca, Member, PostcardCodec, State};
use rand::SeedableRng;

use crate::effects::Output;
use crate::members::Membership;
use crate::node::Node;

/// Members that are remembered at most to be asked whether they are still there.
const MOST_ASKED: usize = 512;
/// Members that are told of a later life at once; gossip tells the others.
const MOST_GREETED: usize = 3;

impl Membership {
    /// Another member has answered something that this life has sent.
    pub(crate) fn was_answered(&mut self) {
        if self.left {
            return;
        }
        let now = self.effects.now;
        let before = std::mem::replace(&mut self.answered, now);
        if self.suspects_from_silence(before) {
            self.excused = now;
            self.start_over(1);
        }
        for addr in std::mem::take(&mut self.missing) {
            self.announce(addr);
        }
    }

    /// Notices that this process did not run when it should have, for longer than others wait for a suspected member to
    /// speak. They may have declared us down and acted on it, and our own timers may have run out only because nobody was
    /// there to hear the answers. So nothing is concluded from the time in between.
    pub(crate) fn notice_lapse(&mut self) {
        let now = self.effects.now;
        let late = now.saturating_duration_since(self.deadline());
        if late <= self.timing.suspicion || self.left {
            return;
        }
        self.beat = now + self.timing.probe_period;
        self.answered = now;
        self.hearing = crate::hearing::Hearing::new(now);
        self.hearing.expect_by(now + self.timing.settle);
        self.macs.resume(now);
        self.effects.outputs.push_back(Output::Lapsed { late });
        self.start_over(1);
    }

    /// Whether we suspect several because nobody answered between `before` and now. The fault was on our side then, and
    /// those whom we suspect may never have heard of it, so they cannot refute. A single one may well be dead, however long
    /// it took until another one was probed. Excused only now and then, because where many are lost at once, long
    /// silences are normal.
    fn suspects_from_silence(&self, before: Instant) -> bool {
        const NOW_AND_THEN: Duration = Duration::from_secs(5);
        let now = self.effects.now;
        let two_probes_failed = self.timing.probe_period * 2 + self.timing.probe_rtt;
        now >= before + two_probes_failed
            && now >= self.excused + NOW_AND_THEN
            && self.suspected_since(before).len() > 1
    }

    /// Whether nobody answers us, now that `lost` was declared down: another one does not answer either, or there is none.
    pub(crate) fn is_cut_off(&self, lost: SocketAddr) -> bool {
        let silent = self.effects.now >= self.answered + self.timing.suspicion;
        let mut suspected = self.suspected_since(self.answered);
        suspected.remove(&lost);
        silent && (!suspected.is_empty() || self.foca.num_members() == 0)
    }

    fn suspected_since(&self, then: Instant) -> BTreeSet<SocketAddr> {
        self.effects
            .suspected_until_after(then + self.timing.suspicion)
    }

    /// Others have declared us down. They may know a life with a higher number than ours, if our clock was set back
    /// before a restart; so the step doubles as long as it does not help.
    pub(crate) fn overtake(&mut self) {
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

    /// Begins a later life, see the type's own words. Who has left begins none.
    pub(crate) fn start_over(&mut self, step: u64) {
        if self.left {
            return;
        }
        let own = self.foca.identity().later_life(step);
        let others = self
            .foca
            .iter_membership_state()
            .filter(|member| member.id().addr != own.addr);
        let (alive, down): (Vec<_>, Vec<_>) = others
            .cloned()
            .partition(|member| member.state() != State::Down);
        self.effects.envelope.set_generation(own.generation);
        let protocol = self.timing.protocol();
        self.foca = Foca::new(own, protocol, self.rng.fork(), PostcardCodec);
        self.effects.start_over();
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
}
