//! Which pools have addresses in common?

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use ferrolb_api::v1beta1::IPAddressPool;
use kube::ResourceExt;

use crate::addresses::{AddressRange, Family};
use crate::configuration::Configuration;
use crate::taken::Taken;

/// Overlaps of one pool that are named; nobody mends more at a time.
const NAMED_AT_MOST: usize = 20;

/// What a pool has in common with others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlaps {
    /// At most 20, in the order of addresses.
    pub named: Vec<Overlap>,
    /// Whether there are more than those.
    pub more: bool,
}

/// An entry of a pool and an entry of another that have addresses in common, as a sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The entry of this pool, as it is written.
    pub entry: String,
    /// The name of the other pool.
    pub other: String,
    /// The entry of the other pool, as it is written.
    pub other_entry: String,
    /// Whose the addresses are.
    pub in_force: InForce,
}

/// Which of two pools gives out the addresses that both name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InForce {
    /// The pool that is told.
    This,
    /// The other one.
    Other,
    /// None of the two: each is set aside for some reason.
    Neither,
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Overlap {
            entry,
            other,
            other_entry,
            in_force,
        } = self;
        write!(
            f,
            "{entry} has addresses in common with {other_entry} of pool {other:?}; "
        )?;
        match in_force {
            InForce::This => write!(f, "this pool is in force with them, {other:?} is not")?,
            InForce::Other => write!(f, "{other:?} is in force with them, this pool is not")?,
            InForce::Neither => write!(f, "neither is in force with them")?,
        }
        write!(f, ". Remove them from one of the two.")
    }
}

/// The pools that have addresses in common with another, by name.
///
/// What counts is what `pools` say, whether they are in force or not, and what is in force of what they said before. An
/// overlap within one pool is none of two, and its refusal says it.
pub fn overlaps<'a>(
    pools: impl IntoIterator<Item = &'a IPAddressPool>,
    in_force: &Configuration,
) -> BTreeMap<String, Overlaps> {
    let mut pieces: Vec<Piece> = pools
        .into_iter()
        .flat_map(|pool| pieces_of(pool, in_force))
        .collect();
    pieces.sort_by(|one, other| one.place().cmp(&other.place()));
    let mut found: BTreeMap<String, Overlaps> = BTreeMap::new();
    // Those that reach to where the sweep is, one of each pool, and where they end.
    let (mut reaching, mut ends) = (BTreeMap::new(), BTreeSet::new());
    for piece in &pieces {
        let here = (piece.family, piece.first);
        while let Some((end, pool)) = ends.first().copied().filter(|(end, _)| *end < here) {
            ends.remove(&(end, pool));
            reaching.remove(pool);
        }
        // All that reach here have each other in common. With so many others, each has told enough already.
        for other in reaching.values().take(NAMED_AT_MOST + 1) {
            for (one, other) in [(piece, *other), (*other, piece)] {
                let told = found.entry(one.pool.to_string()).or_default();
                // They have the first address of the later one in common.
                told.add(one, other, || owner(one, other, piece, in_force));
            }
        }
        reaching.insert(&*piece.pool, piece);
        ends.insert(((piece.family, piece.last), &*piece.pool));
    }
    found
}

impl Overlaps {
    fn add(&mut self, own: &Piece, other: &Piece, in_force: impl FnOnce() -> InForce) {
        let is_named = self.named.iter().any(|named| {
            (&*named.entry, &*named.other, &*named.other_entry)
                == (&*own.text, &*other.pool, &*other.text)
        });
        if is_named {
            return;
        }
        if self.named.len() == NAMED_AT_MOST {
            self.more = true;
            return;
        }
        self.named.push(Overlap {
            entry: own.text.to_string(),
            other: other.pool.to_string(),
            other_entry: other.text.to_string(),
            in_force: in_force(),
        });
    }
}

/// A part of an entry. The parts of one pool do not overlap.
struct Piece {
    pool: Arc<str>,
    family: Family,
    first: u128,
    last: u128,
    text: Arc<str>,
}

impl Piece {
    fn place(&self) -> (Family, u128, &str) {
        (self.family, self.first, &self.pool)
    }
}

/// Whose the first address of `at` is.
fn owner(one: &Piece, other: &Piece, at: &Piece, in_force: &Configuration) -> InForce {
    let address = at.family.address(at.first);
    let owns = |piece: &Piece| {
        let pool = in_force.pools.get(&*piece.pool);
        pool.is_some_and(|pool| pool.ranges.iter().any(|range| range.contains(address)))
    };
    if owns(one) {
        InForce::This
    } else if owns(other) {
        InForce::Other
    } else {
        InForce::Neither
    }
}

/// What a pool says and what is in force of it, in parts that do not overlap.
fn pieces_of(pool: &IPAddressPool, in_force: &Configuration) -> Vec<Piece> {
    let name = pool.name_any();
    let said: BTreeMap<AddressRange, &str> = pool
        .spec
        .addresses
        .iter()
        .filter_map(|text| Some((text.parse().ok()?, text.trim())))
        .collect();
    let mut own = Taken::default();
    for range in in_force
        .pools
        .get(&name)
        .iter()
        .flat_map(|pool| &pool.ranges)
    {
        match said.get(range) {
            Some(text) => own.insert(&name, text, *range),
            None => own.insert(&name, &format!("{range} (as it was before)"), *range),
        }
    }
    for (range, text) in said {
        own.insert(&name, text, range);
    }
    own.into_entries()
        .map(|((family, first), entry)| Piece {
            pool: entry.pool,
            family,
            first,
            last: entry.last,
            text: entry.text,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ferrolb_api::v1beta1::IPAddressPoolSpec;
    use proptest::prelude::*;

    use super::*;
    use crate::all_objects::AllObjects;
    use crate::last_good::LastGood;
    use crate::taken::tests::range;

    fn pool(name: &str, addresses: &[&str]) -> IPAddressPool {
        let spec = IPAddressPoolSpec {
            addresses: addresses.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        IPAddressPool::new(name, spec)
    }

    fn read(last_good: &mut LastGood, pools: &[&IPAddressPool]) -> BTreeMap<String, Vec<String>> {
        let objects = AllObjects {
            pools: pools.iter().map(|pool| Arc::new((*pool).clone())).collect(),
            ..AllObjects::default()
        };
        let (configuration, _) = last_good.read(&objects);
        let sentences = |of: Overlaps| of.named.iter().map(ToString::to_string).collect();
        overlaps(pools.iter().copied(), &configuration)
            .into_iter()
            .map(|(name, of)| (name, sentences(of)))
            .collect()
    }

    #[test]
    fn both_pools_of_a_pair_are_told_which_of_them_is_in_force() {
        let first = pool("a", &["10.0.0.0/24", "fd00::/112"]);
        let second = pool("b", &["10.9.0.0/24", "10.0.0.128 - 10.0.0.140"]);
        let apart = pool("c", &["10.5.0.0/24", "::a00:0/120", "10.5.0.0/25"]);
        let told = read(&mut LastGood::default(), &[&second, &apart, &first]);
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(
            told["a"],
            [
                "10.0.0.0/24 has addresses in common with 10.0.0.128 - 10.0.0.140 of pool \"b\"; \
              this pool is in force with them, \"b\" is not. Remove them from one of the two."
            ]
        );
        assert_eq!(
            told["b"],
            [
                "10.0.0.128 - 10.0.0.140 has addresses in common with 10.0.0.0/24 of pool \"a\"; \
              \"a\" is in force with them, this pool is not. Remove them from one of the two."
            ]
        );
    }

    #[test]
    fn pools_that_are_both_set_aside_are_told_too() {
        let one = pool("a", &["10.0.0.0/24", "nonsense"]);
        let other = pool("b", &["10.0.0.0/25", "nonsense"]);
        let told = read(&mut LastGood::default(), &[&one, &other]);
        assert_eq!(
            told["b"],
            [
                "10.0.0.0/25 has addresses in common with 10.0.0.0/24 of pool \"a\"; \
              neither is in force with them. Remove them from one of the two."
            ]
        );
        assert_eq!(told.len(), 2);
    }

    #[test]
    fn what_stays_in_force_after_an_edit_counts_beside_what_is_written() {
        let mut last_good = LastGood::default();
        read(&mut last_good, &[&pool("a", &["10.0.0.0/24"])]);
        let edited = pool("a", &["10.0.1.0/24", "nonsense"]);
        let new = pool("b", &["10.0.0.0/16"]);
        let told = read(&mut last_good, &[&edited, &new]);
        assert_eq!(
            told["a"],
            [
                "10.0.0.0/24 (as it was before) has addresses in common with 10.0.0.0/16 of pool \"b\"; \
                 this pool is in force with them, \"b\" is not. Remove them from one of the two.",
                "10.0.1.0/24 has addresses in common with 10.0.0.0/16 of pool \"b\"; \
                 neither is in force with them. Remove them from one of the two.",
            ]
        );
    }

    #[test]
    fn of_very_many_overlaps_some_are_named() {
        let pools: Vec<IPAddressPool> = (0..2000)
            .map(|n| pool(&format!("p{n:04}"), &["10.0.0.0/8", "fd00::/64"]))
            .collect();
        let told = overlaps(&pools, &Configuration::default());
        assert_eq!(told.len(), 2000);
        assert!(
            told.values()
                .all(|of| of.named.len() == NAMED_AT_MOST && of.more)
        );
        // One less and nothing is left out.
        let told = overlaps(&pools[..=NAMED_AT_MOST / 2], &Configuration::default());
        assert!(
            told.values()
                .all(|of| of.named.len() == NAMED_AT_MOST && !of.more)
        );
    }

    proptest! {
        /// Against looking at each pair of entries.
        #[test]
        fn each_pool_is_told_of_each_other(
            ranges in prop::collection::vec(prop::collection::vec(range(), 0..5), 0..8),
        ) {
            let pools: Vec<IPAddressPool> = ranges
                .iter()
                .enumerate()
                .map(|(index, ranges)| {
                    let texts = ranges.iter().map(|range| match range.first() == range.last() {
                        true => format!("{range}-{range}"),
                        false => range.to_string(),
                    });
                    let texts: Vec<String> = texts.collect();
                    pool(&index.to_string(), &texts.iter().map(String::as_str).collect::<Vec<_>>())
                })
                .collect();
            let told = overlaps(&pools, &Configuration::default());
            for (one, entries) in ranges.iter().enumerate() {
                let of = told.get(&one.to_string()).cloned().unwrap_or_default();
                for overlap in &of.named {
                    let (entry, other) = (&overlap.entry, &overlap.other_entry);
                    let ranges: [AddressRange; 2] = [entry.parse().unwrap(), other.parse().unwrap()];
                    prop_assert!(ranges[0].overlaps(&ranges[1]) && overlap.other != one.to_string());
                }
                for (other, others) in ranges.iter().enumerate().filter(|(other, _)| *other != one) {
                    let meet = entries.iter().any(|entry| others.iter().any(|other| other.overlaps(entry)));
                    let named = of.named.iter().any(|overlap| overlap.other == other.to_string());
                    prop_assert!(named == meet || meet && of.more, "{one} and {other}: {of:?}");
                }
            }
        }
    }
}
