//! Which certificate is served while the Secret changes, and how connections end with the process.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Pair, Site, ask, client, connect, followed, pair, put_certificate, soon};
use ferrolb_serving::tls::{SwappableCertificate, server_config};
use ferrolb_testing::ApiServer;
use ferrolb_webhook::certificate::follow_folder;
use rustls::ServerConnection;

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

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_waits_until_that_authority_can_be_known() {
    const WAIT: Duration = Duration::from_secs(2);
    let server = ApiServer::default();
    let (first, renewed, other) = (pair(), pair(), pair());
    put_certificate(&server, &first, "authority 1");
    let certificate = followed(&server, WAIT);
    soon(|| certificate.is_present()).await;

    let began = Instant::now();
    put_certificate(&server, &renewed, "authority 1");
    soon(|| serves(&certificate, &renewed)).await;
    assert!(
        began.elapsed() < WAIT,
        "under the same authority nothing waits"
    );

    let began = Instant::now();
    put_certificate(&server, &other, "authority 2");
    soon(|| serves(&certificate, &other)).await;
    assert!(began.elapsed() >= WAIT, "after {:?}", began.elapsed());

    // One that comes and goes within the time is never served.
    let began = Instant::now();
    put_certificate(&server, &first, "authority 3");
    while began.elapsed() < WAIT / 2 {
        assert!(serves(&certificate, &other), "after {:?}", began.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    put_certificate(&server, &renewed, "authority 2");
    soon(|| {
        assert!(!serves(&certificate, &first));
        serves(&certificate, &renewed)
    })
    .await;
    while began.elapsed() < WAIT * 3 / 2 {
        assert!(
            serves(&certificate, &renewed),
            "after {:?}",
            began.elapsed()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_two_authorities_in_a_row_waits_for_the_whole_time() {
    const WAIT: Duration = Duration::from_secs(2);
    let server = ApiServer::default();
    let (first, second, third) = (pair(), pair(), pair());
    put_certificate(&server, &first, "authority 1");
    let certificate = followed(&server, WAIT);
    soon(|| certificate.is_present()).await;

    put_certificate(&server, &second, "authority 2");
    // Most of the second's time passes, and none of the third's.
    tokio::time::sleep(WAIT * 3 / 4).await;
    let began = Instant::now();
    put_certificate(&server, &third, "authority 3");
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
    let site = Site::serving(&server, certificate, Duration::from_secs(2)).await;
    site.ready().await;

    let mut stream = connect(site.address, &pair).unwrap();
    assert_eq!(site.figure("ferrolb_webhook_connections"), "1");
    let asked = tokio::task::spawn_blocking(move || {
        let before = ask(&mut stream);
        (stream, before)
    });
    let (mut stream, before) = asked.await.unwrap();
    assert!(!before.contains("connection: close"), "{before}");

    site.stop.cancel();
    soon(|| !site.readiness.is_ready()).await;
    let after = tokio::task::spawn_blocking(move || {
        let answer = ask(&mut stream);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "the connection is over");
        answer
    });
    let after = after.await.unwrap();
    assert!(after.contains("connection: close"), "{after}");
    site.served.await.unwrap().unwrap();
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
