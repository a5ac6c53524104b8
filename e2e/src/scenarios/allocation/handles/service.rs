//! A Service to be given addresses, and what becomes of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};

use super::{CASE, LIMIT};
use crate::cluster::{Site, condition};
use crate::{interrupt, objects};

/// The condition of a Service that does not have all that it asks for.
pub const ALLOCATED: &str = "ferrolb.io/AddressesAllocated";

/// A Service that is not created yet.
#[must_use]
pub struct NewService(Value);

impl NewService {
    /// One TCP port, one family, asks for nothing.
    pub fn named(name: &str) -> Self {
        Self(objects::service_without_endpoints("default", name))
    }

    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.0["metadata"]["namespace"] = json!(namespace);
        self
    }

    pub fn annotated(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["annotations"][key] = json!(value);
        self
    }

    pub fn pool(self, pool: &str) -> Self {
        self.annotated("metallb.io/address-pool", pool)
    }

    pub fn requesting(self, addresses: &str) -> Self {
        self.annotated("metallb.io/loadBalancerIPs", addresses)
    }

    pub fn load_balancer_ip(mut self, address: &str) -> Self {
        self.0["spec"]["loadBalancerIP"] = json!(address);
        self
    }

    pub fn sharing(self, key: &str) -> Self {
        self.annotated("metallb.io/allow-shared-ip", key)
    }

    pub fn labelled(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["labels"][key] = json!(value);
        self
    }

    pub fn of_case(self, case: &str) -> Self {
        self.labelled(CASE, case)
    }

    pub fn port(mut self, protocol: &str, port: u16) -> Self {
        self.0["spec"]["ports"] = json!([{"port": port, "protocol": protocol}]);
        self
    }

    pub fn selecting(mut self, app: &str) -> Self {
        self.0["spec"]["selector"] = json!({"app": app});
        self
    }

    pub fn families(mut self, policy: &str, families: &[&str]) -> Self {
        self.0["spec"]["ipFamilyPolicy"] = json!(policy);
        self.0["spec"]["ipFamilies"] = json!(families);
        self
    }

    pub fn preferring_both(self) -> Self {
        self.families("PreferDualStack", &["IPv4", "IPv6"])
    }

    pub fn requiring_both(self) -> Self {
        self.families("RequireDualStack", &["IPv4", "IPv6"])
    }

    pub fn create(self, site: &Site) -> Result<Service<'_>> {
        let namespace = &self.0["metadata"]["namespace"];
        let list = format!(
            "/api/v1/namespaces/{}/services",
            namespace.as_str().unwrap_or_default()
        );
        let created = site.create(&list, &self.0)?;
        let name = created["metadata"]["name"].as_str().unwrap_or_default();
        Ok(Service {
            site,
            path: format!("{list}/{name}"),
            name: name.to_owned(),
            uid: created["metadata"]["uid"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        })
    }
}

/// A Service that exists.
pub struct Service<'a> {
    site: &'a Site,
    path: String,
    pub name: String,
    pub uid: String,
}

/// An event about a Service.
#[derive(Debug)]
pub struct Told {
    pub reason: String,
    pub message: String,
    pub count: u64,
}

impl Service<'_> {
    pub fn object(&self) -> Result<Value> {
        self.site
            .get(&self.path)?
            .with_context(|| format!("Service {} is gone", self.name))
    }

    /// The addresses in its status, as they are.
    pub fn addresses(&self) -> Result<Vec<String>> {
        Ok(addresses_in(&self.object()?))
    }

    /// Waits until it has exactly these addresses, in this order; none of them for a Service that loses its address.
    pub fn gets(&self, wanted: &[&str]) -> Result<()> {
        let mut found = Vec::new();
        let met = self.site.wait_for("", LIMIT, || {
            found = self.addresses()?;
            Ok(found == wanted)
        });
        if met.is_err() {
            interrupt::check()?;
            let told = self.events()?;
            bail!(
                "Service {} should have {wanted:?} and has {found:?}; it was told {told:?}",
                self.name
            );
        }
        Ok(())
    }

    /// Waits until it has this many addresses.
    pub fn gets_some(&self, count: usize) -> Result<Vec<String>> {
        self.site.wait(
            &format!("Service {} gets {count} address(es)", self.name),
            LIMIT,
            || {
                let found = self.addresses()?;
                Ok((found.len() == count).then_some(found))
            },
        )
    }

    /// The pool that is recorded beside its addresses.
    pub fn recorded_pool(&self) -> Result<Option<String>> {
        let object = self.object()?;
        let recorded = &object["metadata"]["annotations"]["metallb.io/ip-allocated-from-pool"];
        Ok(recorded.as_str().map(str::to_owned))
    }

    /// Waits until this pool is recorded beside its addresses, or none.
    pub fn is_recorded_in(&self, pool: Option<&str>) -> Result<()> {
        self.site.wait_for(
            &format!("{} is recorded in pool {pool:?}", self.name),
            LIMIT,
            || Ok(self.recorded_pool()?.as_deref() == pool),
        )
    }

    pub fn patch(&self, patch: &Value) -> Result<Value> {
        self.site.patch(&self.path, patch)
    }

    /// Sets an annotation, or takes it away.
    pub fn annotate(&self, key: &str, value: Option<&str>) -> Result<()> {
        self.patch(&json!({"metadata": {"annotations": {key: value}}}))
            .map(drop)
    }

    /// Writes these addresses into its status, as somebody might by hand.
    pub fn edit_status(&self, addresses: &[&str]) -> Result<()> {
        let ingress: Value = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        let edited = self.site.patch(
            &format!("{}/status", self.path),
            &json!({"status": {"loadBalancer": {"ingress": ingress}}}),
        )?;
        ensure!(
            addresses_in(&edited) == addresses,
            "the edit did not get in"
        );
        Ok(())
    }

    pub fn delete(&self) -> Result<()> {
        self.site.delete(&self.path)
    }

    /// Its resourceVersion: equal later if nobody wrote anything meanwhile.
    pub fn version(&self) -> Result<String> {
        let object = self.object()?;
        Ok(object["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
            .to_owned())
    }

    /// Fails if anything was written since this version.
    pub fn is_still(&self, version: &str) -> Result<()> {
        let object = self.object()?;
        ensure!(
            object["metadata"]["resourceVersion"] == version,
            "Service {} was written; it has {:?} and was told {:?}",
            self.name,
            addresses_in(&object),
            self.events()?
        );
        Ok(())
    }

    /// Looks again and again for this long and fails at the first change.
    pub fn stays_for(&self, time: Duration, version: &str) -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.is_still(version)?;
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// The events about it, and about no Service of the same name before it.
    pub fn events(&self) -> Result<Vec<Told>> {
        let namespace = self.path.split('/').nth(4).unwrap_or_default();
        let list = self.site.get(&format!(
            "/api/v1/namespaces/{namespace}/events?fieldSelector=involvedObject.uid%3D{}",
            self.uid
        ))?;
        let text =
            |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
        Ok(list.unwrap_or_default()["items"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|event| Told {
                reason: text(event, "reason"),
                message: text(event, "message"),
                count: event["count"].as_u64().unwrap_or(1),
            })
            .collect())
    }

    /// Waits for an event with this reason; returns its message.
    pub fn is_told(&self, reason: &str) -> Result<String> {
        self.site.wait(
            &format!("Service {} gets an event {reason}", self.name),
            LIMIT,
            || {
                let told = self
                    .events()?
                    .into_iter()
                    .find(|told| told.reason == reason);
                Ok(told.map(|told| told.message))
            },
        )
    }

    /// A condition of its status.
    pub fn condition(&self, kind: &str) -> Result<Option<Value>> {
        Ok(condition(&self.object()?, kind).cloned())
    }

    /// Waits until its status says that it does not have all that it asks for, with this reason; returns the condition.
    pub fn lacks(&self, reason: &str) -> Result<Value> {
        let mut found = None;
        let met = self.site.wait("", LIMIT, || {
            found = self.condition(ALLOCATED)?;
            let fits = |c: &&Value| c["status"] == "False" && c["reason"] == reason;
            Ok(found.as_ref().filter(fits).cloned())
        });
        met.map_err(|_| {
            anyhow!(
                "Service {} should lack an address for {reason}; its condition is {found:?}, it was told {:?}",
                self.name,
                self.events().unwrap_or_default()
            )
        })
    }

    /// Waits until its status no longer says that anything is missing.
    pub fn lacks_nothing(&self) -> Result<()> {
        self.site.wait_for(
            &format!("the condition {ALLOCATED} of {} is gone", self.name),
            LIMIT,
            || Ok(self.condition(ALLOCATED)?.is_none()),
        )
    }

    /// Fails if it was given addresses more than once, or had any taken away.
    pub fn was_given_once(&self) -> Result<()> {
        let told = self.events()?;
        let count = |reason: &str| -> u64 {
            let with_reason = told.iter().filter(|told| told.reason == reason);
            with_reason.map(|told| told.count).sum()
        };
        ensure!(
            count("IPAllocated") == 1 && count("ClearAssignment") == 0,
            "{} was told {told:?}",
            self.name
        );
        Ok(())
    }

    /// Waits until it was told that it gets nothing, and checks that it has nothing.
    pub fn waits(&self) -> Result<String> {
        let message = self.is_told("AllocationFailed")?;
        let found = self.addresses()?;
        ensure!(found.is_empty(), "{} has {found:?}", self.name);
        Ok(message)
    }
}

pub fn addresses_in(service: &Value) -> Vec<String> {
    service["status"]["loadBalancer"]["ingress"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|entry| entry["ip"].as_str().map(str::to_owned))
        .collect()
}

/// Creates two Services one after the other, each of which is served: what the operator had begun about other Services
/// is written by then. They come from a pool of config/samples.
pub fn others_are_served(site: &Site) -> Result<()> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    for _ in 0..2 {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let witness = NewService::named(&format!("witness-{number}"))
            .pool("layer2")
            .create(site)?;
        witness.gets_some(1)?;
    }
    Ok(())
}
