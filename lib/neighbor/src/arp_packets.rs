//! What is an ARP packet owed? RFC 826 and RFC 5227.

use std::net::IpAddr;

use pnet::packet::Packet;
use pnet::packet::arp::{ArpHardwareTypes, ArpOperations, ArpPacket};
use pnet::packet::ethernet::{EtherTypes, EthernetPacket};

use crate::answer::{Reply, Responder, Verdict};
use crate::drop_reason::DropReason;
use crate::frame::arp;
use crate::ownership::Standing;

/// Bytes of an ARP packet for IPv4 over Ethernet, without the Ethernet header.
const LENGTH: usize = 28;

pub(crate) fn judge(
    responder: &Responder,
    ethernet: &EthernetPacket<'_>,
    standing: impl Fn(IpAddr) -> Option<Standing>,
) -> Result<Option<Verdict>, DropReason> {
    let packet = ethernet.payload();
    if packet.len() < LENGTH {
        return Err(DropReason::Truncated);
    }
    let arrived = ArpPacket::new(packet).ok_or(DropReason::Truncated)?;
    if arrived.get_hardware_type() != ArpHardwareTypes::Ethernet
        || arrived.get_protocol_type() != EtherTypes::Ipv4
        || arrived.get_hw_addr_len() != 6
        || arrived.get_proto_addr_len() != 4
    {
        return Err(DropReason::ArpAddressKind);
    }
    let sender_mac = arrived.get_sender_hw_addr();
    if sender_mac.is_multicast() || sender_mac.is_zero() {
        return Err(DropReason::ArpSender);
    }
    let destination = ethernet.get_destination();
    let to_us = destination == responder.mac;
    if !(to_us || destination.is_broadcast()) {
        return Ok(None);
    }
    let (sender, wanted) = (
        arrived.get_sender_proto_addr(),
        arrived.get_target_proto_addr(),
    );
    let is_request = match arrived.get_operation() {
        ArpOperations::Request => true,
        ArpOperations::Reply => false,
        _ => return Ok(None),
    };
    // A sender that says it has an address of ours is no one to answer, whatever it asks for: with a gratuitous request it
    // asks for nothing, and each answer would be one more defence (RFC 5227 section 2.4).
    if let Some(claim) = responder.claim(IpAddr::V4(sender), sender_mac, &standing) {
        return Ok(Some(claim));
    }
    match standing(IpAddr::V4(wanted)) {
        Some(Standing::Held) if is_request => {}
        // Somebody who asks, like us, before it claims (RFC 5227 section 2.1.1).
        Some(Standing::Watched) if is_request && sender.is_unspecified() => {
            return Ok(responder.claim(IpAddr::V4(wanted), sender_mac, &standing));
        }
        _ => return Ok(None),
    }
    // The sender's IP address may be 0.0.0.0: that is a probe (RFC 5227), and a probe for an address that we hold must be
    // told so.
    Ok(Some(Verdict::Reply(Reply {
        ip: IpAddr::V4(wanted),
        frame: arp(
            ArpOperations::Reply,
            (responder.mac, wanted),
            (sender_mac, sender),
        ),
    })))
}
