//! What can be wrong with a message, and the NOTIFICATION that says so (RFC 4271 section 6).

use super::header::{HEADER_LENGTH, MAX_MESSAGE_LENGTH};
use super::notification::{Notification, code};

/// A message that ends the session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The marker is not all ones (RFC 4271 section 6.1).
    #[error("the connection is not synchronised: the marker of a message is not all ones")]
    NotSynchronised,
    /// The length is not possible for the type of message.
    #[error("a message cannot be {0} octets long")]
    BadLength(u16),
    /// The type is not one of RFC 4271 or RFC 2918.
    #[error("there is no message type {0}")]
    BadType(u8),
    /// The OPEN is not of the form of RFC 4271 section 4.2.
    #[error("malformed OPEN: {0}")]
    MalformedOpen(&'static str),
    /// The peer speaks another version than 4.
    #[error("the peer speaks BGP version {0}, not 4")]
    UnsupportedVersion(u8),
    /// An optional parameter that is not capabilities.
    #[error("the OPEN has an optional parameter of the unknown type {0}")]
    UnsupportedParameter(u8),
    /// One or two seconds (RFC 4271 section 6.2).
    #[error("a hold time of {0} s is not allowed")]
    UnacceptableHoldTime(u16),
    /// Lengths inside an UPDATE contradict each other, or an attribute occurs twice that must not.
    #[error("malformed UPDATE: {0}")]
    MalformedAttributeList(&'static str),
    /// A well-known attribute that we do not know; holds the attribute.
    #[error("the UPDATE has an unknown well-known attribute")]
    UnknownWellKnown(Vec<u8>),
    /// MP_REACH_NLRI or MP_UNREACH_NLRI cannot be read (RFC 7606 section 7.11); holds the attribute.
    #[error("malformed multiprotocol attribute: {0}")]
    OptionalAttribute(&'static str, Vec<u8>),
    /// A prefix is longer than its family allows or than the field (RFC 7606 section 5.3).
    #[error("the UPDATE has an invalid prefix: {0}")]
    InvalidNetwork(&'static str),
    /// A ROUTE-REFRESH of a subtype that is known, but not of its length (RFC 7313 section 5); holds the message.
    #[error("a ROUTE-REFRESH cannot be {} octets long", .0.len())]
    RouteRefreshLength(Vec<u8>),
    /// Nothing may be answered to a malformed NOTIFICATION (RFC 4271 section 6.4).
    #[error("malformed NOTIFICATION")]
    MalformedNotification,
}

impl DecodeError {
    /// The NOTIFICATION to answer with; none for a malformed NOTIFICATION.
    pub fn notification(&self) -> Option<Notification> {
        let (code, subcode, mut data) = match self {
            DecodeError::NotSynchronised => (code::HEADER, 1, Vec::new()),
            DecodeError::BadLength(length) => (code::HEADER, 2, length.to_be_bytes().to_vec()),
            DecodeError::BadType(kind) => (code::HEADER, 3, vec![*kind]),
            DecodeError::MalformedOpen(_) => (code::OPEN, 0, Vec::new()),
            DecodeError::UnsupportedVersion(_) => (code::OPEN, 1, 4u16.to_be_bytes().to_vec()),
            DecodeError::UnsupportedParameter(_) => (code::OPEN, 4, Vec::new()),
            DecodeError::UnacceptableHoldTime(_) => (code::OPEN, 6, Vec::new()),
            DecodeError::MalformedAttributeList(_) => (code::UPDATE, 1, Vec::new()),
            DecodeError::UnknownWellKnown(attribute) => (code::UPDATE, 2, attribute.clone()),
            DecodeError::OptionalAttribute(_, attribute) => (code::UPDATE, 9, attribute.clone()),
            DecodeError::InvalidNetwork(_) => (code::UPDATE, 10, Vec::new()),
            DecodeError::RouteRefreshLength(message) => (code::ROUTE_REFRESH, 1, message.clone()),
            DecodeError::MalformedNotification => return None,
        };
        // A long message may have a long attribute, and the peer need not take a long answer.
        data.truncate(MAX_MESSAGE_LENGTH - HEADER_LENGTH - 2);
        Some(Notification::new(code, subcode, data))
    }
}

/// A message that cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The message would be longer than the peer accepts.
    #[error("the message would be {0} octets long, more than the peer takes")]
    TooLong(usize),
    /// A field cannot hold its content.
    #[error("{0} is too long for its length field")]
    FieldTooLong(&'static str),
}
