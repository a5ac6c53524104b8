//! Figures for Prometheus: the process registers them, `/metrics` shows them.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;

/// What prometheus-client writes; Prometheus has understood it since 2.5.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `/metrics` of a registry. Build the registry first: it cannot change any more, only its figures can.
pub fn router(registry: Arc<Registry>) -> Router {
    Router::new()
        .route("/metrics", get(show))
        .with_state(registry)
}

async fn show(State(registry): State<Arc<Registry>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("a figure cannot be written: {error}\n"),
        )
            .into_response(),
    }
}
