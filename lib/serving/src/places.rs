//! Who keeps a connection when more come than there is room for?
//!
//! A newcomer always gets in. The connection that goes for it is one of the address that has most, and of those the one whose
//! last request is longest ago. Whoever hoards connections so gives way before an API server that has a few, whether the hoard
//! idles, never ends a handshake or sends its bodies slowly. A fixed share for each address would have to be guessed,
//! since many API servers may stand behind one address; and to refuse newcomers would lock those out whom this is for.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

/// The places of one port. Cheap to clone; all clones share them.
#[derive(Clone, Debug)]
pub struct Places {
    at_most: usize,
    held: Arc<Mutex<Held>>,
    open: Gauge,
    closed: Counter,
}

#[derive(Debug, Default)]
struct Held {
    /// Counts what happens; only the order matters.
    now: u64,
    holders: HashMap<u64, Holder>,
}

#[derive(Debug)]
struct Holder {
    source: IpAddr,
    /// When the last request began, or the connection where there was none yet.
    heard: u64,
    lost: CancellationToken,
}

impl Held {
    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    /// Whose turn it is to go for a newcomer, which counts already as one of its address.
    fn first_to_go(&self, newcomer: IpAddr) -> Option<u64> {
        let mut has: HashMap<IpAddr, usize> = [(newcomer, 1)].into();
        for holder in self.holders.values() {
            *has.entry(holder.source).or_default() += 1;
        }
        let rank = |holder: &Holder| (has.get(&holder.source).copied(), Reverse(holder.heard));
        let first = self.holders.iter().max_by_key(|(_, holder)| rank(holder));
        first.map(|(number, _)| *number)
    }
}

impl Places {
    /// So many places, with two figures: `ferrolb_{port}_connections`, those that are open, and
    /// `ferrolb_{port}_connections_closed_total`, those that had to go for others.
    pub fn registered(registry: &mut Registry, port: &str, at_most: usize) -> Self {
        let places = Places {
            at_most,
            held: Arc::default(),
            open: Gauge::default(),
            closed: Counter::default(),
        };
        let registry = registry.sub_registry_with_prefix(format!("ferrolb_{port}"));
        registry.register(
            "connections",
            "Connections that are open",
            places.open.clone(),
        );
        registry.register(
            "connections_closed",
            "Connections closed to make room for others",
            places.closed.clone(),
        );
        places
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection of this address. Another loses its own if there is none left.
    pub(crate) fn take(&self, source: IpAddr) -> Place {
        // An IPv4 address is the same to a socket of both families.
        let source = source.to_canonical();
        let mut held = self.lock();
        while held.holders.len() >= self.at_most {
            let Some(holder) = held
                .first_to_go(source)
                .and_then(|first| held.holders.remove(&first))
            else {
                break;
            };
            holder.lost.cancel();
            self.closed.inc();
        }
        let number = held.tick();
        let lost = CancellationToken::new();
        let holder = Holder {
            source,
            heard: number,
            lost: lost.clone(),
        };
        held.holders.insert(number, holder);
        self.show(&held);
        Place {
            number,
            lost,
            places: self.clone(),
        }
    }

    fn show(&self, held: &Held) {
        self.open
            .set(i64::try_from(held.holders.len()).unwrap_or(i64::MAX));
    }
}

/// The place of one connection. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    lost: CancellationToken,
    places: Places,
}

impl Place {
    /// A request has begun.
    pub(crate) fn heard(&self) {
        let mut held = self.places.lock();
        let now = held.tick();
        if let Some(holder) = held.holders.get_mut(&self.number) {
            holder.heard = now;
        }
    }

    /// Waits until another has the place.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.lock();
        held.holders.remove(&self.number);
        self.places.show(&held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const API_SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER_API_SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
    const HOARDER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 9));

    fn places(at_most: usize) -> Places {
        Places::registered(&mut Registry::default(), "test", at_most)
    }

    fn is_lost(place: &Place) -> bool {
        place.lost.is_cancelled()
    }

    #[test]
    fn a_hoard_gives_way_to_itself_and_to_others_and_takes_nothing_from_who_has_few() {
        let places = places(8);
        let few = [places.take(API_SERVER), places.take(API_SERVER)];
        let hoard: Vec<Place> = (0..100).map(|_| places.take(HOARDER)).collect();
        assert!(!few.iter().any(is_lost), "they idle longest, and are few");
        let late = places.take(OTHER_API_SERVER);
        assert!(!is_lost(&late));
        let left = hoard.iter().filter(|place| !is_lost(place)).count();
        assert_eq!(left, 5);
        assert!(hoard.iter().rev().take(5).all(|place| !is_lost(place)));
        assert_eq!(places.closed.get(), 95);
        assert_eq!(places.open.get(), 8);
    }

    #[test]
    fn of_one_address_the_connection_whose_request_is_longest_ago_goes() {
        let places = places(3);
        let held: Vec<Place> = (0..3).map(|_| places.take(API_SERVER)).collect();
        held[0].heard();
        held[2].heard();
        let _newcomer = places.take(OTHER_API_SERVER);
        let lost: Vec<bool> = held.iter().map(is_lost).collect();
        assert_eq!(lost, [false, true, false]);
    }

    #[test]
    fn a_place_that_is_given_back_costs_nobody_another() {
        let places = places(2);
        let (first, second) = (places.take(API_SERVER), places.take(API_SERVER));
        drop(second);
        assert_eq!(places.open.get(), 1);
        let _third = places.take(HOARDER);
        assert!(!is_lost(&first));
        let fourth = places.take(HOARDER);
        assert!(!is_lost(&first) && !is_lost(&fourth));
        drop(first);
        assert_eq!((places.open.get(), places.closed.get()), (1, 1));
    }

    #[test]
    fn an_address_of_ipv4_is_the_same_in_both_notations() {
        let places = places(3);
        let mapped = "::ffff:198.51.100.9".parse().unwrap();
        let first = places.take(HOARDER);
        let (_second, _third) = (places.take(API_SERVER), places.take(mapped));
        let _newcomer = places.take(API_SERVER);
        assert!(is_lost(&first), "two are of one address");
    }
}
