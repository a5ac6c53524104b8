//! A BGP speaker that does what a test wants: a proper handshake, then anything. Written from RFC 4271 alone and without
//! our own codec, so that the two check each other.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

const MARKER: [u8; 16] = [0xff; 16];
pub const OPEN: u8 = 1;
pub const UPDATE: u8 = 2;
pub const NOTIFICATION: u8 = 3;
pub const KEEPALIVE: u8 = 4;

/// A listener on the BGP port of an address.
pub struct Peer {
    listener: TcpListener,
    asn: u32,
    id: Ipv4Addr,
}

/// An established session.
pub struct Session {
    stream: TcpStream,
}

impl Peer {
    /// Must be called in the namespace that has the address.
    pub fn listen(address: Ipv4Addr, asn: u32) -> Result<Self> {
        let listener = TcpListener::bind((address, 179))
            .with_context(|| format!("listen on {address}:179"))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            asn,
            id: address,
        })
    }

    /// Waits for a connection and completes the handshake.
    pub fn accept(&self, limit: Duration) -> Result<Session> {
        let deadline = Instant::now() + limit;
        loop {
            crate::interrupt::check()?;
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
                    let mut session = Session { stream };
                    session.handshake(self.asn, self.id)?;
                    return Ok(session);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    ensure!(
                        Instant::now() < deadline,
                        "no speaker connected within {} s",
                        limit.as_secs()
                    );
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(error).context("accept a BGP connection"),
            }
        }
    }
}

impl Session {
    fn handshake(&mut self, asn: u32, id: Ipv4Addr) -> Result<()> {
        let (kind, _) = self.read()?;
        ensure!(kind == OPEN, "the speaker begins with message type {kind}");
        self.write(&open(asn, id)?)?;
        self.write(&message(KEEPALIVE, &[])?)?;
        let (kind, body) = self.read()?;
        ensure!(
            kind == KEEPALIVE,
            "the speaker answers the OPEN with message type {kind}: {body:?}"
        );
        Ok(())
    }

    /// Reads one message: its type and what follows the header.
    pub fn read(&mut self) -> Result<(u8, Vec<u8>)> {
        let mut header = [0; 19];
        self.stream
            .read_exact(&mut header)
            .context("read a BGP header")?;
        let [.., high, low, kind] = header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        ensure!(
            header.starts_with(&MARKER) && (19..=4096).contains(&length),
            "the speaker sent a bad header: {header:?}"
        );
        let mut body = vec![0; length - 19];
        self.stream
            .read_exact(&mut body)
            .context("read a BGP message")?;
        Ok((kind, body))
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("write to the speaker")
    }

    pub fn set_read_timeout(&self, limit: Duration) -> Result<()> {
        self.stream
            .set_read_timeout(Some(limit))
            .context("set the read timeout")
    }

    /// A second handle, for whoever keeps the session alive.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self {
            stream: self.stream.try_clone()?,
        })
    }

    /// Reads until the speaker says what was wrong; returns code and subcode.
    pub fn notification(&mut self) -> Result<(u8, u8)> {
        loop {
            let (kind, body) = self
                .read()
                .context("the session ended without a NOTIFICATION")?;
            if kind == NOTIFICATION {
                match body.as_slice() {
                    [code, subcode, ..] => return Ok((*code, *subcode)),
                    _ => bail!("a NOTIFICATION of {} bytes", body.len()),
                }
            }
        }
    }
}

/// A message with its header (RFC 4271 section 4.1).
pub fn message(kind: u8, body: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = MARKER.to_vec();
    bytes.extend(u16::try_from(body.len() + 19)?.to_be_bytes());
    bytes.push(kind);
    bytes.extend(body);
    Ok(bytes)
}

/// An OPEN with both address families (RFC 4760) and four-octet AS numbers (RFC 6793).
fn open(asn: u32, id: Ipv4Addr) -> Result<Vec<u8>> {
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 65, 4];
    capabilities.extend(asn.to_be_bytes());
    let mut body = vec![4];
    // AS_TRANS where the number does not fit.
    body.extend(u16::try_from(asn).unwrap_or(23456).to_be_bytes());
    body.extend(90u16.to_be_bytes());
    body.extend(id.octets());
    let length = u8::try_from(capabilities.len())?;
    body.extend([length + 2, 2, length]);
    body.extend(capabilities);
    message(OPEN, &body)
}
