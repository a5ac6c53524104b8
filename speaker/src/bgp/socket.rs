//! TCP sockets with the options that BGP needs and the standard library has no name for.
//!
//! The only module of BGP with `unsafe` code, which is one system call.
#![allow(unsafe_code)]

use super::spec::Secret;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

/// What a connection to a peer needs.
pub(super) struct Options<'a> {
    pub(super) peer: SocketAddr,
    pub(super) source: Option<IpAddr>,
    pub(super) password: Option<&'a Secret>,
    pub(super) hop_limit: Option<u32>,
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
    if let Some(hops) = options.hop_limit {
        match options.peer {
            SocketAddr::V4(_) => socket.set_ttl_v4(hops)?,
            SocketAddr::V6(_) => socket.set_unicast_hops_v6(hops)?,
        }
    }
    if let Some(password) = options.password {
        set_md5(&socket, options.peer, password)?;
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
    let password = password.expose();
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
