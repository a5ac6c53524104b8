//! Which times may a BGPPeer say?

use std::time::Duration;

use ferrolb_api::duration;
use ferrolb_api::v1beta2::BGPPeerSpec;

/// The shortest hold time but for none at all (RFC 4271 section 4.2).
const HOLD_TIME_AT_LEAST: Duration = Duration::from_secs(3);
/// The longest that an OPEN can say: 16 bits of seconds.
const HOLD_TIME_AT_MOST: Duration = Duration::from_secs(65_535);

/// The times of a peer, checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timers {
    /// As given, or three times the keepalive interval.
    pub(crate) hold_time: Option<Duration>,
    pub(crate) keepalive_time: Option<Duration>,
    pub(crate) connect_time: Option<Duration>,
}

/// Reads the times of a peer. `refuse` is given the field below `spec` and the reason.
pub(crate) fn read(spec: &BGPPeerSpec, mut refuse: impl FnMut(&str, String)) -> Timers {
    let mut time = |field: &str, text: &Option<String>| match text.as_deref().map(duration::parse) {
        None => None,
        Some(Ok(time)) => Some(time),
        Some(Err(error)) => {
            refuse(
                field,
                format!("invalid BGPPeer timers: {error}; write a duration such as 90s or 1m30s"),
            );
            None
        }
    };
    let mut timers = Timers {
        hold_time: time("holdTime", &spec.hold_time),
        keepalive_time: time("keepaliveTime", &spec.keepalive_time),
        connect_time: time("connectTime", &spec.connect_time),
    };
    let shown = |text: &Option<String>| text.clone().unwrap_or_default();
    if let Some(hold) = timers.hold_time {
        if !may_be_held(hold) {
            refuse(
                "holdTime",
                format!(
                    "invalid BGPPeer timers: invalid hold time {:?}: must be 0 or >=3s, and at most 65535s; write one such as 90s",
                    shown(&spec.hold_time)
                ),
            );
        }
        if timers
            .keepalive_time
            .is_some_and(|keepalive| keepalive > hold)
        {
            refuse(
                "keepaliveTime",
                format!(
                    "invalid BGPPeer timers: invalid keepaliveTime {:?}, must be lower than holdTime {:?}; lower it or raise \
                     holdTime",
                    shown(&spec.keepalive_time),
                    shown(&spec.hold_time)
                ),
            );
        }
    } else if spec.hold_time.is_none()
        && let Some(keepalive) = timers.keepalive_time
    {
        // RFC 4271 section 10.
        let hold = keepalive.saturating_mul(3);
        if may_be_held(hold) {
            timers.hold_time = Some(hold);
        } else {
            refuse(
                "keepaliveTime",
                format!(
                    "invalid BGPPeer timers: without holdTime the hold time is three times keepaliveTime {:?}, and must be 0 or \
                     from 3s to 65535s; set holdTime or a keepaliveTime of 1s to 21845s",
                    shown(&spec.keepalive_time)
                ),
            );
        }
    }
    if let Some(connect) = timers.connect_time {
        // MetalLB's sentences (reference 1.4).
        if !(Duration::from_secs(1)..=Duration::from_secs(65_535)).contains(&connect) {
            refuse(
                "connectTime",
                format!(
                    "connect time should be between 1 seconds to 65535, is {:?}; write one such as 10s",
                    shown(&spec.connect_time)
                ),
            );
        }
        if connect.subsec_nanos() != 0 {
            refuse(
                "connectTime",
                format!(
                    "connect time should contain a whole number of seconds, is {:?}; write one such as 10s",
                    shown(&spec.connect_time)
                ),
            );
        }
    }
    timers
}

fn may_be_held(time: Duration) -> bool {
    time.is_zero() || (HOLD_TIME_AT_LEAST..=HOLD_TIME_AT_MOST).contains(&time)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hold, keepalive and connect time.
    fn times(texts: [&str; 3]) -> Result<Timers, Vec<String>> {
        let [hold_time, keepalive_time, connect_time] = texts.map(|text| {
            Some(text)
                .filter(|text| *text != "-")
                .map(ToOwned::to_owned)
        });
        let spec = BGPPeerSpec {
            hold_time,
            keepalive_time,
            connect_time,
            ..BGPPeerSpec::default()
        };
        let mut refused = Vec::new();
        let timers = read(&spec, |field, reason| {
            refused.push(format!("{field}: {reason}"))
        });
        if refused.is_empty() {
            Ok(timers)
        } else {
            Err(refused)
        }
    }

    #[test]
    fn a_hold_time_is_zero_or_from_3_s_to_65535_s() {
        for good in ["-", "0s", "0", "3s", "1m30s", "65535s"] {
            assert!(times([good, "-", "-"]).is_ok(), "{good}");
        }
        for bad in ["", "1s", "2.9s", "65535s1ns", "65536s", "soon", "-3s"] {
            let refused = times([bad, "-", "-"]).unwrap_err();
            assert!(
                refused[0].starts_with("holdTime: invalid BGPPeer timers"),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn a_keepalive_interval_is_not_longer_than_the_hold_time() {
        assert!(times(["9s", "9s", "-"]).is_ok());
        assert!(times(["9s", "10s", "-"]).unwrap_err()[0].contains("must be lower than holdTime"));
        assert!(times(["0s", "1s", "-"]).is_err());
        // What is wrong with the hold time is said once.
        assert_eq!(times(["soon", "100ms", "-"]).unwrap_err().len(), 1);
    }

    #[test]
    fn without_a_hold_time_three_keepalive_intervals_are_it() {
        let hold = |keepalive| times(["-", keepalive, "-"]).map(|timers| timers.hold_time);
        assert_eq!(hold("1s"), Ok(Some(Duration::from_secs(3))));
        assert_eq!(hold("0s"), Ok(Some(Duration::ZERO)));
        assert_eq!(hold("21845s"), Ok(Some(Duration::from_secs(65_535))));
        for bad in ["999ms", "21846s"] {
            assert!(
                hold(bad).unwrap_err()[0].contains("three times keepaliveTime"),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_connect_time_is_whole_seconds() {
        for good in ["1s", "2m", "65535s"] {
            assert!(times(["-", "-", good]).is_ok(), "{good}");
        }
        for bad in ["0s", "1500ms", "65536s", "65535s1us"] {
            assert!(times(["-", "-", bad]).is_err(), "{bad}");
        }
    }
}
