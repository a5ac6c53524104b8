//! The task of one peer: carries out what the session wants, tells it what happened.
//!
//! Memory is bounded: what arrives is read in portions and forgotten; what goes out is fetched from the adj-RIB-out only
//! while little waits for the kernel.

use super::connection::{self, Connection};
use super::inbox::Inbox;
use super::metrics::PeerMetrics;
use super::spec::PeerSpec;
use super::status::{Board, PeerStatus, RoutesSent};
use super::told::Question;
use ferrolb_bgp::wire::Cease;
use ferrolb_bgp::{
    AdjRibOut, Attributes, ConnId, EndReason, Endpoint, Export, Input, Output, Session, State,
};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// No more is fetched from the adj-RIB-out while this many octets wait for the kernel.
const ENOUGH_WAITING: usize = 64 * 1024;

/// How much is fetched at a time.
const PORTION: usize = 16 * 1024;

/// How much is read at a time.
const READ: usize = 16 * 1024;

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
    connection: Option<Connection>,
    /// Connections that are being closed.
    farewells: TaskTracker,
}

/// What the task waited for.
enum Wakeup {
    Stop(Cease, &'static str),
    RoutesChanged,
    Asked(Question),
    Dialled(ConnId, io::Result<(TcpStream, Endpoint)>),
    Deadline,
    Ready(io::Result<()>),
}

impl Peer {
    pub(super) fn new(setting: Setting, metrics: PeerMetrics) -> Peer {
        let name: Arc<str> = setting.spec.name.as_str().into();
        Peer {
            session: Session::new(setting.spec.session_config(), rand::random()),
            rib: AdjRibOut::new(),
            status: PeerStatus::new(),
            told: None,
            dialling: None,
            connection: None,
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
                Wakeup::RoutesChanged => {
                    for (prefix, attributes) in self.setting.inbox.take() {
                        self.rib.set(prefix, attributes.as_ref());
                    }
                    self.count_not_advertised();
                }
                Wakeup::Asked(question) => {
                    let negotiated = self.status.negotiated.as_ref();
                    question.answer(self.setting.spec.my_asn, negotiated, &self.rib);
                }
                Wakeup::Dialled(conn, result) => self.dialled(conn, result),
                Wakeup::Deadline => self.input(Input::Tick),
                Wakeup::Ready(Ok(())) => self.read(),
                Wakeup::Ready(Err(error)) => self.broken(&error),
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

    async fn wait(&mut self) -> Wakeup {
        let deadline = self.session.deadline();
        let dialling = async {
            match &mut self.dialling {
                Some((conn, dialling)) => (*conn, dialling.await),
                None => pending().await,
            }
        };
        let ready = async {
            match &self.connection {
                Some(connection) if connection.waiting() > 0 => {
                    connection
                        .stream
                        .ready(Interest::READABLE | Interest::WRITABLE)
                        .await
                }
                Some(connection) => connection.stream.ready(Interest::READABLE).await,
                None => pending().await,
            }
        };
        let timer = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => pending().await,
            }
        };
        // In this order, so that a peer that never stops sending delays neither the end nor the timers.
        tokio::select! {
            biased;
            () = self.setting.shutdown.cancelled() => {
                Wakeup::Stop(Cease::AdministrativeShutdown, "the speaker of this node is stopping")
            }
            stop = self.setting.stop.wait_for(Option::is_some) => match stop.ok().and_then(|stop| *stop) {
                Some(StopReason::Changed) => Wakeup::Stop(Cease::ConfigurationChange, ""),
                Some(StopReason::Removed) | None => Wakeup::Stop(Cease::PeerDeconfigured, ""),
            },
            () = self.setting.inbox.filled() => Wakeup::RoutesChanged,
            () = timer => Wakeup::Deadline,
            Some(question) = self.setting.asked.recv() => Wakeup::Asked(question),
            (conn, result) = dialling => Wakeup::Dialled(conn, result),
            result = ready => Wakeup::Ready(result.map(drop)),
        }
    }

    fn dialled(&mut self, conn: ConnId, result: io::Result<(TcpStream, Endpoint)>) {
        self.dialling = None;
        match result {
            Ok((stream, endpoint)) => {
                self.connection = Some(Connection::new(conn, stream));
                self.input(Input::Connected { conn, endpoint });
            }
            Err(error) => self.input(Input::ConnectFailed {
                conn,
                error: error.to_string(),
            }),
        }
    }

    fn read(&mut self) {
        let mut portion = [0; READ];
        let Some(connection) = &self.connection else {
            return;
        };
        let conn = connection.conn;
        match connection.stream.try_read(&mut portion) {
            Ok(0) => self.closed(None),
            Ok(count) => {
                let bytes = portion.get(..count).unwrap_or_default();
                self.input(Input::Bytes { conn, bytes });
            }
            // It was ready for writing, which the loop does anyway.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.broken(&error),
        }
    }

    /// Reads what arrived before the connection broke; bounded by what the kernel buffers.
    fn read_last_words(&mut self) {
        let mut portion = [0; READ];
        while let Some(connection) = &self.connection {
            let conn = connection.conn;
            match connection.stream.try_read(&mut portion) {
                Ok(0) | Err(_) => return,
                Ok(count) => self.input(Input::Bytes {
                    conn,
                    bytes: portion.get(..count).unwrap_or_default(),
                }),
            }
        }
    }

    /// Fetches UPDATEs and hands them to the kernel, until one of both has enough.
    fn write(&mut self) {
        loop {
            let established = self.session.state() == State::Established;
            let Some(connection) = &mut self.connection else {
                return;
            };
            let mut queued = false;
            while established && connection.waiting() < ENOUGH_WAITING {
                let Some(batch) = self.rib.next_batch(PORTION) else {
                    break;
                };
                connection.push(&batch.bytes);
                connection.mark(batch.announced);
                self.metrics.updates(batch.messages);
                queued = true;
            }
            let conn = connection.conn;
            let written = connection.write();
            let waiting = connection.waiting();
            if queued {
                self.input(Input::UpdateQueued);
            }
            match written {
                Ok(written) => {
                    if written.progress {
                        self.input(Input::Progress { conn });
                    }
                    self.tell(written.announced);
                }
                Err(error) => {
                    // A peer that closes says why first, and that is worth more than the error of writing after it.
                    self.read_last_words();
                    return self.broken(&error);
                }
            }
            if waiting > 0 || !queued {
                return;
            }
        }
    }

    fn tell(&self, prefixes: Vec<IpNet>) {
        if !prefixes.is_empty() {
            let event = RoutesSent {
                peer: Arc::clone(&self.name),
                prefixes,
                at: Instant::now(),
            };
            if self.setting.events.try_send(event).is_err() {
                tracing::debug!(peer = %self.name, "nobody reads which routes were sent");
            }
        }
    }

    fn broken(&mut self, error: &io::Error) {
        self.closed(Some(error.to_string()));
    }

    fn closed(&mut self, error: Option<String>) {
        if let Some(connection) = &self.connection {
            let conn = connection.conn;
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
                let dialling = async move { connection::open(&spec, &node_name).await };
                self.dialling = Some((conn, Box::pin(dialling)));
            }
            Output::Send { conn, bytes } => {
                if let Some(connection) = self
                    .connection
                    .as_mut()
                    .filter(|connection| connection.conn == conn)
                {
                    connection.push(&bytes);
                }
            }
            Output::Close { conn } => {
                self.dialling.take_if(|(dialling, _)| *dialling == conn);
                if let Some(connection) = self
                    .connection
                    .take_if(|connection| connection.conn == conn)
                {
                    self.farewells.spawn(connection.close());
                }
            }
            Output::Established { negotiated, .. } => {
                tracing::info!(
                    peer = %self.name,
                    address = %self.setting.spec.socket_address(),
                    peer_as = negotiated.peer_as,
                    hold_time = ?negotiated.hold_time,
                    "BGP session established",
                );
                self.rib
                    .established(Export::new(self.setting.spec.my_asn, &negotiated));
                self.metrics.session_up(true);
                self.told = None;
                self.status.negotiated = Some(negotiated);
                self.count_not_advertised();
            }
            Output::Refresh(family) => {
                tracing::debug!(peer = %self.name, %family, "the peer asks for all routes again");
                self.rib.refresh(family);
            }
            Output::UpdateIgnored { fault: Some(fault) } => {
                tracing::debug!(peer = %self.name, %fault, "the peer sent a malformed UPDATE");
            }
            Output::UpdateIgnored { fault: None } => {}
            Output::Ended {
                was_established,
                reason,
                ..
            } => self.ended(was_established, &reason),
            Output::StateChanged(state) => {
                tracing::debug!(peer = %self.name, %state, "BGP session state");
                self.status.state = state;
                self.status.since = SystemTime::now();
            }
            // There is no listener, so the peer cannot have opened a connection.
            Output::Accept { .. } | Output::Refuse => {}
        }
    }

    fn ended(&mut self, was_established: bool, reason: &EndReason) {
        if was_established {
            self.rib.down();
            self.metrics.session_up(false);
            self.status.negotiated = None;
            self.count_not_advertised();
        }
        let text = self.explain(was_established, reason);
        // Said once, not at every attempt.
        if self.status.last_error.as_deref() != Some(&text) && *reason != EndReason::Stopped {
            tracing::warn!(peer = %self.name, address = %self.setting.spec.socket_address(), was_established, reason = %text, "no BGP session");
        } else {
            tracing::debug!(peer = %self.name, was_established, reason = %text, "no BGP session");
        }
        self.status.last_error = Some(text);
    }

    fn explain(&mut self, was_established: bool, reason: &EndReason) -> String {
        match (reason, &self.told) {
            (EndReason::Received(_) | EndReason::Sent { .. }, _) => {
                self.told = Some(reason.to_string());
                reason.to_string()
            }
            // A router that has ended a session for a reason usually closes the next connections without a word.
            (EndReason::ClosedByPeer | EndReason::Broken(_), Some(told)) if !was_established => {
                format!("{told}; since then the peer closes every connection")
            }
            // The kernel drops segments with a wrong signature without a word, so silence is all that can be seen.
            (EndReason::ConnectTimeout, _) if self.setting.spec.password.is_some() => {
                "cannot connect: no answer from the peer: authentication (is the password right on both sides?) or \
                 reachability"
                    .to_owned()
            }
            (EndReason::ConnectTimeout, _) => {
                "cannot connect: no answer from the peer: reachability, or the peer expects a password".to_owned()
            }
            _ => reason.to_string(),
        }
    }

    /// What the session cannot carry changes with the routes and with the session, not when something is sent.
    fn count_not_advertised(&mut self) {
        let mut refused = self.rib.not_advertised();
        self.status.prefixes_not_advertised = refused.len();
        let first = refused
            .next()
            .map(|(prefix, reason)| format!("{prefix}: {reason}"));
        if first.is_some() && first != self.status.not_advertised_because {
            tracing::warn!(
                peer = %self.name,
                count = self.status.prefixes_not_advertised,
                first,
                "the BGP session cannot carry some routes",
            );
        }
        self.status.not_advertised_because = first;
    }

    fn publish(&mut self) {
        self.status.prefixes_sent = self.rib.advertised();
        self.status.prefixes_pending = self.rib.pending();
        self.metrics
            .prefixes(self.status.prefixes_sent, self.status.prefixes_pending);
        self.setting.board.write(&self.name, &self.status);
    }
}
