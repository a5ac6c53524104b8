//! What a server answers to peers that speak an older TLS, or wait between their requests.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use axum::Router;
use ferrolb_serving::tls::{SwappableCertificate, server_config};
use ferrolb_serving::{Places, https};
use prometheus_client::registry::Registry;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

async fn serve() -> SocketAddr {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["ferrolb.test".to_owned()]).unwrap();
    let certificate = SwappableCertificate::default();
    certificate
        .replace(
            cert.pem().as_bytes(),
            signing_key.serialize_pem().as_bytes(),
        )
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(https::serve(
        listener,
        Router::new(),
        server_config(certificate).unwrap(),
        Places::registered(&mut Registry::default(), "test", 8),
        CancellationToken::new(),
        Duration::from_secs(1),
    ));
    address
}

/// The ClientHello of a client that knows no TLS newer than this (RFC 4346, section 7.4.1.2).
fn client_hello(minor: u8) -> Vec<u8> {
    let mut hello = vec![3, minor];
    hello.extend([7; 32]); // random
    hello.push(0); // no session
    // ECDHE with ECDSA or RSA, AES: of TLS 1.2 with GCM and of older ones with CBC.
    let suites = [0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x09, 0xc0, 0x13, 0x00, 0x2f];
    hello.extend([0, suites.len() as u8]);
    hello.extend(suites);
    hello.extend([1, 0]); // no compression
    let extensions = [
        &[0, 10, 0, 4, 0, 2, 0, 23][..], // supported_groups: secp256r1
        &[0, 11, 0, 2, 1, 0],            // ec_point_formats: uncompressed
        &[0, 13, 0, 4, 0, 2, 4, 3],      // signature_algorithms: ecdsa_secp256r1_sha256
    ]
    .concat();
    hello.extend([0, extensions.len() as u8]);
    hello.extend(extensions);
    let mut message = vec![1, 0, 0, hello.len() as u8];
    message.extend(hello);
    let mut record = vec![22, 3, 1, 0, message.len() as u8];
    record.extend(message);
    record
}

/// The first record of the answer: its type and the first two bytes of its content.
async fn answer(address: SocketAddr, hello: Vec<u8>) -> (u8, [u8; 2]) {
    tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream.write_all(&hello).unwrap();
        let mut record = [0; 7];
        stream.read_exact(&mut record).unwrap();
        (record[0], [record[5], record[6]])
    })
    .await
    .unwrap()
}

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const FATAL_PROTOCOL_VERSION: [u8; 2] = [2, 70];

#[tokio::test(flavor = "multi_thread")]
async fn tls_older_than_1_2_is_refused_with_the_alert_that_says_so() {
    let address = serve().await;
    for minor in 0..=2 {
        assert_eq!(
            answer(address, client_hello(minor)).await,
            (ALERT, FATAL_PROTOCOL_VERSION),
            "3.{minor}"
        );
    }
    let (kind, _) = answer(address, client_hello(3)).await;
    assert_eq!(kind, HANDSHAKE, "the same client with TLS 1.2 is served");
}
