//! Figures of the membership.

use ferrolb_membership::DropReason;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What the membership counts.
#[derive(Clone, Debug)]
pub struct MembersMetrics {
    pub(super) alive: Gauge,
    pub(super) received: Counter,
    pub(super) sent: Counter,
    pub(super) lapses: Counter,
    pub(super) holds: Counter,
    dropped: Family<Reason, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

impl MembersMetrics {
    /// Registers the figures.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            alive: Gauge::default(),
            received: Counter::default(),
            sent: Counter::default(),
            lapses: Counter::default(),
            holds: Counter::default(),
            dropped: Family::default(),
        };
        registry.register(
            "ferrolb_members_alive",
            "Speakers that are alive, this one included",
            metrics.alive.clone(),
        );
        registry.register(
            "ferrolb_members_datagrams_received",
            "Membership datagrams received",
            metrics.received.clone(),
        );
        registry.register(
            "ferrolb_members_datagrams_sent",
            "Membership datagrams sent",
            metrics.sent.clone(),
        );
        registry.register(
            "ferrolb_members_lapses",
            "Times that this process was stopped or starved for so long that others may have given it up",
            metrics.lapses.clone(),
        );
        registry.register(
            "ferrolb_members_holds",
            "Times that this speaker announced nothing by layer 2 at its start because other speakers had another key",
            metrics.holds.clone(),
        );
        registry.register(
            "ferrolb_members_datagrams_dropped",
            "Membership datagrams received that were not used",
            metrics.dropped.clone(),
        );
        for reason in DropReason::ALL {
            drop(metrics.dropped.get_or_create(&reason.into()));
        }
        metrics
    }

    pub(super) fn dropped(&self, reason: DropReason) {
        self.dropped.get_or_create(&reason.into()).inc();
    }
}

impl From<DropReason> for Reason {
    fn from(reason: DropReason) -> Self {
        Self {
            reason: reason.as_str(),
        }
    }
}
