//! The loop that keeps what is wanted and what is there in step.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ferrolb_neighbor::{Effect, MacAddr};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::hearing::Counters;
use super::links::{Link, Links};
use super::multicast::Settled;
use super::port::{Context, Filters, Out, Port};
use super::shared::{Conflict, LEASE};
use super::{Interface, Layer2Event};

/// Pause before what could not be opened or joined is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often the lease is prolonged.
const HEARTBEAT: Duration = Duration::from_millis(200);
const _: () = assert!(HEARTBEAT.as_millis() * 3 < LEASE.as_millis());

pub(super) struct Run {
    context: Context,
    failed: mpsc::Receiver<u32>,
    links: watch::Receiver<Links>,
    /// What can be used, for whoever wants to know.
    usable: watch::Sender<Arc<Vec<Interface>>>,
    ports: BTreeMap<u32, Port>,
    filters: Filters,
    /// When to try again what has failed.
    again: Option<Instant>,
    /// Groups may be to be joined or left.
    join: bool,
    /// The end of the lease has been told.
    lapsed: bool,
    lapses: watch::Sender<u64>,
    /// What was last known of being alone.
    alone: bool,
    /// Conflicts that began or ended and are not told yet.
    untold: BTreeMap<IpAddr, Option<Conflict>>,
}

impl Run {
    pub(super) fn new(
        context: Context,
        failed: mpsc::Receiver<u32>,
        links: watch::Receiver<Links>,
        usable: watch::Sender<Arc<Vec<Interface>>>,
        lapses: watch::Sender<u64>,
    ) -> Self {
        let filters = Filters::of(&context.shared.entries());
        Self {
            filters,
            context,
            failed,
            links,
            usable,
            ports: BTreeMap::new(),
            again: None,
            join: false,
            lapsed: false,
            lapses,
            alone: false,
            untold: BTreeMap::new(),
        }
    }

    pub(super) async fn until(mut self, shutdown: CancellationToken) {
        let shared = Arc::clone(&self.context.shared);
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.keep_awake();
            if shared.is_alone() != self.alone {
                self.alone = !self.alone;
                self.listen();
            }
            let deadline = self.work();
            let deadline = deadline.into_iter().chain(self.again).min();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = shared.notify.notified() => {}
                Ok(()) = self.links.changed() => self.take_links(),
                Some(index) = self.failed.recv() => self.close(index),
                _ = heartbeat.tick() => self.listen(),
                () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => {}
            }
            if self.again.is_some_and(|again| again <= Instant::now()) {
                self.again = None;
                self.join = true;
                self.take_links();
            }
        }
    }

    fn keep_awake(&mut self) {
        let awake = self.context.shared.keep_awake();
        if !awake && !self.lapsed {
            warn!(
                "this process did not run for a while; answering again when the other speakers are heard"
            );
            self.lapses.send_modify(|lapses| *lapses += 1);
        }
        self.lapsed = !awake;
    }

    /// What was not said on an interface while it was deaf is said when it is not any more, or when others are heard.
    fn listen(&mut self) {
        let shared = &self.context.shared;
        let (alone, nodes) = (shared.is_alone(), shared.nodes());
        let counters = Counters::read();
        let mut woken = Vec::new();
        for port in self.ports.values_mut() {
            if port.listen(&counters, alone, &nodes) {
                woken.push(port.link.name.clone());
            }
        }
        self.announce_on(&woken);
        self.tell();
    }

    /// Tells of conflicts. What finds no room now is told later, and only how it ended.
    fn tell(&mut self) {
        while let Some((ip, conflict)) = self.untold.pop_first() {
            let event = match conflict {
                Some(conflict) => Layer2Event::Conflict { ip, conflict },
                None => Layer2Event::Resolved { ip },
            };
            if self.context.events.try_send(event).is_err() {
                self.untold.insert(ip, conflict);
                return;
            }
        }
    }

    /// Does what there is to do, and says when there will be more.
    fn work(&mut self) -> Option<Instant> {
        let shared = Arc::clone(&self.context.shared);
        let todo = shared.take();
        if !todo.changed.is_empty() {
            self.set_filters();
        }
        // Joining many groups takes the kernel a while, and nobody waits for it as for the first frame.
        for effect in todo.effects {
            self.carry_out(effect);
        }
        self.tell();
        if !todo.changed.is_empty() {
            let entries = shared.entries();
            for ip in &todo.changed {
                let interfaces = entries.get(ip).map(|entry| &entry.interfaces);
                for port in self.ports.values_mut() {
                    port.announced(*ip, interfaces);
                }
            }
            self.join = true;
        }
        if std::mem::take(&mut self.join) {
            self.join_groups();
        }
        todo.deadline
    }

    /// Some at a time, so that the lease does not run out over thousands.
    fn join_groups(&mut self) {
        for port in self.ports.values_mut() {
            match port.join_groups() {
                Settled::All => {}
                Settled::Some => self.join = true,
                Settled::Failed => {
                    self.again.get_or_insert(Instant::now() + AGAIN);
                }
            }
        }
        if self.join {
            self.context.shared.notify.notify_one();
        }
    }

    /// Before anything is said of new addresses, so that the answers are heard.
    fn set_filters(&mut self) {
        let filters = Filters::of(&self.context.shared.entries());
        if filters == self.filters {
            return;
        }
        self.filters = filters;
        let filters = &self.filters;
        let before = self.ports.len();
        self.ports.retain(|_, port| {
            let set = port.set_filters(filters);
            if let Err(error) = &set {
                warn!(interface = port.link.name, %error, "cannot change what an interface is asked for");
            }
            set.is_ok()
        });
        if self.ports.len() < before {
            self.again.get_or_insert(Instant::now() + AGAIN);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        let shared = Arc::clone(&self.context.shared);
        match effect {
            Effect::Announce(ip) => self.say(ip, Out::Announce(ip)),
            Effect::Probe(ip) => self.say(ip, Out::Probe(ip)),
            // The entry says it already.
            Effect::Standing(_) => {}
            Effect::Conflict { ip, mac, withheld } => {
                let conflict = Conflict { mac, withheld };
                if let Some(entry) = shared.entries().get(&ip) {
                    entry.figures.conflicts.fetch_add(1, Ordering::Relaxed);
                }
                warn!(%ip, %mac, withheld, "another station has an address of ours");
                self.untold.insert(ip, Some(conflict));
            }
            Effect::Resolved(ip) => {
                info!(%ip, "no other station claims the address any more");
                self.untold.insert(ip, None);
            }
        }
    }

    fn say(&self, ip: IpAddr, out: Out) {
        let entries = self.context.shared.entries();
        let Some(entry) = entries.get(&ip) else {
            return;
        };
        for port in self
            .ports
            .values()
            .filter(|port| entry.interfaces.contain(&port.link.name))
        {
            port.say(out, &self.context.metrics);
        }
    }

    /// Opens and closes ports after the kernel's interfaces. What is announced on an interface that is new or has got
    /// its carrier back is told there at once.
    fn take_links(&mut self) {
        let links = self.links.borrow_and_update().clone();
        let shared = Arc::clone(&self.context.shared);
        let own: BTreeSet<MacAddr> = links.values().map(|link| link.mac).collect();
        shared.set_own(own);
        self.ports.retain(|index, port| {
            let stays = links.get(index).is_some_and(|link| port.fits(link));
            if !stays {
                info!(
                    interface = port.link.name,
                    "stopped answering on an interface"
                );
            }
            stays
        });
        let mut woken = Vec::new();
        for (&index, link) in &links {
            if let Some(port) = self.ports.get_mut(&index) {
                if link.running && !port.link.running {
                    woken.push(link.name.clone());
                }
                port.link.running = link.running;
                continue;
            }
            match Port::open(index, link.clone(), &self.filters, &self.context) {
                Ok(mut port) => {
                    for (ip, entry) in shared.entries().iter() {
                        port.announced(*ip, Some(&entry.interfaces));
                    }
                    info!(
                        interface = link.name,
                        arp = link.arp,
                        ndp = link.link_local.is_some(),
                        receives_all = link.filters_frames,
                        "answering on an interface"
                    );
                    woken.push(link.name.clone());
                    self.ports.insert(index, port);
                    self.join = true;
                }
                Err(error) => {
                    warn!(interface = link.name, %error, "cannot answer on an interface");
                    self.again.get_or_insert(Instant::now() + AGAIN);
                }
            }
        }
        self.tell_usable();
        self.announce_on(&woken);
    }

    fn tell_usable(&self) {
        let mut usable: Vec<Interface> = self
            .ports
            .values()
            .map(|port| Interface::of(&port.link))
            .collect();
        usable.sort();
        self.usable.send_if_modified(|known| {
            let changed = **known != usable;
            if changed {
                *known = Arc::new(usable);
            }
            changed
        });
    }

    fn close(&mut self, index: u32) {
        self.ports.remove(&index);
        self.again.get_or_insert(Instant::now() + AGAIN);
    }

    /// What is announced on these interfaces is said there anew: a few addresses with bursts; of many each once, there only,
    /// and then everywhere as the pace of refreshes allows.
    fn announce_on(&mut self, names: &[String]) {
        const FEW: usize = 200;
        if names.is_empty() {
            return;
        }
        let shared = Arc::clone(&self.context.shared);
        let concerned: Vec<IpAddr> = shared
            .entries()
            .iter()
            .filter(|(_, entry)| names.iter().any(|name| entry.interfaces.contain(name)))
            .map(|(ip, _)| *ip)
            .collect();
        let few = concerned.len() <= FEW;
        let ports = self.ports.values_mut();
        for port in ports.filter(|port| !few && names.contains(&port.link.name)) {
            if !port.may_say_all() {
                continue;
            }
            for ip in &concerned {
                port.say(Out::Announce(*ip), &self.context.metrics);
            }
        }
        shared.update(|ownership, now| {
            for ip in concerned {
                if few {
                    ownership.announce_again(ip, now);
                } else {
                    ownership.refresh(ip, now);
                }
            }
        });
    }
}

impl Interface {
    fn of(link: &Link) -> Self {
        Self {
            name: link.name.clone(),
            mac: link.mac,
            arp: link.arp,
            ndp: link.link_local.is_some(),
        }
    }
}
