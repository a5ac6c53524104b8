//! Does a label selector match these labels?

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::labels::Labelled;

/// A label selector whose operators have been checked. The empty selector matches everything.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Requirement {
    In(String, BTreeSet<String>),
    NotIn(String, BTreeSet<String>),
    Exists(String),
    DoesNotExist(String),
}

impl Selector {
    /// Checks a selector as it stands in an object.
    ///
    /// # Errors
    /// A sentence that names the expression and what is allowed there.
    pub fn parse(selector: &LabelSelector) -> Result<Self, String> {
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            requirements.push(Requirement::In(
                key.clone(),
                BTreeSet::from([value.clone()]),
            ));
        }
        for expression in selector.match_expressions.iter().flatten() {
            let values: BTreeSet<String> = expression.values.iter().flatten().cloned().collect();
            let key = expression.key.clone();
            requirements.push(match (expression.operator.as_str(), values.is_empty()) {
                ("In", false) => Requirement::In(key, values),
                ("NotIn", false) => Requirement::NotIn(key, values),
                ("Exists", true) => Requirement::Exists(key),
                ("DoesNotExist", true) => Requirement::DoesNotExist(key),
                ("In" | "NotIn", true) => {
                    return Err(format!(
                        "matchExpressions for {key:?} has operator {} without values; add at least one value",
                        expression.operator
                    ));
                }
                ("Exists" | "DoesNotExist", false) => {
                    return Err(format!(
                        "matchExpressions for {key:?} has operator {} with values; remove the values",
                        expression.operator
                    ));
                }
                (other, _) => {
                    return Err(format!(
                        "matchExpressions for {key:?} has the unknown operator {other:?}; use In, NotIn, Exists or DoesNotExist"
                    ));
                }
            });
        }
        requirements.sort();
        Ok(Selector { requirements })
    }

    /// Whether every requirement holds for `labels`.
    #[must_use]
    pub fn matches(&self, labels: &impl Labelled) -> bool {
        self.requirements
            .iter()
            .all(|requirement| match requirement {
                Requirement::In(key, values) => labels
                    .label(key)
                    .is_some_and(|value| values.contains(value)),
                Requirement::NotIn(key, values) => labels
                    .label(key)
                    .is_none_or(|value| !values.contains(value)),
                Requirement::Exists(key) => labels.label(key).is_some(),
                Requirement::DoesNotExist(key) => labels.label(key).is_none(),
            })
    }
}

/// Whether one of `selectors` matches, or there is none: lists of selectors are OR-ed, an empty list selects all
/// (reference 1.2, 1.3, 1.4).
#[must_use]
pub fn any_matches(selectors: &[Selector], labels: &impl Labelled) -> bool {
    selectors.is_empty() || selectors.iter().any(|selector| selector.matches(labels))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

    use super::*;

    fn expression(key: &str, operator: &str, values: &[&str]) -> LabelSelector {
        LabelSelector {
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: key.into(),
                operator: operator.into(),
                values: Some(values.iter().map(ToString::to_string).collect()),
            }]),
            match_labels: None,
        }
    }

    #[test]
    fn operators_mean_what_kubernetes_says() {
        let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
        for (operator, values, key, expected) in [
            ("In", &["a", "b"][..], "zone", true),
            ("In", &["b"][..], "zone", false),
            ("NotIn", &["b"][..], "zone", true),
            ("NotIn", &["b"][..], "absent", true),
            ("Exists", &[][..], "zone", true),
            ("DoesNotExist", &[][..], "zone", false),
        ] {
            let selector = Selector::parse(&expression(key, operator, values)).unwrap();
            assert_eq!(selector.matches(&labels), expected, "{operator} {values:?}");
        }
        assert!(Selector::default().matches(&labels));
        assert!(any_matches(&[], &labels));
    }

    #[test]
    fn a_selector_that_means_nothing_is_refused_with_the_remedy() {
        assert!(
            Selector::parse(&expression("zone", "In", &[]))
                .unwrap_err()
                .contains("add at least one value")
        );
        assert!(
            Selector::parse(&expression("zone", "Exists", &["a"]))
                .unwrap_err()
                .contains("remove the values")
        );
        assert!(
            Selector::parse(&expression("zone", "Equals", &["a"]))
                .unwrap_err()
                .contains("unknown operator")
        );
    }
}
