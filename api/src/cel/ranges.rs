//! Which numbers may a field be?
//!
//! The bounds stand once, as `validator` has them on the field. The API server's own words for `minimum` and `maximum` name one
//! bound and no remedy, and a rule beside them would only be a second line about the same mistake.

use schemars::Schema;
use serde_json::Value;

use super::{Rule, list};

/// Turns the bounds of each field into a rule.
pub(crate) fn told(schema: &mut Schema) {
    let fields = schema.get_mut("properties").and_then(Value::as_object_mut);
    for field in fields.into_iter().flat_map(|fields| fields.values_mut()) {
        let Some(field) = field.as_object_mut() else {
            continue;
        };
        // A bound that stands alone stays the schema's.
        let bounds = field
            .get("minimum")
            .cloned()
            .zip(field.get("maximum").cloned());
        let Some((least, most)) = bounds else {
            continue;
        };
        field.remove("minimum");
        field.remove("maximum");
        let rule = list([Rule::new(
            format!("{least} <= self && self <= {most}"),
            &format!("must be from {least} to {most}; write a number in that range"),
        )]);
        let rules = field
            .entry("x-kubernetes-validations")
            .or_insert_with(|| Value::Array(Vec::new()));
        if let (Some(rules), Value::Array(rule)) = (rules.as_array_mut(), rule) {
            rules.extend(rule);
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt;
    use serde_json::json;

    use crate::v1beta1::{BFDProfile, L2Advertisement};
    use crate::v1beta2::BGPPeer;

    #[test]
    fn every_bound_is_a_rule_with_a_remedy() {
        let crd = serde_json::to_value(BFDProfile::crd()).unwrap();
        let field = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/minimumTtl";
        let field = crd.pointer(field).unwrap();
        assert_eq!(
            field["x-kubernetes-validations"],
            json!([{
                "rule": "1 <= self && self <= 254",
                "message": "must be from 1 to 254; write a number in that range",
            }])
        );
        for crd in [BFDProfile::crd(), L2Advertisement::crd(), BGPPeer::crd()] {
            let text = serde_json::to_string(&crd.spec.versions[0].schema).unwrap();
            assert!(!text.contains("\"maximum\""), "{text}");
            assert!(text.contains("must be from 1"), "{text}");
        }
    }
}
