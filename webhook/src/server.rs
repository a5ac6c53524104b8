//! The HTTP side: one path per kind, bounded in size and time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use ferrolb_serving::set_parent_from_traceparent;
use tower_http::timeout::TimeoutLayer;

use crate::judge::{Kind, judge};
use crate::known::Known;
use crate::review::Question;
use crate::run::Figures;

/// An AdmissionReview holds an object twice, and etcd takes objects up to 1.5 MiB by default.
const BODY_AT_MOST: usize = 7 * 1024 * 1024;
/// Answers take microseconds; this bounds a body that arrives too slowly. The API server waits 10 s by default.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What an answer needs.
#[derive(Clone)]
pub struct Context {
    /// The objects beside which new ones are judged.
    pub known: Known,
    /// The namespace whose objects count.
    pub namespace: Arc<str>,
    /// What is counted.
    pub figures: Figures,
}

/// The paths of reference 2.1.
pub fn router(context: Context) -> Router {
    let mut router = Router::new();
    for kind in Kind::ALL {
        router = router.route(
            &kind.path(),
            post(
                move |context: State<Context>, headers: HeaderMap, body: Bytes| {
                    answer(kind, context, headers, body)
                },
            ),
        );
    }
    router
        .layer(DefaultBodyLimit::max(BODY_AT_MOST))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            ANSWER_WITHIN,
        ))
        .with_state(context)
}

async fn answer(
    kind: Kind,
    State(context): State<Context>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let span = tracing::info_span!(
        "admission",
        kind = kind.name(),
        object = tracing::field::Empty,
        allowed = tracing::field::Empty
    );
    // The API server continues the trace of whoever applied the object, when its tracing is on.
    if let Some(traceparent) = headers
        .get("traceparent")
        .and_then(|value| value.to_str().ok())
    {
        set_parent_from_traceparent(&span, traceparent);
    }
    let _entered = span.enter();
    let began = Instant::now();
    let question = match Question::parse(&body) {
        Ok(question) => question,
        Err(error) => {
            let text = format!(
                "{error}: {}\n",
                std::error::Error::source(&error)
                    .map(ToString::to_string)
                    .unwrap_or_default()
            );
            return (StatusCode::BAD_REQUEST, text).into_response();
        }
    };
    if !context.known.is_complete() {
        // No answer is better than one that overlooks an overlap; failurePolicy decides.
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "the objects of this cluster are not listed yet\n",
        )
            .into_response();
    }
    let answer = judge(kind, &question, &context.known, &context.namespace);
    let object = format!("{}/{}", question.namespace, question.name);
    span.record("object", &object);
    span.record("allowed", answer.allows());
    context
        .figures
        .answered(kind, answer.allows(), began.elapsed());
    if let Some(reason) = answer.refusal() {
        tracing::info!(kind = kind.name(), %object, operation = ?question.operation, reason, "refused");
    }
    (
        [(header::CONTENT_TYPE, "application/json")],
        answer.to_review(&question.uid).to_string(),
    )
        .into_response()
}
