//! The OLM bundle: what OLM installs, from the same values as `config/`.
//!
//! OLM installs Deployments and nothing that runs on every node, so the bundle has no speakers. It makes the webhook's
//! registration, Service and certificate by itself from the webhook definitions.

use std::path::Path;

use anyhow::Context;
use ferrolb_manifests::{
    Component, Endpoint, Installation, Permissions, VERSION, endpoints, guests, names, ports, trace,
};
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Map, Value, json};

use crate::crds::Crd;
use crate::files::Tree;
use crate::yaml;

const PACKAGE: &str = "ferrolb";
const CHANNEL: &str = "alpha";
const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");
const DESCRIPTION: &str = "FerroLB gives Services of type LoadBalancer an address on bare metal and makes the network deliver to \
    it, by ARP and NDP on the local segment and by BGP to routers. It reads and writes the API of MetalLB (`metallb.io`), so a \
    cluster changes its load balancer without changing an object.\n\n\
    After installation, create an IPAddressPool and an L2Advertisement or a BGPPeer with a BGPAdvertisement.";

/// Where OLM mounts the certificate that it makes for a webhook, as `tls.crt` and `tls.key`.
const CERTIFICATE_FOLDER: &str = "/tmp/k8s-webhook-server/serving-certs";

/// The components that OLM can run.
const INSTALLED: [Component; 2] = [Component::Operator, Component::Webhook];

/// Adds the bundle's files.
pub fn add(
    tree: &mut Tree,
    installation: &Installation,
    crds: &[Crd],
    samples: &[Value],
) -> anyhow::Result<()> {
    let root = Path::new("olm-bundle");
    let manifests = root.join("manifests");
    for crd in crds {
        tree.files.insert(
            manifests.join(format!("metallb.io_{}.yaml", crd.plural)),
            yaml::document(&crd.object)?,
        );
    }
    let csv = cluster_service_version(installation, crds, samples)?;
    tree.files.insert(
        manifests.join("ferrolb.clusterserviceversion.yaml"),
        yaml::document(&csv)?,
    );
    let mut budget = installation.webhook_disruption_budget();
    // OLM installs into the namespace of the subscription, whichever that is.
    budget.metadata.namespace = None;
    tree.files.insert(
        manifests.join("ferrolb-webhook_policy_v1_poddisruptionbudget.yaml"),
        yaml::document(&budget)?,
    );
    tree.files.insert(
        root.join("metadata/annotations.yaml"),
        yaml::document(&json!({ "annotations": annotations() }))?,
    );
    tree.files.insert(
        root.join("tests/scorecard/config.yaml"),
        yaml::document(&scorecard())?,
    );
    tree.files.insert(root.join("Dockerfile"), dockerfile());
    tree.folders.push(root.to_owned());
    Ok(())
}

fn cluster_service_version(
    installation: &Installation,
    crds: &[Crd],
    samples: &[Value],
) -> anyhow::Result<Value> {
    let samples: Vec<Value> = samples.iter().cloned().map(yaml::tidy).collect();
    let operator = deployment(installation.operator(), &["--disable-cert-rotation"])?;
    let webhook = deployment(
        installation.webhook(),
        &[&format!("--cert-dir={CERTIFICATE_FOLDER}")],
    )?;
    Ok(json!({
        "apiVersion": "operators.coreos.com/v1alpha1",
        "kind": "ClusterServiceVersion",
        "metadata": {
            "name": format!("{PACKAGE}.v{VERSION}"),
            "annotations": {
                "alm-examples": serde_json::to_string_pretty(&samples)?,
                "capabilities": "Basic Install",
                "categories": "Networking",
                "certified": "false",
                "containerImage": installation.image,
                "description": "A load balancer for bare metal that is compatible with MetalLB",
                "operatorframework.io/suggested-namespace": installation.namespace,
                "repository": REPOSITORY,
                "support": "Community"
            },
            "labels": {
                "operatorframework.io/arch.amd64": "supported",
                "operatorframework.io/os.linux": "supported"
            }
        },
        "spec": {
            "displayName": "FerroLB",
            "description": DESCRIPTION,
            "keywords": ["load balancer", "bare metal", "BGP", "MetalLB"],
            "links": [{ "name": "Source", "url": REPOSITORY }],
            "maintainers": [{ "name": "The FerroLB authors", "email": "maintainers@ferrolb.io" }],
            "maturity": CHANNEL,
            "minKubeVersion": "1.33.0",
            "provider": { "name": "The FerroLB authors", "url": REPOSITORY },
            "version": VERSION,
            "installModes": install_modes(),
            "customresourcedefinitions": { "owned": owned(crds) },
            "install": {
                "strategy": "deployment",
                "spec": {
                    "deployments": [operator, webhook],
                    "clusterPermissions": granted(|permissions| permissions.everywhere),
                    "permissions": granted(|permissions| permissions.here),
                }
            },
            "webhookdefinitions": webhook_definitions(),
            "relatedImages": [{ "name": PACKAGE, "image": installation.image }]
        }
    }))
}

/// A Deployment as OLM wants it: its name, its labels and its specification. The flags are the ones that differ under OLM.
fn deployment(mut deployment: Deployment, flags: &[&str]) -> anyhow::Result<Value> {
    let pod = deployment
        .spec
        .as_mut()
        .and_then(|spec| spec.template.spec.as_mut());
    for container in pod.into_iter().flat_map(|pod| &mut pod.containers) {
        container
            .args
            .get_or_insert_default()
            .extend(flags.iter().map(|&flag| flag.to_owned()));
    }
    Ok(json!({
        "name": deployment.metadata.name.as_deref().context("a Deployment has no name")?,
        "label": deployment.metadata.labels,
        "spec": deployment.spec,
    }))
}

fn granted(
    part: impl Fn(Permissions) -> Vec<k8s_openapi::api::rbac::v1::PolicyRule>,
) -> Vec<Value> {
    INSTALLED
        .into_iter()
        .map(|component| (component.name(), part(Permissions::of(component))))
        .filter(|(_, rules)| !rules.is_empty())
        .map(|(account, rules)| json!({ "serviceAccountName": account, "rules": rules }))
        .collect()
}

/// Services of every namespace get addresses, so the operator cannot be confined to some.
fn install_modes() -> Value {
    let mode = |(name, supported): (&str, bool)| json!({ "type": name, "supported": supported });
    [
        ("OwnNamespace", false),
        ("SingleNamespace", false),
        ("MultiNamespace", false),
        ("AllNamespaces", true),
    ]
    .map(mode)
    .to_vec()
    .into()
}

/// OLM has no place for match conditions, so the webhook is asked about every Service and Namespace and itself lets pass what
/// does not concern it.
fn webhook_definitions() -> Vec<Value> {
    let validating = endpoints()
        .into_iter()
        .chain(guests())
        .map(|endpoint| admission_webhook("ValidatingAdmissionWebhook", &endpoint));
    let mut mutating = admission_webhook("MutatingAdmissionWebhook", &trace());
    if let Some(fields) = mutating.as_object_mut() {
        fields.insert("reinvocationPolicy".to_owned(), "Never".into());
    }
    let conversion = json!({
        "type": "ConversionWebhook",
        "generateName": "bgppeersconversionwebhook.metallb.io",
        "deploymentName": Component::Webhook.name(),
        "containerPort": 443,
        "targetPort": ports::WEBHOOK,
        "webhookPath": "/convert",
        "conversionCRDs": [names::CONVERTED_DEFINITION],
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
    });
    validating.chain([mutating, conversion]).collect()
}

fn admission_webhook(kind: &str, endpoint: &Endpoint) -> Value {
    json!({
        "type": kind,
        "generateName": endpoint.name,
        "deploymentName": Component::Webhook.name(),
        "containerPort": 443,
        "targetPort": ports::WEBHOOK,
        "webhookPath": endpoint.path,
        "rules": [endpoint.rule()],
        "admissionReviewVersions": ["v1"],
        "failurePolicy": "Ignore",
        "matchPolicy": "Equivalent",
        "sideEffects": "None",
        "timeoutSeconds": endpoint.timeout,
    })
}

/// Every version of every kind, the newest first as OLM shows them.
fn owned(crds: &[Crd]) -> Vec<Value> {
    let mut owned = Vec::new();
    for crd in crds {
        for version in crd.versions.iter().rev() {
            owned.push(json!({
                "name": crd.name,
                "kind": crd.kind,
                "version": version,
                "displayName": title(&crd.kind),
                "description": crd.description,
                "specDescriptors": descriptors(crd, version, "spec"),
                "statusDescriptors": descriptors(crd, version, "status"),
            }));
        }
    }
    owned
}

/// One descriptor for each field right below `part`, as the schema describes it.
fn descriptors(crd: &Crd, version: &str, part: &str) -> Vec<Value> {
    let versions = crd
        .object
        .pointer("/spec/versions")
        .and_then(Value::as_array);
    let schema = versions
        .into_iter()
        .flatten()
        .find(|candidate| candidate.get("name") == Some(&version.into()));
    let fields = schema
        .and_then(|schema| {
            schema.pointer(&format!(
                "/schema/openAPIV3Schema/properties/{part}/properties"
            ))
        })
        .and_then(Value::as_object);
    let mut descriptors: Vec<Value> = fields
        .into_iter()
        .flatten()
        .map(|(field, schema)| {
            json!({ "path": field, "displayName": title(field), "description": schema.get("description") })
        })
        .collect();
    descriptors.sort_by_key(|descriptor| descriptor.get("path").map(ToString::to_string));
    descriptors
}

/// A name of the API as words: a capital letter that a small one follows, or that follows a small one, begins a word.
fn title(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut words = String::new();
    for (index, letter) in letters.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|index| letters.get(index));
        let after = letters.get(index + 1);
        let begins = letter.is_uppercase()
            && (before.is_some_and(|c| c.is_lowercase())
                || (before.is_some() && after.is_some_and(|c| c.is_lowercase() && *c != 's')));
        if begins {
            words.push(' ');
        }
        if index == 0 {
            words.extend(letter.to_uppercase())
        } else {
            words.push(*letter)
        }
    }
    words
}

fn annotations() -> Value {
    let prefix = "operators.operatorframework.io";
    let entries = [
        (format!("{prefix}.bundle.mediatype.v1"), "registry+v1"),
        (format!("{prefix}.bundle.manifests.v1"), "manifests/"),
        (format!("{prefix}.bundle.metadata.v1"), "metadata/"),
        (format!("{prefix}.bundle.package.v1"), PACKAGE),
        (format!("{prefix}.bundle.channels.v1"), CHANNEL),
        (format!("{prefix}.bundle.channel.default.v1"), CHANNEL),
        (format!("{prefix}.test.mediatype.v1"), "scorecard+v1"),
        (format!("{prefix}.test.config.v1"), "tests/scorecard/"),
    ];
    Map::from_iter(entries.into_iter().map(|(key, value)| (key, value.into()))).into()
}

fn scorecard() -> Value {
    const IMAGE: &str = "quay.io/operator-framework/scorecard-test:v1.40.0";
    let test = |(suite, name): (&str, &str)| {
        json!({
            "entrypoint": ["scorecard-test", name],
            "image": IMAGE,
            "labels": { "suite": suite, "test": format!("{name}-test") },
            "storage": { "spec": { "mountPath": {} } },
        })
    };
    let tests = [
        ("basic", "basic-check-spec"),
        ("olm", "olm-bundle-validation"),
        ("olm", "olm-crds-have-validation"),
        ("olm", "olm-crds-have-resources"),
        ("olm", "olm-spec-descriptors"),
        ("olm", "olm-status-descriptors"),
    ];
    json!({
        "apiVersion": "scorecard.operatorframework.io/v1alpha3",
        "kind": "Configuration",
        "metadata": { "name": "config" },
        "stages": [{ "parallel": true, "tests": tests.map(test) }],
        "storage": { "spec": { "mountPath": {} } },
    })
}

/// The image of the bundle itself, which holds nothing but these files.
fn dockerfile() -> String {
    let mut text = format!("{}FROM scratch\n\n", yaml::header());
    if let Value::Object(annotations) = yaml::tidy(annotations()) {
        for (key, value) in annotations {
            if let Value::String(value) = value {
                text.push_str(&format!("LABEL {key}={value}\n"));
            }
        }
    }
    text.push_str("\nCOPY manifests /manifests/\nCOPY metadata /metadata/\nCOPY tests/scorecard /tests/scorecard/\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_made_of_words() {
        for (name, words) in [
            ("IPAddressPool", "IP Address Pool"),
            ("ipAddressPools", "Ip Address Pools"),
            ("avoidBuggyIPs", "Avoid Buggy IPs"),
            ("peerASN", "Peer ASN"),
            ("BGPPeer", "BGP Peer"),
            ("vrf", "Vrf"),
        ] {
            assert_eq!(title(name), words);
        }
    }

    #[test]
    fn the_bundle_grants_exactly_what_the_kustomize_trees_grant() {
        let installation = Installation::default();
        let csv =
            cluster_service_version(&installation, &crate::crds::all().unwrap(), &[]).unwrap();
        let install = &csv["spec"]["install"]["spec"];
        for component in INSTALLED {
            let rules = |part: &str| {
                let entries = install[part].as_array().unwrap();
                entries
                    .iter()
                    .find(|entry| entry["serviceAccountName"] == component.name())
                    .map(|entry| entry["rules"].clone())
            };
            let cluster = installation
                .cluster_role(component)
                .map(|(role, _)| json!(role.rules));
            let here = installation
                .role(component)
                .map(|(role, _)| json!(role.rules));
            assert_eq!(
                (rules("clusterPermissions"), rules("permissions")),
                (cluster, here),
                "{component:?}"
            );
        }
    }
}
