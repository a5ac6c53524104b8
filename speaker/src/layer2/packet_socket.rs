//! Packet sockets: whole Ethernet frames of one protocol on one interface.
//!
//! The only module of layer 2 with `unsafe`: neither socket2 nor std know packet addresses and memberships.
#![allow(unsafe_code)]

use std::io::{self, Read, Write};
use std::mem::size_of;
use std::os::fd::AsRawFd;

use ferrolb_neighbor::{MacAddr, SockFilter};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::unix::AsyncFd;

/// Fails if this process may not open packet sockets.
pub(super) fn probe() -> io::Result<()> {
    Socket::new(Domain::PACKET, Type::RAW, None).map(drop)
}

/// Frames of one EtherType on one interface, as far as a filter lets them through.
pub(super) struct PacketSocket {
    socket: AsyncFd<Socket>,
    interface: libc::c_int,
}

impl PacketSocket {
    /// Opens the socket on the interface with this index.
    pub(super) fn open(interface: u32, ethertype: u16, filter: &[SockFilter]) -> io::Result<Self> {
        let index = i32::try_from(interface).map_err(|_too_large| io::ErrorKind::InvalidInput)?;
        // Without a protocol it receives nothing until it is bound, so that no frame slips in before the filter.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.set_nonblocking(true)?;
        attach(&socket, filter)?;
        socket.bind(&link_layer_address(index, ethertype)?)?;
        // SAFETY: a `Socket` keeps one descriptor open for as long as it lives, and it is never taken out again.
        let socket = unsafe { AsyncFd::register(socket) }?;
        Ok(Self {
            socket,
            interface: index,
        })
    }

    /// Lets another filter take the place of the former, at once and for every frame from now on.
    pub(super) fn set_filter(&self, filter: &[SockFilter]) -> io::Result<()> {
        attach(self.socket.get_ref(), filter)
    }

    /// Waits for the next frame and returns its length; a longer frame is cut to the buffer.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.socket.readable().await?;
            if let Ok(received) = ready.try_io(|socket| socket.get_ref().read(buffer)) {
                return received;
            }
        }
    }

    /// Sends a frame, if the kernel takes it now.
    pub(super) fn try_send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.get_ref().write(frame).map(drop)
    }

    /// Sends a frame, as soon as the kernel takes it.
    pub(super) async fn send(&self, frame: &[u8]) -> io::Result<()> {
        loop {
            let mut ready = self.socket.writable().await?;
            if let Ok(sent) = ready.try_io(|socket| socket.get_ref().write(frame)) {
                return sent.map(drop);
            }
        }
    }

    /// Has the interface receive frames to this multicast address, until [`Self::leave`] or the end of the socket.
    pub(super) fn join(&self, group: MacAddr) -> io::Result<()> {
        self.membership(libc::PACKET_ADD_MEMBERSHIP, group)
    }

    /// Takes [`Self::join`] back.
    pub(super) fn leave(&self, group: MacAddr) -> io::Result<()> {
        self.membership(libc::PACKET_DROP_MEMBERSHIP, group)
    }

    /// Has the interface receive every frame, until the end of the socket.
    pub(super) fn receive_all(&self) -> io::Result<()> {
        let anything = MacAddr::zero();
        for kind in [libc::PACKET_MR_PROMISC, libc::PACKET_MR_ALLMULTI] {
            self.change(libc::PACKET_ADD_MEMBERSHIP, kind, anything)?;
        }
        Ok(())
    }

    fn membership(&self, option: libc::c_int, group: MacAddr) -> io::Result<()> {
        self.change(option, libc::PACKET_MR_MULTICAST, group)
    }

    fn change(&self, option: libc::c_int, kind: libc::c_int, group: MacAddr) -> io::Result<()> {
        let [a, b, c, d, e, f] = group.octets();
        let request = libc::packet_mreq {
            mr_ifindex: self.interface,
            mr_type: kind as libc::c_ushort,
            mr_alen: 6,
            mr_address: [a, b, c, d, e, f, 0, 0],
        };
        // SAFETY: the descriptor is open as long as `self.socket` lives, and the pointer and length are those of a
        // `packet_mreq` on the stack, which the kernel only reads, and only during the call.
        let result = unsafe {
            libc::setsockopt(
                self.socket.get_ref().as_raw_fd(),
                libc::SOL_PACKET,
                option,
                (&raw const request).cast(),
                size_of::<libc::packet_mreq>() as libc::socklen_t,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

fn attach(socket: &Socket, filter: &[SockFilter]) -> io::Result<()> {
    let filter: Vec<_> = filter
        .iter()
        .map(|instruction| {
            let SockFilter { code, jt, jf, k } = *instruction;
            socket2::SockFilter::new(code, jt, jf, k)
        })
        .collect();
    socket.attach_filter(&filter)
}

/// The address that binds a packet socket to an interface and an EtherType.
fn link_layer_address(interface: libc::c_int, ethertype: u16) -> io::Result<SockAddr> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::sa_family_t,
        sll_protocol: ethertype.to_be(),
        sll_ifindex: interface,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the storage is large enough and aligned for every kind of socket address, `sockaddr_ll` is one of them,
    // and family and length are set to what it is.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            storage.cast::<libc::sockaddr_ll>().write(address);
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    }?;
    Ok(address)
}
