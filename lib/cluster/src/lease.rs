//! Which replica writes: leader election on one `coordination.k8s.io` Lease.
//!
//! The rules, each because its absence has let two leaders write at once somewhere:
//! - Age is measured on our monotonic clock since we first saw a resourceVersion, never by comparing wall clocks.
//! - Every write of the Lease names the resourceVersion that it is based on.
//! - A renewal counts from the moment before its request was sent.
//! - Requests are shorter than the lease minus the renew deadline, so none of a deposed leader arrives late.
//! - At the renew deadline the process is told to exit; a new one starts as a follower.

mod decide;
mod run;

pub use decide::{Action, Elector, LeaseView, Timing, TimingError};
pub use run::{Election, Ended, Leadership, Role};
