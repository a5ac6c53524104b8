//! The OPEN message: who a side is and what it offers (RFC 4271 section 4.2).

use super::capability::{AddPath, Capability, ExtendedNextHop, GracefulRestart};
use super::error::{DecodeError, EncodeError};
use super::reader::Reader;
use crate::family::{Families, Family};
use std::net::Ipv4Addr;

/// The AS number that stands for one that does not fit into two octets (RFC 6793 section 9).
pub const AS_TRANS: u16 = 23456;

const VERSION: u8 = 4;
const CAPABILITIES: u8 = 2;
/// Length and first type octet that announce the long form of the parameters (RFC 9072).
const EXTENDED: u8 = 255;

/// An OPEN message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The two-octet field; [`Open::asn`] is the number that counts.
    pub as_field: u16,
    /// Proposed hold time in seconds: 0, or at least 3.
    pub hold_time: u16,
    /// BGP identifier, not necessarily an address (RFC 6286).
    pub router_id: Ipv4Addr,
    /// What the sender offers, in its order.
    pub capabilities: Vec<Capability>,
}

impl Open {
    /// An OPEN of a speaker in `asn`. The two-octet field follows from `asn`; the four-octet capability is in
    /// `capabilities`, if it is offered.
    pub fn new(
        asn: u32,
        hold_time: u16,
        router_id: Ipv4Addr,
        capabilities: Vec<Capability>,
    ) -> Open {
        Open {
            as_field: u16::try_from(asn).unwrap_or(AS_TRANS),
            hold_time,
            router_id,
            capabilities,
        }
    }

    /// The AS number of the sender: the four-octet one where it is offered (RFC 6793 section 4.1).
    pub fn asn(&self) -> u32 {
        self.four_octet_as().unwrap_or(u32::from(self.as_field))
    }

    /// The AS number in the four-octet capability, if the sender offers that.
    pub fn four_octet_as(&self) -> Option<u32> {
        self.capabilities
            .iter()
            .find_map(|capability| match capability {
                Capability::FourOctetAs(asn) => Some(*asn),
                _ => None,
            })
    }

    /// The families that the sender offers. A sender that says nothing about families means IPv4 unicast.
    pub fn families(&self) -> Families {
        let mut spoke_of_families = false;
        let offered: Families = self
            .capabilities
            .iter()
            .filter_map(|capability| match capability {
                Capability::Multiprotocol { afi, safi } => {
                    spoke_of_families = true;
                    Family::from_numbers(*afi, *safi)
                }
                _ => None,
            })
            .collect();
        if spoke_of_families {
            offered
        } else {
            Families {
                ipv4: true,
                ipv6: false,
            }
        }
    }

    /// Whether the sender can receive IPv4 routes with an IPv6 next hop (RFC 8950).
    pub fn receives_ipv4_over_ipv6(&self) -> bool {
        self.capabilities.iter().any(|capability| {
            matches!(capability, Capability::ExtendedNextHop(families)
                if families.contains(&ExtendedNextHop::ipv4_over_ipv6()))
        })
    }

    /// Whether the sender offers this capability, which has no content.
    pub fn offers(&self, capability: &Capability) -> bool {
        self.capabilities.contains(capability)
    }

    /// How the sender restarts and keeps routes (RFC 4724). Of several the last counts (section 3).
    pub fn graceful_restart(&self) -> Option<&GracefulRestart> {
        self.capabilities
            .iter()
            .rev()
            .find_map(|capability| match capability {
                Capability::GracefulRestart(restart) => Some(restart),
                _ => None,
            })
    }

    /// The families of which the sender takes path identifiers (RFC 7911).
    pub fn receives_path_identifiers(&self) -> Families {
        self.capabilities
            .iter()
            .filter_map(|capability| match capability {
                Capability::AddPath(families) => Some(families),
                _ => None,
            })
            .flatten()
            .filter_map(AddPath::receives)
            .collect()
    }

    /// Whether the sender understands ROUTE-REFRESH (RFC 2918).
    pub fn understands_route_refresh(&self) -> bool {
        self.capabilities.contains(&Capability::RouteRefresh)
    }

    pub(super) fn decode(body: &[u8]) -> Result<Open, DecodeError> {
        const SHORT: DecodeError = DecodeError::MalformedOpen("it ends too early");
        let mut reader = Reader::new(body);
        let version = reader.u8().ok_or(SHORT)?;
        if version != VERSION {
            return Err(DecodeError::UnsupportedVersion(version));
        }
        let as_field = reader.u16().ok_or(SHORT)?;
        let hold_time = reader.u16().ok_or(SHORT)?;
        let router_id = Ipv4Addr::from(reader.u32().ok_or(SHORT)?);
        let capabilities = decode_parameters(&mut reader)?;
        if matches!(hold_time, 1 | 2) {
            return Err(DecodeError::UnacceptableHoldTime(hold_time));
        }
        Ok(Open {
            as_field,
            hold_time,
            router_id,
            capabilities,
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.push(VERSION);
        out.extend_from_slice(&self.as_field.to_be_bytes());
        out.extend_from_slice(&self.hold_time.to_be_bytes());
        out.extend_from_slice(&self.router_id.octets());
        // Room for the short form of the lengths, which nearly always does.
        let lengths = out.len();
        out.extend_from_slice(&[0; 3]);
        let content = out.len();
        for capability in &self.capabilities {
            capability.encode(out)?;
        }
        let octets = out.len() - content;
        match (u8::try_from(octets + 2), u8::try_from(octets)) {
            _ if octets == 0 => {
                out.truncate(lengths);
                out.push(0);
            }
            (Ok(parameters), Ok(parameter)) if parameters != EXTENDED => {
                out.splice(lengths..content, [parameters, CAPABILITIES, parameter]);
            }
            _ => {
                let parameter = u16::try_from(octets)
                    .map_err(|_| EncodeError::FieldTooLong("the capabilities of the OPEN"))?;
                let parameters = parameter.checked_add(3).ok_or(EncodeError::FieldTooLong(
                    "the optional parameters of the OPEN",
                ))?;
                let ([p, q], [r, s]) = (parameters.to_be_bytes(), parameter.to_be_bytes());
                out.splice(
                    lengths..content,
                    [EXTENDED, EXTENDED, p, q, CAPABILITIES, r, s],
                );
            }
        }
        Ok(())
    }
}

fn decode_parameters(reader: &mut Reader<'_>) -> Result<Vec<Capability>, DecodeError> {
    const WRONG_LENGTH: DecodeError =
        DecodeError::MalformedOpen("the optional parameters contradict their length");
    let mut length = usize::from(reader.u8().ok_or(WRONG_LENGTH)?);
    // RFC 9072 section 2: the long form shows by its type octet alone; the length octet should be 255 but need not.
    let mut ahead = *reader;
    let extended = length != 0 && ahead.u8() == Some(EXTENDED);
    if extended {
        *reader = ahead;
        length = usize::from(reader.u16().ok_or(WRONG_LENGTH)?);
    }
    if length != reader.remaining() {
        return Err(WRONG_LENGTH);
    }
    // What routers send; as many as there are octets for, if that is less.
    let mut capabilities = Vec::with_capacity(reader.remaining().div_ceil(2).min(12));
    while !reader.is_empty() {
        let kind = reader.u8().ok_or(WRONG_LENGTH)?;
        let octets = if extended {
            reader.u16()
        } else {
            reader.u8().map(u16::from)
        }
        .ok_or(WRONG_LENGTH)?;
        let content = reader.take(usize::from(octets)).ok_or(WRONG_LENGTH)?;
        if kind != CAPABILITIES {
            return Err(DecodeError::UnsupportedParameter(kind));
        }
        let mut content = Reader::new(content);
        while !content.is_empty() {
            const CUT: DecodeError =
                DecodeError::MalformedOpen("a capability runs over its parameter");
            let code = content.u8().ok_or(CUT)?;
            let octets = content.u8().ok_or(CUT)?;
            capabilities.push(Capability::decode(
                code,
                content.take(usize::from(octets)).ok_or(CUT)?,
            ));
        }
    }
    Ok(capabilities)
}
