//! The end of each trace: the first packet that tells the network of a Service.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tracing::{Span, info_span};

use crate::bgp::RoutesSent;
use crate::decide::{Change, Protocol};
use crate::layer2::Layer2Event;
use crate::project::Observed;

/// Spans of announcements whose first packet is still to come.
pub struct Traces {
    traced: bool,
    node: String,
    /// As many as there are announcements under way; each ends with its packet or with the announcement.
    awaited: BTreeMap<(Protocol, IpAddr), Span>,
}

impl Traces {
    /// Follows announcements if spans leave this process, else does nothing.
    #[must_use]
    pub fn new(traced: bool, node: &str) -> Self {
        Traces {
            traced,
            node: node.to_owned(),
            awaited: BTreeMap::new(),
        }
    }

    /// An announcement changed: what begins continues the trace that the operator left on the Service, and what ends is
    /// awaited no longer. `None` where the Service is gone.
    pub fn changed(&mut self, change: &Change, observed: Option<&Observed>) {
        if !self.traced {
            return;
        }
        for ip in &change.ended {
            self.awaited.remove(&(change.protocol, *ip));
        }
        let Some(traceparent) = observed.and_then(|observed| observed.traceparent.as_deref())
        else {
            return;
        };
        for ip in &change.begun {
            let span = info_span!("announce", service = %change.service, protocol = change.protocol.name(), node = self.node, %ip);
            ferrolb_serving::set_parent_from_traceparent(&span, traceparent);
            self.awaited.insert((change.protocol, *ip), span);
        }
    }

    /// Something happened on the segment; perhaps a first gratuitous frame left.
    pub fn layer2_sent(&mut self, event: &Layer2Event) {
        if let Layer2Event::FirstGratuitousSent { ip, .. } = event {
            self.sent(Protocol::Layer2, *ip, "gratuitous frame sent");
        }
    }

    /// An UPDATE left.
    pub fn routes_sent(&mut self, event: &RoutesSent) {
        for prefix in &event.prefixes {
            // An aggregate stands for every address in it.
            let range = (Protocol::Bgp, prefix.network())..=(Protocol::Bgp, prefix.broadcast());
            let awaited: Vec<_> = self.awaited.range(range).map(|((_, ip), _)| *ip).collect();
            for ip in awaited {
                self.sent(Protocol::Bgp, ip, "UPDATE sent");
            }
        }
    }

    fn sent(&mut self, protocol: Protocol, ip: IpAddr, what: &'static str) {
        if let Some(span) = self.awaited.remove(&(protocol, ip)) {
            info_span!(parent: &span, "first packet", what, %ip).in_scope(|| {});
        }
    }
}
