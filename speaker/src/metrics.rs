//! MetalLB's metrics of the announcing side that belong to no protocol (reference 5.1).

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use crate::decide::{Announcements, Protocol};

/// The figures that the speaker publishes for itself.
#[derive(Clone, Default)]
pub struct Metrics {
    config_loaded: Gauge,
    config_stale: Gauge,
    /// Object updates processed.
    pub updates: Counter,
    withheld: Withheld,
}

/// The addresses that layer 2 does not announce for a conflict.
type Withheld = Arc<RwLock<BTreeSet<IpAddr>>>;

impl Metrics {
    /// Registers every figure.
    #[must_use]
    pub fn register(registry: &mut Registry, node: &str, announcements: Announcements) -> Self {
        let metrics = Metrics::default();
        registry.register_collector(Box::new(Announced {
            node: node.to_owned(),
            announcements,
            withheld: Arc::clone(&metrics.withheld),
        }));
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

    /// Publishes that layer 2 does not announce an address for a conflict, or that it does again.
    pub fn withheld(&self, ip: IpAddr, withheld: bool) {
        let mut all = self
            .withheld
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if withheld {
            all.insert(ip);
        } else {
            all.remove(&ip);
        }
    }

    /// Publishes the configuration's state: whether some object is set aside.
    pub fn configured(&self, stale: bool) {
        self.config_loaded.set(1);
        self.config_stale.set(i64::from(stale));
    }
}

/// `metallb_speaker_announced`, read off the decisions at each scrape: thousands of series that nobody asks for would
/// take more memory than the decisions themselves.
#[derive(Debug)]
struct Announced {
    node: String,
    announcements: Announcements,
    withheld: Withheld,
}

impl Collector for Announced {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (one, zero) = (ConstGauge::new(1i64), ConstGauge::new(0i64));
        let mut family = encoder.encode_descriptor(
            "metallb_speaker_announced",
            "1 for each address announced from this node; 0 while it is withheld because another host has it",
            None,
            one.metric_type(),
        )?;
        let announcements = self
            .announcements
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let withheld = self.withheld.read().unwrap_or_else(PoisonError::into_inner);
        for (service, announced) in announcements.iter() {
            for (protocol, is) in [
                (Protocol::Layer2, announced.layer2.is_ok()),
                (Protocol::Bgp, announced.bgp.is_ok()),
            ] {
                for ip in announced.ingress.iter().filter(|_| is) {
                    let labels = [
                        ("service", service.to_string()),
                        ("protocol", protocol.name().to_owned()),
                        ("node", self.node.clone()),
                        ("ip", ip.to_string()),
                    ];
                    let quiet = protocol == Protocol::Layer2 && withheld.contains(ip);
                    let value = if quiet { &zero } else { &one };
                    value.encode(family.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, RwLock};

    use ferrolb_announcement::{Interfaces, Layer2Announcement, Withdrawn};
    use ferrolb_api::ObjectKey;

    use super::*;

    #[test]
    fn each_announced_address_is_a_series_of_its_protocol() {
        let announced = crate::decide::Announced {
            ingress: ["10.0.0.1".parse().unwrap()].into(),
            layer2: Ok(Arc::new(Layer2Announcement {
                interfaces: Interfaces::All,
                refresh: None,
                on_conflict: Default::default(),
            })),
            bgp: Err(Withdrawn::NotOwner),
        };
        let all = BTreeMap::from([(ObjectKey::new("shop", "web"), announced)]);
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry, "node-1", Arc::new(RwLock::new(all)));
        let series = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            let ours = |line: &&str| line.starts_with("metallb_speaker_announced{");
            text.lines().find(ours).map(str::to_owned)
        };
        let expected = |value| {
            format!(
                "metallb_speaker_announced{{service=\"shop/web\",protocol=\"layer2\",node=\"node-1\",ip=\"10.0.0.1\"}} {value}"
            )
        };
        assert_eq!(series(), Some(expected(1)));
        let ip = "10.0.0.1".parse().unwrap();
        metrics.withheld(ip, true);
        assert_eq!(series(), Some(expected(0)));
        metrics.withheld(ip, false);
        assert_eq!(series(), Some(expected(1)));
    }
}
