//! What do several Services say of one address or prefix?

use std::collections::BTreeMap;

use smallvec::SmallVec;

/// What is said of each key, with how often it is said. Taking back what one Service says costs the same however many say
/// something, and leaves what the others say.
#[derive(Clone, Debug)]
pub struct Tally<K, V> {
    /// Sorted by value. Most keys have one value, said once; it lies in the map itself.
    said: BTreeMap<K, SmallVec<[(V, u32); 1]>>,
}

impl<K, V> Default for Tally<K, V> {
    fn default() -> Self {
        Tally {
            said: BTreeMap::new(),
        }
    }
}

impl<K: Ord, V: Ord> Tally<K, V> {
    /// Somebody says `value` of `key`.
    pub fn add(&mut self, key: K, value: V) {
        let values = self.said.entry(key).or_default();
        match values.binary_search_by(|(known, _)| known.cmp(&value)) {
            Ok(at) => {
                if let Some((_, count)) = values.get_mut(at) {
                    *count += 1;
                }
            }
            Err(at) => {
                values.insert(at, (value, 1));
            }
        }
    }

    /// Somebody who said `value` of `key` says it no longer.
    pub fn remove(&mut self, key: &K, value: &V) {
        let Some(values) = self.said.get_mut(key) else {
            return;
        };
        let Ok(at) = values.binary_search_by(|(known, _)| known.cmp(value)) else {
            return;
        };
        match values.get_mut(at) {
            Some((_, count)) if *count > 1 => *count -= 1,
            _ => {
                values.remove(at);
            }
        }
        if values.is_empty() {
            self.said.remove(key);
        }
    }

    /// The different things that are said of `key`, sorted.
    pub fn of(&self, key: &K) -> impl Iterator<Item = &V> {
        self.said
            .get(key)
            .into_iter()
            .flatten()
            .map(|(value, _)| value)
    }

    /// Lays the keys out anew, in less room: where many came one after the other, half of it is empty.
    pub fn repack(&mut self) {
        self.said = std::mem::take(&mut self.said).into_iter().collect();
    }

    /// Every key of which something is said, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.said.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_say_stays_until_both_take_it_back() {
        let mut tally = Tally::default();
        for value in ["b", "a", "b"] {
            tally.add(1, value);
        }
        let said = |tally: &Tally<i32, &'static str>| tally.of(&1).copied().collect::<Vec<_>>();
        assert_eq!(said(&tally), ["a", "b"]);
        tally.remove(&1, &"b");
        assert_eq!(said(&tally), ["a", "b"]);
        tally.remove(&1, &"b");
        tally.remove(&1, &"never said");
        assert_eq!(said(&tally), ["a"]);
        tally.remove(&1, &"a");
        tally.remove(&2, &"a");
        assert_eq!(tally.keys().count(), 0);
    }
}
