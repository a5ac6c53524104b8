//! Which Services are warned of: those that come to nothing whoever else asks for the same.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use ferrolb_rules::{AllObjects, Known, LastGood};
use serde_json::{Value, json};

fn known() -> Known {
    let pool = |name: &str, annotations: Value, spec: Value| {
        let object = json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
            "metadata": {"name": name, "namespace": "metallb-system", "annotations": annotations}, "spec": spec,
        });
        Arc::new(serde_json::from_value(object).unwrap())
    };
    let pools = vec![
        pool(
            "office",
            json!({"ferrolb.io/exclude": "10.0.0.7"}),
            json!({"addresses": ["10.0.0.0/24"], "avoidBuggyIPs": true}),
        ),
        pool(
            "both",
            json!({}),
            json!({"addresses": ["10.0.1.0/24", "fd00::/112"]}),
        ),
        pool(
            "shop",
            json!({}),
            json!({"addresses": ["10.0.2.0/24"], "serviceAllocation": {"namespaces": ["shop", "till"]}}),
        ),
        pool(
            "front",
            json!({}),
            json!({"addresses": ["10.0.3.0/24"], "serviceAllocation": {
                "namespaces": ["shop"], "namespaceSelectors": [{"matchLabels": {"tier": "front"}}],
            }}),
        ),
        pool(
            "web",
            json!({}),
            json!({"addresses": ["10.0.4.0/24"], "serviceAllocation": {"serviceSelectors": [{"matchLabels": {"app": "web"}}]}}),
        ),
    ];
    let all = AllObjects {
        pools,
        ..AllObjects::default()
    };
    Known::new(all, &mut LastGood::default(), None)
}

/// The warnings about a Service of namespace `default`, as field and text.
fn warned(known: &Known, annotations: Value, spec: Value) -> Vec<String> {
    let mut object = json!({
        "metadata": {"name": "s", "namespace": "default", "annotations": annotations},
        "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.1"]},
    });
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    let verdict = known.service(&serde_json::from_value(object).unwrap(), None);
    assert_eq!(verdict.refusals, []);
    let warnings = verdict.warnings.iter();
    warnings
        .map(|warning| {
            let text = warning.to_string();
            assert!(!text.ends_with('…'), "{text}");
            text.replace("metadata.annotations[metallb.io/loadBalancerIPs]", "IPs")
                .replace("metadata.annotations[metallb.io/address-pool]", "pool")
        })
        .collect()
}

const DUAL: [&str; 2] = ["10.96.0.1", "fd96::1"];

#[test]
fn addresses_that_the_service_cannot_have_are_told_in_the_words_of_its_condition() {
    let known = known();
    let asks = |addresses: &str| json!({"metallb.io/loadBalancerIPs": addresses});
    let dual = json!({"clusterIPs": DUAL, "ipFamilyPolicy": "RequireDualStack"});
    let required = json!({"clusterIPs": [], "ipFamilyPolicy": "RequireDualStack"});
    let mismatch = "does not match the ipFamily of the service";
    for (addresses, spec, said) in [
        ("10.0.1.9", json!({}), ""),
        ("10.0.1.9,fd00::9", dual.clone(), ""),
        ("10.0.1.9,fd00::9", required.clone(), ""),
        // In a file the cluster addresses are not known, and one family is not told by a preference for two.
        ("fd00::9", json!({"clusterIPs": []}), ""),
        (
            "fd00::9",
            json!({"clusterIPs": [], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "PreferDualStack"}),
            "",
        ),
        (
            "fd00::9",
            json!({}),
            &format!(
                "IPs: requested loadBalancer IP(s) [\"fd00::9\"] {mismatch} (IPv4); ask for one IPv4 address"
            ),
        ),
        (
            "10.0.1.9",
            json!({"clusterIPs": [], "ipFamilies": ["IPv6"]}),
            &format!(
                "IPs: requested loadBalancer IP(s) [\"10.0.1.9\"] {mismatch} (IPv6); ask for one IPv6 address"
            ),
        ),
        (
            "10.0.1.9",
            dual.clone(),
            &format!(
                "IPs: requested loadBalancer IP(s) [\"10.0.1.9\"] {mismatch} (dual stack); ask for one address of each family, separated by a comma"
            ),
        ),
        (
            "fd00::9",
            required,
            &format!(
                "IPs: requested loadBalancer IP(s) [\"fd00::9\"] {mismatch} (dual stack); ask for one address of each family, separated by a comma"
            ),
        ),
        (
            "10.0.0.7",
            json!({}),
            "IPs: [\"10.0.0.7\"] is not allowed in config: pool office leaves 10.0.0.7 out by ferrolb.io/exclude; ask for another address",
        ),
        (
            "10.0.0.255",
            json!({}),
            "IPs: [\"10.0.0.255\"] is not allowed in config: pool office leaves 10.0.0.255 out by avoidBuggyIPs; ask for another address",
        ),
        (
            "10.0.0.9,fd00::9",
            dual,
            "IPs: [\"10.0.0.9\", \"fd00::9\"] is not allowed in config: they are of the pools office and both; both must be of one pool",
        ),
        (
            "10.0.2.9",
            json!({}),
            "IPs: pool shop not compatible for ip assignment: it needs namespace shop or till, not default (serviceAllocation); \
             have it opened to the Service, or ask for an address of another pool",
        ),
        // The labels of its Namespace may let it in.
        ("10.0.3.9", json!({}), ""),
        (
            "10.0.4.9",
            json!({}),
            "IPs: pool web not compatible for ip assignment: it needs labels on the Service that its serviceSelectors match \
             (serviceAllocation); have it opened to the Service, or ask for an address of another pool",
        ),
    ] {
        let warned = warned(&known, asks(addresses), spec.clone());
        let expected: Vec<&str> = Some(said)
            .filter(|said| !said.is_empty())
            .into_iter()
            .collect();
        assert_eq!(warned, expected, "{addresses} {spec}");
    }
}

#[test]
fn a_pool_that_does_not_serve_the_service_is_told() {
    let known = known();
    let asks = |pool: &str| json!({"metallb.io/address-pool": pool});
    let dual = json!({"clusterIPs": DUAL, "ipFamilyPolicy": "RequireDualStack"});
    let prefers = json!({"clusterIPs": DUAL, "ipFamilyPolicy": "PreferDualStack"});
    let six = json!({"clusterIPs": ["fd96::1"]});
    let lacks = "it has no IPv6 addresses; add such addresses to it, or ask for another pool";
    for (pool, spec, said) in [
        ("office", json!({}), String::new()),
        ("office", prefers, String::new()),
        ("both", dual.clone(), String::new()),
        ("front", json!({}), String::new()),
        ("office", six, format!("pool: no available IPs in pool office for IPv6 IPFamily: {lacks}")),
        ("office", dual, format!("pool: no available IPs in pool office for dual stack IPFamily: {lacks}")),
        (
            "shop",
            json!({}),
            "pool: pool shop not compatible for ip assignment: it needs namespace shop or till, not default (serviceAllocation); \
             have it opened to the Service, or ask for another pool"
                .to_owned(),
        ),
    ] {
        let warned = warned(&known, asks(pool), spec.clone());
        let expected: Vec<String> = Some(said).filter(|said| !said.is_empty()).into_iter().collect();
        assert_eq!(warned, expected, "{pool} {spec}");
    }
    let elsewhere =
        json!({"metallb.io/address-pool": "both", "metallb.io/loadBalancerIPs": "10.0.0.9"});
    assert_eq!(
        warned(&known, elsewhere, json!({})),
        [
            "IPs: [\"10.0.0.9\"] is not compatible with requested address pool both: pool office has it; remove \
             metallb.io/address-pool, or ask for an address of both"
        ]
    );
}

#[test]
fn annotations_that_ask_for_nothing_or_do_not_count_are_told() {
    let known = Known::default();
    let old = "metallb.universe.tf/address-pool";
    let of_old = |text: &str| format!("metadata.annotations[{old}]: {text}");
    for (annotations, said) in [
        (
            json!({"metallb.io/loadBalancerIPs": " ", "metallb.io/address-pool": ""}),
            vec![
                "pool: is empty and asks for no pool; write the name of one, or remove it"
                    .to_owned(),
                "IPs: is empty and asks for no address; write one, or remove it".to_owned(),
            ],
        ),
        (
            json!({old: "a"}),
            vec![of_old("is deprecated; write metallb.io/address-pool")],
        ),
        (
            json!({old: "a", "metallb.io/address-pool": "a"}),
            vec![of_old(
                "is deprecated, and metallb.io/address-pool says the same; remove it",
            )],
        ),
        (
            json!({old: "a", "metallb.io/address-pool": "b"}),
            vec![of_old(
                "\"a\" does not count beside \"b\" of metallb.io/address-pool, and the key is deprecated; remove it",
            )],
        ),
        (json!({"metallb.io/allow-shared-ip": ""}), vec![]),
    ] {
        assert_eq!(
            warned(&known, annotations.clone(), json!({})),
            said,
            "{annotations}"
        );
    }
}

#[test]
fn the_longest_names_leave_room_for_the_remedy() {
    let name = "n".repeat(63);
    let pool = json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": {"name": name, "namespace": "metallb-system"},
        "spec": {"addresses": ["10.0.0.0/24"], "serviceAllocation": {"namespaces": ["a".repeat(63)]}},
    });
    let all = AllObjects {
        pools: vec![Arc::new(serde_json::from_value(pool).unwrap())],
        ..AllObjects::default()
    };
    let known = Known::new(all, &mut LastGood::default(), None);
    let verdict = known.service(
        &serde_json::from_value(json!({
            "metadata": {"name": "s", "namespace": "d".repeat(63), "annotations": {"metallb.io/address-pool": name}},
            "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.1"]},
        }))
        .unwrap(),
        None,
    );
    let text = &verdict.warnings[0].text;
    assert!(
        text.contains("(serviceAllocation); have it opened"),
        "{text}"
    );
}
