//! When do gratuitous frames go out?
//!
//! At once when an address is announced, then every [`ROUND`] until [`BURST`] after the latest announcement, since the
//! first frame may be lost or come before a switch has opened the port. There is no farewell: the next announcer's
//! frames say all.
//!
//! After the burst each address is refreshed from time to time, for caches and switches that have forgotten or been told
//! otherwise. The times are jittered by a tenth either way, and all refreshes together are paced to
//! [`REFRESHES_PER_SECOND`], so that ten thousand addresses are a trickle and not a flood. Bursts are not paced: the first
//! frame of a takeover is what clients wait for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::moment::{Moment, Pause};

/// Pause between the rounds of a burst.
pub const ROUND: Duration = Duration::from_millis(1100);
/// How long a burst lasts after the latest announcement.
pub const BURST: Duration = Duration::from_secs(5);
/// Addresses that are refreshed per second at most, however many there are and however short their intervals.
pub const REFRESHES_PER_SECOND: u32 = 200;
/// Refreshes that go out together, so that the process wakes less often.
const AT_ONCE: u32 = 8;

/// The bursts and refreshes that are to come.
#[derive(Debug, Default)]
pub(crate) struct GratuitousSchedule {
    entries: BTreeMap<IpAddr, Entry>,
    /// The bursts under way by the time at which each needs attention.
    bursts: BTreeSet<(Moment, IpAddr)>,
    /// The refreshes by their time.
    refreshes: BTreeSet<(Moment, IpAddr)>,
    /// No refresh before this.
    free_at: Option<Moment>,
    /// Where the jitter comes from; it needs to differ, not to be unpredictable.
    drawn: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    phase: Phase,
    /// The interval of its refreshes; `None` for none.
    refresh: Option<Pause>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Burst { next: Moment, until: Moment },
    Refresh { next: Moment },
    Done,
}

impl GratuitousSchedule {
    /// An empty schedule whose jitter is drawn from `seed`; nodes should have different ones.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            drawn: seed,
            ..Self::default()
        }
    }

    /// Starts a burst for `ip`, or prolongs the one that is under way. It is followed by a refresh at each interval
    /// `refresh`, if there is one.
    pub(crate) fn announce(&mut self, ip: IpAddr, refresh: Option<Pause>, now: Moment) {
        let until = now + BURST;
        let next = match self.remove(ip).map(|entry| entry.phase) {
            Some(Phase::Burst { next, until: end }) if end > now => next,
            _ => now,
        };
        self.insert(ip, refresh, Phase::Burst { next, until });
    }

    /// Starts a burst for `ip` at once, even if one is under way: what it reaches has changed.
    pub(crate) fn restart(&mut self, ip: IpAddr, refresh: Option<Pause>, now: Moment) {
        self.remove(ip);
        let until = now + BURST;
        self.insert(ip, refresh, Phase::Burst { next: now, until });
    }

    /// Refreshes `ip` as soon as the pace allows, unless a burst is under way. Nothing happens to an address that is not
    /// announced.
    pub(crate) fn refresh_soon(&mut self, ip: IpAddr, now: Moment) {
        let Some(Entry { phase, refresh }) = self.remove(ip) else {
            return;
        };
        let phase = match phase {
            Phase::Burst { .. } => phase,
            Phase::Refresh { .. } | Phase::Done => Phase::Refresh { next: now },
        };
        self.insert(ip, refresh, phase);
    }

    /// Refreshes `ip` at another interval from now on, or no longer. Nothing happens to an address that is not announced.
    pub(crate) fn set_refresh(&mut self, ip: IpAddr, refresh: Option<Pause>, now: Moment) {
        match self.entries.get(&ip) {
            Some(entry) if entry.refresh != refresh => {}
            _ => return,
        }
        let Some(Entry { phase, .. }) = self.remove(ip) else {
            return;
        };
        let phase = match phase {
            Phase::Burst { .. } => phase,
            Phase::Refresh { .. } | Phase::Done => self.rest(refresh, now),
        };
        self.insert(ip, refresh, phase);
    }

    /// Lays the addresses out anew, in less room.
    pub(crate) fn repack(&mut self) {
        self.entries = std::mem::take(&mut self.entries).into_iter().collect();
    }

    /// Ends everything for `ip`: it has no users left.
    pub(crate) fn withdraw(&mut self, ip: IpAddr) {
        self.remove(ip);
    }

    /// The addresses for which a round has to go out now, each once, however late the call. A burst is forgotten at
    /// its end and not after its last round, so that [`Self::announce`] in between prolongs it.
    pub(crate) fn due(&mut self, now: Moment) -> Vec<IpAddr> {
        let mut due = Vec::new();
        while let Some(&(wake, ip)) = self.bursts.first()
            && wake <= now
        {
            let Some(Entry { phase, refresh }) = self.remove(ip) else {
                break;
            };
            let Phase::Burst { next, until } = phase else {
                break;
            };
            let phase = if next <= now && next <= until {
                due.push(ip);
                // A late round does not delay the ones after it.
                let following = next + ROUND;
                Phase::Burst {
                    next: if following > now {
                        following
                    } else {
                        now + ROUND
                    },
                    until,
                }
            } else if until > now {
                phase
            } else {
                self.rest(refresh, now)
            };
            self.insert(ip, refresh, phase);
        }
        self.take_refreshes(now, &mut due);
        due
    }

    /// When [`Self::due`] has to be called again; nothing is to come if there is no such time.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        let burst = self.bursts.first().map(|&(wake, _)| wake);
        let refresh = self
            .refreshes
            .first()
            .map(|&(wake, _)| self.free_at.map_or(wake, |free| free.max(wake)));
        burst.into_iter().chain(refresh).min()
    }

    fn take_refreshes(&mut self, now: Moment, due: &mut Vec<IpAddr>) {
        if self.free_at.is_some_and(|free| free > now) {
            return;
        }
        let mut count = 0;
        while let Some(&(wake, ip)) = self.refreshes.first()
            && wake <= now
            && count < AT_ONCE
        {
            let Some(Entry { refresh, .. }) = self.remove(ip) else {
                break;
            };
            due.push(ip);
            count += 1;
            let phase = self.rest(refresh, now);
            self.insert(ip, refresh, phase);
        }
        if count > 0 {
            self.free_at = Some(now + Duration::from_secs(1) * count / REFRESHES_PER_SECOND);
        }
    }

    /// What comes after a burst or a refresh.
    fn rest(&mut self, refresh: Option<Pause>, now: Moment) -> Phase {
        let Some(interval) = refresh else {
            return Phase::Done;
        };
        // SplitMix64.
        self.drawn = self.drawn.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.drawn;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let thousandth = 900 + u32::try_from((mixed ^ (mixed >> 31)) % 201).unwrap_or_default();
        Phase::Refresh {
            next: now + Duration::from(interval) / 1000 * thousandth,
        }
    }

    fn insert(&mut self, ip: IpAddr, refresh: Option<Pause>, phase: Phase) {
        match phase {
            // For its next round, or for its end when no round comes before that.
            Phase::Burst { next, until } => drop(self.bursts.insert((next.min(until), ip))),
            Phase::Refresh { next } => drop(self.refreshes.insert((next, ip))),
            Phase::Done => {}
        }
        self.entries.insert(ip, Entry { phase, refresh });
    }

    fn remove(&mut self, ip: IpAddr) -> Option<Entry> {
        let entry = self.entries.remove(&ip)?;
        match entry.phase {
            Phase::Burst { next, until } => drop(self.bursts.remove(&(next.min(until), ip))),
            Phase::Refresh { next } => drop(self.refreshes.remove(&(next, ip))),
            Phase::Done => {}
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Moment {
        #[allow(
            clippy::disallowed_methods,
            reason = "an arbitrary origin; only differences are looked at"
        )]
        let now = std::time::Instant::now();
        crate::moment::Origin::default().moment(now)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Follows the deadlines and notes, in milliseconds, when rounds went out.
    fn rounds(schedule: &mut GratuitousSchedule, origin: Moment) -> Vec<u128> {
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
        schedule.announce(ip("192.0.2.1"), None, origin);
        assert_eq!(rounds(&mut schedule, origin), [0, 1100, 2200, 3300, 4400]);
    }

    #[test]
    fn announcing_again_prolongs_the_burst_without_an_extra_round() {
        let origin = start();
        let mut schedule = GratuitousSchedule::default();
        schedule.announce(ip("192.0.2.1"), None, origin);
        assert_eq!(schedule.due(origin), [ip("192.0.2.1")]);
        schedule.announce(ip("192.0.2.1"), None, origin + Duration::from_millis(500));
        assert_eq!(
            rounds(&mut schedule, origin),
            [1100, 2200, 3300, 4400, 5500]
        );
    }

    #[test]
    fn announcing_after_the_end_starts_at_once() {
        let origin = start();
        let mut schedule = GratuitousSchedule::default();
        schedule.announce(ip("192.0.2.1"), None, origin);
        rounds(&mut schedule, origin);
        let later = origin + BURST;
        schedule.announce(ip("192.0.2.1"), None, later);
        assert_eq!(schedule.deadline(), Some(later));
    }

    #[test]
    fn restarting_sends_at_once_within_a_burst() {
        let origin = start();
        let mut schedule = GratuitousSchedule::default();
        schedule.announce(ip("192.0.2.1"), None, origin);
        schedule.due(origin);
        let later = origin + Duration::from_millis(10);
        schedule.restart(ip("192.0.2.1"), None, later);
        assert_eq!(schedule.due(later), [ip("192.0.2.1")]);
    }

    #[test]
    fn a_withdrawn_address_goes_quiet_at_once() {
        let origin = start();
        let mut schedule = GratuitousSchedule::default();
        schedule.announce(ip("192.0.2.1"), None, origin);
        schedule.announce(ip("2001:db8::1"), None, origin);
        schedule.due(origin);
        schedule.withdraw(ip("192.0.2.1"));
        assert_eq!(schedule.due(origin + ROUND), [ip("2001:db8::1")]);
    }

    #[test]
    fn a_late_call_sends_one_round_and_ends_what_is_over() {
        let origin = start();
        let mut schedule = GratuitousSchedule::default();
        schedule.announce(ip("192.0.2.1"), None, origin);
        assert_eq!(
            schedule.due(origin + Duration::from_secs(60)),
            [ip("192.0.2.1")]
        );
        assert_eq!(schedule.deadline(), None);
    }

    #[test]
    fn after_its_burst_an_address_is_refreshed_at_its_interval_give_or_take_a_tenth() {
        let origin = start();
        let mut schedule = GratuitousSchedule::new(7);
        let interval = Duration::from_secs(60);
        schedule.announce(ip("192.0.2.1"), Some(interval.into()), origin);
        let mut times = Vec::new();
        while times.len() < 105 {
            let deadline = schedule.deadline().unwrap();
            times.extend(schedule.due(deadline).iter().map(|_| deadline));
        }
        assert_eq!(
            (times[4] - origin).as_millis(),
            4400,
            "the burst is as without a refresh"
        );
        let gaps: Vec<u64> = times[4..]
            .windows(2)
            .skip(1)
            .map(|pair| (pair[1] - pair[0]).as_secs())
            .collect();
        assert!(gaps.iter().all(|gap| (54..=66).contains(gap)), "{gaps:?}");
        assert!(
            gaps.iter().any(|gap| *gap < 57) && gaps.iter().any(|gap| *gap > 63),
            "{gaps:?}"
        );
    }

    #[test]
    fn refreshes_of_all_addresses_together_are_paced_and_none_is_left_out() {
        let origin = start();
        let mut schedule = GratuitousSchedule::new(7);
        let all: Vec<IpAddr> = (0..3000u32)
            .map(|n| IpAddr::V4((0x0a00_0000 + n).into()))
            .collect();
        for ip in &all {
            schedule.announce(*ip, Some(Duration::from_secs(1).into()), origin);
        }
        let mut per_second: BTreeMap<u64, u32> = BTreeMap::new();
        let mut counts: BTreeMap<IpAddr, u32> = BTreeMap::new();
        loop {
            let deadline = schedule.deadline().unwrap();
            let second = (deadline - origin).as_secs();
            if second >= 66 {
                break;
            }
            for ip in schedule.due(deadline) {
                if second >= 6 {
                    *per_second.entry(second).or_default() += 1;
                    *counts.entry(ip).or_default() += 1;
                }
            }
        }
        let most = per_second.values().max().unwrap();
        assert!(*most <= REFRESHES_PER_SECOND + AT_ONCE, "{most}");
        // 60 s at 200 each are 4 rounds of 3,000 addresses.
        assert_eq!(counts.len(), all.len());
        assert!(counts.values().all(|count| (3..=5).contains(count)));
    }

    #[test]
    fn a_changed_interval_holds_at_once_and_none_ends_the_refreshes() {
        let origin = start();
        let mut schedule = GratuitousSchedule::new(7);
        let address = ip("192.0.2.1");
        schedule.announce(address, Some(Duration::from_secs(3600).into()), origin);
        schedule.set_refresh(address, Some(Duration::from_secs(1800).into()), origin);
        let over = origin + BURST;
        while schedule.deadline().unwrap() <= over {
            schedule.due(schedule.deadline().unwrap());
        }
        let in_half_an_hour = schedule.deadline().unwrap() - over;
        assert!(
            (1620..=1980).contains(&in_half_an_hour.as_secs()),
            "{in_half_an_hour:?}"
        );
        schedule.set_refresh(address, Some(Duration::from_secs(2).into()), over);
        assert!(schedule.deadline().unwrap() <= over + Duration::from_secs(3));
        schedule.set_refresh(address, None, over);
        assert_eq!(schedule.deadline(), None);
        schedule.set_refresh(ip("192.0.2.9"), Some(Duration::from_secs(1).into()), over);
        assert_eq!(schedule.deadline(), None, "it is not announced");
    }

    #[test]
    fn a_refresh_on_request_is_paced_like_the_others_and_goes_out_even_where_none_is_wanted() {
        let origin = start();
        let mut schedule = GratuitousSchedule::new(7);
        let all: Vec<IpAddr> = (0..400u32)
            .map(|n| IpAddr::V4((0x0a00_0000 + n).into()))
            .collect();
        for ip in &all {
            schedule.announce(*ip, None, origin);
        }
        rounds(&mut schedule, origin);
        let asked = origin + Duration::from_secs(60);
        for ip in &all {
            schedule.refresh_soon(*ip, asked);
        }
        let times = rounds(&mut schedule, asked);
        assert_eq!(times.len(), all.len());
        let last = times.last().unwrap();
        assert!(
            (1900..2100).contains(last),
            "400 at 200 a second: {last} ms"
        );
    }

    #[test]
    fn a_late_round_does_not_delay_those_after_it() {
        let origin = start();
        let mut schedule = GratuitousSchedule::default();
        schedule.announce(ip("192.0.2.1"), None, origin);
        let mut sent = 0;
        while let Some(deadline) = schedule.deadline() {
            sent += schedule.due(deadline + Duration::from_millis(150)).len();
        }
        assert_eq!(sent, 5);
    }
}
