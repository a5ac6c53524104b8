//! What is wrong with an object, where, and what to do about it.

use std::fmt;

/// One problem of one object. A webhook prints it, a condition carries it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The kind of the object, for example `IPAddressPool`.
    pub kind: &'static str,
    /// The name of the object.
    pub name: String,
    /// The path of the field, for example `spec.addresses[1]`.
    pub field: String,
    /// A sentence with the value, the rule that it breaks and the remedy.
    pub reason: String,
    /// Whether it is another object that the object contradicts, and not a rule for itself.
    pub conflict: bool,
}

impl Refusal {
    /// A refusal of `field` in the object `kind` `name`.
    pub fn new(
        kind: &'static str,
        name: &str,
        field: impl Into<String>,
        reason: impl fmt::Display,
    ) -> Self {
        Refusal {
            kind,
            name: name.to_owned(),
            field: field.into(),
            reason: reason.to_string(),
            conflict: false,
        }
    }

    /// The same, for a contradiction with another object.
    #[must_use]
    pub fn conflicting(self) -> Self {
        Refusal {
            conflict: true,
            ..self
        }
    }
}

/// The problems that are told of one object; nobody mends more at a time. An object may be wrong in hundreds of thousands of
/// places, and what is told of it is held in memory, logged, and sent.
const TOLD_AT_MOST: usize = 50;

/// Adds a refusal of an object to those that are told of it. One too many says that there are more.
pub(crate) fn tell(told: &mut Vec<Refusal>, refusal: Refusal) {
    match told.len().cmp(&TOLD_AT_MOST) {
        std::cmp::Ordering::Less => told.push(refusal),
        std::cmp::Ordering::Equal => told.push(Refusal {
            reason: format!("and more; of all problems {TOLD_AT_MOST} are named"),
            ..refusal
        }),
        std::cmp::Ordering::Greater => {}
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {:?}, {}: {}",
            self.kind, self.name, self.field, self.reason
        )
    }
}
