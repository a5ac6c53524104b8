//! Which addresses does one entry of `spec.addresses` name?

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of `address`.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The number of bits of an address: 32 or 128.
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    /// The address of this family whose numeric value is `value`.
    ///
    /// IPv4 takes the low 32 bits, since no caller leaves the range of a checked [`AddressRange`].
    #[must_use]
    pub fn address(self, value: u128) -> IpAddr {
        match self {
            Family::V4 => IpAddr::V4(Ipv4Addr::from(value as u32)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(value)),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// One entry of `spec.addresses`: the addresses from `first` to `last`, both included, of one family.
///
/// A CIDR is kept as its range with host bits masked, as MetalLB masks them (reference 2.3, parsing facts).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressRange {
    family: Family,
    first: u128,
    last: u128,
}

/// Why an entry of `spec.addresses` is not a range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressRangeError {
    /// Neither CIDR nor range; the text carries MetalLB's `invalid CIDR` fragment.
    #[error(
        "invalid CIDR {0:?}: write a network such as 192.0.2.0/24, or a range such as 192.0.2.10-192.0.2.20"
    )]
    Cidr(String),
    /// A range one of whose ends is not an address.
    #[error(
        "invalid IP range {0:?}: {1:?} is not an IP address; write first-last, for example 192.0.2.10-192.0.2.20"
    )]
    End(String, String),
    /// A range that runs backwards.
    #[error("invalid IP range {0:?}: the start is after the end; swap them")]
    Backwards(String),
    /// A range from one family to the other (reference 9, row 16: refused).
    #[error(
        "invalid IP range {0:?}: one end is IPv4 and the other IPv6; give each family an entry of its own"
    )]
    MixedFamilies(String),
}

impl AddressRange {
    /// The family of every address in the range.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// The lowest address as a number.
    #[must_use]
    pub fn first(&self) -> u128 {
        self.first
    }

    /// The highest address as a number.
    #[must_use]
    pub fn last(&self) -> u128 {
        self.last
    }

    /// Whether `address` lies in the range.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        Family::of(address) == self.family && (self.first..=self.last).contains(&value_of(address))
    }

    /// Whether an address lies in both ranges.
    #[must_use]
    pub fn overlaps(&self, other: &AddressRange) -> bool {
        self.family == other.family && self.first <= other.last && other.first <= self.last
    }

    /// The addresses that lie in both ranges.
    #[must_use]
    pub fn intersection(&self, other: &AddressRange) -> Option<AddressRange> {
        self.overlaps(other).then(|| AddressRange {
            family: self.family,
            first: self.first.max(other.first),
            last: self.last.min(other.last),
        })
    }

    /// Whether nothing lies between the two, so that they are one range.
    pub(crate) fn joins(&self, other: &AddressRange) -> bool {
        let touches = |one: &Self, next: &Self| one.last.checked_add(1) == Some(next.first);
        self.overlaps(other)
            || self.family == other.family && (touches(self, other) || touches(other, self))
    }

    /// From the first address of both to the last. They are of one family.
    pub(crate) fn hull(&self, other: &AddressRange) -> AddressRange {
        AddressRange {
            family: self.family,
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }

    /// The prefix length of the network that the range is, if it is one.
    fn prefix_length(&self) -> Option<u8> {
        let host_bits = self.last - self.first;
        let is_network = host_bits & host_bits.wrapping_add(1) == 0 && self.first & host_bits == 0;
        is_network.then(|| self.family.bits() - host_bits.count_ones() as u8)
    }

    /// The prefix length of the widest network in the minimal list of networks that make up the range.
    ///
    /// Aggregation is judged by it (reference 2.3: an entry fails when the aggregation length is below the smallest
    /// prefix length among its networks).
    #[must_use]
    pub fn widest_prefix_length(&self) -> u8 {
        let mut widest = self.family.bits();
        let mut at = self.first;
        loop {
            let align = if at == 0 {
                self.family.bits() as u32
            } else {
                at.trailing_zeros().min(self.family.bits() as u32)
            };
            let mut size = align;
            // The largest aligned network that starts here and does not run past the end.
            while size > 0
                && (size == 128
                    || at
                        .checked_add((1u128 << size) - 1)
                        .is_none_or(|end| end > self.last))
            {
                if size == 128 && at == 0 && self.last == u128::MAX {
                    return 0;
                }
                size -= 1;
            }
            widest = widest.min(self.family.bits() - size as u8);
            match at.checked_add(1u128 << size) {
                Some(next) if next <= self.last => at = next,
                _ => return widest,
            }
        }
    }
}

/// Ranges of which no address is ever a host's that others reach through a router or on a segment, and what they are for
/// (RFC 6890 and the registries that it names).
const RESERVED: [(&str, &str); 8] = [
    ("0.0.0.0/8", "this network"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("224.0.0.0/4", "multicast"),
    ("255.255.255.255/32", "broadcast"),
    ("::/127", "unspecified and loopback"),
    ("fe80::/10", "link-local"),
    ("ff00::/8", "multicast"),
];

/// What addresses of `range` are reserved for, if some are, with the network.
pub(crate) fn reserved(range: &AddressRange) -> Option<(&'static str, &'static str)> {
    RESERVED.into_iter().find(|(network, _)| {
        let network = network.parse::<AddressRange>();
        network.is_ok_and(|network| network.overlaps(range))
    })
}

/// The numeric value of an address, whatever its family.
pub(crate) fn value_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// Reads an address as Kubernetes does: without a zone, and not IPv4 in the clothes of IPv6 (`::ffff:192.0.2.1`), which
/// no packet has.
pub(crate) fn parse_address(text: &str) -> Option<IpAddr> {
    match text.parse().ok()? {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => None,
        address => Some(address),
    }
}

/// Reads a network as Kubernetes does: its length is a plain number.
fn parse_network(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    if length.is_empty()
        || (length.len() > 1 && length.starts_with('0'))
        || !length.bytes().all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    IpNet::new(parse_address(address)?, length.parse().ok()?).ok()
}

impl FromStr for AddressRange {
    type Err = AddressRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if let Some((first, last)) = text.split_once('-') {
            let end = |end: &str| {
                parse_address(end.trim())
                    .ok_or_else(|| AddressRangeError::End(text.to_owned(), end.trim().to_owned()))
            };
            let (first, last) = (end(first)?, end(last)?);
            if Family::of(first) != Family::of(last) {
                return Err(AddressRangeError::MixedFamilies(text.to_owned()));
            }
            if first > last {
                return Err(AddressRangeError::Backwards(text.to_owned()));
            }
            return Ok(AddressRange {
                family: Family::of(first),
                first: value_of(first),
                last: value_of(last),
            });
        }
        let network =
            parse_network(text).ok_or_else(|| AddressRangeError::Cidr(text.to_owned()))?;
        Ok(AddressRange {
            family: Family::of(network.network()),
            first: value_of(network.network()),
            last: value_of(network.broadcast()),
        })
    }
}

/// The range of one address.
impl From<IpAddr> for AddressRange {
    fn from(address: IpAddr) -> Self {
        AddressRange {
            family: Family::of(address),
            first: value_of(address),
            last: value_of(address),
        }
    }
}

/// Writes a range as a person would: an address, a network where it is exactly one, or first and last.
impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.family.address(self.first);
        match self.prefix_length() {
            Some(bits) if bits == self.family.bits() => write!(f, "{first}"),
            Some(bits) => write!(f, "{first}/{bits}"),
            None => write!(f, "{first}-{}", self.family.address(self.last)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> AddressRange {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_is_masked_and_a_range_may_have_blanks() {
        assert_eq!(
            range("10.20.30.40/24").first(),
            range("10.20.30.0/24").first()
        );
        assert_eq!(range(" 10.0.0.5 - 10.0.0.9 "), range("10.0.0.5-10.0.0.9"));
        assert_eq!(range("0.0.0.0/0").last(), u128::from(u32::MAX));
        assert_eq!(range("::/0").last(), u128::MAX);
    }

    #[test]
    fn a_range_is_written_as_a_person_would() {
        for (text, written) in [
            ("10.20.30.40/24", "10.20.30.0/24"),
            ("192.0.2.0-192.0.2.127", "192.0.2.0/25"),
            ("192.0.2.128-192.0.3.127", "192.0.2.128-192.0.3.127"),
            ("192.0.2.1-192.0.2.2", "192.0.2.1-192.0.2.2"),
            ("192.0.2.7/32", "192.0.2.7"),
            ("0.0.0.0-255.255.255.255", "0.0.0.0/0"),
            ("fd00::7-fd00::7", "fd00::7"),
            ("fd00::-fd00::ff", "fd00::/120"),
            ("fd00::1-fd00::ff", "fd00::1-fd00::ff"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(range(text).to_string(), written, "{text}");
        }
    }

    #[test]
    fn what_two_ranges_have_in_common_is_a_range() {
        let both = |one: &str, other: &str| {
            let common = range(one).intersection(&range(other))?;
            Some(common.to_string())
        };
        assert_eq!(
            both("10.0.0.0/24", "10.0.0.200-10.0.1.5").as_deref(),
            Some("10.0.0.200-10.0.0.255")
        );
        assert_eq!(both("10.0.0.0/24", "10.0.1.0/24"), None);
        assert_eq!(both("0.0.0.0/0", "::/0"), None);
        let one = AddressRange::from("fd00::7".parse::<IpAddr>().unwrap());
        assert_eq!(one, range("fd00::7/128"));
    }

    #[test]
    fn each_kind_of_bad_entry_has_its_own_sentence() {
        for (text, fragment) in [
            ("10.0.0.0/33", "invalid CIDR \"10.0.0.0/33\""),
            ("10.0.0.0", "invalid CIDR"),
            ("", "invalid CIDR"),
            ("10.0.0.0/08", "invalid CIDR"),
            ("10.0.0.0/+8", "invalid CIDR"),
            ("::ffff:10.0.0.0/120", "invalid CIDR"),
            ("::ffff:10.0.0.1-::ffff:10.0.0.9", "is not an IP address"),
            ("fe80::1%eth0-fe80::9%eth0", "is not an IP address"),
            ("10.0.0.9-10.0.0.5", "start is after the end"),
            ("10.0.0.9-fd00::1", "one end is IPv4"),
            ("10.0.0.9-", "invalid IP range"),
            ("a-b", "\"a\" is not an IP address"),
        ] {
            let error = text.parse::<AddressRange>().unwrap_err().to_string();
            assert!(error.contains(fragment), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_widest_network_of_a_range_is_found() {
        // 40.0.0.150-40.0.0.200 is /31, /29, /27, /29, /32 (reference 2.3).
        assert_eq!(range("40.0.0.150-40.0.0.200").widest_prefix_length(), 27);
        assert_eq!(range("1.1.1.0/28").widest_prefix_length(), 28);
        assert_eq!(range("1.1.1.1-1.1.1.1").widest_prefix_length(), 32);
        assert_eq!(range("0.0.0.0/0").widest_prefix_length(), 0);
        assert_eq!(range("::/0").widest_prefix_length(), 0);
        assert_eq!(range("fd00::/112").widest_prefix_length(), 112);
        assert_eq!(
            range("255.255.255.255-255.255.255.255").widest_prefix_length(),
            32
        );
        assert_eq!(range("ffff::/16").widest_prefix_length(), 16);
    }

    #[test]
    fn overlap_needs_a_common_address_of_one_family() {
        assert!(range("10.0.0.0/24").overlaps(&range("10.0.0.255-10.0.1.3")));
        assert!(!range("10.0.0.0/24").overlaps(&range("10.0.1.0/24")));
        assert!(!range("0.0.0.0/0").overlaps(&range("::/0")));
    }
}
