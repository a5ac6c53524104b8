//! When was an address on the wire? Gratuitous ARP as a host on the segment sees it, UPDATEs as the router receives them.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pnet::datalink::{self, Channel, Config};

use crate::bgp_peer::{self, NOTIFICATION, Peer, Session, UPDATE};
use crate::plan::{self, CLIENT_L2, ROUTER};
use crate::run::Run;
use crate::{host, prober};

type Moments<K> = Mutex<HashMap<K, Instant>>;

/// Watches the segment and plays the router.
pub struct Wire {
    arp: Arc<Moments<Ipv4Addr>>,
    bgp: Arc<Moments<Ipv4Addr>>,
    sessions: Arc<AtomicUsize>,
    messages: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

fn note<K: Hash + Eq>(moments: &Moments<K>, key: K, when: Instant) {
    moments
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry(key)
        .or_insert(when);
}

impl Wire {
    pub fn watch(run: &Run) -> Result<Self> {
        let wire = Self {
            arp: Arc::default(),
            bgp: Arc::default(),
            sessions: Arc::default(),
            messages: Arc::default(),
            stop: Arc::default(),
        };
        let (arp, stop, messages) = (wire.arp.clone(), wire.stop.clone(), wire.messages.clone());
        prober::spawn_in(run, CLIENT_L2.name, move || {
            watch_arp(&arp, &stop, &messages)
        })?;
        let peer = prober::run_in(run, ROUTER.name, || {
            Peer::listen(ROUTER.v4.parse()?, plan::ROUTER_ASN)
        })?;
        let (bgp, sessions, stop, messages) = (
            wire.bgp.clone(),
            wire.sessions.clone(),
            wire.stop.clone(),
            wire.messages.clone(),
        );
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if let Ok(session) = peer.accept(Duration::from_secs(1)) {
                    let (bgp, sessions, messages) =
                        (bgp.clone(), sessions.clone(), messages.clone());
                    let stop = stop.clone();
                    std::thread::spawn(move || {
                        sessions.fetch_add(1, Ordering::SeqCst);
                        let result = receive(session, &bgp, &messages);
                        if let (Err(error), false) = (result, stop.load(Ordering::Relaxed)) {
                            println!("  a BGP session ended: {error:#}");
                        }
                        sessions.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            }
        });
        Ok(wire)
    }

    pub fn wait_for_sessions(&self, count: usize) -> Result<()> {
        host::wait_until(
            "every speaker has a BGP session",
            Duration::from_secs(60),
            || Ok(self.sessions.load(Ordering::SeqCst) >= count),
        )
    }

    pub fn arp(&self, address: Ipv4Addr) -> Option<Instant> {
        self.arp
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&address)
            .copied()
    }

    pub fn bgp(&self, address: Ipv4Addr) -> Option<Instant> {
        self.bgp
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&address)
            .copied()
    }

    /// Addresses are given again; what was seen of an earlier owner must not be taken for the next.
    pub fn forget(&self) {
        self.arp
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.bgp
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Waits until nothing was announced for two seconds: gratuitous frames are repeated for a while.
    pub fn wait_quiet(&self) -> Result<()> {
        let mut last = (self.messages.load(Ordering::Relaxed), Instant::now());
        host::wait_until("the wire is quiet", Duration::from_secs(300), || {
            let now = self.messages.load(Ordering::Relaxed);
            if now != last.0 {
                last = (now, Instant::now());
            }
            Ok(last.1.elapsed() > Duration::from_secs(2))
        })
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Notes every ARP frame whose sender and target address are the same (RFC 5227 section 3).
fn watch_arp(arp: &Moments<Ipv4Addr>, stop: &AtomicBool, messages: &AtomicUsize) -> Result<()> {
    let interface = datalink::interfaces()
        .into_iter()
        .find(|i| i.name == "eth0")
        .context("the client has no eth0")?;
    let config = Config {
        read_timeout: Some(Duration::from_millis(200)),
        read_buffer_size: 1 << 16,
        ..Config::default()
    };
    let Channel::Ethernet(_, mut receiver) = datalink::channel(&interface, config)? else {
        anyhow::bail!("eth0 is no Ethernet interface")
    };
    while !stop.load(Ordering::Relaxed) {
        let Ok(frame) = receiver.next() else { continue };
        let when = Instant::now();
        let part = |range: std::ops::Range<usize>| {
            frame
                .get(range)
                .and_then(|b| <[u8; 4]>::try_from(b).ok())
                .map(Ipv4Addr::from)
        };
        if frame.get(12..14) == Some(&[0x08, 0x06])
            && let (Some(sender), Some(target)) = (part(28..32), part(38..42))
            && sender == target
        {
            note(arp, sender, when);
            messages.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Notes what is announced until the session ends.
fn receive(session: Session, bgp: &Moments<Ipv4Addr>, messages: &AtomicUsize) -> Result<()> {
    follow(session, |body, when| {
        messages.fetch_add(1, Ordering::Relaxed);
        let prefixes = announced(body)?;
        prefixes.into_iter().for_each(|p| note(bgp, p, when));
        Ok(())
    })
}

/// Hands over the UPDATEs, without their headers, until the session ends or `take` has enough, and keeps it alive.
pub fn follow(
    mut session: Session,
    mut take: impl FnMut(&[u8], Instant) -> Result<()>,
) -> Result<()> {
    let mut writer = session.try_clone()?;
    let alive = Arc::new(AtomicBool::new(true));
    let still = alive.clone();
    std::thread::spawn(move || {
        let mut last = Instant::now();
        while still.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(200));
            if last.elapsed() > Duration::from_secs(20) {
                last = Instant::now();
                if writer
                    .write(&bgp_peer::message(bgp_peer::KEEPALIVE, &[])?)
                    .is_err()
                {
                    break;
                }
            }
        }
        anyhow::Ok(())
    });
    session.set_read_timeout(Duration::from_secs(100))?;
    let result = loop {
        match session.read() {
            Ok((UPDATE, body)) => {
                if let Err(error) = take(&body, Instant::now()) {
                    break Err(error);
                }
            }
            Ok((NOTIFICATION, body)) => break Err(anyhow::anyhow!("NOTIFICATION {body:?}")),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
    };
    alive.store(false, Ordering::Relaxed);
    result
}

/// The IPv4 addresses that an UPDATE announces (RFC 4271 section 4.3).
pub fn announced(body: &[u8]) -> Result<Vec<Ipv4Addr>> {
    let (_, announced) = fields(body)?;
    prefixes(announced)
}

/// The IPv4 addresses that an UPDATE withdraws.
pub fn withdrawn(body: &[u8]) -> Result<Vec<Ipv4Addr>> {
    let (withdrawn, _) = fields(body)?;
    prefixes(withdrawn)
}

/// The prefixes that are withdrawn and those that are announced.
fn fields(body: &[u8]) -> Result<(&[u8], &[u8])> {
    let field = |at: usize| -> Result<&[u8]> {
        let bytes = body
            .get(at..at + 2)
            .and_then(|b| <[u8; 2]>::try_from(b).ok())
            .context("an UPDATE that is too short")?;
        body.get(at + 2..at + 2 + usize::from(u16::from_be_bytes(bytes)))
            .context("an UPDATE with wrong lengths")
    };
    let withdrawn = field(0)?;
    let attributes = field(2 + withdrawn.len())?;
    let rest = body.get(4 + withdrawn.len() + attributes.len()..);
    Ok((withdrawn, rest.unwrap_or_default()))
}

fn prefixes(mut rest: &[u8]) -> Result<Vec<Ipv4Addr>> {
    let mut prefixes = Vec::new();
    while let [bits, tail @ ..] = rest {
        let bytes = usize::from(bits.div_ceil(8));
        ensure!(bytes <= 4 && tail.len() >= bytes, "a prefix of {bits} bits");
        let mut octets = [0; 4];
        octets
            .iter_mut()
            .zip(tail.iter().take(bytes))
            .for_each(|(to, from)| *to = *from);
        prefixes.push(Ipv4Addr::from(octets));
        rest = tail.get(bytes..).unwrap_or_default();
    }
    Ok(prefixes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_is_read_past_withdrawn_routes_and_attributes() {
        let body = [0, 5, 32, 1, 2, 3, 4, 0, 1, 0xff, 32, 10, 10, 128, 7, 8, 10];
        assert_eq!(
            announced(&body).unwrap(),
            [
                "10.10.128.7".parse::<Ipv4Addr>().unwrap(),
                "10.0.0.0".parse().unwrap()
            ]
        );
        assert_eq!(withdrawn(&body).unwrap(), [Ipv4Addr::new(1, 2, 3, 4)]);
        assert!(announced(&[0, 0, 0, 0, 33, 1, 2, 3, 4, 5]).is_err());
    }
}
