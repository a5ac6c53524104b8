//! The NOTIFICATION message: why a session ends (RFC 4271 section 4.5), in words that people can act on.

use super::error::DecodeError;
use super::reader::Reader;
use std::fmt;

/// Error codes (IANA BGP error codes).
pub mod code {
    /// Message header error.
    pub const HEADER: u8 = 1;
    /// OPEN message error.
    pub const OPEN: u8 = 2;
    /// UPDATE message error.
    pub const UPDATE: u8 = 3;
    /// Hold timer expired.
    pub const HOLD_TIMER: u8 = 4;
    /// Finite state machine error (subcodes: RFC 6608).
    pub const STATE_MACHINE: u8 = 5;
    /// Cease (subcodes: RFC 4486).
    pub const CEASE: u8 = 6;
    /// ROUTE-REFRESH message error (RFC 7313).
    pub const ROUTE_REFRESH: u8 = 7;
    /// Send hold timer expired (RFC 9687).
    pub const SEND_HOLD_TIMER: u8 = 8;
}

/// Subcodes of Cease (RFC 4486).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cease {
    /// The peer sent more prefixes than allowed.
    MaximumPrefixes = 1,
    /// An administrator, or the end of the process, stops the session.
    AdministrativeShutdown = 2,
    /// The peer is no longer configured.
    PeerDeconfigured = 3,
    /// The session is restarted on purpose.
    AdministrativeReset = 4,
    /// We are not ready for this connection.
    ConnectionRejected = 5,
    /// The configuration of the session changed.
    ConfigurationChange = 6,
    /// Another connection to the same peer won (RFC 4271 section 6.8).
    CollisionResolution = 7,
    /// We have run out of something.
    OutOfResources = 8,
    /// The session ends without a graceful restart (RFC 8538 section 3.1); see [`Notification::hard_reset`].
    HardReset = 9,
}

/// The longest text of a shutdown communication (RFC 9003 section 2).
const MAX_TEXT: usize = 255;

/// Why one side ends the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// See [`code`].
    pub code: u8,
    /// What exactly, within the code; 0 if unspecific.
    pub subcode: u8,
    /// Depends on code and subcode.
    pub data: Vec<u8>,
}

impl Notification {
    /// A notification from its parts.
    pub fn new(code: u8, subcode: u8, data: Vec<u8>) -> Notification {
        Notification {
            code,
            subcode,
            data,
        }
    }

    /// A Cease. `text` reaches the administrator of the peer with the two subcodes that carry one (RFC 9003) and is cut at
    /// 255 octets, between characters.
    pub fn cease(reason: Cease, text: &str) -> Notification {
        let mut data = Vec::new();
        if carries_text(code::CEASE, reason as u8) && !text.is_empty() {
            let end = text.floor_char_boundary(MAX_TEXT);
            let bytes = text.as_bytes().get(..end).unwrap_or_default();
            data.push(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
            data.extend_from_slice(bytes);
        }
        Notification::new(code::CEASE, reason as u8, data)
    }

    /// The same with the demand to drop our routes at once, for a peer that keeps them after other NOTIFICATIONs (RFC 8538
    /// section 3.1).
    #[must_use]
    pub fn hard_reset(&self) -> Notification {
        let mut data = vec![self.code, self.subcode];
        data.extend_from_slice(&self.data);
        Notification::new(code::CEASE, Cease::HardReset as u8, data)
    }

    /// The reason inside a hard reset.
    pub fn reason_of_hard_reset(&self) -> Option<Notification> {
        if (self.code, self.subcode) != (code::CEASE, Cease::HardReset as u8) {
            return None;
        }
        Notification::decode(&self.data).ok()
    }

    /// What the administrator of the other side wrote (RFC 9003), if this is a notification that can carry it and the text
    /// is well formed.
    pub fn shutdown_text(&self) -> Option<&str> {
        if !carries_text(self.code, self.subcode) {
            return None;
        }
        let mut reader = Reader::new(&self.data);
        let length = reader.u8()?;
        std::str::from_utf8(reader.take(usize::from(length))?)
            .ok()
            .filter(|text| !text.is_empty())
    }

    pub(super) fn decode(body: &[u8]) -> Result<Notification, DecodeError> {
        let mut reader = Reader::new(body);
        let (Some(code), Some(subcode)) = (reader.u8(), reader.u8()) else {
            return Err(DecodeError::MalformedNotification);
        };
        Ok(Notification::new(code, subcode, reader.rest().to_vec()))
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.code, self.subcode]);
        out.extend_from_slice(&self.data);
    }

    fn subcode_name(&self) -> Option<&'static str> {
        Some(match (self.code, self.subcode) {
            (code::HEADER, 1) => "connection not synchronised",
            (code::HEADER, 2) => "bad message length",
            (code::HEADER, 3) => "bad message type",
            (code::OPEN, 1) => "unsupported version number",
            (code::OPEN, 2) => "bad peer AS",
            (code::OPEN, 3) => "bad BGP identifier",
            (code::OPEN, 4) => "unsupported optional parameter",
            (code::OPEN, 6) => "unacceptable hold time",
            (code::OPEN, 7) => "unsupported capability",
            (code::OPEN, 11) => "role mismatch",
            (code::UPDATE, 1) => "malformed attribute list",
            (code::UPDATE, 2) => "unrecognised well-known attribute",
            (code::UPDATE, 3) => "missing well-known attribute",
            (code::UPDATE, 4) => "attribute flags error",
            (code::UPDATE, 5) => "attribute length error",
            (code::UPDATE, 6) => "invalid ORIGIN attribute",
            (code::UPDATE, 8) => "invalid NEXT_HOP attribute",
            (code::UPDATE, 9) => "optional attribute error",
            (code::UPDATE, 10) => "invalid network field",
            (code::UPDATE, 11) => "malformed AS_PATH",
            (code::STATE_MACHINE, 1) => "unexpected message in OpenSent",
            (code::STATE_MACHINE, 2) => "unexpected message in OpenConfirm",
            (code::STATE_MACHINE, 3) => "unexpected message in Established",
            (code::CEASE, 1) => "maximum number of prefixes reached",
            (code::CEASE, 2) => "administrative shutdown",
            (code::CEASE, 3) => "peer de-configured",
            (code::CEASE, 4) => "administrative reset",
            (code::CEASE, 5) => "connection rejected",
            (code::CEASE, 6) => "other configuration change",
            (code::CEASE, 7) => "connection collision resolution",
            (code::CEASE, 8) => "out of resources",
            (code::CEASE, 9) => "hard reset",
            (code::CEASE, 10) => "BFD down",
            (code::ROUTE_REFRESH, 1) => "invalid message length",
            _ => return None,
        })
    }
}

/// How many octets are shown of data that should be a text.
const MOST_SHOWN: usize = 64;

/// Whether the data is a shutdown communication (RFC 9003 section 2).
fn carries_text(number: u8, subcode: u8) -> bool {
    number == code::CEASE
        && (subcode == Cease::AdministrativeShutdown as u8
            || subcode == Cease::AdministrativeReset as u8)
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            code::HEADER => f.write_str("message header error")?,
            code::OPEN => f.write_str("OPEN message error")?,
            code::UPDATE => f.write_str("UPDATE message error")?,
            code::HOLD_TIMER => f.write_str("hold timer expired")?,
            code::STATE_MACHINE => f.write_str("state machine error")?,
            code::CEASE => f.write_str("cease")?,
            code::ROUTE_REFRESH => f.write_str("ROUTE-REFRESH message error")?,
            code::SEND_HOLD_TIMER => f.write_str("send hold timer expired")?,
            other => write!(f, "unknown error {other}")?,
        }
        match self.subcode_name() {
            Some(name) => write!(f, ": {name}")?,
            None if self.subcode != 0 => write!(f, ": subcode {}", self.subcode)?,
            None => {}
        }
        write!(f, " ({}/{})", self.code, self.subcode)?;
        if let Some(text) = self.shutdown_text() {
            // The text is the peer's: control characters must not reach a terminal or a log line as they are.
            write!(f, ", the peer says \"{}\"", text.escape_debug())?;
        } else if carries_text(self.code, self.subcode) && self.data.iter().any(|octet| *octet != 0)
        {
            // RFC 9003 section 2: what is no text is shown all the same.
            let octets = self.data.iter().take(MOST_SHOWN);
            let octets: String = octets.map(|octet| format!("{octet:02x}")).collect();
            write!(f, ", with data that is no text: {octets}")?;
        }
        if self.code == code::OPEN
            && self.subcode == 2
            && let Some(asn) = Reader::new(&self.data).u16()
        {
            write!(f, ", AS {asn}")?;
        }
        // One level: a peer could send thousands.
        if let Some(inner) = self.reason_of_hard_reset()
            && inner.reason_of_hard_reset().is_none()
        {
            write!(f, ", because of {inner}")?;
        }
        Ok(())
    }
}
