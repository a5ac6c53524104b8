//! Has this node heard of all who are alive?
//!
//! The answer to an announcement holds some thirty random members, and gossip tells only what is new. So whoever starts, or was
//! stopped for a while, asks one member for its whole list, a page at a time, each page ordered by address and asked for by
//! the last address of the one before: one datagram there, one back, whatever the size of the cluster and whatever gets lost.
//! So does whoever knew nobody and meets somebody: gossip tells it nothing that others have known for long.
//!
//! A list counts as whole if the member that told it had heard of all itself. Where nobody has, as when a whole cluster
//! starts, lists are merged until [`crate::Timing::settle`] is over.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use foca::{Codec, Member, PostcardCodec};
use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::IteratorRandom;
use serde::{Deserialize, Serialize};

use crate::LONGEST_CONTENT;
use crate::macs::{Macs, Record, Records, take_record};
use crate::node::Node;

/// First byte of a content that asks for a page of the list, and of one that is a page.
pub(crate) const ASK: u8 = 2;
pub(crate) const PAGE: u8 = 3;
/// First byte of a page that has the hardware addresses with each member; for who has asked for that, see [`crate::macs`].
pub(crate) const PAGE_WITH_MACS: u8 = 5;

/// A page that has not come after this time is asked for again.
const PATIENCE: Duration = Duration::from_millis(100);
/// Questions to one member without an answer before another one is asked.
const MOST_TRIES: u8 = 3;
/// Between two lists from members that have not heard of all themselves.
const PAUSE: Duration = Duration::from_millis(300);

/// Asks for the members that follow `after`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ask {
    pub(crate) from: Node,
    /// Ties the answer to the question.
    nonce: u32,
    after: Option<SocketAddr>,
}

/// What a page begins with; members follow to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PageHead {
    pub(crate) from: Node,
    nonce: u32,
    /// No member follows the last one of this page.
    last: bool,
    /// The one that tells has heard of all.
    whole: bool,
}

impl Ask {
    /// Reads a question, and the record of the one that asks if it knows of such.
    pub(crate) fn decode(body: &[u8]) -> Option<(Self, Option<Record>)> {
        let (ask, trailing) = postcard::take_from_bytes(body).ok()?;
        Some((ask, Record::trailing(trailing)))
    }

    /// The page that answers it, as a content; with hardware addresses if there are `macs`.
    pub(crate) fn answer<'a>(
        &self,
        own: &Node,
        whole: bool,
        members: impl Iterator<Item = &'a Member<Node>>,
        macs: Option<&Macs>,
    ) -> Vec<u8> {
        let mut following: Vec<_> = members
            .filter(|member| {
                let addr = member.id().addr;
                self.after.is_none_or(|after| addr > after) && addr != self.from.addr
            })
            .collect();
        following.sort_unstable_by_key(|member| member.id().addr);
        let head = |last| PageHead {
            from: own.clone(),
            nonce: self.nonce,
            last,
            whole,
        };
        let begin = |last| match macs {
            Some(macs) => {
                let mut page = content(PAGE_WITH_MACS, &head(last));
                macs.write(own.addr, &mut page);
                page
            }
            None => content(PAGE, &head(last)),
        };
        // Both lengths are the same.
        let room = LONGEST_CONTENT.saturating_sub(begin(true).len());
        let (mut bytes, mut told) = (Vec::new(), 0);
        for member in &following {
            let before = bytes.len();
            let encoded = PostcardCodec.encode_member(member, &mut bytes);
            if let Some(macs) = macs {
                macs.write(member.id().addr, &mut bytes);
            }
            if encoded.is_err() || bytes.len() > room {
                bytes.truncate(before);
                break;
            }
            told += 1;
        }
        let mut page = begin(told == following.len());
        page.extend_from_slice(&bytes);
        page
    }
}

impl PageHead {
    /// Reads the head of a page; the rest of `body` are its members.
    pub(crate) fn decode(body: &[u8]) -> Option<(Self, &[u8])> {
        postcard::take_from_bytes(body).ok()
    }
}

/// The members of a page, and the records that are on it.
pub(crate) fn members_of(
    head: &PageHead,
    mut rest: &[u8],
    with_macs: bool,
) -> Option<(Vec<Member<Node>>, Records)> {
    let (mut members, mut records) = (Vec::new(), Vec::new());
    if with_macs {
        records.extend(take_record(&mut rest)?.map(|record| (head.from.addr, record)));
    }
    while !rest.is_empty() {
        let member: Member<Node> = PostcardCodec.decode_member(&mut rest).ok()?;
        if with_macs {
            let addr = member.id().addr;
            records.extend(take_record(&mut rest)?.map(|record| (addr, record)));
        }
        members.push(member);
    }
    Some((members, records))
}

/// How far this node is with hearing.
pub(crate) struct Hearing {
    heard_all: bool,
    /// A list is to be asked for in any case.
    curious: bool,
    /// When silence is taken for an answer.
    by: Option<Instant>,
    asked: Option<Asked>,
    /// Not before then is a list asked for.
    not_before: Instant,
}

/// A question that waits for its page.
struct Asked {
    whom: SocketAddr,
    nonce: u32,
    after: Option<SocketAddr>,
    again: Instant,
    tries: u8,
}

impl Hearing {
    /// Nothing heard.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            heard_all: false,
            curious: false,
            by: None,
            asked: None,
            not_before: now,
        }
    }

    pub(crate) fn heard_all(&self) -> bool {
        self.heard_all
    }

    /// We knew nobody until now, so the next one that we meet is asked for its list.
    pub(crate) fn be_curious(&mut self) {
        self.curious = true;
    }

    /// From now on silence counts, if it does not yet.
    pub(crate) fn expect_by(&mut self, by: Instant) {
        if !self.heard_all {
            self.by.get_or_insert(by);
        }
    }

    /// When there is something to do without an answer.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let again = self.asked.as_ref().map(|asked| asked.again);
        [again, self.by].into_iter().flatten().min()
    }

    /// True if silence has just become an answer.
    pub(crate) fn gave_up(&mut self, now: Instant) -> bool {
        let over = self.by.is_some_and(|by| by <= now);
        if over {
            self.finish();
        }
        over
    }

    /// `member` is there: asks it, if there is something to ask and nobody is asked yet.
    pub(crate) fn met(
        &mut self,
        now: Instant,
        member: SocketAddr,
        own: &Node,
        rng: &mut SmallRng,
    ) -> Option<(SocketAddr, Vec<u8>)> {
        let done = self.heard_all && !self.curious;
        if done || self.asked.is_some() || now < self.not_before {
            return None;
        }
        Some(self.ask(now, member, None, own, rng))
    }

    /// Asks again, or another one of `members`, if the answer is overdue.
    pub(crate) fn ask_again(
        &mut self,
        now: Instant,
        members: impl Iterator<Item = SocketAddr>,
        own: &Node,
        rng: &mut SmallRng,
    ) -> Option<(SocketAddr, Vec<u8>)> {
        let asked = self.asked.as_mut().filter(|asked| asked.again <= now)?;
        if asked.tries < MOST_TRIES {
            asked.tries += 1;
            asked.again = now + PATIENCE;
            let ask = Ask {
                from: own.clone(),
                nonce: asked.nonce,
                after: asked.after,
            };
            return Some((asked.whom, content(ASK, &ask)));
        }
        self.asked = None;
        let member = members.choose(rng)?;
        Some(self.ask(now, member, None, own, rng))
    }

    /// Whether this is the page that is waited for.
    pub(crate) fn awaits(&self, head: &PageHead) -> bool {
        self.asked
            .as_ref()
            .is_some_and(|asked| asked.whom == head.from.addr && asked.nonce == head.nonce)
    }

    /// Takes note of a page that was waited for and ends with `last`; returns the question for the next one.
    pub(crate) fn turn_page(
        &mut self,
        now: Instant,
        head: &PageHead,
        last: Option<SocketAddr>,
        own: &Node,
        rng: &mut SmallRng,
    ) -> Option<(SocketAddr, Vec<u8>)> {
        let asked = self.asked.take()?;
        // A page without progress would be asked for without end.
        if !head.last && last > asked.after {
            return Some(self.ask(now, asked.whom, last, own, rng));
        }
        self.curious &= !head.last;
        if head.last && head.whole {
            self.finish();
        } else {
            self.not_before = now + PAUSE;
        }
        None
    }

    fn ask(
        &mut self,
        now: Instant,
        whom: SocketAddr,
        after: Option<SocketAddr>,
        own: &Node,
        rng: &mut SmallRng,
    ) -> (SocketAddr, Vec<u8>) {
        let nonce = rng.random();
        self.asked = Some(Asked {
            whom,
            nonce,
            after,
            again: now + PATIENCE,
            tries: 1,
        });
        let ask = Ask {
            from: own.clone(),
            nonce,
            after,
        };
        (whom, content(ASK, &ask))
    }

    fn finish(&mut self) {
        self.heard_all = true;
        self.by = None;
        self.asked = None;
    }
}

fn content(kind: u8, what: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(what, vec![kind]).expect("a vector takes any number of bytes")
}
