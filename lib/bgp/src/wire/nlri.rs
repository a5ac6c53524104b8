//! Prefixes as UPDATE messages carry them: a length in bits, then as many octets as it needs (RFC 4271 section 4.3).

use super::error::DecodeError;
use super::reader::Reader;
use crate::family::Family;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The octets of the longest prefix of a family.
pub(super) fn longest(family: Family) -> usize {
    match family {
        Family::Ipv4Unicast => 5,
        Family::Ipv6Unicast => 17,
    }
}

pub(super) fn push(out: &mut Vec<u8>, prefix: &IpNet) {
    let (length, v4, v6);
    let octets: &[u8] = match prefix {
        IpNet::V4(net) => {
            (length, v4) = (net.prefix_len(), net.network().octets());
            &v4
        }
        IpNet::V6(net) => {
            (length, v6) = (net.prefix_len(), net.network().octets());
            &v6
        }
    };
    out.push(length);
    out.extend_from_slice(octets.get(..octets_of(length)).unwrap_or(octets));
}

/// How many octets a prefix takes on the wire, its length octet included.
pub(super) fn encoded_length(prefix: &IpNet) -> usize {
    1 + octets_of(prefix.prefix_len())
}

pub(super) fn read_all_v4(field: &[u8]) -> Result<Vec<Ipv4Net>, DecodeError> {
    let mut reader = Reader::new(field);
    let mut prefixes = Vec::new();
    while !reader.is_empty() {
        let (length, octets) = read_octets::<4>(&mut reader)?;
        let net = Ipv4Net::new(Ipv4Addr::from(octets), length).map_err(|_| TOO_LONG)?;
        prefixes.push(net.trunc());
    }
    Ok(prefixes)
}

pub(super) fn read_all(field: &[u8], family: Family) -> Result<Vec<IpNet>, DecodeError> {
    match family {
        Family::Ipv4Unicast => Ok(read_all_v4(field)?.into_iter().map(IpNet::V4).collect()),
        Family::Ipv6Unicast => {
            let mut reader = Reader::new(field);
            let mut prefixes = Vec::new();
            while !reader.is_empty() {
                let (length, octets) = read_octets::<16>(&mut reader)?;
                let net = Ipv6Net::new(Ipv6Addr::from(octets), length).map_err(|_| TOO_LONG)?;
                prefixes.push(IpNet::V6(net.trunc()));
            }
            Ok(prefixes)
        }
    }
}

const TOO_LONG: DecodeError =
    DecodeError::InvalidNetwork("its length is more than its family allows");

fn read_octets<const N: usize>(reader: &mut Reader<'_>) -> Result<(u8, [u8; N]), DecodeError> {
    const CUT: DecodeError = DecodeError::InvalidNetwork("it runs over its field");
    let length = reader.u8().ok_or(CUT)?;
    let mut octets = [0; N];
    let count = octets_of(length);
    let target = octets.get_mut(..count).ok_or(TOO_LONG)?;
    target.copy_from_slice(reader.take(count).ok_or(CUT)?);
    Ok((length, octets))
}

fn octets_of(length: u8) -> usize {
    usize::from(length).div_ceil(8)
}
