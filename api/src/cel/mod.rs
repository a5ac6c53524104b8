//! What does the API server refuse by itself?
//!
//! The rules are those of `ferrolb-rules`, said once more in the one language that the API server understands; a scenario of
//! the lab (`validation/layers-agree`) holds the two against each other. Where MetalLB has a sentence that tools may match
//! on, the message contains it.
//!
//! The API server estimates what a rule can cost at worst and refuses a definition with one that is too dear. So a list that
//! is looked at entry by entry has a length and its texts have one. Those lengths are the only thing that FerroLB is
//! stricter about than MetalLB; they are in [`limits`].
//!
//! What cannot be said here is left to the webhook and to run time:
//!
//! | Rule | Why |
//! |---|---|
//! | entries that overlap, in a pool or between pools | each entry beside each other one is too dear |
//! | duplicates in lists of names, selectors, communities and aliases | the same |
//! | a range of IPv6 that runs backwards, where the ends differ before their last group or have blanks around the dash | there is no order of addresses; here the last groups are compared |
//! | annotations of a pool or an L2Advertisement | a rule sees only the name of an object's metadata |
//! | an interface pattern that does not compile | the language of patterns there is another one |
//! | a BGPPeer of v1beta1 without peerASN or peerAddress | what v1beta2 has in their place is in an annotation |
//! | whatever needs another object | a rule sees one object |

pub(crate) mod addresses;
pub(crate) mod communities;
pub(crate) mod limits;
pub(crate) mod peers;
pub(crate) mod ranges;
pub(crate) mod selectors;

use serde_json::{Map, Value};

/// A rule in the form of `x-kubernetes-validations`.
pub(crate) struct Rule(Map<String, Value>);

impl Rule {
    /// What must hold, and what is said if it does not: field, rule and remedy. The API server names the value beside it.
    pub(crate) fn new(rule: impl Into<String>, message: &str) -> Self {
        Self(Map::new()).with("rule", rule).with("message", message)
    }

    /// A sentence that names the value, as an expression. The message stays for when it cannot be evaluated.
    pub(crate) fn saying(self, expression: impl Into<String>) -> Self {
        self.with("messageExpression", expression)
    }

    /// The field that is to be changed, for a rule about several.
    pub(crate) fn at(self, field: &str) -> Self {
        self.with("fieldPath", format!(".{field}"))
    }

    /// The field is missing, so that there is no value to show.
    pub(crate) fn required(self) -> Self {
        self.with("reason", "FieldValueRequired")
    }

    fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.0.insert(key.to_owned(), Value::String(value.into()));
        self
    }
}

/// Rules as the value of `x-kubernetes-validations`.
pub(crate) fn list<const N: usize>(rules: [Rule; N]) -> Value {
    rules.into_iter().map(|Rule(rule)| rule).collect()
}
