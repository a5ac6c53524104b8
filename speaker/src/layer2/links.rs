//! Which interfaces can be used, and how? By rtnetlink events, with the rules of reference 4.3.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ferrolb_neighbor::MacAddr;
use futures::FutureExt;
use futures::stream::{Stream, StreamExt, TryStreamExt};
use regex::RegexSet;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::AsyncSocket;
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::wireless::ReceiveAll;

/// Room for events that arrive while we are busy; the kernel grants at most `net.core.rmem_max`.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Pause before a broken connection to the kernel is made anew.
const AGAIN: Duration = Duration::from_secs(1);

/// How one interface can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) mac: MacAddr,
    /// It can broadcast, so ARP works on it.
    pub(super) arp: bool,
    /// Source of NDP advertisements; without one there is no NDP on it.
    pub(super) link_local: Option<Ipv6Addr>,
    /// It has a carrier. Without one it is used all the same, as it may come back any time.
    pub(super) running: bool,
    /// It keeps frames to itself that we need, unless it is told to let everything in.
    pub(super) filters_frames: bool,
}

/// The usable interfaces by index.
pub(super) type Links = BTreeMap<u32, Link>;

type Connection = (Handle, futures::channel::mpsc::UnboundedReceiver<Message>);
type Message = (
    rtnetlink::packet_core::NetlinkMessage<RouteNetlinkMessage>,
    rtnetlink::sys::SocketAddr,
);

/// Follows the kernel's interfaces in a task of its own until `shutdown`.
pub(super) fn watch_links(
    excluded: RegexSet,
    receive_all: ReceiveAll,
    shutdown: CancellationToken,
) -> io::Result<watch::Receiver<Links>> {
    let (sender, receiver) = watch::channel(Links::new());
    let mut connection = Some(connect()?);
    let mut table = Table {
        excluded,
        receive_all,
        ..Table::default()
    };
    tokio::spawn(shutdown.run_until_cancelled_owned(async move {
        loop {
            let followed = match connection.take().map_or_else(connect, Ok) {
                Ok(connection) => follow(connection, &mut table, &sender).await,
                Err(error) => Err(error.into()),
            };
            if let Err(error) = followed {
                warn!(%error, "lost the connection to the kernel's interfaces");
            }
            tokio::time::sleep(AGAIN).await;
        }
    }));
    Ok(receiver)
}

/// Why following had to end.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error("open a netlink socket: {0}")]
    Open(#[from] io::Error),
    #[error("list the interfaces and addresses: {0}")]
    List(#[from] rtnetlink::Error),
    #[error("the kernel closed the netlink socket")]
    Closed,
}

fn connect() -> io::Result<Connection> {
    let (mut connection, handle, messages) =
        new_multicast_connection(&[MulticastGroup::Link, MulticastGroup::Ipv6Ifaddr])?;
    // Less than asked for only means that everything is listed anew more often.
    if let Err(error) = connection
        .socket_mut()
        .socket_mut()
        .set_rx_buf_sz(RECEIVE_BUFFER as libc::c_int)
    {
        debug!(%error, "cannot enlarge the netlink socket's buffer");
    }
    tokio::spawn(connection);
    Ok((handle, messages))
}

async fn follow(
    (handle, mut messages): Connection,
    table: &mut Table,
    sender: &watch::Sender<Links>,
) -> Result<(), FollowError> {
    // The events have been subscribed to before this, so nothing is missed in between; what is told twice ends in the
    // same state.
    table.replace(list(&handle).await?);
    loop {
        sender.send_if_modified(|links| {
            let usable = table.usable();
            let changed = *links != usable;
            *links = usable;
            changed
        });
        let (message, _) = messages.next().await.ok_or(FollowError::Closed)?;
        match message.payload {
            NetlinkPayload::InnerMessage(message) => table.apply(message),
            NetlinkPayload::Overrun(_) => list_anew(|| list(&handle), &mut messages, table).await?,
            _ => {}
        }
    }
}

/// The kernel says that events were lost before it hands over those that were queued until then, and some of these may have been
/// followed by lost ones that took them back. So they are drawn off, and only then is listed what holds. The first list is for
/// its end: it comes through the same queue, so whatever was before it is in `messages` by then.
async fn list_anew<E, F: Future<Output = Result<Listed, E>>>(
    list: impl Fn() -> F,
    messages: &mut (impl Stream<Item = Message> + Unpin),
    table: &mut Table,
) -> Result<(), E> {
    drop(list().await?);
    // Another loss among them is made good for by the same list; one that comes later is still told.
    while messages.next().now_or_never().flatten().is_some() {}
    table.replace(list().await?);
    Ok(())
}

type Listed = (Vec<LinkMessage>, Vec<AddressMessage>);

async fn list(handle: &Handle) -> Result<Listed, rtnetlink::Error> {
    let links = handle.link().get().execute().try_collect().await?;
    let addresses = handle.address().get().execute().try_collect().await?;
    Ok((links, addresses))
}

/// What the kernel has told.
#[derive(Default)]
struct Table {
    excluded: RegexSet,
    receive_all: ReceiveAll,
    /// The interfaces that can be used, but for their link-local addresses.
    links: BTreeMap<u32, Link>,
    link_locals: BTreeMap<u32, BTreeSet<Ipv6Addr>>,
}

impl Table {
    fn replace(&mut self, (links, addresses): Listed) {
        self.links.clear();
        self.link_locals.clear();
        links
            .into_iter()
            .for_each(|link| self.apply(RouteNetlinkMessage::NewLink(link)));
        addresses
            .into_iter()
            .for_each(|address| self.apply(RouteNetlinkMessage::NewAddress(address)));
    }

    fn apply(&mut self, message: RouteNetlinkMessage) {
        match message {
            // Bridges tell of their ports in messages of their own family; what matters of it, the port's master, comes
            // in a plain one too.
            RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link)
                if link.header.interface_family != AddressFamily::Unspec => {}
            RouteNetlinkMessage::NewLink(link) => self.link(&link),
            RouteNetlinkMessage::DelLink(link) => {
                self.links.remove(&link.header.index);
                self.link_locals.remove(&link.header.index);
            }
            RouteNetlinkMessage::NewAddress(address) => self.address(&address, true),
            RouteNetlinkMessage::DelAddress(address) => self.address(&address, false),
            _ => {}
        }
    }

    fn link(&mut self, message: &LinkMessage) {
        let mut name = None;
        let mut mac = None;
        let mut has_master = false;
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name = Some(text.clone()),
                LinkAttribute::Address(bytes) => {
                    mac = <[u8; 6]>::try_from(&bytes[..]).ok().map(MacAddr::from)
                }
                LinkAttribute::Controller(index) => has_master = *index != 0,
                // Wireless events carry nothing else.
                LinkAttribute::Wireless(_) => return,
                _ => {}
            }
        }
        let flags = message.header.flags;
        let usable =
            flags.contains(LinkFlags::Up) && !flags.contains(LinkFlags::Noarp) && !has_master;
        let link = match (name, mac) {
            (Some(name), Some(mac)) if usable && !self.excluded.is_match(&name) => Link {
                filters_frames: self.receive_all.applies_to(&name),
                name,
                mac,
                arp: flags.contains(LinkFlags::Broadcast),
                link_local: None,
                running: flags.contains(LinkFlags::Running),
            },
            _ => {
                self.links.remove(&message.header.index);
                return;
            }
        };
        self.links.insert(message.header.index, link);
    }

    fn address(&mut self, message: &AddressMessage, present: bool) {
        let link_local = message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::Address(IpAddr::V6(ip)) if ip.is_unicast_link_local() => {
                    Some(*ip)
                }
                _ => None,
            });
        let Some(link_local) = link_local else { return };
        let flags = message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::Flags(flags) => Some(*flags),
                _ => None,
            });
        // Until duplicate address detection is through, the address is not the interface's yet.
        let unproven = match flags {
            Some(flags) => flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed),
            None => message
                .header
                .flags
                .intersects(AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed),
        };
        let of_link = self.link_locals.entry(message.header.index).or_default();
        if present && !unproven {
            of_link.insert(link_local);
        } else {
            of_link.remove(&link_local);
        }
        if of_link.is_empty() {
            self.link_locals.remove(&message.header.index);
        }
    }

    fn usable(&self) -> Links {
        self.links
            .iter()
            .map(|(&index, link)| {
                let link_local = self
                    .link_locals
                    .get(&index)
                    .and_then(|of_link| of_link.first().copied());
                (
                    index,
                    Link {
                        link_local,
                        ..link.clone()
                    },
                )
            })
            .filter(|(_, link)| link.arp || link.link_local.is_some())
            .collect()
    }
}

#[cfg(test)]
#[path = "links_tests.rs"]
mod tests;
