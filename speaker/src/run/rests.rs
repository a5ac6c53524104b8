//! How long the loop rests after a round: waking up has a price, and what comes in quick succession is often one change.

use std::time::{Duration, Instant};

/// Under load a round is followed by a rest this many times as long, so that a flood of changes among thousands of
/// Services costs a fifth of a processor and not a whole one.
const REST: u32 = 4;
/// So much rest may be owed: the few changes that one new Service makes are looked at as they come.
const OWED_AT_MOST: Duration = Duration::from_millis(50);
/// What comes within this time is one round.
const REST_AT_LEAST: Duration = Duration::from_millis(1);
/// The longest rest: the loss of a node must not wait for one.
const REST_AT_MOST: Duration = Duration::from_millis(100);

/// The rests that are owed for rounds that were.
#[derive(Debug)]
pub(super) struct Rests {
    owed: Duration,
    at: Instant,
}

impl Rests {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            owed: Duration::ZERO,
            at: now,
        }
    }

    /// The rest after a round that took so long and ends now.
    pub(super) fn after(&mut self, took: Duration, now: Instant) -> Duration {
        let rested = now.saturating_duration_since(self.at).saturating_sub(took);
        // No more than one long rest is owed, however long the round.
        self.owed =
            (self.owed.saturating_sub(rested) + took * REST).min(OWED_AT_MOST + REST_AT_MOST);
        self.at = now;
        self.owed
            .saturating_sub(OWED_AT_MOST)
            .clamp(REST_AT_LEAST, REST_AT_MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Rounds of `took` with `pause` after each rest; the rests.
    fn rests(took: Duration, pause: Duration, rounds: usize) -> Vec<Duration> {
        let mut now = Instant::now();
        let mut rests = Rests::new(now);
        let round = |_| {
            now += took;
            let rest = rests.after(took, now);
            now += rest + pause;
            rest
        };
        (0..rounds).map(round).collect()
    }

    #[test]
    fn a_few_rounds_are_followed_by_the_least_rest() {
        assert_eq!(rests(MS * 2, Duration::ZERO, 5), [MS; 5]);
    }

    #[test]
    fn a_flood_takes_a_fifth_of_the_time() {
        let rests = rests(MS * 2, Duration::ZERO, 100);
        let late = &rests[50..];
        assert!(late.iter().all(|rest| *rest == MS * 8), "{late:?}");
    }

    #[test]
    fn who_has_rested_owes_nothing() {
        assert!(rests(MS * 2, MS * 8, 100).iter().all(|rest| *rest == MS));
    }

    #[test]
    fn the_longest_round_is_followed_by_no_longer_rest_than_any() {
        let rests = rests(MS * 1000, Duration::ZERO, 3);
        assert_eq!(rests, [REST_AT_MOST; 3]);
    }
}
