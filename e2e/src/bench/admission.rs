//! How long does an admission review take over TLS, and does the webhook grow?

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use super::rows::{Rows, at_most};
use super::subject::{account_kubeconfig, resident};
use crate::cluster::{SYSTEM, Site};
use crate::host;
use crate::image::product_binaries;
use crate::plan::CONTROL_PLANE;
use crate::run::repository;

/// Pools in the snapshot, and as many peers.
const OBJECTS: usize = 1000;
/// Connections that stay open, as API servers keep theirs.
const CONNECTIONS: usize = 32;
/// Reviews in all.
const REVIEWS: usize = 100_000;
/// Reviews a second over all connections; an API server that is busy with such objects alone sends a few hundred.
const RATE: usize = 2000;
/// Until the webhook has listed everything.
const PATIENCE: Duration = Duration::from_secs(60);
const ADDRESS: &str = "127.0.0.1:9443";
const NAME: &str = "metallb-webhook-service.metallb-system.svc";

/// Starts the webhook beside many objects, asks, and adds what came out. No other program of ours runs.
pub fn measure(site: &Site, rows: &mut Rows) -> Result<()> {
    println!(
        "{OBJECTS} pools and {OBJECTS} peers, then {REVIEWS} reviews over {CONNECTIONS} connections"
    );
    create(site, "v1beta1", "ipaddresspools", |index| {
        json!({"kind": "IPAddressPool", "apiVersion": "metallb.io/v1beta1",
            "metadata": {"name": format!("pool-{index}"), "namespace": SYSTEM},
            "spec": {"addresses": [format!("10.{}.{}.0/25", 200 + index / 250, index % 250)], "autoAssign": false}})
    })?;
    create(site, "v1beta2", "bgppeers", |index| {
        json!({"kind": "BGPPeer", "apiVersion": "metallb.io/v1beta2",
            "metadata": {"name": format!("peer-{index}"), "namespace": SYSTEM},
            "spec": {"myASN": 64512, "peerASN": 64513, "peerAddress": format!("192.168.{}.{}", index / 250, index % 250 + 1)}})
    })?;
    let folder = site.run.directory.join("webhook-certificate");
    fs::create_dir_all(&folder)?;
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([NAME.to_owned()])?;
    fs::write(folder.join("tls.crt"), cert.pem())?;
    fs::write(folder.join("tls.key"), signing_key.serialize_pem())?;
    let account = repository().join("config/webhook/rbac.yaml");
    site.kubectl(&["apply", "-f", &account.display().to_string()])?;
    let kubeconfig = account_kubeconfig(site, "ferrolb-webhook")?;
    let mut webhook = site.run.daemon(
        "bench-webhook",
        CONTROL_PLANE.name,
        product_binaries().join("ferrolb-webhook"),
        vec![
            format!("--kubeconfig={kubeconfig}"),
            format!("--namespace={SYSTEM}"),
            format!("--cert-dir={}", folder.display()),
            "--log-level=warn".to_owned(),
        ],
    );
    webhook.start()?;
    host::wait_until("the webhook is ready", PATIENCE, || {
        Ok(super::restart::says_ready("127.0.0.1:17472/readyz"))
    })?;
    let before = resident(&webhook)?;
    let trusted = cert.der().clone();
    // The first reviews fill whatever is filled once.
    let warm = ask(&trusted, REVIEWS / 10, Some(RATE))?;
    ensure!(
        warm.refused > 0 && warm.allowed > 0,
        "both verdicts are asked for"
    );
    let warmed = resident(&webhook)?;
    let paced = ask(&trusted, REVIEWS, Some(RATE))?;
    let after = resident(&webhook)?;
    let flat_out = ask(&trusted, REVIEWS / 2, None)?;
    // While one object is set aside, what an object depends on is read anew for each review.
    let overlapping = json!({"kind": "IPAddressPool", "apiVersion": "metallb.io/v1beta1",
        "metadata": {"name": "overlapping", "namespace": SYSTEM}, "spec": {"addresses": ["10.200.0.0/24"]}});
    site.create(
        &format!("/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/ipaddresspools"),
        &overlapping,
    )?;
    let set_aside = ask(&trusted, REVIEWS / 10, Some(RATE / 10))?;
    println!(
        "  resident memory: {before:.1} MB when ready, {warmed:.1} MB warm, {after:.1} MB after {REVIEWS} reviews"
    );
    let beside = format!(
        "admission review over TLS, {OBJECTS} pools, {OBJECTS} peers, {CONNECTIONS} connections, {RATE}/s"
    );
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    rows.add(
        &format!("{beside}: p50"),
        ms(paced.percentile(50)),
        "ms",
        at_most(0.5),
    );
    rows.add(
        &format!("{beside}: p99"),
        ms(paced.percentile(99)),
        "ms",
        at_most(2.0),
    );
    rows.add(
        &format!("the same with a pool set aside, {}/s: p50", RATE / 10),
        ms(set_aside.percentile(50)),
        "ms",
        None,
    );
    rows.add(
        &format!("reviews a second over {CONNECTIONS} connections, as many as go"),
        (REVIEWS / 2) as f64 / flat_out.took.as_secs_f64(),
        "/s",
        None,
    );
    rows.add(
        &format!("resident memory of the webhook, {OBJECTS} pools, {OBJECTS} peers"),
        after,
        "MB",
        at_most(25.0),
    );
    rows.add(
        &format!("growth of the webhook over {REVIEWS} reviews"),
        after - warmed,
        "MB",
        at_most(1.0),
    );
    webhook.kill()
}

fn create(site: &Site, version: &str, plural: &str, object: impl Fn(usize) -> Value) -> Result<()> {
    let path = format!("/apis/metallb.io/{version}/namespaces/{SYSTEM}/{plural}");
    let objects: Vec<Value> = (0..OBJECTS).map(object).collect();
    site.runtime().block_on(async {
        stream::iter(objects)
            .map(|object| {
                let request = http::Request::post(&path)
                    .header("content-type", "application/json")
                    .body(object.to_string().into_bytes());
                async {
                    site.client
                        .request::<Value>(request?)
                        .await
                        .map_err(anyhow::Error::from)
                }
            })
            .buffer_unordered(16)
            .try_for_each(|_| async { Ok(()) })
            .await
    })
}

/// What a run of reviews showed.
struct Asked {
    times: Vec<Duration>,
    took: Duration,
    allowed: usize,
    refused: usize,
}

impl Asked {
    /// The nearest rank.
    fn percentile(&self, share: usize) -> Duration {
        let rank = (self.times.len() * share).div_ceil(100).max(1);
        self.times.get(rank - 1).copied().unwrap_or_default()
    }
}

/// Asks `count` times over all connections. At a rate, each question has its moment; if the answer before it came later than
/// that, its time counts from its moment, so that a webhook that falls behind is seen to.
fn ask(trusted: &CertificateDer<'static>, count: usize, rate: Option<usize>) -> Result<Asked> {
    let began = Instant::now();
    let workers: Vec<_> = (0..CONNECTIONS)
        .map(|worker| {
            let trusted = trusted.clone();
            thread::spawn(move || ask_alone(trusted, worker, count / CONNECTIONS, rate, began))
        })
        .collect();
    let mut asked = Asked {
        times: Vec::with_capacity(count),
        took: Duration::ZERO,
        allowed: 0,
        refused: 0,
    };
    for worker in workers {
        let (times, allowed) = worker
            .join()
            .map_err(|_| anyhow::anyhow!("a client ended early"))??;
        asked.allowed += allowed;
        asked.refused += times.len() - allowed;
        asked.times.extend(times);
    }
    asked.took = began.elapsed();
    asked.times.sort_unstable();
    Ok(asked)
}

/// One connection: the time of each answer, and how many were allowed.
fn ask_alone(
    trusted: CertificateDer<'static>,
    worker: usize,
    count: usize,
    rate: Option<usize>,
    began: Instant,
) -> Result<(Vec<Duration>, usize)> {
    let mut connection = connect(trusted)?;
    let requests: Vec<Vec<u8>> = (0..4).map(|kind| request(worker * 4 + kind)).collect();
    let step = rate.map(|rate| Duration::from_secs_f64(CONNECTIONS as f64 / rate as f64));
    let offset = step.map(|step| step.mul_f64(worker as f64 / CONNECTIONS as f64));
    let (mut times, mut allowed) = (Vec::with_capacity(count), 0);
    for (turn, request) in requests.iter().cycle().take(count).enumerate() {
        let mut from = Instant::now();
        if let (Some(step), Some(offset)) = (step, offset) {
            let due = began + offset + step * u32::try_from(turn)?;
            if let Some(early) = due.checked_duration_since(from) {
                thread::sleep(early);
                from = Instant::now();
            } else {
                from = due;
            }
        }
        connection.write_all(request)?;
        let answer = read_answer(&mut connection)?;
        times.push(from.elapsed());
        allowed += usize::from(answer.contains("\"allowed\":true"));
    }
    Ok((times, allowed))
}

type Connection = StreamOwned<ClientConnection, TcpStream>;

fn connect(trusted: CertificateDer<'static>) -> Result<Connection> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tls = ClientConnection::new(Arc::new(config), NAME.try_into()?)?;
    let address: SocketAddr = ADDRESS.parse()?;
    let tcp = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(StreamOwned::new(tls, tcp))
}

/// A review as an API server sends it: a new pool or peer, every second of which contradicts one that is there.
fn request(number: usize) -> Vec<u8> {
    let bad = number % 2 == 1;
    let (kind, version, path, spec) = if number % 4 < 2 {
        let third = if bad { 200 } else { 100 };
        (
            "IPAddressPool",
            "v1beta1",
            "/validate-metallb-io-v1beta1-ipaddresspool",
            json!({"addresses": [format!("10.{third}.{}.0/24", number % 250)]}),
        )
    } else {
        let third = if bad { 168 } else { 169 };
        (
            "BGPPeer",
            "v1beta2",
            "/validate-metallb-io-v1beta2-bgppeer",
            json!({"myASN": 64512, "peerASN": 64513, "peerAddress": format!("192.{third}.0.{}", number % 250 + 1)}),
        )
    };
    let object = json!({
        "apiVersion": format!("metallb.io/{version}"), "kind": kind,
        "metadata": {
            "name": format!("new-{number}"), "namespace": SYSTEM,
            "managedFields": [{"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {".": {}, "f:addresses": {}}}}],
        },
        "spec": spec,
    });
    let body = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": "CREATE",
            "kind": {"group": "metallb.io", "version": version, "kind": kind},
            "name": object["metadata"]["name"], "namespace": SYSTEM,
            "userInfo": {"username": "admin", "groups": ["system:authenticated"]},
            "object": object, "oldObject": null, "dryRun": false,
        },
    })
    .to_string();
    let head = format!(
        "POST {path}?timeout=5s HTTP/1.1\r\nhost: {NAME}:443\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes()
}

/// The body of the next answer.
fn read_answer(connection: &mut Connection) -> Result<String> {
    let mut read = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = connection.read(&mut piece)?;
        ensure!(count > 0, "the webhook closed the connection");
        read.extend_from_slice(piece.get(..count).unwrap_or_default());
        let text = std::str::from_utf8(&read)?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        ensure!(
            head.starts_with("HTTP/1.1 200"),
            "the webhook answers {text}"
        );
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .context("an answer without a length")?;
        if body.len() >= length.parse()? {
            return Ok(body.to_owned());
        }
    }
}
