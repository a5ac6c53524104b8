//! What is a Neighbor Solicitation or Advertisement owed? RFC 4861 and RFC 4862.

use std::net::{IpAddr, Ipv6Addr};

use pnet::packet::Packet;
use pnet::packet::ethernet::EthernetPacket;
use pnet::packet::icmpv6::ndp::{NeighborAdvertFlags, NeighborAdvertPacket, NeighborSolicitPacket};
use pnet::packet::icmpv6::{Icmpv6Code, Icmpv6Packet, Icmpv6Types, checksum};
use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::ipv6::Ipv6Packet;
use pnet::util::MacAddr;

use crate::answer::{Reply, Responder, Verdict};
use crate::drop_reason::DropReason;
use crate::frame::neighbor_advertisement;
use crate::ownership::Standing;

/// Bytes of a solicitation or advertisement before its options.
const LENGTH: usize = 24;
/// The only hop limit that proves that an NDP packet was sent on this link (RFC 4861 section 7.1.1).
const ON_LINK_HOP_LIMIT: u8 = 255;
/// Types of the options with a link-layer address (RFC 4861 section 4.6.1).
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;

/// The order of the checks is that of RFC 4861 section 7.1.
pub(crate) fn judge(
    responder: &Responder,
    ethernet: &EthernetPacket<'_>,
    standing: impl Fn(IpAddr) -> Option<Standing>,
) -> Result<Option<Verdict>, DropReason> {
    let header = Ipv6Packet::new(ethernet.payload()).ok_or(DropReason::Truncated)?;
    if header.get_version() != 6 {
        return Err(DropReason::Ipv6Header);
    }
    if header.get_next_header() != IpNextHeaderProtocols::Icmpv6 {
        return Err(DropReason::OtherProtocol);
    }
    // Short frames are padded, so that the header and not the frame says where the message ends.
    let length = usize::from(header.get_payload_length());
    let message = ethernet
        .payload()
        .get(Ipv6Packet::minimum_packet_size()..)
        .and_then(|rest| rest.get(..length));
    let message = message.ok_or(DropReason::Ipv6Header)?;
    let icmp = Icmpv6Packet::new(message).ok_or(DropReason::Truncated)?;
    let is_solicitation = match icmp.get_icmpv6_type() {
        Icmpv6Types::NeighborSolicit => true,
        Icmpv6Types::NeighborAdvert => false,
        _ => return Err(DropReason::OtherProtocol),
    };
    if header.get_hop_limit() != ON_LINK_HOP_LIMIT {
        return Err(DropReason::HopLimit);
    }
    if icmp.get_checksum() != checksum(&icmp, &header.get_source(), &header.get_destination()) {
        return Err(DropReason::Checksum);
    }
    if icmp.get_icmpv6_code() != Icmpv6Code(0) {
        return Err(DropReason::Code);
    }
    if message.len() < LENGTH {
        return Err(DropReason::Truncated);
    }
    let destination = ethernet.get_destination();
    if is_solicitation {
        solicitation(responder, ethernet, &header, message, standing)
    } else if destination.is_multicast() || destination == responder.mac {
        advertisement(responder, ethernet, &header, message, standing)
    } else {
        Ok(None)
    }
}

fn solicitation(
    responder: &Responder,
    ethernet: &EthernetPacket<'_>,
    header: &Ipv6Packet<'_>,
    message: &[u8],
    standing: impl Fn(IpAddr) -> Option<Standing>,
) -> Result<Option<Verdict>, DropReason> {
    let packet = NeighborSolicitPacket::new(message).ok_or(DropReason::Truncated)?;
    let target = packet.get_target_addr();
    if target.is_multicast() {
        return Err(DropReason::Target);
    }
    let source = header.get_source();
    let told = link_layer_address(message, SOURCE_LINK_LAYER_ADDRESS)?;
    if source.is_multicast() || (source.is_unspecified() && told.is_some()) {
        return Err(DropReason::Source);
    }
    let destination = ethernet.get_destination();
    let to_us = destination == responder.mac;
    if !(to_us || destination.is_multicast()) {
        return Ok(None);
    }
    let from = ethernet.get_source();
    let one_station = !from.is_multicast() && !from.is_zero();
    let standing_now = standing(IpAddr::V6(target));
    // Somebody who asks, like us, before it claims (RFC 4862 section 5.4.3).
    if source.is_unspecified() && one_station && standing_now == Some(Standing::Watched) {
        return Ok(responder.claim(IpAddr::V6(target), from, standing));
    }
    let ours = standing_now == Some(Standing::Held);
    // A station that asks whether we are still there may leave its own address out, as it asks us alone (RFC 4861 section
    // 4.3); the frame says where it came from. From the unspecified address it is duplicate address detection, which is left
    // alone (reference 9, row 20).
    let asking = told.or((to_us && !source.is_unspecified() && one_station).then_some(from));
    let (true, Some(asking), Some(own)) = (ours, asking, responder.link_local) else {
        return Ok(None);
    };
    Ok(Some(Verdict::Reply(Reply {
        ip: IpAddr::V6(target),
        frame: neighbor_advertisement(responder.mac, own, target, Some((asking, source))),
    })))
}

fn advertisement(
    responder: &Responder,
    ethernet: &EthernetPacket<'_>,
    header: &Ipv6Packet<'_>,
    message: &[u8],
    standing: impl Fn(IpAddr) -> Option<Standing>,
) -> Result<Option<Verdict>, DropReason> {
    let packet = NeighborAdvertPacket::new(message).ok_or(DropReason::Truncated)?;
    let target: Ipv6Addr = packet.get_target_addr();
    if target.is_multicast() {
        return Err(DropReason::Target);
    }
    let solicited = packet.get_flags() & NeighborAdvertFlags::Solicited != 0;
    if header.get_destination().is_multicast() && solicited {
        return Err(DropReason::Solicited);
    }
    let told = link_layer_address(message, TARGET_LINK_LAYER_ADDRESS)?;
    let mac = told.unwrap_or_else(|| ethernet.get_source());
    Ok(responder.claim(IpAddr::V6(target), mac, standing))
}

/// Walks the options of a message. Done here because pnet's own iterator computes an option's length in eight bits, which
/// overflows from 32 on.
fn link_layer_address(message: &[u8], wanted: u8) -> Result<Option<MacAddr>, DropReason> {
    let mut options = message.get(LENGTH..).unwrap_or_default();
    let mut found = None;
    while !options.is_empty() {
        let &[kind, units, ..] = options else {
            return Err(DropReason::Options);
        };
        let (option, rest) = options
            .split_at_checked(usize::from(units) * 8)
            .ok_or(DropReason::Options)?;
        match (kind, option) {
            (_, []) => return Err(DropReason::Options),
            (kind, &[_, _, a, b, c, d, e, f]) if kind == wanted => {
                let address = MacAddr(a, b, c, d, e, f);
                if address.is_multicast() || address.is_zero() {
                    return Err(DropReason::Options);
                }
                found = Some(address);
            }
            (kind, _) if kind == wanted => return Err(DropReason::Options),
            _ => {}
        }
        options = rest;
    }
    Ok(found)
}
