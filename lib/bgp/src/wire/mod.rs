//! BGP messages as bytes: RFC 4271 section 4 with the extensions that FerroLB speaks.
//!
//! Decoding never panics and never allocates more than the message holds. An error knows the NOTIFICATION that answers it
//! (RFC 4271 section 6); an UPDATE whose framing is right but whose attributes are wrong is no error but a message with a
//! fault, to be treated as a withdrawal (RFC 7606).

mod attribute;
mod capability;
mod error;
mod header;
mod nlri;
mod notification;
mod open;
mod pack;
mod reader;
mod route_refresh;
mod update;

pub use attribute::{
    Aggregator, AsPath, AsSegment, AttributeFault, Community, ExtendedCommunity, LargeCommunity,
    MpReach, MpUnreach, Origin, PathAttributes, RawAttribute,
};
pub use capability::{AddPath, Capability, ExtendedNextHop, GracefulRestart, RestartFamily};
pub use error::{DecodeError, EncodeError};
pub use header::{
    HEADER_LENGTH, MAX_EXTENDED_LENGTH, MAX_MESSAGE_LENGTH, MessageType, frame_length, message_type,
};
pub use notification::{Cease, Notification, code};
pub use open::{AS_TRANS, Open};
pub use pack::{NextHop, Template, pack_withdrawals, push_end_of_rib};
pub use route_refresh::{Refresh, RouteRefresh};
pub use update::Update;

use crate::family::Families;

/// The room that a message is given at first, in octets: enough for all but some UPDATEs.
const USUAL_LENGTH: usize = 128;

/// What both sides agreed on that changes the meaning of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// Both sides sent the four-octet AS capability (RFC 6793), so AS numbers in paths take four octets.
    pub four_octet_as: bool,
    /// Both sides are in one AS: LOCAL_PREF is meaningful (RFC 4271 section 5.1.5, RFC 7606 section 7.5).
    pub internal: bool,
    /// The peer takes messages of up to [`MAX_EXTENDED_LENGTH`] octets (RFC 8654).
    pub extended_messages: bool,
    /// The families whose prefixes are written with a path identifier (RFC 7911).
    pub identifiers_written: Families,
    /// The families whose prefixes are read with a path identifier. FerroLB never offers that.
    pub identifiers_read: Families,
    /// The peer has enhanced route refresh, so the subtype of a ROUTE-REFRESH has a meaning (RFC 7313).
    pub enhanced_refresh: bool,
}

impl Context {
    /// The longest message that may be sent, in octets.
    pub fn longest_message(&self) -> usize {
        if self.extended_messages {
            MAX_EXTENDED_LENGTH
        } else {
            MAX_MESSAGE_LENGTH
        }
    }
}

impl Default for Context {
    fn default() -> Context {
        Context {
            four_octet_as: true,
            internal: false,
            extended_messages: false,
            identifiers_written: Families::default(),
            identifiers_read: Families::default(),
            enhanced_refresh: false,
        }
    }
}

/// A BGP message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Opens a session (RFC 4271 section 4.2).
    Open(Open),
    /// Announces and withdraws routes (section 4.3).
    Update(Box<Update>),
    /// Ends a session (section 4.5).
    Notification(Notification),
    /// Keeps a session (section 4.4).
    Keepalive,
    /// Asks for all routes again (RFC 2918).
    RouteRefresh(RouteRefresh),
}

impl Message {
    /// The type of this message.
    pub fn message_type(&self) -> MessageType {
        match self {
            Message::Open(_) => MessageType::Open,
            Message::Update(_) => MessageType::Update,
            Message::Notification(_) => MessageType::Notification,
            Message::Keepalive => MessageType::Keepalive,
            Message::RouteRefresh(_) => MessageType::RouteRefresh,
        }
    }

    /// Reads one whole message, header included, as [`frame_length`] delimits it.
    ///
    /// # Errors
    /// The first error of form, in the order of RFC 4271 section 6.
    pub fn decode(frame: &[u8], context: &Context) -> Result<Message, DecodeError> {
        let (kind, body) = header::split(frame)?;
        Ok(match kind {
            MessageType::Open => Message::Open(Open::decode(body)?),
            MessageType::Update => Message::Update(Box::new(Update::decode(body, context)?)),
            MessageType::Notification => Message::Notification(Notification::decode(body)?),
            MessageType::Keepalive => Message::Keepalive,
            MessageType::RouteRefresh => {
                Message::RouteRefresh(RouteRefresh::decode(frame, body, context.enhanced_refresh)?)
            }
        })
    }

    /// Writes one whole message, header included.
    ///
    /// # Errors
    /// If the content does not fit into a message or into one of its fields.
    pub fn encode(&self, context: &Context) -> Result<Vec<u8>, EncodeError> {
        let mut out = Vec::with_capacity(USUAL_LENGTH);
        let longest = context.longest_message();
        let message = header::Started::begin(&mut out, self.message_type(), longest);
        match self {
            Message::Open(open) => open.encode(&mut out)?,
            Message::Update(update) => update.encode(&mut out, context)?,
            Message::Notification(notification) => notification.encode(&mut out),
            Message::Keepalive => {}
            Message::RouteRefresh(refresh) => refresh.encode(&mut out),
        }
        message.finish(&mut out)?;
        Ok(out)
    }
}
