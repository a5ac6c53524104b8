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

    /// The next prefix: its length and its address, `N` octets long, in which what is behind the length may be anything.
    fn read<const N: usize>(self, reader: &mut Reader<'_>) -> Result<(u8, [u8; N]), DecodeError> {
        if self.identified {
            reader.u32().ok_or(CUT)?;
        }
        let length = reader.u8().ok_or(CUT)?;
        let count = octets_of(length);
        if count > N {
            return Err(TOO_LONG);
        }
        // To take a whole address, where there are as many octets, is faster than to copy as many as it needs.
        if let Some(octets) = reader.peek::<N>() {
            reader.take(count).ok_or(CUT)?;
            return Ok((length, octets));
        }
        let mut octets = [0; N];
        if let Some(target) = octets.get_mut(..count) {
            target.copy_from_slice(reader.take(count).ok_or(CUT)?);
        }
        Ok((length, octets))
    }

    /// How many prefixes a field has, if they are well formed: so that they are put where they will stay.
    fn count(self, field: &[u8]) -> usize {
        let (mut at, mut count) = (self.identifier(), 0);
        while let Some(length) = field.get(at) {
            at += 1 + octets_of(*length) + self.identifier();
            count += 1;
        }
        count
    }
}

pub(super) fn read_all_v4(field: &[u8], identified: Families) -> Result<Vec<Ipv4Net>, DecodeError> {
    let form = Form::of(Family::Ipv4Unicast, identified);
    read_each(field, form, read_v4)
}

pub(super) fn read_all(
    field: &[u8],
    family: Family,
    identified: Families,
) -> Result<Vec<IpNet>, DecodeError> {
    let form = Form::of(family, identified);
    match family {
        Family::Ipv4Unicast => read_each(field, form, |form, reader| {
            read_v4(form, reader).map(IpNet::V4)
        }),
        Family::Ipv6Unicast => read_each(field, form, |form, reader| {
            let (length, octets) = form.read::<16>(reader)?;
            let kept = u128::MAX.checked_shl(128 - u32::from(length));
            let address = Ipv6Addr::from(u128::from_be_bytes(octets) & kept.unwrap_or_default());
            let net = Ipv6Net::new(address, length).map_err(|_| TOO_LONG)?;
            Ok(IpNet::V6(net))
        }),
    }
}

fn read_each<T>(
    field: &[u8],
    form: Form,
    read: impl Fn(Form, &mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut reader = Reader::new(field);
    let mut prefixes = Vec::with_capacity(form.count(field));
    while !reader.is_empty() {
        prefixes.push(read(form, &mut reader)?);
    }
    Ok(prefixes)
}

fn read_v4(form: Form, reader: &mut Reader<'_>) -> Result<Ipv4Net, DecodeError> {
    let (length, octets) = form.read::<4>(reader)?;
    let kept = u32::MAX.checked_shl(32 - u32::from(length));
    let address = Ipv4Addr::from(u32::from_be_bytes(octets) & kept.unwrap_or_default());
    Ipv4Net::new(address, length).map_err(|_| TOO_LONG)
}

const CUT: DecodeError = DecodeError::InvalidNetwork("it runs over its field");

const TOO_LONG: DecodeError =
    DecodeError::InvalidNetwork("its length is more than its family allows");

fn octets_of(length: u8) -> usize {
    usize::from(length).div_ceil(8)
}
