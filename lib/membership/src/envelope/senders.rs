//! Which senders have proven that they live now, and how far are they?

use std::collections::BTreeMap;
use std::net::SocketAddr;

use aws_lc_rs::aead::LessSafeKey;

use super::epoch::Epoch;
use super::keys::SecretId;
use super::window::Window;
use crate::effects::DropReason;

/// A sender in the newest of its epochs that proved itself.
pub(super) struct Sender {
    pub(super) epoch: Epoch,
    /// The key of its datagrams, and the secret that it follows from.
    pub(super) key: LessSafeKey,
    pub(super) sealed_by: SecretId,
    /// The newest secret that it can open.
    pub(super) knows: SecretId,
    /// Which life of the member it was, see [`crate::Node::generation`].
    pub(super) generation: u64,
    /// It is said to have restarted, so what is sealed for this epoch may reach nobody.
    pub(super) outdated: bool,
    window: Window,
}

impl Sender {
    pub(super) fn new(epoch: Epoch, key: LessSafeKey, sealed_by: SecretId) -> Self {
        Self {
            epoch,
            key,
            sealed_by,
            knows: sealed_by,
            generation: 0,
            outdated: false,
            window: Window::new(),
        }
    }
}

/// The senders that proved themselves to this node in its present epoch, by address.
///
/// An entry stays as long as the epoch of this node does: it is what keeps a recorded datagram from being taken again.
#[derive(Default)]
pub(super) struct Senders {
    by_addr: BTreeMap<SocketAddr, Sender>,
    addrs: BTreeMap<Epoch, SocketAddr>,
}

impl Senders {
    pub(super) fn len(&self) -> usize {
        self.by_addr.len()
    }

    pub(super) fn at(&self, addr: SocketAddr) -> Option<&Sender> {
        self.by_addr.get(&addr)
    }

    pub(super) fn at_mut(&mut self, addr: SocketAddr) -> Option<&mut Sender> {
        self.by_addr.get_mut(&addr)
    }

    pub(super) fn in_epoch(&self, epoch: &Epoch) -> Option<&Sender> {
        self.by_addr.get(self.addrs.get(epoch)?)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SocketAddr, &Sender)> {
        self.by_addr.iter().map(|(&addr, sender)| (addr, sender))
    }

    /// The number of another epoch at `addr` that is not older than `epoch`.
    pub(super) fn not_older(&self, addr: SocketAddr, epoch: &Epoch) -> Option<u64> {
        let newest = self.by_addr.get(&addr)?.epoch;
        (newest != *epoch && newest.number() >= epoch.number()).then(|| newest.number())
    }

    /// Uses up `counter` of the sender at `addr`, whose epoch must have proven itself.
    pub(super) fn accept(
        &mut self,
        addr: SocketAddr,
        epoch: &Epoch,
        counter: u64,
    ) -> Result<&mut Sender, DropReason> {
        // One epoch speaks for one address.
        let sender = self.by_addr.get_mut(&addr);
        let sender = sender
            .filter(|sender| sender.epoch == *epoch)
            .ok_or(DropReason::Malformed)?;
        if sender.window.accept(counter) {
            Ok(sender)
        } else {
            Err(DropReason::Replayed)
        }
    }

    /// Lets `sender` follow whoever was at `addr`.
    pub(super) fn enter(&mut self, addr: SocketAddr, sender: Sender) {
        self.addrs.insert(sender.epoch, addr);
        if let Some(former) = self.by_addr.insert(addr, sender) {
            self.addrs.remove(&former.epoch);
        }
    }
}
