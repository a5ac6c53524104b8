//! Which hardware addresses do the members have?
//!
//! Each member keeps one [`Record`] of its own and tells it to a few others, who pass it on until it is old ([`PASS_ON`]). Whoever
//! asks a member for its list, see [`crate::hearing`], tells its own record with the question, and gets those of all members with
//! the list: who has heard of all knows their hardware addresses, too. What gets lost on these ways comes by
//! [`ROUND`]: every few seconds each member tells another one its own record and some of those that it knows.
//!
//! The higher stamp wins. Only a record's owner raises it, and above whatever it hears others say of it, so a clock that was
//! set back before a restart does no harm. Records of members that are lost are kept for [`KEEP_LOST`] but told to nobody, or two
//! members would keep each other from forgetting them.
//!
//! Versions: a member of a version without this drops what is told as malformed, ignores what follows a question, and answers with a
//! list without records. It is then known without hardware addresses, and all else goes on.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::{IteratorRandom, SliceRandom};
use serde::{Deserialize, Serialize};

use crate::node::Node;
use crate::timing::GOSSIP_TO;
use crate::{LONGEST_CONTENT, MOST_KNOWN};

/// First byte of a content that tells records.
pub(crate) const TELL: u8 = 4;
/// What precedes records, so that a later form can be told from this one.
const FORMAT: u8 = 1;
/// Hardware addresses of one member that are told at most.
pub const MOST_MACS: usize = 16;
/// How often a member tells a record that was new to it: four rounds to three others. Of 5,000 members less than one is missed
/// even where a fifth of all datagrams gets lost.
const PASS_ON: u8 = 12;
/// Between two tellings without news, in milliseconds; drawn anew each time so that members do not speak in step.
const ROUND: std::ops::Range<u64> = 2000..4000;
/// For how long the record of a lost member is kept: its frames may be on the wire yet, and it mostly comes back.
const KEEP_LOST: Duration = Duration::from_secs(10 * 60);

/// The hardware addresses of one member.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Record {
    stamp: u64,
    macs: Vec<[u8; 6]>,
}

/// What a content that tells records begins with; records follow to its end, each after the address of its member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TellHead {
    format: u8,
    pub(crate) addr: SocketAddr,
    pub(crate) generation: u64,
}

/// Records of members, by where they live.
pub(crate) type Records = Vec<(SocketAddr, Record)>;

/// What is known.
pub(crate) struct Macs {
    own_addr: SocketAddr,
    own: Told,
    of: BTreeMap<SocketAddr, Told>,
    /// Other members that are alive.
    alive: BTreeSet<SocketAddr>,
    /// When news are told next, while there are any.
    next: Option<Instant>,
    round: Instant,
    changed: bool,
    /// There is a record of everybody who is alive.
    knows_all: bool,
}

struct Told {
    record: Record,
    /// How often it is still to be told.
    left: u8,
    lost: Option<Instant>,
}

impl Record {
    /// Reads what follows a question; `None` if the one that asks does not know of records.
    pub(crate) fn trailing(bytes: &[u8]) -> Option<Self> {
        let (&format, record) = bytes.split_first()?;
        let record: Self = postcard::from_bytes(record).ok()?;
        (format == FORMAT && record.is_valid()).then_some(record)
    }

    fn is_valid(&self) -> bool {
        self.macs.len() <= MOST_MACS
    }
}

/// Reads an optional record off the front of `bytes`.
pub(crate) fn take_record(bytes: &mut &[u8]) -> Option<Option<Record>> {
    let (record, rest): (Option<Record>, _) = postcard::take_from_bytes(bytes).ok()?;
    *bytes = rest;
    record
        .as_ref()
        .is_none_or(Record::is_valid)
        .then_some(record)
}

/// Reads a content that tells records.
pub(crate) fn decode_tell(body: &[u8]) -> Option<(TellHead, Records)> {
    let (head, mut rest): (TellHead, _) = postcard::take_from_bytes(body).ok()?;
    let mut records = Vec::new();
    while !rest.is_empty() {
        let (told, following): ((SocketAddr, Record), _) = postcard::take_from_bytes(rest).ok()?;
        if !told.1.is_valid() {
            return None;
        }
        records.push(told);
        rest = following;
    }
    (head.format == FORMAT).then_some((head, records))
}

impl Macs {
    /// Nothing known; our own record is empty.
    pub(crate) fn new(own: &Node, now: Instant) -> Self {
        let record = Record {
            stamp: own.generation,
            macs: Vec::new(),
        };
        Self {
            own_addr: own.addr,
            own: Told {
                record,
                left: PASS_ON,
                lost: None,
            },
            of: BTreeMap::new(),
            alive: BTreeSet::new(),
            next: None,
            round: now,
            changed: false,
            knows_all: true,
        }
    }

    /// Our own hardware addresses from now on.
    pub(crate) fn set_own(&mut self, now: Instant, macs: impl IntoIterator<Item = [u8; 6]>) {
        let macs: BTreeSet<_> = macs.into_iter().collect();
        let macs: Vec<_> = macs.into_iter().take(MOST_MACS).collect();
        if macs != self.own.record.macs {
            self.own.record.macs = macs;
            self.raise_own(now, self.own.record.stamp);
        }
    }

    fn raise_own(&mut self, now: Instant, above: u64) {
        self.own.record.stamp = above.saturating_add(1);
        self.own.left = PASS_ON;
        self.arm(now);
    }

    /// Takes in what was told of the member at `addr`. `spread` says that others may not know it yet.
    pub(crate) fn learn(&mut self, now: Instant, addr: SocketAddr, record: Record, spread: bool) {
        if addr == self.own_addr {
            // A former life of this node, with a clock that was ahead.
            if record.stamp >= self.own.record.stamp && record != self.own.record {
                self.raise_own(now, record.stamp);
            }
            return;
        }
        let is_full = self.of.len() >= MOST_KNOWN && !self.of.contains_key(&addr);
        if is_full && !self.forget_one() {
            return;
        }
        let known = self.of.get(&addr);
        if known.is_some_and(|known| known.record.stamp >= record.stamp) {
            return;
        }
        let lost = match known {
            Some(known) => known.lost,
            None => (!self.alive.contains(&addr)).then_some(now),
        };
        self.changed |= match known {
            Some(known) => known.record.macs != record.macs,
            None => !record.macs.is_empty(),
        };
        let is_new = known.is_none();
        let left = if spread { PASS_ON } else { 0 };
        self.of.insert(addr, Told { record, left, lost });
        if is_new {
            self.look_for_missing();
        }
        self.arm(now);
    }

    /// Makes room by forgetting who has been lost for the longest.
    fn forget_one(&mut self) -> bool {
        let lost = self.of.iter();
        let lost = lost.filter_map(|(addr, told)| Some((told.lost?, *addr)));
        let Some((_, addr)) = lost.min() else {
            return false;
        };
        let forgotten = self.of.remove(&addr);
        self.changed |= forgotten.is_some_and(|told| !told.record.macs.is_empty());
        true
    }

    /// These other members are alive now.
    pub(crate) fn alive(&mut self, now: Instant, alive: BTreeSet<SocketAddr>) {
        if self.alive.is_empty() && !alive.is_empty() {
            // Whom we were alone from may never have heard it.
            self.own.left = PASS_ON;
        }
        self.alive = alive;
        for (addr, told) in &mut self.of {
            if self.alive.contains(addr) {
                told.lost = None;
            } else {
                told.lost.get_or_insert(now);
            }
        }
        self.look_for_missing();
        self.arm(now);
    }

    fn look_for_missing(&mut self) {
        self.knows_all = self.alive.iter().all(|addr| self.of.contains_key(addr));
    }

    /// Time has gone on without this process; nothing is overdue.
    pub(crate) fn resume(&mut self, now: Instant) {
        self.next = self.next.map(|_| now);
    }

    /// When there are news to tell.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Whether what [`Self::macs`] returns has changed since the last call.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The hardware addresses of all others that are known.
    pub(crate) fn macs(&self) -> BTreeSet<[u8; 6]> {
        let records = self.of.values();
        records
            .flat_map(|told| told.record.macs.iter().copied())
            .collect()
    }

    /// Whether the hardware addresses of every other member that is alive are known.
    pub(crate) fn knows_all(&self) -> bool {
        self.knows_all
    }

    /// The record of the member at `addr`, as it goes onto a page.
    pub(crate) fn write(&self, addr: SocketAddr, bytes: &mut Vec<u8>) {
        let record = match self.of.get(&addr) {
            _ if addr == self.own_addr => Some(&self.own.record),
            Some(told) => Some(&told.record),
            None => None,
        };
        append(bytes, &record);
    }

    /// Makes our own record follow a question.
    pub(crate) fn append_own(&self, content: &mut Vec<u8>) {
        content.push(FORMAT);
        append(content, &self.own.record);
    }

    /// What is due: contents, and to whom. `own` tells.
    pub(crate) fn tick(
        &mut self,
        now: Instant,
        own: &Node,
        rng: &mut SmallRng,
    ) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut tell = Vec::new();
        if self.round <= now {
            self.round = now + Duration::from_millis(rng.random_range(ROUND));
            self.forget_lost(now);
            if let Some(to) = self.alive.iter().copied().choose(rng) {
                let mut some: Vec<_> = self.told().map(|(addr, _)| addr).collect();
                some.shuffle(rng);
                let (content, _) = self.content(own, some);
                tell.push((to, content));
            }
        }
        if self.next.is_some_and(|next| next <= now) {
            let mut to = [self.own_addr; GOSSIP_TO];
            let chosen = self.alive.iter().copied().sample_fill(rng, &mut to);
            let to = to.get(..chosen).unwrap_or_default();
            let mut news: Vec<_> = self
                .told()
                .filter(|(_, told)| told.left > 0)
                .map(|(addr, told)| (Reverse(told.left), addr))
                .collect();
            news.sort_unstable();
            let news = news.into_iter().map(|(_, addr)| addr).collect();
            let (content, told) = self.content(own, news);
            for addr in told {
                self.told_to(addr, to.len());
            }
            tell.extend(to.iter().map(|to| (*to, content.clone())));
            self.next = None;
            self.arm(now + GOSSIP_EVERY);
        }
        tell
    }

    /// Records that may be told: our own, and those of members that are alive.
    fn told(&self) -> impl Iterator<Item = (SocketAddr, &Told)> {
        let others = self.of.iter().filter(|(_, told)| told.lost.is_none());
        std::iter::once((self.own_addr, &self.own)).chain(others.map(|(addr, told)| (*addr, told)))
    }

    /// A content with as many of the records of these members as it has room for, our own first if it is among them; and which
    /// they are.
    fn content(&self, own: &Node, mut of: Vec<SocketAddr>) -> (Vec<u8>, Vec<SocketAddr>) {
        let head = TellHead {
            format: FORMAT,
            addr: own.addr,
            generation: own.generation,
        };
        let mut content = vec![TELL];
        append(&mut content, &head);
        of.sort_by_key(|addr| *addr != self.own_addr);
        let mut told = Vec::new();
        for addr in of {
            let record = match self.of.get(&addr) {
                _ if addr == self.own_addr => &self.own.record,
                Some(told) => &told.record,
                None => continue,
            };
            let before = content.len();
            append(&mut content, &(addr, record));
            if content.len() > LONGEST_CONTENT {
                content.truncate(before);
                break;
            }
            told.push(addr);
        }
        (content, told)
    }

    fn told_to(&mut self, addr: SocketAddr, members: usize) {
        let told = if addr == self.own_addr {
            Some(&mut self.own)
        } else {
            self.of.get_mut(&addr)
        };
        if let Some(told) = told {
            told.left = told.left.saturating_sub(members as u8);
        }
    }

    fn forget_lost(&mut self, now: Instant) {
        let mut changed = false;
        self.of.retain(|_, told| {
            let keep = told.lost.is_none_or(|since| now < since + KEEP_LOST);
            changed |= !keep && !told.record.macs.is_empty();
            keep
        });
        self.changed |= changed;
    }

    /// Tells news at `at`, if there are any and somebody to tell them to.
    fn arm(&mut self, at: Instant) {
        if self.next.is_none()
            && !self.alive.is_empty()
            && self.told().any(|(_, told)| told.left > 0)
        {
            self.next = Some(at);
        }
    }
}

/// Between two tellings of the same news.
const GOSSIP_EVERY: Duration = Duration::from_millis(100);

fn append(bytes: &mut Vec<u8>, what: &impl Serialize) {
    *bytes = postcard::to_extend(what, std::mem::take(bytes))
        .expect("a vector takes any number of bytes");
}
