//! What the operator watches.

use std::sync::Arc;

use ferrolb_api::labels::{COMPONENT_TYPE, SPEAKER};
use ferrolb_api::v1beta1::ConfigurationState;
use ferrolb_cluster::{Client, ConfigurationStores, Status, Store, WatchConfig, watch, watch_part};
use ferrolb_rules::{BASIC_AUTH, Labels, password_of};
use k8s_openapi::api::core::v1::{Namespace, Node, Secret, Service};

use crate::interfaces::{Reported, reported};
use crate::project::{Observed, Readable, observe, observe_namespace};
use crate::sessions::Said;

/// What the loop watches.
#[derive(Clone)]
pub struct Stores {
    /// Services that are ours.
    pub services: Store<Observed>,
    /// The labels and limits of namespaces.
    pub namespaces: Store<ferrolb_allocation::Namespace>,
    /// What people configured.
    pub configuration: ConfigurationStores,
    /// What the Secrets of our namespace are good for as passwords of peers. Nothing of what they hold is kept.
    pub secrets: Store<Result<(), String>>,
    /// The nodes.
    pub nodes: Store<ObservedNode>,
    /// What speakers say of their nodes.
    pub reports: Store<Report>,
    /// Our namespace.
    pub namespace: Arc<str>,
}

impl Stores {
    /// Starts every watch.
    #[must_use]
    pub fn watch(client: &Client, namespace: &str, class: Option<String>) -> Self {
        Stores {
            services: watch_part::<Service, _, _>(
                client,
                WatchConfig::most_recent(),
                move |Readable(service)| observe(service, class.as_deref()),
            ),
            namespaces: watch(client, WatchConfig::most_recent(), |object: &Namespace| {
                Some(observe_namespace(object))
            }),
            configuration: ConfigurationStores::watch(
                client,
                namespace,
                &WatchConfig::most_recent(),
                Status::Kept,
            ),
            secrets: watch(
                client,
                WatchConfig::most_recent()
                    .in_namespace(namespace)
                    .fields(format!("type={BASIC_AUTH}")),
                |secret: &Secret| Some(password_of(secret).map(drop)),
            ),
            nodes: watch(client, WatchConfig::most_recent(), |node: &Node| {
                Some(ObservedNode::of(node))
            }),
            reports: watch(
                client,
                WatchConfig::most_recent()
                    .in_namespace(namespace)
                    .labels(format!("{COMPONENT_TYPE}={SPEAKER}")),
                |state: &ConfigurationState| Some(Report::of(state)),
            ),
            namespace: namespace.into(),
        }
    }

    /// Whether every store is complete, but for Secrets, nodes and reports: all that depends on them is a condition, and no Service
    /// shall wait for it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.services.is_ready() && self.namespaces.is_ready() && self.configuration.is_ready()
    }

    /// Reads everything again, and waits until it is there.
    pub async fn relist(&self) {
        tokio::join!(
            self.services.relist(),
            self.namespaces.relist(),
            self.configuration.relist(),
        );
    }
}

/// What is read of a Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedNode {
    /// Its labels.
    pub labels: Arc<Labels>,
    /// Whether its condition Ready is True.
    pub ready: bool,
}

impl ObservedNode {
    fn of(node: &Node) -> Self {
        let labels = node.metadata.labels.as_ref();
        let conditions = node.status.iter().flat_map(|status| &status.conditions);
        ObservedNode {
            labels: Arc::new(labels.map(Labels::from).unwrap_or_default()),
            ready: conditions
                .flatten()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        }
    }
}

/// What a speaker says of its node.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Which interfaces there are, if that is said.
    pub interfaces: Option<Arc<Reported>>,
    /// How its BGP sessions are doing.
    pub sessions: Said,
}

impl Report {
    fn of(state: &ConfigurationState) -> Self {
        let sessions = state
            .status
            .as_ref()
            .map(|status| status.bgp_sessions.as_slice());
        Report {
            interfaces: reported(state).map(Arc::new),
            sessions: sessions.unwrap_or_default().into(),
        }
    }
}
