//! Whatever a peer sends and whatever was agreed on, nothing panics, and what is read is written as it was meant.
//!
//! The input is an octet that says what was agreed on, and the octets of the connection.
#![no_main]

use ferrolb_bgp::wire::{Message, frame_length};
use ferrolb_bgp_fuzz::{context, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&bits, mut stream)) = data.split_first() else {
        return;
    };
    let context = context(bits);
    // A length is known or not, whatever follows.
    loop {
        match frame_length(stream) {
            Ok(Some(length)) if length <= stream.len() => {
                let (frame, rest) = stream.split_at(length);
                stream = rest;
                if let Some(Message::Notification(notification)) = read(frame, &context) {
                    // What a peer wrote reaches logs and statuses as text of one line.
                    assert!(!notification.to_string().contains(char::is_control));
                }
            }
            Ok(Some(_) | None) => return,
            Err(error) => {
                assert!(error.notification().is_some());
                assert!(read(stream, &context).is_none());
                return;
            }
        }
    }
});
