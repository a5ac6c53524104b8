//! Times in few octets: each of ten thousand addresses keeps several.

use std::num::{NonZeroU32, NonZeroU64};
use std::ops::{Add, Sub};
use std::time::{Duration, Instant};

/// A point in time, in nanoseconds after an [`Origin`]; half the size of an `Option<Instant>` where there may be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(NonZeroU64);

const _: () = assert!(size_of::<Option<Moment>>() * 2 == size_of::<Option<Instant>>());

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, pause: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(pause)))
    }
}

impl Sub for Moment {
    type Output = Duration;

    /// No time at all if `earlier` is not.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }
}

/// What moments are counted from: the first time that was heard of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Origin(Option<Instant>);

impl Origin {
    /// A time that is not before the first that was given to this.
    pub(crate) fn moment(&mut self, at: Instant) -> Moment {
        let origin = *self.0.get_or_insert(at);
        let after = nanoseconds(at.saturating_duration_since(origin));
        Moment(NonZeroU64::MIN.saturating_add(after))
    }

    /// The same as others have it. `None` only before there was any.
    pub(crate) fn instant(self, at: Moment) -> Option<Instant> {
        let after = Duration::from_nanos(at.0.get() - NonZeroU64::MIN.get());
        Some(self.0? + after)
    }
}

/// Nanoseconds; centuries are cut.
fn nanoseconds(pause: Duration) -> u64 {
    u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX)
}

/// A pause in milliseconds, from one to 49 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pause(NonZeroU32);

impl From<Duration> for Pause {
    fn from(pause: Duration) -> Self {
        let milliseconds = u32::try_from(pause.as_millis()).unwrap_or(u32::MAX);
        Self(NonZeroU32::new(milliseconds).unwrap_or(NonZeroU32::MIN))
    }
}

impl From<Pause> for Duration {
    fn from(pause: Pause) -> Self {
        Duration::from_millis(pause.0.get().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_exact_and_in_the_order_of_time() {
        #[allow(
            clippy::disallowed_methods,
            reason = "an arbitrary origin; only differences are looked at"
        )]
        let start = Instant::now();
        let mut origin = Origin::default();
        let first = origin.moment(start);
        for nanoseconds in [0, 1, 999, 1_000_000_007, 40_000_000_000_000_000] {
            let pause = Duration::from_nanos(nanoseconds);
            let moment = origin.moment(start + pause);
            assert_eq!(moment, first + pause);
            assert_eq!(origin.instant(moment), Some(start + pause));
            assert_eq!(moment > first, nanoseconds > 0);
        }
    }

    #[test]
    fn a_pause_is_kept_to_the_millisecond_and_never_none() {
        for (given, kept) in [
            (0, 1),
            (1, 1),
            (30_000, 30_000),
            (u64::MAX, u64::from(u32::MAX)),
        ] {
            let pause = Pause::from(Duration::from_millis(given));
            assert_eq!(Duration::from(pause), Duration::from_millis(kept));
        }
    }
}
