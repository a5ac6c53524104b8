//! Which addresses may be given to whom: IPAddressPool (reference 1.1, 2.3).

use std::collections::{BTreeMap, BTreeSet};

use ferrolb_api::v1beta1::IPAddressPool;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;

use crate::addresses::{AddressRange, Family};
use crate::fields;
use crate::kept_back::{self, KeptBack};
use crate::refusal::{Refusal, tell};
use crate::selector::Selector;

pub(crate) const KIND: &str = "IPAddressPool";

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

/// Reads a pool by itself: everything but what it has in common with others.
pub(crate) fn parse(object: &IPAddressPool) -> Result<Pool, Vec<Refusal>> {
    let name = object.name_any();
    let spec = &object.spec;
    let mut refusals = Vec::new();
    let mut refuse = |field: String, reason: String| {
        tell(&mut refusals, Refusal::new(KIND, &name, field, reason))
    };
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
