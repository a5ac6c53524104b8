//! The loop that keeps what is wanted and what is there in step.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ferrolb_neighbor::GratuitousSchedule;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::links::Links;
use super::metrics::Layer2Metrics;
use super::port::{Context, Port};
use super::{Layer2Event, Wanted};

/// Pause before what could not be opened or joined is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Addresses for which gratuitous frames are sent before other tasks get their turn.
const AT_A_TIME: usize = 64;

pub(super) struct Run {
    context: Context,
    failed: mpsc::Receiver<u32>,
    links: watch::Receiver<Links>,
    ports: BTreeMap<u32, Port>,
    schedule: GratuitousSchedule,
    /// New announcements of which nothing has been sent yet.
    unsent: BTreeSet<IpAddr>,
    /// When to try again what has failed.
    again: Option<Instant>,
    events: mpsc::Sender<Layer2Event>,
}

impl Run {
    pub(super) fn new(
        wanted: Arc<Wanted>,
        links: watch::Receiver<Links>,
        metrics: Layer2Metrics,
        events: mpsc::Sender<Layer2Event>,
    ) -> Self {
        let (failed_sender, failed) = mpsc::channel(64);
        Self {
            context: Context {
                wanted,
                metrics,
                failed: failed_sender,
            },
            failed,
            links,
            ports: BTreeMap::new(),
            schedule: GratuitousSchedule::default(),
            unsent: BTreeSet::new(),
            again: None,
            events,
        }
    }

    pub(super) async fn until(mut self, shutdown: CancellationToken) {
        let wanted = Arc::clone(&self.context.wanted);
        loop {
            let deadline = self.schedule.deadline().into_iter().chain(self.again).min();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = wanted.notify.notified() => self.take_announcements(),
                Ok(()) = self.links.changed() => self.take_links(),
                Some(index) = self.failed.recv() => self.close(index),
                () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => {}
            }
            if self.again.is_some_and(|again| again <= Instant::now()) {
                self.again = None;
                self.take_links();
            }
            // Joining many groups takes the kernel a while, and nobody waits for it as for the first frame.
            self.send_due().await;
            self.join_groups();
        }
    }

    fn take_announcements(&mut self) {
        let now = Instant::now();
        let wanted = Arc::clone(&self.context.wanted);
        if wanted.again.swap(false, Ordering::Relaxed) {
            for ip in wanted.announcements().keys() {
                self.schedule.restart(*ip, now);
            }
        }
        // Taken first: what changes between the two is seen again at the next look.
        let changed = wanted.take_changed();
        let announcements = wanted.announcements();
        for (ip, before) in changed {
            let announced = announcements.get(&ip);
            match (&before, announced) {
                (None, Some(_)) => {
                    self.schedule.announce(ip, now);
                    self.unsent.insert(ip);
                }
                (Some(former), Some(interfaces)) if interfaces.reach_beyond(former) => {
                    self.schedule.restart(ip, now);
                }
                (_, None) => {
                    self.schedule.withdraw(ip);
                    self.unsent.remove(&ip);
                }
                (Some(_), Some(_)) => {}
            }
            for port in self.ports.values_mut() {
                port.announced(ip, announced);
            }
        }
    }

    /// Opens and closes ports after the kernel's interfaces. What is announced on an interface that is new or has got
    /// its carrier back is told there at once.
    fn take_links(&mut self) {
        let links = self.links.borrow_and_update().clone();
        let context = &self.context;
        let announcements = context.wanted.announcements();
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
            match Port::open(index, link.clone(), context) {
                Ok(mut port) => {
                    for (ip, interfaces) in announcements.iter() {
                        port.announced(*ip, Some(interfaces));
                    }
                    info!(
                        interface = link.name,
                        arp = link.arp,
                        ndp = link.link_local.is_some(),
                        "answering on an interface"
                    );
                    woken.push(link.name.clone());
                    self.ports.insert(index, port);
                }
                Err(error) => {
                    warn!(interface = link.name, %error, "cannot answer on an interface");
                    self.again = Some(Instant::now() + AGAIN);
                }
            }
        }
        drop(announcements);
        self.announce_on(&woken);
    }

    fn close(&mut self, index: u32) {
        self.ports.remove(&index);
        self.again = Some(Instant::now() + AGAIN);
    }

    fn announce_on(&mut self, names: &[String]) {
        let now = Instant::now();
        for (ip, interfaces) in self.context.wanted.announcements().iter() {
            if names.iter().any(|name| interfaces.contain(name)) {
                self.schedule.restart(*ip, now);
            }
        }
    }

    fn join_groups(&mut self) {
        for port in self.ports.values_mut() {
            if !port.join_groups() {
                self.again = Some(Instant::now() + AGAIN);
            }
        }
    }

    async fn send_due(&mut self) {
        let due = self.schedule.due(Instant::now());
        for (count, ip) in due.into_iter().enumerate() {
            if count % AT_A_TIME == AT_A_TIME - 1 {
                tokio::task::yield_now().await;
            }
            // Looked up anew each time: it may have been withdrawn while others were sent.
            let interfaces = self.context.wanted.announcements().get(&ip).cloned();
            let Some(interfaces) = interfaces else {
                continue;
            };
            let mut sent = 0;
            for port in self
                .ports
                .values()
                .filter(|port| interfaces.contain(&port.link.name))
            {
                sent += port.send_gratuitous(ip, &self.context.metrics).await;
            }
            if sent > 0 && self.unsent.remove(&ip) {
                let event = Layer2Event::FirstGratuitousSent {
                    ip,
                    at: Instant::now(),
                };
                if self.events.try_send(event).is_err() {
                    tracing::debug!(%ip, "nobody listens to layer 2 events");
                }
            }
        }
    }
}
