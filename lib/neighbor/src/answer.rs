//! What is a received frame owed?
//!
//! ARP (RFC 826) requests and Neighbor Solicitations (RFC 4861 section 4.3) for addresses that we hold are answered. Frames
//! by which another station says that it has an address of ours are claims, for [`Ownership`](crate::Ownership) to judge.
//! Everything else that is well formed is ignored without a trace, because a segment is full of it; frames that break their
//! protocol's rules are named by a [`DropReason`], so that they can be counted.

use std::net::{IpAddr, Ipv6Addr};

use pnet::packet::arp::ArpOperations;
use pnet::packet::ethernet::{EtherTypes, EthernetPacket};
use pnet::util::MacAddr;

use crate::drop_reason::DropReason;
use crate::filter::TAGGED;
use crate::frame::{Frame, arp, arp_probe, neighbor_advertisement, neighbor_solicitation};
use crate::ownership::Standing;
use crate::{arp_packets, ndp_packets};

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
    /// Another station says that it has an address which we hold or ask for.
    Claim(Claim),
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

/// A conflicting packet in the sense of RFC 5227 section 1.1, or its like in NDP (RFC 4862 section 5.4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The address.
    pub ip: IpAddr,
    /// The station that says that it has it.
    pub mac: MacAddr,
}

impl Responder {
    /// Judges a frame received on this interface, Ethernet header included. `standing` says how we stand to an address on
    /// this interface now; `None` for an address that is not ours.
    pub fn answer(&self, frame: &[u8], standing: impl Fn(IpAddr) -> Option<Standing>) -> Verdict {
        match self.judge(frame, standing) {
            Ok(Some(verdict)) => verdict,
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

    /// The question whether somebody has `ip` already, which changes nobody's cache: an ARP probe (RFC 5227 section 2.1.1); for
    /// IPv6 a solicitation from the unspecified address (RFC 4862 section 5.4.2), and one from our own, since who announces
    /// addresses for others, as we do, leaves duplicate address detection alone.
    pub fn probe(&self, ip: IpAddr) -> impl Iterator<Item = Frame> + use<> {
        let frames = match ip {
            IpAddr::V4(ip) => [Some(arp_probe(self.mac, ip)), None],
            IpAddr::V6(ip) => {
                let sources = self.link_local.map(|own| [Ipv6Addr::UNSPECIFIED, own]);
                sources.map_or([None, None], |sources| {
                    sources.map(|source| Some(neighbor_solicitation(self.mac, source, ip)))
                })
            }
        };
        frames.into_iter().flatten()
    }

    fn judge(
        &self,
        frame: &[u8],
        standing: impl Fn(IpAddr) -> Option<Standing>,
    ) -> Result<Option<Verdict>, DropReason> {
        // The filter leaves no more of a frame whose tag the hardware or the kernel took out.
        if frame.len() == TAGGED as usize {
            return Err(DropReason::VlanTagged);
        }
        let ethernet = EthernetPacket::new(frame).ok_or(DropReason::Truncated)?;
        match ethernet.get_ethertype() {
            EtherTypes::Arp => arp_packets::judge(self, &ethernet, standing),
            EtherTypes::Ipv6 => ndp_packets::judge(self, &ethernet, standing),
            EtherTypes::Vlan | EtherTypes::QinQ | EtherTypes::PBridge => {
                Err(DropReason::VlanTagged)
            }
            _ => Err(DropReason::OtherProtocol),
        }
    }

    /// A claim by another station; what our own interface says is none.
    pub(crate) fn claim(
        &self,
        ip: IpAddr,
        mac: MacAddr,
        standing: impl Fn(IpAddr) -> Option<Standing>,
    ) -> Option<Verdict> {
        (mac != self.mac && standing(ip).is_some()).then_some(Verdict::Claim(Claim { ip, mac }))
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
