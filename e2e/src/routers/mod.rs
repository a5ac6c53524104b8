//! Other people's routers, started for a scenario from Debian's packages: how they are started, harmed and asked.
//!
//! What differs between them is behind [`Implementation`]: how a [`Setup`] is written down, and how one asks for sessions
//! and routes. What is the same for all, processes and where they live, is in [`Router`].

mod bird;
mod exabgp;
mod frr;
mod gobgp;
mod place;
mod setup;

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use nix::sys::signal::Signal;

use crate::host::{self, Daemon};
use crate::run::Run;

pub use bird::{Bird, configure as configure_bird};
pub use exabgp::{ExaBgp, left_without, tell as tell_exabgp, withdrawals};
pub use frr::{Frr, configure as configure_frr};
pub use gobgp::GoBgp;
pub use place::{Distance, Place};
pub use setup::{BOTH, Family, Neighbor, Setup};

/// All four, each of which can run at the same time as the others.
pub const ALL: [&dyn Implementation; 4] = [&Frr, &Bird, &GoBgp, &ExaBgp];

/// One implementation of BGP.
pub trait Implementation: Sync {
    /// As its makers write it.
    fn name(&self) -> &'static str;

    /// Its number among [`ALL`], from which address and AS follow.
    fn number(&self) -> u8;

    /// Writes the configuration into the router's directory, and says what is to be run.
    fn prepare(&self, at: &Seat) -> Result<Vec<Program>>;

    /// Whether it answers and listens.
    fn is_ready(&self, at: &Seat) -> Result<bool>;

    /// Its sessions with the configured neighbors.
    fn sessions(&self, at: &Seat) -> Result<Vec<Session>>;

    /// What it has heard of exactly this prefix, from whichever neighbor, before it chooses.
    fn routes(&self, at: &Seat, prefix: IpNet) -> Result<Vec<Route>>;

    /// Asks a neighbor for all its routes again (RFC 2918). Says no where there is no command for it.
    fn refresh(&self, at: &Seat, peer: IpAddr) -> Result<bool>;

    /// Ends the session with a neighbor for these words (RFC 9003) and keeps it down, or lets it come up again; false if it
    /// cannot be told to.
    fn shut_down(&self, _at: &Seat, _peer: IpAddr, _reason: Option<&str>) -> Result<bool> {
        Ok(false)
    }

    /// Whether it puts the routes that it chooses into its machine's kernel.
    fn has_kernel(&self) -> bool {
        false
    }

    /// Whether it takes IPv4 routes with an IPv6 next hop over every IPv6 session, told to or not.
    fn always_extends_next_hops(&self) -> bool {
        false
    }
}

/// A program of a router.
pub struct Program {
    /// Its name beside others of the same router, or nothing.
    pub suffix: &'static str,
    pub path: PathBuf,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
}

/// Where a router is and what it was told.
pub struct Seat {
    pub run: Run,
    pub place: Place,
    /// Its configuration and its sockets.
    pub directory: PathBuf,
    pub setup: Setup,
}

impl Seat {
    pub fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// Runs a program on the router's machine.
    pub fn ask(&self, program: &str, arguments: &[&str]) -> Result<String> {
        host::run_in(&self.place.namespace(), program, arguments)
    }

    /// Whether somebody listens on the BGP port of every address that neighbors come to.
    pub fn listens(&self) -> Result<bool> {
        let text = self.ask("ss", &["-Hltn", "sport = :179"])?;
        let wanted: BTreeSet<IpAddr> = self
            .setup
            .neighbors
            .iter()
            .map(|neighbor| neighbor.local(&self.place))
            .collect();
        let open = |address: &IpAddr| {
            let literal = match address {
                IpAddr::V4(address) => format!("{address}:179"),
                IpAddr::V6(address) => format!("[{address}]:179"),
            };
            text.split_whitespace().any(|word| word == literal)
        };
        Ok(wanted.iter().all(open))
    }
}

/// A BGP session as the router sees it.
#[derive(Clone, Debug)]
pub struct Session {
    pub peer: IpAddr,
    pub established: bool,
    /// Differs between sessions: unchanged, it says that the session never went down.
    pub life: String,
    /// Why there is none, or why the one before ended, in the router's words, if it keeps that.
    pub last_error: Option<String>,
    /// Prefixes that it has told the neighbor, where it counts them.
    pub told: Option<u64>,
    /// UPDATEs received in this session or since the start, whichever the router counts.
    pub updates: u64,
    /// What is in use, in seconds, while established.
    pub hold_time: Option<u16>,
    /// The neighbor's BGP identifier, while established.
    pub peer_id: Option<Ipv4Addr>,
}

/// A route as a neighbor announced it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    pub from: IpAddr,
    pub next_hop: IpAddr,
    pub as_path: Vec<u32>,
    /// Of a route from another AS, what the router gives it; some show none then.
    pub local_pref: Option<u32>,
    /// As `ASN:VALUE`.
    pub communities: BTreeSet<String>,
    /// As `ASN:VALUE:VALUE`.
    pub large_communities: BTreeSet<String>,
}

/// A router at work. Its processes and its machine go when this is dropped.
pub struct Router {
    pub implementation: &'static dyn Implementation,
    pub seat: Seat,
    daemons: Vec<Daemon>,
}

/// The last octet of the first router's address on the segment.
const FIRST_ADDRESS: u8 = 30;
/// The AS of the first router.
const FIRST_ASN: u32 = 64601;

impl dyn Implementation {
    /// The AS that it has unless a scenario wants another.
    pub fn asn(&self) -> u32 {
        FIRST_ASN + u32::from(self.number())
    }

    /// Its name where only small letters go: machines, objects.
    pub fn word(&self) -> String {
        self.name().to_lowercase()
    }

    /// Makes its machine. Address and name are its own, so that all routers can be there at once.
    pub fn machine(&self, run: &Run, distance: Distance) -> Result<Place> {
        Place::make(run, &self.word(), FIRST_ADDRESS + self.number(), distance)
    }
}

impl Router {
    /// Starts a router on its machine; returns when it listens for its neighbors.
    pub fn start(
        implementation: &'static dyn Implementation,
        run: &Run,
        place: Place,
        setup: Setup,
    ) -> Result<Self> {
        let mut setup = setup;
        if implementation.always_extends_next_hops() {
            for neighbor in &mut setup.neighbors {
                neighbor.extended_next_hop = neighbor.address.is_ipv6();
            }
        }
        let directory = run.registry.join("routers").join(&place.name);
        // What an earlier router of this name heard is not this one's.
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        let _ = fs::remove_file(run.log(&place.name));
        let mut router = Self {
            implementation,
            seat: Seat {
                run: run.clone(),
                place,
                directory,
                setup,
            },
            daemons: Vec::new(),
        };
        router.launch()?;
        Ok(router)
    }

    pub fn name(&self) -> &'static str {
        self.implementation.name()
    }

    fn launch(&mut self) -> Result<()> {
        for program in self.implementation.prepare(&self.seat)? {
            let name = format!("{}{}", self.seat.place.name, program.suffix);
            let mut daemon = self.seat.run.daemon(
                &name,
                &self.seat.place.name,
                program.path,
                program.arguments,
            );
            daemon.environment = program.environment;
            daemon.start()?;
            self.daemons.push(daemon);
        }
        self.wait_until_ready()
    }

    fn wait_until_ready(&self) -> Result<()> {
        let mut last = None;
        let ready = || {
            for daemon in &self.daemons {
                ensure!(daemon.is_running(), "{} ended", daemon.name);
            }
            // Until it runs, its command line has nobody to ask.
            let answers = match self.implementation.is_ready(&self.seat) {
                Ok(answers) => answers,
                Err(error) => {
                    last = Some(error);
                    false
                }
            };
            Ok(answers && self.seat.listens()?)
        };
        host::wait_until(
            &format!("{} listens", self.name()),
            Duration::from_secs(20),
            ready,
        )
        .with_context(|| format!("{last:?}\n{}", self.log_tail()))
    }

    /// The last that its programs said.
    pub fn log_tail(&self) -> String {
        let tails = self.daemons.iter().map(|daemon| daemon.log_tail(12));
        tails.collect::<Vec<_>>().join("\n")
    }

    /// Ends it the hard way.
    pub fn kill(&mut self) -> Result<()> {
        self.thaw();
        self.daemons.drain(..).try_for_each(|mut d| d.kill())
    }

    /// Lets it end itself, as its service manager would.
    pub fn stop(&mut self) -> Result<()> {
        for mut daemon in self.daemons.drain(..).rev() {
            let Some(process) = daemon.process else {
                continue;
            };
            process.signal(Signal::SIGTERM);
            let ended = host::wait_until(
                &format!("{} ends", daemon.name),
                Duration::from_secs(10),
                || Ok(!process.is_running()),
            );
            // Collects it, and ends it where it did not by itself.
            daemon.kill()?;
            ended?;
        }
        Ok(())
    }

    /// Starts it again after it ended, with the same setup or what was changed in it since.
    pub fn start_again(&mut self) -> Result<()> {
        self.launch()
    }

    /// Stops its processes where they are: its kernel goes on acknowledging, and BGP is silent.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        for daemon in &self.daemons {
            if let Some(process) = daemon.process {
                process.signal(signal);
            }
        }
    }

    pub fn sessions(&self) -> Result<Vec<Session>> {
        let sessions = self.implementation.sessions(&self.seat);
        sessions.with_context(|| format!("ask {} for its sessions", self.name()))
    }

    /// Its session with this neighbor.
    pub fn session(&self, peer: IpAddr) -> Result<Session> {
        let all = self.sessions()?;
        let found = all.into_iter().find(|session| session.peer == peer);
        found.with_context(|| format!("{} has no neighbor {peer}", self.name()))
    }

    /// How many neighbors it has a session with.
    pub fn established(&self) -> Result<usize> {
        Ok(self.sessions()?.iter().filter(|s| s.established).count())
    }

    /// What it hears of exactly this prefix, in order.
    pub fn routes(&self, prefix: IpNet) -> Result<Vec<Route>> {
        let routes = self.implementation.routes(&self.seat, prefix);
        let mut routes = routes.with_context(|| format!("ask {} for {prefix}", self.name()))?;
        routes.sort();
        Ok(routes)
    }

    /// How many prefixes it has told this neighbor.
    pub fn told(&self, peer: IpAddr) -> Result<u64> {
        let told = self.session(peer)?.told;
        told.with_context(|| format!("{} does not count what it tells", self.name()))
    }

    pub fn refresh(&self, peer: IpAddr) -> Result<bool> {
        self.implementation.refresh(&self.seat, peer)
    }

    pub fn shut_down(&self, peer: IpAddr, reason: Option<&str>) -> Result<bool> {
        self.implementation.shut_down(&self.seat, peer, reason)
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            println!("{} stays: {error:#}", self.name());
        }
    }
}

/// The prefix of this number among those that a router announces itself ([`Setup::originates`]).
fn originated(number: u32) -> String {
    let address = Ipv4Addr::from((11 << 24) + (number << 6));
    format!("{address}/26")
}
