//! Capabilities: what a side offers in its OPEN (RFC 5492).

use super::error::EncodeError;
use super::reader::Reader;
use crate::family::{AFI_IPV6, Family};

const MULTIPROTOCOL: u8 = 1;
const ROUTE_REFRESH: u8 = 2;
const EXTENDED_NEXT_HOP: u8 = 5;
const EXTENDED_MESSAGE: u8 = 6;
const GRACEFUL_RESTART: u8 = 64;
const FOUR_OCTET_AS: u8 = 65;
const ADD_PATH: u8 = 69;
const ENHANCED_ROUTE_REFRESH: u8 = 70;

/// One family whose routes may come with a next hop of another family (RFC 8950 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtendedNextHop {
    /// Address family of the routes.
    pub afi: u16,
    /// Subsequent address family of the routes; two octets here, unlike elsewhere.
    pub safi: u16,
    /// Address family of the next hop.
    pub next_hop_afi: u16,
}

impl ExtendedNextHop {
    /// IPv4 unicast routes with an IPv6 next hop, the one case that FerroLB uses.
    pub fn ipv4_over_ipv6() -> ExtendedNextHop {
        let family = Family::Ipv4Unicast;
        ExtendedNextHop {
            afi: family.afi(),
            safi: u16::from(family.safi()),
            next_hop_afi: AFI_IPV6,
        }
    }
}

/// Of which family several paths for a prefix may come, and which way (RFC 7911 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddPath {
    /// Address family.
    pub afi: u16,
    /// Subsequent address family.
    pub safi: u8,
    /// [`AddPath::RECEIVES`], [`AddPath::SENDS`] or both together; the sender of another value means nothing by it.
    pub way: u8,
}

impl AddPath {
    /// The sender of the capability can receive several paths.
    pub const RECEIVES: u8 = 1;
    /// The sender of the capability may send several paths.
    pub const SENDS: u8 = 2;

    /// An offer to send path identifiers.
    pub fn sends(family: Family) -> AddPath {
        AddPath {
            afi: family.afi(),
            safi: family.safi(),
            way: AddPath::SENDS,
        }
    }

    /// The family of which the sender can receive several paths, if we carry it.
    pub fn receives(&self) -> Option<Family> {
        let both = AddPath::RECEIVES | AddPath::SENDS;
        Family::from_numbers(self.afi, self.safi)
            .filter(|_| self.way == AddPath::RECEIVES || self.way == both)
    }
}

/// A family whose routes are kept while their sender restarts (RFC 4724 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartFamily {
    /// Address family.
    pub afi: u16,
    /// Subsequent address family.
    pub safi: u8,
    /// [`RestartFamily::FORWARDING`] and reserved bits.
    pub flags: u8,
}

impl RestartFamily {
    /// The sender went on forwarding the traffic of the family while it restarted.
    pub const FORWARDING: u8 = 0x80;
}

/// How the sender restarts, and that it keeps routes while others do (RFC 4724 section 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GracefulRestart {
    /// [`GracefulRestart::RESTARTED`], [`GracefulRestart::NOTIFICATIONS`] and two reserved bits: four in all.
    pub flags: u8,
    /// How long a restart takes at most, in seconds: 0 to [`GracefulRestart::LONGEST`].
    pub time: u16,
    /// The families whose routes the sender asks to have kept; none from one that only keeps those of others.
    pub families: Vec<RestartFamily>,
}

impl GracefulRestart {
    /// The sender has just restarted.
    pub const RESTARTED: u8 = 0x8;
    /// Routes are kept after a NOTIFICATION too, unless that is a hard reset (RFC 8538 section 2).
    pub const NOTIFICATIONS: u8 = 0x4;
    /// The longest restart that the capability can tell, in seconds.
    pub const LONGEST: u16 = 0xfff;
}

/// One capability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Capability {
    /// Routes of this family may be exchanged (RFC 4760 section 8).
    Multiprotocol {
        /// Address family.
        afi: u16,
        /// Subsequent address family.
        safi: u8,
    },
    /// ROUTE-REFRESH is understood (RFC 2918).
    RouteRefresh,
    /// These next hops can be received (RFC 8950).
    ExtendedNextHop(Vec<ExtendedNextHop>),
    /// Messages of up to 65,535 octets are taken (RFC 8654).
    ExtendedMessage,
    /// Routes survive a restart (RFC 4724).
    GracefulRestart(GracefulRestart),
    /// AS numbers take four octets; holds the sender's (RFC 6793).
    FourOctetAs(u32),
    /// Prefixes may have path identifiers (RFC 7911).
    AddPath(Vec<AddPath>),
    /// The beginning and the end of a repetition are told (RFC 7313).
    EnhancedRouteRefresh,
    /// Not known here, or known with a length that it cannot have: kept, and without effect (RFC 5492 section 4).
    Other {
        /// Capability code.
        code: u8,
        /// Its content.
        value: Vec<u8>,
    },
}

impl Capability {
    /// The multiprotocol capability for a family.
    pub fn multiprotocol(family: Family) -> Capability {
        Capability::Multiprotocol {
            afi: family.afi(),
            safi: family.safi(),
        }
    }

    pub(super) fn decode(code: u8, value: &[u8]) -> Capability {
        Capability::decode_known(code, value).unwrap_or_else(|| Capability::Other {
            code,
            value: value.to_vec(),
        })
    }

    fn decode_known(code: u8, value: &[u8]) -> Option<Capability> {
        let mut reader = Reader::new(value);
        let capability = match code {
            MULTIPROTOCOL => {
                let (afi, reserved, safi) = (reader.u16()?, reader.u8()?, reader.u8()?);
                // The reserved octet is ignored by receivers; keeping it as unknown would refuse a usable family.
                let _ = reserved;
                Capability::Multiprotocol { afi, safi }
            }
            ROUTE_REFRESH => Capability::RouteRefresh,
            EXTENDED_NEXT_HOP => {
                let mut families = Vec::with_capacity(value.len() / 6);
                while !reader.is_empty() {
                    families.push(ExtendedNextHop {
                        afi: reader.u16()?,
                        safi: reader.u16()?,
                        next_hop_afi: reader.u16()?,
                    });
                }
                Capability::ExtendedNextHop(families)
            }
            EXTENDED_MESSAGE => Capability::ExtendedMessage,
            GRACEFUL_RESTART => {
                let word = reader.u16()?;
                let mut families = Vec::with_capacity(value.len() / 4);
                while !reader.is_empty() {
                    families.push(RestartFamily {
                        afi: reader.u16()?,
                        safi: reader.u8()?,
                        flags: reader.u8()?,
                    });
                }
                let [first, _] = word.to_be_bytes();
                Capability::GracefulRestart(GracefulRestart {
                    flags: first >> 4,
                    time: word & GracefulRestart::LONGEST,
                    families,
                })
            }
            FOUR_OCTET_AS => Capability::FourOctetAs(reader.u32()?),
            ADD_PATH => {
                let mut families = Vec::with_capacity(value.len() / 4);
                while !reader.is_empty() {
                    families.push(AddPath {
                        afi: reader.u16()?,
                        safi: reader.u8()?,
                        way: reader.u8()?,
                    });
                }
                Capability::AddPath(families)
            }
            ENHANCED_ROUTE_REFRESH => Capability::EnhancedRouteRefresh,
            _ => return None,
        };
        reader.is_empty().then_some(capability)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Capability::Multiprotocol { afi, safi } => {
                out.extend_from_slice(&[MULTIPROTOCOL, 4]);
                out.extend_from_slice(&afi.to_be_bytes());
                out.extend_from_slice(&[0, *safi]);
            }
            Capability::RouteRefresh => out.extend_from_slice(&[ROUTE_REFRESH, 0]),
            Capability::ExtendedNextHop(families) => {
                out.extend_from_slice(&[EXTENDED_NEXT_HOP, length(families.len() * 6)?]);
                for family in families {
                    out.extend_from_slice(&family.afi.to_be_bytes());
                    out.extend_from_slice(&family.safi.to_be_bytes());
                    out.extend_from_slice(&family.next_hop_afi.to_be_bytes());
                }
            }
            Capability::ExtendedMessage => out.extend_from_slice(&[EXTENDED_MESSAGE, 0]),
            Capability::GracefulRestart(restart) => {
                let octets = length(2 + restart.families.len() * 4)?;
                out.extend_from_slice(&[GRACEFUL_RESTART, octets]);
                let time = restart.time.min(GracefulRestart::LONGEST);
                let word = u16::from(restart.flags & 0xf) << 12 | time;
                out.extend_from_slice(&word.to_be_bytes());
                for family in &restart.families {
                    out.extend_from_slice(&family.afi.to_be_bytes());
                    out.extend_from_slice(&[family.safi, family.flags]);
                }
            }
            Capability::FourOctetAs(asn) => {
                out.extend_from_slice(&[FOUR_OCTET_AS, 4]);
                out.extend_from_slice(&asn.to_be_bytes());
            }
            Capability::AddPath(families) => {
                out.extend_from_slice(&[ADD_PATH, length(families.len() * 4)?]);
                for family in families {
                    out.extend_from_slice(&family.afi.to_be_bytes());
                    out.extend_from_slice(&[family.safi, family.way]);
                }
            }
            Capability::EnhancedRouteRefresh => out.extend_from_slice(&[ENHANCED_ROUTE_REFRESH, 0]),
            Capability::Other { code, value } => {
                out.extend_from_slice(&[*code, length(value.len())?]);
                out.extend_from_slice(value);
            }
        }
        Ok(())
    }
}

fn length(octets: usize) -> Result<u8, EncodeError> {
    u8::try_from(octets).map_err(|_| EncodeError::FieldTooLong("a capability"))
}
