//! The custom resource definitions: one for each kind, with all its versions.

use ferrolb_api::{labels, v1beta1, v1beta2};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResourceExt, ResourceExt};
use serde_json::{Value, json};

use crate::normalise;

/// Every definition, as JSON, by the kind's plural.
pub fn all() -> Result<Vec<Crd>, serde_json::Error> {
    let mut bgp_peers = labelled(v1beta2::BGPPeer::crd());
    let older = labelled(v1beta1::BGPPeer::crd());
    bgp_peers.spec.versions.splice(0..0, older.spec.versions);
    [
        labelled(v1beta1::BFDProfile::crd()),
        labelled(v1beta1::BGPAdvertisement::crd()),
        bgp_peers,
        labelled(v1beta1::Community::crd()),
        labelled(v1beta1::ConfigurationState::crd()),
        labelled(v1beta1::IPAddressPool::crd()),
        labelled(v1beta1::L2Advertisement::crd()),
        labelled(v1beta1::ServiceBGPStatus::crd()),
        labelled(v1beta1::ServiceL2Status::crd()),
    ]
    .into_iter()
    .map(finished)
    .collect()
}

/// One definition.
#[derive(Clone, Debug)]
pub struct Crd {
    /// Its object name, such as `ipaddresspools.metallb.io`.
    pub name: String,
    /// The kind's plural, such as `ipaddresspools`.
    pub plural: String,
    /// The kind.
    pub kind: String,
    /// One line about the kind.
    pub description: String,
    /// Names of the versions, the oldest first.
    pub versions: Vec<String>,
    /// The object that is applied.
    pub object: Value,
}

fn labelled(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    crd.labels_mut()
        .insert(labels::APP_NAME.to_owned(), labels::FERROLB.to_owned());
    crd
}

fn finished(crd: CustomResourceDefinition) -> Result<Crd, serde_json::Error> {
    let mut object = serde_json::to_value(&crd)?;
    let mut description = String::new();
    if let Some(versions) = object
        .pointer_mut("/spec/versions")
        .and_then(Value::as_array_mut)
    {
        for version in versions {
            if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") {
                normalise::schema(schema);
                if let Some(text) = schema.get("description").and_then(Value::as_str) {
                    text.clone_into(&mut description);
                }
            }
        }
    }
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        // Both versions of BGPPeer name their fields alike. Written out, it also undoes the conversion webhook of MetalLB.
        spec.insert("conversion".to_owned(), json!({ "strategy": "None" }));
    }
    Ok(Crd {
        name: crd.name_any(),
        plural: crd.spec.names.plural,
        kind: crd.spec.names.kind,
        description,
        versions: crd
            .spec
            .versions
            .into_iter()
            .map(|version| version.name)
            .collect(),
        object,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crd(plural: &str) -> Value {
        all()
            .unwrap()
            .into_iter()
            .find(|crd| crd.plural == plural)
            .unwrap()
            .object
    }

    #[test]
    fn a_peer_is_stored_in_its_newer_version_and_the_older_one_warns() {
        let versions = crd("bgppeers")["spec"]["versions"].clone();
        let summary: Vec<_> = versions
            .as_array()
            .unwrap()
            .iter()
            .map(|v| {
                (
                    v["name"].clone(),
                    v["served"].clone(),
                    v["storage"].clone(),
                    v["deprecationWarning"].clone(),
                )
            })
            .collect();
        assert_eq!(
            summary,
            [
                (
                    json!("v1beta1"),
                    json!(true),
                    json!(false),
                    json!("v1beta1 is deprecated, please use v1beta2")
                ),
                (json!("v1beta2"), json!(true), json!(true), Value::Null),
            ]
        );
    }

    #[test]
    fn every_kind_is_namespaced_has_a_status_and_no_short_name() {
        let crds = all().unwrap();
        assert_eq!(crds.len(), 9);
        for crd in crds {
            let spec = &crd.object["spec"];
            assert_eq!(spec["scope"], "Namespaced", "{}", crd.kind);
            assert!(spec["names"].get("shortNames").is_none(), "{}", crd.kind);
            assert!(spec["names"].get("categories").is_none(), "{}", crd.kind);
            for version in spec["versions"].as_array().unwrap() {
                assert_eq!(version["subresources"]["status"], json!({}), "{}", crd.kind);
            }
        }
    }

    #[test]
    fn conditions_are_a_map_keyed_by_type_wherever_a_person_writes_the_kind() {
        for plural in [
            "ipaddresspools",
            "l2advertisements",
            "bgpadvertisements",
            "bgppeers",
            "bfdprofiles",
            "communities",
        ] {
            for version in crd(plural)["spec"]["versions"].as_array().unwrap() {
                let conditions = version
                    .pointer("/schema/openAPIV3Schema/properties/status/properties/conditions")
                    .unwrap_or_else(|| panic!("{plural} has no conditions"));
                assert_eq!(conditions["x-kubernetes-list-type"], "map", "{plural}");
                assert_eq!(
                    conditions["x-kubernetes-list-map-keys"],
                    json!(["type"]),
                    "{plural}"
                );
            }
        }
    }

    #[test]
    fn only_a_pool_and_a_peer_need_a_spec() {
        for crd in all().unwrap() {
            for version in crd.object["spec"]["versions"].as_array().unwrap() {
                let required = version
                    .pointer("/schema/openAPIV3Schema/required")
                    .is_some();
                assert_eq!(
                    required,
                    ["IPAddressPool", "BGPPeer"].contains(&crd.kind.as_str()),
                    "{}",
                    crd.kind
                );
            }
        }
    }

    /// Visits every schema of a definition with its path; `bounded` says whether all lists around it have a length.
    fn visit(
        schema: &Value,
        path: &str,
        bounded: bool,
        check: &mut impl FnMut(&Value, &str, bool),
    ) {
        check(schema, path, bounded);
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            visit(field, &format!("{path}.{name}"), bounded, check);
        }
        if let Some(items) = schema.get("items") {
            let bounded = bounded && schema.get("maxItems").is_some();
            visit(items, &format!("{path}[]"), bounded, check);
        }
    }

    #[test]
    fn every_rule_has_a_message_and_stands_in_lists_that_have_a_length() {
        let mut rules = 0;
        for crd in all().unwrap() {
            for version in crd.object["spec"]["versions"].as_array().unwrap() {
                let root = &version["schema"]["openAPIV3Schema"];
                visit(root, &crd.kind, true, &mut |schema, path, bounded| {
                    for rule in schema["x-kubernetes-validations"]
                        .as_array()
                        .into_iter()
                        .flatten()
                    {
                        rules += 1;
                        let message = rule["message"].as_str().unwrap_or_default();
                        assert!(
                            !message.is_empty() && !message.contains('\n'),
                            "{path}: {rule}"
                        );
                        assert!(
                            bounded,
                            "{path}: the API server cannot tell what this costs: {rule}"
                        );
                    }
                });
            }
        }
        assert!(rules > 50, "{rules}");
    }
}
