//! When did a Service get its address, as any client of the API server sees it?

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};

use crate::cluster::Site;
use crate::host;

/// The first moment at which a Service was seen with an address, and the address.
#[derive(Clone)]
pub struct Seen {
    pub address: String,
    pub when: Instant,
}

/// Watches all Services of the namespace `default`.
pub struct Statuses {
    seen: Arc<Mutex<HashMap<String, Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Statuses {
    pub fn start(site: &Site) -> Result<Self> {
        let seen = Arc::new(Mutex::new(HashMap::new()));
        let map = seen.clone();
        let api: Api<Service> = Api::namespaced(site.client.clone(), "default");
        let task = site.runtime().spawn(async move {
            let mut events = watcher(api, watcher::Config::default())
                .default_backoff()
                .boxed();
            while let Some(event) = events.next().await {
                let when = Instant::now();
                match event {
                    Ok(watcher::Event::Apply(service) | watcher::Event::InitApply(service)) => {
                        if let Some(address) = address(&service) {
                            lock(&map)
                                .entry(service.name_any())
                                .or_insert(Seen { address, when });
                        } else {
                            lock(&map).remove(&service.name_any());
                        }
                    }
                    Ok(watcher::Event::Delete(service)) => {
                        lock(&map).remove(&service.name_any());
                    }
                    // The watcher starts over by itself.
                    Ok(_) | Err(_) => {}
                }
            }
        });
        Ok(Self { seen, task })
    }

    pub fn of(&self, service: &str) -> Option<Seen> {
        lock(&self.seen).get(service).cloned()
    }

    /// Waits until so many Services whose name begins with this have an address.
    pub fn wait_for_all(&self, prefix: &str, count: usize, limit: Duration) -> Result<()> {
        host::wait_until(&format!("{count} Services have addresses"), limit, || {
            Ok(lock(&self.seen)
                .keys()
                .filter(|n| n.starts_with(prefix))
                .count()
                >= count)
        })
    }

    /// Forgets what was seen, for Services whose status was taken away again.
    pub fn forget(&self) {
        lock(&self.seen).clear();
    }
}

impl Drop for Statuses {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(map: &Mutex<HashMap<String, Seen>>) -> MutexGuard<'_, HashMap<String, Seen>> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

fn address(service: &Service) -> Option<String> {
    service
        .status
        .as_ref()?
        .load_balancer
        .as_ref()?
        .ingress
        .as_ref()?
        .first()?
        .ip
        .clone()
}
