//! Annotation keys: MetalLB's under both of its prefixes, and our own.
//!
//! For each key that a person sets, the `metallb.io/` form wins when both exist, even with an empty value (reference
//! section 3.1).

use std::collections::BTreeMap;

/// A key that is read under MetalLB's present prefix and under its older one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnotationKey {
    /// The key with the prefix `metallb.io/`.
    pub current: &'static str,
    /// The key with the prefix `metallb.universe.tf/`; its use earns a warning event.
    pub deprecated: &'static str,
}

impl AnnotationKey {
    /// The value and the key under which it was found.
    pub fn find<'a>(
        &self,
        annotations: &'a BTreeMap<String, String>,
    ) -> Option<(&'a str, &'static str)> {
        let value_of = |key: &'static str| annotations.get(key).map(|value| (value.as_str(), key));
        value_of(self.current).or_else(|| value_of(self.deprecated))
    }
}

/// The addresses that a Service asks for, separated by commas.
pub const LOAD_BALANCER_IPS: AnnotationKey = AnnotationKey {
    current: "metallb.io/loadBalancerIPs",
    deprecated: "metallb.universe.tf/loadBalancerIPs",
};

/// The pool that a Service asks for.
pub const ADDRESS_POOL: AnnotationKey = AnnotationKey {
    current: "metallb.io/address-pool",
    deprecated: "metallb.universe.tf/address-pool",
};

/// Services with the same value here may share an address (reference section 3.6).
pub const ALLOW_SHARED_IP: AnnotationKey = AnnotationKey {
    current: "metallb.io/allow-shared-ip",
    deprecated: "metallb.universe.tf/allow-shared-ip",
};

/// Written by the operator on a Service: the pool that its addresses came from.
pub const IP_ALLOCATED_FROM_POOL: &str = "metallb.io/ip-allocated-from-pool";

/// The W3C trace context of the change that an object carries, so that one trace spans admission, allocation and wire.
pub const TRACEPARENT: &str = "ferrolb.io/traceparent";

/// On a BGPPeer that is read as v1beta1: what only v1beta2 can say, so that nothing is lost when it is written back (see
/// [`conversion`](crate::conversion)).
pub const BGP_PEER_V1BETA2: &str = "ferrolb.io/bgppeer-v1beta2";

/// On an IPAddressPool: addresses of it that are given to no Service, as a list of single addresses, networks and ranges
/// (first-last) separated by commas, for example `192.0.2.1, 192.0.2.64/28, 192.0.2.200-192.0.2.210`. Each entry has an
/// address in common with `spec.addresses`, and one of the pool's addresses is left. Empty: none.
pub const EXCLUDE: &str = "ferrolb.io/exclude";

/// On an IPAddressPool: for how long a freed address is kept from other Services than the one that had it, as a duration
/// in Go's syntax from `0` (off, as without the annotation) to `720h`; rounded up to whole seconds.
pub const REUSE_HOLD: &str = "ferrolb.io/reuse-hold";

/// On an IPAddressPool: how many addresses of the pool the Services of one namespace may hold together, a whole number from
/// 0 to 1000000. Without it: no limit.
pub const MAX_ADDRESSES_PER_NAMESPACE: &str = "ferrolb.io/max-addresses-per-namespace";

/// On a Namespace: how many addresses its Services may hold together, of all pools, a whole number from 0 to 1000000.
/// Without it: no limit.
pub const MAX_ADDRESSES: &str = "ferrolb.io/max-addresses";

/// On an L2Advertisement: how often each address that it covers is announced again without anybody asking, as a duration in
/// Go's syntax from `1s` to `24h`, or `0` for never. Without it: `60s`. Where several advertisements cover an address the
/// shortest holds.
pub const REFRESH_INTERVAL: &str = "ferrolb.io/refresh-interval";

/// On an L2Advertisement: what is done about an address that it covers and that another host on the segment has too. `warn`,
/// as without the annotation: it is announced, and the conflict is told. `withhold`: it is not announced while the other
/// host has it. Where several advertisements cover an address `withhold` holds.
pub const ADDRESS_CONFLICT: &str = "ferrolb.io/address-conflict";

/// On a BGPPeer: `true` for a speaker that waits for the router to connect, as long as speakers listen at all
/// (`--bgp-listen-port`), `false` as without the annotation.
pub const PASSIVE: &str = "ferrolb.io/passive";

/// On a BGPPeer: over how many hops its packets may come, a whole number from 1 to 254. Others are dropped by the kernel (RFC
/// 5082, GTSM), and ours leave with a TTL of 255, so that the router can do the same. Not together with `spec.ebgpMultiHop`.
/// Without it: packets are not judged by this.
pub const TTL_SECURITY: &str = "ferrolb.io/ttl-security";

/// On a BGPPeer: for how long a speaker that is stopped goes on announcing with the community GRACEFUL_SHUTDOWN (RFC 8326),
/// so that the router takes other ways before it ends the session: a duration in Go's syntax from `0` (as without the
/// annotation) to `10m`. Without effect beside `spec.enableGracefulRestart`.
pub const GRACEFUL_SHUTDOWN: &str = "ferrolb.io/graceful-shutdown";

/// What the rules read of an IPAddressPool's annotations.
pub const OF_A_POOL: [&str; 3] = [EXCLUDE, REUSE_HOLD, MAX_ADDRESSES_PER_NAMESPACE];

/// What the rules read of an L2Advertisement's annotations.
pub const OF_AN_L2_ADVERTISEMENT: [&str; 2] = [REFRESH_INTERVAL, ADDRESS_CONFLICT];

/// What the rules read of a BGPPeer's annotations.
pub const OF_A_BGP_PEER: [&str; 3] = [PASSIVE, TTL_SECURITY, GRACEFUL_SHUTDOWN];
