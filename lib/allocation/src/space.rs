//! The addresses of one family of one pool, numbered in the order in which they are given out.

use ferrolb_rules::{AddressRange, Family};

use crate::free::FreeSet;

/// The addresses in the order of `spec.addresses`: the first of the first entry has the ordinal 0. Entries that are full
/// cost nothing to pass over, and single addresses side by side are one interval of ordinals.
#[derive(Clone, Debug)]
pub(crate) struct Space {
    family: Family,
    /// By ordinal. Disjoint.
    pieces: Vec<Piece>,
    /// Indices into `pieces`, by address.
    by_number: Vec<u32>,
    /// Ordinals that may be given.
    free: FreeSet,
    /// How many addresses it has, those avoided left out.
    capacity: u128,
    avoid_buggy: bool,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    ordinal: u128,
    first: u128,
    last: u128,
}

impl Space {
    /// The addresses of `family` in `ranges` (disjoint), less those in `excluded`. `avoid_buggy` leaves out IPv4 addresses
    /// that end in .0 or .255 (reference 1.1, avoidBuggyIPs).
    pub(crate) fn new(
        family: Family,
        ranges: &[AddressRange],
        excluded: &[AddressRange],
        avoid_buggy: bool,
    ) -> Self {
        let of_family = |ranges: &[AddressRange]| -> Vec<(u128, u128)> {
            let own = ranges.iter().filter(|range| range.family() == family);
            own.map(|range| (range.first(), range.last())).collect()
        };
        let excluded = disjoint(of_family(excluded));
        let avoid_buggy = avoid_buggy && family == Family::V4;
        let (mut pieces, mut ordinal, mut capacity) = (Vec::new(), 0u128, 0u128);
        for (first, last) in of_family(ranges) {
            for (first, last) in without(first, last, &excluded) {
                pieces.push(Piece {
                    ordinal,
                    first,
                    last,
                });
                let size = (last - first).saturating_add(1);
                // Only the last piece of all can reach the end of the numbers.
                ordinal = ordinal.wrapping_add(last - first).wrapping_add(1);
                let avoided = if avoid_buggy {
                    buggy_in(first, last)
                } else {
                    0
                };
                capacity = capacity.saturating_add(size - avoided);
            }
        }
        let free = pieces.last().map_or_else(FreeSet::default, |piece| {
            FreeSet::full(0, piece.ordinal + (piece.last - piece.first))
        });
        let mut by_number: Vec<u32> = (0..pieces.len())
            .filter_map(|index| u32::try_from(index).ok())
            .collect();
        by_number
            .sort_unstable_by_key(|index| pieces.get(*index as usize).map(|piece| piece.first));
        Space {
            family,
            pieces,
            by_number,
            free,
            capacity,
            avoid_buggy,
        }
    }

    /// How many addresses it has, those excluded and avoided left out.
    pub(crate) fn capacity(&self) -> u128 {
        self.capacity
    }

    /// The ordinal of an address, if it may be given to anyone. O(log n) in the number of entries.
    pub(crate) fn ordinal(&self, number: u128) -> Option<u128> {
        if self.avoid_buggy && is_buggy(number) {
            return None;
        }
        let after = self.by_number.partition_point(|index| {
            self.pieces
                .get(*index as usize)
                .is_some_and(|piece| piece.first <= number)
        });
        let index = *self.by_number.get(after.checked_sub(1)?)?;
        let piece = self.pieces.get(index as usize)?;
        (number <= piece.last).then(|| piece.ordinal + (number - piece.first))
    }

    /// The address with this ordinal.
    pub(crate) fn number(&self, ordinal: u128) -> Option<u128> {
        let after = self
            .pieces
            .partition_point(|piece| piece.ordinal <= ordinal);
        let piece = self.pieces.get(after.checked_sub(1)?)?;
        let number = piece.first.checked_add(ordinal - piece.ordinal)?;
        (number <= piece.last).then_some(number)
    }

    /// The first ordinal that is free.
    pub(crate) fn first_free(&mut self) -> Option<u128> {
        while let Some(ordinal) = self.free.first() {
            let buggy = self.avoid_buggy && self.number(ordinal).is_some_and(is_buggy);
            if !buggy {
                return Some(ordinal);
            }
            // Never given out, so it needs no second look: dropped for as long as the pool stays as it is.
            self.free.remove(ordinal);
        }
        None
    }

    /// Takes an ordinal out of those that are free.
    pub(crate) fn take(&mut self, ordinal: u128) {
        self.free.remove(ordinal);
    }

    /// Puts it back.
    pub(crate) fn give_back(&mut self, ordinal: u128) {
        self.free.insert(ordinal);
    }

    /// The family of its addresses.
    pub(crate) fn family(&self) -> Family {
        self.family
    }
}

/// The same numbers in order, no two ranges with a number in common.
fn disjoint(mut ranges: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    ranges.sort_unstable();
    let mut disjoint: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match disjoint.last_mut() {
            Some((_, before)) if *before >= first => *before = last.max(*before),
            _ => disjoint.push((first, last)),
        }
    }
    disjoint
}

/// What is left of `first..=last` without `excluded`, which is in order and disjoint.
fn without(first: u128, last: u128, excluded: &[(u128, u128)]) -> Vec<(u128, u128)> {
    let mut left = Vec::new();
    let mut from = Some(first);
    let begin = excluded.partition_point(|(_, out_last)| *out_last < first);
    for (out_first, out_last) in excluded.iter().skip(begin) {
        let Some(at) = from.filter(|at| *at <= last) else {
            break;
        };
        if *out_last < at || *out_first > last {
            continue;
        }
        if *out_first > at {
            left.push((at, out_first - 1));
        }
        from = out_last.checked_add(1);
    }
    if let Some(at) = from.filter(|at| *at <= last) {
        left.push((at, last));
    }
    left
}

/// Whether some network gear mistakes the IPv4 address for a network or broadcast address: it ends in .0 or .255.
fn is_buggy(number: u128) -> bool {
    matches!(number & 0xff, 0 | 255)
}

fn buggy_in(first: u128, last: u128) -> u128 {
    // Numbers up to and including n whose last octet is `octet`.
    let up_to = |n: u128, octet: u128| n / 256 + u128::from(n % 256 >= octet);
    let count = |octet: u128| {
        up_to(last, octet)
            - first
                .checked_sub(1)
                .map_or(0, |before| up_to(before, octet))
    };
    count(0) + count(255)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn ranges(texts: &[&str]) -> Vec<AddressRange> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn given(space: &mut Space, count: usize) -> Vec<String> {
        let mut given = Vec::new();
        while given.len() < count
            && let Some(ordinal) = space.first_free()
        {
            space.take(ordinal);
            let number = space.number(ordinal).unwrap();
            assert_eq!(space.ordinal(number), Some(ordinal));
            given.push(space.family().address(number).to_string());
        }
        given
    }

    #[test]
    fn addresses_come_in_the_order_of_the_entries_less_those_left_out() {
        let entries = ranges(&["10.0.1.255-10.0.2.1", "fd00::/127", "10.0.0.5-10.0.0.7"]);
        let excluded = ranges(&["10.0.0.6-10.0.0.6", "10.9.0.0-10.9.0.9"]);
        let mut space = Space::new(Family::V4, &entries, &excluded, true);
        assert_eq!(space.capacity(), 3);
        assert_eq!(
            given(&mut space, 9),
            ["10.0.2.1", "10.0.0.5", "10.0.0.7"],
            "neither .255 nor .0 nor what is excluded"
        );
        let number = |text: &str| match text.parse().unwrap() {
            IpAddr::V4(v4) => u128::from(u32::from(v4)),
            IpAddr::V6(v6) => u128::from(v6),
        };
        assert_eq!(space.ordinal(number("10.0.0.6")), None);
        assert_eq!(space.ordinal(number("10.0.2.0")), None);
        assert_eq!(space.ordinal(number("10.0.3.0")), None);
        let mut six = Space::new(Family::V6, &entries, &excluded, true);
        assert_eq!(given(&mut six, 9), ["fd00::", "fd00::1"]);
    }

    #[test]
    fn everything_there_is_can_be_a_pool() {
        let mut all = Space::new(Family::V6, &ranges(&["::/0"]), &[], false);
        assert_eq!(given(&mut all, 2), ["::", "::1"]);
        assert_eq!(all.ordinal(u128::MAX), Some(u128::MAX));
        assert_eq!(all.number(u128::MAX), Some(u128::MAX));
        let slash8 = Space::new(Family::V4, &ranges(&["10.0.0.0/8"]), &[], true);
        assert_eq!(slash8.capacity(), (1 << 24) - 2 * (1 << 16));
        let end = Space::new(Family::V4, &ranges(&["10.0.0.0-10.0.0.9"]), &[], true);
        assert_eq!(end.capacity(), 9);
    }

    proptest! {
        /// Against lists of numbers.
        #[test]
        fn it_is_the_list_of_its_addresses(sizes in prop::collection::vec((1u32..6, 0u32..4), 1..8),
                                           excluded in prop::collection::vec((0u32..40, 0u32..5), 0..5), swap in any::<bool>()) {
            let text = |first: u32, more: u32| {
                let address = |n: u32| std::net::Ipv4Addr::from(0x0a00_0000 + n);
                format!("{}-{}", address(first), address(first + more)).parse::<AddressRange>().unwrap()
            };
            let mut at = 0;
            let mut entries = Vec::new();
            for (size, gap) in sizes {
                entries.push(text(at + gap, size - 1));
                at += gap + size;
            }
            if swap {
                entries.reverse();
            }
            let excluded: Vec<AddressRange> = excluded.into_iter().map(|(first, more)| text(first, more)).collect();
            let mut wanted = Vec::new();
            for entry in &entries {
                wanted.extend((entry.first()..=entry.last()).filter(|n| {
                    let out = excluded.iter().any(|range| (range.first()..=range.last()).contains(n));
                    !out && !is_buggy(*n)
                }));
            }
            let mut space = Space::new(Family::V4, &entries, &excluded, true);
            prop_assert_eq!(space.capacity(), wanted.len() as u128);
            let mut got = Vec::new();
            while let Some(ordinal) = space.first_free() {
                space.take(ordinal);
                let number = space.number(ordinal).unwrap();
                prop_assert_eq!(space.ordinal(number), Some(ordinal));
                got.push(number);
            }
            prop_assert_eq!(got, wanted);
        }
    }
}
