//! Whom the measured allocator serves: 50 pools and any number of Services, as the API server would show them.

use anyhow::{Context, Result, ensure};
use ferrolb_api::v1beta1::IPAddressPool;
use ferrolb_operator::project::{Observed, observe};
use ferrolb_rules::{Configuration, Objects, Pool};
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

/// Pools that serve some namespace, some label, or everyone; one more has no room.
const ORDINARY: usize = 49;
/// The pools below this serve one namespace each.
const BY_NAMESPACE: usize = 25;
/// The pools from there to below this serve one label each; the rest serves everyone.
const BY_LABEL: usize = 40;
/// The pool that has an address for each of its holders and none for those that wait.
const CONTENDED: &str = "contended";

/// The pools. `contended` is how many addresses the one without room has.
pub fn pools(contended: usize) -> Result<Vec<Pool>> {
    let mut objects = Vec::new();
    for pool in 0..ORDINARY {
        let mut spec =
            json!({"addresses": [format!("10.{pool}.0.0/16"), format!("fd00:{pool}::/64")]});
        if pool < BY_NAMESPACE {
            spec["serviceAllocation"] =
                json!({"priority": 10 + pool % 3, "namespaces": [namespace(pool)]});
        } else if pool < BY_LABEL {
            let selector = json!({"matchLabels": {"shard": pool.to_string()}});
            spec["serviceAllocation"] = json!({"priority": 20, "serviceSelectors": [selector]});
        }
        objects.push(object(&format!("pool-{pool:02}"), spec)?);
    }
    let last = contended.saturating_sub(1);
    let range = format!("10.250.0.0-10.250.{}.{}", last / 256, last % 256);
    let spec = json!({"addresses": [range], "autoAssign": false});
    objects.push(object(CONTENDED, spec)?);
    let (configuration, refusals) = Configuration::from_objects(&Objects {
        pools: &objects.iter().collect::<Vec<_>>(),
        ..Objects::default()
    });
    ensure!(refusals.is_empty(), "{refusals:?}");
    Ok(configuration.pools.into_values().collect())
}

fn object(name: &str, spec: Value) -> Result<IPAddressPool> {
    let spec = serde_json::from_value(spec).context("read the spec of a pool")?;
    Ok(IPAddressPool::new(name, spec))
}

/// What a Service has or wants.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its status names an address, and the annotation beside it the pool.
    Served,
    /// It was created a moment ago.
    New,
    /// It wants an address of the pool without room.
    Waiting,
    /// It holds the so-manieth address of that pool.
    Holding(usize),
}

/// The `number`th Service as the operator keeps it. The lower the number, the older it is.
pub fn service(number: usize, state: State) -> Result<Observed> {
    let pool = number % ORDINARY;
    let at = number / ORDINARY;
    let recorded = match state {
        State::Served => Some((
            format!("pool-{pool:02}"),
            format!("10.{pool}.{}.{}", at / 256, at % 256),
        )),
        State::Holding(at) => Some((
            CONTENDED.to_owned(),
            format!("10.250.{}.{}", at / 256, at % 256),
        )),
        State::New | State::Waiting => None,
    };
    let mut annotations = json!({"example.org/owner": "team of the web shop"});
    let mut status = json!({"loadBalancer": {}});
    if let Some((pool, address)) = recorded {
        annotations["metallb.io/ip-allocated-from-pool"] = pool.into();
        status = json!({"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}});
    }
    if matches!(state, State::Waiting | State::Holding(_)) {
        annotations["metallb.io/address-pool"] = CONTENDED.into();
    }
    let (day, second) = (1 + number / 86_400, number % 86_400);
    let created = format!(
        "2026-01-{day:02}T{:02}:{:02}:{:02}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    );
    let cluster_ip = format!("10.96.{}.{}", number / 256 % 256, number % 256);
    let port = |name: &str, port: u16| json!({"name": name, "port": port, "protocol": "TCP", "targetPort": name, "nodePort": 30_000 + port % 1000});
    let object = json!({
        "metadata": {
            "name": format!("web-{number}"), "namespace": namespace(pool), "uid": format!("7f3c5c1e-4a55-4b1c-9d0e-{number:012}"),
            "creationTimestamp": created, "annotations": annotations,
            "labels": {"app.kubernetes.io/name": "web", "app.kubernetes.io/instance": format!("web-{number}"), "shard": pool.to_string()},
        },
        "spec": {
            "type": "LoadBalancer", "selector": {"app.kubernetes.io/name": "web"}, "ports": [port("http", 80), port("https", 443)],
            "clusterIP": cluster_ip, "clusterIPs": [cluster_ip], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
        },
        "status": status,
    });
    let service: Service = serde_json::from_value(object).context("read a Service")?;
    observe(&service, None).context("the Service is not ours")
}

/// The namespace of the Services that are meant for a pool.
fn namespace(pool: usize) -> String {
    format!("team-{pool:02}")
}
