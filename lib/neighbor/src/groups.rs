//! Which multicast groups must be joined to be asked for an IPv6 address?

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use pnet::util::MacAddr;

/// The group to which a station sends its solicitations for `ip`: ff02::1:ff and the last 24 bits (RFC 4291 section
/// 2.7.1).
#[must_use]
pub fn solicited_node_group(ip: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = ip.octets();
    Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(a),
        u16::from_be_bytes([b, c]),
    )
}

/// The groups for all of `ips`. Addresses may share a group, which stays joined until the last of them is gone: the
/// set of groups that are wanted says so by itself, no count has to be kept in step.
#[must_use]
pub fn solicited_node_groups(ips: impl IntoIterator<Item = IpAddr>) -> BTreeSet<Ipv6Addr> {
    ips.into_iter()
        .filter_map(|ip| match ip {
            IpAddr::V6(ip) => Some(solicited_node_group(ip)),
            IpAddr::V4(_) => None,
        })
        .collect()
}

/// The Ethernet address of an IPv6 multicast group: 33:33 and its last 32 bits (RFC 2464 section 7).
#[must_use]
pub fn multicast_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr(0x33, 0x33, a, b, c, d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_takes_the_last_24_bits_of_the_address() {
        let ip: Ipv6Addr = "2001:db8::12ab:cdef".parse().unwrap();
        let group = solicited_node_group(ip);
        assert_eq!(group, "ff02::1:ffab:cdef".parse::<Ipv6Addr>().unwrap());
        assert_eq!(
            multicast_mac(group),
            MacAddr(0x33, 0x33, 0xff, 0xab, 0xcd, 0xef)
        );
    }

    #[test]
    fn addresses_that_share_a_group_count_once_and_ipv4_not_at_all() {
        let ips = ["2001:db8:1::7", "2001:db8:2::7", "192.0.2.7", "2001:db8::8"]
            .map(|ip| ip.parse().unwrap());
        let groups = solicited_node_groups(ips);
        assert_eq!(groups.len(), 2);
    }
}
