//! Why not? The sentences of verdicts: each names the blocking object and what to do.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ferrolb_api::{ObjectKey, annotations};
use ferrolb_rules::{Family, Pool, Requested};

use crate::eligibility::Needed;
use crate::outcome::{Event, EventKind, Reason, Verdict};
use crate::service::{Families, Service};
use crate::sharing::Blocked;
use crate::waiting::{Need, Wait};

/// What keeps a Service from what it wants, and what may change that.
#[derive(Clone, Debug)]
pub(crate) struct Obstacle {
    pub(crate) verdict: Verdict,
    /// The event that tells of it; `None` where that would only be noise.
    pub(crate) kind: Option<EventKind>,
    pub(crate) waits: Vec<Wait>,
    /// An older Service's status names the same address.
    pub(crate) conflict: bool,
}

impl Obstacle {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if let Some((at, _)) = message.char_indices().nth(CHARACTERS_AT_MOST) {
            message.truncate(at);
            message.push('…');
        }
        Obstacle {
            verdict: Verdict { reason, message },
            kind: Some(EventKind::AllocationFailed),
            waits: Vec::new(),
            conflict: false,
        }
    }

    pub(crate) fn event(self, kind: EventKind) -> Self {
        Obstacle {
            kind: Some(kind),
            ..self
        }
    }

    /// What to tell the owner of the Service.
    pub(crate) fn to_event(&self, service: &Service) -> Option<Event> {
        let message = &self.verdict.message;
        let kind = self.kind?;
        let message = match kind {
            EventKind::AllocationFailed => format!(
                "Failed to allocate IP for {:?}: {message}",
                service.key.to_string()
            ),
            _ => message.clone(),
        };
        Some(Event { kind, message })
    }

    pub(crate) fn waiting_for(self, waits: Vec<Wait>) -> Self {
        Obstacle { waits, ..self }
    }
}

/// The length of a message: it may quote what somebody wrote, and a condition holds 32,768 characters at most.
const CHARACTERS_AT_MOST: usize = 4_000;
/// Names of Services or namespaces in one sentence.
const NAMES_AT_MOST: usize = 8;
/// At most this many pools are named in one sentence.
const POOLS_AT_MOST: usize = 8;

/// A list of sentences about pools, cut where it is long.
pub(crate) fn listed(sentences: impl IntoIterator<Item = String>) -> String {
    let mut sentences: Vec<String> = sentences.into_iter().collect();
    if sentences.len() > POOLS_AT_MOST {
        let more = sentences.len() - POOLS_AT_MOST;
        sentences.truncate(POOLS_AT_MOST);
        let pools = if more == 1 { "pool" } else { "pools" };
        sentences.push(format!("and {more} {pools} more"));
    }
    sentences.join("; ")
}

fn names(keys: &[ObjectKey]) -> String {
    some_of(keys, ",")
}

/// Names in a row, cut where there are many.
pub(crate) fn some_of(
    names: impl IntoIterator<Item = impl ToString, IntoIter: ExactSizeIterator>,
    between: &str,
) -> String {
    let names = names.into_iter();
    let more = names.len().saturating_sub(NAMES_AT_MOST);
    let mut some: Vec<String> = names
        .take(NAMES_AT_MOST)
        .map(|name| name.to_string())
        .collect();
    if more > 0 {
        some.push(format!("{more} more"));
    }
    some.join(between)
}

/// Addresses as MetalLB writes them.
pub(crate) fn texts(addresses: &[IpAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

/// The event of a Service whose status names addresses that it may have no more.
pub(crate) fn taken_away(service: &Service, why: &str) -> Vec<Event> {
    let event = (!service.current.is_empty()).then(|| Event {
        kind: EventKind::ClearAssignment,
        message: format!("{:?} may not stay: {why}", texts(&service.current)),
    });
    event.into_iter().collect()
}

/// The Service has addresses and asks for others. What it gets is another decision, so that the reason is told to nobody.
pub(crate) fn moves(current: &[IpAddr], why: &str) -> Obstacle {
    let message = format!("{:?} may not stay: {why}", texts(current));
    Obstacle::new(Reason::FamilyMismatch, message).event(EventKind::ClearAssignment)
}

pub(crate) fn no_pools() -> Obstacle {
    Obstacle::new(
        Reason::NoPools,
        "no pools are configured; create an IPAddressPool",
    )
}

pub(crate) fn no_pools_in_force(set_aside: &BTreeSet<String>) -> Obstacle {
    if set_aside.is_empty() {
        return no_pools();
    }
    Obstacle::new(
        Reason::NoPools,
        format!(
            "no pools are in force: {} break a rule; mend them as their conditions Accepted say",
            some_of(set_aside, ", ")
        ),
    )
}

pub(crate) fn pool_set_aside(pool: &str) -> Obstacle {
    Obstacle::new(
        Reason::UnknownPool,
        format!(
            "pool {pool} is not in force because it breaks a rule; mend it as its condition Accepted says"
        ),
    )
}

pub(crate) fn no_cluster_ip() -> Obstacle {
    let message = "the Service has no cluster IP; a headless Service cannot have an address";
    Obstacle {
        kind: None,
        ..Obstacle::new(Reason::NoClusterIP, message)
    }
}

pub(crate) fn unknown_family() -> Obstacle {
    let message =
        "cannot tell the IP family of the Service from its cluster IPs; it stays as it is";
    Obstacle::new(Reason::UnknownFamily, message).event(EventKind::NoClusterIPsFamily)
}

pub(crate) fn unknown_status_family(current: &[IpAddr]) -> Obstacle {
    let message = format!(
        "cannot tell the IP family of the addresses in the status, {:?}: there is at most one of each family",
        texts(current)
    );
    Obstacle::new(Reason::UnknownFamily, message).event(EventKind::NoLbIPsFamily)
}

pub(crate) fn dual_stack_impossible() -> Obstacle {
    let message = "the Service requires dual stack and has one cluster IP only; make ipFamilyPolicy PreferDualStack or \
                   give the cluster both families";
    Obstacle::new(Reason::DualStackImpossible, message).event(EventKind::NotEnoughClusterIPs)
}

pub(crate) fn blocked(address: IpAddr, service: &Service, why: &Blocked) -> Obstacle {
    let sharing = annotations::ALLOW_SHARED_IP.current;
    let asks = matches!(service.requested, Requested::Addresses(_));
    let other = if asks {
        format!("ask for another address than {address}, or ")
    } else {
        String::new()
    };
    let backends = "the same externalTrafficPolicy (with Local also the same selector)";
    // MetalLB's words, where they are true (reference 3.6).
    let key_differs = |by: &[ObjectKey]| {
        format!(
            "can't change sharing key for {:?}, address also in use by {}",
            service.key.to_string(),
            names(by)
        )
    };
    let obstacle = match why {
        Blocked::InUse(by) => Obstacle::new(
            if service.sharing_key.is_empty() {
                Reason::AddressInUse
            } else {
                Reason::SharingConflict
            },
            format!(
                "address {address} is also in use by {}: {other}give all of them the same {sharing}, different ports and {backends}",
                names(by)
            ),
        ),
        Blocked::Key(by) => Obstacle::new(
            Reason::SharingConflict,
            format!(
                "{}: {other}give all of them the same {sharing}, different ports and {backends}",
                key_differs(by)
            ),
        ),
        Blocked::Backends(by) => Obstacle::new(
            Reason::SharingConflict,
            format!(
                "address {address} is also in use by {}: {other}give all of them {backends}, as they have the same {sharing}",
                names(by)
            ),
        ),
        Blocked::Port(port, by) => Obstacle::new(
            Reason::SharingConflict,
            format!(
                "port {port} is already in use on \"{address}\" by {by}; use another port or {}",
                if asks {
                    "ask for another address".to_owned()
                } else {
                    format!("another {sharing}")
                }
            ),
        ),
        Blocked::Leaving(by) => Obstacle::new(
            Reason::AddressInUse,
            format!(
                "address {address} is in use by {} until its status says otherwise; then the oldest Service that waits for it may have it",
                names(by)
            ),
        ),
    };
    let mut waits = vec![Wait::Address(address)];
    if !service.sharing_key.is_empty() {
        waits.push(Wait::Sharing(service.sharing_key.as_str().into()));
    }
    obstacle.waiting_for(waits)
}

/// A younger Service loses an address that two statuses name.
pub(crate) fn conflict(address: IpAddr, by: &ObjectKey) -> Obstacle {
    let message =
        format!("address {address} stands in the status of {by} too, which is older and keeps it");
    Obstacle {
        conflict: true,
        ..Obstacle::new(Reason::AddressInUse, message)
    }
}

pub(crate) fn on_hold(address: IpAddr, former: Option<&ObjectKey>, pool: &Pool) -> Obstacle {
    let whom = former.map_or("its former Service".to_owned(), ToString::to_string);
    Obstacle::new(
        Reason::AddressOnHold,
        format!(
            "address {address} was freed a short time ago and is kept for {whom} ({} of pool {}) until the time that \
             status.heldAddresses of the pool says; then the oldest Service that waits for it may have it",
            annotations::REUSE_HOLD, pool.name
        ),
    )
    .waiting_for(vec![Wait::Address(address)])
}

/// The addresses are not those of one pool.
pub(crate) fn not_in_pools<'a>(
    addresses: &[IpAddr],
    owner: impl Fn(IpAddr) -> Option<&'a Pool>,
    pools: impl IntoIterator<Item = &'a Pool>,
    set_aside: &BTreeSet<String>,
    service: &Service,
) -> Obstacle {
    let allowed = format!("{:?} is not allowed in config", texts(addresses));
    let left_out = addresses.iter().find_map(|address| {
        let pool = owner(*address)?;
        if pool.exclude.iter().any(|range| range.contains(*address)) {
            let why = format!(
                "pool {} leaves {address} out by {}",
                pool.name,
                annotations::EXCLUDE
            );
            return Some((Reason::AddressExcluded, why));
        }
        let buggy = pool.avoid_buggy_ips
            && matches!(address, IpAddr::V4(v4) if matches!(v4.octets(), [_, _, _, 0 | 255]));
        let why = format!("pool {} leaves {address} out by avoidBuggyIPs", pool.name);
        buggy.then_some((Reason::AddressExcluded, why))
    });
    let asks = matches!(service.requested, Requested::Addresses(_));
    if let Some((reason, why)) = left_out {
        let remedy = if asks {
            "; ask for another address"
        } else {
            ""
        };
        return Obstacle::new(reason, format!("{allowed}: {why}{remedy}"));
    }
    let owners: Option<Vec<&Pool>> = addresses.iter().map(|address| owner(*address)).collect();
    let why = match owners.as_deref() {
        Some([one, other]) if one.name != other.name => format!(
            "they are of the pools {} and {}; both must be of one pool",
            one.name, other.name
        ),
        _ if !asks => {
            "no pool in force has ".to_owned() + if addresses.len() > 1 { "both" } else { "it" }
        }
        _ => {
            let aside = if set_aside.is_empty() {
                String::new()
            } else {
                format!(
                    ", or mend {} as its condition Accepted says",
                    some_of(set_aside, " or ")
                )
            };
            format!(
                "the pools are {}; ask for an address of one of them{aside}",
                listed(pools.into_iter().map(Pool::describe))
            )
        }
    };
    Obstacle::new(Reason::AddressNotInPools, format!("{allowed}: {why}"))
}

pub(crate) fn family_mismatch(wanted: &[IpAddr], service: &Service) -> Obstacle {
    if wanted.len() > 2 || Families::of(wanted) == Families::Unknown {
        return Obstacle::new(
            Reason::InvalidRequest,
            format!(
                "invalid requested load balancer IPs {:?}: ask for one address, or for one of each family, in {}",
                texts(wanted),
                annotations::LOAD_BALANCER_IPS.current
            ),
        );
    }
    let remedy = match service.families {
        Families::Dual => format!(
            "a Service of {} with two cluster IPs needs one address of each family, separated by a comma, in {}",
            service.policy,
            annotations::LOAD_BALANCER_IPS.current
        ),
        families => format!("ask for one {families} address"),
    };
    Obstacle::new(
        Reason::FamilyMismatch,
        format!(
            "requested loadBalancer IP(s) {:?} does not match the ipFamily of the service ({}); {remedy}",
            texts(wanted),
            service.families
        ),
    )
}

pub(crate) fn other_pool(wanted: &[IpAddr], owner: &str, pool: &str) -> Obstacle {
    Obstacle::new(
        Reason::AddressNotInPools,
        format!(
            "{:?} is not compatible with requested address pool {pool}: pool {owner} has it; remove {} or ask for an address of {pool}",
            texts(wanted),
            annotations::ADDRESS_POOL.current
        ),
    )
}

pub(crate) fn unknown_pool<'a>(
    wanted: &str,
    pools: impl IntoIterator<Item = &'a Pool>,
) -> Obstacle {
    Obstacle::new(
        Reason::UnknownPool,
        format!(
            "unknown pool {wanted:?}; the pools are {}; ask for one of them in {}",
            listed(pools.into_iter().map(Pool::describe)),
            annotations::ADDRESS_POOL.current
        ),
    )
}

/// The pool is closed to the Service.
pub(crate) fn incompatible(pool: &str, needs: &str, service: &Service) -> Obstacle {
    let closed = closed(pool, needs);
    let asks_for_address = matches!(service.requested, Requested::Addresses(_));
    let another = if asks_for_address {
        Some(format!(
            "ask for an address of another pool in {}",
            annotations::LOAD_BALANCER_IPS.current
        ))
    } else {
        let asked = service.requested_pool.as_ref();
        asked.map(|_| {
            format!(
                "ask for another pool in {}",
                annotations::ADDRESS_POOL.current
            )
        })
    };
    let remedy = another.map_or(String::new(), |another| {
        format!("; have pool {pool} opened to the Service, or {another}")
    });
    Obstacle::new(Reason::NoPoolMatches, closed + &remedy)
}

/// Whom a pool serves, of one that it does not.
pub(crate) fn closed(pool: &str, needs: &str) -> String {
    format!("pool {pool} not compatible for ip assignment: it {needs} (serviceAllocation)")
}

/// The namespace may not have so many more addresses; `whose` names the object and the annotation.
pub(crate) fn limited(
    whose: &str,
    limit: Option<u32>,
    Needed { new, in_all }: Needed,
    service: &Service,
) -> Obstacle {
    let namespace = service.key.namespace();
    // Whatever others give up does not help a Service that needs more than all of them may have.
    let too_many = limit.is_some_and(|limit| in_all > limit as usize);
    let no_more = if too_many && in_all > 1 {
        format!("may not have the {in_all} addresses that the Service needs")
    } else if new > 1 {
        format!("may have no more addresses (the Service needs {new})")
    } else {
        "may have no more addresses".to_owned()
    };
    let by_itself = service.requested == Requested::Nothing;
    let remedy = match limit {
        None => "none is given there until it can be",
        Some(1..) if too_many && by_itself => {
            "have the limit raised, or make ipFamilyPolicy SingleStack"
        }
        _ if too_many => "have the limit raised",
        _ => "delete a Service there or have the limit raised",
    };
    Obstacle::new(
        Reason::LimitReached,
        format!("namespace {namespace} {no_more}: {whose}; {remedy}"),
    )
}

/// What a pool that has both families, or one of them, has no more of.
pub(crate) fn none_free(pool: &Pool, need: Need, (four, six): (bool, bool)) -> String {
    let none = match (need, four, six) {
        (Need::One(family), ..) => format!("has no free {family} address"),
        (Need::Either, true, false) => format!("has no free {} address", Family::V4),
        (Need::Either, false, true) => format!("has no free {} address", Family::V6),
        (Need::Either, ..) => "has no free address of either family".to_owned(),
        (Need::Both | Need::Mixed, ..) => {
            "has no free pair of an IPv4 and an IPv6 address".to_owned()
        }
    };
    if pool.reuse_hold == 0 {
        return none;
    }
    format!(
        "{none} ({}: one that was freed may be kept for {} s, status.heldAddresses says so)",
        annotations::REUSE_HOLD,
        pool.reuse_hold
    )
}
