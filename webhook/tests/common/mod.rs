//! The webhook beside an API server in memory, and clients that trust its certificate.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
#![allow(dead_code)] // Each test program uses some of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use ferrolb_serving::Readiness;
use ferrolb_serving::tls::SwappableCertificate;
use ferrolb_testing::{ApiServer, objects};
use ferrolb_webhook::certificate::follow_secret_with;
use ferrolb_webhook::judge::Scope;
use ferrolb_webhook::run::Webhook;
use prometheus_client::registry::Registry;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub const NAMESPACE: &str = "metallb-system";
pub const HOST: &str = "metallb-webhook-service.metallb-system.svc";
pub const SECRET: &str = "metallb-webhook-cert";

/// A certificate that is its own authority, with its key.
pub struct Pair {
    pub chain: String,
    pub key: String,
    der: CertificateDer<'static>,
}

pub fn pair() -> Pair {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([HOST.to_owned()]).unwrap();
    Pair {
        chain: cert.pem(),
        key: signing_key.serialize_pem(),
        der: cert.der().clone(),
    }
}

/// Puts a certificate into the Secret, as the operator does.
pub fn put_certificate(server: &ApiServer, pair: &Pair, authority: &str) {
    put_secret(server, &pair.chain, &pair.key, authority);
}

pub fn put_secret(server: &ApiServer, chain: &str, key: &str, authority: &str) {
    let entries = [
        ("tls.crt", chain.as_bytes()),
        ("tls.key", key.as_bytes()),
        ("ca.crt", authority.as_bytes()),
    ];
    server.put(
        "api/v1/secrets",
        objects::secret(NAMESPACE, SECRET, &entries),
    );
}

/// The certificate of the Secret, followed; one of another authority waits for this long.
pub fn followed(server: &ApiServer, authority_seen: Duration) -> SwappableCertificate {
    let certificate = SwappableCertificate::default();
    let (client, follower) = (server.client(), certificate.clone());
    tokio::spawn(async move {
        follow_secret_with(client, NAMESPACE, SECRET, follower, authority_seen).await
    });
    certificate
}

/// A webhook at work.
pub struct Site {
    pub address: SocketAddr,
    pub readiness: Readiness,
    pub registry: Registry,
    pub stop: CancellationToken,
    pub served: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Site {
    pub async fn serving(
        server: &ApiServer,
        certificate: SwappableCertificate,
        linger: Duration,
    ) -> Self {
        let readiness = Readiness::default();
        let mut registry = Registry::default();
        let scope = Scope {
            namespace: NAMESPACE.to_owned(),
            class: None,
        };
        let webhook = Webhook::new(
            &server.client(),
            scope,
            certificate,
            &mut registry,
            &readiness,
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn(webhook.serve(listener, stop.clone(), linger));
        Self {
            address,
            readiness,
            registry,
            stop,
            served,
        }
    }

    pub async fn ready(&self) {
        soon(|| self.readiness.is_ready()).await;
    }

    /// A line of the figures, without its name.
    pub fn figure(&self, name: &str) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let mut lines = text.lines();
        let figure = lines.find_map(|line| line.strip_prefix(&format!("{name} ")));
        figure.unwrap().to_owned()
    }
}

/// One end of TLS that trusts this certificate alone.
pub fn client(trusted: &Pair) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    ClientConnection::new(Arc::new(config), HOST.try_into().unwrap()).unwrap()
}

pub type Stream = StreamOwned<ClientConnection, TcpStream>;

pub fn connect(address: SocketAddr, trusted: &Pair) -> std::io::Result<Stream> {
    let mut tls = client(trusted);
    let mut tcp = TcpStream::connect(address)?;
    tcp.set_read_timeout(Some(Duration::from_secs(20)))?;
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp)?;
    }
    assert_eq!(tls.alpn_protocol(), Some(&b"http/1.1"[..]));
    Ok(StreamOwned::new(tls, tcp))
}

/// Asks for a page that is not there; returns the head of the answer, which is all of it.
pub fn ask(stream: &mut Stream) -> String {
    write!(stream, "GET /nowhere HTTP/1.1\r\nhost: {HOST}\r\n\r\n").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    String::from_utf8(head).unwrap()
}

pub async fn soon(mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not happen within ten seconds");
}

pub fn pool(name: &str, addresses: &[&str]) -> Value {
    objects::pool(NAMESPACE, name, addresses)
}
