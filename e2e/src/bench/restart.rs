//! How long is nobody served when the operator starts anew, and what does it write that need not be written?

use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Options;
use super::audit::{self, Write};
use super::load;
use super::subject::Subjects;
use super::watch::Statuses;
use crate::cluster::{SYSTEM, Site};
use crate::host;

/// How the operator before came to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was told to end, and gave its lease back.
    Told,
    /// It crashed; its lease has to run out.
    Crashed,
}

/// What a restart took.
pub struct Restart {
    /// Seconds from the start of the process until its probe said ready; infinite when it never did.
    pub ready: f64,
    /// Seconds from the start of the process until a Service that was created right after it had an address.
    pub served: f64,
    /// What the operator wrote beside leases and what the new Service needs.
    pub unneeded: usize,
}

impl Restart {
    /// Seconds until it is ready and leads, which it shows by serving.
    pub fn complete(&self) -> f64 {
        self.ready.max(self.served)
    }
}

/// Restarts the operator among Services that all have their addresses, and creates one more.
pub fn measure(
    site: &Site,
    options: &Options,
    subjects: &mut Subjects<'_>,
    statuses: &Statuses,
    end: End,
) -> Result<Restart> {
    const LIMIT: Duration = Duration::from_secs(120);
    let (name, how) = match end {
        End::Told => ("restart-told", "told to end"),
        End::Crashed => ("restart-crashed", "killed"),
    };
    let mut log = audit::Log::open(&site.run)?;
    log.settle()?;
    match end {
        End::Told => subjects.end_controller()?,
        End::Crashed => subjects.crash_controller()?,
    }
    // What the old process wrote at its end is not the new one's.
    let began = Instant::now();
    subjects.start_controller()?;
    load::create_one(site, name)?;
    let probe = &options.controller_ready;
    let mut ready = None;
    let both = host::wait_until("the operator serves again", LIMIT, || {
        if ready.is_none() && (probe.is_empty() || says_ready(probe)) {
            ready = Some(began.elapsed());
        }
        Ok(ready.is_some() && statuses.of(name).is_some())
    });
    if let Err(error) = both {
        crate::interrupt::check()?;
        println!("  {error:#}");
    }
    let served = statuses.of(name).map(|seen| seen.when - began);
    let unneeded = unneeded(log.settle()?, &options.controller_user(), name);
    let seconds = |time: Option<Duration>| time.map_or(f64::INFINITY, |time| time.as_secs_f64());
    let restart = Restart {
        ready: seconds(ready),
        served: seconds(served),
        unneeded: unneeded.len(),
    };
    println!(
        "  the operator was {how}; the next is ready after {:.1} s, serves after {:.1} s and writes {} times without need",
        restart.ready, restart.served, restart.unneeded
    );
    for write in unneeded.iter().take(10) {
        println!("    {write}");
    }
    load::delete_prefix(site, name)?;
    Ok(restart)
}

/// The writes of this user that neither elect a leader nor follow from the new Service.
fn unneeded(writes: Vec<Write>, user: &str, new: &str) -> Vec<Write> {
    let ours: Vec<Write> = writes.into_iter().filter(|w| w.user == user).collect();
    let leases: Vec<String> = ours
        .iter()
        .filter(|write| write.resource == "leases")
        .map(|write| write.name.clone())
        .collect();
    // An event is called by its object and a number.
    let tells_of = |write: &Write, object: &str| {
        let rest = write.name.strip_prefix(object);
        write.resource == "events" && rest.is_some_and(|rest| rest.starts_with('.'))
    };
    // The pool counts the new Service, once.
    let mut counted = false;
    ours.into_iter()
        .filter(|write| match write.resource.as_str() {
            "leases" => false,
            "services/status" => write.name != new,
            "ipaddresspools/status" => std::mem::replace(&mut counted, true),
            _ => {
                let elects =
                    write.namespace == SYSTEM && leases.iter().any(|lease| tells_of(write, lease));
                !elects && !tells_of(write, new)
            }
        })
        .collect()
}

/// Whether the probe at `10.0.0.1:80/path` answers 200.
pub fn says_ready(probe: &str) -> bool {
    ask(probe).is_some_and(|answer| answer.split(' ').nth(1) == Some("200"))
}

fn ask(probe: &str) -> Option<String> {
    const PATIENCE: Duration = Duration::from_millis(500);
    let (address, path) = probe.split_once('/')?;
    let address: SocketAddr = address.parse().ok()?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = format!("GET /{path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn write(resource: &str, namespace: &str, name: &str) -> Write {
        Write {
            user: "operator".into(),
            verb: "patch".into(),
            resource: resource.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    #[test]
    fn leases_and_what_the_new_service_causes_are_needed_and_nothing_else() {
        let needed = [
            write("leases", SYSTEM, "leader"),
            write("events", SYSTEM, "leader.1a"),
            write("services/status", "default", "new"),
            write("events", "default", "new.17"),
            write("ipaddresspools/status", SYSTEM, "bench"),
        ];
        assert!(unneeded(needed.to_vec(), "operator", "new").is_empty());
        let others = [
            write("services/status", "default", "old"),
            write("events", "default", "newer.17"),
            write("ipaddresspools/status", SYSTEM, "bench"),
            write("secrets", SYSTEM, "memberlist"),
        ];
        let all = needed.into_iter().chain(others.clone()).collect();
        assert_eq!(unneeded(all, "operator", "new"), others);
        assert!(unneeded(others.to_vec(), "somebody else", "new").is_empty());
    }

    #[test]
    fn only_an_answer_of_200_is_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let probe = format!("{}/readyz", listener.local_addr().unwrap());
        let answers = std::thread::spawn(move || {
            for status in ["503 Service Unavailable", "200 OK"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 256];
                let length = stream.read(&mut request).unwrap();
                assert!(request[..length].starts_with(b"GET /readyz HTTP/1.0\r\n"));
                write!(stream, "HTTP/1.0 {status}\r\n\r\nok").unwrap();
            }
        });
        assert!(!says_ready(&probe));
        assert!(says_ready(&probe));
        answers.join().unwrap();
        assert!(!says_ready(&probe), "nobody listens any more");
    }
}
