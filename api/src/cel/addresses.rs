//! Which texts name addresses?

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::limits::{ADDRESS_LENGTH, ADDRESSES};
use super::{Rule, list};

/// The two ends of a range, for texts with a dash.
const FIRST: &str = "self.substring(0, self.indexOf('-')).trim()";
const LAST: &str = "self.substring(self.indexOf('-') + 1).trim()";

/// `spec.addresses` of an IPAddressPool.
pub(crate) fn pool_addresses(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": ADDRESSES,
        "x-kubernetes-validations": list([Rule::new(
            "size(self) > 0",
            "pool has no prefixes defined; add at least one network or range",
        )]),
        "items": { "type": "string", "maxLength": ADDRESS_LENGTH, "x-kubernetes-validations": entry() }
    })
}

fn entry() -> Value {
    let both_ends = format!("isIP({FIRST}) && isIP({LAST})");
    let either_backwards = format!(
        "self.contains(':') ? {} : {}",
        ipv6_forwards(),
        ipv4_forwards()
    );
    list([
        Rule::new(
            "self.contains('-') || isCIDR(self.trim())",
            "invalid CIDR: write a network such as 192.0.2.0/24, or a range such as 192.0.2.10-192.0.2.20",
        )
        .saying(
            "'invalid CIDR \"' + self + '\": write a network such as 192.0.2.0/24, or a range such as \
             192.0.2.10-192.0.2.20'",
        ),
        Rule::new(
            format!("!self.contains('-') || {both_ends}"),
            "invalid IP range: an end is not an IP address; write first-last, for example 192.0.2.10-192.0.2.20",
        )
        .saying(format!(
            "'invalid IP range \"' + self + '\": \"' + (isIP({FIRST}) ? {LAST} : {FIRST}) + '\" is not an IP address; \
             write first-last, for example 192.0.2.10-192.0.2.20'"
        )),
        Rule::new(
            format!("!self.contains('-') || !({both_ends}) || ip({FIRST}).family() == ip({LAST}).family()"),
            "invalid IP range: one end is IPv4 and the other IPv6; give each family an entry of its own",
        )
        .saying(
            "'invalid IP range \"' + self + '\": one end is IPv4 and the other IPv6; give each family an entry of its own'",
        ),
        Rule::new(
            format!("!self.contains('-') || ({either_backwards})"),
            "invalid IP range: the start is after the end; swap them",
        )
        .saying("'invalid IP range \"' + self + '\": the start is after the end; swap them'"),
    ])
}

/// Two IPv4 addresses as numbers. Texts that are none are another rule's.
fn ipv4_forwards() -> String {
    let number = |parts: &str| {
        format!(
            "((int({parts}[0]) * 256 + int({parts}[1])) * 256 + int({parts}[2])) * 256 + int({parts}[3])"
        )
    };
    format!(
        "!isIP({FIRST}) || !isIP({LAST}) || [{FIRST}.split('.', 4)].all(a, [{LAST}.split('.', 4)].all(b, {} <= {}))",
        number("a"),
        number("b")
    )
}

/// Two IPv6 addresses that have the same text up to the last colon: of the last groups the longer is greater, of two as
/// long the one that sorts later. There may be neither blanks nor leading zeros, nor IPv4 in the last 32 bits.
fn ipv6_forwards() -> String {
    "self.contains(' ') || self.contains('.') || [self.indexOf('-')].all(i, \
     !isIP(self.substring(0, i)) || !isIP(self.substring(i + 1)) || \
     [self.lastIndexOf(':')].all(j, [self.substring(0, i).lastIndexOf(':')].all(k, \
     self.substring(0, k + 1) != self.substring(i + 1, j + 1) || \
     (i - k > 2 && self.charAt(k + 1) == '0') || (size(self) - j > 2 && self.charAt(j + 1) == '0') || \
     i - k < size(self) - j || (i - k == size(self) - j && \
     self.substring(k + 1, i).lowerAscii() <= self.substring(j + 1).lowerAscii()))))"
        .to_owned()
}

/// An address of either family; an empty text counts as absent. `fragment` is how MetalLB begins its sentence.
pub(crate) fn address(fragment: &str, what: &str) -> Value {
    list([Rule::new(
        "self == '' || isIP(self)",
        &format!("{fragment}; write {what}"),
    )
    .saying(format!("'{fragment} \"' + self + '\"; write {what}'"))])
}

/// RFC 4271 section 4.2 and RFC 6286.
pub(crate) fn router_id() -> Value {
    list([Rule::new(
        "self == '' || (isIP(self) && ip(self).family() == 4 && !ip(self).isUnspecified())",
        "invalid router ID; write it as an IPv4 address other than 0.0.0.0",
    )
    .saying(
        "'invalid router ID \"' + self + '\"; write it as an IPv4 address other than 0.0.0.0'",
    )])
}
