//! How two routers find each other on a link between them: Router Solicitations and Advertisements (RFC 4861 section 4.1
//! and 4.2) that say nothing but that somebody is there. The messages of ICMPv6, without the IPv6 header and without a
//! checksum, which the kernel puts to messages of ICMPv6 sockets.

use std::net::Ipv6Addr;

use pnet::packet::icmpv6::ndp::{
    MutableRouterAdvertPacket, MutableRouterSolicitPacket, RouterAdvertPacket, RouterSolicitPacket,
};
use pnet::packet::icmpv6::{Icmpv6Code, Icmpv6Packet, Icmpv6Types};

use crate::drop_reason::DropReason;
use crate::filter::{JUMP_IF_EQUAL, LOAD_BYTE, SockFilter, jump, keep, load};

/// All routers of a link.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// All nodes of a link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The hop limit that these messages have, and that a socket for them must be told to use (RFC 4861 section 6.1).
pub const ROUTER_HOP_LIMIT: u8 = 255;

/// `SKF_NET_OFF`: offsets from here on count from the IPv6 header.
const NETWORK_HEADER: u32 = 0xfff0_0000;
/// Where the hop limit stands in an IPv6 header.
const HOP_LIMIT: u32 = NETWORK_HEADER + 7;

/// What a router says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterMessage {
    /// It is there.
    Advertisement,
    /// Who else is?
    Solicitation,
}

/// An advertisement with a router lifetime of 0: nobody takes the sender for a default router, or an address, or anything
/// else from it.
#[must_use]
pub fn router_advertisement() -> Vec<u8> {
    let mut bytes = vec![0; RouterAdvertPacket::minimum_packet_size()];
    if let Some(mut packet) = MutableRouterAdvertPacket::new(&mut bytes) {
        packet.set_icmpv6_type(Icmpv6Types::RouterAdvert);
    }
    bytes
}

/// A solicitation, which every router answers soon.
#[must_use]
pub fn router_solicitation() -> Vec<u8> {
    let mut bytes = vec![0; RouterSolicitPacket::minimum_packet_size()];
    if let Some(mut packet) = MutableRouterSolicitPacket::new(&mut bytes) {
        packet.set_icmpv6_type(Icmpv6Types::RouterSolicit);
    }
    bytes
}

/// Reads a message that came from `source` with the right hop limit and checksum.
///
/// # Errors
/// Which check of RFC 4861 section 6.1 it fails.
pub fn router_message(source: Ipv6Addr, message: &[u8]) -> Result<RouterMessage, DropReason> {
    let header = Icmpv6Packet::new(message).ok_or(DropReason::Truncated)?;
    let (kind, length) = match header.get_icmpv6_type() {
        Icmpv6Types::RouterAdvert => (
            RouterMessage::Advertisement,
            RouterAdvertPacket::minimum_packet_size(),
        ),
        Icmpv6Types::RouterSolicit => (
            RouterMessage::Solicitation,
            RouterSolicitPacket::minimum_packet_size(),
        ),
        _ => return Err(DropReason::OtherProtocol),
    };
    if header.get_icmpv6_code() != Icmpv6Code(0) {
        return Err(DropReason::Code);
    }
    let mut options = message.get(length..).ok_or(DropReason::Truncated)?;
    while let [_, octets, ..] = options {
        let length = usize::from(*octets) * 8;
        options = match options.get(length..) {
            Some(rest) if length > 0 => rest,
            _ => return Err(DropReason::Options),
        };
    }
    if !options.is_empty() {
        return Err(DropReason::Options);
    }
    // A host that has no address yet may solicit; a router has one and advertises from it.
    let may_send = source.is_unicast_link_local()
        || (kind == RouterMessage::Solicitation && !source.is_multicast());
    if may_send {
        Ok(kind)
    } else {
        Err(DropReason::Source)
    }
}

/// Lets a raw ICMPv6 socket receive nothing but these messages, and only from its own link.
#[must_use]
pub fn router_discovery_filter() -> Vec<SockFilter> {
    vec![
        load(LOAD_BYTE, HOP_LIMIT),
        jump(JUMP_IF_EQUAL, u32::from(ROUTER_HOP_LIMIT), 0, 4),
        load(LOAD_BYTE, 0),
        jump(JUMP_IF_EQUAL, u32::from(Icmpv6Types::RouterSolicit.0), 1, 0),
        jump(JUMP_IF_EQUAL, u32::from(Icmpv6Types::RouterAdvert.0), 0, 1),
        keep(u32::MAX),
        keep(0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const GLOBAL: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

    #[test]
    fn an_advertisement_says_nothing_but_that_we_are_there() {
        // Type, code, checksum, hop limit, flags, router lifetime, reachable time, retransmission time.
        let mut expected = vec![134, 0, 0, 0, 0, 0, 0, 0];
        expected.extend([0; 8]);
        assert_eq!(router_advertisement(), expected);
        assert_eq!(router_solicitation(), [133, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn what_we_send_is_what_we_read() {
        let read = |bytes: &[u8]| router_message(ROUTER, bytes);
        assert_eq!(
            read(&router_advertisement()),
            Ok(RouterMessage::Advertisement)
        );
        assert_eq!(
            read(&router_solicitation()),
            Ok(RouterMessage::Solicitation)
        );
    }

    #[test]
    fn each_check_has_its_reason() {
        let advertisement = router_advertisement();
        let with = |options: &[u8]| [&advertisement[..], options].concat();
        let changed = |at: usize, to: u8| {
            let mut bytes = advertisement.clone();
            bytes[at] = to;
            bytes
        };
        let mac = [1, 1, 2, 0, 0, 0, 0, 1];
        for (source, bytes, expected) in [
            (ROUTER, with(&mac), Ok(RouterMessage::Advertisement)),
            (ROUTER, with(&[0x12; 0]), Ok(RouterMessage::Advertisement)),
            (
                ROUTER,
                advertisement[..15].to_vec(),
                Err(DropReason::Truncated),
            ),
            (ROUTER, Vec::new(), Err(DropReason::Truncated)),
            (ROUTER, changed(0, 135), Err(DropReason::OtherProtocol)),
            (ROUTER, changed(1, 1), Err(DropReason::Code)),
            (
                ROUTER,
                with(&[1, 0, 0, 0, 0, 0, 0, 0]),
                Err(DropReason::Options),
            ),
            (ROUTER, with(&mac[..7]), Err(DropReason::Options)),
            (ROUTER, with(&[1]), Err(DropReason::Options)),
            (GLOBAL, advertisement.clone(), Err(DropReason::Source)),
            (
                Ipv6Addr::UNSPECIFIED,
                advertisement.clone(),
                Err(DropReason::Source),
            ),
            (
                Ipv6Addr::UNSPECIFIED,
                router_solicitation(),
                Ok(RouterMessage::Solicitation),
            ),
            (ALL_NODES, router_solicitation(), Err(DropReason::Source)),
        ] {
            assert_eq!(
                router_message(source, &bytes),
                expected,
                "{source} {bytes:?}"
            );
        }
    }
}
