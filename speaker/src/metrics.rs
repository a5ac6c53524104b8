//! MetalLB's metrics of the announcing side that belong to no protocol (reference 5.1).

use std::net::IpAddr;

use ferrolb_api::ObjectKey;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::decide::Protocol;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Announcement {
    service: String,
    protocol: &'static str,
    node: String,
    ip: String,
}

/// The figures that the speaker publishes for itself.
#[derive(Clone)]
pub struct Metrics {
    node: String,
    announced: Family<Announcement, Gauge>,
    config_loaded: Gauge,
    config_stale: Gauge,
    /// Object updates processed.
    pub updates: Counter,
}

impl Metrics {
    /// Registers every figure.
    #[must_use]
    pub fn register(registry: &mut Registry, node: &str) -> Self {
        let metrics = Metrics {
            node: node.to_owned(),
            announced: Family::default(),
            config_loaded: Gauge::default(),
            config_stale: Gauge::default(),
            updates: Counter::default(),
        };
        registry.register(
            "metallb_speaker_announced",
            "1 for each address announced from this node",
            metrics.announced.clone(),
        );
        let client = registry.sub_registry_with_prefix("metallb_k8s_client");
        client.register(
            "updates",
            "Object updates processed",
            metrics.updates.clone(),
        );
        client.register(
            "config_loaded_bool",
            "1 after the first good configuration",
            metrics.config_loaded.clone(),
        );
        client.register(
            "config_stale_bool",
            "1 while an object is set aside",
            metrics.config_stale.clone(),
        );
        metrics
    }

    /// Publishes the configuration's state: whether some object is set aside.
    pub fn configured(&self, stale: bool) {
        self.config_loaded.set(1);
        self.config_stale.set(i64::from(stale));
    }

    /// An address is announced, or no longer.
    pub fn announced(&self, service: &ObjectKey, protocol: Protocol, ip: IpAddr, is: bool) {
        let label = Announcement {
            service: service.to_string(),
            protocol: protocol.name(),
            node: self.node.clone(),
            ip: ip.to_string(),
        };
        if is {
            self.announced.get_or_create(&label).set(1);
        } else {
            self.announced.remove(&label);
        }
    }
}
