//! Figures under MetalLB's names (reference 5.1), so that dashboards and alerts go on working.

use super::spec::PeerSpec;
use ferrolb_bgp::MessageCounts;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// `peer` as [`PeerSpec::label`] has it, and `vrf`, which MetalLB's FRR mode has and calls `default` where there is none.
type Labels = [(&'static str, String); 2];

/// What went over the connections with a peer, in both directions, and how often there were two of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Messages {
    pub(super) sent: MessageCounts,
    pub(super) received: MessageCounts,
    pub(super) collisions: u64,
}

/// Names, meanings and values of the figures about messages. They are counters by nature and gauges by type, because the
/// registry would append `_total` to the names of counters.
type AboutMessages = (&'static str, &'static str, fn(&Messages) -> u64);

const MESSAGES: [AboutMessages; 9] = [
    ("opens_sent", "OPEN messages sent", |m| m.sent.opens),
    ("opens_received", "OPEN messages received", |m| {
        m.received.opens
    }),
    ("notifications_sent", "NOTIFICATION messages sent", |m| {
        m.sent.notifications
    }),
    ("updates_total_received", "UPDATE messages received", |m| {
        m.received.updates
    }),
    ("keepalives_sent", "KEEPALIVE messages sent", |m| {
        m.sent.keepalives
    }),
    ("keepalives_received", "KEEPALIVE messages received", |m| {
        m.received.keepalives
    }),
    ("route_refresh_sent", "ROUTE-REFRESH messages sent", |m| {
        m.sent.route_refreshes
    }),
    ("total_sent", "messages sent", |m| m.sent.total()),
    ("total_received", "messages received", |m| {
        m.received.total()
    }),
];

/// The figures of all peers.
#[derive(Debug, Clone)]
pub struct BgpMetrics {
    session_up: Family<Labels, Gauge>,
    updates: Family<Labels, Counter>,
    announced_prefixes: Family<Labels, Gauge>,
    pending_prefixes: Family<Labels, Gauge>,
    malformed_updates: Family<Labels, Counter>,
    collisions: Family<Labels, Counter>,
    messages: [Family<Labels, Gauge>; MESSAGES.len()],
}

impl BgpMetrics {
    /// Registers the figures under their full names, so `registry` must not add a prefix of its own.
    pub fn new(registry: &mut Registry) -> BgpMetrics {
        let metrics = BgpMetrics {
            session_up: Family::default(),
            updates: Family::default(),
            announced_prefixes: Family::default(),
            pending_prefixes: Family::default(),
            malformed_updates: Family::default(),
            collisions: Family::default(),
            messages: Default::default(),
        };
        registry.register(
            "metallb_bgp_session_up",
            "BGP session state (1 is up, 0 is down)",
            metrics.session_up.clone(),
        );
        // The registry appends `_total` to counters, and to counters alone.
        registry.register(
            "metallb_bgp_updates",
            "Number of BGP UPDATE messages sent",
            metrics.updates.clone(),
        );
        registry.register(
            "metallb_bgp_announced_prefixes_total",
            "Number of prefixes currently being advertised on the BGP session",
            metrics.announced_prefixes.clone(),
        );
        registry.register(
            "metallb_bgp_pending_prefixes_total",
            "Number of prefixes that should be advertised on the BGP session",
            metrics.pending_prefixes.clone(),
        );
        registry.register(
            "ferrolb_bgp_malformed_updates",
            "Number of malformed BGP UPDATE messages received that did not end the session (RFC 7606)",
            metrics.malformed_updates.clone(),
        );
        registry.register(
            "ferrolb_bgp_collisions",
            "Number of times both sides had opened a connection, of which one was then closed (RFC 4271 section 6.8)",
            metrics.collisions.clone(),
        );
        for ((name, help, _), family) in MESSAGES.iter().zip(&metrics.messages) {
            let (name, help) = (
                format!("metallb_bgp_{name}"),
                format!("Number of BGP {help}"),
            );
            registry.register(name, help, family.clone());
        }
        metrics
    }

    /// The figures of one peer, at zero.
    pub(super) fn for_peer(&self, spec: &PeerSpec) -> PeerMetrics {
        let peer = PeerMetrics {
            all: self.clone(),
            labels: [
                ("peer", spec.label()),
                ("vrf", spec.vrf.as_deref().unwrap_or("default").to_owned()),
            ],
        };
        peer.session_up(false);
        peer.updates(0);
        peer.malformed_updates(0);
        peer.collisions(0);
        peer.prefixes(0, 0);
        peer.messages(&Messages::default());
        peer
    }
}

/// The figures of one peer.
#[derive(Debug)]
pub(super) struct PeerMetrics {
    all: BgpMetrics,
    labels: Labels,
}

impl PeerMetrics {
    pub(super) fn session_up(&self, up: bool) {
        self.all
            .session_up
            .get_or_create(&self.labels)
            .set(i64::from(up));
    }

    pub(super) fn updates(&self, count: usize) {
        self.all
            .updates
            .get_or_create(&self.labels)
            .inc_by(count as u64);
    }

    pub(super) fn malformed_updates(&self, count: u64) {
        self.all
            .malformed_updates
            .get_or_create(&self.labels)
            .inc_by(count);
    }

    pub(super) fn collisions(&self, count: u64) {
        self.all
            .collisions
            .get_or_create(&self.labels)
            .inc_by(count);
    }

    pub(super) fn prefixes(&self, announced: usize, pending: usize) {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.all
            .announced_prefixes
            .get_or_create(&self.labels)
            .set(gauge(announced));
        self.all
            .pending_prefixes
            .get_or_create(&self.labels)
            .set(gauge(pending));
    }

    pub(super) fn messages(&self, messages: &Messages) {
        for ((_, _, count), family) in MESSAGES.iter().zip(&self.all.messages) {
            let count = i64::try_from(count(messages)).unwrap_or(i64::MAX);
            family.get_or_create(&self.labels).set(count);
        }
    }

    /// Takes the peer out of all figures: a session that shall not be is not a session that is down.
    pub(super) fn remove(&self) {
        self.all.session_up.remove(&self.labels);
        self.all.updates.remove(&self.labels);
        self.all.announced_prefixes.remove(&self.labels);
        self.all.pending_prefixes.remove(&self.labels);
        self.all.malformed_updates.remove(&self.labels);
        self.all.collisions.remove(&self.labels);
        for family in &self.all.messages {
            family.remove(&self.labels);
        }
    }
}
