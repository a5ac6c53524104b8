//! What an installation of FerroLB consists of, as typed values.
//!
//! `crd-gen` writes these values as the kustomize trees under `config/` and as the OLM bundle; the lab applies the same files.
//! Whoever installs FerroLB in another way takes the values from here, so that there is one opinion about privileges,
//! probes and labels.
//!
//! Privileges are the least that each process can work with: the operator and the webhook have none at all, and the speaker
//! has the host's network and raw sockets.

mod operator;
mod permissions;
mod pod;
mod registration;
mod speaker;
mod webhook;

use ferrolb_api::{DEFAULT_NAMESPACE, labels};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

pub use permissions::Permissions;
pub use registration::{Endpoint, endpoints, fail_closed, guests, trace};

/// The version of the image that is installed.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Names that processes, people and other tools rely on.
pub mod names {
    /// The Service in front of the webhook; MetalLB's name.
    pub const WEBHOOK_SERVICE: &str = "metallb-webhook-service";
    /// The Service through which the webhook converts, also before it is ready.
    pub const CONVERSION_SERVICE: &str = "ferrolb-webhook-conversion";
    /// The mutating webhook's registration.
    pub const MUTATING_WEBHOOK_CONFIGURATION: &str = "ferrolb-webhook-configuration";
    /// The definition whose versions the webhook converts.
    pub const CONVERTED_DEFINITION: &str = "bgppeers.metallb.io";
    /// The validating webhook's registration; MetalLB's name, so that ours takes the place of theirs.
    pub const WEBHOOK_CONFIGURATION: &str = "metallb-webhook-configuration";
    /// The Secret with the webhook's certificate. The operator makes it.
    pub const WEBHOOK_CERTIFICATE: &str = "metallb-webhook-cert";
    /// The Secret that speakers encrypt their membership with. The operator makes it.
    pub const MEMBERSHIP_SECRET: &str = "memberlist";
    /// The ConfigMap that names the interfaces which are never announced on.
    pub const EXCLUDED_INTERFACES: &str = "metallb-excludel2";
    /// The Lease that the leading operator holds.
    pub const LEASE: &str = "ferrolb-operator";
}

/// Ports that processes listen on.
pub mod ports {
    /// `/healthz` and `/readyz`.
    pub const HEALTH: i32 = 17472;
    /// Admission requests, behind port 443 of the Service.
    pub const WEBHOOK: i32 = 9443;
    /// Membership of the speakers, UDP.
    pub const MEMBERSHIP: i32 = 7946;
}

/// One of the processes that an installation runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// Decides which Service gets which address.
    Operator,
    /// Refuses bad objects.
    Webhook,
    /// Announces addresses, one on each node.
    Speaker,
}

impl Component {
    /// Every component.
    pub const ALL: [Self; 3] = [Self::Operator, Self::Webhook, Self::Speaker];

    /// The value of the component label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Webhook => "webhook",
            Self::Speaker => "speaker",
        }
    }

    /// The name of the workload, of its service account, its roles and its container.
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "ferrolb-operator",
            Self::Webhook => "ferrolb-webhook",
            Self::Speaker => "ferrolb-speaker",
        }
    }

    /// The labels that select its pods; they never change, because a selector cannot.
    pub fn selector(self) -> BTreeMap<String, String> {
        [
            (labels::APP_NAME.to_owned(), labels::FERROLB.to_owned()),
            (labels::APP_COMPONENT.to_owned(), self.label().to_owned()),
        ]
        .into()
    }
}

/// Where and from which image FerroLB is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// The namespace that everything lives in, the objects that people write included.
    pub namespace: String,
    /// The one image that holds every process.
    pub image: String,
}

impl Default for Installation {
    fn default() -> Self {
        Self {
            namespace: DEFAULT_NAMESPACE.to_owned(),
            image: format!("ferrolb/ferrolb:{VERSION}"),
        }
    }
}

impl Installation {
    /// The namespace. Speakers need the host's network and raw sockets, which only the privileged level lets pods have.
    pub fn namespace(&self) -> Namespace {
        let mut labels = application();
        for mode in ["enforce", "audit", "warn"] {
            labels.insert(
                format!("pod-security.kubernetes.io/{mode}"),
                "privileged".to_owned(),
            );
        }
        Namespace {
            metadata: ObjectMeta {
                name: Some(self.namespace.clone()),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        }
    }

    /// The identity of a component.
    pub fn service_account(&self, component: Component) -> ServiceAccount {
        ServiceAccount {
            metadata: self.metadata(component, component.name()),
            ..ServiceAccount::default()
        }
    }

    /// What a component may do everywhere; `None` if nothing.
    pub fn cluster_role(&self, component: Component) -> Option<(ClusterRole, ClusterRoleBinding)> {
        let rules = some(Permissions::of(component).everywhere)?;
        let mut metadata = self.metadata(component, component.name());
        metadata.namespace = None;
        let role = ClusterRole {
            metadata: metadata.clone(),
            rules: Some(rules),
            ..ClusterRole::default()
        };
        let binding = ClusterRoleBinding {
            metadata,
            role_ref: role_ref("ClusterRole", component),
            subjects: Some(vec![self.subject(component)]),
        };
        Some((role, binding))
    }

    /// What a component may do in the install namespace; `None` if nothing.
    pub fn role(&self, component: Component) -> Option<(Role, RoleBinding)> {
        let rules = some(Permissions::of(component).here)?;
        let metadata = self.metadata(component, component.name());
        let role = Role {
            metadata: metadata.clone(),
            rules: Some(rules),
        };
        let binding = RoleBinding {
            metadata,
            role_ref: role_ref("Role", component),
            subjects: Some(vec![self.subject(component)]),
        };
        Some((role, binding))
    }

    fn subject(&self, component: Component) -> Subject {
        Subject {
            kind: "ServiceAccount".to_owned(),
            name: component.name().to_owned(),
            namespace: Some(self.namespace.clone()),
            ..Subject::default()
        }
    }

    /// Metadata of an object that belongs to a component.
    fn metadata(&self, component: Component, name: &str) -> ObjectMeta {
        let mut labels = application();
        labels.extend(component.selector());
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.namespace.clone()),
            labels: Some(labels),
            ..ObjectMeta::default()
        }
    }
}

/// Labels of every object of the installation.
fn application() -> BTreeMap<String, String> {
    [
        (labels::APP_NAME.to_owned(), labels::FERROLB.to_owned()),
        ("app.kubernetes.io/version".to_owned(), VERSION.to_owned()),
    ]
    .into()
}

fn role_ref(kind: &str, component: Component) -> RoleRef {
    RoleRef {
        api_group: "rbac.authorization.k8s.io".to_owned(),
        kind: kind.to_owned(),
        name: component.name().to_owned(),
    }
}

fn some(rules: Vec<PolicyRule>) -> Option<Vec<PolicyRule>> {
    Some(rules).filter(|rules| !rules.is_empty())
}
