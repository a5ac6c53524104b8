//! Who is served, and for how long, while others open connections without end.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::routing::{get, post};
use ferrolb_serving::tls::{SwappableCertificate, server_config};
use ferrolb_serving::{Places, https, plain_http};
use prometheus_client::registry::Registry;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

const API_SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const HOARDER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const HOST: &str = "ferrolb.test";
const AT_MOST: usize = 64;
const DRAIN: Duration = Duration::from_secs(5);
/// Longer than everything that a server waits for.
const PATIENCE: Duration = Duration::from_secs(200);

/// A server with few places.
struct Server {
    address: SocketAddr,
    registry: Registry,
    ending: CancellationToken,
    served: tokio::task::JoinHandle<()>,
    tls: TlsConnector,
}

impl Server {
    async fn start(app: Router) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed([HOST.to_owned()]).unwrap();
        let (chain, key) = (cert.pem(), signing_key.serialize_pem());
        let certificate = SwappableCertificate::default();
        certificate
            .replace(chain.as_bytes(), key.as_bytes())
            .unwrap();
        let listener = TcpListener::bind((API_SERVER, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut registry = Registry::default();
        let places = Places::registered(&mut registry, "test", AT_MOST);
        let ending = CancellationToken::new();
        let tls = server_config(certificate).unwrap();
        let served = https::serve(listener, app, tls, places, ending.clone(), DRAIN);
        Self {
            address,
            registry,
            ending,
            served: tokio::spawn(served),
            tls: connector(cert.der().clone()),
        }
    }

    async fn tcp(&self, source: IpAddr) -> TcpStream {
        tcp(self.address, source).await
    }

    async fn connect(&self, source: IpAddr) -> impl AsyncRead + AsyncWrite + Unpin + use<> {
        let tcp = self.tcp(source).await;
        let name = HOST.try_into().unwrap();
        self.tls.connect(name, tcp).await.unwrap()
    }

    fn figure(&self, name: &str) -> usize {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} ")));
        value.unwrap().parse().unwrap()
    }
}

fn connector(trusted: CertificateDer<'static>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(trusted).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config).into()
}

async fn tcp(address: SocketAddr, source: IpAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    socket.connect(address).await.unwrap()
}

fn app() -> Router {
    Router::new().route("/", get(|| async { "yes" }))
}

/// Asks for `/`; returns the status.
async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    answer(stream).await
}

async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"yes") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    head.lines().next().unwrap().to_owned()
}

/// Waits until the server has closed it.
async fn closed(stream: &mut (impl AsyncRead + Unpin)) {
    let mut rest = Vec::new();
    let end = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "it stays open");
}

#[tokio::test]
async fn of_five_thousand_connections_those_in_excess_are_closed_and_an_api_server_keeps_its_own() {
    const ATTEMPTS: usize = 5000;
    let begun = Arc::new(Semaphore::new(0));
    let begins = begun.clone();
    let reads = move |body: Body| {
        begins.add_permits(1);
        async { to_bytes(body, 9).await.map_or("no", |_| "yes") }
    };
    let server = Server::start(app().route("/read", post(reads))).await;
    let mut idle = server.connect(API_SERVER).await;
    assert_eq!(ask(&mut idle).await, "HTTP/1.1 200 OK");

    let mut hoard: VecDeque<Box<dyn AsyncRead + Unpin>> = VecDeque::new();
    for attempt in 0..ATTEMPTS {
        // Most never end the handshake; some wait with their first request, and some with the body of it.
        hoard.push_back(match attempt % 20 {
            0 => Box::new(server.connect(HOARDER).await),
            1 => {
                let mut stream = server.connect(HOARDER).await;
                let head = b"POST /read HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n";
                stream.write_all(head).await.unwrap();
                begun.acquire().await.unwrap().forget();
                Box::new(stream)
            }
            _ => Box::new(server.tcp(HOARDER).await),
        });
        if hoard.len() > AT_MOST {
            // It is closed, and not only counted as such. Who came first goes first.
            closed(&mut hoard.pop_front().unwrap()).await;
        }
    }
    assert_eq!(server.figure("ferrolb_test_connections"), AT_MOST);
    assert_eq!(ask(&mut idle).await, "HTTP/1.1 200 OK", "it is one of few");
    let mut late = server.connect(API_SERVER).await;
    assert_eq!(ask(&mut late).await, "HTTP/1.1 200 OK");
    let closed = server.figure("ferrolb_test_connections_closed_total");
    assert!(closed >= ATTEMPTS - AT_MOST, "{closed}");
}

#[tokio::test]
async fn who_loses_a_place_in_the_middle_of_a_request_holds_nothing_any_more() {
    let held = Arc::new(Semaphore::new(0));
    let waits = held.clone();
    // Each request holds a clone until it is answered, which no request here ever is.
    let app = Router::new().route(
        "/",
        get(move || {
            let waits = waits.clone();
            async move {
                let _ = waits.acquire().await;
                "yes"
            }
        }),
    );
    let server = Server::start(app).await;
    let unheld = Arc::strong_count(&held);
    let mut first = server.connect(HOARDER).await;
    first
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    while Arc::strong_count(&held) == unheld {
        tokio::task::yield_now().await;
    }
    let busy = Arc::strong_count(&held);
    let mut others = Vec::new();
    for _ in 0..AT_MOST {
        others.push(server.tcp(HOARDER).await);
    }
    closed(&mut first).await;
    assert!(Arc::strong_count(&held) < busy);
}

/// The clock runs as fast as it is waited for.
#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_end_is_left_after_ten_seconds() {
    let server = Server::start(app()).await;
    let mut silent = server.tcp(HOARDER).await;
    let began = Instant::now();
    closed(&mut silent).await;
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn what_idles_or_never_ends_its_head_is_left_later_than_api_servers_leave_it() {
    let server = Server::start(app()).await;
    let mut unused = server.connect(HOARDER).await;
    let began = Instant::now();
    closed(&mut unused).await;
    assert_eq!(began.elapsed().as_secs(), 100);

    let mut used = server.connect(HOARDER).await;
    ask(&mut used).await;
    let began = Instant::now();
    closed(&mut used).await;
    assert_eq!(began.elapsed().as_secs(), 100);

    let listener = TcpListener::bind((API_SERVER, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let places = Places::registered(&mut Registry::default(), "probes", AT_MOST);
    tokio::spawn(plain_http::serve(
        listener,
        app(),
        places,
        CancellationToken::new(),
    ));
    let mut slow = tcp(address, HOARDER).await;
    slow.write_all(b"GET / HTTP/1.1\r\nho").await.unwrap();
    let began = Instant::now();
    closed(&mut slow).await;
    assert_eq!(began.elapsed().as_secs(), 100);
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused_before_it_has_arrived() {
    let server = Server::start(app()).await;
    let mut stream = server.connect(HOARDER).await;
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nlong: {}", "x".repeat(20_000));
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 431");
}

#[tokio::test(start_paused = true)]
async fn at_the_end_what_idles_is_closed_and_what_is_under_way_has_its_time() {
    let answers = Arc::new(Semaphore::new(0));
    let waits = answers.clone();
    let asked = Arc::new(Semaphore::new(0));
    let counts = asked.clone();
    let app = app().route(
        "/slow",
        get(move || {
            let (counts, waits) = (counts.clone(), waits.clone());
            async move {
                counts.add_permits(1);
                waits.acquire().await.unwrap().forget();
                "yes"
            }
        }),
    );
    let server = Server::start(app).await;
    let mut idle = server.connect(API_SERVER).await;
    ask(&mut idle).await;
    let (mut slow, mut slower) = (
        server.connect(API_SERVER).await,
        server.connect(API_SERVER).await,
    );
    for stream in [&mut slow, &mut slower] {
        stream
            .write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        asked.acquire().await.unwrap().forget();
    }
    let began = Instant::now();
    server.ending.cancel();
    closed(&mut idle).await;
    assert!(began.elapsed() < DRAIN);
    answers.add_permits(1);
    assert_eq!(answer(&mut slow).await, "HTTP/1.1 200 OK");
    closed(&mut slow).await;
    assert!(began.elapsed() < DRAIN);
    server.served.await.unwrap();
    assert_eq!(began.elapsed().as_secs(), DRAIN.as_secs());
    closed(&mut slower).await;
}
