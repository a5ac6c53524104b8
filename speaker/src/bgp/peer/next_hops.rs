//! Next hops follow the addresses of this node.

use std::sync::Arc;

use ferrolb_bgp::Export;

use super::super::local;
use super::Peer;

impl Peer {
    /// Announces routes again in place where our addresses, and with them their next hops, changed.
    pub(super) fn take_next_hops(&mut self) {
        let addresses = Arc::clone(&self.setting.addresses.borrow_and_update());
        let established = self.established;
        let connection = established.and_then(|conn| self.connection(conn));
        let local = connection.and_then(|connection| connection.stream.local_addr().ok());
        let (Some(local), Some(negotiated)) = (local, &mut self.status.negotiated) else {
            return;
        };
        let endpoint = &mut negotiated.endpoint;
        let (v4, v6) = local::next_hops(&addresses, local, endpoint);
        let differs = endpoint.next_hop_v4 != v4 || endpoint.next_hop_v6 != v6;
        if addresses.is_empty() || !differs {
            return;
        }
        tracing::info!(peer = %self.name, next_hop_v4 = ?v4, next_hop_v6 = ?v6, "the addresses beside the BGP session changed");
        (endpoint.next_hop_v4, endpoint.next_hop_v6) = (v4, v6);
        let export = Export::new(self.setting.spec.my_asn, negotiated);
        self.rib.next_hops_changed(&export);
        self.count_not_advertised();
    }
}
