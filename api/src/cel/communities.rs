//! Which texts are BGP communities?

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::limits::{COMMUNITIES, COMMUNITY_LENGTH};
use super::{Rule, list};

/// `spec.communities` of a BGPAdvertisement: a word without a colon is an alias, which may be defined later.
pub(crate) fn of_an_advertisement(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": COMMUNITIES,
        "items": {
            "type": "string",
            "maxLength": COMMUNITY_LENGTH,
            "x-kubernetes-validations": value("!self.contains(':') || ", "'invalid community \"' + self + '\" in BGP advertisement: ")
        }
    })
}

/// An alias in a Community object: it stands for something.
pub(crate) fn alias() -> Value {
    list([Rule::new(
        "has(self.value)",
        "invalid community format: there is no value; write <uint16>:<uint16> or large:<uint32>:<uint32>:<uint32>",
    )
    .at("value")
    .required()])
}

/// The value of an alias in a Community object.
pub(crate) fn of_an_alias() -> Value {
    value("", "'")
}

fn value(unless: &str, start: &str) -> Value {
    let parts = |count: &str| format!("size(self.split(':', 5)) == {count}");
    let (two, four) = (parts("2"), parts("4"));
    let standard = "self.matches('^0*[0-9]{1,5}:0*[0-9]{1,5}$') && self.split(':', 2).all(part, int(part) <= 65535)";
    let large = "self.matches('^large:0*[0-9]{1,10}:0*[0-9]{1,10}:0*[0-9]{1,10}$') && \
                 self.split(':', 4).all(part, part == 'large' || int(part) <= 4294967295)";
    // The first part that is no number in its range.
    let wrong = |parts: &str, digits: u8, most: u32| {
        format!(
            "{parts}.filter(part, !(part.matches('^0*[0-9]{{1,{digits}}}$') && int(part) <= {most}))[0]"
        )
    };
    let wrong_half = wrong("self.split(':', 2)", 5, u16::MAX.into());
    let wrong_word = wrong("self.substring(6).split(':', 3)", 10, u32::MAX);
    list([
        Rule::new(
            format!("{unless}{two} || {four}"),
            "invalid community format; write <uint16>:<uint16> or large:<uint32>:<uint32>:<uint32>",
        )
        .saying(format!(
            "{start}invalid community format: ' + self + '; write <uint16>:<uint16> or large:<uint32>:<uint32>:<uint32>'"
        )),
        Rule::new(
            format!("!({four}) || self.startsWith('large:')"),
            "invalid community value: invalid marker for large community, expected community to be of format large:<uint32>:<uint32>:<uint32>",
        )
        .saying(format!(
            "{start}invalid community value: invalid marker for large community, expected community to be of format \
             large:<uint32>:<uint32>:<uint32>, got \"' + self + '\"'"
        )),
        Rule::new(
            format!("!({two}) || ({standard})"),
            "invalid community value: invalid section; 0 to 65535 is allowed",
        )
        .saying(format!(
            "{start}invalid community value: invalid section \"' + {wrong_half} + '\" in \"' + self + '\"; 0 to 65535 is allowed'"
        )),
        Rule::new(
            format!("!({four}) || !self.startsWith('large:') || ({large})"),
            "invalid community value: invalid section; 0 to 4294967295 is allowed",
        )
        .saying(format!(
            "{start}invalid community value: invalid section \"' + {wrong_word} + '\" in \"' + self + '\"; 0 to 4294967295 is \
             allowed'"
        )),
    ])
}
