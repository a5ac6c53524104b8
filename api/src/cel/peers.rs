//! Which fields of a BGPPeer contradict each other, and what may its times be?

use serde_json::Value;

use super::{Rule, list};

/// Durations in Go's syntax that no sum of numbers makes too long for Go's 64 bits of nanoseconds. All of those beyond it
/// are longer than 65535 s.
const DURATION: &str = "self.matches('^[-+]?(0|(0*([0-9]{1,14}([.][0-9]*)?|[.][0-9]+)ns\
                        |0*([0-9]{1,11}([.][0-9]*)?|[.][0-9]+)(us|\u{b5}s|\u{3bc}s)\
                        |0*([0-9]{1,8}([.][0-9]*)?|[.][0-9]+)ms\
                        |0*([0-9]{1,5}([.][0-9]*)?|[.][0-9]+)s\
                        |0*([0-9]{1,4}([.][0-9]*)?|[.][0-9]+)m\
                        |0*([0-9]{1,2}([.][0-9]*)?|[.][0-9]+)h)+)$')";

fn is_duration() -> Rule {
    Rule::new(
        format!("{DURATION} && duration(self) >= duration('0s')"),
        "invalid BGPPeer timers: not a duration from 0s to 65535s; write one such as 90s or 1m30s",
    )
    .saying(
        "'invalid BGPPeer timers: \"' + self + '\" is not a duration from 0s to 65535s; write one such as 90s or 1m30s'",
    )
}

/// RFC 4271 section 4.2: zero or at least three seconds, in 16 bits of seconds.
pub(crate) fn hold_time() -> Value {
    list([
        is_duration(),
        Rule::new(
            format!(
                "!({DURATION}) || duration(self) <= duration('0s') || \
                 (duration(self) >= duration('3s') && duration(self) <= duration('65535s'))"
            ),
            "invalid BGPPeer timers: invalid hold time: must be 0 or >=3s, and at most 65535s; write one such as 90s",
        )
        .saying("'invalid BGPPeer timers: invalid hold time \"' + self + '\": must be 0 or >=3s, and at most 65535s; write one such as 90s'"),
    ])
}

/// A duration; beside the hold time it is judged by [`timers`].
pub(crate) fn keepalive_time() -> Value {
    list([is_duration()])
}

/// Whole seconds from 1 to 65535 (reference 1.4); MetalLB's sentences.
pub(crate) fn connect_time() -> Value {
    list([
        is_duration(),
        Rule::new(
            format!(
                "!({DURATION}) || (duration(self) >= duration('1s') && duration(self) <= duration('65535s'))"
            ),
            "connect time should be between 1 seconds to 65535; write one such as 10s",
        )
        .saying("'connect time should be between 1 seconds to 65535, is \"' + self + '\"; write one such as 10s'"),
        Rule::new(
            format!(
                "!({DURATION}) || timestamp(0) + duration(self) == timestamp(duration(self).getSeconds())"
            ),
            "connect time should contain a whole number of seconds; write one such as 10s",
        )
        .saying("'connect time should contain a whole number of seconds, is \"' + self + '\"; write one such as 10s'"),
    ])
}

/// What MetalLB's schema leaves to its parser.
pub(crate) fn my_asn() -> Value {
    list([Rule::new(
        "self >= 1",
        "missing local ASN; set it to the AS number of the nodes, 1 to 4294967295",
    )])
}

/// The two times together. `set` says how a time is told from none.
fn timers(set: impl Fn(&str) -> String) -> [Rule; 2] {
    let readable = |field: &str| format!("self.{field}{}", DURATION.trim_start_matches("self"));
    let both = format!(
        "{} && {} && {} && {}",
        set("holdTime"),
        set("keepaliveTime"),
        readable("holdTime"),
        readable("keepaliveTime")
    );
    let only_keepalive = format!(
        "!({}) && {} && {}",
        set("holdTime"),
        set("keepaliveTime"),
        readable("keepaliveTime")
    );
    [
        Rule::new(
            format!("!({both}) || duration(self.holdTime) < duration('0s') || duration(self.keepaliveTime) <= duration(self.holdTime)"),
            "invalid BGPPeer timers: invalid keepaliveTime, must be lower than holdTime; lower it or raise holdTime",
        )
        .saying(
            "'invalid BGPPeer timers: invalid keepaliveTime \"' + self.keepaliveTime + '\", must be lower than holdTime \"' \
             + self.holdTime + '\"; lower it or raise holdTime'",
        )
        .at("keepaliveTime"),
        Rule::new(
            format!(
                "!({only_keepalive}) || duration(self.keepaliveTime) <= duration('0s') || \
                 (duration(self.keepaliveTime) >= duration('1s') && duration(self.keepaliveTime) <= duration('21845s'))"
            ),
            "invalid BGPPeer timers: without holdTime the hold time is three times keepaliveTime, and must be 0 or from 3s to \
             65535s; set holdTime or a keepaliveTime of 1s to 21845s",
        )
        .saying(
            "'invalid BGPPeer timers: without holdTime the hold time is three times keepaliveTime \"' + self.keepaliveTime + \
             '\", and must be 0 or from 3s to 65535s; set holdTime or a keepaliveTime of 1s to 21845s'",
        )
        .at("keepaliveTime"),
    ]
}

/// What both versions have: `ibgp` says when the router is known to be in our own autonomous system.
fn common(ibgp: &str, set: impl Fn(&str) -> String) -> [Rule; 4] {
    let [keepalive, derived] = timers(set);
    [
        Rule::new(
            format!("!(has(self.ebgpMultiHop) && self.ebgpMultiHop) || !({ibgp})"),
            "invalid ebgp-multihop parameter set for an ibgp peer; remove it",
        )
        .at("ebgpMultiHop"),
        Rule::new(
            "!has(self.sourceAddress) || !has(self.peerAddress) || !isIP(self.sourceAddress) || !isIP(self.peerAddress) || \
             ip(self.sourceAddress).family() == ip(self.peerAddress).family()",
            "invalid source IP: it is not of the family of peerAddress; write an address of the nodes of that family",
        )
        .saying(
            "'invalid source IP \"' + self.sourceAddress + '\": it is not of the family of peerAddress \"' + self.peerAddress \
             + '\"; write an address of the nodes of that family'",
        )
        .at("sourceAddress"),
        keepalive,
        derived,
    ]
}

/// The spec of v1beta2.
pub(crate) fn v1beta2() -> Value {
    const ASN: &str = "(has(self.peerASN) && self.peerASN != 0)";
    const ADDRESS: &str = "(has(self.peerAddress) && self.peerAddress != '')";
    const INTERFACE: &str = "(has(self.interface) && self.interface != '')";
    let ibgp = format!(
        "({ASN} && !has(self.dynamicASN) && self.peerASN == self.myASN) || \
         (!{ASN} && has(self.dynamicASN) && self.dynamicASN == 'internal')"
    );
    let [multihop, source, keepalive, derived] =
        common(&ibgp, |field| format!("has(self.{field})"));
    list([
        Rule::new(
            format!("{ASN} || has(self.dynamicASN)"),
            "missing peer ASN and dynamicASN; set one of the two",
        )
        .at("peerASN")
        .required(),
        Rule::new(
            format!("!{ASN} || !has(self.dynamicASN)"),
            "both peer ASN and dynamicASN specified; remove one of the two",
        )
        .at("dynamicASN"),
        Rule::new(
            format!("{ADDRESS} || {INTERFACE}"),
            "peer has no Address or Interface specified; set peerAddress",
        )
        .at("peerAddress")
        .required(),
        Rule::new(
            format!("!{ADDRESS} || !{INTERFACE}"),
            "peer has both Address and Interface specified; remove one of the two",
        )
        .at("interface"),
        Rule::new(
            "!has(self.password) || self.password == '' || !has(self.passwordSecret) || \
             !has(self.passwordSecret.name) || self.passwordSecret.name == ''",
            "can not have both password and secret ref set in peer config; remove password",
        )
        .at("password"),
        multihop,
        source,
        keepalive,
        derived,
    ])
}

/// The spec of v1beta1. A peerASN of 0 and an empty peerAddress are let pass: what v1beta2 has in their place may be in the
/// annotation of [`conversion`](crate::conversion), which no rule sees. A time of zero is an unset one, as there.
pub(crate) fn v1beta1() -> Value {
    let set = |field: &str| {
        let duration = DURATION.trim_start_matches("self");
        format!(
            "has(self.{field}) && !(self.{field}{duration} && duration(self.{field}) == duration('0s'))"
        )
    };
    list(common(
        "self.peerASN != 0 && self.peerASN == self.myASN",
        set,
    ))
}
