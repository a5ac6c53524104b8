//! Who a member is.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// One life of a speaker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Node {
    /// Name of the Kubernetes node.
    pub name: String,
    /// Where its datagrams go; no two living members share it.
    pub addr: SocketAddr,
    /// Tells the lives at one address apart: the later one has the higher number. The time of the start in
    /// milliseconds serves well.
    pub generation: u64,
}

impl Node {
    /// A life that begins now.
    #[must_use]
    pub fn new(name: impl Into<String>, addr: SocketAddr, generation: u64) -> Self {
        Self {
            name: name.into(),
            addr,
            generation,
        }
    }

    /// A life that wins over this one.
    pub(crate) fn later_life(&self, step: u64) -> Self {
        Self {
            generation: self.generation.saturating_add(step),
            ..self.clone()
        }
    }

    /// Whoever lives at `addr`: enough to be announced to.
    pub(crate) fn at(addr: SocketAddr) -> Self {
        Self::new("", addr, 0)
    }
}

impl foca::Identity for Node {
    type Addr = SocketAddr;

    /// Never by itself: foca would keep, and spread, what this member believed while it could not be reached.
    /// [`crate::Membership`] starts a later life instead.
    fn renew(&self) -> Option<Self> {
        None
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn win_addr_conflict(&self, other: &Self) -> bool {
        (self.generation, &self.name) > (other.generation, &other.name)
    }
}

#[cfg(test)]
mod tests {
    use foca::Identity;

    use super::*;

    #[test]
    fn a_later_life_wins_over_the_former_one() {
        let node = Node::new("n", "192.0.2.1:7946".parse().unwrap(), 7);
        let later = node.later_life(1);
        assert!(later.win_addr_conflict(&node));
        assert!(!node.win_addr_conflict(&later));
    }
}
