//! Spans leave a process over OTLP/gRPC, the last ones at its end.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Response};
use axum::routing::post;
use ferrolb_serving::{LogLevel, Telemetry, set_parent_from_traceparent};
use http_body_util::{BodyExt, Full};

const TRACE: [u8; 4] = [0x0a, 0xf7, 0x65, 0x19];
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The process under test: run by the test below with an endpoint in its environment, which a test cannot set for
/// itself.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by the other test as a process of its own"]
async fn a_process_that_traces() {
    let telemetry = Telemetry::start("ferrolb-test", LogLevel::None).unwrap();
    if telemetry.exports() {
        let span = tracing::info_span!(target: "ferrolb_test", "decide", service = "default/web");
        set_parent_from_traceparent(&span, PARENT);
        span.in_scope(|| tracing::info_span!(target: "hyper", "not ours").in_scope(|| ()));
        drop(span);
    }
    telemetry.shutdown().await;
}

/// A collector that keeps what it is sent; one gRPC method, answered with an empty message.
async fn collector() -> (String, Arc<Mutex<Vec<Bytes>>>) {
    let received: Arc<Mutex<Vec<Bytes>>> = Arc::default();
    let kept = received.clone();
    let export = move |body: Bytes| async move {
        kept.lock().unwrap().push(body);
        let trailers =
            HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
        let message =
            Full::new(Bytes::from_static(&[0; 5])).with_trailers(async { Some(Ok(trailers)) });
        Response::builder()
            .header("content-type", "application/grpc")
            .body(Body::new(message))
            .unwrap()
    };
    let app = Router::new().route(
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        post(export),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (format!("http://{address}"), received)
}

async fn run(endpoint: Option<&str>) {
    let mut process = tokio::task::spawn_blocking({
        let endpoint = endpoint.map(str::to_owned);
        move || {
            let mut command = std::process::Command::new(std::env::current_exe().unwrap());
            command
                .args(["--exact", "a_process_that_traces", "--include-ignored"])
                .stdout(std::process::Stdio::null());
            command.env_remove("OTEL_EXPORTER_OTLP_ENDPOINT");
            command.envs(endpoint.map(|endpoint| ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)));
            command.spawn().unwrap()
        }
    })
    .await
    .unwrap();
    let status = tokio::task::spawn_blocking(move || process.wait().unwrap())
        .await
        .unwrap();
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn our_spans_reach_the_collector_in_the_trace_they_continue() {
    let (endpoint, received) = collector().await;
    run(Some(&endpoint)).await;
    let all = received.lock().unwrap().concat();
    let holds = |part: &[u8]| all.windows(part.len()).any(|window| window == part);
    assert!(holds(b"decide") && holds(b"ferrolb-test") && holds(b"default/web") && holds(&TRACE));
    assert!(!holds(b"not ours"), "spans of libraries stay inside");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_endpoint_nothing_leaves() {
    let (_, received) = collector().await;
    run(None).await;
    assert!(received.lock().unwrap().is_empty());
}
