//! How long to wait before trying again what failed.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;

/// Exponential delays with jitter, up to a ceiling.
///
/// Each delay is drawn from the upper half of the current step, so that many processes that lost the same API server
/// do not come back in the same instant, and none retries without pause.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    ceiling: Duration,
    failures: u32,
}

impl Backoff {
    /// Starts at `first` and doubles with each failure until `ceiling`.
    pub fn new(first: Duration, ceiling: Duration) -> Self {
        Self {
            first,
            ceiling,
            failures: 0,
        }
    }

    /// The delay after one more failure.
    pub fn failed(&mut self) -> Duration {
        let step = step(self.first, self.ceiling, self.failures);
        self.failures = self.failures.saturating_add(1);
        jittered(step)
    }

    /// Forgets the failures: the next one waits the first delay again.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// One [`Backoff`] per key. Keys that never failed take no room, so the map is bounded by what is failing now.
#[derive(Debug, Clone)]
pub struct KeyedBackoff<K: Ord> {
    first: Duration,
    ceiling: Duration,
    failures: BTreeMap<K, u32>,
}

impl<K: Ord + Clone> KeyedBackoff<K> {
    /// Each key starts at `first` and doubles with each failure until `ceiling`.
    pub fn new(first: Duration, ceiling: Duration) -> Self {
        Self {
            first,
            ceiling,
            failures: BTreeMap::new(),
        }
    }

    /// The delay for this key after one more failure.
    pub fn failed(&mut self, key: &K) -> Duration {
        let failures = self.failures.entry(key.clone()).or_insert(0);
        let step = step(self.first, self.ceiling, *failures);
        *failures = failures.saturating_add(1);
        jittered(step)
    }

    /// Forgets the failures of this key.
    pub fn succeeded(&mut self, key: &K) {
        self.failures.remove(key);
    }

    /// Forgets every key that `keep` does not want, for objects that are gone.
    pub fn retain(&mut self, mut keep: impl FnMut(&K) -> bool) {
        self.failures.retain(|key, _| keep(key));
    }

    /// How many keys are failing.
    pub fn failing(&self) -> usize {
        self.failures.len()
    }
}

fn step(first: Duration, ceiling: Duration, failures: u32) -> Duration {
    first
        .saturating_mul(2u32.saturating_pow(failures.min(31)))
        .min(ceiling)
}

fn jittered(step: Duration) -> Duration {
    step.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_ceiling_and_start_over_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for expected in [100, 200, 400, 800, 1000, 1000] {
            let delay = backoff.failed();
            assert!(
                delay <= Duration::from_millis(expected),
                "{delay:?} after {expected}"
            );
            assert!(
                delay >= Duration::from_millis(expected / 2),
                "{delay:?} after {expected}"
            );
        }
        backoff.succeeded();
        assert!(backoff.failed() <= Duration::from_millis(100));
    }

    #[test]
    fn a_failing_key_does_not_delay_another_and_success_takes_no_room() {
        let mut backoff = KeyedBackoff::new(Duration::from_millis(100), Duration::from_secs(60));
        for _ in 0..200 {
            backoff.failed(&"a");
        }
        assert!(backoff.failed(&"a") >= Duration::from_secs(30));
        assert!(backoff.failed(&"b") <= Duration::from_millis(100));
        backoff.succeeded(&"a");
        assert_eq!(backoff.failing(), 1);
        backoff.retain(|_| false);
        assert_eq!(backoff.failing(), 0);
    }
}
