//! The UPDATE message as a value: routes withdrawn, routes announced, and what holds for the announced ones.
//!
//! [`super::pack`] writes the UPDATEs that FerroLB sends; this is the general form, for reading and for tests.

use super::Context;
use super::attribute::{self, AttributeFault, MpReach, MpUnreach, PathAttributes, kind};
use super::error::{DecodeError, EncodeError};
use super::header::fill_u16;
use super::nlri::{self, Form};
use super::reader::Reader;
use crate::family::Family;
use ipnet::{IpNet, Ipv4Net};

/// An UPDATE message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Update {
    /// IPv4 routes withdrawn in the body.
    pub withdrawn: Vec<Ipv4Net>,
    /// What holds for the announced routes.
    pub attributes: PathAttributes,
    /// IPv4 routes announced in the body.
    pub announced: Vec<Ipv4Net>,
    /// Routes of any family announced in an attribute.
    pub mp_reach: Option<MpReach>,
    /// Routes of any family withdrawn in an attribute.
    pub mp_unreach: Option<MpUnreach>,
    /// If set, all routes in here are withdrawn (RFC 7606). Never written.
    pub fault: Option<AttributeFault>,
}

impl Update {
    /// The family whose initial routes this message ends, if it is the End-of-RIB marker (RFC 4724 section 2).
    pub fn end_of_rib(&self) -> Option<Family> {
        let empty = self.withdrawn.is_empty()
            && self.announced.is_empty()
            && self.mp_reach.is_none()
            && self.attributes == PathAttributes::default()
            && self.fault.is_none();
        match &self.mp_unreach {
            None if empty => Some(Family::Ipv4Unicast),
            Some(unreach) if empty && unreach.prefixes.is_empty() => Some(unreach.family),
            _ => None,
        }
    }

    pub(super) fn decode(body: &[u8], context: &Context) -> Result<Update, DecodeError> {
        const LENGTHS: DecodeError =
            DecodeError::MalformedAttributeList("its lengths contradict each other");
        let mut reader = Reader::new(body);
        let length = reader.u16().ok_or(LENGTHS)?;
        let withdrawn = reader.take(usize::from(length)).ok_or(LENGTHS)?;
        let length = reader.u16().ok_or(LENGTHS)?;
        let attributes = reader.take(usize::from(length)).ok_or(LENGTHS)?;
        let announced = reader.rest();

        let withdrawn = nlri::read_all_v4(withdrawn, context.identifiers_read)?;
        let mut decoded = attribute::decode(attributes, context)?;
        let announced = nlri::read_all_v4(announced, context.identifiers_read)?;

        // RFC 7606 section 3 (d), and RFC 4760 section 3 for what MP_REACH_NLRI needs beside it.
        let reach = decoded
            .mp_reach
            .as_ref()
            .is_some_and(|reach| !reach.prefixes.is_empty());
        if !announced.is_empty() || reach {
            if decoded.attributes.origin.is_none() {
                decoded.note(kind::ORIGIN, "it is missing");
            }
            if decoded.attributes.as_path.is_none() {
                decoded.note(kind::AS_PATH, "it is missing");
            }
        }
        if !announced.is_empty() && decoded.attributes.next_hop.is_none() {
            decoded.note(kind::NEXT_HOP, "it is missing");
        }
        // RFC 7606 section 5.2: attributes with nothing to describe, and wrong ones at that; who knows what else was misread.
        let no_routes = announced.is_empty() && !reach && !decoded.reaches_elsewhere;
        if decoded.fault.is_some() && decoded.describes && no_routes {
            return Err(DecodeError::MalformedAttributeList(
                "an attribute is malformed, and there is no route that it belongs to",
            ));
        }
        Ok(Update {
            withdrawn,
            attributes: decoded.attributes,
            announced,
            mp_reach: decoded.mp_reach,
            mp_unreach: decoded.mp_unreach,
            fault: decoded.fault,
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>, context: &Context) -> Result<(), EncodeError> {
        let form = |family| Form::of(family, context.identifiers_written);
        let at = begin_field(out);
        push_v4(out, &self.withdrawn, form(Family::Ipv4Unicast));
        end_field(out, at)?;
        let at = begin_field(out);
        // RFC 7606 section 5.1: first, so that a receiver finds its routes even if a later attribute is broken.
        if let Some(reach) = &self.mp_reach {
            let form = form(reach.family);
            let octets = reach.prefixes.iter().map(|p| form.length_of(p)).sum();
            attribute::push_mp_reach_header(
                out,
                reach.family,
                reach.next_hop,
                reach.link_local,
                octets,
            )?;
            reach
                .prefixes
                .iter()
                .for_each(|prefix| form.push(out, prefix));
        }
        if let Some(unreach) = &self.mp_unreach {
            let form = form(unreach.family);
            let octets = unreach.prefixes.iter().map(|p| form.length_of(p)).sum();
            attribute::push_mp_unreach_header(out, unreach.family, octets)?;
            unreach
                .prefixes
                .iter()
                .for_each(|prefix| form.push(out, prefix));
        }
        attribute::push_attributes(out, &self.attributes, self.attributes.next_hop, context)?;
        end_field(out, at)?;
        push_v4(out, &self.announced, form(Family::Ipv4Unicast));
        Ok(())
    }
}

fn push_v4(out: &mut Vec<u8>, prefixes: &[Ipv4Net], form: Form) {
    prefixes
        .iter()
        .for_each(|prefix| form.push(out, &IpNet::V4(*prefix)));
}

/// Leaves room for the length of one of the two length-prefixed fields of the body.
pub(super) fn begin_field(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[0, 0]);
    out.len()
}

pub(super) fn end_field(out: &mut [u8], at: usize) -> Result<(), EncodeError> {
    let length = out.len().saturating_sub(at);
    let length =
        u16::try_from(length).map_err(|_| EncodeError::FieldTooLong("a field of the UPDATE"))?;
    fill_u16(out, at - 2, length);
    Ok(())
}
