//! How long a session waits for what.

use std::time::Duration;

/// How long opening a connection may take. MetalLB gives up after the same time (reference 4.7); the kernel by itself would
/// take two minutes.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait for the peer's OPEN. RFC 4271 section 8.2.2 suggests four minutes, in which a connection that a router
/// forgot over its own restart would keep us from opening the one that works.
pub(super) const OPEN_WAIT: Duration = Duration::from_secs(30);

/// How long a session must have lasted for the next attempt to be made at once.
const STABLE: Duration = Duration::from_secs(10);

/// The longest wait between attempts, if the time is not configured. MetalLB waits up to two minutes, and its users do so
/// after every long maintenance of a router; an attempt costs one packet.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How long the peer may take none of our octets (RFC 9687): eight minutes, or twice the hold time if that is more.
pub(super) fn send_hold(hold_time: Duration) -> Duration {
    (hold_time * 2).max(Duration::from_secs(8 * 60))
}

/// How long to wait before the next attempt to connect.
#[derive(Debug)]
pub(super) struct Backoff {
    fixed: Option<Duration>,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(fixed: Option<Duration>) -> Backoff {
        Backoff { fixed, failures: 0 }
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// A session that had lasted this long ended.
    pub(super) fn ended_after(&mut self, lasted: Duration) {
        if lasted >= STABLE {
            self.reset();
        }
    }

    /// The wait from the start of an attempt to connect that failed, without jitter: 0, 1, 2, 4 … seconds as MetalLB does (reference 4.7),
    /// or the configured time (ConnectRetryTime of RFC 4271).
    pub(super) fn next(&mut self) -> Duration {
        let growing = self.growing();
        self.fixed.unwrap_or(growing)
    }

    /// The wait after a session or its beginning ended by an error, in which the peer is refused too (IdleHoldTime of RFC 4271
    /// section 8.1.1): it grows, and is no longer than the configured time between attempts.
    pub(super) fn next_idle(&mut self) -> Duration {
        let growing = self.growing();
        self.fixed.map_or(growing, |fixed| growing.min(fixed))
    }

    fn growing(&mut self) -> Duration {
        let failures = self.failures;
        self.failures = failures.saturating_add(1);
        match failures {
            0 => Duration::ZERO,
            _ => Duration::from_secs(1 << (failures - 1).min(6)).min(LONGEST_WAIT),
        }
    }

    /// How long one attempt may take: never longer than the configured time between attempts, which RFC 4271 counts from
    /// their start.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.fixed
            .map_or(CONNECT_TIMEOUT, |fixed| fixed.min(CONNECT_TIMEOUT))
    }
}

/// Spreads timers so that the nodes of a cluster do not act in step (RFC 4271 section 10): between three quarters and all
/// of a time.
#[derive(Debug)]
pub(super) struct Jitter {
    state: u64,
}

impl Jitter {
    pub(super) fn new(seed: u64) -> Jitter {
        Jitter { state: seed }
    }

    pub(super) fn spread(&mut self, time: Duration) -> Duration {
        // SplitMix64: one addition and a mix, which is all the randomness that a timer needs.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let permille = u32::try_from(mixed % 251).unwrap_or(0) + 750;
        time * permille / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_nothing_to_half_a_minute() {
        let mut backoff = Backoff::new(None);
        let waits: Vec<u64> = (0..8).map(|_| backoff.next().as_secs()).collect();
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn a_session_that_lasted_makes_the_next_attempt_immediate_and_a_short_one_does_not() {
        let mut backoff = Backoff::new(None);
        (0..4).for_each(|_| _ = backoff.next());
        backoff.ended_after(Duration::from_secs(1));
        assert_eq!(backoff.next(), Duration::from_secs(8));
        backoff.ended_after(Duration::from_secs(60));
        assert_eq!(backoff.next(), Duration::ZERO);
    }

    #[test]
    fn a_configured_time_neither_grows_nor_is_outlasted_by_an_attempt() {
        let mut backoff = Backoff::new(Some(Duration::from_secs(5)));
        assert_eq!(
            (backoff.next(), backoff.next()),
            (Duration::from_secs(5), Duration::from_secs(5))
        );
        assert_eq!(backoff.connect_timeout(), Duration::from_secs(5));
    }

    #[test]
    fn a_lost_session_is_not_rested_for_as_long_as_a_router_that_is_away() {
        let mut backoff = Backoff::new(Some(Duration::from_secs(5)));
        let waits: Vec<u64> = (0..6).map(|_| backoff.next_idle().as_secs()).collect();
        assert_eq!(waits, [0, 1, 2, 4, 5, 5]);
        backoff.ended_after(Duration::from_secs(60));
        assert_eq!(backoff.next_idle(), Duration::ZERO);
    }

    #[test]
    fn jitter_stays_between_three_quarters_and_all_and_differs() {
        let mut jitter = Jitter::new(7);
        let spread: Vec<Duration> = (0..1000)
            .map(|_| jitter.spread(Duration::from_secs(30)))
            .collect();
        assert!(
            spread
                .iter()
                .all(|time| (22_500..=30_000).contains(&time.as_millis()))
        );
        assert!(spread.iter().min() < spread.iter().max());
    }
}
