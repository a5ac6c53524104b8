//! Writes many routes into few UPDATEs: attributes are encoded once per set, prefixes are appended up to a full message.

use super::attribute::{self, PathAttributes};
use super::error::EncodeError;
use super::header::{MessageType, Started, fill_u16};
use super::nlri::Form;
use super::update::{begin_field, end_field};
use super::{Context, HEADER_LENGTH};
use crate::family::Family;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where a peer shall send the traffic of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NextHop {
    /// In NEXT_HOP, with the routes in the body: only for IPv4.
    Body(Ipv4Addr),
    /// In MP_REACH_NLRI.
    Multiprotocol {
        /// The global address.
        global: Ipv6Addr,
        /// The same router's address on the link, if both are on one link (RFC 2545 section 3).
        link_local: Option<Ipv6Addr>,
    },
}

/// The encoded attributes of a set of routes that differ by prefix alone.
#[derive(Debug, Clone)]
pub struct Template {
    family: Family,
    next_hop: NextHop,
    attributes: Vec<u8>,
    form: Form,
    /// The longest message that the peer takes.
    longest: usize,
}

/// The octets of an UPDATE around its fields: header and the two length fields.
const FRAME: usize = HEADER_LENGTH + 4;

/// Octets that the attributes of most routes take at most.
const ROOM: usize = 128;

/// More octets than are taken back after the last prefix (see [`Form::push`]).
const SPARE: usize = 16;

impl Template {
    /// Encodes the attributes. `attributes.next_hop` is overridden by `next_hop`.
    ///
    /// # Errors
    /// If not even one prefix fits beside the attributes, or if IPv6 routes are to have an IPv4 next hop.
    pub fn new(
        family: Family,
        attributes: &PathAttributes,
        next_hop: NextHop,
        context: &Context,
    ) -> Result<Template, EncodeError> {
        let body_hop = match (next_hop, family) {
            (NextHop::Body(address), Family::Ipv4Unicast) => Some(address),
            (NextHop::Body(_), Family::Ipv6Unicast) => {
                return Err(EncodeError::FieldTooLong("an IPv6 route in the body"));
            }
            (NextHop::Multiprotocol { .. }, _) => None,
        };
        let mut encoded = Vec::with_capacity(ROOM);
        attribute::push_attributes(&mut encoded, attributes, body_hop, context)?;
        let template = Template {
            family,
            next_hop,
            attributes: encoded,
            form: Form::of(family, context.identifiers_written),
            longest: context.longest_message(),
        };
        let least = template.overhead() + template.form.longest(family);
        if least > template.longest {
            Err(EncodeError::TooLong(least))
        } else {
            Ok(template)
        }
    }

    /// Octets of a message without its prefixes.
    fn overhead(&self) -> usize {
        let multiprotocol = match self.next_hop {
            NextHop::Body(_) => 0,
            NextHop::Multiprotocol {
                link_local: None, ..
            } => 9 + 16,
            NextHop::Multiprotocol {
                link_local: Some(_),
                ..
            } => 9 + 32,
        };
        FRAME + self.attributes.len() + multiprotocol
    }

    /// Appends one UPDATE with as many of `prefixes`, from the first on, as fit. Returns how many that were; none only if
    /// `prefixes` is empty, and then nothing is appended.
    ///
    /// # Errors
    /// None for a template that could be made, but for the type's sake.
    pub fn pack<'a>(
        &self,
        out: &mut Vec<u8>,
        prefixes: impl IntoIterator<Item = &'a IpNet, IntoIter: Clone>,
    ) -> Result<usize, EncodeError> {
        let prefixes = prefixes.into_iter();
        let room = self.longest - self.overhead();
        let (count, octets) = how_many_fit(prefixes.clone(), room, self.form);
        if count == 0 {
            return Ok(0);
        }
        out.reserve(self.overhead() + octets + SPARE);
        let message = Started::begin(out, MessageType::Update, self.longest);
        out.extend_from_slice(&[0, 0]);
        let at = begin_field(out);
        let chosen = prefixes.take(count);
        if let NextHop::Multiprotocol { global, link_local } = self.next_hop {
            attribute::push_mp_reach_header(
                out,
                self.family,
                IpAddr::V6(global),
                link_local,
                octets,
            )?;
            chosen
                .clone()
                .for_each(|prefix| self.form.push(out, prefix));
        }
        out.extend_from_slice(&self.attributes);
        end_field(out, at)?;
        if let NextHop::Body(_) = self.next_hop {
            chosen.for_each(|prefix| self.form.push(out, prefix));
        }
        message.finish(out)?;
        Ok(count)
    }
}

/// Appends one UPDATE that withdraws as many of `prefixes`, all of `family`, as fit. Returns how many that were.
///
/// # Errors
/// None in practice; see [`Template::pack`].
pub fn pack_withdrawals<'a>(
    out: &mut Vec<u8>,
    family: Family,
    prefixes: impl IntoIterator<Item = &'a IpNet, IntoIter: Clone>,
    context: &Context,
) -> Result<usize, EncodeError> {
    let prefixes = prefixes.into_iter();
    let form = Form::of(family, context.identifiers_written);
    let longest = context.longest_message();
    let overhead = match family {
        Family::Ipv4Unicast => FRAME,
        Family::Ipv6Unicast => FRAME + 7,
    };
    let (count, octets) = how_many_fit(prefixes.clone(), longest - overhead, form);
    if count == 0 {
        return Ok(0);
    }
    out.reserve(overhead + octets + SPARE);
    let message = Started::begin(out, MessageType::Update, longest);
    let at = begin_field(out);
    if family == Family::Ipv4Unicast {
        prefixes
            .clone()
            .take(count)
            .for_each(|prefix| form.push(out, prefix));
    }
    end_field(out, at)?;
    let at = begin_field(out);
    if family == Family::Ipv6Unicast {
        attribute::push_mp_unreach_header(out, family, octets)?;
        prefixes
            .take(count)
            .for_each(|prefix| form.push(out, prefix));
    }
    end_field(out, at)?;
    message.finish(out)?;
    Ok(count)
}

/// Appends the marker that all initial routes of a family have been sent (RFC 4724 section 2).
pub fn push_end_of_rib(out: &mut Vec<u8>, family: Family) {
    let start = out.len();
    out.extend_from_slice(&[0xff; 16]);
    out.extend_from_slice(&[0, 0, MessageType::Update as u8, 0, 0, 0, 0]);
    if family == Family::Ipv6Unicast {
        fill_u16(out, start + HEADER_LENGTH + 2, 6);
        out.extend_from_slice(&[0x80, attribute::kind::MP_UNREACH_NLRI, 3]);
        out.extend_from_slice(&family.afi().to_be_bytes());
        out.push(family.safi());
    }
    let length = u16::try_from(out.len() - start).unwrap_or(u16::MAX);
    fill_u16(out, start + 16, length);
}

/// How many prefixes from the first on fit into `room` octets, and how many octets they take.
fn how_many_fit<'a>(
    prefixes: impl Iterator<Item = &'a IpNet>,
    room: usize,
    form: Form,
) -> (usize, usize) {
    let (mut count, mut octets) = (0, 0);
    for prefix in prefixes {
        let more = form.length_of(prefix);
        if octets + more > room {
            break;
        }
        octets += more;
        count += 1;
    }
    (count, octets)
}
