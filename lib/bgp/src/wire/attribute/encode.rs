//! Writes path attributes, in ascending order of their type as RFC 4271 section 5 recommends.

use super::decode::two_octets;
use super::{Aggregator, AsPath, AsSegment, PathAttributes, flag, kind};
use crate::family::Family;
use crate::wire::Context;
use crate::wire::error::EncodeError;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const WELL_KNOWN: u8 = flag::TRANSITIVE;
const OPTIONAL_TRANSITIVE: u8 = flag::OPTIONAL | flag::TRANSITIVE;

/// Writes everything but the attributes that carry prefixes, with this NEXT_HOP in the place of theirs.
pub(crate) fn push_attributes(
    out: &mut Vec<u8>,
    attributes: &PathAttributes,
    next_hop: Option<Ipv4Addr>,
    context: &Context,
) -> Result<(), EncodeError> {
    if let Some(origin) = attributes.origin {
        push(out, WELL_KNOWN, kind::ORIGIN, &[origin as u8])?;
    }
    if let Some(path) = &attributes.as_path {
        push_path(out, WELL_KNOWN, kind::AS_PATH, path, context.four_octet_as)?;
    }
    if let Some(next_hop) = next_hop {
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
    if let Some(aggregator) = &attributes.aggregator {
        push_aggregator(out, kind::AGGREGATOR, aggregator, context.four_octet_as)?;
    }
    let communities = &attributes.communities;
    if !communities.is_empty() {
        let octets = communities.len() * 4;
        push_header(out, OPTIONAL_TRANSITIVE, kind::COMMUNITIES, octets)?;
        out.extend(communities.iter().flat_map(|c| c.0.to_be_bytes()));
    }
    let communities = &attributes.extended_communities;
    if !communities.is_empty() {
        let octets = communities.len() * 8;
        push_header(out, OPTIONAL_TRANSITIVE, kind::EXTENDED_COMMUNITIES, octets)?;
        out.extend(communities.iter().flat_map(|community| community.0));
    }
    if !context.four_octet_as {
        push_four_octets(out, attributes)?;
    }
    let communities = &attributes.large_communities;
    if !communities.is_empty() {
        let octets = communities.len() * 12;
        push_header(out, OPTIONAL_TRANSITIVE, kind::LARGE_COMMUNITIES, octets)?;
        let numbers = communities.iter();
        let numbers = numbers.flat_map(|c| [c.global, c.local1, c.local2]);
        out.extend(numbers.flat_map(u32::to_be_bytes));
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

/// What a peer with two-octet AS numbers passes on to others with four (RFC 6793 section 4.2.2).
fn push_four_octets(out: &mut Vec<u8>, attributes: &PathAttributes) -> Result<(), EncodeError> {
    if let Some(path) = &attributes.as_path {
        let segments = path
            .0
            .iter()
            .filter(|segment| !segment.is_of_confederation());
        let path = AsPath(segments.cloned().collect());
        if has_large_number(&path) {
            push_path(out, OPTIONAL_TRANSITIVE, kind::AS4_PATH, &path, true)?;
        }
    }
    match &attributes.aggregator {
        Some(aggregator) if aggregator.asn > u32::from(u16::MAX) => {
            push_aggregator(out, kind::AS4_AGGREGATOR, aggregator, true)
        }
        _ => Ok(()),
    }
}

fn push_aggregator(
    out: &mut Vec<u8>,
    kind: u8,
    aggregator: &Aggregator,
    four_octet_as: bool,
) -> Result<(), EncodeError> {
    let octets = 4 + if four_octet_as { 4 } else { 2 };
    push_header(out, OPTIONAL_TRANSITIVE, kind, octets)?;
    push_asn(out, aggregator.asn, four_octet_as);
    out.extend_from_slice(&aggregator.router_id.octets());
    Ok(())
}

fn push_asn(out: &mut Vec<u8>, asn: u32, four_octet_as: bool) {
    if four_octet_as {
        out.extend_from_slice(&asn.to_be_bytes());
    } else {
        out.extend_from_slice(&two_octets(asn).to_be_bytes());
    }
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
    push_header(out, flags, kind, value.len())?;
    out.extend_from_slice(value);
    Ok(())
}

/// Begins an attribute with a content of so many octets.
fn push_header(out: &mut Vec<u8>, flags: u8, kind: u8, octets: usize) -> Result<(), EncodeError> {
    match u8::try_from(octets) {
        Ok(length) => out.extend_from_slice(&[flags, kind, length]),
        Err(_) => {
            let length =
                u16::try_from(octets).map_err(|_| EncodeError::FieldTooLong("a path attribute"))?;
            let [high, low] = length.to_be_bytes();
            out.extend_from_slice(&[flags | flag::EXTENDED_LENGTH, kind, high, low]);
        }
    }
    Ok(())
}

fn push_path(
    out: &mut Vec<u8>,
    flags: u8,
    kind: u8,
    path: &AsPath,
    four_octet_as: bool,
) -> Result<(), EncodeError> {
    let width = if four_octet_as { 4 } else { 2 };
    let segments = path.0.iter().map(numbers);
    let octets = segments.map(|(_, numbers)| 2 + numbers.len() * width).sum();
    push_header(out, flags, kind, octets)?;
    for (kind, numbers) in path.0.iter().map(numbers) {
        let count = u8::try_from(numbers.len())
            .map_err(|_| EncodeError::FieldTooLong("a segment of the AS path"))?;
        out.extend_from_slice(&[kind, count]);
        for asn in numbers {
            push_asn(out, *asn, four_octet_as);
        }
    }
    Ok(())
}

/// The type of a segment and its AS numbers.
fn numbers(segment: &AsSegment) -> (u8, &[u32]) {
    match segment {
        AsSegment::Set(numbers) => (1, numbers),
        AsSegment::Sequence(numbers) => (2, numbers),
        AsSegment::ConfederationSequence(numbers) => (3, numbers),
        AsSegment::ConfederationSet(numbers) => (4, numbers),
    }
}

fn has_large_number(path: &AsPath) -> bool {
    let mut all = path.0.iter().flat_map(|segment| numbers(segment).1);
    all.any(|asn| u16::try_from(*asn).is_err())
}
