//! Figures of layer 2, under MetalLB's names (reference 5.1).

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ferrolb_neighbor::DropReason;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

/// A reason of ours beside those of the responder: the kernel did not take a frame.
const UNSENT: &str = "unsent";

/// What layer 2 counts.
#[derive(Clone, Debug)]
pub struct Layer2Metrics {
    requests_received: Family<Ip, Unsuffixed>,
    responses_sent: Family<Ip, Unsuffixed>,
    gratuitous_sent: Family<Ip, Unsuffixed>,
    dropped: Family<Reason, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ip {
    ip: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

impl Layer2Metrics {
    /// Registers the figures.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests_received: Family::default(),
            responses_sent: Family::default(),
            gratuitous_sent: Family::default(),
            dropped: Family::default(),
        };
        registry.register(
            "metallb_layer2_requests_received",
            "ARP and NDP requests received for announced addresses",
            metrics.requests_received.clone(),
        );
        registry.register(
            "metallb_layer2_responses_sent",
            "ARP and NDP answers sent for announced addresses",
            metrics.responses_sent.clone(),
        );
        registry.register(
            "metallb_layer2_gratuitous_sent",
            "Gratuitous ARP and unsolicited NDP frames sent for announced addresses",
            metrics.gratuitous_sent.clone(),
        );
        registry.register(
            "ferrolb_layer2_dropped",
            "Frames dropped: malformed ones received, and ones that the kernel did not take",
            metrics.dropped.clone(),
        );
        for reason in DropReason::ALL
            .map(DropReason::as_str)
            .into_iter()
            .chain([UNSENT])
        {
            drop(metrics.dropped.get_or_create(&Reason { reason }));
        }
        metrics
    }

    pub(super) fn request_received(&self, ip: IpAddr) {
        self.requests_received.get_or_create(&ip.into()).add_one();
    }

    pub(super) fn response_sent(&self, ip: IpAddr) {
        self.responses_sent.get_or_create(&ip.into()).add_one();
    }

    pub(super) fn gratuitous_sent(&self, ip: IpAddr) {
        self.gratuitous_sent.get_or_create(&ip.into()).add_one();
    }

    pub(super) fn dropped(&self, reason: DropReason) {
        self.dropped
            .get_or_create(&Reason {
                reason: reason.as_str(),
            })
            .inc();
    }

    pub(super) fn unsent(&self) {
        self.dropped.get_or_create(&Reason { reason: UNSENT }).inc();
    }
}

impl From<IpAddr> for Ip {
    fn from(ip: IpAddr) -> Self {
        Self { ip: ip.to_string() }
    }
}

/// A counter whose name stays as it is: MetalLB's have no `_total`, which OpenMetrics demands of a counter. So it says
/// of itself that its type is unknown, which neither queries nor alerts look at.
#[derive(Clone, Debug, Default)]
struct Unsuffixed(Arc<AtomicU64>);

impl Unsuffixed {
    fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl TypedMetric for Unsuffixed {
    const TYPE: MetricType = MetricType::Unknown;
}

impl EncodeMetric for Unsuffixed {
    fn encode(&self, mut encoder: MetricEncoder) -> std::fmt::Result {
        encoder.encode_gauge(&self.0.load(Ordering::Relaxed))
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_metallb() {
        let mut registry = Registry::default();
        let metrics = Layer2Metrics::new(&mut registry);
        let ip = "192.0.2.1".parse().unwrap();
        metrics.request_received(ip);
        metrics.request_received(ip);
        metrics.response_sent(ip);
        metrics.gratuitous_sent(ip);
        metrics.dropped(DropReason::HopLimit);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "metallb_layer2_requests_received{ip=\"192.0.2.1\"} 2",
            "metallb_layer2_responses_sent{ip=\"192.0.2.1\"} 1",
            "metallb_layer2_gratuitous_sent{ip=\"192.0.2.1\"} 1",
            "ferrolb_layer2_dropped_total{reason=\"hop_limit\"} 1",
            "ferrolb_layer2_dropped_total{reason=\"unsent\"} 0",
        ] {
            assert!(
                text.lines().any(|present| present == line),
                "{line} is missing from\n{text}"
            );
        }
    }
}
