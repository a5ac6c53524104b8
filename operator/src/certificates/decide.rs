//! What to do next about the webhook's certificate.
//!
//! A server certificate may be exchanged at once, an authority may not: an API server that has not yet seen the new one would
//! refuse the webhook. So a new authority is first published beside those that were trusted before, then API servers get
//! time to see it, and only then the Secret changes, from which the webhook takes its certificate. The former authorities
//! stay published while webhooks may still serve under them.
//!
//! ```text
//! Secret      old  old  old  new  new  new
//! published   old  o+n  o+n  n+o  n+o  new
//!                  '--SEEN--'    '-OVERLAP-'
//! ```
//!
//! What was published is read back from the cluster, so a process that dies on the way loses nothing but the authority
//! that it was about to use; the next one begins with another.

use std::time::Duration;

use super::authority::{Authority, authorities};
use super::bundle::{Bundle, Due, IssueError};

/// How often expiry is looked at when nothing else happens (reference 5.7).
pub const LOOK_EVERY: Duration = Duration::from_hours(12);
/// How long a new authority is published before anything is signed by it. API servers learn of it by a watch, which takes
/// milliseconds, and seconds where one of them is busy; none that is up stays behind for this long.
pub const SEEN: Duration = Duration::from_secs(10);
/// How long former authorities stay published after the Secret has the new one. Webhooks take the Secret by a watch, and
/// those that mount it within minutes; it ends because a key may have been replaced for having leaked.
pub const OVERLAP: Duration = Duration::from_hours(1);
/// How many former authorities are published beside the present ones.
const FORMER: usize = 2;

/// What the Secret holds.
pub enum Secret {
    /// There is none.
    Absent,
    /// One of ours; `None` if it is empty or cannot be read.
    Ours(Option<Bundle>),
    /// One that somebody else keeps: the authorities of its `ca.crt`. It is never written.
    Others(Vec<Authority>),
}

/// What is known when deciding.
pub struct View<'a> {
    /// The Secret.
    pub secret: &'a Secret,
    /// The authorities in each place where they are to be published.
    pub published: &'a [Vec<Authority>],
    /// The names that the webhook is called by.
    pub dns_names: &'a [String],
    /// Seconds since the epoch.
    pub now: i64,
    /// Time since this process started, which nobody sets.
    pub uptime: Duration,
}

/// What the deciding process remembers. Nothing is lost with it.
#[derive(Default)]
pub struct Memory {
    /// The bundle of a new authority that is not in the Secret yet.
    next: Option<Bundle>,
    /// What is published everywhere, and since when.
    held: Option<(Vec<Authority>, Duration)>,
}

/// What is done next.
pub enum Step {
    /// Write these authorities wherever others stand.
    Publish(Vec<Authority>),
    /// Write this into the Secret.
    Store(Box<Bundle>, Due),
    /// Nothing, for this long unless something changes.
    Rest(Duration),
}

/// Decides.
///
/// # Errors
/// When a certificate cannot be made.
pub fn decide(view: &View<'_>, memory: &mut Memory) -> Result<Step, IssueError> {
    // Without a registration nobody calls, and FerroLB works without its webhook.
    if view.published.is_empty() {
        *memory = Memory::default();
        return Ok(Step::Rest(LOOK_EVERY));
    }
    let wanted = wanted(view, memory)?;
    let Some(wanted) = wanted.filter(|wanted| !wanted.authorities.is_empty()) else {
        return Ok(Step::Rest(LOOK_EVERY));
    };
    let former = former(view, &wanted);
    let trusted = if wanted.signs_anew {
        [former.clone(), wanted.authorities.clone()].concat()
    } else {
        [wanted.authorities.clone(), former.clone()].concat()
    };
    let held = held_for(view, memory, &trusted);
    match (wanted.store, held) {
        // Nobody relies on anything yet, so there is nothing to wait for.
        (Some((bundle, due)), _) if wanted.signs_anew && former.is_empty() => {
            Ok(Step::Store(Box::new(bundle), due))
        }
        (_, None) => Ok(Step::Publish(trusted)),
        (Some(_), Some(held)) if wanted.signs_anew && held < SEEN => Ok(Step::Rest(SEEN - held)),
        (Some((bundle, due)), Some(_)) => Ok(Step::Store(Box::new(bundle), due)),
        (None, Some(_)) if former.is_empty() => Ok(Step::Rest(LOOK_EVERY)),
        (None, Some(held)) if held < OVERLAP => Ok(Step::Rest(OVERLAP - held)),
        (None, Some(_)) => Ok(Step::Publish(wanted.authorities)),
    }
}

/// What shall be, apart from former authorities.
struct Wanted {
    authorities: Vec<Authority>,
    /// What the Secret gets once the authorities are known everywhere.
    store: Option<(Bundle, Due)>,
    /// Whether `store` is signed by an authority that is new.
    signs_anew: bool,
}

fn wanted(view: &View<'_>, memory: &mut Memory) -> Result<Option<Wanted>, IssueError> {
    let due = match view.secret {
        Secret::Others(authorities) => {
            memory.next = None;
            return Ok(Some(Wanted {
                authorities: authorities.clone(),
                store: None,
                signs_anew: false,
            }));
        }
        Secret::Absent => Due::Unusable("there is none".to_owned()),
        Secret::Ours(None) => Due::Unusable("it has not all four entries".to_owned()),
        Secret::Ours(Some(bundle)) => {
            let due = bundle.due(view.dns_names, view.now);
            if matches!(due, None | Some(Due::ServerExpires | Due::OtherName)) {
                memory.next = None;
                let store = match due {
                    Some(due) => Some((bundle.renew_server(view.dns_names, view.now)?, due)),
                    None => None,
                };
                return Ok(Some(Wanted {
                    authorities: authorities(bundle.ca_crt.as_bytes()),
                    store,
                    signs_anew: false,
                }));
            }
            due.unwrap_or(Due::AuthorityExpires)
        }
    };
    let next = match memory.next.take() {
        Some(next) => next,
        None => Bundle::issue(view.dns_names, view.now)?,
    };
    memory.next = Some(next.clone());
    Ok(Some(Wanted {
        authorities: authorities(next.ca_crt.as_bytes()),
        store: Some((next, due)),
        signs_anew: true,
    }))
}

/// The authorities that webhooks may still serve under: that of the Secret, then the published ones in their order. What the
/// Secret has is published first, and what no Secret has yet is published last, so of too many it is the last that are
/// dropped: those of processes that ended before they signed anything.
fn former(view: &View<'_>, wanted: &Wanted) -> Vec<Authority> {
    let stored = match view.secret {
        Secret::Ours(Some(bundle)) => authorities(bundle.ca_crt.as_bytes()),
        _ => Vec::new(),
    };
    let mut former: Vec<Authority> = Vec::new();
    for authority in stored.iter().chain(view.published.iter().flatten()) {
        let known = wanted.authorities.contains(authority) || former.contains(authority);
        if !known && authority.is_alive(view.now) {
            former.push(authority.clone());
        }
    }
    former.truncate(FORMER);
    former
}

/// For how long all places have had exactly these, in this order; `None` if one has others.
fn held_for(view: &View<'_>, memory: &mut Memory, trusted: &[Authority]) -> Option<Duration> {
    if !view.published.iter().all(|place| place == trusted) {
        memory.held = None;
        return None;
    }
    let since = match memory.held.take() {
        Some((held, since)) if held == trusted => since,
        _ => view.uptime,
    };
    memory.held = Some((trusted.to_vec(), since));
    Some(view.uptime.saturating_sub(since))
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
