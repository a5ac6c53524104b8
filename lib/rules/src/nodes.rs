//! What rules read of a Node.

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;

use crate::labels::Labels;

/// A node, as far as warnings need it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its labels, for node selectors.
    pub labels: Labels,
    /// Its own addresses, which no Service can have.
    pub addresses: Vec<IpAddr>,
}

impl From<&core::Node> for Node {
    fn from(node: &core::Node) -> Self {
        let labels = node.metadata.labels.as_ref();
        let addresses = node
            .status
            .iter()
            .flat_map(|status| status.addresses.iter().flatten());
        Node {
            name: node.metadata.name.clone().unwrap_or_default(),
            labels: labels.map(Labels::from).unwrap_or_default(),
            addresses: addresses
                .filter(|address| ["InternalIP", "ExternalIP"].contains(&address.type_.as_str()))
                .filter_map(|address| address.address.parse().ok())
                .collect(),
        }
    }
}
