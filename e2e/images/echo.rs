//! A server that says who answers: HTTP over TCP on port 8080, and each datagram back on UDP port 8080.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

const PORT: u16 = 8080;

fn main() -> std::io::Result<()> {
    // The first process of a container gets no default signal handling; without this a stop takes the whole grace period.
    end_on_term();
    let udp = UdpSocket::bind(("::", PORT))?;
    std::thread::spawn(move || datagrams(&udp));
    let listener = TcpListener::bind(("::", PORT))?;
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || {
            // A client that goes away in the middle is its own affair.
            let _ = answer(stream);
        });
    }
    Ok(())
}

fn datagrams(socket: &UdpSocket) {
    let mut buffer = [0; 2048];
    loop {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(buffer.get(..length).unwrap_or_default(), from);
        }
    }
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let from = stream.peer_addr()?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| "?".to_owned());
    let body = format!("{} on {} answers {}\n", variable("POD_NAME"), variable("NODE_NAME"), from.ip().to_canonical());
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

unsafe extern "C" {
    fn signal(number: i32, handler: usize) -> usize;
    fn _exit(code: i32) -> !;
}

extern "C" fn end(_: i32) {
    // SAFETY: _exit may be called from a signal handler (POSIX.1-2017, 2.4.3).
    unsafe { _exit(0) }
}

fn end_on_term() {
    const SIGTERM: i32 = 15;
    // SAFETY: a plain libc call; the handler only calls _exit.
    unsafe { signal(SIGTERM, end as *const () as usize) };
}
