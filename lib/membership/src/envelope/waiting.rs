//! What is to be said to members whose epoch is not known yet?

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Members for whom something waits at most; for others the newest message is lost, as it may be on the wire.
const MOST_MEMBERS: usize = 512;
/// Messages that wait for one member at most; the oldest go first.
const MOST_EACH: usize = 4;
/// What is older has lost its sense: the probe that it belongs to is over.
const LASTS: Duration = Duration::from_secs(1);

/// Messages, by whom they are for.
#[derive(Default)]
pub(super) struct Waiting(BTreeMap<SocketAddr, Vec<(Instant, Vec<u8>)>>);

impl Waiting {
    pub(super) fn keep(&mut self, now: Instant, to: SocketAddr, message: &[u8]) {
        let fresh = |since: &Instant| now < *since + LASTS;
        if self.0.len() >= MOST_MEMBERS && !self.0.contains_key(&to) {
            self.0
                .retain(|_, messages| messages.iter().any(|(since, _)| fresh(since)));
            if self.0.len() >= MOST_MEMBERS {
                return;
            }
        }
        let messages = self.0.entry(to).or_default();
        messages.retain(|(since, _)| fresh(since));
        if messages.len() >= MOST_EACH {
            messages.remove(0);
        }
        messages.push((now, message.to_vec()));
    }

    /// What still makes sense, oldest first.
    pub(super) fn take(&mut self, now: Instant, to: SocketAddr) -> impl Iterator<Item = Vec<u8>> {
        let messages = self.0.remove(&to).unwrap_or_default();
        messages
            .into_iter()
            .filter(move |(since, _)| now < *since + LASTS)
            .map(|(_, message)| message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(number: usize) -> SocketAddr {
        SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 7946))
    }

    #[test]
    fn few_messages_wait_for_few_members_and_none_for_long() {
        #[allow(clippy::disallowed_methods, reason = "an arbitrary origin")]
        let now = Instant::now();
        let mut waiting = Waiting::default();
        for member in 0..MOST_MEMBERS + 10 {
            for number in 0..MOST_EACH as u8 + 2 {
                waiting.keep(now, addr(member), &[number]);
            }
        }
        assert_eq!(waiting.0.len(), MOST_MEMBERS);
        let newest: Vec<_> = waiting.take(now, addr(0)).collect();
        assert_eq!(newest, [[2], [3], [4], [5]]);
        assert_eq!(waiting.take(now, addr(0)).count(), 0, "it was taken");
        assert_eq!(waiting.take(now + LASTS, addr(1)).count(), 0);
        waiting.keep(now, addr(0), b"again");
        waiting.keep(now, addr(1), b"again");
        waiting.keep(now + LASTS, addr(MOST_MEMBERS), b"late");
        assert_eq!(waiting.0.len(), 1, "what lost its sense makes room");
    }
}
