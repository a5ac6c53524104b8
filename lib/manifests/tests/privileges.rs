//! The privileges of the pods are the ones that the design allows.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used
)]

use ferrolb_manifests::{Component, Installation};
use k8s_openapi::api::core::v1::PodTemplateSpec;

fn templates() -> [(Component, PodTemplateSpec); 3] {
    let installation = Installation::default();
    [
        (
            Component::Operator,
            installation.operator().spec.unwrap().template,
        ),
        (
            Component::Webhook,
            installation.webhook().spec.unwrap().template,
        ),
        (
            Component::Speaker,
            installation.speaker().spec.unwrap().template,
        ),
    ]
}

#[test]
fn no_container_can_gain_privileges_or_change_its_files() {
    for (component, template) in templates() {
        let pod = template.spec.unwrap();
        assert_eq!(
            pod.security_context.unwrap().seccomp_profile.unwrap().type_,
            "RuntimeDefault",
            "{component:?}"
        );
        for container in pod.containers {
            let security = container.security_context.unwrap();
            assert_eq!(
                security.allow_privilege_escalation,
                Some(false),
                "{component:?}"
            );
            assert_eq!(
                security.read_only_root_filesystem,
                Some(true),
                "{component:?}"
            );
            assert_eq!(security.privileged, None, "{component:?}");
            assert_eq!(
                security.capabilities.unwrap().drop.unwrap(),
                ["ALL"],
                "{component:?}"
            );
            assert!(
                !container
                    .resources
                    .unwrap()
                    .limits
                    .unwrap()
                    .contains_key("cpu"),
                "{component:?}"
            );
        }
    }
}

#[test]
fn only_the_speaker_has_the_hosts_network_and_a_capability() {
    for (component, template) in templates() {
        let pod = template.spec.unwrap();
        let added = pod.containers[0]
            .security_context
            .clone()
            .unwrap()
            .capabilities
            .unwrap()
            .add;
        let user = pod.security_context.unwrap();
        if component == Component::Speaker {
            assert_eq!(pod.host_network, Some(true));
            assert_eq!(added.unwrap(), ["NET_RAW"]);
        } else {
            assert_eq!(pod.host_network, None, "{component:?}");
            assert_eq!(added, None, "{component:?}");
            assert_eq!(
                (user.run_as_non_root, user.run_as_user),
                (Some(true), Some(65534)),
                "{component:?}"
            );
        }
    }
}

#[test]
fn selectors_match_the_pods_that_they_are_for() {
    let installation = Installation::default();
    for (component, template) in templates() {
        assert_eq!(
            template.metadata.unwrap().labels,
            Some(component.selector())
        );
    }
    for service in [
        installation.webhook_service(),
        installation.conversion_service(),
    ] {
        let service = service.spec.unwrap();
        assert_eq!(service.selector, Some(Component::Webhook.selector()));
        assert_eq!(service.ports.unwrap()[0].port, 443);
    }
}
