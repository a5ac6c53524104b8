//! What is announced and where: L2Advertisement and BGPAdvertisement (reference 1.2, 1.3, 2.3).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ferrolb_api::annotations::{ADDRESS_CONFLICT, REFRESH_INTERVAL};
use ferrolb_api::duration;
use ferrolb_api::v1beta1 as api;
use kube::ResourceExt;

use crate::addresses::Family;
use crate::communities::{Community, CommunityError};
use crate::fields;
use crate::interfaces::InterfaceNames;
use crate::pools::{Pool, parse_selectors};
use crate::refusal::{Refusal, tell};
use crate::selector::{Selector, any_matches};

/// Which pools an advertisement covers.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PoolSelection {
    /// By name. Names that do not exist are no error: the pool may come later.
    pub names: BTreeSet<String>,
    /// By label, OR-ed, united with the names.
    pub selectors: Vec<Selector>,
    /// Left out although selected: pools that the advertisement does not fit.
    pub left_out: BTreeSet<String>,
}

impl PoolSelection {
    /// Whether `pool` is covered; with neither names nor selectors every pool is (reference 1.2).
    #[must_use]
    pub fn selects(&self, pool: &Pool) -> bool {
        let selected = (self.names.is_empty() && self.selectors.is_empty())
            || self.names.contains(&pool.name)
            || (!self.selectors.is_empty() && any_matches(&self.selectors, &pool.labels));
        selected && !self.left_out.contains(&pool.name)
    }
}

/// How often an address is announced again where nothing else is said: more often than the five minutes after which switches
/// forget where a host is.
pub const REFRESH_BY_DEFAULT: Duration = Duration::from_secs(60);
/// What an interval between two refreshes may be.
const REFRESH: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(24 * 60 * 60));

/// What is done about an address that another host on the segment has too. The greater one holds where advertisements differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum OnConflict {
    /// It is announced, and the conflict is told.
    #[default]
    Warn,
    /// It is not announced while the other host has it.
    Withhold,
}

/// An L2Advertisement whose rules have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L2Advertisement {
    /// The name of the object.
    pub name: String,
    /// The pools it covers.
    pub pools: PoolSelection,
    /// The nodes that may announce, OR-ed; empty is all.
    pub nodes: Vec<Selector>,
    /// The interfaces to answer on; empty is all.
    pub interfaces: InterfaceNames,
    /// The Services it covers, OR-ed; empty is all.
    pub services: Vec<Selector>,
    /// Weight (1 to 100) and the nodes that it is added to.
    pub preferred: Vec<(i32, Selector)>,
    /// How often each address is announced again (`ferrolb.io/refresh-interval`), 1 s to 24 h; `None` is never.
    pub refresh: Option<Duration>,
    /// What is done about an address that another host has too (`ferrolb.io/address-conflict`).
    pub on_conflict: OnConflict,
}

/// All pools on all nodes and interfaces, for all Services.
impl Default for L2Advertisement {
    fn default() -> Self {
        L2Advertisement {
            name: String::new(),
            pools: PoolSelection::default(),
            nodes: Vec::new(),
            interfaces: InterfaceNames::default(),
            services: Vec::new(),
            preferred: Vec::new(),
            refresh: Some(REFRESH_BY_DEFAULT),
            on_conflict: OnConflict::default(),
        }
    }
}

/// A BGPAdvertisement whose rules have been checked.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct BgpAdvertisement {
    /// The name of the object.
    pub name: String,
    /// The pools it covers.
    pub pools: PoolSelection,
    /// The nodes that advertise, OR-ed; empty is all.
    pub nodes: Vec<Selector>,
    /// The Services it covers, OR-ed; empty is all.
    pub services: Vec<Selector>,
    /// Prefix length of IPv4 routes, 1 to 32.
    pub aggregation_length: u8,
    /// Prefix length of IPv6 routes, 1 to 128.
    pub aggregation_length_v6: u8,
    /// LOCAL_PREF for iBGP peers.
    pub local_pref: u32,
    /// Communities, aliases resolved.
    pub communities: BTreeSet<Community>,
    /// Names of the BGPPeers to advertise to; empty is all.
    pub peers: BTreeSet<String>,
}

/// Community aliases of all Community objects (reference 1.7).
pub type Aliases = BTreeMap<String, Community>;

/// Whether two forms of an advertisement say the same of all that others may contradict.
pub(crate) fn contends_alike(one: &BgpAdvertisement, other: &BgpAdvertisement) -> bool {
    let BgpAdvertisement {
        name: _,
        communities: _,
        pools,
        nodes,
        services,
        aggregation_length,
        aggregation_length_v6,
        local_pref,
        peers,
    } = one;
    (pools, nodes, services, peers) == (&other.pools, &other.nodes, &other.services, &other.peers)
        && (*aggregation_length, *aggregation_length_v6, *local_pref)
            == (
                other.aggregation_length,
                other.aggregation_length_v6,
                other.local_pref,
            )
}

/// A pool that an advertisement does not fit, and why.
pub(crate) struct Misfit {
    pub(crate) pool: String,
    pub(crate) refusal: Refusal,
}

/// The pools that `advertisement` selects and does not fit, by itself or beside `others`; none of its name counts among those.
pub(crate) fn misfits<'a>(
    advertisement: &'a BgpAdvertisement,
    others: &'a [BgpAdvertisement],
    pools: impl IntoIterator<Item = &'a Pool>,
) -> Vec<Misfit> {
    pools
        .into_iter()
        .filter(|pool| advertisement.pools.selects(pool))
        .filter_map(|pool| {
            let refusal = check_aggregation(advertisement, pool)
                .or_else(|| check_local_pref(advertisement, others, pool))?;
            Some(Misfit {
                pool: pool.name.clone(),
                refusal,
            })
        })
        .collect()
}

pub(crate) fn parse_l2(object: &api::L2Advertisement) -> Result<L2Advertisement, Vec<Refusal>> {
    const KIND: &str = "L2Advertisement";
    let name = object.name_any();
    let spec = &object.spec;
    let mut refusals = Vec::new();
    let mut refuse = |field: String, reason: String| {
        tell(&mut refusals, Refusal::new(KIND, &name, field, reason))
    };
    names_once(&spec.ip_address_pools, "ipAddressPools", &mut refuse);
    let interfaces = InterfaceNames::parse(&spec.interfaces, |index, reason| {
        refuse(format!("spec.interfaces[{index}]"), reason)
    });
    let annotation = |key: &str| {
        let text = object.annotations().get(key)?;
        Some((text.as_str(), format!("metadata.annotations[{key}]")))
    };
    let mut refresh = Some(REFRESH_BY_DEFAULT);
    if let Some((text, field)) = annotation(REFRESH_INTERVAL) {
        match parse_refresh(text) {
            Ok(interval) => refresh = interval,
            Err(reason) => refuse(field, reason),
        }
    }
    let mut on_conflict = OnConflict::default();
    if let Some((text, field)) = annotation(ADDRESS_CONFLICT) {
        match parse_on_conflict(text) {
            Ok(parsed) => on_conflict = parsed,
            Err(reason) => refuse(field, reason),
        }
    }
    let mut selectors = |field: &str, list: &[_]| {
        parse_selectors(list, field, |index, reason| {
            refuse(format!("spec.{field}[{index}]"), reason)
        })
    };
    let advertisement = L2Advertisement {
        pools: PoolSelection {
            names: spec.ip_address_pools.iter().cloned().collect(),
            selectors: selectors("ipAddressPoolSelectors", &spec.ip_address_pool_selectors),
            left_out: BTreeSet::new(),
        },
        nodes: selectors("nodeSelectors", &spec.node_selectors),
        services: selectors("serviceSelectors", &spec.service_selectors),
        interfaces,
        refresh,
        on_conflict,
        preferred: spec
            .preferred_node_selectors
            .iter()
            .enumerate()
            .filter_map(
                |(index, preferred)| match Selector::parse(&preferred.preference) {
                    Ok(selector) => Some((preferred.weight, selector)),
                    Err(reason) => {
                        refuse(
                            format!("spec.preferredNodeSelectors[{index}].preference"),
                            reason,
                        );
                        None
                    }
                },
            )
            .collect(),
        name: name.clone(),
    };
    refusals.extend(fields::check(KIND, &name, spec, &refusals));
    if refusals.is_empty() {
        Ok(advertisement)
    } else {
        Err(refusals)
    }
}

fn parse_refresh(text: &str) -> Result<Option<Duration>, String> {
    const REMEDY: &str =
        "write a duration from 1s to 24h such as 60s, 0 for never, or remove the annotation";
    let interval = duration::parse(text.trim()).map_err(|error| format!("{error}; {REMEDY}"))?;
    let (least, most) = REFRESH;
    match interval {
        Duration::ZERO => Ok(None),
        interval if interval < least => Err(format!("{text:?} is shorter than 1s; {REMEDY}")),
        interval if interval > most => Err(format!("{text:?} is longer than 24h; {REMEDY}")),
        interval => Ok(Some(interval)),
    }
}

fn parse_on_conflict(text: &str) -> Result<OnConflict, String> {
    match text.trim() {
        "warn" => Ok(OnConflict::Warn),
        "withhold" => Ok(OnConflict::Withhold),
        _ => Err(format!(
            "{text:?} is neither warn nor withhold; write one of them, or remove the annotation for warn"
        )),
    }
}

/// Reads a BGPAdvertisement. Without `aliases` a word that could be one is let pass.
pub(crate) fn parse_bgp(
    object: &api::BGPAdvertisement,
    aliases: Option<&Aliases>,
) -> Result<BgpAdvertisement, Vec<Refusal>> {
    const KIND: &str = "BGPAdvertisement";
    let name = object.name_any();
    let spec = &object.spec;
    let mut refusals = Vec::new();
    let mut refuse = |field: String, reason: String| {
        tell(&mut refusals, Refusal::new(KIND, &name, field, reason))
    };
    names_once(&spec.ip_address_pools, "ipAddressPools", &mut refuse);
    names_once(&spec.communities, "communities", &mut refuse);
    names_once(&spec.peers, "peers", &mut refuse);
    let length = |given: i32, family: Family| {
        u8::try_from(given)
            .ok()
            .filter(|length| (1..=family.bits()).contains(length))
    };
    let aggregation_length = length(spec.aggregation_length, Family::V4);
    let aggregation_length_v6 = length(spec.aggregation_length_v6, Family::V6);
    for (field, given, parsed, family) in [
        (
            "aggregationLength",
            spec.aggregation_length,
            aggregation_length,
            Family::V4,
        ),
        (
            "aggregationLengthV6",
            spec.aggregation_length_v6,
            aggregation_length_v6,
            Family::V6,
        ),
    ] {
        if parsed.is_none() {
            let reason = format!(
                "invalid aggregation length {given} for {family}; 1 to {} is allowed",
                family.bits()
            );
            refuse(format!("spec.{field}"), reason);
        }
    }
    let whole = (spec.aggregation_length, spec.aggregation_length_v6) == (32, 128);
    if !spec.service_selectors.is_empty() && !whole {
        refuse(
            "spec.serviceSelectors".to_owned(),
            format!(
                "serviceSelectors and aggregationLength(V6) are mutually exclusive, both cannot be set in {name}; \
                 remove the aggregation lengths or the selectors"
            ),
        );
    }
    let mut communities = BTreeSet::new();
    for (index, text) in spec.communities.iter().enumerate() {
        let field = format!("spec.communities[{index}]");
        match text.parse::<Community>() {
            Ok(community) => {
                communities.insert(community);
            }
            Err(CommunityError::Format(_)) if !text.contains(':') => {
                match aliases.map(|aliases| aliases.get(text)) {
                    None => {}
                    Some(Some(community)) => {
                        communities.insert(*community);
                    }
                    Some(None) => refuse(
                        field,
                        format!(
                            "invalid community {text:?} in BGP advertisement: no Community object defines this alias; create it or write the value"
                        ),
                    ),
                }
            }
            Err(error) => refuse(
                field,
                format!("invalid community {text:?} in BGP advertisement: {error}"),
            ),
        }
    }
    let mut selectors = |field: &str, list: &[_]| {
        parse_selectors(list, field, |index, reason| {
            refuse(format!("spec.{field}[{index}]"), reason)
        })
    };
    let advertisement = BgpAdvertisement {
        pools: PoolSelection {
            names: spec.ip_address_pools.iter().cloned().collect(),
            selectors: selectors("ipAddressPoolSelectors", &spec.ip_address_pool_selectors),
            left_out: BTreeSet::new(),
        },
        nodes: selectors("nodeSelectors", &spec.node_selectors),
        services: selectors("serviceSelectors", &spec.service_selectors),
        aggregation_length: aggregation_length.unwrap_or(32),
        aggregation_length_v6: aggregation_length_v6.unwrap_or(128),
        local_pref: spec
            .local_pref
            .and_then(|value| u32::try_from(value).ok())
            .unwrap_or_default(),
        communities,
        peers: spec.peers.iter().cloned().collect(),
        name: name.clone(),
    };
    refusals.extend(fields::check(KIND, &name, spec, &refusals));
    if refusals.is_empty() {
        Ok(advertisement)
    } else {
        Err(refusals)
    }
}

/// Refuses an aggregate that would cover more than the pool (reference 2.3: the widest network of an entry decides).
fn check_aggregation(advertisement: &BgpAdvertisement, pool: &Pool) -> Option<Refusal> {
    pool.ranges.iter().find_map(|range| {
        let (field, length) = match range.family() {
            Family::V4 => ("spec.aggregationLength", advertisement.aggregation_length),
            Family::V6 => ("spec.aggregationLengthV6", advertisement.aggregation_length_v6),
        };
        let widest = range.widest_prefix_length();
        (length < widest).then(|| {
            Refusal::new(
                "BGPAdvertisement",
                &advertisement.name,
                field,
                format!(
                    "invalid aggregation length {length}: prefix {widest} in this pool is more specific than the \
                     aggregation length for addresses {range} of pool {:?}; use {widest} or more",
                    pool.name
                ),
            )
        })
    })
}

/// Refuses a local preference other than the one that another advertisement gives to the same routes of `pool`
/// (reference 2.3).
fn check_local_pref(
    advertisement: &BgpAdvertisement,
    others: &[BgpAdvertisement],
    pool: &Pool,
) -> Option<Refusal> {
    let other = others.iter().find(|other| {
        other.name != advertisement.name
            && contradict(advertisement, other, pool)
            && other.pools.selects(pool)
    })?;
    let refusal = Refusal::new(
        "BGPAdvertisement",
        &advertisement.name,
        "spec.localPref",
        format!(
            "invalid local preference {}: local preference {} was already set for the same routes of pool {:?} by \
             BGPAdvertisement {:?}; give both the same, or different peers, nodes or aggregation lengths",
            in_words(advertisement.local_pref),
            in_words(other.local_pref),
            pool.name,
            other.name
        ),
    );
    Some(refusal.conflicting())
}

/// A local preference of 0 is one that nobody set (reference 4.7).
fn in_words(local_pref: u32) -> String {
    match local_pref {
        0 => "0 (none, which goes out as 100)".to_owned(),
        other => other.to_string(),
    }
}

/// Whether two advertisements give one route of `pool` two local preferences, as far as can be told without knowing nodes
/// and Services: where both select some, what they have in common is found out when routes are made.
fn contradict(one: &BgpAdvertisement, other: &BgpAdvertisement, pool: &Pool) -> bool {
    let has = |family| pool.ranges.iter().any(|range| range.family() == family);
    let same_v4 = has(Family::V4) && one.aggregation_length == other.aggregation_length;
    let same_v6 = has(Family::V6) && one.aggregation_length_v6 == other.aggregation_length_v6;
    let peers_apart =
        !one.peers.is_empty() && !other.peers.is_empty() && one.peers.is_disjoint(&other.peers);
    let nodes_may_differ =
        !one.nodes.is_empty() && !other.nodes.is_empty() && one.nodes != other.nodes;
    one.local_pref != other.local_pref
        && (same_v4 || same_v6)
        && !peers_apart
        && !nodes_may_differ
        && one.services.is_empty()
        && other.services.is_empty()
}

fn names_once(list: &[String], field: &str, refuse: &mut impl FnMut(String, String)) {
    for (index, reason) in fields::duplicates(list, field, |entry| format!("{entry:?}")) {
        refuse(format!("spec.{field}[{index}]"), reason);
    }
}
