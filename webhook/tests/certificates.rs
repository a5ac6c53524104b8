//! Which certificate is served while the Secret changes, and how connections end with the process.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrolb_serving::Readiness;
use ferrolb_serving::tls::{SwappableCertificate, server_config};
use ferrolb_testing::{ApiServer, objects};
use ferrolb_webhook::certificate::{follow_folder, follow_secret_with};
use ferrolb_webhook::judge::Scope;
use ferrolb_webhook::run::{Figures, Webhook};
use prometheus_client::registry::Registry;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection, StreamOwned};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "metallb-system";
const HOST: &str = "metallb-webhook-service.metallb-system.svc";
const SECRET: &str = "metallb-webhook-cert";

/// A certificate that is its own authority, with its key.
struct Pair {
    chain: String,
    key: String,
    der: CertificateDer<'static>,
}

fn pair() -> Pair {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([HOST.to_owned()]).unwrap();
    Pair {
        chain: cert.pem(),
        key: signing_key.serialize_pem(),
        der: cert.der().clone(),
    }
}

fn put(server: &ApiServer, pair: &Pair, authority: &str) {
    let entries = [
        ("tls.crt", pair.chain.as_bytes()),
        ("tls.key", pair.key.as_bytes()),
        ("ca.crt", authority.as_bytes()),
    ];
    server.put(
        "api/v1/secrets",
        objects::secret(NAMESPACE, SECRET, &entries),
    );
}

fn client(trusted: &Pair) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    ClientConnection::new(Arc::new(config), HOST.try_into().unwrap()).unwrap()
}

/// Whether a client that trusts this one gets through a handshake; both ends are in memory.
fn serves(certificate: &SwappableCertificate, trusted: &Pair) -> bool {
    let config = Arc::new(server_config(certificate.clone()).unwrap());
    let (mut client, mut server) = (client(trusted), ServerConnection::new(config).unwrap());
    while client.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut &*wire).unwrap();
        if server.process_new_packets().is_err() {
            return false;
        }
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut &*wire).unwrap();
        if client.process_new_packets().is_err() {
            return false;
        }
    }
    true
}

async fn soon(mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not happen within ten seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_waits_until_that_authority_can_be_known() {
    const WAIT: Duration = Duration::from_secs(2);
    let server = ApiServer::default();
    let (first, renewed, other) = (pair(), pair(), pair());
    put(&server, &first, "authority 1");
    let certificate = SwappableCertificate::default();
    let (api, follower) = (server.client(), certificate.clone());
    tokio::spawn(async move { follow_secret_with(api, NAMESPACE, SECRET, follower, WAIT).await });
    soon(|| certificate.is_present()).await;

    let began = Instant::now();
    put(&server, &renewed, "authority 1");
    soon(|| serves(&certificate, &renewed)).await;
    assert!(
        began.elapsed() < WAIT,
        "under the same authority nothing waits"
    );

    let began = Instant::now();
    put(&server, &other, "authority 2");
    soon(|| serves(&certificate, &other)).await;
    assert!(began.elapsed() >= WAIT, "after {:?}", began.elapsed());

    // One that comes and goes within the time is never served.
    put(&server, &first, "authority 3");
    put(&server, &renewed, "authority 2");
    soon(|| serves(&certificate, &renewed)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_two_authorities_in_a_row_waits_for_the_whole_time() {
    const WAIT: Duration = Duration::from_secs(2);
    let server = ApiServer::default();
    let (first, second, third) = (pair(), pair(), pair());
    put(&server, &first, "authority 1");
    let certificate = SwappableCertificate::default();
    let (api, follower) = (server.client(), certificate.clone());
    tokio::spawn(async move { follow_secret_with(api, NAMESPACE, SECRET, follower, WAIT).await });
    soon(|| certificate.is_present()).await;

    put(&server, &second, "authority 2");
    // Most of the second's time passes, and none of the third's.
    tokio::time::sleep(WAIT * 3 / 4).await;
    let began = Instant::now();
    put(&server, &third, "authority 3");
    soon(|| serves(&certificate, &third)).await;
    assert!(began.elapsed() >= WAIT, "after {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_leaving_tells_clients_to_come_back_on_another_connection() {
    let server = ApiServer::default();
    let pair = pair();
    let certificate = SwappableCertificate::default();
    certificate
        .replace(pair.chain.as_bytes(), pair.key.as_bytes())
        .unwrap();
    let readiness = Readiness::default();
    let figures = Figures::registered(&mut Registry::default());
    let webhook = Webhook::new(
        &server.client(),
        Scope {
            namespace: NAMESPACE.to_owned(),
            class: None,
        },
        certificate,
        figures,
        &readiness,
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let served = tokio::spawn(webhook.serve(listener, stop.clone(), Duration::from_secs(2)));
    soon(|| readiness.is_ready()).await;

    let mut stream = connect(address, &pair);
    let asked = tokio::task::spawn_blocking(move || {
        let before = ask(&mut stream);
        (stream, before)
    });
    let (mut stream, before) = asked.await.unwrap();
    assert!(!before.contains("connection: close"), "{before}");

    stop.cancel();
    soon(|| !readiness.is_ready()).await;
    let after = tokio::task::spawn_blocking(move || {
        let answer = ask(&mut stream);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "the connection is over");
        answer
    });
    let after = after.await.unwrap();
    assert!(after.contains("connection: close"), "{after}");
    served.await.unwrap().unwrap();
}

fn connect(address: SocketAddr, trusted: &Pair) -> StreamOwned<ClientConnection, TcpStream> {
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    StreamOwned::new(client(trusted), tcp)
}

/// Asks for a page that is not there; returns the head of the answer, which is all of it.
fn ask(stream: &mut StreamOwned<ClientConnection, TcpStream>) -> String {
    write!(stream, "GET /nowhere HTTP/1.1\r\nhost: {HOST}\r\n\r\n").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    String::from_utf8(head).unwrap()
}

/// Where OLM mounts a certificate, kubelets exchange the files.
#[tokio::test(start_paused = true)]
async fn a_folder_is_read_again_and_a_half_written_one_changes_nothing() {
    let folder = std::env::temp_dir().join(format!("ferrolb-certificate-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let write = |pair: &Pair| {
        std::fs::write(folder.join("tls.crt"), &pair.chain).unwrap();
        std::fs::write(folder.join("tls.key"), &pair.key).unwrap();
    };
    let (first, second) = (pair(), pair());
    let certificate = SwappableCertificate::default();
    tokio::spawn(follow_folder(folder.clone(), certificate.clone()));
    assert!(!certificate.is_present(), "the folder is empty");
    write(&first);
    soon(|| certificate.is_present()).await;
    std::fs::write(folder.join("tls.crt"), &second.chain).unwrap();
    // It is read every 30 s, of a clock that runs as fast as it is waited for.
    tokio::time::sleep(Duration::from_secs(70)).await;
    assert!(
        serves(&certificate, &first),
        "chain and key do not belong together"
    );
    write(&second);
    tokio::time::sleep(Duration::from_secs(70)).await;
    assert!(serves(&certificate, &second));
    std::fs::remove_dir_all(&folder).unwrap();
}
