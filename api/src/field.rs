//! What a single field may hold, where the field alone decides.
//!
//! Each check here is used by `#[validate(custom(...))]`; ranges stand beside their fields. Ranges also reach the schema,
//! these checks do not, because MetalLB's schema accepts such text and an object stored under it must stay changeable.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use validator::ValidationError;

use crate::duration;

/// The value of an optional text. MetalLB's own objects cannot tell an empty text from an absent one, so neither do we.
pub fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// A duration in Go's syntax.
pub(crate) fn is_duration(text: &str) -> Result<(), ValidationError> {
    duration_of(text).map(drop)
}

/// RFC 4271 section 4.2: the hold time is either zero or at least three seconds; it travels as 16 bits of seconds.
pub(crate) fn is_hold_time(text: &str) -> Result<(), ValidationError> {
    let hold_time = duration_of(text)?;
    if hold_time != Duration::ZERO && hold_time < Duration::from_secs(3) {
        return Err(refusal(
            "hold_time",
            format!("must be 0 or at least 3s, is {text}"),
        ));
    }
    if hold_time > Duration::from_secs(65_535) {
        return Err(refusal(
            "hold_time",
            format!("must be at most 65535s, is {text}"),
        ));
    }
    Ok(())
}

/// Whole seconds from 1 to 65535 (reference section 1.4); the API server refuses others by itself.
pub(crate) fn is_connect_time(text: &str) -> Result<(), ValidationError> {
    let connect_time = duration_of(text)?;
    if !(1..=65_535).contains(&connect_time.as_secs()) {
        return Err(refusal(
            "connect_time",
            format!("must be from 1s to 65535s, is {text}"),
        ));
    }
    if connect_time.subsec_nanos() != 0 {
        return Err(refusal(
            "connect_time",
            format!("must be a whole number of seconds, is {text}"),
        ));
    }
    Ok(())
}

/// An address of either family; an empty text counts as absent.
pub(crate) fn is_address(text: &str) -> Result<(), ValidationError> {
    if text.is_empty() || text.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    Err(refusal("address", format!("{text:?} is not an IP address")))
}

/// RFC 4271 section 4.2: a BGP identifier is written as an IPv4 address, and RFC 6286 says not zero.
pub(crate) fn is_router_id(text: &str) -> Result<(), ValidationError> {
    if text.is_empty()
        || text
            .parse::<std::net::Ipv4Addr>()
            .is_ok_and(|id| !id.is_unspecified())
    {
        return Ok(());
    }
    Err(refusal(
        "router_id",
        format!("{text:?} is not an IPv4 address other than 0.0.0.0"),
    ))
}

/// The longest prefix of IPv4; the schema has only the lower bound.
pub(crate) fn is_ipv4_prefix_length(length: i32) -> Result<(), ValidationError> {
    is_prefix_length(length, 32)
}

/// The longest prefix of IPv6; the schema has no bound at all.
pub(crate) fn is_ipv6_prefix_length(length: i32) -> Result<(), ValidationError> {
    is_prefix_length(length, 128)
}

fn is_prefix_length(length: i32, longest: i32) -> Result<(), ValidationError> {
    if (1..=longest).contains(&length) {
        return Ok(());
    }
    Err(refusal(
        "prefix_length",
        format!("must be from 1 to {longest}, is {length}"),
    ))
}

/// A pool of no addresses helps nobody and is nearly always a slip.
pub(crate) fn is_not_empty(list: &[String]) -> Result<(), ValidationError> {
    if list.is_empty() {
        return Err(refusal("empty", "must have at least one entry".to_owned()));
    }
    Ok(())
}

fn duration_of(text: &str) -> Result<Duration, ValidationError> {
    duration::parse(text).map_err(|error| refusal("duration", error.to_string()))
}

fn refusal(code: &'static str, message: String) -> ValidationError {
    ValidationError::new(code).with_message(Cow::Owned(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_time_is_zero_or_at_least_three_seconds() {
        for good in ["0s", "3s", "1m30s", "65535s"] {
            assert!(is_hold_time(good).is_ok(), "{good}");
        }
        for bad in ["1s", "2.9s", "65536s", "soon"] {
            assert!(is_hold_time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_connect_time_is_whole_seconds() {
        for good in ["1s", "2m", "65535s"] {
            assert!(is_connect_time(good).is_ok(), "{good}");
        }
        for bad in ["0s", "1500ms", "65536s"] {
            assert!(is_connect_time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_router_id_is_an_ipv4_address() {
        assert!(is_router_id("10.0.0.1").is_ok());
        for bad in ["0.0.0.0", "fd00::1", "router"] {
            assert!(is_router_id(bad).is_err(), "{bad}");
        }
    }
}
