//! Durations as the API writes them: Go's syntax, such as `90s`, `1m30s` or `1.5h`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Why a text is not a duration that a field here may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DurationError {
    /// Nothing was given.
    Empty,
    /// A part without a number, such as `s`.
    NoNumber {
        /// The whole text.
        text: String,
    },
    /// A number without one of the units `ns`, `us`, `ms`, `s`, `m`, `h`.
    NoUnit {
        /// The whole text.
        text: String,
    },
    /// A duration below zero: no timer here can hold it.
    Negative {
        /// The whole text.
        text: String,
    },
    /// More than Go's 64 bits of nanoseconds, about 292 years.
    TooLong {
        /// The whole text.
        text: String,
    },
}

impl fmt::Display for DurationError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(
                formatter,
                "an empty text is not a duration; write one such as 90s or 1m30s"
            ),
            Self::NoNumber { text } => {
                write!(formatter, "{text:?} is not a duration: a number is missing")
            }
            Self::NoUnit { text } => {
                write!(
                    formatter,
                    "{text:?} is not a duration: each number needs one of the units ns, us, ms, s, m, h"
                )
            }
            Self::Negative { text } => write!(formatter, "{text:?} is below zero"),
            Self::TooLong { text } => write!(formatter, "{text:?} is longer than any timer can be"),
        }
    }
}

impl std::error::Error for DurationError {}

/// A duration in Go's syntax.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(pub Duration);

impl GoDuration {
    /// Reads a duration; see [`parse`].
    pub fn parse(text: &str) -> Result<Duration, DurationError> {
        parse(text)
    }
}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map(Self)
    }
}

impl From<GoDuration> for Duration {
    fn from(duration: GoDuration) -> Self {
        duration.0
    }
}

/// Writes the shortest text that reads back as the same duration, in whole units.
impl fmt::Display for GoDuration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        for (unit, size) in [
            ("h", 3_600_000_000_000),
            ("m", 60_000_000_000),
            ("s", 1_000_000_000),
            ("ms", 1_000_000),
            ("us", 1_000),
        ] {
            if nanos > 0 && nanos.is_multiple_of(size) {
                return write!(formatter, "{}{unit}", nanos / size);
            }
        }
        if nanos == 0 {
            formatter.write_str("0s")
        } else {
            write!(formatter, "{nanos}ns")
        }
    }
}

/// Reads a sequence of decimal numbers, each with a unit; `0` alone needs none. A leading `+` is allowed as in Go, a leading
/// `-` only before zero.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(DurationError::NoNumber {
            text: text.to_owned(),
        });
    }
    let too_long = || DurationError::TooLong {
        text: text.to_owned(),
    };
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (whole, after_whole) = digits(rest);
        let (fraction, after_fraction) = match after_whole.strip_prefix('.') {
            Some(after_point) => digits(after_point),
            None => ("", after_whole),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(DurationError::NoNumber {
                text: text.to_owned(),
            });
        }
        let (size, after_unit) = unit(after_fraction).ok_or_else(|| DurationError::NoUnit {
            text: text.to_owned(),
        })?;
        let whole: u64 = if whole.is_empty() {
            0
        } else {
            whole.parse().map_err(|_| too_long())?
        };
        total += u128::from(whole) * u128::from(size) + fraction_of(fraction, size);
        if total > MAXIMUM {
            return Err(too_long());
        }
        rest = after_unit;
    }
    if negative && total > 0 {
        return Err(DurationError::Negative {
            text: text.to_owned(),
        });
    }
    u64::try_from(total)
        .map(Duration::from_nanos)
        .map_err(|_| too_long())
}

/// Go keeps durations in a signed 64 bit count of nanoseconds.
const MAXIMUM: u128 = i64::MAX as u128;

/// The leading decimal digits, and what follows them.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

/// The leading unit as nanoseconds, and what follows it. Both code points for the micro sign are accepted, as in Go.
fn unit(text: &str) -> Option<(u64, &str)> {
    let (name, rest) = text.split_at(
        text.find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(text.len()),
    );
    let size = match name {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    Some((size, rest))
}

/// Nanoseconds of the digits behind the point; what is smaller than a nanosecond is cut off. No unit has use for more than
/// 15 digits.
fn fraction_of(fraction: &str, size: u64) -> u128 {
    let mut scale: u128 = 1;
    let mut value: u128 = 0;
    for digit in fraction.bytes().take(15) {
        value = value * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    value * u128::from(size) / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_and_their_sums_are_read() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("-0s", 0),
            ("90s", 90_000_000_000),
            ("1m30s", 90_000_000_000),
            ("+1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("3.s", 3_000_000_000),
            ("100ms", 100_000_000),
            ("7us", 7_000),
            ("7\u{b5}s", 7_000),
            ("7\u{3bc}s", 7_000),
            ("9ns", 9),
            ("1h1m1s1ms1us1ns", 3_661_001_001_001),
            ("0.000000001s", 1),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in [
            "",
            "s",
            ".",
            "-",
            "+",
            "1",
            "90",
            "1x",
            "1s2",
            "1 s",
            "s1",
            "1.2.3s",
            "9999999999999h",
            "99999999999999999999s",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_duration_below_zero_is_refused_with_its_text() {
        assert_eq!(
            parse("-3s"),
            Err(DurationError::Negative {
                text: "-3s".to_owned()
            })
        );
    }

    #[test]
    fn a_written_duration_reads_back() {
        for nanos in [
            0,
            1,
            1_000,
            1_500,
            90_000_000_000,
            3_600_000_000_000,
            i64::MAX as u64,
        ] {
            let duration = GoDuration(Duration::from_nanos(nanos));
            assert_eq!(duration.to_string().parse(), Ok(duration));
        }
        assert_eq!(GoDuration(Duration::from_secs(90)).to_string(), "90s");
    }
}
