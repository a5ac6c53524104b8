//! Who we are on a connection: our address, the router id that goes with it, the next hops for routes.
//!
//! The router id is (reference 4.7) the configured one, or our IPv4 address of the connection, or for a connection over
//! IPv6 the first IPv4 address of the same interface, or else a checksum of the node's name: the same after every restart
//! and different between nodes.

use ferrolb_bgp::Endpoint;
use futures::{FutureExt, StreamExt, TryStreamExt};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long the kernel may take to list the addresses of the node; it takes microseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// What changes within this time is looked at together.
const TOGETHER: Duration = Duration::from_millis(100);

/// Pause before a broken connection to the kernel is made anew.
const AGAIN: Duration = Duration::from_secs(1);

/// All addresses of this node; none until they are known.
pub(super) type Addresses = Arc<[InterfaceAddress]>;

/// One address of one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InterfaceAddress {
    interface: u32,
    address: IpAddr,
    /// Assigned, unique on the link, not phased out and not one of those that change for privacy.
    usable: bool,
}

/// Our end of a connection from `local`.
pub(super) async fn endpoint(
    local: SocketAddr,
    router_id: Option<Ipv4Addr>,
    node_name: &str,
) -> Endpoint {
    let addresses = match tokio::time::timeout(PATIENCE, addresses()).await {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => {
            tracing::warn!(%error, "cannot list the addresses of this node; routes of the other family have no next hop");
            Vec::new()
        }
        Err(_) => Vec::new(),
    };
    endpoint_among(&addresses, local, router_id, node_name)
}

/// The same where the addresses of this node are known.
pub(super) fn endpoint_among(
    addresses: &[InterfaceAddress],
    local: SocketAddr,
    router_id: Option<Ipv4Addr>,
    node_name: &str,
) -> Endpoint {
    choose(local.ip(), scope(local), router_id, node_name, addresses)
}

/// Several interfaces may have one link-local address.
fn scope(local: SocketAddr) -> Option<u32> {
    match local {
        SocketAddr::V6(local) => Some(local.scope_id()).filter(|scope| *scope != 0),
        SocketAddr::V4(_) => None,
    }
}

/// The next hops of a connection from `local` that has had others: those stay as long as the interface has them and they are not deprecated.
pub(super) fn next_hops(
    addresses: &[InterfaceAddress],
    local: SocketAddr,
    former: &Endpoint,
) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
    let now = endpoint_among(addresses, local, Some(former.router_id), "");
    let usable = of_interface(addresses, local.ip(), scope(local));
    let is_there = |address: IpAddr| usable.iter().any(|entry| entry.address == address);
    let kept_v4 = former.next_hop_v4.filter(|hop| is_there((*hop).into()));
    let kept_v6 = former.next_hop_v6.filter(|hop| is_there((*hop).into()));
    (kept_v4.or(now.next_hop_v4), kept_v6.or(now.next_hop_v6))
}

/// Follows the addresses of this node in a task of its own until `shutdown`.
pub(super) fn follow(shutdown: CancellationToken) -> watch::Receiver<Addresses> {
    let (sender, receiver) = watch::channel(Addresses::default());
    tokio::spawn(shutdown.run_until_cancelled_owned(async move {
        loop {
            if let Err(error) = follow_kernel(&sender).await {
                tracing::warn!(%error, "lost the connection to the kernel's addresses");
            }
            tokio::time::sleep(AGAIN).await;
        }
    }));
    receiver
}

async fn follow_kernel(sender: &watch::Sender<Addresses>) -> Result<(), rtnetlink::Error> {
    let groups = [MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
    let (connection, handle, mut events) = new_multicast_connection(&groups)
        .map_err(|error| rtnetlink::Error::NamespaceError(error.to_string()))?;
    tokio::spawn(connection);
    loop {
        let addresses = list(&handle).await?;
        sender.send_if_modified(|known| {
            let changed = **known != *addresses;
            if changed {
                *known = addresses.into();
            }
            changed
        });
        if events.next().await.is_none() {
            return Ok(());
        }
        tokio::time::sleep(TOGETHER).await;
        while let Some(Some(_)) = events.next().now_or_never() {}
    }
}

/// Whether this node has the address: the kernel then speaks to it from that address. Nothing is sent.
pub(super) fn is_own(address: IpAddr) -> bool {
    let anywhere: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = UdpSocket::bind((anywhere, 0)).and_then(|socket| {
        socket.connect((address, 179))?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.ip() == address)
}

/// The usable addresses of the interface that has this one.
fn of_interface(
    addresses: &[InterfaceAddress],
    local: IpAddr,
    scope: Option<u32>,
) -> Vec<InterfaceAddress> {
    let interface = addresses
        .iter()
        .find(|entry| entry.address == local && scope.is_none_or(|scope| entry.interface == scope))
        .map(|entry| entry.interface);
    let beside = addresses
        .iter()
        .filter(|entry| Some(entry.interface) == interface && entry.usable);
    beside.copied().collect()
}

fn choose(
    local: IpAddr,
    scope: Option<u32>,
    router_id: Option<Ipv4Addr>,
    node_name: &str,
    addresses: &[InterfaceAddress],
) -> Endpoint {
    let beside = of_interface(addresses, local, scope);
    let next_hop_v4 = beside.iter().find_map(|entry| match entry.address {
        IpAddr::V4(address) if !address.is_loopback() && !address.is_link_local() => Some(address),
        _ => None,
    });
    // The kernel lists IPv6 addresses with the newest first. The oldest is the one that is there to stay.
    let next_hop_v6 = beside.iter().rev().find_map(|entry| match entry.address {
        IpAddr::V6(address) if !address.is_loopback() && !address.is_unicast_link_local() => {
            Some(address)
        }
        _ => None,
    });
    let default_id = || match local {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => next_hop_v4.unwrap_or_else(|| of_name(node_name)),
    };
    Endpoint {
        local,
        router_id: router_id.unwrap_or_else(default_id),
        next_hop_v4,
        next_hop_v6,
    }
}

async fn addresses() -> Result<Vec<InterfaceAddress>, rtnetlink::Error> {
    let (connection, handle, _) = rtnetlink::new_connection()
        .map_err(|error| rtnetlink::Error::NamespaceError(error.to_string()))?;
    let connection = tokio::spawn(connection);
    let addresses = list(&handle).await;
    connection.abort();
    addresses
}

async fn list(handle: &Handle) -> Result<Vec<InterfaceAddress>, rtnetlink::Error> {
    let messages: Vec<AddressMessage> = handle.address().get().execute().try_collect().await?;
    Ok(messages.iter().filter_map(interface_address).collect())
}

fn interface_address(message: &AddressMessage) -> Option<InterfaceAddress> {
    let mut local = None;
    let mut remote = None;
    let mut usable = true;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            // On point-to-point links this is the other end, so it counts only where there is no local one.
            AddressAttribute::Address(address) => remote = Some(*address),
            AddressAttribute::Flags(flags) => {
                let mut not =
                    AddressFlags::Tentative | AddressFlags::Dadfailed | AddressFlags::Deprecated;
                // The same bit means "temporary" for IPv6 and, for IPv4, that its network has an older address.
                if message.header.family == AddressFamily::Inet6 {
                    not |= AddressFlags::Secondary;
                }
                usable = !flags.intersects(not);
            }
            _ => {}
        }
    }
    let known = matches!(
        message.header.family,
        AddressFamily::Inet | AddressFamily::Inet6
    );
    let address = local.or(remote).filter(|_| known)?;
    Some(InterfaceAddress {
        interface: message.header.index,
        address,
        usable,
    })
}

/// CRC-32 (IEEE 802.3) of the name, its least significant octet first, as MetalLB makes it: a cluster that changes over
/// keeps its identifiers.
fn of_name(node_name: &str) -> Ipv4Addr {
    let mut crc = u32::MAX;
    for octet in node_name.bytes() {
        crc ^= u32::from(octet);
        for _ in 0..8 {
            crc = if crc & 1 == 0 {
                crc >> 1
            } else {
                crc >> 1 ^ 0xedb8_8320
            };
        }
    }
    let octets = (!crc).to_le_bytes();
    // 0.0.0.0 is no identifier (RFC 6286); one name in four billion has it.
    if octets == [0; 4] {
        Ipv4Addr::new(0, 0, 0, 1)
    } else {
        Ipv4Addr::from(octets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(interface: u32, address: &str, usable: bool) -> InterfaceAddress {
        InterfaceAddress {
            interface,
            address: address.parse().unwrap(),
            usable,
        }
    }

    fn node() -> Vec<InterfaceAddress> {
        vec![
            entry(1, "127.0.0.1", true),
            entry(1, "::1", true),
            entry(2, "169.254.1.1", true),
            entry(2, "192.0.2.1", true),
            entry(2, "192.0.2.77", true),
            entry(2, "fe80::1", true),
            entry(2, "2001:db8::dead", false),
            entry(2, "2001:db8::2", true),
            entry(2, "2001:db8::1", true),
            entry(3, "198.51.100.1", true),
            entry(4, "2001:db8:4::1", true),
        ]
    }

    fn of(local: &str) -> Endpoint {
        let local = local.parse().expect("an address");
        choose(local, None, None, "node-1", &node())
    }

    #[test]
    fn an_ipv4_connection_has_its_address_as_router_id_and_the_ipv6_address_beside_it_as_next_hop()
    {
        let endpoint = of("192.0.2.77");
        assert_eq!(endpoint.router_id, Ipv4Addr::new(192, 0, 2, 77));
        assert_eq!(endpoint.next_hop_v6, Some("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn next_hops_stay_while_the_interface_has_them() {
        let local: SocketAddr = "192.0.2.77:179".parse().unwrap();
        let former = Endpoint {
            next_hop_v6: Some("2001:db8::2".parse().unwrap()),
            ..of("192.0.2.77")
        };
        assert_eq!(next_hops(&node(), local, &former).1, former.next_hop_v6);
        for gone in ["2001:db8::dead", "2001:db8:4::1"] {
            let former = Endpoint {
                next_hop_v6: Some(gone.parse().unwrap()),
                ..former
            };
            let now = next_hops(&node(), local, &former).1;
            assert_eq!(now, Some("2001:db8::1".parse().unwrap()), "{gone}");
        }
    }

    #[test]
    fn an_ipv6_connection_has_the_first_ipv4_address_of_its_interface_for_both() {
        let endpoint = of("2001:db8::1");
        assert_eq!(endpoint.router_id, Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(endpoint.next_hop_v4, Some(Ipv4Addr::new(192, 0, 2, 1)));
    }

    #[test]
    fn an_interface_of_one_family_has_no_next_hop_of_the_other() {
        assert_eq!(of("198.51.100.1").next_hop_v6, None);
        assert_eq!(of("2001:db8:4::1").next_hop_v4, None);
        assert_eq!(of("127.0.0.1").next_hop_v6, None);
    }

    #[test]
    fn one_link_local_address_of_several_interfaces_is_that_of_the_connection() {
        let mut node = node();
        node.push(entry(3, "fe80::1", true));
        let of = |scope| choose("fe80::1".parse().unwrap(), Some(scope), None, "n", &node);
        assert_eq!(of(2).next_hop_v4, Some(Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(of(3).next_hop_v4, Some(Ipv4Addr::new(198, 51, 100, 1)));
    }

    #[test]
    fn without_any_ipv4_address_the_name_of_the_node_makes_the_router_id() {
        // CRC-32 of "123456789" is the check value of the algorithm, cbf43926.
        assert_eq!(of_name("123456789"), Ipv4Addr::new(0x26, 0x39, 0xf4, 0xcb));
        assert_eq!(of("2001:db8:4::1").router_id, of_name("node-1"));
        assert_ne!(of_name("node-1"), of_name("node-2"));
    }

    #[test]
    fn a_configured_router_id_wins() {
        let configured = Ipv4Addr::new(9, 9, 9, 9);
        let endpoint = choose(
            "192.0.2.1".parse().unwrap(),
            None,
            Some(configured),
            "node-1",
            &node(),
        );
        assert_eq!(endpoint.router_id, configured);
    }

    #[tokio::test]
    async fn the_kernel_lists_the_loopback_address() {
        let addresses = addresses().await.unwrap();
        assert!(
            addresses
                .iter()
                .any(|entry| entry.address == IpAddr::from([127, 0, 0, 1])),
            "{addresses:?}"
        );
    }
}
