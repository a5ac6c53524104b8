//! What goes on the wire: the frames that are sent, built field by field.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Deref;

use pnet::packet::arp::{ArpHardwareTypes, ArpOperation, ArpOperations, MutableArpPacket};
use pnet::packet::ethernet::{EtherType, EtherTypes, MutableEthernetPacket};
use pnet::packet::icmpv6::ndp::{
    MutableNdpOptionPacket, MutableNeighborAdvertPacket, MutableNeighborSolicitPacket,
    NdpOptionType, NdpOptionTypes, NeighborAdvertFlags,
};
use pnet::packet::icmpv6::{Icmpv6Packet, Icmpv6Types, checksum};
use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::ipv6::MutableIpv6Packet;
use pnet::util::MacAddr;

use crate::groups::{multicast_mac, solicited_node_group};

const ETHERNET: usize = 14;
const ARP: usize = 28;
const IPV6: usize = 40;
const SOLICITATION: usize = 24;
/// Bytes of an option with an Ethernet address.
const OPTION: usize = 8;
const ADVERTISEMENT: usize = 32;
const LONGEST: usize = ETHERNET + IPV6 + ADVERTISEMENT;
/// All nodes on the link (RFC 4291 section 2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// An Ethernet frame to send. It lies on the stack, so that answering allocates nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Frame(")?;
        self.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

impl Frame {
    fn new(length: usize, source: MacAddr, destination: MacAddr, kind: EtherType) -> Self {
        let mut frame = Self {
            bytes: [0; LONGEST],
            length,
        };
        if let Some(mut ethernet) = MutableEthernetPacket::new(&mut frame.bytes) {
            ethernet.set_source(source);
            ethernet.set_destination(destination);
            ethernet.set_ethertype(kind);
        }
        frame
    }

    fn after(&mut self, header: usize) -> &mut [u8] {
        self.bytes.get_mut(header..self.length).unwrap_or_default()
    }
}

/// An ARP packet from `sender` to `target`, in a frame to the target's hardware address.
pub(crate) fn arp(
    operation: ArpOperation,
    sender: (MacAddr, Ipv4Addr),
    target: (MacAddr, Ipv4Addr),
) -> Frame {
    let mut frame = Frame::new(ETHERNET + ARP, sender.0, target.0, EtherTypes::Arp);
    if let Some(mut arp) = MutableArpPacket::new(frame.after(ETHERNET)) {
        arp.set_hardware_type(ArpHardwareTypes::Ethernet);
        arp.set_protocol_type(EtherTypes::Ipv4);
        arp.set_hw_addr_len(6);
        arp.set_proto_addr_len(4);
        arp.set_operation(operation);
        arp.set_sender_hw_addr(sender.0);
        arp.set_sender_proto_addr(sender.1);
        arp.set_target_hw_addr(target.0);
        arp.set_target_proto_addr(target.1);
    }
    frame
}

/// An ARP probe for `target` (RFC 5227 section 1.1): a broadcast request whose sender has no IP address.
pub(crate) fn arp_probe(mac: MacAddr, target: Ipv4Addr) -> Frame {
    let mut frame = arp(
        ArpOperations::Request,
        (mac, Ipv4Addr::UNSPECIFIED),
        (MacAddr::broadcast(), target),
    );
    // The target's hardware address is not known, and the RFC wants zeros for it.
    if let Some(mut arp) = MutableArpPacket::new(frame.after(ETHERNET)) {
        arp.set_target_hw_addr(MacAddr::zero());
    }
    frame
}

/// A Neighbor Solicitation (RFC 4861 section 4.3) to the target's solicited-node group. From the unspecified address it is one
/// of duplicate address detection, without options (RFC 4862 section 5.4.2); else it names `mac` as where to answer.
pub(crate) fn neighbor_solicitation(mac: MacAddr, source: Ipv6Addr, target: Ipv6Addr) -> Frame {
    let destination = solicited_node_group(target);
    let length = if source.is_unspecified() {
        SOLICITATION
    } else {
        SOLICITATION + OPTION
    };
    let to = multicast_mac(destination);
    let mut frame = Frame::new(ETHERNET + IPV6 + length, mac, to, EtherTypes::Ipv6);
    if let Some(header) = MutableIpv6Packet::new(frame.after(ETHERNET)) {
        ndp_header(header, length, source, destination);
    }
    let message = frame.after(ETHERNET + IPV6);
    if let Some(mut solicitation) = MutableNeighborSolicitPacket::new(message) {
        solicitation.set_icmpv6_type(Icmpv6Types::NeighborSolicit);
        solicitation.set_target_addr(target);
    }
    set_link_layer_option(message, SOLICITATION, NdpOptionTypes::SourceLLAddr, mac);
    let sum = Icmpv6Packet::new(message).map(|icmp| checksum(&icmp, &source, &destination));
    if let (Some(sum), Some(mut solicitation)) = (sum, MutableNeighborSolicitPacket::new(message)) {
        solicitation.set_checksum(sum);
    }
    frame
}

/// Writes an option with our hardware address at its place, if there is room for one.
///
/// In place, since the packet types' own setters take allocated options.
fn set_link_layer_option(message: &mut [u8], at: usize, kind: NdpOptionType, mac: MacAddr) {
    if let Some(mut option) = message.get_mut(at..).and_then(MutableNdpOptionPacket::new) {
        option.set_option_type(kind);
        option.set_length(1);
        option.set_data(&mac.octets());
    }
}

/// The header of an NDP message that never leaves the link.
fn ndp_header(
    mut header: MutableIpv6Packet<'_>,
    length: usize,
    source: Ipv6Addr,
    destination: Ipv6Addr,
) {
    header.set_version(6);
    header.set_payload_length(length as u16);
    header.set_next_header(IpNextHeaderProtocols::Icmpv6);
    header.set_hop_limit(255);
    header.set_source(source);
    header.set_destination(destination);
}

/// A Neighbor Advertisement (RFC 4861 section 4.4) that `target` is at `mac`, sent from the link-local address `own`.
///
/// Solicited, it goes to the one who asked and does not override: during a move two nodes may answer, and the first
/// answer should not be undone by a late one. Unsolicited, it goes to all nodes and overrides what they have cached.
pub(crate) fn neighbor_advertisement(
    mac: MacAddr,
    own: Ipv6Addr,
    target: Ipv6Addr,
    asked_by: Option<(MacAddr, Ipv6Addr)>,
) -> Frame {
    let (destination_mac, destination, flags) = match asked_by {
        Some((asking_mac, asking)) => (asking_mac, asking, NeighborAdvertFlags::Solicited),
        None => (
            multicast_mac(ALL_NODES),
            ALL_NODES,
            NeighborAdvertFlags::Override,
        ),
    };
    let mut frame = Frame::new(LONGEST, mac, destination_mac, EtherTypes::Ipv6);
    if let Some(header) = MutableIpv6Packet::new(frame.after(ETHERNET)) {
        ndp_header(header, ADVERTISEMENT, own, destination);
    }
    let message = frame.after(ETHERNET + IPV6);
    if let Some(mut advertisement) = MutableNeighborAdvertPacket::new(message) {
        advertisement.set_icmpv6_type(Icmpv6Types::NeighborAdvert);
        advertisement.set_flags(flags);
        advertisement.set_target_addr(target);
    }
    set_link_layer_option(
        message,
        ADVERTISEMENT - OPTION,
        NdpOptionTypes::TargetLLAddr,
        mac,
    );
    let sum = Icmpv6Packet::new(message).map(|icmp| checksum(&icmp, &own, &destination));
    if let (Some(sum), Some(mut advertisement)) = (sum, MutableNeighborAdvertPacket::new(message)) {
        advertisement.set_checksum(sum);
    }
    frame
}
