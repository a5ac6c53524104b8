//! A receiver of traces: just enough of OTLP over gRPC to collect the spans that FerroLB exports.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use http::{HeaderMap, HeaderValue, Request, Response};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

/// Where collectors listen (OTLP over gRPC).
pub const PORT: u16 = 4317;

/// One span, with what the scenarios look at.
#[derive(Clone, Debug)]
pub struct Span {
    pub trace: Vec<u8>,
    pub service: String,
    pub name: String,
    /// The attributes that are text.
    pub attributes: BTreeMap<String, String>,
}

/// Collects spans for as long as it lives.
pub struct Receiver {
    spans: Arc<Mutex<Vec<Span>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Receiver {
    /// Listens in the namespace of the threads of this runtime.
    pub fn start(runtime: &Handle, address: SocketAddr) -> Result<Self> {
        let listener = runtime
            .block_on(TcpListener::bind(address))
            .with_context(|| format!("listen on {address}"))?;
        let spans = Arc::new(Mutex::new(Vec::new()));
        let collected = spans.clone();
        let task = runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, collected.clone()));
            }
        });
        Ok(Self { spans, task })
    }

    pub fn spans(&self) -> Vec<Span> {
        self.spans
            .lock()
            .map(|spans| spans.clone())
            .unwrap_or_default()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, spans: Arc<Mutex<Vec<Span>>>) -> Result<()> {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(next) = connection.accept().await {
        let (request, respond) = next?;
        tokio::spawn(export(request, respond, spans.clone()));
    }
    Ok(())
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes
        .into_iter()
        .filter_map(|attribute| match attribute.value?.value? {
            any_value::Value::StringValue(text) => Some((attribute.key, text)),
            _ => None,
        })
        .collect()
}

/// One call: a request of length-prefixed messages, an empty answer, the status in the trailers (gRPC over HTTP/2).
async fn export(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<prost::bytes::Bytes>,
    spans: Arc<Mutex<Vec<Span>>>,
) -> Result<()> {
    let mut body = request.into_body();
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        bytes.extend_from_slice(&chunk);
    }
    // One byte "compressed", four bytes length; clients of the lab do not compress.
    let message =
        ExportTraceServiceRequest::decode(bytes.get(5..).context("the call carries no message")?)?;
    let mut found = Vec::new();
    for resource in message.resource_spans {
        let attributes = resource.resource.map(|r| r.attributes).unwrap_or_default();
        let service = texts(attributes).remove("service.name").unwrap_or_default();
        for span in resource.scope_spans.into_iter().flat_map(|s| s.spans) {
            found.push(Span {
                trace: span.trace_id,
                service: service.clone(),
                name: span.name,
                attributes: texts(span.attributes),
            });
        }
    }
    if let Ok(mut all) = spans.lock() {
        all.extend(found);
    }
    let answer = Response::builder()
        .status(200)
        .header("content-type", "application/grpc")
        .body(())?;
    let mut stream = respond.send_response(answer, false)?;
    stream.send_data(prost::bytes::Bytes::from_static(&[0; 5]), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers)?;
    Ok(())
}
