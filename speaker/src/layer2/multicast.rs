//! Being asked for IPv6 addresses: solicited-node groups on one interface.
//!
//! Joined twice. As a packet membership, so that the interface lets the frames in; and as an IPv6 membership, so that
//! the kernel reports it by MLD and snooping switches forward them. The kernel only reports; whom to answer stays with
//! us, as the addresses are not the node's own.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv6Addr;

use ferrolb_neighbor::{multicast_mac, solicited_node_group};
use socket2::{Domain, Protocol, Socket, Type};
use tracing::warn;

use super::packet_socket::PacketSocket;

/// The groups of one interface.
pub(super) struct Groups {
    interface: u32,
    /// Sockets that hold memberships. The kernel bounds the memberships of one (`net.core.optmem_max`), so that there
    /// may have to be several.
    holders: Vec<Socket>,
    groups: BTreeMap<Ipv6Addr, Group>,
    /// The groups that are to be joined or left.
    due: BTreeSet<Ipv6Addr>,
}

#[derive(Default)]
struct Group {
    /// The addresses that are asked for in it; groups are shared by addresses with equal last 24 bits.
    users: BTreeSet<Ipv6Addr>,
    /// The position of the socket that holds the membership, once joined.
    holder: Option<usize>,
}

impl Groups {
    pub(super) fn new(interface: u32) -> Self {
        Self {
            interface,
            holders: Vec::new(),
            groups: BTreeMap::new(),
            due: BTreeSet::new(),
        }
    }

    /// Requests for `ip` are wanted.
    pub(super) fn want(&mut self, ip: Ipv6Addr) {
        let key = solicited_node_group(ip);
        let group = self.groups.entry(key).or_default();
        group.users.insert(ip);
        if group.holder.is_none() {
            self.due.insert(key);
        }
    }

    /// Requests for `ip` are not wanted, or no longer.
    pub(super) fn release(&mut self, ip: Ipv6Addr) {
        let key = solicited_node_group(ip);
        if let Some(group) = self.groups.get_mut(&key)
            && group.users.remove(&ip)
            && group.users.is_empty()
        {
            self.due.insert(key);
        }
    }

    /// Joins and leaves what is due. Says whether all went well; what did not stays due.
    pub(super) fn settle(&mut self, socket: &PacketSocket) -> bool {
        for key in std::mem::take(&mut self.due) {
            let Some(group) = self.groups.get(&key) else {
                continue;
            };
            match (group.users.is_empty(), group.holder) {
                (true, holder) => {
                    self.groups.remove(&key);
                    if let Some(holder) = holder {
                        self.leave(key, holder, socket);
                    }
                }
                (false, Some(_)) => {}
                (false, None) => match self.join(key, socket) {
                    Ok(holder) => {
                        if let Some(group) = self.groups.get_mut(&key) {
                            group.holder = Some(holder);
                        }
                    }
                    Err(error) => {
                        warn!(group = %key, interface = self.interface, %error, "cannot join a solicited-node group");
                        self.due.insert(key);
                    }
                },
            }
        }
        self.due.is_empty()
    }

    fn join(&mut self, group: Ipv6Addr, socket: &PacketSocket) -> io::Result<usize> {
        let holder = self.hold(group)?;
        socket.join(multicast_mac(group))?;
        Ok(holder)
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

    fn leave(&self, group: Ipv6Addr, holder: usize, socket: &PacketSocket) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_due_with_its_first_address_and_after_its_last() {
        let mut groups = Groups::new(1);
        // Addresses with the same last 24 bits are asked for in one group.
        let (one, other): (Ipv6Addr, Ipv6Addr) = (
            "2001:db8:1::12:3456".parse().unwrap(),
            "2001:db8:2::12:3456".parse().unwrap(),
        );
        let key = solicited_node_group(one);
        groups.want(one);
        assert_eq!(std::mem::take(&mut groups.due), [key].into());
        groups.groups.get_mut(&key).unwrap().holder = Some(0);
        groups.want(other);
        groups.want(other);
        groups.release(one);
        groups.release(one);
        assert!(groups.due.is_empty(), "one address is left");
        groups.release(other);
        assert_eq!(groups.due, [key].into());
    }
}
