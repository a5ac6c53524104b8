//! Messages written down as digits.
#![allow(dead_code, clippy::unwrap_used, missing_docs)]

/// Octets from hexadecimal digits; what is no digit is left out.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// A whole message from the digits of its body.
pub fn message(kind: u8, body: &str) -> Vec<u8> {
    let body = hex(body);
    let mut frame = vec![0xff; 16];
    frame.extend_from_slice(&u16::try_from(19 + body.len()).unwrap().to_be_bytes());
    frame.push(kind);
    frame.extend_from_slice(&body);
    frame
}
