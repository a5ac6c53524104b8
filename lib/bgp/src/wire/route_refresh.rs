//! The ROUTE-REFRESH message: please send all routes of a family again (RFC 2918).

use super::error::DecodeError;
use super::reader::Reader;
use crate::family::Family;

/// A ROUTE-REFRESH message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteRefresh {
    /// Address family.
    pub afi: u16,
    /// 0 for a request; RFC 7313 gives meaning to 1 and 2, which are ignored unless negotiated.
    pub subtype: u8,
    /// Subsequent address family.
    pub safi: u8,
}

impl RouteRefresh {
    /// A request for a family.
    pub fn request(family: Family) -> RouteRefresh {
        RouteRefresh {
            afi: family.afi(),
            subtype: 0,
            safi: family.safi(),
        }
    }

    /// The family that is asked for, if this is a request for one that we carry.
    pub fn requested(&self) -> Option<Family> {
        Family::from_numbers(self.afi, self.safi).filter(|_| self.subtype == 0)
    }

    pub(super) fn decode(body: &[u8]) -> Result<RouteRefresh, DecodeError> {
        let mut reader = Reader::new(body);
        match (reader.u16(), reader.u8(), reader.u8()) {
            (Some(afi), Some(subtype), Some(safi)) if reader.is_empty() => {
                Ok(RouteRefresh { afi, subtype, safi })
            }
            _ => Err(DecodeError::BadLength(
                u16::try_from(body.len() + super::HEADER_LENGTH).unwrap_or(u16::MAX),
            )),
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.afi.to_be_bytes());
        out.extend_from_slice(&[self.subtype, self.safi]);
    }
}
