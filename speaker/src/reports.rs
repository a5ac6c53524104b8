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
    /// The addresses that another station has too.
    conflicts: BTreeMap<IpAddr, Conflict>,
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
            conflicts: BTreeMap::new(),
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
            self.tell_conflict(key, announced);
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
            self.tell_conflict(key, announced);
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

    /// Addresses that another station has now, or no longer.
    pub fn conflicts(&mut self, news: Vec<(IpAddr, Option<Conflict>)>) {
        if news.is_empty() {
            return;
        }
        for (ip, conflict) in &news {
            match conflict {
                Some(conflict) => drop(self.conflicts.insert(*ip, *conflict)),
                None => drop(self.conflicts.remove(ip)),
            }
        }
        let news: BTreeMap<_, _> = news.into_iter().collect();
        // One look at all for however many there are: whoever forges claims can make many.
        let announcements = Arc::clone(&self.announcements);
        let announcements = announcements.read().unwrap_or_else(PoisonError::into_inner);
        for (key, announced) in announcements.iter() {
            let concerned = announced.ingress.iter().filter(|ip| news.contains_key(ip));
            let mut concerned = concerned.peekable();
            if announced.layer2.is_err() || concerned.peek().is_none() {
                continue;
            }
            for ip in concerned {
                let (event_type, reason, message) = match self.conflicts.get(ip) {
                    Some(conflict) => (
                        EventType::Warning,
                        "AddressConflict",
                        self.sentence(*ip, *conflict),
                    ),
                    None => (
                        EventType::Normal,
                        "AddressConflictResolved",
                        format!("no other host claims address {ip} any more"),
                    ),
                };
                self.publish(key, event_type, reason, message);
            }
            self.tell_conflict(key, announced);
        }
    }

    /// The condition of a Service, from all its addresses.
    fn tell_conflict(&self, key: &ObjectKey, announced: &Announced) {
        let those = announced
            .ingress
            .iter()
            .filter_map(|ip| Some((*ip, *self.conflicts.get(ip)?)));
        let those: Vec<_> = those.collect();
        let reason = if those.iter().any(|(_, conflict)| conflict.withheld) {
            reason::WITHHELD
        } else {
            reason::ANNOUNCED_NEVERTHELESS
        };
        let sentences: Vec<String> = those
            .iter()
            .map(|(ip, conflict)| self.sentence(*ip, *conflict))
            .collect();
        let message = sentences.join("\n");
        let told = (!those.is_empty()).then_some((reason, message.as_str()));
        self.channels.statuses.set_conflict(key, told);
    }

    fn sentence(&self, ip: IpAddr, conflict: Conflict) -> String {
        let Conflict { mac, withheld } = conflict;
        let node = &self.node;
        let done = if withheld {
            "it is not announced until that host is gone"
        } else {
            "it is announced all the same, and clients may reach either"
        };
        format!(
            "address {ip} is also claimed by the host with the hardware address {mac}, as seen on node {node:?}; {done}. Take the \
             address from that host, or exclude it from the pool"
        )
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
