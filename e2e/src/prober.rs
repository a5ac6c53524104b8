//! A client that never stops asking: one datagram every few milliseconds, and the gaps between the answers.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::network;
use crate::run::Run;

/// How often the client asks.
pub const INTERVAL: Duration = Duration::from_millis(5);

/// An answer that takes longer counts as lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// The client at work.
pub struct Prober {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Result<Vec<Instant>>>,
    receiver: JoinHandle<Result<Vec<(usize, Instant)>>>,
}

/// What the client saw.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub sent: usize,
    pub lost: usize,
    /// The longest time between two answers that follow each other.
    pub longest_gap: Duration,
}

/// Runs a closure in a thread of its own that lives in another of the run's namespaces.
pub fn spawn_in<T: Send + 'static>(
    run: &Run,
    place: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<JoinHandle<Result<T>>> {
    let (run, place) = (run.clone(), place.to_owned());
    let thread = std::thread::Builder::new().name(format!("in {place}"));
    thread
        .spawn(move || network::enter(&run, &place).and_then(|()| work()))
        .context("start a thread")
}

/// Waits for such a thread.
pub fn finish<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("the thread panicked"))?
}

/// Runs a closure in another namespace and waits for it.
pub fn run_in<T: Send + 'static>(
    run: &Run,
    place: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    finish(spawn_in(run, place, work)?)
}

impl Prober {
    /// Starts asking a Service of the echo servers from a machine of the site.
    pub fn start(run: &Run, place: &str, address: IpAddr, port: u16) -> Result<Self> {
        let socket = run_in(run, place, move || {
            let socket = UdpSocket::bind(SocketAddr::new(
                if address.is_ipv4() {
                    [0, 0, 0, 0].into()
                } else {
                    IpAddr::from([0u16; 8])
                },
                0,
            ))?;
            socket.connect((address, port))?;
            socket.set_read_timeout(Some(Duration::from_millis(100)))?;
            Ok(socket)
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let (sending, stop_sending) = (socket.try_clone()?, stop.clone());
        let sender = std::thread::spawn(move || {
            let mut sent = Vec::new();
            let started = Instant::now();
            while !stop_sending.load(Ordering::Relaxed) {
                let number = u64::try_from(sent.len())?;
                sent.push(Instant::now());
                // An error is an answer of its own ("port unreachable", no neighbour): the datagram counts as lost.
                let _ = sending.send(&number.to_be_bytes());
                let next = started + INTERVAL * u32::try_from(sent.len())?;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            Ok(sent)
        });
        let stop_receiving = stop.clone();
        let receiver = std::thread::spawn(move || {
            let mut answers = Vec::new();
            let mut buffer = [0; 64];
            let mut deadline = None;
            loop {
                if stop_receiving.load(Ordering::Relaxed) {
                    let end = *deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
                    if Instant::now() > end {
                        return Ok(answers);
                    }
                }
                if let Ok(length) = socket.recv(&mut buffer)
                    && let Some(Ok(number)) = buffer.get(..length).map(<[u8; 8]>::try_from)
                {
                    answers.push((usize::try_from(u64::from_be_bytes(number))?, Instant::now()));
                }
            }
        });
        Ok(Self {
            stop,
            sender,
            receiver,
        })
    }

    /// Stops asking and says what was seen.
    pub fn finish(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = finish(self.sender)?;
        let mut answers = finish(self.receiver)?;
        answers.retain(|(number, when)| {
            sent.get(*number)
                .is_some_and(|s| when.duration_since(*s) < PATIENCE)
        });
        answers.sort_unstable();
        answers.dedup_by_key(|(number, _)| *number);
        let lost = sent.len() - answers.len();
        let mut moments: Vec<Instant> = sent
            .first()
            .copied()
            .into_iter()
            .chain(answers.iter().map(|(_, when)| *when))
            .collect();
        moments.extend(sent.last());
        moments.sort_unstable();
        let longest_gap = moments
            .windows(2)
            .filter_map(|pair| Some(pair.last()?.duration_since(*pair.first()?)))
            .max()
            .unwrap_or_default();
        Ok(Seen {
            sent: sent.len(),
            lost,
            longest_gap,
        })
    }
}

/// Asks the echo server behind an address by HTTP, with a new connection; the answer names pod and node.
pub fn http(run: &Run, place: &str, address: &str) -> Result<String> {
    let host = if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    };
    crate::host::run_in(
        &run.namespace(place),
        "curl",
        &["-sS", "--max-time", "1", &format!("http://{host}/")],
    )
}
