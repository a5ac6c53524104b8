//! Which addresses may be given to whom: IPAddressPool (reference 1.1, 2.3).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ferrolb_api::v1beta1::IPAddressPool;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;

use crate::addresses::{AddressRange, Family};
use crate::fields;
use crate::kept_back::{self, KeptBack};
use crate::refusal::Refusal;
use crate::selector::Selector;

const KIND: &str = "IPAddressPool";

/// A pool whose rules have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The name of the object.
    pub name: String,
    /// The labels of the object, for the pool selectors of advertisements.
    pub labels: BTreeMap<String, String>,
    /// The entries of `spec.addresses`, in their order. No two overlap, in this pool or with another.
    pub ranges: Vec<AddressRange>,
    /// Whether Services that ask for nothing get addresses of it.
    pub auto_assign: bool,
    /// Whether IPv4 addresses that end in .0 or .255 are left out.
    pub avoid_buggy_ips: bool,
    /// Addresses of `ranges` that are given to nobody (`ferrolb.io/exclude`): each within one entry of `ranges`, none
    /// overlapping another. They are the pool's addresses all the same.
    pub exclude: Vec<AddressRange>,
    /// For how many seconds a freed address is kept from others than who had it (`ferrolb.io/reuse-hold`); 0 is off.
    pub reuse_hold: u32,
    /// How many addresses the Services of one namespace may hold (`ferrolb.io/max-addresses-per-namespace`).
    pub max_addresses_per_namespace: Option<u32>,
    /// Whom it serves; absent means everyone, after the pools that have one.
    pub service_allocation: Option<ServiceAllocation>,
}

/// Whom a pool serves (reference 1.1, serviceAllocation).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ServiceAllocation {
    /// Smaller is tried first; 0 is tried last.
    pub priority: i32,
    /// Namespaces by name, united with the selectors.
    pub namespaces: BTreeSet<String>,
    /// Namespaces by label, OR-ed.
    pub namespace_selectors: Vec<Selector>,
    /// Services by label, OR-ed.
    pub service_selectors: Vec<Selector>,
}

impl Pool {
    /// A pool of these addresses without labels and restrictions, for Services that ask for nothing too.
    pub fn new(name: impl Into<String>, ranges: Vec<AddressRange>) -> Self {
        Pool {
            name: name.into(),
            labels: BTreeMap::new(),
            ranges,
            auto_assign: true,
            avoid_buggy_ips: false,
            exclude: Vec::new(),
            reuse_hold: 0,
            max_addresses_per_namespace: None,
            service_allocation: None,
        }
    }

    /// The place of the pool among those tried for one Service: priority (0 last), then the more restricted, then the
    /// name (reference 9, row 18: MetalLB leaves ties to chance).
    #[must_use]
    pub fn order(&self) -> impl Ord + use<> {
        let allocation = self.service_allocation.as_ref();
        let priority = allocation.map_or(0, |allocation| allocation.priority);
        let restrictions = allocation.map_or(0, |allocation| {
            usize::from(!allocation.service_selectors.is_empty())
                + usize::from(
                    !allocation.namespaces.is_empty() || !allocation.namespace_selectors.is_empty(),
                )
        });
        (
            priority == 0,
            priority,
            usize::MAX - restrictions,
            self.name.clone(),
        )
    }

    /// Whether one of the ranges is of `family`.
    #[must_use]
    pub fn has(&self, family: Family) -> bool {
        self.ranges.iter().any(|range| range.family() == family)
    }

    /// The name and the addresses, for messages: `office (192.0.2.0/25, 192.0.2.200-192.0.2.220)`.
    #[must_use]
    pub fn describe(&self) -> String {
        const AT_MOST: usize = 4;
        let shown = self.ranges.iter().take(AT_MOST);
        let entries: Vec<String> = shown.map(ToString::to_string).collect();
        let more = match self.ranges.len().saturating_sub(AT_MOST) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{} ({}{more})", self.name, entries.join(", "))
    }
}

/// What is wrong with `candidate` by itself or beside `others`. An object of the same name among `others` is its former
/// version and does not count.
pub fn check_pool<'a>(
    candidate: &IPAddressPool,
    others: impl IntoIterator<Item = &'a IPAddressPool>,
) -> Vec<Refusal> {
    let mut refusals = match parse(candidate) {
        Ok(_) => Vec::new(),
        Err(refusals) => refusals,
    };
    let mut taken = Taken::default();
    for other in others
        .into_iter()
        .filter(|other| other.metadata.name != candidate.metadata.name)
    {
        for (text, range) in other
            .spec
            .addresses
            .iter()
            .filter_map(|text| Some((text, text.parse().ok()?)))
        {
            taken.insert(&other.name_any(), text, range);
        }
    }
    refusals.extend(taken.conflicts(candidate));
    refusals
}

/// Reads a pool by itself: everything but what it has in common with others.
pub(crate) fn parse(object: &IPAddressPool) -> Result<Pool, Vec<Refusal>> {
    let name = object.name_any();
    let spec = &object.spec;
    let mut refusals = Vec::new();
    let mut refuse =
        |field: String, reason: String| refusals.push(Refusal::new(KIND, &name, field, reason));
    if spec.addresses.is_empty() {
        refuse(
            "spec.addresses".to_owned(),
            format!(
                "parsing address pool {name}: pool has no prefixes defined; add at least one network or range"
            ),
        );
    }
    let mut ranges = Vec::new();
    for (index, text) in spec.addresses.iter().enumerate() {
        match text.parse::<AddressRange>() {
            Ok(range) => ranges.push(range),
            Err(error) => {
                refuse(
                    format!("spec.addresses[{index}]"),
                    format!("parsing address pool {name}: {error}"),
                );
            }
        }
    }
    let service_allocation = spec.service_allocation.as_ref().map(|allocation| {
        let at = |field: &str| format!("spec.serviceAllocation.{field}");
        for (index, reason) in
            fields::duplicates(&allocation.namespaces, "namespaces field", |name| {
                format!("{name:?}")
            })
        {
            refuse(
                format!("{}[{index}]", at("namespaces")),
                reason.replace("definition of", "definition in"),
            );
        }
        let mut selectors = |field: &str, list: &[LabelSelector]| {
            parse_selectors(list, field, |index, reason| {
                refuse(format!("{}[{index}]", at(field)), reason)
            })
        };
        ServiceAllocation {
            priority: allocation.priority.unwrap_or_default(),
            namespaces: allocation.namespaces.iter().cloned().collect(),
            namespace_selectors: selectors("namespaceSelectors", &allocation.namespace_selectors),
            service_selectors: selectors("serviceSelectors", &allocation.service_selectors),
        }
    });
    let readable = !ranges.is_empty() && ranges.len() == spec.addresses.len();
    let KeptBack {
        exclude,
        reuse_hold,
        max_addresses_per_namespace,
    } = kept_back::read(
        object.annotations(),
        readable.then_some(&ranges),
        &mut refuse,
    );
    refusals.extend(fields::check(KIND, &name, spec, &refusals));
    if !refusals.is_empty() {
        return Err(refusals);
    }
    Ok(Pool {
        name,
        labels: object.labels().clone(),
        ranges,
        auto_assign: spec.auto_assign,
        avoid_buggy_ips: spec.avoid_buggy_ips,
        exclude,
        reuse_hold,
        max_addresses_per_namespace,
        service_allocation,
    })
}

/// Reads a list of selectors, refusing those that mean nothing and those that stand twice.
pub(crate) fn parse_selectors(
    list: &[LabelSelector],
    what: &str,
    mut refuse: impl FnMut(usize, String),
) -> Vec<Selector> {
    let (mut parsed, mut seen) = (Vec::new(), BTreeSet::new());
    for (index, selector) in list.iter().enumerate() {
        match Selector::parse(selector) {
            Ok(selector) => {
                if !seen.insert(selector.clone()) {
                    refuse(
                        index,
                        format!(
                            "duplicate definition of {what}: this selector stands in the list before; remove it"
                        ),
                    );
                } else {
                    parsed.push(selector);
                }
            }
            Err(reason) => refuse(index, reason),
        }
    }
    parsed
}

/// The addresses that are spoken for, to find an overlap without looking at each range.
#[derive(Default)]
pub(crate) struct Taken {
    /// By family and first address: the last address, the pool and the text of the entry. Disjoint: of what several entries
    /// have in common the first has it all.
    ranges: BTreeMap<(Family, u128), Entry>,
}

#[derive(Clone)]
struct Entry {
    last: u128,
    pool: Arc<str>,
    text: Arc<str>,
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

    /// The overlaps of `candidate` with what is taken and within itself (reference 2.3: any pool, also the same).
    pub(crate) fn conflicts(&self, candidate: &IPAddressPool) -> Vec<Refusal> {
        let name = candidate.name_any();
        let mut own = Taken::default();
        let mut refusals = Vec::new();
        for (index, text) in candidate.spec.addresses.iter().enumerate() {
            let Ok(range) = text.parse::<AddressRange>() else {
                continue;
            };
            if let Some((pool, other)) = self.overlapping(range).or_else(|| own.overlapping(range))
            {
                let refusal = Refusal::new(
                    KIND,
                    &name,
                    format!("spec.addresses[{index}]"),
                    format!(
                        "CIDR {text:?} in pool {name:?} overlaps with already defined CIDR {other:?} of pool {pool:?}; \
                         remove the addresses from one of the two"
                    ),
                );
                refusals.push(if pool == name {
                    refusal
                } else {
                    refusal.conflicting()
                });
            }
            own.insert(&name, text, range);
        }
        refusals
    }

    /// Whether nothing that is taken has an address in common with `range`.
    pub(crate) fn is_free(&self, range: AddressRange) -> bool {
        self.overlapping(range).is_none()
    }

    /// The pool and text of an entry that has an address in common with `range`.
    fn overlapping(&self, range: AddressRange) -> Option<(&str, &str)> {
        let nearest = self
            .ranges
            .range((range.family(), 0)..=(range.family(), range.last()))
            .next_back();
        nearest
            .filter(|(_, entry)| entry.last >= range.first())
            .map(|(_, entry)| (&*entry.pool, &*entry.text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range() -> impl Strategy<Value = AddressRange> {
        (any::<bool>(), 0..60u32, 0..12u32).prop_map(|(v6, first, more)| {
            let address = |at: u32| match v6 {
                true => std::net::IpAddr::from(std::net::Ipv6Addr::from(u128::from(at))),
                false => std::net::IpAddr::from(std::net::Ipv4Addr::from(at)),
            };
            let text = format!("{}-{}", address(first), address(first + more));
            text.parse().unwrap()
        })
    }

    #[test]
    fn a_pool_is_described_by_its_first_entries() {
        let ranges = |count: u8| {
            let texts = (0..count).map(|n| format!("192.0.{n}.10-192.0.{n}.20"));
            texts.map(|text| text.parse().unwrap()).collect()
        };
        let mut pool = Pool::new("office", ranges(1));
        pool.ranges.push("192.0.2.0/25".parse().unwrap());
        assert_eq!(
            pool.describe(),
            "office (192.0.0.10-192.0.0.20, 192.0.2.0/25)"
        );
        let many = Pool::new("many", ranges(7)).describe();
        assert!(
            many.ends_with("192.0.3.10-192.0.3.20 and 3 more)"),
            "{many}"
        );
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
            match all.overlapping(asked) {
                None => prop_assert!(overlapping.is_empty()),
                Some((_, text)) => prop_assert!(overlapping.iter().any(|other| other == text)),
            }
        }
    }
}
