//! The webhook's certificates: made, renewed and published, with no outside help; or those of others, published.

mod authority;
mod bundle;
mod decide;
mod keep;
mod targets;

pub use authority::Authority;
pub use bundle::{Bundle, Due, IssueError};
pub use keep::{CertificateNames, keep};
