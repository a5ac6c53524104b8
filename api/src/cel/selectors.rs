//! Which operators are there, and which takes values?
//!
//! A list of values in the schema would say the first too, but an API server that refuses such a value asks no other rule and
//! has kubectl print that as a problem of its own.

use serde_json::Value;

use super::{Rule, list};

/// For one expression of a selector.
pub(crate) fn expression() -> Value {
    let with_values = "has(self.values) && size(self.values) > 0";
    let start = "'matchExpressions for \"' + self.key + '\" has operator ' + self.operator";
    list([
        Rule::new(
            "self.operator in ['In', 'NotIn', 'Exists', 'DoesNotExist']",
            "unknown operator; use In, NotIn, Exists or DoesNotExist",
        )
        .saying(
            "'matchExpressions for \"' + self.key + '\" has the unknown operator \"' + self.operator \
             + '\"; use In, NotIn, Exists or DoesNotExist'",
        ),
        Rule::new(
            format!("!(self.operator in ['In', 'NotIn']) || ({with_values})"),
            "operators In and NotIn need values; add at least one value",
        )
        .saying(format!(
            "{start} + ' without values; add at least one value'"
        )),
        Rule::new(
            format!("!(self.operator in ['Exists', 'DoesNotExist']) || !({with_values})"),
            "operators Exists and DoesNotExist have no values; remove the values",
        )
        .saying(format!("{start} + ' with values; remove the values'")),
    ])
}
