//! What is to be said of an object that somebody is about to write?

use std::fmt;

use crate::refusal::Refusal;

/// The longest warning in characters: the API server cuts what is longer (`admission.k8s.io/v1`, warnings).
pub const WARNING_AT_MOST: usize = 256;

/// The longest field in characters; a key of an annotation has up to 317.
const FIELD_AT_MOST: usize = 120;
/// Warnings about one object: the API server drops what goes beyond 4,096 characters in all.
const WARNINGS_AT_MOST: usize = 32;

/// What was found out about one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The rules that it breaks. With one, it must not pass.
    pub refusals: Vec<Refusal>,
    /// What is legal and probably wrong.
    pub warnings: Vec<Warning>,
}

/// Something that is legal and probably wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// The path of the field, for example `spec.addresses[1]`.
    pub field: String,
    /// A sentence that says what will happen and what to do if that is not meant.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.text)
    }
}

impl Verdict {
    /// The verdict on an object of which only refusals are told.
    pub(crate) fn of(refusals: Vec<Refusal>) -> Self {
        Verdict {
            refusals,
            warnings: Vec::new(),
        }
    }

    pub(crate) fn warn(&mut self, field: impl Into<String>, text: impl fmt::Display) {
        if self.warnings.len() >= WARNINGS_AT_MOST {
            return;
        }
        let field = cut(field.into(), FIELD_AT_MOST);
        let mut text = text.to_string();
        let room = WARNING_AT_MOST.saturating_sub(field.chars().count() + ": ".len());
        text = cut(text, room);
        self.warnings.push(Warning { field, text });
    }

    /// Both lists in the order of fields, so that the same object is always told the same.
    pub(crate) fn sorted(mut self) -> Self {
        self.refusals.sort();
        self.warnings.sort();
        self.warnings.dedup();
        self
    }
}

/// A text of at most so many characters, with an ellipsis where something is missing.
pub(crate) fn cut(mut text: String, at_most: usize) -> String {
    if text.char_indices().nth(at_most).is_some() {
        let end = text.char_indices().nth(at_most.saturating_sub(1));
        text.truncate(end.map_or(0, |(end, _)| end));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_no_longer_than_the_api_server_lets_through() {
        let mut verdict = Verdict::default();
        verdict.warn("spec.addresses[0]", "ä".repeat(300));
        verdict.warn("spec.addresses[0]", "short");
        verdict.warn("k".repeat(400), "x".repeat(400));
        let lengths: Vec<usize> = verdict
            .warnings
            .iter()
            .map(|warning| warning.to_string().chars().count())
            .collect();
        assert_eq!(lengths, [256, 24, 256]);
        for _ in 0..1000 {
            verdict.warn("spec", "again");
        }
        assert_eq!(verdict.warnings.len(), 32);
    }
}
