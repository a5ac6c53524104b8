//! Which selectors ask for labels that nothing can have?
//!
//! MetalLB does not take such a selector at all (reference 2.3, bad selector). Here it is a warning: beside it in the list may
//! be others that select what they should, and an object that is refused for one of them would announce nothing.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::quoted;
use crate::names;
use crate::verdict::Verdict;

/// Looks at each selector of the list in `field`.
pub(crate) fn warn(field: &str, list: &[LabelSelector], verdict: &mut Verdict) {
    for (index, selector) in list.iter().enumerate() {
        warn_one(&format!("{field}[{index}]"), selector, verdict);
    }
}

/// Looks at the one selector in `field`.
pub(crate) fn warn_one(field: &str, selector: &LabelSelector, verdict: &mut Verdict) {
    const NOTHING: &str = "so nothing is selected";
    for (key, value) in selector.match_labels.iter().flatten() {
        let field = format!("{field}.matchLabels");
        warn_of_key(&field, key, NOTHING, verdict);
        warn_of_value(&field, value, NOTHING, verdict);
    }
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let field = format!("{field}.matchExpressions[{index}]");
        let excludes = ["NotIn", "DoesNotExist"].contains(&expression.operator.as_str());
        let so = match excludes {
            true => "so nothing is excluded by it",
            false => "so nothing is selected by it",
        };
        warn_of_key(&format!("{field}.key"), &expression.key, so, verdict);
        for (at, value) in expression.values.iter().flatten().enumerate() {
            warn_of_value(&format!("{field}.values[{at}]"), value, so, verdict);
        }
    }
}

fn warn_of_key(field: &str, key: &str, so: &str, verdict: &mut Verdict) {
    if !names::is_label_key(key) {
        verdict.warn(
            field,
            format!(
                "no label has the key {}, {so}; a key is 1 to 63 letters, digits, '-', '_' or '.', \
                 after a prefix such as example.com/ or alone",
                quoted(key)
            ),
        );
    }
}

fn warn_of_value(field: &str, value: &str, so: &str, verdict: &mut Verdict) {
    if !names::is_label_value(value) {
        verdict.warn(
            field,
            format!(
                "no label has the value {}, {so}; a value is up to 63 letters, digits, '-', '_' or '.', \
                 the last three neither first nor last",
                quoted(value)
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_no_label_can_have_is_told_with_its_place_and_the_rule_is_not_cut_off() {
        let long = "x".repeat(400);
        let selector = json!([
            {"matchLabels": {"kubernetes.io/os": "linux", "rack": ""}},
            {"matchLabels": {"rack no": "a/b"}, "matchExpressions": [
                {"key": "rack", "operator": "In", "values": ["a", "-b"]},
                {"key": "a/b/c", "operator": "DoesNotExist"},
                {"key": &long, "operator": "Exists"},
            ]},
        ]);
        let list: Vec<LabelSelector> = serde_json::from_value(selector).unwrap();
        let mut verdict = Verdict::default();
        warn(
            "spec.serviceAllocation.namespaceSelectors",
            &list,
            &mut verdict,
        );
        let at = |rest: &str| format!("spec.serviceAllocation.namespaceSelectors[1].{rest}");
        let said: Vec<(String, bool)> = verdict
            .warnings
            .iter()
            .map(|warning| {
                (
                    warning.field.clone(),
                    warning.text.contains("nothing is selected"),
                )
            })
            .collect();
        assert_eq!(
            said,
            [
                (at("matchLabels"), true),
                (at("matchLabels"), true),
                (at("matchExpressions[0].values[1]"), true),
                (at("matchExpressions[1].key"), false),
                (at("matchExpressions[2].key"), true),
            ]
        );
        for warning in &verdict.warnings {
            let text = &warning.text;
            assert!(
                text.ends_with("or alone") || text.ends_with("nor last"),
                "{warning}"
            );
        }
    }
}
