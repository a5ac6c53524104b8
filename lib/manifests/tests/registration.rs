//! What API servers are told to ask, and what never depends on an answer.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use ferrolb_api::annotations;
use ferrolb_manifests::{Installation, endpoints, fail_closed, guests};
use serde_json::{Value, json};

/// Every entry of both registrations.
fn entries() -> Vec<Value> {
    let installation = Installation::default();
    [
        json!(installation.webhook_configuration()),
        json!(installation.mutating_webhook_configuration()),
    ]
    .iter()
    .flat_map(|registration| registration["webhooks"].as_array().unwrap().clone())
    .collect()
}

#[test]
fn the_registration_leaves_the_certificate_authority_to_the_operator_and_lets_changes_pass() {
    let entries = entries();
    assert_eq!(entries.len(), endpoints().len() + guests().len() + 1);
    for entry in entries {
        let client = &entry["clientConfig"];
        assert_eq!(client["caBundle"], Value::Null, "{entry}");
        assert_eq!(client["service"]["namespace"], "metallb-system");
        assert_eq!(entry["failurePolicy"], "Ignore", "{entry}");
        assert_eq!(entry["sideEffects"], "None", "{entry}");
    }
}

#[test]
fn the_paths_of_our_kinds_are_those_of_metallb() {
    for endpoint in endpoints() {
        let start = format!("/validate-metallb-io-{}-", endpoint.version);
        assert!(endpoint.path.starts_with(&start), "{}", endpoint.path);
    }
}

#[test]
fn of_kinds_that_are_not_ours_only_some_objects_come_and_never_one_that_is_being_deleted() {
    let foreign: Vec<Value> = entries()
        .into_iter()
        .filter(|entry| entry["rules"][0]["apiGroups"] == json!([""]))
        .collect();
    assert_eq!(foreign.len(), 3);
    for entry in foreign {
        assert_eq!(entry["timeoutSeconds"], 2);
        assert_eq!(entry["rules"][0]["operations"], json!(["CREATE", "UPDATE"]));
        let conditions: Vec<&str> = entry["matchConditions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|condition| condition["expression"].as_str().unwrap())
            .collect();
        assert!(conditions.contains(&"!has(object.metadata.deletionTimestamp)"));
        assert!(conditions.len() > 1, "{entry}");
        // A condition that fails to evaluate counts by failurePolicy: nothing is read that may be absent.
        for condition in conditions {
            for optional in [
                "object.metadata.annotations",
                "object.spec.loadBalancerIP",
                "object.spec.type",
            ] {
                let read = condition.matches(optional).count();
                assert!(
                    read == 0 || condition.contains(&format!("has({optional})")),
                    "{condition}"
                );
            }
        }
    }
}

/// The keys that the webhook itself or the operator leaves on every Service that has an address.
#[test]
fn what_ferrolb_itself_leaves_on_a_service_asks_for_nothing() {
    let service = guests()
        .into_iter()
        .find(|guest| guest.plural == "services")
        .unwrap();
    let &(_, expression) = service
        .conditions
        .iter()
        .find(|(name, _)| *name == "asks-for-something")
        .unwrap();
    let (_, predicate) = expression.split_once(".exists(key, ").unwrap();
    let (excluded, prefixes) = predicate.split_once(" && ").unwrap();
    let ours = [
        annotations::IP_ALLOCATED_FROM_POOL,
        annotations::TRACEPARENT,
    ];
    assert_eq!(
        excluded,
        format!("!(key in ['{}', '{}'])", ours[0], ours[1])
    );
    // Beside `&&`, the prefixes must stand in parentheses: `||` binds less.
    assert!(prefixes.starts_with('('), "{prefixes}");
    for key in ours {
        let (prefix, _) = key.split_once('/').unwrap();
        assert!(prefixes.contains(&format!("key.startsWith('{prefix}/')")));
    }
}

#[test]
fn fail_closed_concerns_changes_to_our_own_kinds_and_nothing_else() {
    let patch = fail_closed();
    let names: Vec<&str> = patch["webhooks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["name"].as_str().unwrap())
        .collect();
    for entry in entries() {
        let rule = &entry["rules"][0];
        let ours = rule["apiGroups"] == json!(["metallb.io"]);
        let changes = rule["operations"] == json!(["CREATE", "UPDATE"]);
        let name = entry["name"].as_str().unwrap();
        assert_eq!(names.contains(&name), ours && changes, "{entry}");
    }
    assert_eq!(names.len(), 6, "every kind of ours: {names:?}");
}

#[test]
fn nothing_of_ours_that_is_being_deleted_waits_for_an_answer() {
    let ours: Vec<Value> = entries()
        .into_iter()
        .filter(|entry| entry["rules"][0]["apiGroups"] == json!(["metallb.io"]))
        .collect();
    let mut deletions = Vec::new();
    for entry in &ours {
        let operations = &entry["rules"][0]["operations"];
        if operations.as_array().unwrap().contains(&json!("DELETE")) {
            // Its object is null: a condition that reads it fails, and a failure counts by failurePolicy.
            assert_eq!(entry["matchConditions"], Value::Null, "{entry}");
            assert_eq!(operations, &json!(["DELETE"]), "{entry}");
            deletions.push(entry["rules"][0]["resources"][0].as_str().unwrap());
        } else {
            let expression = &entry["matchConditions"][0]["expression"];
            assert_eq!(expression, "!has(object.metadata.deletionTimestamp)");
        }
    }
    assert_eq!(deletions, ["bfdprofiles"], "a profile that is used stays");
}

#[test]
fn only_conversions_go_to_webhooks_that_are_not_ready() {
    let installation = Installation::default();
    let published = |service: k8s_openapi::api::core::v1::Service| {
        service.spec.unwrap().publish_not_ready_addresses
    };
    assert_eq!(published(installation.webhook_service()), None);
    assert_eq!(published(installation.conversion_service()), Some(true));
    let service = &installation.conversion()["spec"]["conversion"]["webhook"]["clientConfig"];
    assert_eq!(
        service["service"]["name"],
        json!(installation.conversion_service().metadata.name)
    );
    for entry in entries() {
        assert_eq!(
            entry["clientConfig"]["service"]["name"],
            json!(installation.webhook_service().metadata.name)
        );
    }
}

/// One answers while the other goes.
#[test]
fn there_are_two_webhooks_and_a_drain_takes_one_at_a_time() {
    let installation = Installation::default();
    let (deployment, budget) = (
        json!(installation.webhook()),
        json!(installation.webhook_disruption_budget()),
    );
    assert_eq!(deployment["spec"]["replicas"], 2);
    assert_eq!(budget["spec"]["maxUnavailable"], 1);
    let pods = &deployment["spec"]["template"]["metadata"]["labels"];
    for (label, value) in budget["spec"]["selector"]["matchLabels"]
        .as_object()
        .unwrap()
    {
        assert_eq!(pods[label], *value);
    }
}
