//! Does an interface receive anything at all?
//!
//! A cable, a transceiver or a switch may fail in one direction: the node still sends, and hears nothing. On a segment that
//! lives something is always heard within a moment, if only the broadcasts of others.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// An interface that has received nothing for this long is deaf. Not longer than the others take to declare a node down.
const SILENCE: Duration = Duration::from_millis(900);

/// What one interface receives.
pub(super) struct Hearing {
    name: String,
    received: Option<u64>,
    since: Instant,
    deaf: Arc<AtomicBool>,
}

impl Hearing {
    pub(super) fn of(name: &str, now: Instant) -> Self {
        Self {
            name: name.to_owned(),
            received: None,
            since: now,
            deaf: Arc::default(),
        }
    }

    /// Whether it has received nothing for a while, always as it was when it was last looked at.
    pub(super) fn deaf(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.deaf)
    }

    /// Looks at what the kernel has counted. True if the interface was deaf and hears again. What cannot be read counts as
    /// heard.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        let counter = Path::new("/sys/class/net")
            .join(&self.name)
            .join("statistics/rx_packets");
        let counted = std::fs::read_to_string(counter)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        self.take(counted, now)
    }

    fn take(&mut self, counted: Option<u64>, now: Instant) -> bool {
        if counted.is_none() || counted != self.received {
            self.received = counted;
            self.since = now;
        }
        let deaf = now >= self.since + SILENCE;
        self.deaf.swap(deaf, Ordering::Relaxed) && !deaf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_deaf_after_a_silence_until_it_receives_something() {
        let start = Instant::now();
        let mut hearing = Hearing::of("eth0", start);
        let deaf = hearing.deaf();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        for (counted, milliseconds, is_deaf, hears_again) in [
            (Some(7), 0, false, false),
            (Some(7), 899, false, false),
            (Some(7), 900, true, false),
            (Some(7), 5000, true, false),
            (Some(8), 5200, false, true),
            (Some(8), 6500, true, false),
            (None, 6700, false, true),
            (None, 9000, false, false),
        ] {
            assert_eq!(hearing.take(counted, at(milliseconds)), hears_again);
            assert_eq!(deaf.load(Ordering::Relaxed), is_deaf, "{milliseconds}");
        }
    }

    #[test]
    fn the_kernel_counts_what_the_loopback_interface_receives() {
        let mut hearing = Hearing::of("lo", Instant::now());
        hearing.look(Instant::now());
        assert!(hearing.received.is_some());
    }
}
