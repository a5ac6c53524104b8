//! Figures of layer 2, under MetalLB's names (reference 5.1).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ferrolb_neighbor::DropReason;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::shared::Shared;

/// A reason of ours beside those of the responder: the kernel did not take a frame.
const UNSENT: &str = "unsent";

/// What is counted of one address, for as long as it is ours. It goes with the address, and so do its series.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) requests_received: AtomicU64,
    pub(super) responses_sent: AtomicU64,
    pub(super) gratuitous_sent: AtomicU64,
    pub(super) conflicts: AtomicU64,
}

/// What is counted of all addresses together.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer2Metrics {
    dropped: Family<Reason, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

impl Layer2Metrics {
    /// Registers the figures.
    pub(super) fn register(registry: &mut Registry, shared: Arc<Shared>) -> Self {
        let metrics = Self::default();
        registry.register_collector(Box::new(OfAddresses(shared)));
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

    pub(super) fn dropped(&self, reason: DropReason) {
        let reason = reason.as_str();
        self.dropped.get_or_create(&Reason { reason }).inc();
    }

    pub(super) fn unsent(&self) {
        self.unsent_many(1);
    }

    pub(super) fn unsent_many(&self, count: u64) {
        let unsent = Reason { reason: UNSENT };
        self.dropped.get_or_create(&unsent).inc_by(count);
    }
}

/// The figures of the addresses, read at each scrape.
struct OfAddresses(Arc<Shared>);

impl fmt::Debug for OfAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OfAddresses")
    }
}

type Figure = fn(&Figures) -> &AtomicU64;

impl OfAddresses {
    fn counted(&self, figure: Figure) -> Vec<(IpAddr, u64)> {
        let entries = self.0.entries();
        let all = entries
            .iter()
            .map(|(ip, entry)| (*ip, figure(&entry.figures).load(Ordering::Relaxed)));
        all.filter(|(_, count)| *count > 0).collect()
    }
}

impl Collector for OfAddresses {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        // MetalLB's names have no `_total`, which OpenMetrics demands of a counter. So these say of themselves that their type
        // is unknown, which neither queries nor alerts look at.
        let figures: [(&str, &str, Figure); 3] = [
            (
                "metallb_layer2_requests_received",
                "ARP and NDP requests received for announced addresses",
                |figures| &figures.requests_received,
            ),
            (
                "metallb_layer2_responses_sent",
                "ARP and NDP answers sent for announced addresses",
                |figures| &figures.responses_sent,
            ),
            (
                "metallb_layer2_gratuitous_sent",
                "Gratuitous ARP and unsolicited NDP frames sent for announced addresses",
                |figures| &figures.gratuitous_sent,
            ),
        ];
        for (name, help, figure) in figures {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Unknown)?;
            for (ip, count) in self.counted(figure) {
                let labels = [("ip", ip.to_string())];
                ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "ferrolb_layer2_address_conflicts",
            "Times that another station was found to have an address of ours",
            None,
            MetricType::Counter,
        )?;
        for (ip, count) in self.counted(|figures| &figures.conflicts) {
            let labels = [("ip", ip.to_string())];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ferrolb_announcement::Interfaces;
    use ferrolb_neighbor::{Before, Terms};

    use super::super::shared::{Announcement, Wish};
    use super::*;

    #[test]
    fn names_are_those_of_metallb_and_series_go_with_their_address() {
        let mut registry = Registry::default();
        let shared = Arc::new(Shared::new(1));
        let metrics = Layer2Metrics::register(&mut registry, Arc::clone(&shared));
        let ip = "192.0.2.1".parse().unwrap();
        let announcement = Announcement {
            interfaces: Interfaces::All,
            terms: Terms::default(),
        };
        shared.change([(ip, Wish::Announce(announcement, Before::TheCluster))]);
        let entries = shared.entries();
        let figures = &entries[&ip].figures;
        figures.requests_received.store(2, Ordering::Relaxed);
        for one in [
            &figures.responses_sent,
            &figures.gratuitous_sent,
            &figures.conflicts,
        ] {
            one.store(1, Ordering::Relaxed);
        }
        drop(entries);
        metrics.dropped(DropReason::HopLimit);
        let text = |registry: &Registry| {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
            text
        };
        let shown = text(&registry);
        for line in [
            "metallb_layer2_requests_received{ip=\"192.0.2.1\"} 2",
            "metallb_layer2_responses_sent{ip=\"192.0.2.1\"} 1",
            "metallb_layer2_gratuitous_sent{ip=\"192.0.2.1\"} 1",
            "ferrolb_layer2_address_conflicts_total{ip=\"192.0.2.1\"} 1",
            "ferrolb_layer2_dropped_total{reason=\"hop_limit\"} 1",
            "ferrolb_layer2_dropped_total{reason=\"unsent\"} 0",
        ] {
            assert!(
                shown.lines().any(|present| present == line),
                "{line} is missing from\n{shown}"
            );
        }
        shared.change([(ip, Wish::Withdraw)]);
        assert!(!text(&registry).contains("192.0.2.1"));
    }
}
