//! What to do about the Lease now. Pure: the Lease as seen and the time come in, one action comes out.

use std::time::{Duration, Instant};

/// How patient leader and followers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    lease: Duration,
    renew_deadline: Duration,
    retry: Duration,
}

/// Times that do not exclude two leaders.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the lease ({lease:?}) must be longer than the renew deadline ({renew_deadline:?}), and that than the retry period ({retry:?})"
)]
pub struct TimingError {
    lease: Duration,
    renew_deadline: Duration,
    retry: Duration,
}

impl Default for Timing {
    /// 15 s, 10 s and 2 s: what Kubernetes' own controllers use.
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

impl Timing {
    /// `lease` passes unrenewed before a follower takes over, `renew_deadline` before the leader gives up, `retry`
    /// between two looks.
    pub fn new(
        lease: Duration,
        renew_deadline: Duration,
        retry: Duration,
    ) -> Result<Self, TimingError> {
        if lease > renew_deadline && renew_deadline > retry && retry > Duration::ZERO {
            Ok(Self {
                lease,
                renew_deadline,
                retry,
            })
        } else {
            Err(TimingError {
                lease,
                renew_deadline,
                retry,
            })
        }
    }

    /// How long an unrenewed lease is respected.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// How long a leader goes on without a successful renewal.
    pub fn renew_deadline(&self) -> Duration {
        self.renew_deadline
    }

    /// The pause between two looks at the Lease.
    pub fn retry(&self) -> Duration {
        self.retry
    }

    /// The bound of each request: a fifth less than what lies between renew deadline and end of the lease.
    pub fn request(&self) -> Duration {
        (self.lease - self.renew_deadline) * 4 / 5
    }
}

/// The Lease as the API server showed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseView {
    /// `spec.holderIdentity`; empty once released.
    pub holder: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// `spec.leaseTransitions`.
    pub transitions: i32,
    /// `spec.leaseDurationSeconds`, which the holder promised to renew within.
    pub lease: Duration,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// There is no Lease: create it with us as holder.
    Create,
    /// Nobody holds it (any more): become holder, if it still has this version.
    Take {
        /// The version that was judged.
        resource_version: String,
        /// The count of transitions to write.
        transitions: i32,
    },
    /// We hold it: say so again, if it still has this version.
    Renew {
        /// The version that we wrote or saw last.
        resource_version: String,
        /// The count of transitions to keep.
        transitions: i32,
    },
    /// Nothing to do for this long; then look again.
    Wait(Duration),
    /// We led and may not go on: exit.
    GiveUp,
}

/// The state of one candidate.
#[derive(Debug, Clone)]
pub struct Elector {
    identity: String,
    timing: Timing,
    seen: Option<Seen>,
    renewed: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Seen {
    view: LeaseView,
    first: Instant,
}

impl Elector {
    /// `identity` must be unique per process start, not only per pod.
    pub fn new(identity: impl Into<String>, timing: Timing) -> Self {
        Self {
            identity: identity.into(),
            timing,
            seen: None,
            renewed: None,
        }
    }

    /// The Lease was read; `None` when there is none.
    pub fn observed(&mut self, view: Option<LeaseView>, now: Instant) {
        match view {
            None => self.seen = None,
            Some(view) => match &mut self.seen {
                Some(seen) if seen.view.resource_version == view.resource_version => {
                    seen.view = view
                }
                _ => self.seen = Some(Seen { view, first: now }),
            },
        }
    }

    /// Our write of the Lease was accepted. `sent` is when its request set out.
    pub fn wrote(&mut self, view: LeaseView, sent: Instant, now: Instant) {
        self.renewed = Some(sent);
        self.observed(Some(view), now);
    }

    /// Until when we lead without another renewal.
    pub fn leads_until(&self) -> Option<Instant> {
        self.renewed
            .map(|renewed| renewed + self.timing.renew_deadline)
    }

    /// The Lease as last seen.
    pub fn seen(&self) -> Option<&LeaseView> {
        self.seen.as_ref().map(|seen| &seen.view)
    }

    /// What to do at `now`.
    pub fn decide(&self, now: Instant) -> Action {
        match self.renewed {
            Some(renewed) => self.as_leader(renewed, now),
            None => self.as_follower(now),
        }
    }

    fn as_leader(&self, renewed: Instant, now: Instant) -> Action {
        // A Lease that somebody deleted or took is not ours to restore: another may lead already.
        let Some(Seen { view, .. }) = self
            .seen
            .as_ref()
            .filter(|seen| seen.view.holder == self.identity)
        else {
            return Action::GiveUp;
        };
        if now >= renewed + self.timing.renew_deadline {
            return Action::GiveUp;
        }
        match (renewed + self.timing.retry).checked_duration_since(now) {
            Some(wait) if !wait.is_zero() => Action::Wait(wait),
            _ => Action::Renew {
                resource_version: view.resource_version.clone(),
                transitions: view.transitions,
            },
        }
    }

    fn as_follower(&self, now: Instant) -> Action {
        let Some(Seen { view, first }) = &self.seen else {
            return Action::Create;
        };
        // Our own name without leadership: a write of ours took effect and its answer was lost.
        let ours = view.holder == self.identity;
        let left = (*first + self.timing.lease.max(view.lease)).saturating_duration_since(now);
        if view.holder.is_empty() || ours || left.is_zero() {
            return Action::Take {
                resource_version: view.resource_version.clone(),
                transitions: if ours {
                    view.transitions
                } else {
                    view.transitions.saturating_add(1)
                },
            };
        }
        Action::Wait(left.min(self.timing.retry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn view(holder: &str, version: u32) -> LeaseView {
        LeaseView {
            holder: holder.into(),
            resource_version: version.to_string(),
            transitions: 3,
            lease: S(15),
        }
    }

    fn elector() -> (Elector, Instant) {
        (Elector::new("me", Timing::default()), Instant::now())
    }

    fn take(version: u32, transitions: i32) -> Action {
        Action::Take {
            resource_version: version.to_string(),
            transitions,
        }
    }

    #[test]
    fn without_a_lease_it_is_created() {
        let (elector, t) = elector();
        assert_eq!(elector.decide(t), Action::Create);
    }

    #[test]
    fn a_released_lease_is_taken_at_once() {
        let (mut elector, t) = elector();
        elector.observed(Some(view("", 7)), t);
        assert_eq!(elector.decide(t), take(7, 4));
    }

    #[test]
    fn a_lease_is_taken_only_when_its_version_stood_still_for_its_whole_length_on_our_clock() {
        let (mut elector, t) = elector();
        elector.observed(Some(view("other", 7)), t);
        assert_eq!(elector.decide(t), Action::Wait(S(2)));
        elector.observed(Some(view("other", 8)), t + S(10));
        elector.observed(Some(view("other", 8)), t + S(14));
        assert_eq!(elector.decide(t + S(24)), Action::Wait(S(1)));
        assert_eq!(elector.decide(t + S(25)), take(8, 4));
    }

    #[test]
    fn a_holder_that_promised_a_longer_lease_is_given_it() {
        let (mut elector, t) = elector();
        elector.observed(
            Some(LeaseView {
                lease: S(60),
                ..view("other", 7)
            }),
            t,
        );
        assert_eq!(elector.decide(t + S(59)), Action::Wait(S(1)));
        assert_eq!(elector.decide(t + S(60)), take(7, 4));
    }

    #[test]
    fn a_lost_answer_to_our_own_take_is_recognised() {
        let (mut elector, t) = elector();
        elector.observed(Some(view("me", 9)), t);
        assert_eq!(elector.decide(t), take(9, 3));
    }

    #[test]
    fn a_leader_renews_every_retry_period_counted_from_when_it_sent() {
        let (mut elector, t) = elector();
        elector.wrote(view("me", 1), t, t + S(1));
        assert_eq!(elector.decide(t + S(1)), Action::Wait(S(1)));
        assert_eq!(
            elector.decide(t + S(2)),
            Action::Renew {
                resource_version: "1".into(),
                transitions: 3
            }
        );
        assert_eq!(elector.leads_until(), Some(t + S(10)));
    }

    #[test]
    fn a_leader_that_cannot_renew_gives_up_at_the_deadline_before_anybody_can_take_over() {
        let (mut elector, t) = elector();
        elector.wrote(view("me", 1), t, t);
        let mut follower = Elector::new("other", Timing::default());
        follower.observed(Some(view("me", 1)), t);
        assert!(matches!(elector.decide(t + S(9)), Action::Renew { .. }));
        assert_eq!(elector.decide(t + S(10)), Action::GiveUp);
        assert!(matches!(follower.decide(t + S(14)), Action::Wait(_)));
        assert!(
            Timing::default().renew_deadline() + Timing::default().request()
                < Timing::default().lease()
        );
    }

    #[test]
    fn a_foreign_edit_of_the_lease_does_not_end_leadership_but_a_foreign_holder_does() {
        let (mut elector, t) = elector();
        elector.wrote(view("me", 1), t, t);
        elector.observed(Some(view("me", 2)), t + S(3));
        assert_eq!(
            elector.decide(t + S(3)),
            Action::Renew {
                resource_version: "2".into(),
                transitions: 3
            }
        );
        elector.observed(Some(view("other", 3)), t + S(4));
        assert_eq!(elector.decide(t + S(4)), Action::GiveUp);
        elector.observed(None, t + S(5));
        assert_eq!(elector.decide(t + S(5)), Action::GiveUp);
    }

    #[test]
    fn times_that_would_let_two_lead_are_refused() {
        assert!(Timing::new(S(10), S(10), S(2)).is_err());
        assert!(Timing::new(S(15), S(2), S(2)).is_err());
        assert!(Timing::new(S(15), S(10), S(0)).is_err());
        assert!(Timing::new(S(3), S(2), S(1)).is_ok());
    }
}
