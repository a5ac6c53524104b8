//! What was decided, as values.

use std::net::IpAddr;

use ferrolb_allocation::EventKind;
use ferrolb_api::ObjectKey;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// Something to carry out for one Service.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write addresses and conditions into the status, and the pool beside them.
    WriteStatus {
        /// The Service.
        key: ObjectKey,
        /// The version that this was decided on: the write is refused where the Service has another by then.
        resource_version: String,
        /// Empty takes the addresses away.
        addresses: Vec<IpAddr>,
        /// The pool that they are from.
        pool: Option<String>,
        /// All conditions of the Service; `None` where they stay as they are.
        conditions: Option<Vec<Condition>>,
        /// The trace that this decision belongs to.
        span: SpanOf,
    },
    /// Tell the owner of the Service.
    Say {
        /// The Service.
        key: ObjectKey,
        /// Its uid.
        uid: String,
        /// What happened.
        kind: EventKind,
        /// A sentence.
        message: String,
    },
}

/// The span that an effect belongs to; carries no meaning for what is decided, so all are equal.
#[derive(Clone, Debug)]
pub struct SpanOf(pub tracing::Span);

impl PartialEq for SpanOf {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for SpanOf {}
