//! The task of one peer: carries out what the session wants, tells it what happened.
//!
//! Memory is bounded: what arrives is read in portions and forgotten; what goes out is fetched from the adj-RIB-out only
//! while little waits for the kernel.

mod ended;
mod next_hops;
mod writing;

use super::connection::{self, Connection};
use super::discovery::Discovery;
use super::inbox::Inbox;
use super::listener::Incoming;
use super::local::Addresses;
use super::metrics::{Messages, PeerMetrics};
use super::spec::{PeerSpec, Target};
use super::status::{Board, PeerStatus, RoutesSent};
use super::told::Question;
use ferrolb_bgp::wire::{Cease, message_type};
use ferrolb_bgp::{AdjRibOut, Attributes, ConnId, Endpoint, Export, Input, Output, Session};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How much is read at a time.
const READ: usize = 16 * 1024;

/// How long a peer that shall call may take to do it before it is told of.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is wrong with a passive peer of a speaker that does not listen.
const NOT_LISTENING: &str = "the peer is passive (ferrolb.io/passive), and this speaker takes no connections: start it with \
                             --bgp-listen-port, or remove the annotation";

/// Why the task of a peer shall end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopReason {
    /// The BGPPeer is gone, or is none of this node's any more.
    Removed,
    /// The BGPPeer changed; another task follows.
    Changed,
}

/// What a task is made of.
pub(super) struct Setting {
    pub(super) spec: Arc<PeerSpec>,
    pub(super) node_name: Arc<str>,
    pub(super) board: Board,
    pub(super) events: mpsc::Sender<RoutesSent>,
    pub(super) inbox: Arc<Inbox>,
    /// Connections that the peer opens.
    pub(super) incoming: mpsc::Receiver<Incoming>,
    /// Whether there can be any.
    pub(super) listening: bool,
    /// Another process had the session before, and its routes were forwarded all the while.
    pub(super) returned: bool,
    /// What of the BGPPeer changed, if that ended an established session.
    pub(super) changed: Option<String>,
    /// How long the peer may look for other routes at the end, of now (RFC 8326).
    pub(super) graceful_shutdown: watch::Receiver<Option<Duration>>,
    /// The addresses of this node, from which next hops follow.
    pub(super) addresses: watch::Receiver<Addresses>,
    pub(super) stop: watch::Receiver<Option<StopReason>>,
    pub(super) asked: mpsc::Receiver<Question>,
    pub(super) shutdown: CancellationToken,
}

type Dialling = Pin<Box<dyn Future<Output = io::Result<(TcpStream, Endpoint)>> + Send>>;

/// The task of one peer.
pub(super) struct Peer {
    setting: Setting,
    metrics: PeerMetrics,
    name: Arc<str>,
    session: Session,
    rib: AdjRibOut,
    status: PeerStatus,
    /// What one side last told the other about why there is no session, for as long as nothing newer is known.
    told: Option<String>,
    dialling: Option<(ConnId, Dialling)>,
    /// One that we opened and one that the peer opened at most, until it is clear which of them stays.
    connections: Vec<Connection>,
    messages: Messages,
    /// Of those, what the figures have.
    counted: Messages,
    /// Finds the peer, if it is known by an interface alone.
    discovery: Option<Discovery>,
    /// Where routes are sent.
    established: Option<ConnId>,
    /// Until when the peer may look for other routes before the session ends.
    leaving_until: Option<Instant>,
    /// Until when nothing is said of a peer that shall call and does not.
    patient_until: Option<Instant>,
    /// What the session is being asked about: a connection that the peer opened.
    at_the_door: Option<TcpStream>,
    /// Connections that are being closed.
    farewells: TaskTracker,
}

/// What the task waited for.
enum Wakeup {
    Stop(Cease, &'static str),
    Shutdown,
    RoutesChanged,
    Asked(Question),
    Dialled(ConnId, io::Result<(TcpStream, Endpoint)>),
    AddressesChanged,
    NobodyCalls,
    Incoming(Incoming),
    Deadline,
    Ready(ConnId, io::Result<()>),
}

impl Peer {
    pub(super) fn new(setting: Setting, metrics: PeerMetrics) -> Peer {
        let name: Arc<str> = setting.spec.name.as_str().into();
        let session = Session::new(setting.spec.session_config(), rand::random());
        let mut status = PeerStatus::new();
        if let Some(changed) = &setting.changed {
            tracing::info!(peer = %name, changed, "the BGP session is begun anew, because its BGPPeer changed");
            status.last_error = Some(ended::by_change(changed));
        }
        if setting.spec.passive && !setting.listening {
            status.last_error = Some(NOT_LISTENING.to_owned());
        }
        let discovery = match &setting.spec.target {
            Target::Interface(interface) => Some(Discovery::start(interface)),
            Target::Address(_) => None,
        };
        Peer {
            session: if setting.returned {
                session.returned()
            } else {
                session
            },
            rib: AdjRibOut::new(),
            status,
            discovery,
            messages: Messages::default(),
            counted: Messages::default(),
            told: None,
            dialling: None,
            connections: Vec::new(),
            established: None,
            leaving_until: None,
            patient_until: (setting.spec.passive && setting.listening)
                .then(|| Instant::now() + PATIENCE),
            at_the_door: None,
            farewells: TaskTracker::new(),
            name,
            setting,
            metrics,
        }
    }

    /// Runs until told to stop, and until the peer was told too. `routes` is what the peer shall have at first.
    pub(super) async fn run(mut self, routes: BTreeMap<IpNet, Attributes>) {
        self.rib.set_desired(&routes);
        drop(routes);
        self.input(Input::Start);
        loop {
            self.write();
            self.publish();
            match self.wait().await {
                Wakeup::Stop(reason, text) => {
                    self.input(Input::Stop { reason, text });
                    break;
                }
                Wakeup::Shutdown if self.begins_to_leave() => {}
                Wakeup::Shutdown => {
                    let text = "the speaker of this node is stopping";
                    self.input(if self.setting.spec.graceful_restart {
                        Input::Restart { text }
                    } else {
                        let reason = Cease::AdministrativeShutdown;
                        Input::Stop { reason, text }
                    });
                    break;
                }
                Wakeup::RoutesChanged => {
                    for (prefix, attributes) in self.setting.inbox.take() {
                        self.rib.set(prefix, attributes.as_ref());
                    }
                    self.count_not_advertised();
                }
                Wakeup::Asked(question) => question.answer(&self.rib),
                Wakeup::AddressesChanged => self.take_next_hops(),
                Wakeup::NobodyCalls => self.nobody_calls(),
                Wakeup::Dialled(conn, result) => self.dialled(conn, result),
                Wakeup::Incoming((stream, endpoint)) => {
                    self.patient_until = None;
                    self.at_the_door = Some(stream);
                    self.input(Input::Accepted { endpoint });
                }
                Wakeup::Deadline => self.input(Input::Tick),
                Wakeup::Ready(conn, Ok(())) => self.read(conn),
                Wakeup::Ready(conn, Err(error)) => self.broken(conn, &error),
            }
        }
        self.farewells.close();
        self.farewells.wait().await;
        let why = *self.setting.stop.borrow();
        if why != Some(StopReason::Changed) {
            self.setting.board.erase(&self.name);
        }
        // What follows after a change begins its figures anew, under another address perhaps.
        if why.is_some() {
            self.metrics.remove();
        }
    }

    /// Has the peer move to other routes before ours go (RFC 8326). False if it was given that time, or none is wanted.
    fn begins_to_leave(&mut self) -> bool {
        let Some(time) = *self.setting.graceful_shutdown.borrow() else {
            return false;
        };
        if self.leaving_until.is_some() || self.established.is_none() {
            return false;
        }
        self.rib.shut_down_gracefully();
        self.leaving_until = Some(Instant::now() + time);
        true
    }

    async fn wait(&mut self) -> Wakeup {
        let deadline = self.session.deadline();
        let dialling = async {
            match &mut self.dialling {
                Some((conn, dialling)) => (*conn, dialling.await),
                None => pending().await,
            }
        };
        let ready = async {
            match self.connections.as_slice() {
                [] => pending().await,
                [one] => one.ready().await,
                [one, other, ..] => tokio::select! {
                    ready = one.ready() => ready,
                    ready = other.ready() => ready,
                },
            }
        };
        let timer = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => pending().await,
            }
        };
        let leave = async {
            self.setting.shutdown.cancelled().await;
            // With a session that broke meanwhile there is nobody to wait for.
            if let Some(until) = self.leaving_until.filter(|_| self.established.is_some()) {
                tokio::time::sleep_until(until.into()).await;
            }
        };
        let nobody_calls = async {
            match self.patient_until {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => pending().await,
            }
        };
        // In this order, so that a peer that never stops sending delays neither the end nor the timers.
        tokio::select! {
            biased;
            () = leave => Wakeup::Shutdown,
            stop = self.setting.stop.wait_for(Option::is_some) => match stop.ok().and_then(|stop| *stop) {
                Some(StopReason::Changed) => Wakeup::Stop(Cease::ConfigurationChange, ""),
                Some(StopReason::Removed) | None => Wakeup::Stop(Cease::PeerDeconfigured, ""),
            },
            () = self.setting.inbox.filled() => Wakeup::RoutesChanged,
            () = timer => Wakeup::Deadline,
            Some(question) = self.setting.asked.recv() => Wakeup::Asked(question),
            (conn, result) = dialling => Wakeup::Dialled(conn, result),
            Ok(()) = self.setting.addresses.changed() => Wakeup::AddressesChanged,
            () = nobody_calls => Wakeup::NobodyCalls,
            Some(incoming) = self.setting.incoming.recv() => Wakeup::Incoming(incoming),
            (conn, result) = ready => Wakeup::Ready(conn, result),
        }
    }

    fn dialled(&mut self, conn: ConnId, result: io::Result<(TcpStream, Endpoint)>) {
        self.dialling = None;
        match result {
            Ok((stream, endpoint)) => {
                self.connections.push(Connection::new(conn, stream));
                self.input(Input::Connected { conn, endpoint });
            }
            Err(error) => self.input(Input::ConnectFailed {
                conn,
                error: error.to_string(),
            }),
        }
    }

    fn read(&mut self, conn: ConnId) {
        let mut portion = [0; READ];
        let Some(connection) = self.connection(conn) else {
            return;
        };
        match connection.stream.try_read(&mut portion) {
            Ok(0) => self.closed(conn, None),
            Ok(count) => {
                let bytes = portion.get(..count).unwrap_or_default();
                self.input(Input::Bytes { conn, bytes });
            }
            // It was ready for writing, which the loop does anyway.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.broken(conn, &error),
        }
    }

    /// Reads what arrived before the connection broke; bounded by what the kernel buffers.
    fn read_last_words(&mut self, conn: ConnId) {
        let mut portion = [0; READ];
        while let Some(connection) = self.connection(conn) {
            match connection.stream.try_read(&mut portion) {
                Ok(0) | Err(_) => return,
                Ok(count) => self.input(Input::Bytes {
                    conn,
                    bytes: portion.get(..count).unwrap_or_default(),
                }),
            }
        }
    }

    fn connection(&mut self, conn: ConnId) -> Option<&mut Connection> {
        self.connections
            .iter_mut()
            .find(|connection| connection.conn == conn)
    }

    fn broken(&mut self, conn: ConnId, error: &io::Error) {
        self.closed(conn, Some(error.to_string()));
    }

    fn closed(&mut self, conn: ConnId, error: Option<String>) {
        if self.connection(conn).is_some() {
            self.input(Input::Closed { conn, error });
        }
    }

    fn input(&mut self, input: Input<'_>) {
        for output in self.session.handle(Instant::now(), input) {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Connect { conn } => {
                let (spec, node_name) = (
                    Arc::clone(&self.setting.spec),
                    Arc::clone(&self.setting.node_name),
                );
                let found = self.discovery.as_ref().map(Discovery::router);
                let dialling = async move {
                    let port = spec.port;
                    let peer = match (&spec.target, found) {
                        (Target::Address(address), _) => (*address, port).into(),
                        (Target::Interface(_), Some(found)) => found.await?.socket_address(port),
                        (Target::Interface(_), None) => return Err(io::ErrorKind::NotFound.into()),
                    };
                    connection::open(&spec, peer, &node_name).await
                };
                self.dialling = Some((conn, Box::pin(dialling)));
            }
            Output::Send { conn, bytes } => {
                if let Some(kind) = message_type(&bytes) {
                    self.messages.sent.add(kind, 1);
                }
                if let Some(connection) = self.connection(conn) {
                    connection.push(&bytes);
                }
            }
            Output::Close { conn } => {
                self.dialling.take_if(|(dialling, _)| *dialling == conn);
                let mut connections = self.connections.iter();
                if let Some(at) = connections.position(|connection| connection.conn == conn) {
                    self.farewells.spawn(self.connections.remove(at).close());
                }
            }
            Output::Accept { conn } => {
                let stream = self.at_the_door.take();
                let connection = stream.map(|stream| Connection::new(conn, stream));
                self.connections.extend(connection);
            }
            Output::Refuse => self.at_the_door = None,
            Output::Established { conn, negotiated } => {
                self.established = Some(conn);
                tracing::info!(
                    peer = %self.name,
                    address = %self.setting.spec.label(),
                    peer_as = negotiated.peer_as,
                    hold_time = ?negotiated.hold_time,
                    "BGP session established",
                );
                self.rib
                    .established(Export::new(self.setting.spec.my_asn, &negotiated));
                self.metrics.session_up(true);
                self.told = None;
                // Why it was begun anew, and not what came of meeting the peer in between.
                if let Some(changed) = self.setting.changed.take() {
                    self.status.last_error = Some(ended::by_change(&changed));
                }
                self.status.negotiated = Some(negotiated);
                self.count_not_advertised();
                // Our addresses may have changed since the connection came about.
                self.take_next_hops();
            }
            Output::Refresh(family) => {
                tracing::debug!(peer = %self.name, %family, "the peer asks for all routes again");
                self.rib.refresh(family);
            }
            Output::UpdateIgnored { fault: Some(fault) } => {
                self.metrics.malformed_updates(1);
                tracing::debug!(peer = %self.name, %fault, "the peer sent a malformed UPDATE");
            }
            Output::UpdateIgnored { fault: None } => {}
            Output::Ended {
                conn,
                was_established,
                reason,
            } => {
                self.established.take_if(|established| *established == conn);
                self.ended(was_established, &reason);
            }
            Output::StateChanged(state) => {
                tracing::debug!(peer = %self.name, %state, "BGP session state");
                self.status.state = state;
                self.status.since = SystemTime::now();
            }
        }
    }

    fn publish(&mut self) {
        self.status.prefixes_sent = self.rib.advertised();
        self.status.prefixes_pending = self.rib.pending();
        self.metrics
            .prefixes(self.status.prefixes_sent, self.status.prefixes_pending);
        self.setting.board.write(&self.name, &self.status);
        self.messages.received = self.session.received();
        self.messages.collisions = self.session.collisions();
        if self.messages != self.counted {
            self.metrics.messages(&self.messages);
            let new = self.messages.collisions - self.counted.collisions;
            self.metrics.collisions(new);
            self.counted = self.messages;
        }
    }
}
