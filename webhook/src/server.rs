//! The HTTP side: one path per kind, bounded in size and time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use ferrolb_serving::telemetry::is_sampled;
use ferrolb_serving::{set_parent_from_traceparent, traceparent_of};
use serde_json::Value;
use tokio::sync::Semaphore;
use tower_http::timeout::TimeoutLayer;

use crate::convert;
use crate::judge::{Scope, judge};
use crate::kind::Kind;
use crate::mutate;
use crate::review::{Answer, Question};
use crate::run::Figures;
use crate::snapshot::Snapshot;

/// An AdmissionReview holds an object twice, and etcd takes objects up to 1.5 MiB by default. A ConversionReview holds all
/// objects of a list; there is one BGPPeer per router, so that 7 MiB are thousands.
const BODY_AT_MOST: usize = 7 * 1024 * 1024;
/// Answers take microseconds; this bounds a body that arrives too slowly. The API server waits 10 s by default.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Characters of a refusal in the log.
const LOGGED_AT_MOST: usize = 2000;

/// A body up to so many bytes is a usual one: an AdmissionReview of a pool takes two kilobytes.
const USUAL_BODY: usize = 64 * 1024;
/// Usual bodies that are read and answered at a time. JSON takes up to twenty times its length in memory.
const USUAL_AT_ONCE: usize = 64;

/// Bounds the memory that bodies take, however many come at a time: many usual ones, and one that is larger, or of unknown
/// length. Who waits longer than an answer may take is told so.
#[derive(Clone)]
struct Room {
    usual: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        Room {
            usual: Arc::new(Semaphore::new(USUAL_AT_ONCE)),
            large: Arc::new(Semaphore::new(1)),
        }
    }
}

async fn admit(State(room): State<Room>, request: Request, next: Next) -> Response {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let room = match length {
        Some(length) if length <= USUAL_BODY => &room.usual,
        _ => &room.large,
    };
    // Nobody closes them.
    let Ok(_place) = room.acquire().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    next.run(request).await
}

/// What an answer needs.
#[derive(Clone)]
pub struct Context {
    /// What new objects are judged beside.
    pub snapshot: Snapshot,
    /// Whose objects count.
    pub scope: Arc<Scope>,
    /// What is counted.
    pub figures: Figures,
}

/// The paths of reference 2.1, and our own.
pub fn router(context: Context) -> Router {
    let mut router = Router::new();
    for kind in Kind::ALL {
        router = router.route(
            &kind.path(),
            post(
                move |context: State<Context>, headers: HeaderMap, body: Bytes| async move {
                    validate(kind, &context, &headers, &body)
                },
            ),
        );
    }
    router
        .route(
            mutate::PATH,
            post(
                |context: State<Context>, headers: HeaderMap, body: Bytes| async move {
                    annotate(&context, &headers, &body)
                },
            ),
        )
        .route(
            convert::PATH,
            post(|body: Bytes| async move { converted(&body) }),
        )
        .layer(middleware::from_fn_with_state(Room::default(), admit))
        .layer(DefaultBodyLimit::max(BODY_AT_MOST))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            ANSWER_WITHIN,
        ))
        .with_state(context)
}

/// The trace of whoever applied the object, which the API server continues when its tracing is on.
fn traceparent(headers: &HeaderMap) -> Option<&str> {
    headers.get("traceparent")?.to_str().ok()
}

fn validate(kind: Kind, context: &Context, headers: &HeaderMap, body: &[u8]) -> Response {
    let span = tracing::info_span!(
        "admission",
        kind = kind.name(),
        object = tracing::field::Empty,
        allowed = tracing::field::Empty
    );
    if let Some(traceparent) = traceparent(headers) {
        set_parent_from_traceparent(&span, traceparent);
    }
    let _entered = span.enter();
    let began = Instant::now();
    let question = match Question::parse(body) {
        Ok(question) => question,
        Err(error) => return unreadable(&error),
    };
    let Some(known) = context.snapshot.known() else {
        // No answer is better than one that overlooks an overlap; failurePolicy decides.
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "the objects of this cluster are not listed yet\n",
        )
            .into_response();
    };
    let answer = judge(kind, &question, &known, &context.scope);
    let object = format!("{}/{}", question.namespace, question.name);
    span.record("object", &object);
    span.record("allowed", answer.allows());
    context
        .figures
        .answered(kind, answer.allows(), began.elapsed());
    if let Some(mut reason) = answer.refusal() {
        // It quotes what somebody wrote, which may be a megabyte.
        if let Some((end, _)) = reason.char_indices().nth(LOGGED_AT_MOST) {
            reason.truncate(end);
        }
        tracing::info!(kind = kind.name(), %object, operation = ?question.operation, reason, "refused");
    }
    review(&answer, &question)
}

/// Leaves the trace on a Service: the part of it that this process is, or what came in where this process sends none.
fn annotate(context: &Context, headers: &HeaderMap, body: &[u8]) -> Response {
    let question = match Question::parse(body) {
        Ok(question) => question,
        Err(error) => return unreadable(&error),
    };
    let incoming = traceparent(headers).filter(|traceparent| is_sampled(traceparent));
    let left = incoming.map(|incoming| {
        let object = format!("{}/{}", question.namespace, question.name);
        let span = tracing::info_span!("admission", kind = "Service", object);
        set_parent_from_traceparent(&span, incoming);
        traceparent_of(&span).unwrap_or_else(|| incoming.to_owned())
    });
    let class = context.scope.class.as_deref();
    review(
        &mutate::annotate(&question, left.as_deref(), class),
        &question,
    )
}

fn converted(body: &[u8]) -> Response {
    match convert::answer(body) {
        Ok(answer) => json(&answer),
        Err(error) => unreadable(&error),
    }
}

fn review(answer: &Answer, question: &Question) -> Response {
    json(&answer.to_review(&question.uid))
}

fn json(answer: &Value) -> Response {
    (
        [(header::CONTENT_TYPE, "application/json")],
        answer.to_string(),
    )
        .into_response()
}

fn unreadable(error: &impl std::error::Error) -> Response {
    (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response()
}
