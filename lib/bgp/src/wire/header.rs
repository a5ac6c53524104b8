//! The message header, which delimits messages in the byte stream (RFC 4271 section 4.1).

use super::error::{DecodeError, EncodeError};
use super::reader::Reader;

/// Octets of the header: marker, length, type.
pub const HEADER_LENGTH: usize = 19;

/// The longest message without the extension of RFC 8654.
pub const MAX_MESSAGE_LENGTH: usize = 4096;

/// The longest message with it. OPEN and KEEPALIVE stay as they are.
pub const MAX_EXTENDED_LENGTH: usize = 65_535;

const MARKER: [u8; 16] = [0xff; 16];

/// The type of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MessageType {
    /// RFC 4271 section 4.2.
    Open = 1,
    /// RFC 4271 section 4.3.
    Update = 2,
    /// RFC 4271 section 4.5.
    Notification = 3,
    /// RFC 4271 section 4.4.
    Keepalive = 4,
    /// RFC 2918.
    RouteRefresh = 5,
}

impl MessageType {
    fn from_number(number: u8) -> Option<MessageType> {
        Some(match number {
            1 => MessageType::Open,
            2 => MessageType::Update,
            3 => MessageType::Notification,
            4 => MessageType::Keepalive,
            5 => MessageType::RouteRefresh,
            _ => return None,
        })
    }

    /// Which lengths a whole message of this type can have (RFC 4271 section 6.1, RFC 8654 section 4). Those of a
    /// ROUTE-REFRESH have an error of their own (RFC 7313 section 5).
    fn allows_length(self, length: usize) -> bool {
        match self {
            MessageType::Open => (29..=MAX_MESSAGE_LENGTH).contains(&length),
            MessageType::Update => (23..=MAX_EXTENDED_LENGTH).contains(&length),
            MessageType::Notification => (21..=MAX_EXTENDED_LENGTH).contains(&length),
            MessageType::Keepalive => length == HEADER_LENGTH,
            MessageType::RouteRefresh => (HEADER_LENGTH..=MAX_EXTENDED_LENGTH).contains(&length),
        }
    }

    /// The longest message of this type that may be sent to a peer that takes `longest` octets.
    fn longest(self, longest: usize) -> usize {
        match self {
            MessageType::Open | MessageType::Keepalive => MAX_MESSAGE_LENGTH,
            MessageType::Update | MessageType::Notification | MessageType::RouteRefresh => longest,
        }
    }
}

/// How long the message at the start of `stream` is, or `None` if too little has arrived to know.
///
/// A wrong marker is noticed as early as its first wrong octet, so that a peer that speaks something else is told at once.
/// Long messages are always read, because FerroLB always offers to (RFC 8654).
///
/// # Errors
/// Those of RFC 4271 section 6.1.
pub fn frame_length(stream: &[u8]) -> Result<Option<usize>, DecodeError> {
    if !MARKER.starts_with(stream.get(..MARKER.len()).unwrap_or(stream)) {
        return Err(DecodeError::NotSynchronised);
    }
    let mut reader = Reader::new(stream);
    let (Some(_), Some(length), Some(kind)) = (reader.array::<16>(), reader.u16(), reader.u8())
    else {
        return Ok(None);
    };
    let octets = usize::from(length);
    if octets < HEADER_LENGTH {
        return Err(DecodeError::BadLength(length));
    }
    let kind = MessageType::from_number(kind).ok_or(DecodeError::BadType(kind))?;
    if !kind.allows_length(octets) {
        return Err(DecodeError::BadLength(length));
    }
    Ok(Some(octets))
}

/// The type of a whole message that [`frame_length`] delimited; `None` if it is not one.
pub fn message_type(frame: &[u8]) -> Option<MessageType> {
    MessageType::from_number(*frame.get(HEADER_LENGTH - 1)?)
}

/// Splits a whole message into its type and its body.
pub(super) fn split(frame: &[u8]) -> Result<(MessageType, &[u8]), DecodeError> {
    let actual = u16::try_from(frame.len()).unwrap_or(u16::MAX);
    if frame_length(frame)? != Some(frame.len()) {
        return Err(DecodeError::BadLength(actual));
    }
    let (header, body) = frame
        .split_at_checked(HEADER_LENGTH)
        .ok_or(DecodeError::BadLength(actual))?;
    let kind = header.last().copied().unwrap_or_default();
    Ok((
        MessageType::from_number(kind).ok_or(DecodeError::BadType(kind))?,
        body,
    ))
}

/// A message that is being written at the end of a buffer; its length is filled in last.
#[must_use]
pub(super) struct Started {
    at: usize,
    longest: usize,
}

impl Started {
    /// `longest` is what the peer takes.
    pub(super) fn begin(out: &mut Vec<u8>, kind: MessageType, longest: usize) -> Started {
        let at = out.len();
        out.extend_from_slice(&MARKER);
        out.extend_from_slice(&[0, 0, kind as u8]);
        Started {
            at,
            longest: kind.longest(longest),
        }
    }

    /// Octets written so far, header included.
    pub(super) fn length(&self, out: &[u8]) -> usize {
        out.len() - self.at
    }

    pub(super) fn finish(self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let length = self.length(out);
        match u16::try_from(length) {
            Ok(octets) if length <= self.longest => {
                fill_u16(out, self.at + MARKER.len(), octets);
                Ok(())
            }
            _ => {
                out.truncate(self.at);
                Err(EncodeError::TooLong(length))
            }
        }
    }
}

/// Writes a length that was left out when its field was begun.
pub(super) fn fill_u16(out: &mut [u8], at: usize, value: u16) {
    if let Some(field) = out.get_mut(at..at + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}
