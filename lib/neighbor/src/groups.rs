//! Which multicast groups must be joined to be asked for an IPv6 address?

use std::net::Ipv6Addr;

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
}
