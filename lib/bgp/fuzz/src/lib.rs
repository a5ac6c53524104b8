//! What the targets have in common: messages around bodies, and what holds for every message that is read.

use ferrolb_bgp::Families;
use ferrolb_bgp::wire::{
    Context, HEADER_LENGTH, MAX_EXTENDED_LENGTH, MAX_MESSAGE_LENGTH, Message, frame_length,
};

/// What both sides agreed on, from the bits of an octet.
pub fn context(bits: u8) -> Context {
    let bit = |number: u8| bits & 1 << number != 0;
    let identifiers = Families {
        ipv4: bit(3),
        ipv6: bit(4),
    };
    Context {
        four_octet_as: bit(0),
        internal: bit(1),
        extended_messages: bit(2),
        identifiers_written: identifiers,
        identifiers_read: identifiers,
        enhanced_refresh: bit(5),
    }
}

/// A message around a body, of which only as much is taken as a message holds.
pub fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let body = &body[..body.len().min(MAX_EXTENDED_LENGTH - HEADER_LENGTH)];
    let length = u16::try_from(HEADER_LENGTH + body.len()).expect("it was cut to fit");
    let mut frame = vec![0xff; 16];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.push(kind);
    frame.extend_from_slice(body);
    frame
}

/// Reads a message. What can be read means the same after it was written and read again; what cannot has an answer that
/// every peer takes.
pub fn read(frame: &[u8], context: &Context) -> Option<Message> {
    let message = match Message::decode(frame, context) {
        Ok(message) => message,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            if let Some(answer) = error.notification() {
                let answer = Message::Notification(answer).encode(&Context::default());
                assert!(answer.expect("an answer fits").len() <= MAX_MESSAGE_LENGTH);
            }
            return None;
        }
    };
    match message.encode(context) {
        Ok(bytes) => {
            assert_eq!(frame_length(&bytes), Ok(Some(bytes.len())));
            assert!(bytes.len() <= context.longest_message());
            match Message::decode(&bytes, context) {
                Ok(again) => assert!(again == message || is_faulty(&message)),
                Err(error) => panic!("cannot read what was written: {error}"),
            }
        }
        // Long messages are read from everybody and not written to everybody; a path of four-octet AS numbers takes more
        // room beside that of two octets, and each multiprotocol attribute may have come with a shorter length.
        Err(_) => assert!(
            matches!(message, Message::Update(_) | Message::Notification(_))
                && (!context.extended_messages
                    || !context.four_octet_as
                    || frame.len() > MAX_EXTENDED_LENGTH - 2)
        ),
    }
    Some(message)
}

/// What is wrong with an UPDATE is not written.
fn is_faulty(message: &Message) -> bool {
    matches!(message, Message::Update(update) if update.fault.is_some())
}
