//! Logs and traces of a process: set up once at its start, flushed at its end.
//!
//! Traces leave over OTLP/gRPC when `OTEL_EXPORTER_OTLP_ENDPOINT` (or its `_TRACES_` variant) is set; sampler, batch
//! sizes and headers follow the standard OTEL_* variables. Without an endpoint there is no layer at all.

use std::collections::HashMap;
use std::time::Duration;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Span;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry};

use crate::flags::LogLevel;
use crate::logging::{JsonLine, filter};

/// How long the last spans may take to leave.
const FLUSH_WITHIN: Duration = Duration::from_secs(5);

/// Why there are no logs or traces.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The OTEL_* variables do not describe an endpoint.
    #[error("preparing the export of traces as the OTEL_* variables ask")]
    Exporter(#[from] ExporterBuildError),
    /// Telemetry was started twice in one process.
    #[error("starting telemetry")]
    Started(#[from] TryInitError),
}

/// Keeps the exporter; call [`Telemetry::shutdown`] before the process ends, or the last spans are lost.
#[derive(Debug)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Starts logging, and tracing if an endpoint is set. Call inside the tokio runtime. `service` becomes
    /// `service.name` unless OTEL_SERVICE_NAME says otherwise.
    pub fn start(service: &str, level: LogLevel) -> Result<Self, TelemetryError> {
        let logs = tracing_subscriber::fmt::layer()
            .event_format(JsonLine)
            .with_filter(filter(level));
        let provider = if endpoint_is_set() {
            Some(provider(service)?)
        } else {
            None
        };
        let traces = provider.as_ref().map(|provider| {
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer("ferrolb"))
                .with_filter(Targets::new().with_target("ferrolb", LevelFilter::INFO))
        });
        Registry::default().with(logs).with(traces).try_init()?;
        Ok(Self { provider })
    }

    /// Whether spans leave this process.
    pub fn exports(&self) -> bool {
        self.provider.is_some()
    }

    /// Sends what is left. Runs beside the runtime's threads: on them the exporter would wait for itself.
    pub async fn shutdown(self) {
        let Some(provider) = self.provider else {
            return;
        };
        let flushed =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_WITHIN)).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

fn endpoint_is_set() -> bool {
    [
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    ]
    .iter()
    .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

fn provider(service: &str) -> Result<SdkTracerProvider, ExporterBuildError> {
    let exporter = SpanExporter::builder().with_tonic().build()?;
    let mut resource = Resource::builder();
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(service.to_owned());
    }
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.build())
        .build())
}

/// The W3C `traceparent` of a span, for an annotation; `None` when the span is not traced.
pub fn traceparent_of(span: &Span) -> Option<String> {
    let context = span.context();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| {
        format!(
            "00-{}-{}-{:02x}",
            span.trace_id(),
            span.span_id(),
            span.trace_flags().to_u8()
        )
    })
}

/// Makes `span` a child of the trace that a `traceparent` names. Must come before the span is entered; a value that is
/// no `traceparent` is ignored, since it comes from an annotation that anybody may have written.
pub fn set_parent_from_traceparent(span: &Span, traceparent: &str) {
    let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    let parent = TraceContextPropagator::new().extract(&carrier);
    if parent.span().span_context().is_valid() {
        // An error means that tracing is off or the span began already: it then stays a trace of its own.
        let _ = span.set_parent(parent);
    }
}

/// Whether a W3C `traceparent` names a trace, and one of which spans are kept.
pub fn is_sampled(traceparent: &str) -> bool {
    let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract(&carrier);
    let span = context.span();
    let span = span.span_context();
    span.is_valid() && span.is_sampled()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn traced<R>(look: impl FnOnce() -> R) -> R {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(Registry::default().with(layer), look)
    }

    #[test]
    fn a_span_continues_the_trace_of_an_annotation() {
        let traceparent = traced(|| {
            let span = tracing::info_span!("allocate");
            set_parent_from_traceparent(&span, PARENT);
            traceparent_of(&span).unwrap()
        });
        assert!(
            traceparent.starts_with("00-0af7651916cd43dd8448eb211c80319c-"),
            "{traceparent}"
        );
        assert!(traceparent.ends_with("-01") && !traceparent.contains("b7ad6b7169203331"));
    }

    #[test]
    fn an_annotation_that_is_no_traceparent_is_ignored() {
        let traceparent = traced(|| {
            let span = tracing::info_span!("allocate");
            set_parent_from_traceparent(&span, "'; drop table traces");
            traceparent_of(&span)
        });
        assert!(traceparent.is_some());
    }

    #[test]
    fn a_trace_that_nobody_keeps_is_not_sampled() {
        for (traceparent, sampled) in [
            (PARENT, true),
            (
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
                false,
            ),
            (
                "00-00000000000000000000000000000000-0000000000000000-01",
                false,
            ),
            ("", false),
        ] {
            assert_eq!(is_sampled(traceparent), sampled, "{traceparent}");
        }
    }

    #[test]
    fn without_tracing_there_is_no_traceparent() {
        assert_eq!(traceparent_of(&tracing::info_span!("allocate")), None);
    }
}
