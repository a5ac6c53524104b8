//! TCP sockets with the options that BGP needs and the standard library has no name for.
//!
//! The only module of BGP with `unsafe` code, which is one system call.
#![allow(unsafe_code)]

use super::spec::{Hops, Secret};
use ferrolb_neighbor::{ALL_ROUTERS, ROUTER_HOP_LIMIT, router_discovery_filter};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use std::ffi::CString;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// What a connection to a peer needs.
pub(super) struct Options<'a> {
    pub(super) peer: SocketAddr,
    pub(super) source: Option<IpAddr>,
    pub(super) vrf: Option<&'a str>,
    pub(super) password: Option<&'a Secret>,
    pub(super) hops: Hops,
}

/// A socket that is ready to connect, non-blocking.
pub(super) fn prepare(options: &Options<'_>) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(options.peer),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    set_hops(&socket, options.peer.ip(), options.hops)?;
    if let Some(password) = options.password {
        set_md5(&socket, options.peer, password)?;
    }
    if let Some(vrf) = options.vrf {
        bind_device(&socket, vrf, "VRF")?;
    }
    if let Some(source) = options.source {
        socket
            .bind(&SockAddr::from(SocketAddr::new(source, 0)))
            .map_err(|error| match error.kind() {
                io::ErrorKind::AddrNotAvailable => io::Error::new(
                    error.kind(),
                    format!("this node has no address {source} to connect from"),
                ),
                _ => error,
            })?;
    }
    Ok(socket)
}

/// A socket on which peers can connect, for its family alone.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // A peer that takes only packets of its own link (RFC 5082) shall take our first one.
    set_hop_limit(&socket, address.ip(), u8::MAX.into())?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(64)?;
    TcpListener::from_std(socket.into())
}

/// Gives a connection that a peer opened the options of one that we open.
pub(super) fn adopt(stream: &TcpStream, peer: IpAddr, hops: Hops) -> io::Result<()> {
    stream.set_nodelay(true)?;
    set_hops(&SockRef::from(stream), peer, hops)
}

/// A socket for the messages by which routers find each other on this interface. It is a raw socket of ICMPv6, but to read
/// from and to write to it is the same as with UDP.
pub(super) fn router_discovery(interface: &str) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.set_nonblocking(true)?;
    let filter: Vec<_> = router_discovery_filter()
        .into_iter()
        .map(|one| socket2::SockFilter::new(one.code, one.jt, one.jf, one.k))
        .collect();
    socket.attach_filter(&filter)?;
    bind_device(&socket, interface, "interface")?;
    let index = index_of(interface)?;
    socket.set_multicast_if_v6(index)?;
    socket.set_multicast_hops_v6(ROUTER_HOP_LIMIT.into())?;
    socket.set_multicast_loop_v6(false)?;
    socket.join_multicast_v6(&ALL_ROUTERS, index)?;
    UdpSocket::from_std(socket.into())
}

fn bind_device(socket: &Socket, device: &str, what: &str) -> io::Result<()> {
    socket
        .bind_device(Some(device.as_bytes()))
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ENODEV) => not_here(device, what),
            _ => error,
        })
}

fn not_here(device: &str, what: &str) -> io::Error {
    let kind = io::ErrorKind::NotFound;
    let field = what.to_lowercase();
    let text = format!(
        "this node has no {what} {device:?}: correct spec.{field}, or leave this node out by spec.nodeSelectors"
    );
    io::Error::new(kind, text)
}

/// The number of the interface of this name.
fn index_of(interface: &str) -> io::Result<u32> {
    let name = CString::new(interface)?;
    // SAFETY: the pointer is that of a string with an end, which lives until the call returns.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(not_here(interface, "interface")),
        index => Ok(index),
    }
}

fn set_hops(socket: &Socket, peer: IpAddr, hops: Hops) -> io::Result<()> {
    let limit = match hops {
        Hops::Any => return Ok(()),
        Hops::Next => 1,
        Hops::AtMost(hops) => {
            set_least_hop_limit(socket, peer, u8::MAX - hops.saturating_sub(1))?;
            u8::MAX.into()
        }
    };
    set_hop_limit(socket, peer, limit)
}

fn set_hop_limit(socket: &Socket, peer: IpAddr, limit: u32) -> io::Result<()> {
    match peer {
        IpAddr::V4(_) => socket.set_ttl_v4(limit),
        IpAddr::V6(_) => socket.set_unicast_hops_v6(limit),
    }
}

/// Has the kernel drop what arrives with a lower TTL or hop limit.
fn set_least_hop_limit(socket: &Socket, peer: IpAddr, least: u8) -> io::Result<()> {
    let (level, option) = match peer {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MINTTL),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT),
    };
    let least = libc::c_int::from(least);
    // SAFETY: the descriptor is open, as `socket` is borrowed; pointer and length are those of an int on the stack, which the
    // kernel only reads, and only during the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const least).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `struct tcp_md5sig` of linux/tcp.h, which the libc crate does not have.
#[repr(C)]
struct TcpMd5Sig {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface: libc::c_int,
    key: [u8; libc::TCP_MD5SIG_MAXKEYLEN],
}

/// Has the kernel sign and check every segment to and from `peer` (RFC 2385). The key is copied into the kernel and wiped
/// here.
pub(super) fn set_md5(
    socket: &impl AsRawFd,
    peer: SocketAddr,
    password: &Secret,
) -> io::Result<()> {
    put_md5(socket, peer, password.expose())
}

/// Forgets the key of a peer; what is not signed is taken again from its address.
pub(super) fn drop_md5(socket: &impl AsRawFd, peer: SocketAddr) -> io::Result<()> {
    put_md5(socket, peer, &[])
}

fn put_md5(socket: &impl AsRawFd, peer: SocketAddr, password: &[u8]) -> io::Result<()> {
    let address = SockAddr::from(peer);
    let mut key = [0; libc::TCP_MD5SIG_MAXKEYLEN];
    let Some(room) = key.get_mut(..password.len()) else {
        let limit = libc::TCP_MD5SIG_MAXKEYLEN;
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the password is longer than {limit} octets"),
        ));
    };
    room.copy_from_slice(password);
    let mut option = TcpMd5Sig {
        // SAFETY: `as_ptr` points to a whole `sockaddr_storage` that `address` owns, and the type is plain data.
        address: unsafe { address.as_ptr().cast::<libc::sockaddr_storage>().read() },
        flags: 0,
        prefix_length: 0,
        // At most 80, as `room` exists.
        key_length: password.len() as u16,
        interface: 0,
        key,
    };
    // SAFETY: the descriptor is open, as `socket` is borrowed; the pointer and the length are those of `option`, which
    // has the layout that the kernel reads for this option and lives until the call returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_MD5SIG,
            (&raw const option).cast(),
            size_of::<TcpMd5Sig>() as libc::socklen_t,
        )
    };
    let error = io::Error::last_os_error();
    option.key.fill(0);
    std::hint::black_box(&mut option);
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::new(
            error.kind(),
            format!("the kernel did not take the TCP-MD5 password: {error}"),
        ))
    }
}
