//! Reads path attributes, sorting errors into those that end the session and those that do not (RFC 7606).

use super::{
    Aggregator, AsPath, AsSegment, AttributeFault, Community, ExtendedCommunity, LargeCommunity,
    MpReach, MpUnreach, Origin, PathAttributes, RawAttribute, flag, kind,
};
use crate::family::{Families, Family};
use crate::wire::Context;
use crate::wire::error::DecodeError;
use crate::wire::nlri;
use crate::wire::open::AS_TRANS;
use crate::wire::reader::Reader;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Everything that the attribute field of an UPDATE holds.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    pub(crate) attributes: PathAttributes,
    pub(crate) mp_reach: Option<MpReach>,
    pub(crate) mp_unreach: Option<MpUnreach>,
    /// The first fault that makes the UPDATE a withdrawal.
    pub(crate) fault: Option<AttributeFault>,
    /// Some attribute is not MP_UNREACH_NLRI.
    pub(crate) describes: bool,
    /// There is an MP_REACH_NLRI for a family that we do not carry.
    pub(crate) reaches_elsewhere: bool,
    as4_path: Option<AsPath>,
    as4_aggregator: Option<Aggregator>,
}

/// What becomes of one attribute.
enum Outcome {
    Kept,
    /// Left out, as if it had not been sent (RFC 7606 section 2, "attribute discard").
    Discarded,
    /// Its UPDATE is treated as a withdrawal.
    Faulty(&'static str),
}

pub(crate) fn decode(field: &[u8], context: &Context) -> Result<Decoded, DecodeError> {
    let mut decoded = Decoded::default();
    let mut seen = [false; 256];
    let mut reader = Reader::new(field);
    while !reader.is_empty() {
        // RFC 7606 section 4: an attribute that runs over the field makes a withdrawal of the UPDATE; the prefixes after
        // the field can still be found.
        let before = reader;
        let Some((flags, kind, value)) = next(&mut reader) else {
            decoded.note(0, "an attribute runs over the field");
            decoded.describes = true;
            break;
        };
        let first = !seen.get(usize::from(kind)).copied().unwrap_or_default();
        if let Some(seen) = seen.get_mut(usize::from(kind)) {
            *seen = true;
        }
        if !first {
            // RFC 7606 section 3 (g).
            if matches!(kind, kind::MP_REACH_NLRI | kind::MP_UNREACH_NLRI) {
                return Err(DecodeError::MalformedAttributeList(
                    "a multiprotocol attribute occurs twice",
                ));
            }
            continue;
        }
        decoded.describes |= kind != kind::MP_UNREACH_NLRI;
        let octets = before.remaining() - reader.remaining();
        let whole = || { before }.take(octets).unwrap_or_default().to_vec();
        match decode_one(&mut decoded, flags, kind, value, context, &whole)? {
            Outcome::Kept | Outcome::Discarded => {}
            Outcome::Faulty(what) => decoded.note(kind, what),
        }
    }
    decoded.widen();
    Ok(decoded)
}

impl Decoded {
    pub(crate) fn note(&mut self, kind: u8, what: &'static str) {
        self.fault.get_or_insert(AttributeFault { kind, what });
    }

    /// Keeps an attribute that is not interpreted.
    fn keep_raw(&mut self, flags: u8, kind: u8, value: &[u8]) -> Outcome {
        self.attributes.other.push(RawAttribute {
            flags: flags & !flag::EXTENDED_LENGTH,
            kind,
            value: value.to_vec(),
        });
        Outcome::Kept
    }

    /// Puts the four-octet AS numbers in the place of the two-octet ones (RFC 6793 section 4.2.3).
    fn widen(&mut self) {
        if let Some(aggregator) = &mut self.attributes.aggregator {
            let four_octets = self.as4_aggregator.take();
            if aggregator.asn == u32::from(AS_TRANS) {
                *aggregator = four_octets.unwrap_or(*aggregator);
            } else if four_octets.is_some() {
                // Who aggregated last knew no four-octet AS numbers, and what came before is not what the path says.
                self.as4_path = None;
            }
        }
        if let (Some(short), Some(long)) = (&self.attributes.as_path, self.as4_path.take()) {
            self.attributes.as_path = Some(merge_as4(short, long));
        }
    }
}

fn next<'a>(reader: &mut Reader<'a>) -> Option<(u8, u8, &'a [u8])> {
    let (flags, kind) = (reader.u8()?, reader.u8()?);
    let length = if flags & flag::EXTENDED_LENGTH != 0 {
        reader.u16()?
    } else {
        u16::from(reader.u8()?)
    };
    Some((flags, kind, reader.take(usize::from(length))?))
}

fn decode_one(
    decoded: &mut Decoded,
    flags: u8,
    kind: u8,
    value: &[u8],
    context: &Context,
    whole: &dyn Fn() -> Vec<u8>,
) -> Result<Outcome, DecodeError> {
    // Of no meaning from another AS (RFC 7606 sections 7.9 and 7.10), and between speakers with four-octet AS numbers (RFC 6793
    // section 4.1), whatever their form.
    let meaningless = match kind {
        kind::ORIGINATOR_ID | kind::CLUSTER_LIST => !context.internal,
        kind::AS4_PATH | kind::AS4_AGGREGATOR => context.four_octet_as,
        _ => false,
    };
    if meaningless {
        return Ok(Outcome::Discarded);
    }
    let class = flags & (flag::OPTIONAL | flag::TRANSITIVE);
    let expected = match kind {
        kind::ORIGIN
        | kind::AS_PATH
        | kind::NEXT_HOP
        | kind::LOCAL_PREF
        | kind::ATOMIC_AGGREGATE => flag::TRANSITIVE,
        kind::MULTI_EXIT_DISC
        | kind::ORIGINATOR_ID
        | kind::CLUSTER_LIST
        | kind::MP_REACH_NLRI
        | kind::MP_UNREACH_NLRI => flag::OPTIONAL,
        kind::AGGREGATOR
        | kind::COMMUNITIES
        | kind::EXTENDED_COMMUNITIES
        | kind::AS4_PATH
        | kind::AS4_AGGREGATOR
        | kind::LARGE_COMMUNITIES => flag::OPTIONAL | flag::TRANSITIVE,
        _ if flags & flag::OPTIONAL == 0 => return Err(DecodeError::UnknownWellKnown(whole())),
        _ => {
            return Ok(decoded.keep_raw(flags, kind, value));
        }
    };
    let multiprotocol = matches!(kind, kind::MP_REACH_NLRI | kind::MP_UNREACH_NLRI);
    if class != expected && !multiprotocol {
        // RFC 7606 section 3 (c). The multiprotocol attributes are read all the same: their routes must be known.
        return Ok(Outcome::Faulty("its flags contradict its type"));
    }
    let attributes = &mut decoded.attributes;
    Ok(match kind {
        kind::ORIGIN => match value {
            [0] => keep(&mut attributes.origin, Origin::Igp),
            [1] => keep(&mut attributes.origin, Origin::Egp),
            [2] => keep(&mut attributes.origin, Origin::Incomplete),
            _ => Outcome::Faulty("it is not one of the three origins"),
        },
        kind::AS_PATH => match as_path(value, context.four_octet_as) {
            Some(path) => keep(&mut attributes.as_path, path),
            None => Outcome::Faulty("a segment contradicts its length, or has AS 0"),
        },
        kind::AS4_PATH => match as_path(value, true) {
            // RFC 6793 section 6.
            Some(mut path) => {
                path.0.retain(|segment| !segment.is_of_confederation());
                keep(&mut decoded.as4_path, path)
            }
            None => Outcome::Discarded,
        },
        kind::AS4_AGGREGATOR => match aggregator(value, true) {
            Some(aggregator) => keep(&mut decoded.as4_aggregator, aggregator),
            None => Outcome::Discarded,
        },
        kind::ORIGINATOR_ID if value.len() != 4 => Outcome::Faulty("it is not four octets long"),
        kind::CLUSTER_LIST if value.is_empty() || !value.len().is_multiple_of(4) => {
            Outcome::Faulty("it is not a list of cluster identifiers")
        }
        kind::ORIGINATOR_ID | kind::CLUSTER_LIST => decoded.keep_raw(flags, kind, value),
        kind::NEXT_HOP => match <[u8; 4]>::try_from(value) {
            Ok(octets) => keep(&mut attributes.next_hop, Ipv4Addr::from(octets)),
            Err(_) => Outcome::Faulty("it is not four octets long"),
        },
        kind::MULTI_EXIT_DISC => match number(value) {
            Some(metric) => keep(&mut attributes.multi_exit_disc, metric),
            None => Outcome::Faulty("it is not four octets long"),
        },
        // RFC 7606 section 7.5: meaningless from another AS, whatever its form.
        kind::LOCAL_PREF if !context.internal => Outcome::Discarded,
        kind::LOCAL_PREF => match number(value) {
            Some(preference) => keep(&mut attributes.local_pref, preference),
            None => Outcome::Faulty("it is not four octets long"),
        },
        kind::ATOMIC_AGGREGATE if value.is_empty() => {
            attributes.atomic_aggregate = true;
            Outcome::Kept
        }
        kind::ATOMIC_AGGREGATE => Outcome::Discarded,
        kind::AGGREGATOR => match aggregator(value, context.four_octet_as) {
            Some(aggregator) => keep(&mut attributes.aggregator, aggregator),
            None => Outcome::Discarded,
        },
        kind::COMMUNITIES => match value.as_chunks::<4>() {
            (communities @ [_, ..], []) => {
                attributes.communities = communities
                    .iter()
                    .map(|c| Community(u32::from_be_bytes(*c)))
                    .collect();
                Outcome::Kept
            }
            _ => Outcome::Faulty("it is not a list of communities"),
        },
        // RFC 7606 section 7.14.
        kind::EXTENDED_COMMUNITIES => match value.as_chunks::<8>() {
            (communities @ [_, ..], []) => {
                attributes.extended_communities =
                    communities.iter().copied().map(ExtendedCommunity).collect();
                Outcome::Kept
            }
            _ => Outcome::Faulty("it is not a list of extended communities"),
        },
        kind::LARGE_COMMUNITIES => match value.as_chunks::<12>() {
            (communities @ [_, ..], []) => {
                attributes.large_communities = communities
                    .iter()
                    .filter_map(|c| large_community(c))
                    .collect();
                Outcome::Kept
            }
            _ => Outcome::Faulty("it is not a list of large communities"),
        },
        _ => {
            let error = |what| DecodeError::OptionalAttribute(what, whole());
            if kind == kind::MP_REACH_NLRI {
                decoded.mp_reach = mp_reach(value, context.identifiers_read).map_err(error)?;
                decoded.reaches_elsewhere = decoded.mp_reach.is_none();
            } else {
                decoded.mp_unreach = mp_unreach(value, context.identifiers_read).map_err(error)?;
            }
            if class == expected {
                Outcome::Kept
            } else {
                Outcome::Faulty("its flags contradict its type")
            }
        }
    })
}

fn keep<T>(place: &mut Option<T>, value: T) -> Outcome {
    *place = Some(value);
    Outcome::Kept
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

fn large_community(octets: &[u8]) -> Option<LargeCommunity> {
    let mut reader = Reader::new(octets);
    Some(LargeCommunity {
        global: reader.u32()?,
        local1: reader.u32()?,
        local2: reader.u32()?,
    })
}

/// `None` if it is malformed, which it is with AS 0 too (RFC 7607 section 2).
fn aggregator(value: &[u8], four_octet_as: bool) -> Option<Aggregator> {
    let mut reader = Reader::new(value);
    let asn = if four_octet_as {
        reader.u32()?
    } else {
        u32::from(reader.u16()?)
    };
    let router_id = Ipv4Addr::from(reader.u32()?);
    (reader.is_empty() && asn != 0).then_some(Aggregator { asn, router_id })
}

/// `None` if it is malformed, which it is with AS 0 too (RFC 7607 section 2).
fn as_path(value: &[u8], four_octet_as: bool) -> Option<AsPath> {
    let mut reader = Reader::new(value);
    let mut segments = Vec::new();
    while !reader.is_empty() {
        let (kind, count) = (reader.u8()?, reader.u8()?);
        if count == 0 {
            return None;
        }
        let width = if four_octet_as { 4 } else { 2 };
        let octets = reader.take(usize::from(count) * width)?;
        let numbers: Vec<u32> = if four_octet_as {
            let (numbers, _) = octets.as_chunks::<4>();
            numbers.iter().copied().map(u32::from_be_bytes).collect()
        } else {
            let (numbers, _) = octets.as_chunks::<2>();
            let numbers = numbers.iter().copied().map(u16::from_be_bytes);
            numbers.map(u32::from).collect()
        };
        if numbers.contains(&0) {
            return None;
        }
        segments.push(match kind {
            1 => AsSegment::Set(numbers),
            2 => AsSegment::Sequence(numbers),
            3 => AsSegment::ConfederationSequence(numbers),
            4 => AsSegment::ConfederationSet(numbers),
            _ => return None,
        });
    }
    Some(AsPath(segments))
}

/// RFC 6793 section 4.2.3: the four-octet path replaces the tail of the two-octet one that it describes; it is ignored if
/// it is longer.
fn merge_as4(short: &AsPath, long: AsPath) -> AsPath {
    let (have, known) = (path_length(short), path_length(&long));
    let Some(mut lead) = have.checked_sub(known) else {
        return short.clone();
    };
    let mut segments = Vec::new();
    for segment in &short.0 {
        match segment {
            // Those of a confederation count for nothing, and stay where what they are beside stays.
            AsSegment::ConfederationSequence(_) | AsSegment::ConfederationSet(_) => {
                segments.push(segment.clone());
            }
            _ if lead == 0 => break,
            AsSegment::Sequence(numbers) => {
                let part: Vec<u32> = numbers.iter().copied().take(lead).collect();
                lead -= part.len();
                let whole = part.len() == numbers.len();
                segments.push(AsSegment::Sequence(part));
                if !whole {
                    break;
                }
            }
            AsSegment::Set(_) => {
                lead -= 1;
                segments.push(segment.clone());
            }
        }
    }
    segments.extend(long.0);
    AsPath(segments)
}

fn path_length(path: &AsPath) -> usize {
    path.0
        .iter()
        .map(|segment| match segment {
            AsSegment::Sequence(numbers) => numbers.len(),
            AsSegment::Set(_) => 1,
            _ => 0,
        })
        .sum()
}

/// `None` for a family that we do not carry, whose routes are none of our business.
fn mp_reach(value: &[u8], identified: Families) -> Result<Option<MpReach>, &'static str> {
    const CUT: &str = "it ends too early";
    let mut reader = Reader::new(value);
    let (afi, safi) = (reader.u16().ok_or(CUT)?, reader.u8().ok_or(CUT)?);
    let length = reader.u8().ok_or(CUT)?;
    let next_hop = reader
        .take(usize::from(length))
        .ok_or("its next hop runs over it")?;
    reader.u8().ok_or(CUT)?;
    let Some(family) = Family::from_numbers(afi, safi) else {
        return Ok(None);
    };
    let (next_hop, link_local) =
        next_hop_of(family, next_hop).ok_or("its next hop has an impossible length")?;
    let prefixes = nlri::read_all(reader.rest(), family, identified)
        .map_err(|_| "a prefix of it is invalid")?;
    Ok(Some(MpReach {
        family,
        next_hop,
        link_local,
        prefixes,
    }))
}

fn next_hop_of(family: Family, octets: &[u8]) -> Option<(IpAddr, Option<Ipv6Addr>)> {
    let mut reader = Reader::new(octets);
    match (octets.len(), family) {
        (4, Family::Ipv4Unicast) => Some((IpAddr::from(reader.array::<4>()?), None)),
        (16, _) => Some((IpAddr::from(reader.array::<16>()?), None)),
        (32, _) => Some((
            IpAddr::from(reader.array::<16>()?),
            Some(Ipv6Addr::from(reader.array::<16>()?)),
        )),
        _ => None,
    }
}

fn mp_unreach(value: &[u8], identified: Families) -> Result<Option<MpUnreach>, &'static str> {
    const CUT: &str = "it ends too early";
    let mut reader = Reader::new(value);
    let (afi, safi) = (reader.u16().ok_or(CUT)?, reader.u8().ok_or(CUT)?);
    let Some(family) = Family::from_numbers(afi, safi) else {
        return Ok(None);
    };
    let prefixes = nlri::read_all(reader.rest(), family, identified)
        .map_err(|_| "a prefix of it is invalid")?;
    Ok(Some(MpUnreach { family, prefixes }))
}

/// The two-octet form of an AS number (RFC 6793 section 4.2.2).
pub(super) fn two_octets(asn: u32) -> u16 {
    u16::try_from(asn).unwrap_or(AS_TRANS)
}
