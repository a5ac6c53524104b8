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

/// Groups that are joined or left before others get their turn.
const AT_A_TIME: usize = 256;

/// How much of what was due is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// All.
    All,
    /// Some; there is more to do.
    Some,
    /// The kernel refused something, which is to be tried again after a while.
    Failed,
}

/// The groups of one interface.
pub(super) struct Groups {
    interface: u32,
    /// Sockets that hold memberships. The kernel bounds the memberships of one (`net.core.optmem_max`), so that there
    /// may have to be several.
    holders: BTreeMap<usize, Holder>,
    groups: BTreeMap<Ipv6Addr, Group>,
    /// The groups that are to be joined or left.
    due: BTreeSet<Ipv6Addr>,
}

struct Holder {
    socket: Socket,
    memberships: usize,
    /// The kernel refused one more since the last was given up.
    full: bool,
}

#[derive(Default)]
struct Group {
    /// The addresses that are asked for in it; groups are shared by addresses with equal last 24 bits.
    users: BTreeSet<Ipv6Addr>,
    /// The socket that holds the IPv6 membership, once joined.
    holder: Option<usize>,
    /// Whether the packet membership is joined.
    joined: bool,
}

impl Groups {
    pub(super) fn new(interface: u32) -> Self {
        Self {
            interface,
            holders: BTreeMap::new(),
            groups: BTreeMap::new(),
            due: BTreeSet::new(),
        }
    }

    /// Requests for `ip` are wanted.
    pub(super) fn want(&mut self, ip: Ipv6Addr) {
        let key = solicited_node_group(ip);
        let group = self.groups.entry(key).or_default();
        group.users.insert(ip);
        if !group.joined {
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

    /// Joins and leaves some of what is due. What did not go well stays due.
    pub(super) fn settle(&mut self, socket: &PacketSocket) -> Settled {
        let now: Vec<Ipv6Addr> = self.due.iter().copied().take(AT_A_TIME).collect();
        let mut failed = BTreeSet::new();
        for key in now {
            self.due.remove(&key);
            let Some(mut group) = self.groups.remove(&key) else {
                continue;
            };
            if group.users.is_empty() {
                self.leave(key, &group, socket);
                continue;
            }
            if let Err(error) = self.join(key, &mut group, socket) {
                warn!(group = %key, interface = self.interface, %error, "cannot join a solicited-node group");
                failed.insert(key);
            }
            self.groups.insert(key, group);
        }
        let settled = match (failed.is_empty(), self.due.is_empty()) {
            (false, _) => Settled::Failed,
            (true, false) => Settled::Some,
            (true, true) => Settled::All,
        };
        self.due.append(&mut failed);
        settled
    }

    fn join(&mut self, key: Ipv6Addr, group: &mut Group, socket: &PacketSocket) -> io::Result<()> {
        if group.holder.is_none() {
            group.holder = Some(self.hold(key)?);
        }
        if !group.joined {
            socket.join(multicast_mac(key))?;
            group.joined = true;
        }
        Ok(())
    }

    /// Joins by the first socket that has room.
    fn hold(&mut self, key: Ipv6Addr) -> io::Result<usize> {
        for (at, holder) in self.holders.iter_mut().filter(|(_, holder)| !holder.full) {
            match holder.socket.join_multicast_v6(&key, self.interface) {
                Ok(()) => {
                    holder.memberships += 1;
                    return Ok(*at);
                }
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM)) =>
                {
                    holder.full = true;
                }
                Err(error) => return Err(error),
            }
        }
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
        socket.join_multicast_v6(&key, self.interface)?;
        let at = self
            .holders
            .last_key_value()
            .map_or(0, |(last, _)| last + 1);
        let holder = Holder {
            socket,
            memberships: 1,
            full: false,
        };
        self.holders.insert(at, holder);
        Ok(at)
    }

    fn leave(&mut self, key: Ipv6Addr, group: &Group, socket: &PacketSocket) {
        let mut results = Vec::new();
        if group.joined {
            results.push(socket.leave(multicast_mac(key)));
        }
        if let Some(at) = group.holder {
            results.push(self.give_up(key, at));
        }
        // An interface that is gone has taken its memberships along.
        for error in results.into_iter().filter_map(Result::err) {
            tracing::debug!(group = %key, interface = self.interface, %error, "cannot leave a solicited-node group");
        }
    }

    /// Gives up an IPv6 membership, and the socket with its last.
    fn give_up(&mut self, key: Ipv6Addr, at: usize) -> io::Result<()> {
        let Some(holder) = self.holders.get_mut(&at) else {
            return Ok(());
        };
        let left = holder.socket.leave_multicast_v6(&key, self.interface);
        holder.memberships -= 1;
        holder.full = false;
        if holder.memberships == 0 {
            self.holders.remove(&at);
        }
        left
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
        groups.groups.get_mut(&key).unwrap().joined = true;
        groups.want(other);
        groups.want(other);
        groups.release(one);
        groups.release(one);
        assert!(groups.due.is_empty(), "one address is left");
        groups.release(other);
        assert_eq!(groups.due, [key].into());
    }

    #[test]
    fn sockets_are_used_again_and_closed_with_their_last_membership() {
        // On the loopback interface. When a socket is full is the kernel's to say; here it is said for it.
        let mut groups = Groups::new(1);
        let key = |n: u16| Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, n);
        assert_eq!(groups.hold(key(1)).unwrap(), 0);
        assert_eq!(groups.hold(key(2)).unwrap(), 0);
        groups.holders.get_mut(&0).unwrap().full = true;
        assert_eq!(groups.hold(key(3)).unwrap(), 1);
        groups.give_up(key(1), 0).unwrap();
        assert_eq!(groups.hold(key(4)).unwrap(), 0, "there is room again");
        groups.give_up(key(3), 1).unwrap();
        assert_eq!(groups.holders.keys().collect::<Vec<_>>(), [&0]);
    }
}
