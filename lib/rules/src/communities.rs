//! Which BGP community does a text name?

use std::fmt;
use std::str::FromStr;

use ferrolb_api::v1beta1::CommunityAlias;

use crate::refusal::Refusal;

/// A BGP community.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Community {
    /// RFC 1997, written `16bit:16bit`.
    Standard(u32),
    /// RFC 8092, written `large:32bit:32bit:32bit`.
    Large(u32, u32, u32),
}

/// Why a text is no community (reference 2.3, communities).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommunityError {
    /// A section is not a number in its range.
    #[error("invalid community value: invalid section {section:?} in {text:?}; {range}")]
    Section {
        /// The whole text.
        text: String,
        /// The part that is wrong.
        section: String,
        /// What is allowed there.
        range: &'static str,
    },
    /// Four sections of which the first is not `large`.
    #[error(
        "invalid community value: invalid marker for large community, expected community to be of format large:<uint32>:<uint32>:<uint32>, got {0:?}"
    )]
    Marker(String),
    /// Another number of sections.
    #[error(
        "invalid community format: {0}; write <uint16>:<uint16> or large:<uint32>:<uint32>:<uint32>"
    )]
    Format(String),
}

impl FromStr for Community {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let section = |section: &str, range: &'static str| CommunityError::Section {
            text: text.to_owned(),
            section: section.to_owned(),
            range,
        };
        // `parse` takes a sign before the digits; no community is written with one.
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            [high, low] => {
                let half = |part: &str| {
                    Some(part)
                        .filter(|part| digits(part))
                        .and_then(|part| part.parse::<u16>().ok())
                        .ok_or_else(|| section(part, "0 to 65535 is allowed"))
                };
                Ok(Community::Standard(
                    u32::from(half(high)?) << 16 | u32::from(half(low)?),
                ))
            }
            ["large", a, b, c] => {
                let word = |part: &str| {
                    Some(part)
                        .filter(|part| digits(part))
                        .and_then(|part| part.parse::<u32>().ok())
                        .ok_or_else(|| section(part, "0 to 4294967295 is allowed"))
                };
                Ok(Community::Large(word(a)?, word(b)?, word(c)?))
            }
            [_, _, _, _] => Err(CommunityError::Marker(text.to_owned())),
            _ => Err(CommunityError::Format(text.to_owned())),
        }
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Community::Standard(value) => write!(f, "{}:{}", value >> 16, value & 0xffff),
            Community::Large(a, b, c) => write!(f, "large:{a}:{b}:{c}"),
        }
    }
}

/// What an alias stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The Community object that defines it.
    pub object: String,
    /// What it stands for.
    pub community: Community,
}

/// Reads an alias of the Community `object`, where it is the entry `index`.
pub(crate) fn parse_alias(
    object: &str,
    index: usize,
    alias: &CommunityAlias,
) -> Result<Alias, Refusal> {
    match alias.value.parse() {
        Ok(community) => Ok(Alias {
            object: object.to_owned(),
            community,
        }),
        Err(error) => Err(refusal(
            object,
            index,
            format!("parsing community {:?}: {error}", alias.name),
        )),
    }
}

/// The refusal of an alias that is `defined` already.
pub(crate) fn defined_twice(
    object: &str,
    index: usize,
    alias: &CommunityAlias,
    defined: &Alias,
) -> Refusal {
    let reason = format!("duplicate definition of community {:?}", alias.name);
    if defined.object == object {
        let reason = format!("{reason}: it stands in this object before; remove one of the two");
        refusal(object, index, reason)
    } else {
        let other = &defined.object;
        let reason = format!("{reason}: Community {other:?} defines it; give it another name");
        refusal(object, index, reason).conflicting()
    }
}

fn refusal(object: &str, index: usize, reason: String) -> Refusal {
    Refusal::new(
        "Community",
        object,
        format!("spec.communities[{index}]"),
        reason,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_written() {
        for text in ["64512:100", "0:0", "65535:65535", "large:4294967295:0:7"] {
            assert_eq!(text.parse::<Community>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_communities_carry_metallbs_fragments() {
        for (text, fragment) in [
            ("99999999:1", "invalid section \"99999999\""),
            ("+1:2", "invalid section \"+1\""),
            ("1:", "invalid section \"\""),
            ("1:2:3", "invalid community format: 1:2:3"),
            ("alias", "invalid community format: alias"),
            ("lar:1:2:3", "invalid marker for large community"),
            ("large:1:2:4294967296", "invalid section"),
        ] {
            let error = text.parse::<Community>().unwrap_err().to_string();
            assert!(error.contains(fragment), "{text}: {error}");
        }
    }
}
