//! A client that never stops asking: one datagram every few milliseconds, and the gaps between the answers.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow};

use crate::run::Run;
use crate::{network, raw};

/// How often the client asks.
pub const INTERVAL: Duration = Duration::from_millis(5);

/// An answer that takes longer counts as lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// The client at work.
pub struct Prober {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Result<Vec<SystemTime>>>,
    receiver: JoinHandle<Result<Vec<(usize, SystemTime)>>>,
}

/// What the client saw.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub sent: usize,
    /// Never answered, or later than after a second.
    pub lost: usize,
    /// The longest time between two answers that follow each other, less the time that passes between two questions anyway:
    /// 0 where every question is answered at once.
    pub outage: Duration,
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
            // From now on the kernel notes when datagrams come.
            let _ = raw::last_received(&socket);
            Ok(socket)
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let (sending, stop_sending) = (socket.try_clone()?, stop.clone());
        let sender = std::thread::spawn(move || {
            let mut sent = Vec::new();
            let started = Instant::now();
            while !stop_sending.load(Ordering::Relaxed) {
                let number = u64::try_from(sent.len())?;
                sent.push(SystemTime::now());
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
                    // The kernel's time, so that what this thread waits for the processor does not count.
                    let when = raw::last_received(&socket)?;
                    answers.push((usize::try_from(u64::from_be_bytes(number))?, when));
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
                .is_some_and(|s| when.duration_since(*s).unwrap_or_default() < PATIENCE)
        });
        answers.sort_unstable();
        answers.dedup_by_key(|(number, _)| *number);
        let lost = sent.len() - answers.len();
        let answers: Vec<_> = answers.into_iter().map(|(_, when)| when).collect();
        Ok(Seen {
            sent: sent.len(),
            lost,
            outage: outage(&sent, &answers),
        })
    }
}

/// [`Seen::outage`]. The first and the last question count like answers, so that silence at either end is seen.
///
/// Between two questions lies [`INTERVAL`], or more when the client itself had to wait for a processor: what it did not ask,
/// nobody could answer.
fn outage(sent: &[SystemTime], answers: &[SystemTime]) -> Duration {
    let apart = |pair: &[SystemTime]| match pair {
        [one, next] => next.duration_since(*one).unwrap_or_default(),
        _ => Duration::ZERO,
    };
    let ends = sent.first().into_iter().chain(sent.last());
    let mut moments: Vec<SystemTime> = ends.chain(answers).copied().collect();
    moments.sort_unstable();
    let unserved = |pair: &[SystemTime]| {
        let (Some(began), Some(ended)) = (pair.first(), pair.last()) else {
            return Duration::ZERO;
        };
        let first = sent.partition_point(|at| at <= began).saturating_sub(1);
        let last = sent.partition_point(|at| at < ended);
        let meanwhile = sent.get(first..sent.len().min(last + 1));
        let pauses = meanwhile.unwrap_or_default().windows(2).map(apart);
        apart(pair).saturating_sub(pauses.max().unwrap_or_default().max(INTERVAL))
    };
    moments.windows(2).map(unserved).max().unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(ms)
    }

    /// Questions at these moments, and for each the time until its answer.
    fn outage_of(sent: &[u64], after: impl Fn(u64) -> Option<u64>) -> u128 {
        let answers = sent.iter().filter_map(|ms| Some(at(ms + after(*ms)?)));
        let answers: Vec<_> = answers.collect();
        let sent: Vec<_> = sent.iter().map(|ms| at(*ms)).collect();
        outage(&sent, &answers).as_millis()
    }

    #[test]
    fn an_outage_is_the_longest_gap_between_answers_beyond_that_between_questions() {
        let steady: Vec<u64> = (0..600).map(|n| n * 5).collect();
        assert_eq!(outage_of(&steady, |_| Some(1)), 0);
        // Lost: 999 ms pass between the answer to the question at 495 ms and that to the one at 1500 ms.
        let lost = |ms| (!(500..1500).contains(&ms)).then_some(1);
        assert_eq!(outage_of(&steady, lost), 1000);
        // Kept back and delivered at once, which loses nothing and leaves the client waiting all the same.
        let kept = |ms| {
            Some(if (500..1400).contains(&ms) {
                1400 - ms
            } else {
                1
            })
        };
        assert_eq!(outage_of(&steady, kept), 899);
        assert_eq!(outage_of(&steady, |ms| (ms < 2000).then_some(1)), 994);
    }

    #[test]
    fn a_client_that_does_not_ask_waits_for_nothing() {
        let paused: Vec<u64> = (0..100).chain(140..240).map(|n| n * 5).collect();
        assert_eq!(outage_of(&paused, |_| Some(1)), 0);
        let lost = |ms| (!(700..=790).contains(&ms)).then_some(1);
        // 300 ms from the answer to the question at 495 ms to that to the one at 795 ms, in which it once paused for 205 ms.
        assert_eq!(outage_of(&paused, lost), 95);
    }
}
