//! What people are told of announcements: events on Services, objects about them, and lines in the log.

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

use crate::bgp::{Families, PeerSpec};
use crate::decide::{Announced, Announcements, Change, Protocol};
use crate::layer2::{Conflict, Interface};
use crate::project::Observed;
use crate::status::{BgpStatuses, ConfigurationReport, L2Statuses, SessionReport};
use crate::to_whom::peers_of;

/// Where it is told.
pub struct Channels {
    /// Events on Services.
    pub events: EventPublisher,
    /// Which Services are announced by layer 2.
    pub statuses: L2Statuses,
    /// Which Services are announced by BGP, and to whom.
    pub bgp_statuses: BgpStatuses,
    /// Whether the configuration is of use, and which interfaces there are.
    pub configuration: ConfigurationReport,
    /// How the BGP sessions of this node are doing.
    pub sessions: SessionReport,
}

/// Tells, and remembers what was told.
pub struct Reports {
    node: String,
    services: Store<Observed>,
    announcements: Announcements,
    channels: Channels,
    /// Addresses of Services for which no interface is there: none that their advertisements name, or none that does ARP or NDP.
    without_interface: BTreeMap<ObjectKey, Vec<IpAddr>>,
    /// The addresses that another station has too.
    conflicts: BTreeMap<IpAddr, Conflict>,
    /// The peers that this node shall have a session with, and what each session shall carry.
    sessions: BTreeMap<String, Families>,
}

/// How far the addresses of a Service get on the interfaces of this node.
#[derive(Debug, PartialEq, Eq)]
struct Reach {
    /// The interfaces on which some address is announced.
    on: Vec<String>,
    /// The addresses that are announced on none.
    without: Vec<IpAddr>,
}

impl Reach {
    fn of(ingress: &[IpAddr], interfaces: &Interfaces, usable: &[Interface]) -> Self {
        let carries = |interface: &Interface, ip: &IpAddr| match ip {
            IpAddr::V4(_) => interface.arp,
            IpAddr::V6(_) => interface.ndp,
        };
        let meant: Vec<_> = usable
            .iter()
            .filter(|interface| interfaces.contain(&interface.name))
            .collect();
        let on = meant
            .iter()
            .filter(|interface| ingress.iter().any(|ip| carries(interface, ip)))
            .map(|interface| interface.name.clone())
            .collect();
        let without = ingress
            .iter()
            .filter(|ip| !meant.iter().any(|interface| carries(interface, ip)))
            .copied()
            .collect();
        Reach { on, without }
    }
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
            without_interface: BTreeMap::new(),
            conflicts: BTreeMap::new(),
            sessions: BTreeMap::new(),
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
        self.publish_assigned(service, *protocol);
    }

    fn publish_assigned(&self, service: &ObjectKey, protocol: Protocol) {
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
        if layer2.interfaces == Interfaces::All && usable.is_empty() {
            // They are not known yet.
            self.without_interface.remove(key);
            self.channels.statuses.set(key, Some(Vec::new()));
            self.tell_conflict(key, announced);
            return;
        }
        let Reach { on, without } = Reach::of(&announced.ingress, &layer2.interfaces, usable);
        let is_any_named = matches!(layer2.interfaces, Interfaces::Only(_));
        let on = match on.as_slice() {
            [] => None,
            [_, ..] if is_any_named => Some(on),
            // No names stand for all.
            [_, ..] => Some(Vec::new()),
        };
        let is_announced = on.is_some();
        self.channels.statuses.set(key, on);
        if is_announced {
            self.tell_conflict(key, announced);
        }
        let known = if without.is_empty() {
            self.without_interface.remove(key)
        } else {
            self.without_interface.insert(key.clone(), without.clone())
        };
        let known = known.unwrap_or_default();
        if without.is_empty() && !known.is_empty() {
            // The warning shall not be the last word.
            self.publish_assigned(key, Protocol::Layer2);
        }
        for ip in without.iter().filter(|ip| !known.contains(ip)) {
            let message = self.without_interface(*ip, is_any_named);
            self.publish(key, EventType::Warning, "announceFailed", message);
        }
    }

    fn without_interface(&self, ip: IpAddr, is_any_named: bool) -> String {
        let needs = match ip {
            IpAddr::V4(_) => "an IPv4 address needs one that does ARP",
            IpAddr::V6(_) => "an IPv6 address needs one with a link-local address",
        };
        let (ip, node) = (ip.to_string(), &self.node);
        if is_any_named {
            // MetalLB's sentence (reference 4.3), which people search for, and what it may mean.
            format!(
                "the interfaces specified by LB IP {ip:?} doesn't exist in assigned node {node:?} with protocol \"layer2\"; {needs}"
            )
        } else {
            format!(
                "no interface of node {node:?} can announce LB IP {ip:?} with protocol \"layer2\"; {needs}"
            )
        }
    }

    /// This node shall have these sessions from now on, and with other peers of it none, for these reasons.
    pub fn sessions(
        &mut self,
        sessions: &BTreeMap<String, PeerSpec>,
        without: &BTreeMap<String, String>,
    ) {
        let tried = sessions.keys().cloned().collect();
        self.channels.sessions.set_peers(tried, without.clone());
        let carried = sessions.iter();
        let carried = carried
            .map(|(peer, spec)| (peer.clone(), spec.families))
            .collect();
        if self.sessions != carried {
            self.sessions = carried;
            self.peers(None);
        }
    }

    /// Tells to which peers Services are announced. `services` are those of which something changed; `None` for all.
    pub fn peers(&self, services: Option<&BTreeSet<ObjectKey>>) {
        let announcements = self
            .announcements
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let set = |key: &ObjectKey, announced: Option<&Announced>| {
            let peers = peers_of(announced, &self.sessions);
            self.channels.bgp_statuses.set(key, &peers);
        };
        match services {
            Some(services) => services
                .iter()
                .for_each(|key| set(key, announcements.get(key))),
            None => {
                for (key, announced) in announcements.iter() {
                    set(key, Some(announced));
                }
            }
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

    /// Lays what was told out anew, in less room.
    pub fn repack(&self) {
        self.channels.statuses.repack();
        self.channels.bgp_statuses.repack();
    }

    /// It has been told of every Service what is announced by layer 2.
    pub fn complete(&self) {
        self.channels.statuses.complete();
    }

    /// It has been told of every Service what is announced by BGP, which waits for no other node.
    pub fn bgp_complete(&self) {
        self.channels.bgp_statuses.complete();
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

#[cfg(test)]
mod tests {
    use ferrolb_neighbor::MacAddr;

    use super::*;

    #[test]
    fn an_address_is_announced_where_its_family_is_spoken() {
        let interface = |name: &str, arp, ndp| Interface {
            name: name.to_owned(),
            mac: MacAddr::zero(),
            arp,
            ndp,
        };
        let usable = [
            interface("both", true, true),
            interface("arp", true, false),
            interface("ndp", false, true),
        ];
        let four: IpAddr = "192.0.2.1".parse().unwrap();
        let six: IpAddr = "2001:db8::1".parse().unwrap();
        let only = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned());
            Interfaces::Only(names.collect())
        };
        for (ingress, interfaces, usable, on, without) in [
            (&[six][..], only(&["arp"]), &usable[..], &[][..], &[six][..]),
            (&[six], only(&["arp", "ndp"]), &usable, &["ndp"], &[]),
            (&[four, six], only(&["arp"]), &usable, &["arp"], &[six]),
            (
                &[four, six],
                only(&["arp", "ndp"]),
                &usable,
                &["arp", "ndp"],
                &[],
            ),
            (&[four, six], only(&["gone"]), &usable, &[], &[four, six]),
            (&[four], Interfaces::All, &usable, &["both", "arp"], &[]),
            (
                &[four, six],
                Interfaces::All,
                &usable[1..2],
                &["arp"],
                &[six],
            ),
            (&[six], Interfaces::All, &usable[1..2], &[], &[six]),
        ] {
            let reach = Reach::of(ingress, &interfaces, usable);
            assert_eq!(reach.on, on, "{ingress:?} {interfaces:?}");
            assert_eq!(reach.without, without, "{ingress:?} {interfaces:?}");
        }
    }
}
