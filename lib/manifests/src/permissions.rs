//! What each process may do at the API server, and nothing more.

use ferrolb_api::GROUP;
use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::{Component, names};

/// The permissions of one component.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Permissions {
    /// In every namespace, and on objects without one.
    pub everywhere: Vec<PolicyRule>,
    /// In the install namespace.
    pub here: Vec<PolicyRule>,
}

impl Permissions {
    /// The permissions that a component works with.
    pub fn of(component: Component) -> Self {
        match component {
            Component::Operator => operator(),
            Component::Webhook => webhook(),
            Component::Speaker => speaker(),
        }
    }
}

/// The kinds that people write.
const CONFIGURATION: [&str; 6] = [
    "bfdprofiles",
    "bgpadvertisements",
    "bgppeers",
    "communities",
    "ipaddresspools",
    "l2advertisements",
];

/// What a watch needs; nothing is ever read one by one, but for an object that is in the way of another.
const WATCH: [&str; 2] = ["list", "watch"];

fn operator() -> Permissions {
    Permissions {
        everywhere: vec![
            rule("", &["services"], &WATCH),
            // The pool annotation rides on the status subresource, so nothing else of a Service can be changed (reference 3.1).
            rule("", &["services/status"], &["patch"]),
            // Pools may be limited to namespaces by their labels, and advertisements to nodes.
            rule("", &["namespaces", "nodes"], &WATCH),
            events(),
            // The places where API servers read whose certificates to trust.
            named(
                "admissionregistration.k8s.io",
                "validatingwebhookconfigurations",
                &[names::WEBHOOK_CONFIGURATION],
                &["list", "watch", "patch"],
            ),
            named(
                "admissionregistration.k8s.io",
                "mutatingwebhookconfigurations",
                &[names::MUTATING_WEBHOOK_CONFIGURATION],
                &["list", "watch", "patch"],
            ),
            named(
                "apiextensions.k8s.io",
                "customresourcedefinitions",
                &[names::CONVERTED_DEFINITION],
                &["list", "watch", "patch"],
            ),
        ],
        here: vec![
            rule(GROUP, &CONFIGURATION, &WATCH),
            // Which interfaces each node has.
            rule(GROUP, &["configurationstates"], &WATCH),
            rule(
                GROUP,
                &CONFIGURATION.map(|kind| format!("{kind}/status")),
                &["patch"],
            ),
            rule("coordination.k8s.io", &["leases"], &["create"]),
            named(
                "coordination.k8s.io",
                "leases",
                &[names::LEASE],
                &["get", "list", "watch", "update"],
            ),
            // Creation cannot be limited by name, because the API server does not know the name yet when it decides.
            rule("", &["secrets"], &["create"]),
            named("", "secrets", &[names::WEBHOOK_CERTIFICATE], &["patch"]),
            // Whether the Secret that a BGPPeer names exists and is of use is said on the BGPPeer. Any may be named.
            rule("", &["secrets"], &WATCH),
        ],
    }
}

fn webhook() -> Permissions {
    Permissions {
        // Their labels and addresses, to warn of selectors that select none and of pools that hold a node's address.
        everywhere: vec![rule("", &["nodes"], &WATCH)],
        here: vec![
            // The kinds that an object is judged beside.
            rule(GROUP, &CONFIGURATION, &WATCH),
            // A list or watch by name counts as a request for that name when it selects on metadata.name.
            named("", "secrets", &[names::WEBHOOK_CERTIFICATE], &WATCH),
        ],
    }
}

fn speaker() -> Permissions {
    Permissions {
        everywhere: vec![
            rule("", &["nodes", "services"], &WATCH),
            rule("discovery.k8s.io", &["endpointslices"], &WATCH),
            events(),
        ],
        here: vec![
            rule(GROUP, &CONFIGURATION, &WATCH),
            // Which Services this node announces; the next one deletes the object of the one before.
            rule(
                GROUP,
                &["servicebgpstatuses", "servicel2statuses"],
                &["get", "list", "watch", "create", "patch", "delete"],
            ),
            // Whether the configuration is of use, and which interfaces the node has.
            rule(
                GROUP,
                &["configurationstates"],
                &["list", "watch", "create", "patch"],
            ),
            rule(
                GROUP,
                &[
                    "configurationstates/status",
                    "servicebgpstatuses/status",
                    "servicel2statuses/status",
                ],
                &["patch"],
            ),
            // The other speakers' addresses, to join their membership.
            rule("", &["pods"], &WATCH),
            // Passwords of BGP peers; any Secret here may be named by a BGPPeer.
            rule("", &["secrets"], &WATCH),
        ],
    }
}

fn events() -> PolicyRule {
    rule("", &["events"], &["create", "patch"])
}

fn rule(group: &str, resources: &[impl AsRef<str>], verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(owned(&[group])),
        resources: Some(owned(resources)),
        verbs: owned(verbs),
        ..PolicyRule::default()
    }
}

fn named(group: &str, resource: &str, names: &[&str], verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        resource_names: Some(owned(names)),
        ..rule(group, &[resource], verbs)
    }
}

fn owned(texts: &[impl AsRef<str>]) -> Vec<String> {
    texts.iter().map(|text| text.as_ref().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_rule() -> impl Iterator<Item = (Component, PolicyRule)> {
        Component::ALL.into_iter().flat_map(|component| {
            let Permissions { everywhere, here } = Permissions::of(component);
            everywhere
                .into_iter()
                .chain(here)
                .map(move |rule| (component, rule))
        })
    }

    #[test]
    fn no_permission_has_a_wildcard() {
        for (component, rule) in every_rule() {
            let words = rule
                .verbs
                .iter()
                .chain(rule.resources.iter().flatten())
                .chain(rule.api_groups.iter().flatten());
            assert!(
                words.clone().all(|word| !word.contains('*')),
                "{component:?}: {rule:?}"
            );
        }
    }

    #[test]
    fn nobody_changes_what_people_write() {
        for (component, rule) in every_rule() {
            let touches = |resource: &String| {
                CONFIGURATION.contains(&resource.as_str())
                    || ["services", "nodes", "namespaces"].contains(&resource.as_str())
            };
            if rule.resources.iter().flatten().any(touches) {
                assert!(
                    rule.verbs.iter().all(|verb| WATCH.contains(&verb.as_str())),
                    "{component:?}: {rule:?}"
                );
            }
        }
    }

    #[test]
    fn secrets_are_changed_only_by_name_and_read_only_in_the_install_namespace() {
        for component in Component::ALL {
            let permissions = Permissions::of(component);
            let about_secrets = |rule: &&PolicyRule| {
                rule.resources
                    .iter()
                    .flatten()
                    .any(|resource| resource == "secrets")
            };
            assert_eq!(
                permissions.everywhere.iter().filter(about_secrets).count(),
                0,
                "{component:?}"
            );
            for rule in permissions.here.iter().filter(about_secrets) {
                let changes = rule
                    .verbs
                    .iter()
                    .any(|verb| ["update", "patch", "delete"].contains(&verb.as_str()));
                assert!(
                    !changes || rule.resource_names.is_some(),
                    "{component:?}: {rule:?}"
                );
            }
        }
    }

    #[test]
    fn what_api_servers_ask_and_trust_is_changed_only_by_name() {
        for (component, rule) in every_rule() {
            let groups = ["admissionregistration.k8s.io", "apiextensions.k8s.io"];
            if rule
                .api_groups
                .iter()
                .flatten()
                .any(|group| groups.contains(&group.as_str()))
            {
                assert_eq!(component, Component::Operator);
                assert_eq!(rule.resource_names.map(|names| names.len()), Some(1));
            }
        }
    }

    #[test]
    fn outside_the_install_namespace_the_webhook_reads_nodes_and_nothing_else() {
        assert_eq!(
            Permissions::of(Component::Webhook).everywhere,
            [rule("", &["nodes"], &WATCH)]
        );
    }
}
