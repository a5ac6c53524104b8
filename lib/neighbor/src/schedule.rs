//! When do gratuitous frames go out?
//!
//! At once when an address is announced, then every [`ROUND`] until [`BURST`] after the latest announcement, since the
//! first frame may be lost or come before a switch has opened the port. There is no farewell: the next announcer's
//! frames say all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Pause between the rounds of a burst.
pub const ROUND: Duration = Duration::from_millis(1100);
/// How long a burst lasts after the latest announcement.
pub const BURST: Duration = Duration::from_secs(5);

/// The bursts that are under way.
#[derive(Debug, Default)]
pub struct GratuitousSchedule {
    bursts: BTreeMap<IpAddr, Burst>,
    /// The same bursts by the time at which each needs attention.
    order: BTreeSet<(Instant, IpAddr)>,
}

#[derive(Clone, Copy, Debug)]
struct Burst {
    next: Instant,
    until: Instant,
}

impl Burst {
    /// When it needs attention: for its next round, or for its end when no round comes before that.
    fn wake(self) -> Instant {
        self.next.min(self.until)
    }
}

impl GratuitousSchedule {
    /// Starts a burst for `ip`, or prolongs the one that is under way.
    pub fn announce(&mut self, ip: IpAddr, now: Instant) {
        let until = now + BURST;
        let burst = match self.remove(ip) {
            Some(Burst { next, until: end }) if end > now => Burst { next, until },
            _ => Burst { next: now, until },
        };
        self.insert(ip, burst);
    }

    /// Starts a burst for `ip` at once, even if one is under way: what it reaches has changed.
    pub fn restart(&mut self, ip: IpAddr, now: Instant) {
        self.remove(ip);
        self.insert(
            ip,
            Burst {
                next: now,
                until: now + BURST,
            },
        );
    }

    /// Ends the burst for `ip`: it has no users left.
    pub fn withdraw(&mut self, ip: IpAddr) {
        self.remove(ip);
    }

    /// The addresses for which a round has to go out now, each once, however late the call. A burst is forgotten at
    /// its end and not after its last round, so that [`Self::announce`] in between prolongs it.
    pub fn due(&mut self, now: Instant) -> Vec<IpAddr> {
        let mut due = Vec::new();
        while let Some(&(wake, ip)) = self.order.first()
            && wake <= now
        {
            let Some(burst) = self.remove(ip) else { break };
            if burst.next <= now && burst.next <= burst.until {
                due.push(ip);
                self.insert(
                    ip,
                    Burst {
                        next: now + ROUND,
                        ..burst
                    },
                );
            } else if burst.until > now {
                self.insert(ip, burst);
            }
        }
        due
    }

    /// When [`Self::due`] has to be called again; nothing is under way if there is no such time.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.order.first().map(|&(wake, _)| wake)
    }

    fn insert(&mut self, ip: IpAddr, burst: Burst) {
        self.bursts.insert(ip, burst);
        self.order.insert((burst.wake(), ip));
    }

    fn remove(&mut self, ip: IpAddr) -> Option<Burst> {
        let burst = self.bursts.remove(&ip)?;
        self.order.remove(&(burst.wake(), ip));
        Some(burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        #[allow(
            clippy::disallowed_methods,
            reason = "an arbitrary origin; only differences are looked at"
        )]
        Instant::now()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Follows the deadlines and notes, in milliseconds, when rounds went out.
    fn rounds(schedule: &mut GratuitousSchedule, origin: Instant) -> Vec<u128> {
        let mut times = Vec::new();
        while let Some(deadline) = schedule.deadline() {
            let due = schedule.due(deadline);
            times.extend(due.iter().map(|_| (deadline - origin).as_millis()));
        }
        times
    }

    #[test]
    fn a_burst_is_five_rounds_in_five_seconds_the_first_at_once() {
        let origin = start();
        let mut schedule = GratuitousSchedule::default();
        schedule.announce(ip("192.0.2.1"), origin);
        assert_eq!(rounds(&mut schedule, origin), [0, 1100, 2200, 3300, 4400]);
    }

    #[test]
    fn announcing_again_prolongs_the_burst_without_an_extra_round() {
        let origin = start();
        let mut schedule = GratuitousSchedule::default();
        schedule.announce(ip("192.0.2.1"), origin);
        assert_eq!(schedule.due(origin), [ip("192.0.2.1")]);
        schedule.announce(ip("192.0.2.1"), origin + Duration::from_millis(500));
        assert_eq!(
            rounds(&mut schedule, origin),
            [1100, 2200, 3300, 4400, 5500]
        );
    }

    #[test]
    fn announcing_after_the_end_starts_at_once() {
        let origin = start();
        let mut schedule = GratuitousSchedule::default();
        schedule.announce(ip("192.0.2.1"), origin);
        rounds(&mut schedule, origin);
        let later = origin + BURST;
        schedule.announce(ip("192.0.2.1"), later);
        assert_eq!(schedule.deadline(), Some(later));
    }

    #[test]
    fn restarting_sends_at_once_within_a_burst() {
        let origin = start();
        let mut schedule = GratuitousSchedule::default();
        schedule.announce(ip("192.0.2.1"), origin);
        schedule.due(origin);
        let later = origin + Duration::from_millis(10);
        schedule.restart(ip("192.0.2.1"), later);
        assert_eq!(schedule.due(later), [ip("192.0.2.1")]);
    }

    #[test]
    fn a_withdrawn_address_goes_quiet_at_once() {
        let origin = start();
        let mut schedule = GratuitousSchedule::default();
        schedule.announce(ip("192.0.2.1"), origin);
        schedule.announce(ip("2001:db8::1"), origin);
        schedule.due(origin);
        schedule.withdraw(ip("192.0.2.1"));
        assert_eq!(schedule.due(origin + ROUND), [ip("2001:db8::1")]);
    }

    #[test]
    fn a_late_call_sends_one_round_and_ends_what_is_over() {
        let origin = start();
        let mut schedule = GratuitousSchedule::default();
        schedule.announce(ip("192.0.2.1"), origin);
        assert_eq!(
            schedule.due(origin + Duration::from_secs(60)),
            [ip("192.0.2.1")]
        );
        assert_eq!(schedule.deadline(), None);
    }
}
