//! Sends frames as they are from an interface, one or many in a call of the kernel; and when the kernel received something.

#![allow(
    unsafe_code,
    reason = "packet sockets, many frames in one call and the kernel's times have no safe wrapper here"
)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, SystemTime};

/// A packet socket for sending only.
pub struct Sender(OwnedFd);

impl Sender {
    /// Opens one on an interface; the calling thread must be in its machine's namespace.
    pub fn open(interface: &str) -> io::Result<Self> {
        let name = std::ffi::CString::new(interface)?;
        // SAFETY: the name ends with a zero; the result is checked.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a plain call; the result is checked before it is owned. Protocol 0 receives nothing.
        let socket = unsafe {
            let id = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
            if id < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(id)
        };
        let address = libc::sockaddr_ll {
            sll_family: u16::try_from(libc::AF_PACKET).unwrap_or_default(),
            sll_protocol: 0,
            sll_ifindex: i32::try_from(index).unwrap_or_default(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let length = |size: usize| libc::socklen_t::try_from(size).unwrap_or_default();
        // SAFETY: the pointer is to a value that lives through the call, with its own size.
        let result = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                length(size_of_val(&address)),
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(socket))
    }

    /// Leaves out the queueing discipline, and with it every capture on this side.
    pub fn bypass(self) -> io::Result<Self> {
        let on: libc::c_int = 1;
        let length = libc::socklen_t::try_from(size_of_val(&on)).unwrap_or_default();
        // SAFETY: the pointer is to a value that lives through the call, with its own size.
        let result = unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_QDISC_BYPASS,
                (&raw const on).cast(),
                length,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(self)
    }

    /// Hands one frame to the kernel.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        while self.send_many(&[frame])? == 0 {}
        Ok(())
    }

    /// Hands frames to the kernel and returns how many it took.
    pub fn send_many<F: AsRef<[u8]>>(&self, frames: &[F]) -> io::Result<usize> {
        let mut parts: Vec<libc::iovec> = frames
            .iter()
            .map(|frame| libc::iovec {
                iov_base: frame.as_ref().as_ptr().cast_mut().cast(),
                iov_len: frame.as_ref().len(),
            })
            .collect();
        let mut messages: Vec<libc::mmsghdr> = parts
            .iter_mut()
            .map(|part| {
                // SAFETY: all zeros is a message header without anything in it.
                let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
                message.msg_hdr.msg_iov = part;
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        let count = libc::c_uint::try_from(messages.len()).unwrap_or_default();
        // SAFETY: headers, parts and frames live through the call, and the kernel only reads the frames.
        let taken = unsafe { libc::sendmmsg(self.0.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
        match usize::try_from(taken) {
            Ok(taken) => Ok(taken),
            // The interface's queue is full: what went is known, and the rest is tried again.
            Err(_) if io::Error::last_os_error().raw_os_error() == Some(libc::ENOBUFS) => Ok(0),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }
}

/// When the kernel received what was last read from this socket. It notes such times from the first call on, which fails
/// (socket(7), SIOCGSTAMP).
pub fn last_received(socket: &impl AsRawFd) -> io::Result<SystemTime> {
    const SIOCGSTAMPNS: libc::Ioctl = 0x8907;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a value that lives through the call, of the type that the kernel writes.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSTAMPNS, &raw mut time) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Ok(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds))
}
