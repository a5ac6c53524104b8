//! The webhook's certificates: made, renewed and published, with no outside help.

mod bundle;
mod keep;

pub use bundle::{Bundle, Due, IssueError};
pub use keep::{CertificateNames, keep};
