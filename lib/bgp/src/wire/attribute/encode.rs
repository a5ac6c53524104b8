//! Writes path attributes, in ascending order of their type as RFC 4271 section 5 recommends.

use super::decode::two_octets;
use super::{AsPath, AsSegment, PathAttributes, flag, kind};
use crate::family::Family;
use crate::wire::Context;
use crate::wire::error::EncodeError;
use std::net::{IpAddr, Ipv6Addr};

const WELL_KNOWN: u8 = flag::TRANSITIVE;
const OPTIONAL_TRANSITIVE: u8 = flag::OPTIONAL | flag::TRANSITIVE;

/// Writes everything but the attributes that carry prefixes.
pub(crate) fn push_attributes(
    out: &mut Vec<u8>,
    attributes: &PathAttributes,
    context: &Context,
) -> Result<(), EncodeError> {
    if let Some(origin) = attributes.origin {
        push(out, WELL_KNOWN, kind::ORIGIN, &[origin as u8])?;
    }
    let mut as4_path = None;
    if let Some(path) = &attributes.as_path {
        push(
            out,
            WELL_KNOWN,
            kind::AS_PATH,
            &segments(path, context.four_octet_as)?,
        )?;
        if !context.four_octet_as && has_large_number(path) {
            let mut path = path.clone();
            path.0.retain(|segment| !segment.is_of_confederation());
            as4_path = Some(segments(&path, true)?);
        }
    }
    if let Some(next_hop) = attributes.next_hop {
        push(out, WELL_KNOWN, kind::NEXT_HOP, &next_hop.octets())?;
    }
    if let Some(metric) = attributes.multi_exit_disc {
        push(
            out,
            flag::OPTIONAL,
            kind::MULTI_EXIT_DISC,
            &metric.to_be_bytes(),
        )?;
    }
    if let Some(preference) = attributes.local_pref {
        push(out, WELL_KNOWN, kind::LOCAL_PREF, &preference.to_be_bytes())?;
    }
    if attributes.atomic_aggregate {
        push(out, WELL_KNOWN, kind::ATOMIC_AGGREGATE, &[])?;
    }
    if let Some(aggregator) = attributes.aggregator {
        let mut value = Vec::with_capacity(8);
        if context.four_octet_as {
            value.extend_from_slice(&aggregator.asn.to_be_bytes());
        } else {
            value.extend_from_slice(&two_octets(aggregator.asn).to_be_bytes());
        }
        value.extend_from_slice(&aggregator.router_id.octets());
        push(out, OPTIONAL_TRANSITIVE, kind::AGGREGATOR, &value)?;
    }
    if !attributes.communities.is_empty() {
        let value: Vec<u8> = attributes
            .communities
            .iter()
            .flat_map(|c| c.0.to_be_bytes())
            .collect();
        push(out, OPTIONAL_TRANSITIVE, kind::COMMUNITIES, &value)?;
    }
    if !attributes.extended_communities.is_empty() {
        let communities = attributes.extended_communities.iter();
        let value: Vec<u8> = communities.flat_map(|community| community.0).collect();
        push(out, OPTIONAL_TRANSITIVE, kind::EXTENDED_COMMUNITIES, &value)?;
    }
    if let Some(path) = as4_path {
        push(out, OPTIONAL_TRANSITIVE, kind::AS4_PATH, &path)?;
    }
    if let Some(aggregator) = attributes.aggregator
        && !context.four_octet_as
        && aggregator.asn > u32::from(u16::MAX)
    {
        let mut value = aggregator.asn.to_be_bytes().to_vec();
        value.extend_from_slice(&aggregator.router_id.octets());
        push(out, OPTIONAL_TRANSITIVE, kind::AS4_AGGREGATOR, &value)?;
    }
    if !attributes.large_communities.is_empty() {
        let value: Vec<u8> = attributes
            .large_communities
            .iter()
            .flat_map(|c| [c.global, c.local1, c.local2])
            .flat_map(u32::to_be_bytes)
            .collect();
        push(out, OPTIONAL_TRANSITIVE, kind::LARGE_COMMUNITIES, &value)?;
    }
    for raw in &attributes.other {
        push(
            out,
            raw.flags & !flag::EXTENDED_LENGTH,
            raw.kind,
            &raw.value,
        )?;
    }
    Ok(())
}

/// Begins MP_REACH_NLRI up to where its prefixes follow, `octets` of them.
pub(crate) fn push_mp_reach_header(
    out: &mut Vec<u8>,
    family: Family,
    next_hop: IpAddr,
    link_local: Option<Ipv6Addr>,
    octets: usize,
) -> Result<(), EncodeError> {
    let mut hop = [0u8; 32];
    let length = match (next_hop, link_local) {
        (IpAddr::V4(address), _) => fill(&mut hop, &[&address.octets()]),
        (IpAddr::V6(address), None) => fill(&mut hop, &[&address.octets()]),
        (IpAddr::V6(address), Some(link_local)) => {
            fill(&mut hop, &[&address.octets(), &link_local.octets()])
        }
    };
    push_mp_header(out, kind::MP_REACH_NLRI, 5 + length + octets, family)?;
    out.push(u8::try_from(length).unwrap_or(u8::MAX));
    out.extend_from_slice(hop.get(..length).unwrap_or_default());
    out.push(0);
    Ok(())
}

/// Begins MP_UNREACH_NLRI up to where its prefixes follow, `octets` of them.
pub(crate) fn push_mp_unreach_header(
    out: &mut Vec<u8>,
    family: Family,
    octets: usize,
) -> Result<(), EncodeError> {
    push_mp_header(out, kind::MP_UNREACH_NLRI, 3 + octets, family)
}

fn push_mp_header(
    out: &mut Vec<u8>,
    kind: u8,
    length: usize,
    family: Family,
) -> Result<(), EncodeError> {
    let length = u16::try_from(length)
        .map_err(|_| EncodeError::FieldTooLong("a multiprotocol attribute"))?;
    out.extend_from_slice(&[flag::OPTIONAL | flag::EXTENDED_LENGTH, kind]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&family.afi().to_be_bytes());
    out.push(family.safi());
    Ok(())
}

fn fill(target: &mut [u8; 32], parts: &[&[u8]]) -> usize {
    let mut length = 0;
    for (place, octet) in target.iter_mut().zip(parts.iter().copied().flatten()) {
        *place = *octet;
        length += 1;
    }
    length
}

fn push(out: &mut Vec<u8>, flags: u8, kind: u8, value: &[u8]) -> Result<(), EncodeError> {
    match u8::try_from(value.len()) {
        Ok(length) => out.extend_from_slice(&[flags, kind, length]),
        Err(_) => {
            let length = u16::try_from(value.len())
                .map_err(|_| EncodeError::FieldTooLong("a path attribute"))?;
            out.extend_from_slice(&[flags | flag::EXTENDED_LENGTH, kind]);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    out.extend_from_slice(value);
    Ok(())
}

fn segments(path: &AsPath, four_octet_as: bool) -> Result<Vec<u8>, EncodeError> {
    let mut value = Vec::new();
    for segment in &path.0 {
        let (kind, numbers) = match segment {
            AsSegment::Set(numbers) => (1, numbers),
            AsSegment::Sequence(numbers) => (2, numbers),
            AsSegment::ConfederationSequence(numbers) => (3, numbers),
            AsSegment::ConfederationSet(numbers) => (4, numbers),
        };
        let count = u8::try_from(numbers.len())
            .map_err(|_| EncodeError::FieldTooLong("a segment of the AS path"))?;
        value.extend_from_slice(&[kind, count]);
        for asn in numbers {
            if four_octet_as {
                value.extend_from_slice(&asn.to_be_bytes());
            } else {
                value.extend_from_slice(&two_octets(*asn).to_be_bytes());
            }
        }
    }
    Ok(value)
}

fn has_large_number(path: &AsPath) -> bool {
    path.0.iter().any(|segment| {
        let (AsSegment::Set(numbers)
        | AsSegment::Sequence(numbers)
        | AsSegment::ConfederationSequence(numbers)
        | AsSegment::ConfederationSet(numbers)) = segment;
        numbers.iter().any(|asn| u16::try_from(*asn).is_err())
    })
}
