//! Prefixes as UPDATE messages carry them: a length in bits, then as many octets as it needs (RFC 4271 section 4.3), after
//! a path identifier where that was agreed on (RFC 7911 section 3).

use super::error::DecodeError;
use super::reader::Reader;
use crate::family::{Families, Family};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The identifier of every path that is written: there is one path for each prefix.
const PATH: u32 = 1;

/// Whether prefixes of a family have a path identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    identified: bool,
}

impl Form {
    pub(super) fn of(family: Family, identified: Families) -> Form {
        Form {
            identified: identified.contains(family),
        }
    }

    fn identifier(self) -> usize {
        if self.identified {
            size_of_val(&PATH)
        } else {
            0
        }
    }

    /// The octets of the longest prefix of a family.
    pub(super) fn longest(self, family: Family) -> usize {
        let prefix = match family {
            Family::Ipv4Unicast => 5,
            Family::Ipv6Unicast => 17,
        };
        self.identifier() + prefix
    }

    pub(super) fn push(self, out: &mut Vec<u8>, prefix: &IpNet) {
        if self.identified {
            out.extend_from_slice(&PATH.to_be_bytes());
        }
        let length = prefix.prefix_len();
        out.push(length);
        let end = out.len() + octets_of(length);
        // To write a whole address and take back what is too much is faster than to copy as many octets as it needs.
        match prefix {
            IpNet::V4(net) => out.extend_from_slice(&net.network().octets()),
            IpNet::V6(net) => out.extend_from_slice(&net.network().octets()),
        }
        out.truncate(end);
    }

    /// How many octets a prefix takes on the wire.
    pub(super) fn length_of(self, prefix: &IpNet) -> usize {
        self.identifier() + 1 + octets_of(prefix.prefix_len())
    }

    fn read_octets<const N: usize>(
        self,
        reader: &mut Reader<'_>,
    ) -> Result<(u8, [u8; N]), DecodeError> {
        const CUT: DecodeError = DecodeError::InvalidNetwork("it runs over its field");
        if self.identified {
            reader.u32().ok_or(CUT)?;
        }
        let length = reader.u8().ok_or(CUT)?;
        let mut octets = [0; N];
        let count = octets_of(length);
        let target = octets.get_mut(..count).ok_or(TOO_LONG)?;
        target.copy_from_slice(reader.take(count).ok_or(CUT)?);
        Ok((length, octets))
    }
}

pub(super) fn read_all_v4(field: &[u8], identified: Families) -> Result<Vec<Ipv4Net>, DecodeError> {
    let form = Form::of(Family::Ipv4Unicast, identified);
    let mut reader = Reader::new(field);
    let mut prefixes = Vec::new();
    while !reader.is_empty() {
        let (length, octets) = form.read_octets::<4>(&mut reader)?;
        let net = Ipv4Net::new(Ipv4Addr::from(octets), length).map_err(|_| TOO_LONG)?;
        prefixes.push(net.trunc());
    }
    Ok(prefixes)
}

pub(super) fn read_all(
    field: &[u8],
    family: Family,
    identified: Families,
) -> Result<Vec<IpNet>, DecodeError> {
    match family {
        Family::Ipv4Unicast => Ok(read_all_v4(field, identified)?
            .into_iter()
            .map(IpNet::V4)
            .collect()),
        Family::Ipv6Unicast => {
            let form = Form::of(family, identified);
            let mut reader = Reader::new(field);
            let mut prefixes = Vec::new();
            while !reader.is_empty() {
                let (length, octets) = form.read_octets::<16>(&mut reader)?;
                let net = Ipv6Net::new(Ipv6Addr::from(octets), length).map_err(|_| TOO_LONG)?;
                prefixes.push(IpNet::V6(net.trunc()));
            }
            Ok(prefixes)
        }
    }
}

const TOO_LONG: DecodeError =
    DecodeError::InvalidNetwork("its length is more than its family allows");

fn octets_of(length: u8) -> usize {
    usize::from(length).div_ceil(8)
}
