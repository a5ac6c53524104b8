//! Which received frame is answered?
//!
//! ARP (RFC 826) requests and Neighbor Solicitations (RFC 4861 section 4.3) for announced addresses are, and nothing
//! else is. Frames that are well formed but not for us are ignored without a trace, because a segment is full of them;
//! frames that break their protocol's rules are named by a [`DropReason`], so that they can be counted.

use std::net::{IpAddr, Ipv6Addr};

use pnet::packet::Packet;
use pnet::packet::arp::{ArpHardwareTypes, ArpOperations, ArpPacket};
use pnet::packet::ethernet::{EtherTypes, EthernetPacket};
use pnet::packet::icmpv6::ndp::NeighborSolicitPacket;
use pnet::packet::icmpv6::{Icmpv6Code, Icmpv6Packet, Icmpv6Types, checksum};
use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::ipv6::Ipv6Packet;
use pnet::util::MacAddr;

use crate::frame::{Frame, arp, neighbor_advertisement};

/// Bytes of an ARP packet for IPv4 over Ethernet, without the Ethernet header.
const ARP_LENGTH: usize = 28;
/// Bytes of a Neighbor Solicitation before its options.
const SOLICITATION_LENGTH: usize = 24;
/// The only hop limit that proves that an NDP packet was sent on this link (RFC 4861 section 7.1.1).
const ON_LINK_HOP_LIMIT: u8 = 255;
/// Type of the source link-layer address option (RFC 4861 section 4.6.1).
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;

/// Answers for one network interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Responder {
    /// Hardware address of the interface: what every answer tells.
    pub mac: MacAddr,
    /// Link-local address of the interface, the source of its advertisements; without one it is silent in IPv6.
    pub link_local: Option<Ipv6Addr>,
}

/// What a received frame is owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send this, on the interface where the frame was received.
    Reply(Reply),
    /// A proper frame that is not for us.
    Ignored,
    /// A frame that breaks its protocol's rules.
    Dropped(DropReason),
}

/// An answer to a request for `ip`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The address that was asked for.
    pub ip: IpAddr,
    /// The whole Ethernet frame to send.
    pub frame: Frame,
}

/// Which rule a frame broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum DropReason {
    /// The frame ends before its headers do.
    #[error("the frame ends before its headers do")]
    Truncated,
    /// A VLAN tag inside the frame: it belongs to another interface than the one it was read from.
    #[error("the frame carries a VLAN tag")]
    VlanTagged,
    /// Neither ARP nor a Neighbor Solicitation; the socket filter should have kept it out.
    #[error("the frame is neither ARP nor a neighbor solicitation")]
    OtherProtocol,
    /// ARP for something else than IPv4 over Ethernet.
    #[error("the ARP packet is not about IPv4 over Ethernet")]
    ArpAddressKind,
    /// An ARP sender whose hardware address is a group or zero: an answer would reach others than the one who asked.
    #[error("the ARP sender's hardware address is not that of one station")]
    ArpSender,
    /// The IPv6 header's version or length is wrong.
    #[error("the IPv6 header's version or length is wrong")]
    Ipv6Header,
    /// A hop limit below 255: the packet was forwarded from another link.
    #[error("the hop limit is not 255")]
    HopLimit,
    /// A source that cannot have sent it: multicast, or unspecified together with a link-layer address.
    #[error("the source cannot have sent a neighbor solicitation")]
    Source,
    /// The ICMPv6 checksum is wrong.
    #[error("the ICMPv6 checksum is wrong")]
    Checksum,
    /// An ICMPv6 code other than 0.
    #[error("the ICMPv6 code is not 0")]
    Code,
    /// A solicitation for a multicast address.
    #[error("the target is a multicast address")]
    Target,
    /// An option of length 0, one longer than the packet, or a link-layer address that is not an Ethernet station's.
    #[error("an option has a wrong length or content")]
    Options,
}

impl DropReason {
    /// Every reason, so that each can be counted from zero.
    pub const ALL: [Self; 12] = [
        Self::Truncated,
        Self::VlanTagged,
        Self::OtherProtocol,
        Self::ArpAddressKind,
        Self::ArpSender,
        Self::Ipv6Header,
        Self::HopLimit,
        Self::Source,
        Self::Checksum,
        Self::Code,
        Self::Target,
        Self::Options,
    ];

    /// The reason as a metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::VlanTagged => "vlan_tagged",
            Self::OtherProtocol => "other_protocol",
            Self::ArpAddressKind => "arp_address_kind",
            Self::ArpSender => "arp_sender",
            Self::Ipv6Header => "ipv6_header",
            Self::HopLimit => "hop_limit",
            Self::Source => "source",
            Self::Checksum => "checksum",
            Self::Code => "code",
            Self::Target => "target",
            Self::Options => "options",
        }
    }
}

impl Responder {
    /// Judges a frame received on this interface, Ethernet header included. `announced` says whether an address is
    /// announced on this interface now.
    pub fn answer(&self, frame: &[u8], announced: impl Fn(IpAddr) -> bool) -> Verdict {
        match self.judge(frame, announced) {
            Ok(Some(reply)) => Verdict::Reply(reply),
            Ok(None) => Verdict::Ignored,
            Err(reason) => Verdict::Dropped(reason),
        }
    }

    /// The frames of one gratuitous round for `ip`: for IPv4 a broadcast request and a broadcast reply, because some
    /// stations learn only from one of them; for IPv6 one unsolicited advertisement (RFC 4861 section 7.2.6).
    pub fn gratuitous(&self, ip: IpAddr) -> impl Iterator<Item = Frame> + use<> {
        let frames = match ip {
            IpAddr::V4(ip) => [ArpOperations::Request, ArpOperations::Reply]
                .map(|operation| Some(arp(operation, (self.mac, ip), (MacAddr::broadcast(), ip)))),
            IpAddr::V6(ip) => {
                let unsolicited = self
                    .link_local
                    .map(|own| neighbor_advertisement(self.mac, own, ip, None));
                [unsolicited, None]
            }
        };
        frames.into_iter().flatten()
    }

    fn judge(
        &self,
        frame: &[u8],
        announced: impl Fn(IpAddr) -> bool,
    ) -> Result<Option<Reply>, DropReason> {
        let ethernet = EthernetPacket::new(frame).ok_or(DropReason::Truncated)?;
        match ethernet.get_ethertype() {
            EtherTypes::Arp => self.judge_arp(&ethernet, announced),
            EtherTypes::Ipv6 => self.judge_solicitation(&ethernet, announced),
            EtherTypes::Vlan | EtherTypes::QinQ | EtherTypes::PBridge => {
                Err(DropReason::VlanTagged)
            }
            _ => Err(DropReason::OtherProtocol),
        }
    }

    fn judge_arp(
        &self,
        ethernet: &EthernetPacket<'_>,
        announced: impl Fn(IpAddr) -> bool,
    ) -> Result<Option<Reply>, DropReason> {
        let packet = ethernet.payload();
        if packet.len() < ARP_LENGTH {
            return Err(DropReason::Truncated);
        }
        let request = ArpPacket::new(packet).ok_or(DropReason::Truncated)?;
        if request.get_hardware_type() != ArpHardwareTypes::Ethernet
            || request.get_protocol_type() != EtherTypes::Ipv4
            || request.get_hw_addr_len() != 6
            || request.get_proto_addr_len() != 4
        {
            return Err(DropReason::ArpAddressKind);
        }
        let asking = request.get_sender_hw_addr();
        if asking.is_multicast() || asking.is_zero() {
            return Err(DropReason::ArpSender);
        }
        let destination = ethernet.get_destination();
        let wanted = request.get_target_proto_addr();
        if request.get_operation() != ArpOperations::Request
            || !(destination.is_broadcast() || destination == self.mac)
            || !announced(IpAddr::V4(wanted))
        {
            return Ok(None);
        }
        // The sender's IP address is not looked at: 0.0.0.0 is a probe (RFC 5227), and a probe for an address that we
        // hold must be told so.
        Ok(Some(Reply {
            ip: IpAddr::V4(wanted),
            frame: arp(
                ArpOperations::Reply,
                (self.mac, wanted),
                (asking, request.get_sender_proto_addr()),
            ),
        }))
    }

    fn judge_solicitation(
        &self,
        ethernet: &EthernetPacket<'_>,
        announced: impl Fn(IpAddr) -> bool,
    ) -> Result<Option<Reply>, DropReason> {
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
        if icmp.get_icmpv6_type() != Icmpv6Types::NeighborSolicit {
            return Err(DropReason::OtherProtocol);
        }
        // The order is that of RFC 4861 section 7.1.1.
        let source = header.get_source();
        if header.get_hop_limit() != ON_LINK_HOP_LIMIT {
            return Err(DropReason::HopLimit);
        }
        if icmp.get_checksum() != checksum(&icmp, &source, &header.get_destination()) {
            return Err(DropReason::Checksum);
        }
        if icmp.get_icmpv6_code() != Icmpv6Code(0) {
            return Err(DropReason::Code);
        }
        if message.len() < SOLICITATION_LENGTH {
            return Err(DropReason::Truncated);
        }
        let solicitation = NeighborSolicitPacket::new(message).ok_or(DropReason::Truncated)?;
        let target = solicitation.get_target_addr();
        if target.is_multicast() {
            return Err(DropReason::Target);
        }
        let asking =
            source_link_layer_address(message.get(SOLICITATION_LENGTH..).unwrap_or_default())?;
        if source.is_multicast() || (source.is_unspecified() && asking.is_some()) {
            return Err(DropReason::Source);
        }
        // Without the option it is duplicate address detection, or a station that already knows where to find us.
        let (Some(asking), Some(own)) = (asking, self.link_local) else {
            return Ok(None);
        };
        let destination = ethernet.get_destination();
        if !(destination.is_multicast() || destination == self.mac)
            || !announced(IpAddr::V6(target))
        {
            return Ok(None);
        }
        Ok(Some(Reply {
            ip: IpAddr::V6(target),
            frame: neighbor_advertisement(self.mac, own, target, Some((asking, source))),
        }))
    }
}

/// Walks the options of a solicitation. Done here because pnet's own iterator computes an option's length in eight
/// bits, which overflows from 32 on.
fn source_link_layer_address(mut options: &[u8]) -> Result<Option<MacAddr>, DropReason> {
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
            (SOURCE_LINK_LAYER_ADDRESS, &[_, _, a, b, c, d, e, f]) => {
                let address = MacAddr(a, b, c, d, e, f);
                if address.is_multicast() || address.is_zero() {
                    return Err(DropReason::Options);
                }
                found = Some(address);
            }
            (SOURCE_LINK_LAYER_ADDRESS, _) => return Err(DropReason::Options),
            _ => {}
        }
        options = rest;
    }
    Ok(found)
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
