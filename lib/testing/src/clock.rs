//! Time that passes only when a test says so.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// A clock for code that is given `now`.
#[derive(Debug)]
pub struct FixedClock {
    now: Cell<Instant>,
}

impl Default for FixedClock {
    fn default() -> Self {
        Self {
            now: Cell::new(Instant::now()),
        }
    }
}

impl FixedClock {
    /// The moment at which the clock stands.
    pub fn now(&self) -> Instant {
        self.now.get()
    }

    /// Lets time pass; returns the new moment.
    pub fn advance(&self, by: Duration) -> Instant {
        self.now.set(self.now.get() + by);
        self.now.get()
    }
}
