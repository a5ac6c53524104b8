//! A Service that is asked all the time, by datagrams and by "who has", with everything that neighbours say on record.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};

use super::handles::{all_nodes, ip, served_steadily};
use crate::capture::{self, Capture, Heard};
use crate::cluster::Site;
use crate::frames::{self, Mac};
use crate::neighbors::{self, FollowsOnly};
use crate::plan::{self, CLIENT_L2};
use crate::prober::{Prober, Seen};
use crate::segment::Asker;

/// The clients at work.
pub struct Watched {
    address: IpAddr,
    began: SystemTime,
    capture: Capture,
    asker: Asker,
    prober: Prober,
    /// Lasts as long as the prober asks.
    _client: FollowsOnly,
}

/// What they saw.
pub struct Record {
    /// By the client that sends datagrams and follows what its cache says.
    pub served: Seen,
    /// Who answered "who has", and when.
    pub answers: Vec<(SystemTime, Mac)>,
    /// Who said unasked that it has the address, and when.
    pub claims: Vec<(SystemTime, Mac)>,
    /// When "who has" was asked.
    pub asked: Vec<SystemTime>,
    began: SystemTime,
    ended: SystemTime,
}

/// By then a node that answers has told everybody: the burst of a new announcement lasts five seconds.
const FOLLOWS: Duration = Duration::from_secs(5);

/// Two owners count as such when both answer within this time.
const AT_ONCE: Duration = Duration::from_millis(50);

impl Watched {
    /// Begins once the address is served steadily.
    pub fn start(site: &Site, address: &str) -> Result<Self> {
        let client = FollowsOnly::start(&site.run, address)?;
        served_steadily(site, address)?;
        let capture = Capture::of_neighbours(&site.run)?;
        let address = ip(address)?;
        let watched = Self {
            address,
            began: SystemTime::now(),
            asker: Asker::start(&site.run, "eth0", address)?,
            prober: Prober::start(&site.run, CLIENT_L2.name, address, 80)?,
            capture,
            _client: client,
        };
        watched.capture.wait(
            "the first answer to the asking client",
            Duration::from_secs(5),
            |heard| heard.message.answers_for(address),
        )?;
        Ok(watched)
    }

    /// Waits until this node answers, and no other has for a while, and the client's cache follows; a look at the record and
    /// at the cache, which asks nobody.
    pub fn settles_on(&self, site: &Site, node: &str, limit: Duration) -> Result<()> {
        const CALM: Duration = Duration::from_millis(500);
        let mac = mac_of(node)?;
        site.wait_for(&format!("{node} alone answers"), limit, || {
            let answers = self.answers()?;
            let recent = |(at, _): &&(SystemTime, Mac)| at.elapsed().is_ok_and(|past| past < CALM);
            let recent: Vec<_> = answers.iter().rev().take_while(recent).collect();
            Ok(recent.len() > 20 && recent.iter().all(|(_, from)| *from == mac))
        })?;
        let address = self.address.to_string();
        site.wait_for(&format!("the client's cache names {node}"), FOLLOWS, || {
            Ok(neighbors::cached(&site.run, &address)? == Some(node))
        })
    }

    /// Waits until another node than this answers, and says which.
    pub fn leaves(&self, site: &Site, node: &str, limit: Duration) -> Result<&'static str> {
        let mac = mac_of(node)?;
        let successor = site.wait(&format!("another than {node} answers"), limit, || {
            let answers = self.answers()?;
            Ok(answers.last().map(|(_, from)| *from).filter(|m| *m != mac))
        })?;
        node_of(successor).with_context(|| format!("{} answers", frames::text(successor)))
    }

    pub fn answers(&self) -> Result<Vec<(SystemTime, Mac)>> {
        Ok(capture::answers(&self.capture.heard()?, self.address))
    }

    /// Ends the clients and says what they saw.
    pub fn finish(self) -> Result<Record> {
        let ended = SystemTime::now();
        let asked = self.asker.finish()?;
        let served = self.prober.finish()?;
        let heard = self.capture.finish()?;
        // Its kernel was told not to. If it did all the same, an answer and not what nodes tell unasked may have moved it.
        let client = frames::mac(CLIENT_L2.mac)?;
        let own = |h: &&Heard| {
            h.at > self.began && h.message.from() == client && h.message.asks_for(self.address)
        };
        let questions = heard.iter().filter(own).count();
        ensure!(questions == 0, "the client itself asked {questions} times");
        Ok(Record {
            served,
            answers: capture::answers(&heard, self.address),
            claims: capture::claims(&heard, self.address),
            asked,
            began: self.began,
            ended,
        })
    }
}

impl Record {
    /// The longest time without an answer to "who has", whoever gave it: the outage of a client with an empty cache.
    pub fn unanswered(&self) -> Duration {
        let mut moments = vec![self.began];
        moments.extend(self.answers.iter().map(|(at, _)| *at));
        moments.push(self.ended);
        let gaps = moments
            .windows(2)
            .filter_map(|pair| pair.last()?.duration_since(*pair.first()?).ok());
        gaps.max().unwrap_or_default()
    }

    /// The longest time for which two nodes answered side by side, after this moment.
    pub fn two_owners(&self, since: SystemTime) -> Duration {
        let mut longest = Duration::ZERO;
        let mut began: Option<SystemTime> = None;
        let mut last: Option<SystemTime> = None;
        let answers: Vec<_> = self.answers.iter().filter(|(at, _)| *at > since).collect();
        for pair in answers.windows(2) {
            let [(earlier, one), (later, other)] = pair else {
                continue;
            };
            let together = one != other
                && later
                    .duration_since(*earlier)
                    .is_ok_and(|apart| apart < AT_ONCE);
            if !together {
                continue;
            }
            // A stretch goes on while the two alternate without a pause.
            let goes_on = last.is_some_and(|l| {
                later
                    .duration_since(l)
                    .is_ok_and(|pause| pause < AT_ONCE * 4)
            });
            if !goes_on {
                began = Some(*earlier);
            }
            last = Some(*later);
            let stretch = began.and_then(|b| later.duration_since(b).ok());
            longest = longest.max(stretch.unwrap_or_default());
        }
        longest
    }

    /// The first time after a moment at which a node said unasked that it has the address.
    pub fn first_claim(&self, node: &str, since: SystemTime) -> Result<Option<SystemTime>> {
        let mac = mac_of(node)?;
        let mut claims = self.claims.iter();
        Ok(claims
            .find(|(at, from)| *from == mac && *at > since)
            .map(|(at, _)| *at))
    }

    /// How many frames a node sent in this time to say unasked that it has the address.
    pub fn claims_between(&self, node: &str, from: SystemTime, to: SystemTime) -> Result<usize> {
        let mac = mac_of(node)?;
        let between = |at: &SystemTime| *at > from && *at < to;
        let claims = self.claims.iter();
        Ok(claims.filter(|(at, f)| *f == mac && between(at)).count())
    }

    /// How often "who has" was asked in this time.
    pub fn asked_between(&self, from: SystemTime, to: SystemTime) -> usize {
        let asked = self.asked.iter();
        asked.filter(|at| **at > from && **at < to).count()
    }

    /// The longest time for which a node did not answer after this moment: one that did not answer again was away for good.
    pub fn away(&self, node: &str, since: SystemTime) -> Result<Option<Duration>> {
        let mac = mac_of(node)?;
        let after: Vec<SystemTime> = self
            .answers
            .iter()
            .filter(|(at, from)| *from == mac && *at > since)
            .map(|(at, _)| *at)
            .collect();
        let gaps = after
            .windows(2)
            .filter_map(|pair| pair.last()?.duration_since(*pair.first()?).ok());
        Ok(gaps.max())
    }

    pub fn last_answer(&self, node: &str) -> Result<Option<SystemTime>> {
        let mac = mac_of(node)?;
        let mut answers = self.answers.iter().rev();
        Ok(answers.find(|(_, from)| *from == mac).map(|(at, _)| *at))
    }

    /// Nodes that claimed or answered, other than these.
    pub fn others_than(&self, nodes: &[&str]) -> Vec<String> {
        let known: Vec<Mac> = nodes.iter().filter_map(|n| mac_of(n).ok()).collect();
        let mut all: Vec<String> = self
            .answers
            .iter()
            .chain(&self.claims)
            .filter(|(_, from)| !known.contains(from))
            .map(|(_, from)| node_of(*from).map_or_else(|| frames::text(*from), str::to_owned))
            .collect();
        all.sort();
        all.dedup();
        all
    }

    /// The figures in words.
    pub fn told(&self) -> String {
        format!(
            "the client was not served for {} ms and lost {} of {}; {} ms without an answer to \"who has\"",
            self.served.outage.as_millis(),
            self.served.lost,
            self.served.sent,
            self.unanswered().as_millis()
        )
    }
}

/// The hardware address of a node's first interface.
pub fn mac_of(node: &str) -> Result<Mac> {
    let machine = plan::NODES.iter().find(|n| n.name == node);
    frames::mac(machine.with_context(|| format!("there is no {node}"))?.mac)
}

/// The node with this hardware address.
pub fn node_of(mac: Mac) -> Option<&'static str> {
    all_nodes()
        .into_iter()
        .find(|node| mac_of(node).is_ok_and(|m| m == mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Mac = [2, 0, 0, 0, 0, 1];
    const OTHER: Mac = [2, 0, 0, 0, 0, 2];

    fn record(answers: &[(u64, Mac)]) -> Record {
        let at = |ms: u64| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        Record {
            served: Seen {
                sent: 0,
                lost: 0,
                outage: Duration::ZERO,
            },
            answers: answers.iter().map(|(ms, mac)| (at(*ms), *mac)).collect(),
            claims: Vec::new(),
            asked: Vec::new(),
            began: at(0),
            ended: at(1000),
        }
    }

    #[test]
    fn a_clean_hand_over_has_no_two_owners() {
        let clean = record(&[(100, ONE), (200, ONE), (300, OTHER), (400, OTHER)]);
        assert_eq!(clean.two_owners(SystemTime::UNIX_EPOCH), Duration::ZERO);
        assert_eq!(clean.unanswered(), Duration::from_millis(600));
    }

    #[test]
    fn two_owners_are_counted_while_they_alternate_and_anew_after_a_pause() {
        let both: Vec<_> = (0..30)
            .map(|n| (100 + n * 10, if n % 2 == 0 { ONE } else { OTHER }))
            .chain([(800, ONE), (805, OTHER)])
            .collect();
        let both = record(&both);
        assert_eq!(
            both.two_owners(SystemTime::UNIX_EPOCH),
            Duration::from_millis(290)
        );
    }
}
