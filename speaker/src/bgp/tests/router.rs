//! The other side of a session, played by the test.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::PEER_AS;
use ferrolb_bgp::Family;
use ferrolb_bgp::wire::{Capability, Context, Message, Notification, Open, Update, frame_length};
use ipnet::IpNet;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

const PATIENCE: Duration = Duration::from_secs(10);

/// Fails instead of hanging.
pub(super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("no {what} in {PATIENCE:?}"))
}

/// The other side of a session.
pub(super) struct Router {
    pub(super) stream: TcpStream,
    stream_rest: Vec<u8>,
}

impl Router {
    pub(super) async fn accept(listener: &TcpListener) -> Router {
        Router::of(soon("connection", listener.accept()).await.unwrap().0)
    }

    pub(super) fn of(stream: TcpStream) -> Router {
        Router {
            stream,
            stream_rest: Vec::new(),
        }
    }

    /// Accepts a connection and brings the session up.
    pub(super) async fn established(listener: &TcpListener) -> (Router, Open) {
        let mut router = Router::accept(listener).await;
        let Some(Message::Open(open)) = router.receive().await else {
            panic!("no OPEN")
        };
        router.send(&router_open(90)).await;
        assert_eq!(router.receive().await, Some(Message::Keepalive));
        router.send(&Message::Keepalive).await;
        (router, open)
    }

    pub(super) async fn send(&mut self, message: &Message) {
        self.send_bytes(&message.encode(&Context::default()).unwrap())
            .await;
    }

    pub(super) async fn send_bytes(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.stream.writable().await.unwrap();
            match self.stream.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The next message; none at the end of the connection.
    pub(super) async fn receive(&mut self) -> Option<Message> {
        loop {
            if let Some(length) = frame_length(&self.stream_rest).unwrap()
                && self.stream_rest.len() >= length
            {
                let frame: Vec<u8> = self.stream_rest.drain(..length).collect();
                return Some(Message::decode(&frame, &Context::default()).unwrap());
            }
            soon("message", self.stream.readable()).await.unwrap();
            let mut portion = [0; 8192];
            match self.stream.try_read(&mut portion) {
                Ok(0) => return None,
                Ok(count) => self.stream_rest.extend_from_slice(&portion[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(super) async fn update(&mut self) -> Update {
        loop {
            match self.receive().await {
                Some(Message::Update(update)) => return *update,
                Some(Message::Keepalive) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(super) async fn notification(&mut self) -> Notification {
        loop {
            match self.receive().await {
                Some(Message::Notification(notification)) => return notification,
                Some(Message::Update(_) | Message::Keepalive) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Everything that is announced until the markers that end the initial routes.
    pub(super) async fn initial_routes(&mut self) -> Vec<IpNet> {
        let mut routes = Vec::new();
        loop {
            let update = self.update().await;
            match update.end_of_rib() {
                Some(Family::Ipv6Unicast) => return routes,
                Some(Family::Ipv4Unicast) => {}
                None => {
                    routes.extend(update.announced.into_iter().map(IpNet::V4));
                    routes.extend(update.mp_reach.into_iter().flat_map(|reach| reach.prefixes));
                }
            }
        }
    }
}

pub(super) fn router_open(hold_time: u16) -> Message {
    let capabilities = vec![
        Capability::multiprotocol(Family::Ipv4Unicast),
        Capability::multiprotocol(Family::Ipv6Unicast),
        Capability::RouteRefresh,
        Capability::FourOctetAs(PEER_AS),
    ];
    Message::Open(Open::new(
        PEER_AS,
        hold_time,
        Ipv4Addr::new(10, 9, 9, 9),
        capabilities,
    ))
}
