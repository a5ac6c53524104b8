//! ARP and NDP frames, written byte by byte and read back: what a hand-made host sends, and what a capture holds.
//!
//! By hand, and not with the code of the product, so that one misreading of an RFC cannot hide another.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};

pub type Mac = [u8; 6];

pub const BROADCAST: Mac = [0xff; 6];
pub const REQUEST: u16 = 1;
pub const REPLY: u16 = 2;

/// Flags of a neighbor advertisement (RFC 4861 section 4.4).
pub const SOLICITED: u8 = 0x40;
pub const OVERRIDE: u8 = 0x20;

/// Reads a hardware address as people write it.
pub fn mac(text: &str) -> Result<Mac> {
    let bytes = text
        .split(':')
        .map(|b| u8::from_str_radix(b, 16))
        .collect::<Result<Vec<_>, _>>()?;
    Mac::try_from(bytes)
        .ok()
        .with_context(|| format!("{text} is no hardware address"))
}

/// Writes a hardware address as tools print it.
pub fn text(mac: Mac) -> String {
    mac.map(|b| format!("{b:02x}")).join(":")
}

/// An ARP packet for IPv4 over Ethernet (RFC 826) in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Ethernet destination and source.
    pub to: Mac,
    pub from: Mac,
    pub operation: u16,
    pub sender: (Mac, Ipv4Addr),
    pub target: (Mac, Ipv4Addr),
}

impl Arp {
    /// Who has this address? A probe (RFC 5227 section 1.1) asks with the sender 0.0.0.0.
    pub fn request(from: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Self {
        Self {
            to: BROADCAST,
            from,
            operation: REQUEST,
            sender: (from, sender),
            target: ([0; 6], target),
        }
    }

    /// An announcement (RFC 5227 section 1.1): this host says unasked that the address is its own.
    pub fn claim(from: Mac, address: Ipv4Addr) -> Self {
        Self::request(from, address, address)
    }

    pub fn bytes(self) -> Vec<u8> {
        let mut frame = [self.to, self.from].concat();
        frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4]);
        frame.extend(self.operation.to_be_bytes());
        for (mac, ip) in [self.sender, self.target] {
            frame.extend(mac);
            frame.extend(ip.octets());
        }
        frame
    }

    fn read(frame: &[u8]) -> Option<Self> {
        let rest = frame.get(14..42)?;
        let [0, 1, 8, 0, 6, 4, ..] = rest else {
            return None;
        };
        let address = |at: usize| {
            Some(Ipv4Addr::from(
                <[u8; 4]>::try_from(rest.get(at..at + 4)?).ok()?,
            ))
        };
        let mac = |at: usize| Mac::try_from(rest.get(at..at + 6)?).ok();
        Some(Self {
            to: Mac::try_from(frame.get(..6)?).ok()?,
            from: Mac::try_from(frame.get(6..12)?).ok()?,
            operation: u16::from_be_bytes([*rest.get(6)?, *rest.get(7)?]),
            sender: (mac(8)?, address(14)?),
            target: (mac(18)?, address(24)?),
        })
    }

    /// Whether somebody says unasked who has its address: sender and target are the same (RFC 5227 section 3).
    pub fn is_gratuitous(self) -> bool {
        self.sender.1 == self.target.1
    }
}

/// A neighbor solicitation or advertisement (RFC 4861 sections 4.3 and 4.4) in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ndp {
    /// Ethernet destination and source.
    pub to: Mac,
    pub from: Mac,
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    pub kind: NdpKind,
    pub target: Ipv6Addr,
    /// The source link-layer option of a solicitation, the target link-layer option of an advertisement.
    pub link_layer: Option<Mac>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NdpKind {
    Solicitation,
    Advertisement { flags: u8 },
}

impl Ndp {
    /// Who has this address? To the solicited-node group of the target, with the source link-layer option.
    pub fn solicitation(from: Mac, source: Ipv6Addr, target: Ipv6Addr) -> Self {
        let [.., a, b, c] = target.octets();
        let group = Ipv6Addr::new(
            0xff02,
            0,
            0,
            0,
            0,
            1,
            0xff00 | u16::from(a),
            u16::from_be_bytes([b, c]),
        );
        Self {
            to: [0x33, 0x33, 0xff, a, b, c],
            from,
            source,
            destination: group,
            kind: NdpKind::Solicitation,
            target,
            link_layer: Some(from),
        }
    }

    /// A host says unasked to all nodes that the address is its own (RFC 4861 section 7.2.6).
    pub fn claim(from: Mac, address: Ipv6Addr) -> Self {
        Self {
            to: [0x33, 0x33, 0, 0, 0, 1],
            from,
            source: address,
            destination: Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
            kind: NdpKind::Advertisement { flags: OVERRIDE },
            target: address,
            link_layer: Some(from),
        }
    }

    pub fn bytes(self) -> Vec<u8> {
        let (kind, flags, option) = match self.kind {
            NdpKind::Solicitation => (135, 0, 1),
            NdpKind::Advertisement { flags } => (136, flags, 2),
        };
        let mut message = vec![kind, 0, 0, 0, flags, 0, 0, 0];
        message.extend(self.target.octets());
        if let Some(mac) = self.link_layer {
            message.extend([option, 1]);
            message.extend(mac);
        }
        let sum = checksum(self.source, self.destination, &message);
        message.splice(2..4, sum.to_be_bytes());
        let mut frame = [self.to, self.from].concat();
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(
            u16::try_from(message.len())
                .unwrap_or_default()
                .to_be_bytes(),
        );
        frame.extend([58, 255]);
        frame.extend(self.source.octets());
        frame.extend(self.destination.octets());
        frame.extend(message);
        frame
    }

    fn read(frame: &[u8]) -> Option<Self> {
        let address = |at: usize| {
            Some(Ipv6Addr::from(
                <[u8; 16]>::try_from(frame.get(at..at + 16)?).ok()?,
            ))
        };
        let length = usize::from(u16::from_be_bytes([*frame.get(18)?, *frame.get(19)?]));
        let message = frame.get(54..54 + length)?;
        let (source, destination) = (address(22)?, address(38)?);
        // A checksum over a message that holds its own right one is zero.
        if frame.get(20..22)? != [58, 255] || checksum(source, destination, message) != 0 {
            return None;
        }
        let (kind, wanted) = match *message.first()? {
            135 => (NdpKind::Solicitation, 1),
            136 => {
                let flags = *message.get(4)?;
                (NdpKind::Advertisement { flags }, 2)
            }
            _ => return None,
        };
        let mut options = message.get(24..)?;
        let mut link_layer = None;
        while let [option, units, ..] = *options {
            let (this, rest) = options.split_at_checked(usize::from(units).max(1) * 8)?;
            if option == wanted {
                link_layer = Mac::try_from(this.get(2..8)?).ok();
            }
            options = rest;
        }
        Some(Self {
            to: Mac::try_from(frame.get(..6)?).ok()?,
            from: Mac::try_from(frame.get(6..12)?).ok()?,
            source,
            destination,
            kind,
            target: address(62)?,
            link_layer,
        })
    }
}

/// What a frame says about neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    Arp(Arp),
    Ndp(Ndp),
}

impl Message {
    /// None for any other frame, and for one that breaks the rules of its protocol.
    pub fn read(frame: &[u8]) -> Option<Self> {
        match frame.get(12..14)? {
            [0x08, 0x06] => Arp::read(frame).map(Message::Arp),
            [0x86, 0xdd] => Ndp::read(frame).map(Message::Ndp),
            _ => None,
        }
    }

    /// The station that sent the frame.
    pub fn from(&self) -> Mac {
        match self {
            Message::Arp(arp) => arp.from,
            Message::Ndp(ndp) => ndp.from,
        }
    }

    /// Whether it tells one who asked who has the address.
    pub fn answers_for(&self, address: IpAddr) -> bool {
        match (self, address) {
            (Message::Arp(arp), IpAddr::V4(address)) => {
                arp.operation == REPLY && arp.sender.1 == address && !arp.is_gratuitous()
            }
            (Message::Ndp(ndp), IpAddr::V6(address)) => {
                let solicited =
                    matches!(ndp.kind, NdpKind::Advertisement { flags } if flags & SOLICITED != 0);
                solicited && ndp.target == address
            }
            _ => false,
        }
    }

    /// Whether it tells everybody unasked who has the address.
    pub fn claims(&self, address: IpAddr) -> bool {
        match (self, address) {
            (Message::Arp(arp), IpAddr::V4(address)) => {
                arp.is_gratuitous() && arp.sender.1 == address
            }
            (Message::Ndp(ndp), IpAddr::V6(address)) => {
                let unsolicited =
                    matches!(ndp.kind, NdpKind::Advertisement { flags } if flags & SOLICITED == 0);
                unsolicited && ndp.target == address
            }
            _ => false,
        }
    }

    /// Whether it asks who has the address, for whatever purpose.
    pub fn asks_for(&self, address: IpAddr) -> bool {
        match (self, address) {
            (Message::Arp(arp), IpAddr::V4(address)) => {
                arp.operation == REQUEST && arp.target.1 == address && !arp.is_gratuitous()
            }
            (Message::Ndp(ndp), IpAddr::V6(address)) => {
                ndp.kind == NdpKind::Solicitation && ndp.target == address
            }
            _ => false,
        }
    }

    /// Whether it asks who has the address before anybody claims it: an ARP probe (RFC 5227 section 2.1.1), or duplicate
    /// address detection (RFC 4862 section 5.4.2).
    pub fn probes(&self, address: IpAddr) -> bool {
        match (self, address) {
            (Message::Arp(arp), IpAddr::V4(address)) => {
                arp.operation == REQUEST && arp.sender.1.is_unspecified() && arp.target.1 == address
            }
            (Message::Ndp(ndp), IpAddr::V6(address)) => {
                ndp.kind == NdpKind::Solicitation
                    && ndp.source.is_unspecified()
                    && ndp.target == address
            }
            _ => false,
        }
    }
}

/// The internet checksum over pseudo-header and message (RFC 8200 section 8.1).
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let mut bytes = [source.octets(), destination.octets()].concat();
    bytes.extend(
        u32::try_from(message.len())
            .unwrap_or_default()
            .to_be_bytes(),
    );
    bytes.extend([0, 0, 0, 58]);
    bytes.extend(message);
    let words = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Mac = [2, 0xfe, 0, 0, 0, 0x64];

    #[test]
    fn a_solicitation_goes_to_the_group_of_its_target_and_sums_up_to_zero() {
        let target = "fd00:10:0:0:1::7".parse().unwrap();
        let solicitation = Ndp::solicitation(HOST, "fd00:10::100".parse().unwrap(), target);
        let frame = solicitation.bytes();
        assert_eq!(frame.get(..6), Some(&[0x33, 0x33, 0xff, 0, 0, 7][..]));
        assert_eq!(
            solicitation.destination,
            "ff02::1:ff00:7".parse::<Ipv6Addr>().unwrap()
        );
        assert_eq!(
            checksum(
                solicitation.source,
                solicitation.destination,
                frame.get(54..).unwrap()
            ),
            0
        );
    }

    #[test]
    fn what_was_written_is_read_back() {
        let (v4, v6) = (
            "10.10.1.7".parse().unwrap(),
            "fd00:10:0:0:1::7".parse().unwrap(),
        );
        let arp = Arp::claim(HOST, v4);
        assert_eq!(Message::read(&arp.bytes()), Some(Message::Arp(arp)));
        let mut unasked = Ndp::claim(HOST, v6);
        assert_eq!(Message::read(&unasked.bytes()), Some(Message::Ndp(unasked)));
        unasked.link_layer = None;
        assert_eq!(Message::read(&unasked.bytes()), Some(Message::Ndp(unasked)));
        assert!(Message::Ndp(unasked).claims(v6.into()));
        assert!(!Message::Ndp(unasked).answers_for(v6.into()));
    }

    #[test]
    fn a_probe_is_no_claim() {
        let address: Ipv4Addr = "10.10.1.7".parse().unwrap();
        let probe = Message::Arp(Arp::request(HOST, Ipv4Addr::UNSPECIFIED, address));
        assert!(probe.probes(address.into()) && !probe.claims(address.into()));
        let claim = Message::Arp(Arp::claim(HOST, address));
        assert!(claim.claims(address.into()) && !claim.probes(address.into()));
    }

    #[test]
    fn a_damaged_message_is_not_read() {
        let mut frame = Ndp::claim(HOST, "fd00:10:0:0:1::7".parse().unwrap()).bytes();
        if let Some(last) = frame.last_mut() {
            *last ^= 1;
        }
        assert_eq!(Message::read(&frame), None);
    }
}
