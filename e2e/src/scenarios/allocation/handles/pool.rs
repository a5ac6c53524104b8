//! A pool of a scenario's own, and what its status says.

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use super::{CASE, LIMIT};
use crate::cluster::{Site, condition};
use crate::{interrupt, objects};

/// A pool that is not created yet.
#[must_use]
pub struct NewPool(Value);

impl NewPool {
    /// Serves Services that ask for it, and no other.
    pub fn on_request(name: &str, addresses: &[&str]) -> Self {
        let mut pool = objects::pool(name, addresses);
        pool["spec"]["autoAssign"] = json!(false);
        Self(pool)
    }

    /// Serves everybody.
    pub fn for_all(name: &str, addresses: &[&str]) -> Self {
        Self(objects::pool(name, addresses))
    }

    /// Serves the Services of this case.
    pub fn for_case(name: &str, addresses: &[&str], case: &str) -> Self {
        Self(objects::pool(name, addresses)).allocation("serviceSelectors", &serving(case))
    }

    /// Sets a field of serviceAllocation.
    pub fn allocation(mut self, field: &str, value: &Value) -> Self {
        self.0["spec"]["serviceAllocation"][field] = value.clone();
        self
    }

    pub fn annotated(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["annotations"][key] = json!(value);
        self
    }

    pub fn priority(self, priority: u32) -> Self {
        self.allocation("priority", &json!(priority))
    }
}

/// The service selectors of a pool for one case.
pub fn serving(case: &str) -> Value {
    labelled(CASE, case)
}

/// A list of one label selector.
pub fn labelled(key: &str, value: &str) -> Value {
    json!([{"matchLabels": {key: value}}])
}

/// Creates pools; returns when the operator has all of them in force.
pub fn create_pools<const N: usize>(site: &Site, new: [NewPool; N]) -> Result<[Pool<'_>; N]> {
    let pools = new.each_ref().map(|NewPool(pool)| {
        Pool::named(site, pool["metadata"]["name"].as_str().unwrap_or_default())
    });
    for NewPool(pool) in &new {
        // The webhook may still remember pools of a scenario that ended just now.
        site.wait("the pool is accepted", LIMIT, || {
            site.create(POOLS, pool).map(Some)
        })?;
    }
    for pool in &pools {
        pool.is_in_force()?;
    }
    Ok(pools)
}

/// The pools at the API server.
pub const POOLS: &str = "/apis/metallb.io/v1beta1/namespaces/metallb-system/ipaddresspools";

/// A pool that exists.
pub struct Pool<'a> {
    site: &'a Site,
    pub name: String,
}

impl<'a> Pool<'a> {
    pub fn named(site: &'a Site, name: &str) -> Self {
        Self {
            site,
            name: name.to_owned(),
        }
    }

    pub fn path(&self) -> String {
        format!("{POOLS}/{}", self.name)
    }

    pub fn object(&self) -> Result<Value> {
        self.site
            .get(&self.path())?
            .with_context(|| format!("pool {} is gone", self.name))
    }

    /// Waits until the operator says of the newest version that it is accepted: every Service is decided again by then.
    pub fn is_in_force(&self) -> Result<()> {
        self.site
            .wait_for(&format!("pool {} is in force", self.name), LIMIT, || {
                let object = self.object()?;
                Ok(condition(&object, "Accepted").is_some_and(|accepted| {
                    accepted["status"] == "True"
                        && accepted["observedGeneration"] == object["metadata"]["generation"]
                }))
            })
    }

    /// Changes its spec; returns when the change is in force.
    pub fn change(&self, spec: &Value) -> Result<()> {
        self.site.patch(&self.path(), &json!({"spec": spec}))?;
        self.is_in_force()
    }

    /// Sets an annotation of the pool, or takes it away.
    pub fn annotate(&self, key: &str, value: Option<&str>) -> Result<()> {
        let patch = json!({"metadata": {"annotations": {key: value}}});
        self.site.patch(&self.path(), &patch).map(drop)
    }

    pub fn delete(&self) -> Result<()> {
        self.site.delete(&self.path())
    }

    /// Waits until its condition of this type is True or not; returns its message.
    pub fn is(&self, kind: &str, wanted: bool) -> Result<String> {
        let mut found = None;
        let met = self.site.wait("", LIMIT, || {
            let object = self.object()?;
            found = condition(&object, kind).cloned();
            let now = found.as_ref().is_some_and(|c| c["status"] == "True");
            let message = found.as_ref().and_then(|c| c["message"].as_str());
            Ok((now == wanted).then(|| message.unwrap_or_default().to_owned()))
        });
        met.map_err(|_| {
            anyhow!(
                "{kind} of pool {} should be {wanted} and is {found:?}",
                self.name
            )
        })
    }

    /// Waits until its status counts these: available and assigned IPv4, available and assigned IPv6.
    pub fn counts(&self, wanted: [u64; 4]) -> Result<()> {
        let mut found = Value::Null;
        let fields = [
            "availableIPv4",
            "assignedIPv4",
            "availableIPv6",
            "assignedIPv6",
        ];
        let met = self.site.wait_for("", LIMIT, || {
            found = self.object()?["status"].clone();
            Ok(fields
                .iter()
                .zip(wanted)
                .all(|(field, number)| found[field] == number))
        });
        if met.is_err() {
            interrupt::check()?;
            bail!(
                "pool {} should count {wanted:?} and its status is {found}",
                self.name
            );
        }
        Ok(())
    }
}
