//! Services by the hundred and by the thousand.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ferrolb_cluster::{ObjectKey, Writer};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;

use super::rows::percentile;
use super::watch::Statuses;
use super::wire::Wire;
use crate::cluster::Site;
use crate::{host, interrupt};

/// Inside the segment, so that the addresses are announced both ways.
pub const POOL: &str = "10.10.128.0/17";

/// How many requests are under way at once: as many as the operator has when it writes statuses.
const CONCURRENCY: usize = 32;

/// One Service from its creation to the wire. What did not come within the time is None.
pub struct Sample {
    /// From sending the create request to the API server's answer, in which nobody else has a part.
    pub request: Option<Duration>,
    /// From sending the create request to the event that shows the address.
    pub create: Option<Duration>,
    /// From sending the create request to the first gratuitous ARP frame.
    pub announced: Option<Duration>,
    /// From that event to the first gratuitous ARP frame.
    pub arp: Option<Duration>,
    /// From that event to the first UPDATE with the address.
    pub bgp: Option<Duration>,
}

fn services(site: &Site) -> Api<Service> {
    Api::namespaced(site.client.clone(), "default")
}

fn service(name: &str) -> Result<Service> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "labels": {"bench": "yes"}},
        "spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "selector": {"app": "echo"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }))?)
}

/// Creates Services one after the other and follows each to the wire.
pub fn one_by_one(
    site: &Site,
    statuses: &Statuses,
    wire: &Wire,
    prefix: &str,
    count: usize,
) -> Result<Vec<Sample>> {
    let api = services(site);
    let mut samples = Vec::new();
    for number in 0..count {
        interrupt::check()?;
        let name = format!("{prefix}-{number}");
        let object = service(&name)?;
        wire.forget();
        let began = Instant::now();
        site.runtime()
            .block_on(api.create(&PostParams::default(), &object))
            .with_context(|| format!("create {name}"))?;
        let request = Some(began.elapsed());
        let seen = host::wait_until(&name, Duration::from_secs(10), || {
            Ok(statuses.of(&name).is_some())
        })
        .ok()
        .and_then(|()| statuses.of(&name));
        let Some(seen) = seen else {
            samples.push(Sample {
                request,
                create: None,
                announced: None,
                arp: None,
                bgp: None,
            });
            continue;
        };
        let address: Ipv4Addr = seen
            .address
            .parse()
            .with_context(|| format!("{name} has {}", seen.address))?;
        // The frame may come a little before the event that we see, which is as good as at once.
        let _ = host::wait_until(&name, Duration::from_secs(2), || {
            Ok(wire.arp(address).is_some() && wire.bgp(address).is_some())
        });
        let after =
            |moment: Option<Instant>| moment.map(|m| m.saturating_duration_since(seen.when));
        let frame = wire.arp(address);
        samples.push(Sample {
            request,
            announced: frame.map(|at| at.saturating_duration_since(began)),
            create: Some(seen.when.duration_since(began)),
            arp: after(frame),
            bgp: after(wire.bgp(address)),
        });
        if number + 1 == count {
            let p99 =
                |of: fn(&Sample) -> Option<Duration>| percentile(samples.iter().map(of), 0.99);
            println!(
                "  {count} Services created one after the other; 99th percentiles: on the wire after {:.1} ms, {:.1} ms after the API server's answer, which took {:.1} ms",
                p99(|s| s.announced),
                p99(|s| Some(s.announced?.saturating_sub(s.request?))),
                p99(|s| s.request)
            );
        }
    }
    Ok(samples)
}

/// Creates one Service, without waiting for its address.
pub fn create_one(site: &Site, name: &str) -> Result<()> {
    let object = service(name)?;
    let create = async move { services(site).create(&PostParams::default(), &object).await };
    site.runtime()
        .block_on(create)
        .with_context(|| format!("create {name}"))
        .map(drop)
}

/// Creates many at once, and says now and then how far it is: for each one the API server counts all that there are.
pub fn create_many(site: &Site, prefix: &str, numbers: Range<usize>) -> Result<()> {
    const TOLD_EVERY: usize = 1000;
    let api = services(site);
    let began = Instant::now();
    let wanted = numbers.len();
    site.runtime().block_on(async {
        stream::iter(numbers)
            .map(|number| {
                let api = api.clone();
                let object = service(&format!("{prefix}-{number}"));
                async move {
                    interrupt::check()?;
                    api.create(&PostParams::default(), &object?).await?;
                    anyhow::Ok(())
                }
            })
            .buffer_unordered(CONCURRENCY)
            .enumerate()
            .map(|(before, created)| {
                let count = before + 1;
                if count % TOLD_EVERY == 0 {
                    let seconds = began.elapsed().as_secs_f64();
                    println!("  {count} of {wanted} created after {seconds:.1} s");
                }
                created
            })
            .try_collect::<()>()
            .await
    })
}

/// Makes the `present` Services of a series as many as `wanted`, the newest going first.
pub fn bring_to(site: &Site, prefix: &str, present: usize, wanted: usize) -> Result<()> {
    if present < wanted {
        return create_many(site, prefix, present..wanted);
    }
    delete(site, |name| {
        let number = name
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_prefix('-')?.parse::<usize>().ok());
        number.is_some_and(|number| number >= wanted)
    })
}

/// Writes the status of so many Services, or takes it away, by the same kind of request as the operator's.
pub fn bare_loop(site: &Site, prefix: &str, count: usize, give: bool) -> Result<Duration> {
    let api = services(site);
    site.runtime().block_on(async {
        // The operator knows the versions from its watch; the loop gets them before the clock runs.
        let list = api.list(&ListParams::default().labels("bench=yes")).await?;
        let first = u32::from(Ipv4Addr::new(10, 10, 128, 0));
        let patches: Vec<_> = list
            .items
            .into_iter()
            .filter_map(|s| Some((s.metadata.name?, s.metadata.resource_version?)))
            .filter(|(name, _)| name.starts_with(prefix))
            .take(count)
            .zip(first..)
            .map(|((name, version), address)| {
                let ingress = if give {
                    json!([{"ip": Ipv4Addr::from(address).to_string()}])
                } else {
                    json!(null)
                };
                let pool = if give { json!("bench") } else { json!(null) };
                let change = json!({
                    "metadata": {"annotations": {"metallb.io/ip-allocated-from-pool": pool}},
                    "status": {"loadBalancer": {"ingress": ingress}},
                });
                (ObjectKey::new("default", &name), version, change)
            })
            .collect();
        // The operator's own way of writing, so that only the deciding is left out.
        let writer = Writer::new(site.client.clone());
        let began = Instant::now();
        stream::iter(patches)
            .map(|(key, version, change)| {
                let writer = writer.clone();
                async move {
                    interrupt::check()?;
                    let outcome = writer.patch_status::<Service>(&key, &version, change).await;
                    ensure!(outcome.is_done(), "{key}: {outcome:?}");
                    anyhow::Ok(())
                }
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect::<()>()
            .await?;
        Ok(began.elapsed())
    })
}

/// Deletes every Service of the bench.
pub fn delete_all(site: &Site) -> Result<()> {
    delete(site, |_| true)
}

/// Deletes the Services of one series.
pub fn delete_prefix(site: &Site, prefix: &str) -> Result<()> {
    delete(site, |name| name.starts_with(prefix))
}

fn delete(site: &Site, wanted: impl Fn(&str) -> bool) -> Result<()> {
    let api = services(site);
    site.runtime().block_on(async {
        let list = api
            .list_metadata(&ListParams::default().labels("bench=yes"))
            .await?;
        let names: Vec<_> = list
            .items
            .into_iter()
            .filter_map(|s| s.metadata.name)
            .filter(|n| wanted(n))
            .collect();
        stream::iter(names)
            .map(|name| {
                let api = api.clone();
                async move {
                    interrupt::check()?;
                    api.delete(&name, &DeleteParams::default()).await?;
                    anyhow::Ok(())
                }
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect::<()>()
            .await?;
        Ok(())
    })
}
