//! What people are told of announcements: events on Services, ServiceL2Status objects, and lines in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

use ferrolb_announcement::Interfaces;
use ferrolb_api::ObjectKey;
use ferrolb_api::conditions::reason;
use ferrolb_api::usable_interfaces::UsableInterface;
use ferrolb_cluster::{Broken, EventPublisher, EventType, Happening, Store, Subject};
use ferrolb_rules::Refusal;
use k8s_openapi::api::core::v1::Service;
use tracing::info;

use crate::decide::{Announced, Announcements, Change};
use crate::layer2::{Conflict, Interface};
use crate::project::Observed;
use crate::status::{ConfigurationReport, L2Statuses};

/// Where it is told.
pub struct Channels {
    /// Events on Services.
    pub events: EventPublisher,
    /// Which Services are announced by layer 2.
    pub statuses: L2Statuses,
    /// Whether the configuration is of use, and which interfaces there are.
    pub configuration: ConfigurationReport,
}

/// Tells, and remembers what was told.
pub struct Reports {
    node: String,
    services: Store<Observed>,
    announcements: Announcements,
    channels: Channels,
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
        channels: Channels,
    ) -> Self {
        Reports {
            node: node.to_owned(),
            services,
            announcements,
            channels,
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

    /// Tells on which interfaces Services are announced here, and of those whose interfaces are not here (reference 4.3).
    /// `services` are those that may have changed in this; `None` for all, after the interfaces changed.
    pub fn interfaces(&mut self, services: Option<&BTreeSet<ObjectKey>>, usable: &[Interface]) {
        let announcements = Arc::clone(&self.announcements);
        let announcements = announcements.read().unwrap_or_else(PoisonError::into_inner);
        match services {
            Some(services) => {
                for key in services {
                    self.interfaces_of(key, announcements.get(key), usable);
                }
            }
            None => {
                for (key, announced) in announcements.iter() {
                    self.interfaces_of(key, Some(announced), usable);
                }
            }
        }
    }

    fn interfaces_of(
        &mut self,
        key: &ObjectKey,
        announced: Option<&Announced>,
        usable: &[Interface],
    ) {
        let layer2 =
            announced.and_then(|announced| Some((announced, announced.layer2.as_ref().ok()?)));
        let Some((announced, layer2)) = layer2 else {
            self.without_interface.remove(key);
            self.channels.statuses.set(key, None);
            return;
        };
        let Interfaces::Only(names) = &layer2.interfaces else {
            self.without_interface.remove(key);
            self.channels.statuses.set(key, Some(Vec::new()));
            return;
        };
        let here: Vec<String> = usable
            .iter()
            .map(|interface| interface.name.clone())
            .filter(|name| names.contain(name))
            .collect();
        if !here.is_empty() {
            self.without_interface.remove(key);
            self.channels.statuses.set(key, Some(here));
            return;
        }
        self.channels.statuses.set(key, None);
        if !self.without_interface.insert(key.clone()) {
            return;
        }
        if let Some(ip) = announced.ingress.first() {
            // MetalLB's sentence (reference 4.3), which people search for.
            let (ip, node) = (ip.to_string(), &self.node);
            let message = format!(
                "the interfaces specified by LB IP {ip:?} doesn't exist in assigned node {node:?} with protocol \"layer2\""
            );
            self.publish(key, EventType::Warning, "announceFailed", message);
        }
    }

    /// These are the interfaces that addresses can be announced on.
    pub fn usable(&self, usable: &[Interface]) {
        let usable: Vec<UsableInterface> = usable
            .iter()
            .map(|interface| UsableInterface {
                name: interface.name.clone(),
                arp: interface.arp,
                ndp: interface.ndp,
            })
            .collect();
        self.channels.configuration.set_interfaces(&usable);
    }

    /// This is wrong with what people configured.
    pub fn configuration(
        &self,
        refusals: &[Refusal],
        unreadable: &BTreeMap<(&'static str, ObjectKey), Broken>,
    ) {
        let unreadable = unreadable.iter().map(|((kind, key), broken)| {
            let reason = format!("cannot be read: {}", broken.error);
            Refusal::new(kind, key.name(), "spec", reason)
        });
        let all: Vec<Refusal> = refusals.iter().cloned().chain(unreadable).collect();
        self.channels.configuration.set_configuration(&all);
    }

    /// It has been told of every Service what is announced.
    pub fn complete(&self) {
        self.channels.statuses.complete();
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
        let reason = if withheld {
            reason::WITHHELD
        } else {
            reason::ANNOUNCED_NEVERTHELESS
        };
        for service in self.services_with(ip) {
            self.channels
                .statuses
                .set_conflict(&service, Some((reason, &message)));
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
            self.channels.statuses.set_conflict(&service, None);
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
            self.channels.events.publish(Happening {
                subject: Subject::of::<Service>(service, observed.uid.to_string()),
                event_type,
                reason: reason.to_owned(),
                message,
            });
        }
    }
}
