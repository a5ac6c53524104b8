//! Probes: is this process alive, and is it ready to work?

use std::fmt::Write as _;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

type Condition = Box<dyn Fn() -> bool + Send + Sync>;

/// The named conditions under which a process is ready. Cheap to clone; conditions may be added at any time.
#[derive(Clone, Default)]
pub struct Readiness {
    conditions: Arc<RwLock<Vec<(String, Condition)>>>,
}

impl Readiness {
    /// Adds a condition. `holds` is asked at each probe and must not wait.
    pub fn require(
        &self,
        name: impl Into<String>,
        holds: impl Fn() -> bool + Send + Sync + 'static,
    ) {
        self.conditions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push((name.into(), Box::new(holds)));
    }

    /// The conditions that do not hold; none means ready.
    pub fn missing(&self) -> Vec<String> {
        let conditions = self
            .conditions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        conditions
            .iter()
            .filter(|(_, holds)| !holds())
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Whether every condition holds.
    pub fn is_ready(&self) -> bool {
        self.missing().is_empty()
    }
}

/// `/healthz` answers while the process runs its event loop; `/readyz` once every condition holds, and names those that
/// do not.
pub fn router(readiness: Readiness) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(readiness)
}

async fn readyz(State(readiness): State<Readiness>) -> (StatusCode, String) {
    let missing = readiness.missing();
    if missing.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let mut body = String::new();
    for name in missing {
        let _ = writeln!(body, "not ready: {name}");
    }
    (StatusCode::SERVICE_UNAVAILABLE, body)
}
