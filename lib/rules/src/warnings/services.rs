//! Which requests of a Service come to nothing for a reason that the objects already tell?
//!
//! Whether an address is free, shared or held is seen when it is given; here is looked at what no other Service changes. The
//! words are those of the condition that the Service will have (`reasons` of the allocation), and so is the order: the first
//! obstacle is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ferrolb_api::annotations::{ADDRESS_POOL, ALLOW_SHARED_IP, EXCLUDE, LOAD_BALANCER_IPS};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use kube::ResourceExt;

use super::quoted;
use crate::addresses::Family;
use crate::known::Known;
use crate::pools::Pool;
use crate::requests::{Request, Requested};
use crate::selector::any_matches;
use crate::verdict::{Verdict, cut};

/// Warns of keys that are deprecated, that stand beside one which counts in their place, and that ask for nothing.
pub(crate) fn warn_of_keys(annotations: &BTreeMap<String, String>, verdict: &mut Verdict) {
    let field = |key: &str| format!("metadata.annotations[{key}]");
    for key in [LOAD_BALANCER_IPS, ADDRESS_POOL, ALLOW_SHARED_IP] {
        let (current, deprecated) = (
            annotations.get(key.current),
            annotations.get(key.deprecated),
        );
        let warning = match (current, deprecated) {
            (_, None) => continue,
            (None, Some(_)) => format!("is deprecated; write {}", key.current),
            (Some(counts), Some(other)) if counts == other => {
                format!(
                    "is deprecated, and {} says the same; remove it",
                    key.current
                )
            }
            (Some(counts), Some(other)) => format!(
                "{} does not count beside {} of {}, and the key is deprecated; remove it",
                quoted(other),
                quoted(counts),
                key.current
            ),
        };
        verdict.warn(field(key.deprecated), warning);
    }
    let addresses = LOAD_BALANCER_IPS.find(annotations);
    if let Some((_, key)) = addresses.filter(|(text, _)| text.trim().is_empty()) {
        verdict.warn(
            field(key),
            "is empty and asks for no address; write one, or remove it",
        );
    }
    let pool = ADDRESS_POOL.find(annotations);
    if let Some((_, key)) = pool.filter(|(name, _)| name.is_empty()) {
        verdict.warn(
            field(key),
            "is empty and asks for no pool; write the name of one, or remove it",
        );
    }
}

/// Warns of what keeps a Service from what it asks for, whoever else asks for it.
pub(crate) fn warn_of_obstacle(
    object: &Service,
    request: &Request<'_>,
    known: &Known,
    verdict: &mut Verdict,
) {
    let families = object.spec.as_ref().and_then(Families::of);
    let asked = request.pool.as_ref();
    let named = asked.and_then(|(name, _)| known.configuration().pools.get(*name));
    let obstacle = match &request.addresses {
        Requested::Addresses(addresses) => {
            // One that does not exist is told of already.
            if asked.is_some() && named.is_none() {
                return;
            }
            let field = request.addresses_field.as_str();
            obstacle_to_addresses(addresses, families, named, object, known)
                .map(|what| (field, what))
        }
        Requested::Nothing => asked.zip(named).and_then(|((_, field), pool)| {
            let what = obstacle_to_pool(pool, families, object)?;
            Some((field.as_str(), what))
        }),
        Requested::Invalid(_) => None,
    };
    if let Some((field, what)) = obstacle {
        verdict.warn(field, what);
    }
}

fn obstacle_to_addresses(
    addresses: &[IpAddr],
    families: Option<Families>,
    asked: Option<&Pool>,
    service: &Service,
    known: &Known,
) -> Option<String> {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let (v4, v6) = (
        addresses.iter().any(IpAddr::is_ipv4),
        addresses.iter().any(IpAddr::is_ipv6),
    );
    if let Some(families) = families.filter(|families| !families.are(v4, v6)) {
        let remedy = match families {
            Families::Single(family) => format!("ask for one {family} address"),
            Families::Both { .. } => {
                "ask for one address of each family, separated by a comma".to_owned()
            }
        };
        return Some(format!(
            "requested loadBalancer IP(s) {texts:?} does not match the ipFamily of the service ({families}); {remedy}"
        ));
    }
    let pools = &known.configuration().pools;
    let owners: Option<Vec<&Pool>> = addresses
        .iter()
        .map(|address| {
            let (name, _) = known.taken.overlapping((*address).into(), None)?;
            pools.get(name)
        })
        .collect();
    // One that is in no pool is told of already.
    let owners = owners?;
    let first = owners.first()?;
    let is_one = owners.iter().all(|owner| owner.name == first.name);
    if let Some(asked) = asked.filter(|asked| is_one && asked.name != first.name) {
        let (owner, asked) = (short(&first.name), short(&asked.name));
        return Some(format!(
            "{texts:?} is not compatible with requested address pool {asked}: pool {owner} has it; remove {}, or ask for an \
             address of {asked}",
            ADDRESS_POOL.current
        ));
    }
    let not_allowed = format!("{texts:?} is not allowed in config");
    for (address, pool) in addresses.iter().zip(&owners) {
        if let Some(by) = left_out(pool, *address) {
            return Some(format!(
                "{not_allowed}: pool {} leaves {address} out by {by}; ask for another address",
                short(&pool.name)
            ));
        }
    }
    if !is_one {
        let names: Vec<String> = owners.iter().map(|pool| short(&pool.name)).collect();
        return Some(format!(
            "{not_allowed}: they are of the pools {}; both must be of one pool",
            names.join(" and ")
        ));
    }
    let closed = closed(first, service)?;
    Some(format!(
        "{closed}; have it opened to the Service, or ask for an address of another pool"
    ))
}

fn obstacle_to_pool(pool: &Pool, families: Option<Families>, service: &Service) -> Option<String> {
    if let Some(closed) = closed(pool, service) {
        return Some(format!(
            "{closed}; have it opened to the Service, or ask for another pool"
        ));
    }
    let lacks = |family| (!pool.has(family)).then_some(family);
    let families = families?;
    let missing = match families {
        Families::Single(family) => lacks(family),
        Families::Both { required: true } => lacks(Family::V4).or(lacks(Family::V6)),
        Families::Both { required: false } => None,
    }?;
    let name = short(&pool.name);
    Some(format!(
        "no available IPs in pool {name} for {families} IPFamily: it has no {missing} addresses; add such addresses to it, or ask \
         for another pool"
    ))
}

/// By what a pool gives an address of its own to nobody.
fn left_out(pool: &Pool, address: IpAddr) -> Option<&'static str> {
    if pool.exclude.iter().any(|range| range.contains(address)) {
        return Some(EXCLUDE);
    }
    let confuses = matches!(address, IpAddr::V4(v4) if matches!(v4.octets(), [_, _, _, 0 | 255]));
    (pool.avoid_buggy_ips && confuses).then_some("avoidBuggyIPs")
}

/// Why a pool does not serve a Service, as far as the Service itself tells: the labels of its Namespace are not known here.
fn closed(pool: &Pool, service: &Service) -> Option<String> {
    let allocation = pool.service_allocation.as_ref()?;
    let by_name = !allocation.namespaces.is_empty() && allocation.namespace_selectors.is_empty();
    let namespace = service.namespace().filter(|_| by_name);
    let needs = match namespace {
        Some(namespace) if !allocation.namespaces.contains(&namespace) => format!(
            "it needs namespace {}, not {}",
            some_of(&allocation.namespaces),
            short(&namespace)
        ),
        _ if !any_matches(&allocation.service_selectors, service.labels()) => {
            "it needs labels on the Service that its serviceSelectors match".to_owned()
        }
        _ => return None,
    };
    Some(format!(
        "pool {} not compatible for ip assignment: {needs} (serviceAllocation)",
        short(&pool.name)
    ))
}

/// A name as the condition of a Service has it, cut where the remedy would be cut off in its place.
fn short(name: &str) -> String {
    const AT_MOST: usize = 20;
    cut(name.to_owned(), AT_MOST)
}

fn some_of(names: &BTreeSet<String>) -> String {
    const AT_MOST: usize = 2;
    let mut some: Vec<String> = names.iter().take(AT_MOST).map(|name| short(name)).collect();
    match names.len().saturating_sub(AT_MOST) {
        0 => {}
        more => some.push(format!("{more} more")),
    }
    some.join(" or ")
}

/// Which families a Service is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Families {
    Single(Family),
    /// `required`: one alone is not enough.
    Both {
        required: bool,
    },
}

impl Families {
    /// By its cluster addresses (reference 3.1), or before it has any, in a file, by what it says of them, if that is enough.
    fn of(spec: &ServiceSpec) -> Option<Self> {
        let policy = spec.ip_family_policy.as_deref();
        let required = policy == Some("RequireDualStack");
        let given: Vec<&String> = match spec.cluster_ips.as_deref() {
            Some(all) if !all.is_empty() => all.iter().collect(),
            _ => spec.cluster_ip.iter().collect(),
        };
        let addresses = given.into_iter().filter(|address| !address.is_empty());
        let addresses: Option<Vec<IpAddr>> = addresses.map(|text| text.parse().ok()).collect();
        match addresses?.as_slice() {
            [one] => return Some(Self::Single(Family::of(*one))),
            [one, other] if Family::of(*one) != Family::of(*other) => {
                return Some(Self::Both { required });
            }
            [] => {}
            _ => return None,
        }
        let listed: Vec<&str> = spec
            .ip_families
            .iter()
            .flatten()
            .map(String::as_str)
            .collect();
        match listed.as_slice() {
            _ if required => Some(Self::Both { required }),
            [_, _] => Some(Self::Both { required }),
            ["IPv4"] if policy != Some("PreferDualStack") => Some(Self::Single(Family::V4)),
            ["IPv6"] if policy != Some("PreferDualStack") => Some(Self::Single(Family::V6)),
            _ => None,
        }
    }

    /// Whether addresses of these families are what the Service needs.
    fn are(self, v4: bool, v6: bool) -> bool {
        match self {
            Self::Single(Family::V4) => v4 && !v6,
            Self::Single(Family::V6) => v6 && !v4,
            Self::Both { .. } => v4 && v6,
        }
    }
}

impl fmt::Display for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single(family) => family.fmt(f),
            Self::Both { .. } => f.write_str("dual stack"),
        }
    }
}
