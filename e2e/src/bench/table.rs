//! Routers that take routes and note when: four at one speaker, as many as a node of a large fabric has.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::wire::{announced, follow, withdrawn};
use crate::bgp_peer::Peer;
use crate::plan::{self, ROUTER, SEGMENT_V4_LENGTH};
use crate::run::Run;
use crate::{network, prober};

/// The routers' addresses: the site's router, and three more beside it.
pub const ADDRESSES: [Ipv4Addr; 4] = [
    Ipv4Addr::new(10, 10, 0, 1),
    Ipv4Addr::new(10, 10, 0, 202),
    Ipv4Addr::new(10, 10, 0, 203),
    Ipv4Addr::new(10, 10, 0, 204),
];

/// What one router heard.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Sessions that were established so far.
    pub sessions: u32,
    /// When the last one was.
    pub established: Option<Instant>,
    /// When the last prefix came that it did not have.
    pub last: Option<Instant>,
    pub has: HashSet<Ipv4Addr>,
    /// UPDATEs with prefixes.
    pub updates: usize,
    /// Octets of all UPDATEs, without headers.
    pub octets: usize,
    /// Prefixes that were taken back.
    pub lost: usize,
}

/// The routers at work, until this is dropped.
pub struct Table {
    routers: Vec<Arc<Mutex<Heard>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Table {
    /// Gives the router its further addresses, and listens on all of them.
    pub fn lay(run: &Run) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut routers, mut threads) = (Vec::new(), Vec::new());
        for address in ADDRESSES {
            if address.to_string() != ROUTER.v4 {
                let line = format!("address replace {address}/{SEGMENT_V4_LENGTH} dev eth0\n");
                network::batch(&run.namespace(ROUTER.name), &line)?;
            }
            let peer = prober::run_in(run, ROUTER.name, move || {
                Peer::listen(address, plan::ROUTER_ASN)
            })?;
            let heard = Arc::<Mutex<Heard>>::default();
            routers.push(Arc::clone(&heard));
            let stop = Arc::clone(&stop);
            threads.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let Ok(session) = peer.accept(Duration::from_millis(200)) else {
                        continue;
                    };
                    begin(&mut lock(&heard));
                    let ended = follow(session, |body, when| {
                        anyhow::ensure!(!stop.load(Ordering::Relaxed), "the table is cleared");
                        note(&mut lock(&heard), body, when)
                    });
                    if let (Err(error), false) = (ended, stop.load(Ordering::Relaxed)) {
                        println!("  a session of {address} ended: {error:#}");
                    }
                }
            }));
        }
        Ok(Self {
            routers,
            stop,
            threads,
        })
    }

    /// What each router heard until now.
    pub fn heard(&self) -> Vec<Heard> {
        self.routers
            .iter()
            .map(|heard| lock(heard).clone())
            .collect()
    }

    /// How many prefixes the router has that has fewest.
    pub fn fewest(&self) -> usize {
        let counts = self.routers.iter().map(|heard| lock(heard).has.len());
        counts.min().unwrap_or_default()
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that reads ends with the speaker's session; nobody waits for that.
            if thread.is_finished() {
                drop(thread.join());
            }
        }
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn begin(heard: &mut Heard) {
    heard.sessions += 1;
    heard.established = Some(Instant::now());
    heard.has.clear();
    (heard.updates, heard.octets) = (0, 0);
}

fn note(heard: &mut Heard, body: &[u8], when: Instant) -> Result<()> {
    let (gone, new) = (withdrawn(body)?, announced(body)?);
    heard.octets += body.len();
    heard.updates += usize::from(!new.is_empty());
    // Those of the bench's pool stay; others may come and go.
    let stays = |address: &&Ipv4Addr| address.octets().starts_with(&[10, 10]);
    for address in gone.iter().filter(stays) {
        heard.lost += usize::from(heard.has.remove(address));
    }
    for address in new.iter().filter(stays).copied() {
        if heard.has.insert(address) {
            heard.last = Some(when);
        }
    }
    Ok(())
}
