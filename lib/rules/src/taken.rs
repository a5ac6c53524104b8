//! Which addresses are spoken for?

use std::collections::BTreeMap;
use std::sync::Arc;

use ferrolb_api::v1beta1::IPAddressPool;
use kube::ResourceExt;

use crate::addresses::{AddressRange, Family};
use crate::pools::KIND;
use crate::refusal::{Refusal, tell};

/// The addresses that are spoken for, to find an overlap without looking at each range.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taken {
    /// By family and first address: the last address, the pool and the text of the entry. Disjoint: of what several entries
    /// have in common the first has it all.
    ranges: BTreeMap<(Family, u128), Entry>,
}

/// A part of an entry of a pool.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) last: u128,
    pub(crate) pool: Arc<str>,
    pub(crate) text: Arc<str>,
}

impl Taken {
    pub(crate) fn insert(&mut self, pool: &str, text: &str, range: AddressRange) {
        let (family, pool, text): (_, Arc<str>, Arc<str>) =
            (range.family(), pool.into(), text.into());
        let inside: Vec<(u128, u128)> = self
            .ranges
            .range((family, 0)..=(family, range.last()))
            .rev()
            .map(|((_, first), entry)| (*first, entry.last))
            .take_while(|(_, last)| *last >= range.first())
            .collect();
        let mut piece = |first: u128, last: u128| {
            let entry = Entry {
                last,
                pool: Arc::clone(&pool),
                text: Arc::clone(&text),
            };
            self.ranges.insert((family, first), entry);
        };
        let mut first = Some(range.first());
        for (taken_first, taken_last) in inside.into_iter().rev() {
            if let Some(first) = first.filter(|first| *first < taken_first) {
                piece(first, taken_first - 1);
            }
            first = taken_last.checked_add(1);
        }
        if let Some(first) = first.filter(|first| *first <= range.last()) {
            piece(first, range.last());
        }
    }

    /// The overlaps of `candidate` with what others have taken and within itself (reference 2.3: any pool, also the same). What a
    /// pool of its name has taken is its own former version.
    pub(crate) fn conflicts(&self, candidate: &IPAddressPool) -> Vec<Refusal> {
        let name = candidate.name_any();
        let mut own = Taken::default();
        let mut refusals = Vec::new();
        for (index, text) in candidate.spec.addresses.iter().enumerate() {
            let Ok(range) = text.parse::<AddressRange>() else {
                continue;
            };
            let with_others = self.overlapping(range, Some(&name));
            if let Some((pool, other)) = with_others.or_else(|| own.overlapping(range, None)) {
                let refusal = Refusal::new(
                    KIND,
                    &name,
                    format!("spec.addresses[{index}]"),
                    format!(
                        "CIDR {text:?} in pool {name:?} overlaps with already defined CIDR {other:?} of pool {pool:?}; \
                         remove the addresses from one of the two"
                    ),
                );
                let within = pool == name;
                tell(
                    &mut refusals,
                    if within {
                        refusal
                    } else {
                        refusal.conflicting()
                    },
                );
            }
            own.insert(&name, text, range);
        }
        refusals
    }

    /// Whether nothing that is taken has an address in common with `range`.
    pub(crate) fn is_free(&self, range: AddressRange) -> bool {
        self.overlapping(range, None).is_none()
    }

    /// The pool and text of an entry that has an address in common with `range`, but for those of the pool `but`.
    pub(crate) fn overlapping(
        &self,
        range: AddressRange,
        but: Option<&str>,
    ) -> Option<(&str, &str)> {
        self.ranges
            .range((range.family(), 0)..=(range.family(), range.last()))
            .rev()
            .take_while(|(_, entry)| entry.last >= range.first())
            .find(|(_, entry)| but != Some(&*entry.pool))
            .map(|(_, entry)| (&*entry.pool, &*entry.text))
    }

    /// What is taken, by family and first address.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = ((Family, u128), Entry)> {
        self.ranges.into_iter()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Short ranges of both families that often overlap.
    pub(crate) fn range() -> impl Strategy<Value = AddressRange> {
        (any::<bool>(), 0..60u32, 0..12u32).prop_map(|(v6, first, more)| {
            let address = |at: u32| match v6 {
                true => std::net::IpAddr::from(std::net::Ipv6Addr::from(u128::from(at))),
                false => std::net::IpAddr::from(std::net::Ipv4Addr::from(at)),
            };
            let text = format!("{}-{}", address(first), address(first + more));
            text.parse().unwrap()
        })
    }

    proptest! {
        /// Against looking at each entry: the same answer, and an entry that does overlap is named.
        #[test]
        fn what_is_taken_is_found(taken in prop::collection::vec(range(), 0..20), asked in range()) {
            let mut all = Taken::default();
            for range in &taken {
                all.insert("p", &range.to_string(), *range);
            }
            let overlapping: Vec<String> = taken
                .iter()
                .filter(|range| range.overlaps(&asked))
                .map(ToString::to_string)
                .collect();
            match all.overlapping(asked, None) {
                None => prop_assert!(overlapping.is_empty()),
                Some((_, text)) => prop_assert!(overlapping.iter().any(|other| other == text)),
            }
            prop_assert!(all.overlapping(asked, Some("p")).is_none());
        }
    }
}
