//! Which addresses of a range are free, without enumerating it.

use std::collections::BTreeMap;

/// A set of numbers kept as disjoint, non-adjacent intervals: a /8 or a /48 costs as much as one address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FreeSet {
    /// First number of an interval to its last, both included.
    intervals: BTreeMap<u128, u128>,
}

impl FreeSet {
    /// All numbers from `first` to `last`, both included.
    #[must_use]
    pub fn full(first: u128, last: u128) -> Self {
        FreeSet {
            intervals: BTreeMap::from([(first, last)]),
        }
    }

    /// The lowest number in the set.
    #[must_use]
    pub fn first(&self) -> Option<u128> {
        self.intervals.first_key_value().map(|(first, _)| *first)
    }

    /// Whether `number` is in the set. O(log n) in the number of intervals, as are the changes.
    #[must_use]
    pub fn contains(&self, number: u128) -> bool {
        self.interval_of(number).is_some()
    }

    /// Takes `number` out. False if it was not there.
    pub fn remove(&mut self, number: u128) -> bool {
        let Some((first, last)) = self.interval_of(number) else {
            return false;
        };
        self.intervals.remove(&first);
        if first < number {
            self.intervals.insert(first, number - 1);
        }
        if number < last {
            self.intervals.insert(number + 1, last);
        }
        true
    }

    /// Puts `number` in. False if it was there already.
    pub fn insert(&mut self, number: u128) -> bool {
        if self.contains(number) {
            return false;
        }
        let mut first = number;
        let mut last = number;
        if let Some(before) = number
            .checked_sub(1)
            .and_then(|previous| self.interval_of(previous))
        {
            self.intervals.remove(&before.0);
            first = before.0;
        }
        if let Some(after) = number
            .checked_add(1)
            .and_then(|next| self.intervals.remove(&next))
        {
            last = after;
        }
        self.intervals.insert(first, last);
        true
    }

    fn interval_of(&self, number: u128) -> Option<(u128, u128)> {
        let (first, last) = self.intervals.range(..=number).next_back()?;
        (number <= *last).then_some((*first, *last))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_whole_of_ipv6_is_one_interval() {
        let mut set = FreeSet::full(0, u128::MAX);
        assert!(set.remove(0));
        assert!(set.remove(u128::MAX));
        assert_eq!(set.first(), Some(1));
        assert!(set.insert(u128::MAX));
        assert!(set.insert(0));
        assert_eq!(set, FreeSet::full(0, u128::MAX));
    }

    proptest! {
        #[test]
        fn it_behaves_as_a_set_of_numbers(steps in prop::collection::vec((any::<bool>(), 0u128..40), 0..200)) {
            let mut set = FreeSet::full(5, 30);
            let mut model: BTreeSet<u128> = (5..=30).collect();
            for (insert, number) in steps {
                if insert {
                    prop_assert_eq!(set.insert(number), model.insert(number));
                } else {
                    prop_assert_eq!(set.remove(number), model.remove(&number));
                }
                prop_assert_eq!(set.first(), model.first().copied());
                for n in 0..41 {
                    prop_assert_eq!(set.contains(n), model.contains(&n));
                }
                // Intervals never touch: otherwise the set would fragment for ever.
                let mut previous: Option<u128> = None;
                for (first, last) in &set.intervals {
                    prop_assert!(first <= last);
                    if let Some(previous) = previous {
                        prop_assert!(*first > previous + 1);
                    }
                    previous = Some(*last);
                }
            }
        }
    }
}
