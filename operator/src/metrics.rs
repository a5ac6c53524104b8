//! MetalLB's metrics of the allocating side (reference 5.1).

use ferrolb_allocation::PoolCounters;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabel {
    pool: String,
}

/// The figures that the operator publishes.
#[derive(Clone, Default)]
pub struct Metrics {
    total: Family<PoolLabel, Gauge>,
    in_use: Family<PoolLabel, Gauge>,
    v4_total: Family<PoolLabel, Gauge>,
    v4_in_use: Family<PoolLabel, Gauge>,
    v6_total: Family<PoolLabel, Gauge>,
    v6_in_use: Family<PoolLabel, Gauge>,
    config_loaded: Gauge,
    config_stale: Gauge,
    /// Object updates processed.
    pub updates: Counter,
    /// Object updates whose outcome could not be written.
    pub update_errors: Counter,
}

impl Metrics {
    /// Registers every figure.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Metrics::default();
        for (name, help, family) in [
            ("addresses_total", "Addresses of a pool", &metrics.total),
            (
                "addresses_in_use_total",
                "Addresses of a pool in use",
                &metrics.in_use,
            ),
            (
                "ipv4_addresses_total",
                "IPv4 addresses of a pool",
                &metrics.v4_total,
            ),
            (
                "ipv4_addresses_in_use_total",
                "IPv4 addresses of a pool in use",
                &metrics.v4_in_use,
            ),
            (
                "ipv6_addresses_total",
                "IPv6 addresses of a pool",
                &metrics.v6_total,
            ),
            (
                "ipv6_addresses_in_use_total",
                "IPv6 addresses of a pool in use",
                &metrics.v6_in_use,
            ),
        ] {
            registry.register(format!("metallb_allocator_{name}"), help, family.clone());
        }
        let client = registry.sub_registry_with_prefix("metallb_k8s_client");
        client.register(
            "updates",
            "Object updates processed",
            metrics.updates.clone(),
        );
        client.register(
            "update_errors",
            "Object updates that failed",
            metrics.update_errors.clone(),
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

    /// Publishes the counters of the pools in force; series of other pools go.
    pub fn pools(&self, pools: &[(String, PoolCounters)]) {
        for family in [
            &self.total,
            &self.in_use,
            &self.v4_total,
            &self.v4_in_use,
            &self.v6_total,
            &self.v6_in_use,
        ] {
            family.clear();
        }
        for (pool, counters) in pools {
            let label = PoolLabel { pool: pool.clone() };
            let (v4, v6) = (counters.total_v4, counters.total_v6);
            for (family, value) in [
                (&self.total, v4.saturating_add(v6)),
                (
                    &self.in_use,
                    counters.assigned_v4.saturating_add(counters.assigned_v6),
                ),
                (&self.v4_total, v4),
                (&self.v4_in_use, counters.assigned_v4),
                (&self.v6_total, v6),
                (&self.v6_in_use, counters.assigned_v6),
            ] {
                family.get_or_create(&label).set(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    /// Reference 3.9 and 5.1.
    #[test]
    fn a_pool_has_its_series_for_as_long_as_it_is_in_force() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let shown = || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            text
        };
        let counters = PoolCounters {
            assigned_v4: 3,
            available_v4: 4,
            total_v4: 8,
            total_v6: i64::MAX,
            ..PoolCounters::default()
        };
        metrics.pools(&[("p".to_owned(), counters)]);
        for line in [
            "metallb_allocator_ipv4_addresses_total{pool=\"p\"} 8",
            "metallb_allocator_ipv4_addresses_in_use_total{pool=\"p\"} 3",
            "metallb_allocator_addresses_in_use_total{pool=\"p\"} 3",
            "metallb_allocator_addresses_total{pool=\"p\"} 9223372036854775807",
        ] {
            assert!(shown().contains(line), "{line} in {}", shown());
        }
        metrics.pools(&[]);
        assert!(!shown().contains("pool=\"p\""));
    }
}
