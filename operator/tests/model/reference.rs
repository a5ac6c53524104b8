//! The small model: what may stay, what could be given, by enumeration and nothing remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferrolb_api::ObjectKey;

use crate::cluster::Object;
use crate::spec::{Config, PoolSpec, Spec};

/// Whether two Services may have one address together (reference 3.6).
pub fn may_share(one: &Spec, other: &Spec) -> bool {
    let backend = |spec: &Spec| spec.local;
    one.share.is_some()
        && one.share == other.share
        && one.port != other.port
        && backend(one) == backend(other)
}

/// Whether a Service with this spec may keep these addresses as far as pools and its own wishes go.
pub fn may_keep(config: &Config, key: &ObjectKey, spec: &Spec, addresses: &[IpAddr]) -> bool {
    if !spec.load_balancer || (spec.policy == "RequireDualStack" && !spec.is_dual()) {
        return false;
    }
    let six = addresses.iter().filter(|at| at.is_ipv6()).count();
    let families = match (addresses.len(), six) {
        (1, six) => {
            let same = !spec.is_dual() && (six == 1) == (spec.families[0] == "IPv6");
            same || spec.is_dual() && spec.policy == "PreferDualStack"
        }
        (2, 1) => spec.is_dual(),
        _ => false,
    };
    let pool = config.pools().find(|(_, pool)| {
        let all = pool.addresses();
        addresses.iter().all(|at| all.contains(at)) && config.serves(pool, key, spec)
    });
    let Some((index, _)) = pool.filter(|_| families) else {
        return false;
    };
    if spec
        .pool
        .as_ref()
        .is_some_and(|wanted| *wanted != format!("pool-{index}"))
    {
        return false;
    }
    match (&spec.wants, spec.wanted()) {
        (None, _) => true,
        // What is asked for cannot be understood: it stays as it is.
        (Some(_), None) => true,
        (Some(_), Some(wanted)) => {
            wanted.iter().collect::<BTreeSet<_>>() == addresses.iter().collect::<BTreeSet<_>>()
        }
    }
}

/// Every set of addresses that a Service without any could get now.
pub fn could_get(
    config: &Config,
    objects: &BTreeMap<ObjectKey, Object>,
    key: &ObjectKey,
) -> Vec<Vec<IpAddr>> {
    let object = &objects[key];
    let spec = &object.spec;
    if !spec.load_balancer || (spec.policy == "RequireDualStack" && !spec.is_dual()) {
        return Vec::new();
    }
    let is_open = |address: &IpAddr| {
        objects.iter().all(|(other, object)| {
            other == key || !object.addresses().contains(address) || may_share(spec, &object.spec)
        })
    };
    let mut sets = Vec::new();
    for (index, pool) in config.pools() {
        if !config.serves(pool, key, spec) {
            continue;
        }
        let by_request = match (&spec.wants, &spec.pool) {
            (Some(_), Some(name)) | (None, Some(name)) if *name != format!("pool-{index}") => {
                continue;
            }
            (None, None) if !pool.auto => continue,
            (wants, _) => wants.is_some(),
        };
        let open: Vec<IpAddr> = pool.addresses().into_iter().filter(is_open).collect();
        let of = |six: bool| open.iter().copied().filter(move |at| at.is_ipv6() == six);
        let mut of_pool: Vec<Vec<IpAddr>> = Vec::new();
        if spec.is_dual() {
            of_pool.extend(of(false).flat_map(|four| of(true).map(move |six| vec![four, six])));
            // One alone is for those that prefer both and ask for none.
            if spec.policy == "PreferDualStack" && !by_request {
                of_pool.extend(open.iter().map(|at| vec![*at]));
            }
        } else {
            of_pool.extend(of(spec.families[0] == "IPv6").map(|at| vec![at]));
        }
        of_pool.retain(|set| has_room(config, objects, key, pool, set));
        sets.extend(of_pool);
    }
    match (&spec.wants, spec.wanted()) {
        (None, _) => {}
        (Some(_), None) => sets.clear(),
        (Some(_), Some(wanted)) => {
            let wanted: BTreeSet<_> = wanted.into_iter().collect();
            sets.retain(|set| set.iter().copied().collect::<BTreeSet<_>>() == wanted);
        }
    }
    sets
}

/// Whether the limits of its namespace let a Service have these besides what others there have.
pub fn has_room(
    config: &Config,
    objects: &BTreeMap<ObjectKey, Object>,
    key: &ObjectKey,
    pool: &PoolSpec,
    set: &[IpAddr],
) -> bool {
    let namespace = crate::spec::NAMESPACES
        .iter()
        .position(|name| *name == key.namespace())
        .unwrap();
    let mut others: BTreeSet<IpAddr> = BTreeSet::new();
    for (other, object) in objects {
        if other != key && other.namespace() == key.namespace() {
            others.extend(object.addresses());
        }
    }
    let with: BTreeSet<IpAddr> = others.iter().chain(set).copied().collect();
    if with.len() == others.len() {
        return true;
    }
    let of_pool = pool.addresses();
    let in_all = config.namespaces[namespace].1;
    let in_pool = with.iter().filter(|at| of_pool.contains(at)).count();
    in_all.is_none_or(|limit| with.len() <= limit as usize)
        && pool.limit.is_none_or(|limit| in_pool <= limit as usize)
}
