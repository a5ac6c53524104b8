//! What people are told of announcements: events on Services, and lines in the log.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::PoisonError;

use ferrolb_announcement::Interfaces;
use ferrolb_api::ObjectKey;
use ferrolb_cluster::{EventPublisher, EventType, Happening, Store, Subject};
use k8s_openapi::api::core::v1::Service;
use tracing::info;

use crate::decide::{Announcements, Change};
use crate::layer2::{Conflict, Interface};
use crate::project::Observed;

/// Tells, and remembers what was told.
pub struct Reports {
    node: String,
    services: Store<Observed>,
    announcements: Announcements,
    events: EventPublisher,
    /// Services for which no interface is there that their advertisements name.
    without_interface: BTreeSet<ObjectKey>,
}

impl Reports {
    /// For this node.
    #[must_use]
    pub fn new(
        node: &str,
        services: Store<Observed>,
        announcements: Announcements,
        events: EventPublisher,
    ) -> Self {
        Reports {
            node: node.to_owned(),
            services,
            announcements,
            events,
            without_interface: BTreeSet::new(),
        }
    }

    /// An announcement changed. `is_news` is false for what a restarted speaker goes on with.
    pub fn changed(&self, change: &Change, is_news: bool) {
        let Change {
            service,
            protocol,
            begun,
            ended,
        } = change;
        if begun.is_empty() && ended.is_empty() {
            info!(event = "serviceAnnounced", service = %service, protocol = protocol.name(), "announced in another way");
            return;
        }
        let (event, ips) = if begun.is_empty() {
            ("serviceWithdrawn", ended)
        } else {
            ("serviceAnnounced", begun)
        };
        let ips: Vec<String> = ips.iter().map(IpAddr::to_string).collect();
        info!(event, service = %service, protocol = protocol.name(), ?ips, "announcements changed");
        if begun.is_empty() || !is_news {
            return;
        }
        let (node, protocol) = (&self.node, protocol.name());
        let message = format!("announcing from node {node:?} with protocol {protocol:?}");
        self.publish(service, EventType::Normal, "nodeAssigned", message);
    }

    /// Tells of Services that are announced here and whose interfaces are not here (reference 4.3). `services` are those
    /// that may have changed in this; `None` for all, after the interfaces changed.
    pub fn interfaces(&mut self, services: Option<&BTreeSet<ObjectKey>>, usable: &[Interface]) {
        let announcements = self.announcements.clone();
        let announcements = announcements.read().unwrap_or_else(PoisonError::into_inner);
        let missing = |key: &ObjectKey| -> Option<IpAddr> {
            let announced = announcements.get(key)?;
            let Interfaces::Only(names) = &announced.layer2.as_ref().ok()?.interfaces else {
                return None;
            };
            let is_there = usable
                .iter()
                .any(|interface| names.contain(&interface.name));
            (!is_there)
                .then(|| announced.ingress.first().copied())
                .flatten()
        };
        let mut told: Vec<(ObjectKey, IpAddr)> = Vec::new();
        let mut look = |key: &ObjectKey| match missing(key) {
            None => drop(self.without_interface.remove(key)),
            Some(ip) => {
                if self.without_interface.insert(key.clone()) {
                    told.push((key.clone(), ip));
                }
            }
        };
        match services {
            Some(services) => services.iter().for_each(&mut look),
            None => announcements.keys().for_each(&mut look),
        }
        drop(announcements);
        for (key, ip) in told {
            // MetalLB's sentence (reference 4.3), which people search for.
            let message = format!(
                "the interfaces specified by LB IP {:?} doesn't exist in assigned node {:?} with protocol \"layer2\"",
                ip.to_string(),
                self.node
            );
            self.publish(&key, EventType::Warning, "announceFailed", message);
        }
    }

    /// Another station has an address of ours.
    pub fn conflict(&self, ip: IpAddr, conflict: Conflict) {
        let Conflict { mac, withheld } = conflict;
        let node = &self.node;
        let done = if withheld {
            "it is not announced until that host is gone"
        } else {
            "it is announced all the same, and clients may reach either"
        };
        let message = format!(
            "address {ip} is also claimed by the host with the hardware address {mac}, as seen on node {node:?}; {done}. Take the \
             address from that host, or exclude it from the pool"
        );
        for service in self.services_with(ip) {
            self.publish(
                &service,
                EventType::Warning,
                "AddressConflict",
                message.clone(),
            );
        }
    }

    /// That station has not been heard for a while.
    pub fn resolved(&self, ip: IpAddr) {
        let message = format!("no other host claims address {ip} any more");
        for service in self.services_with(ip) {
            self.publish(
                &service,
                EventType::Normal,
                "AddressConflictResolved",
                message.clone(),
            );
        }
    }

    /// The Services that are announced here by layer 2 with an address. Looked for only when there is something to tell.
    #[must_use]
    pub fn services_with(&self, ip: IpAddr) -> Vec<ObjectKey> {
        let announcements = self
            .announcements
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        announcements
            .iter()
            .filter(|(_, announced)| announced.layer2.is_ok() && announced.ingress.contains(&ip))
            .map(|(key, _)| key.clone())
            .collect()
    }

    fn publish(&self, service: &ObjectKey, event_type: EventType, reason: &str, message: String) {
        if let Some(observed) = self.services.get(service) {
            self.events.publish(Happening {
                subject: Subject::of::<Service>(service, observed.uid.to_string()),
                event_type,
                reason: reason.to_owned(),
                message,
            });
        }
    }
}
