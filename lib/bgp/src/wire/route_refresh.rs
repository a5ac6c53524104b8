//! The ROUTE-REFRESH message: please send all routes of a family again (RFC 2918), and where their repetition begins and ends
//! (RFC 7313).

use super::error::DecodeError;
use super::reader::Reader;
use crate::family::Family;

/// What a ROUTE-REFRESH means (RFC 7313 section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refresh {
    /// Please send all routes again.
    Request,
    /// All routes are sent again from here on (BoRR).
    Begin,
    /// All routes have been sent again (EoRR).
    End,
}

/// A ROUTE-REFRESH message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteRefresh {
    /// Address family.
    pub afi: u16,
    /// Message subtype; see [`RouteRefresh::meaning`].
    pub subtype: u8,
    /// Subsequent address family.
    pub safi: u8,
}

impl RouteRefresh {
    /// A message about a family.
    pub fn new(meaning: Refresh, family: Family) -> RouteRefresh {
        RouteRefresh {
            afi: family.afi(),
            subtype: match meaning {
                Refresh::Request => 0,
                Refresh::Begin => 1,
                Refresh::End => 2,
            },
            safi: family.safi(),
        }
    }

    /// A request for a family.
    pub fn request(family: Family) -> RouteRefresh {
        RouteRefresh::new(Refresh::Request, family)
    }

    /// What it means; `None` for a subtype that is to be ignored (RFC 7313 section 5). `enhanced` says whether the sender
    /// has the capability of RFC 7313: from another, the octet is reserved and to be ignored (RFC 2918 section 3), and the
    /// message a request.
    pub fn meaning(&self, enhanced: bool) -> Option<Refresh> {
        Some(match self.subtype {
            _ if !enhanced => Refresh::Request,
            0 => Refresh::Request,
            1 => Refresh::Begin,
            2 => Refresh::End,
            _ => return None,
        })
    }

    /// The family that is asked for, if this is a request for one that we carry; `enhanced` as in
    /// [`RouteRefresh::meaning`].
    pub fn requested(&self, enhanced: bool) -> Option<Family> {
        Family::from_numbers(self.afi, self.safi)
            .filter(|_| self.meaning(enhanced) == Some(Refresh::Request))
    }

    /// RFC 7313 section 5 ignores subtypes that it does not know, whatever their length, and has an error of its own for a
    /// wrong length of the two that it made; all of that only where the peer has its capability.
    pub(super) fn decode(
        message: &[u8],
        body: &[u8],
        enhanced: bool,
    ) -> Result<RouteRefresh, DecodeError> {
        let length = || DecodeError::BadLength(u16::try_from(message.len()).unwrap_or(u16::MAX));
        let mut reader = Reader::new(body);
        let (Some(afi), Some(subtype)) = (reader.u16(), reader.u8()) else {
            return Err(length());
        };
        let safi = reader.u8();
        let right = safi.is_some() && reader.is_empty();
        let refresh = RouteRefresh {
            afi,
            subtype,
            safi: safi.unwrap_or_default(),
        };
        match refresh.meaning(enhanced) {
            None => Ok(refresh),
            Some(_) if right => Ok(refresh),
            Some(Refresh::Request) => Err(length()),
            Some(Refresh::Begin | Refresh::End) => {
                Err(DecodeError::RouteRefreshLength(message.to_vec()))
            }
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.afi.to_be_bytes());
        out.extend_from_slice(&[self.subtype, self.safi]);
    }
}
