//! Being asked for IPv6 addresses: solicited-node groups on one interface.
//!
//! Joined twice. As a packet membership, so that the interface lets the frames in; and as an IPv6 membership, so that
//! the kernel reports it by MLD and snooping switches forward them. The kernel only reports; whom to answer stays with
//! us, as the addresses are not the node's own.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv6Addr;

use ferrolb_neighbor::multicast_mac;
use socket2::{Domain, Protocol, Socket, Type};
use tracing::warn;

use super::packet_socket::PacketSocket;

/// The groups joined on one interface.
pub(super) struct Groups {
    interface: u32,
    /// Sockets that hold memberships. The kernel bounds the memberships of one (`net.core.optmem_max`), so that there
    /// may have to be several.
    holders: Vec<Socket>,
    /// Each joined group, with the position of its holder.
    joined: BTreeMap<Ipv6Addr, usize>,
}

impl Groups {
    pub(super) fn new(interface: u32) -> Self {
        Self {
            interface,
            holders: Vec::new(),
            joined: BTreeMap::new(),
        }
    }

    /// Joins and leaves until exactly `wanted` is joined. Says whether all went well; what did not is tried again by
    /// the next call.
    pub(super) fn set(&mut self, wanted: &BTreeSet<Ipv6Addr>, socket: &PacketSocket) -> bool {
        let gone: Vec<_> = self
            .joined
            .keys()
            .filter(|group| !wanted.contains(group))
            .copied()
            .collect();
        for group in gone {
            self.leave(group, socket);
        }
        let mut all = true;
        for &group in wanted {
            if self.joined.contains_key(&group) {
                continue;
            }
            if let Err(error) = self.join(group, socket) {
                warn!(%group, interface = self.interface, %error, "cannot join a solicited-node group");
                all = false;
            }
        }
        all
    }

    fn join(&mut self, group: Ipv6Addr, socket: &PacketSocket) -> io::Result<()> {
        let holder = self.hold(group)?;
        socket.join(multicast_mac(group))?;
        self.joined.insert(group, holder);
        Ok(())
    }

    fn hold(&mut self, group: Ipv6Addr) -> io::Result<usize> {
        if let Some(last) = self.holders.last() {
            match last.join_multicast_v6(&group, self.interface) {
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM)) => {}
                // A former attempt got this far.
                Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => {
                    return Ok(self.holders.len() - 1);
                }
                other => return other.map(|()| self.holders.len() - 1),
            }
        }
        let holder = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
        holder.join_multicast_v6(&group, self.interface)?;
        self.holders.push(holder);
        Ok(self.holders.len() - 1)
    }

    fn leave(&mut self, group: Ipv6Addr, socket: &PacketSocket) {
        let Some(holder) = self.joined.remove(&group) else {
            return;
        };
        let left = self
            .holders
            .get(holder)
            .map(|holder| holder.leave_multicast_v6(&group, self.interface));
        // An interface that is gone has taken its memberships along.
        for result in [left.unwrap_or(Ok(())), socket.leave(multicast_mac(group))] {
            if let Err(error) = result {
                tracing::debug!(%group, interface = self.interface, %error, "cannot leave a solicited-node group");
            }
        }
    }
}
