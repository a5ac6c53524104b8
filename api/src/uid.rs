//! Which of the objects that had one name over time: `metadata.uid`, in little room.

use std::fmt;

/// A uid. The API server makes UUIDs (RFC 9562), whose 36 characters are 16 octets; anything else is kept as it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(Form);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Form {
    Uuid([u8; 16]),
    Text(Box<str>),
}

/// Where the hyphens of a UUID are, by the octet that follows.
const HYPHENS: [usize; 4] = [4, 6, 8, 10];

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        Self(uuid(text).map_or_else(|| Form::Text(text.into()), Form::Uuid))
    }
}

/// The octets of a UUID in the form that the API server writes, and no other, so that it can be written again.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let mut left = text.bytes();
    let mut octets = [0; 16];
    for (at, octet) in octets.iter_mut().enumerate() {
        if HYPHENS.contains(&at) && left.next()? != b'-' {
            return None;
        }
        *octet = digit(left.next()?)? << 4 | digit(left.next()?)?;
    }
    left.next().is_none().then_some(octets)
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Text(text) => formatter.write_str(text),
            Form::Uuid(octets) => {
                for (at, octet) in octets.iter().enumerate() {
                    if HYPHENS.contains(&at) {
                        formatter.write_str("-")?;
                    }
                    write!(formatter, "{octet:02x}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_reads_back_whatever_it_was_and_a_uuid_takes_no_text() {
        let uuid = "0f9d2b3c-77aa-4c1e-9a0b-5d6e7f801234";
        assert!(matches!(Uid::from(uuid).0, Form::Uuid(_)));
        for other in [
            "",
            "u",
            "0F9D2B3C-77aa-4c1e-9a0b-5d6e7f801234",
            "0f9d2b3c-77aa-4c1e-9a0b-5d6e7f8012345",
            "0f9d2b3c-77aa-4c1e-9a0b-5d6e7f80123",
            "0f9d2b3c77aa-4c1e-9a0b-5d6e7f801234-",
            "0f9d2b3c-77aa-4c1e-9a0b-5d6e7f80123é",
        ] {
            assert!(matches!(Uid::from(other).0, Form::Text(_)), "{other}");
            assert_eq!(Uid::from(other).to_string(), other);
        }
        assert_eq!(Uid::from(uuid).to_string(), uuid);
        assert_ne!(Uid::from(uuid), Uid::from("u"));
    }
}
